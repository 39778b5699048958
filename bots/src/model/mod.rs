//! Language models: one [`Model`] is one server that completes a chat; a [`Chain`] tries several in order, knows whom
//! each of them serves, and keeps away from those that fail.
//!
//! ```text
//! request, audience ─► Chain ─► serves? memory? budget? breaker? ─► Model ─► deltas ─► caller
//!                        ▲                                             │
//!                        └────────── next model, Delta::Restart ◄── failure
//! ```

mod answer;
mod anthropic;
mod breaker;
mod budget;
mod chain;
mod clock;
mod find;
mod http;
mod openai;
mod sse;
mod types;
mod window;

pub use anthropic::AnthropicModel;
pub use breaker::{Breaker, BreakerState};
pub use budget::{Budget, MemoryBudget};
pub use chain::{Calls, Chain, Link, ModelHealth};
pub use clock::{Clock, SystemClock};
pub use find::{Found, USUAL, find};
pub use openai::OpenAiModel;
pub use types::{
    Api, ChainError, ChatRequest, Completion, Delta, Message, ModelConfig, ModelError, Picture, Reply, Role, Secret,
    Serves, ToolCall, ToolOffer, Usage,
};

pub(crate) use window::tokens;

use async_trait::async_trait;
use tokio::sync::mpsc;

/// The most bytes of text taken from one answer.
pub const ANSWER_BYTES_MAX: usize = 256 * 1024;
/// The most tokens that one answer to a stranger may have.
pub const STRANGER_ANSWER_TOKENS_MAX: u32 = 1024;
/// The most bytes of prompt taken from a stranger, all messages together.
pub const STRANGER_PROMPT_BYTES_MAX: usize = 48 * 1024;

/// One server that completes a chat.
#[async_trait]
pub trait Model: Send + Sync {
    /// Completes `request`. Sends each piece of text as it comes; an empty piece says "still alive" (a model that
    /// reasons in private). A closed receiver means that nobody wants the answer any more.
    async fn complete(&self, request: &ChatRequest, pieces: mpsc::Sender<String>) -> Result<Reply, ModelError>;

    /// Asks cheaply whether the server is there and would answer. Gives the model's window, tokens, where the server says it.
    async fn probe(&self) -> Result<Option<u64>, ModelError>;
}

/// The client of a model, by the protocol that its server speaks.
///
/// # Errors
/// When the TLS part cannot start.
pub fn client(config: ModelConfig) -> Result<std::sync::Arc<dyn Model>, ModelError> {
    Ok(match config.api {
        Api::OpenAi => std::sync::Arc::new(OpenAiModel::new(config)?),
        Api::Anthropic => std::sync::Arc::new(AnthropicModel::new(config)?),
    })
}
