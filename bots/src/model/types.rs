//! The words that the chain and its callers share.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use nips::Audience;
use serde_json::Value;
use url::{Host, Url};

use super::window;

/// A secret that shows itself to nobody: neither `Debug` nor any error prints it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps `text`, without the white space around it (files end in a line feed).
    pub fn new(text: &str) -> Self {
        Self(text.trim().to_owned())
    }

    /// Shows the secret, for the one header it is meant for.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }

    /// Replaces the secret in `text`, so that a server that echoes it puts it into no log.
    pub(crate) fn redact(&self, text: &str) -> String {
        if self.0.is_empty() { text.to_owned() } else { text.replace(&self.0, "***") }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

/// The protocol that a model server speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Api {
    /// `POST {base_url}/chat/completions`, as OpenAI, Ollama, llama.cpp, vLLM and most others speak it.
    OpenAi,
    /// `POST {base_url}/messages`, as Anthropic speaks it.
    Anthropic,
}

/// For whom a model may work (CONTRACT, `[[models]] serves`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Serves {
    /// Everybody, strangers too.
    Anyone,
    /// The owner, the people whom the owner allowed, and members of the federation.
    People,
    /// The owner alone.
    Owner,
}

impl Serves {
    /// True when a model that serves `self` may be asked on behalf of `audience`.
    pub fn covers(self, audience: Audience) -> bool {
        match (self, audience) {
            (Self::Anyone, _) | (_, Audience::Owner) => true,
            (Self::People, Audience::Person(_) | Audience::Member) => true,
            (Self::People, Audience::Stranger) => false,
            (Self::Owner, Audience::Person(_) | Audience::Member | Audience::Stranger) => false,
        }
    }

    /// The default of the configuration: strangers only for a model on this machine that needs no key.
    pub fn default_for(base_url: &Url, keyed: bool) -> Self {
        if is_loopback(base_url) && !keyed { Self::Anyone } else { Self::People }
    }
}

/// True when `url` names this machine. Also the default of `sees_memory`.
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        Some(Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
        None => false,
    }
}

/// One model of the owner's configuration.
#[derive(Debug, Clone)]
pub struct ModelConfig {
    /// The owner's name for it, unique in the chain; shown in status and in `answer.model`.
    pub name: String,
    /// The protocol of the server.
    pub api: Api,
    /// The address up to and including `/v1`.
    pub base_url: Url,
    /// The server's name for the model.
    pub model: String,
    /// Sent as a bearer token.
    pub api_key: Option<Secret>,
    /// The longest wait for the first token. Half of it is the longest pause between tokens, five times it the whole.
    pub timeout: Duration,
    /// For whom it may work.
    pub serves: Serves,
    /// Whether a request that carries memories may go there.
    pub sees_memory: bool,
    /// Whether it sees pictures.
    pub sees_pictures: bool,
    /// The tokens (prompt and answer) that all strangers together may use in one UTC day.
    pub stranger_tokens_per_day: u64,
    /// The tokens of prompt and answer together that it takes, where the owner says so.
    pub context_tokens: Option<u64>,
}

/// Who said a message of a chat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The rules of the talk.
    System,
    /// The person.
    User,
    /// The model.
    Assistant,
    /// A tool, to the model that called it.
    Tool,
}

/// One message of a chat.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Who said it.
    pub role: Role,
    /// What was said.
    pub content: String,
    /// Tools that the model wants called; none in what others say.
    pub calls: Vec<ToolCall>,
    /// The id of the call that a tool answers; none in what others say.
    pub answers: Option<String>,
}

impl Message {
    /// Makes a message of plain words.
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Self { role, content: content.into(), calls: Vec::new(), answers: None }
    }

    /// What a tool says to the call `id`.
    pub fn result(id: &str, content: impl Into<String>) -> Self {
        Self { answers: Some(id.to_owned()), ..Self::new(Role::Tool, content) }
    }
}

/// A picture that a model is shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Picture {
    /// `image/png`, `image/jpeg`, `image/gif` or `image/webp`.
    pub mime: &'static str,
    /// The file.
    pub bytes: Arc<[u8]>,
}

