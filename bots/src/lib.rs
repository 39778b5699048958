//! The mind and the hands of a node: the conscience that reads every message first, the chain of language models, the
//! guarded fetcher, the workers that carry out jobs, and the answerer that speaks when no model can.
//!
//! It holds no keys, no money and no storage. What it needs from outside comes in through traits owned here:
//! [`model::Budget`], [`model::Clock`], [`fetch::Resolver`], [`worker::Library`], [`recollection::Memories`] and [`matrix::Inbox`].

pub mod answerer;
pub mod conscience;
pub mod document;
pub mod fetch;
pub mod files;
pub mod look;
pub mod matrix;
pub mod model;
pub mod recollection;
pub mod soul;
pub mod talk;
pub mod tools;
pub mod voice;
pub mod worker;

pub use answerer::{Answerer, Approved, NodeFacts, Talk, converse};
pub use conscience::{Conscience, Crisis};
pub use fetch::{FetchLimits, Fetcher};
pub use model::{Chain, ChatRequest, Completion, Delta, ModelConfig, Serves};
pub use recollection::{List, ListEdit, Memories, Recollection};
pub use soul::Soul;
pub use talk::Turn;
pub use tools::Toolbox;
pub use worker::{Library, Output, Task, TaskInput, WorkError, Worker, Workshop};