impl Picture {
    /// Base64, as all servers take it.
    pub(crate) fn base64(&self) -> String {
        base64::engine::general_purpose::STANDARD.encode(&self.bytes)
    }
}

impl fmt::Debug for Picture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Picture({}, {} bytes)", self.mime, self.bytes.len())
    }
}

/// A tool that a model wants called.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolCall {
    /// Names the call within the chat.
    pub id: String,
    /// The tool.
    pub name: String,
    /// A JSON object; what a model wrote that is none stands here as a string.
    pub arguments: Value,
}

/// A tool that a model may call.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolOffer {
    /// `[A-Za-z0-9_-]`, at most 64 characters.
    pub name: String,
    /// What it does, for the model.
    pub description: String,
    /// JSON Schema of its arguments, an object.
    pub parameters: Value,
}

impl ToolOffer {
    /// A tool with these arguments.
    pub fn new(name: &str, description: &str, parameters: Value) -> Self {
        Self { name: name.to_owned(), description: description.to_owned(), parameters }
    }
}

/// What a model is asked.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ChatRequest {
    /// The chat so far, oldest first, the system's message first of all.
    pub messages: Vec<Message>,
    /// The most tokens of the answer; the chain caps it for strangers.
    pub max_tokens: Option<u32>,
    /// 0 (always the likeliest word) to 2.
    pub temperature: Option<f32>,
    /// Nucleus sampling, 0 to 1.
    pub top_p: Option<f32>,
    /// True when the messages carry memories: models that may not see memory are passed over.
    pub carries_memory: bool,
    /// Shown with the last message: models that do not see are passed over.
    pub picture: Option<Picture>,
    /// Tools that the model may call.
    pub tools: Vec<ToolOffer>,
    /// How many messages after the first are what was said before: those may be left out, the oldest first, where a model takes no more.
    pub history: usize,
    /// It has called enough: the tools are there for the calls before, and it has to answer.
    pub must_answer: bool,
}

impl ChatRequest {
    /// Makes a request of one system and one user message.
    pub fn new(system: &str, user: &str) -> Self {
        Self { messages: vec![Message::new(Role::System, system), Message::new(Role::User, user)], ..Self::default() }
    }

    /// The bytes of all messages together.
    pub fn prompt_bytes(&self) -> usize {
        self.messages.iter().map(|m| m.content.len()).sum()
    }

    /// An upper guess at the tokens of the prompt: a token for each three bytes, and a few for each message.
    pub fn prompt_tokens(&self) -> u64 {
        window::total(self)
    }
}

/// What a call cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: u64,
    /// Tokens of the answer.
    pub completion_tokens: u64,
}

impl Usage {
    /// Prompt and answer together.
    pub fn total(self) -> u64 {
        self.prompt_tokens.saturating_add(self.completion_tokens)
    }
}

/// What one model answered: text, calls of tools, or both.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    /// The whole text.
    pub text: String,
    /// Tools that it wants called before it goes on.
    pub calls: Vec<ToolCall>,
    /// What the server says it cost, where it says so.
    pub usage: Option<Usage>,
}

/// What the chain answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Completion {
    /// The whole text; empty only where tools are called.
    pub text: String,
    /// Tools that the model wants called before it goes on.
    pub calls: Vec<ToolCall>,
    /// The owner's name of the model that wrote it.
    pub model_name: String,
    /// What it cost; estimated where the server did not say.
    pub usage: Usage,
}

/// A step of an answer that is being written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delta {
    /// More text.
    Text(String),
    /// The model died in the middle: forget the text so far, the next model starts over.
    Restart,
}

/// Why one model gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ModelError {
    /// No connection, or it broke.
    #[error("the model server cannot be reached: {0}")]
    Unreachable(String),
    /// The server refused the key.
    #[error("the model server refused the key (HTTP {0}); check api_key_file")]
    Unauthorised(u16),
    /// The server found this very request at fault. It says nothing about the health of the model.
    #[error("the model server refused the request (HTTP {status}): {reason}")]
    Rejected {
        /// HTTP status.
        status: u16,
        /// The start of what the server said.
        reason: String,
    },
    /// The server failed.
    #[error("the model server failed (HTTP {status}): {reason}")]
    Server {
        /// HTTP status.
        status: u16,
        /// The start of what the server said.
        reason: String,
    },
    /// The answer is not what the protocol says, or was cut off.
    #[error("the model server gave a garbled answer: {0}")]
    Garbled(&'static str),
    /// The answer has no text.
    #[error("the model gave an empty answer")]
    Empty,
    /// It called tools that nobody offered, and said nothing. A prompt can bring that about.
    #[error("the model called tools that it does not have, instead of an answer")]
    Strayed,
    /// The token limit was used up before any text came (a model that reasons first).
    #[error("the model used up its tokens before it wrote an answer")]
    OutOfTokens,
    /// The answer is larger than any answer should be.
    #[error("the model's answer is too large")]
    TooLarge,
    /// It took too long.
    #[error("the model gave no {0} in time")]
    TimedOut(&'static str),
}

impl ModelError {
    /// True when the failure speaks against the model and not against the request: what a stranger's odd request can
    /// bring about must not shut the model for everybody.
    pub fn blames_model(&self) -> bool {
        match self {
            Self::Rejected { .. } | Self::Strayed | Self::OutOfTokens | Self::TooLarge => false,
            Self::Unreachable(_) | Self::Unauthorised(_) | Self::Server { .. } => true,
            Self::Garbled(_) | Self::Empty | Self::TimedOut(_) => true,
        }
    }
}

/// Why the chain gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// No model of the chain serves this audience.
    #[error("no model is configured for this")]
    NoModel,
    /// All that would serve are resting after failures.
    #[error("no model can be reached at the moment")]
    AllResting,
    /// The strangers' tokens of the day are used up.
    #[error("the free tokens of today are used up")]
    BudgetSpent,
    /// The prompt is longer than what is taken from a stranger.
    #[error("the text is too long: at most {STRANGER_PROMPT_BYTES_MAX} bytes are taken", STRANGER_PROMPT_BYTES_MAX = super::STRANGER_PROMPT_BYTES_MAX)]
    TooLong,
    /// Each model that was tried failed; name and cause, in order.
    #[error("every model failed: {}", failures(.0))]
    AllFailed(Vec<(String, ModelError)>),
    /// The caller no longer wants an answer.
    #[error("cancelled")]
    Cancelled,
}

fn failures(list: &[(String, ModelError)]) -> String {
    list.iter().map(|(name, cause)| format!("{name}: {cause}")).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_in_no_debug_text() {
        let config = ModelConfig {
            name: "m".into(),
            api: Api::OpenAi,
            base_url: "https://models.example/v1".parse().unwrap(),
            model: "x".into(),
            api_key: Some(Secret::new("sk-very-secret\n")),
            timeout: Duration::from_secs(1),
            serves: Serves::People,
            sees_memory: false,
            sees_pictures: false,
            stranger_tokens_per_day: 0,
            context_tokens: None,
        };
        assert!(!format!("{config:?}").contains("very"));
    }

    #[test]
    fn strangers_are_covered_by_anyone_alone() {
        assert!(Serves::Anyone.covers(Audience::Stranger));
        assert!(!Serves::People.covers(Audience::Stranger));
        assert!(!Serves::Owner.covers(Audience::Stranger));
        assert!(Serves::People.covers(Audience::Member));
        assert!(!Serves::Owner.covers(Audience::Member));
        assert!(Serves::Owner.covers(Audience::Owner));
    }

    #[test]
    fn only_a_keyless_model_on_this_machine_serves_anyone_by_default() {
        let local: Url = "http://127.0.0.1:11434/v1".parse().unwrap();
        let far: Url = "https://models.example/v1".parse().unwrap();
        assert_eq!(Serves::default_for(&local, false), Serves::Anyone);
        assert_eq!(Serves::default_for(&local, true), Serves::People);
        assert_eq!(Serves::default_for(&far, false), Serves::People);
    }
}
