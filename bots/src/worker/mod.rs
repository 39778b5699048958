//! The workers that carry out jobs, and the workshop that picks one.
//!
//! | kind | worker | without a model |
//! |---|---|---|
//! | 5000 | text extraction | yes |
//! | 5001 | summary | yes (extractive) |
//! | 5002 | translation | no |
//! | 5050 | text generation | no |
//! | 5302 | search of notes | yes |
//! | 5303 | search of people | yes |
//!
//! A worker has no tools and no memory; a text that a customer sends is data for it. The kinds are those of
//! nostr-protocol/data-vending-machines; inputs and `param`s are read leniently.

mod extract;
mod generate;
mod html;
mod params;
mod rank;
mod search;
mod summary;
mod workshop;

use async_trait::async_trait;
use nips::Audience;
use nostr::{Event, PublicKey, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::tools::Proposal;
pub use workshop::Workshop;

/// The readable text of a page that came as a file.
pub(crate) fn readable(html: &str) -> String {
    html::readable(html, "https://file.invalid/", false)
}

/// Text extraction.
pub const KIND_EXTRACT: u16 = 5000;
/// Summary.
pub const KIND_SUMMARY: u16 = 5001;
/// Translation.
pub const KIND_TRANSLATE: u16 = 5002;
/// Text generation.
pub const KIND_GENERATE: u16 = 5050;
/// Search of notes.
pub const KIND_SEARCH_NOTES: u16 = 5302;
/// Search of people.
pub const KIND_SEARCH_PEOPLE: u16 = 5303;

/// The most inputs of one task.
pub const INPUTS_MAX: usize = 16;
/// The most bytes of a text that was fetched or made: what fits into an event, sealed too.
pub const OUTPUT_BYTES_MAX: usize = 60_000;

/// One piece of work.
#[derive(Debug, Clone)]
pub struct Task {
    /// The id of the job.
    pub id: String,
    /// The kind of the request, 5000–5999.
    pub kind: u16,
    /// What to work on, in order.
    pub inputs: Vec<TaskInput>,
    /// The `param` tags: name and value; further values of one tag are joined by a space.
    pub params: Vec<(String, String)>,
    /// The MIME type that the customer wants.
    pub output: Option<String>,
    /// For whom.
    pub audience: Audience,
}

/// One input of a task. Events and jobs were found by the desk; their text is their content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskInput {
    /// The text itself.
    Text(String),
    /// The address of a page.
    Url(String),
    /// An event.
    Event(Box<Event>),
    /// The result of another job.
    Job(Box<Event>),
}

impl TaskInput {
    /// The text that the customer sent, where there is one before anything is fetched.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Event(event) | Self::Job(event) => Some(&event.content),
            Self::Url(_) => None,
        }
    }
}

/// What a worker made.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    /// The content of the result.
    pub content: String,
    /// The owner's name of the model that wrote it, if one did.
    pub model: Option<String>,
    /// Ids of the memories in it.
    pub memories: Vec<String>,
    /// A call that waits for the person's yes.
    pub proposal: Option<Proposal>,
}

impl Output {
    /// An output that no model had a hand in.
    pub fn plain(content: String) -> Self {
        Self { content, model: None, memories: Vec::new(), proposal: None }
    }

    /// An output of a model.
    pub fn written(content: String, model: String) -> Self {
        Self { model: Some(model), ..Self::plain(content) }
    }
}

/// Why a task has no output. The texts go to the customer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WorkError {
    /// The request is at fault; the text says what to change.
    #[error("{0}")]
    BadInput(String),
    /// It cannot be done now.
    #[error("not available now: {0}")]
    Unavailable(String),
    /// It was tried and failed.
    #[error("failed: {0}")]
    Failed(String),
    /// The customer or the node gave it up.
    #[error("cancelled")]
    Cancelled,
}

/// Carries out one kind of task.
#[async_trait]
pub trait Worker: Send + Sync {
    /// A short name for logs and metrics.
    fn name(&self) -> &'static str;

    /// Carries out `task`. `progress` gets the *whole text so far* from time to time; a message that does not fit is
    /// skipped, so a channel of one place is enough.
    async fn run(
        &self,
        task: &Task,
        progress: &mpsc::Sender<String>,
        cancel: &CancellationToken,
    ) -> Result<Output, WorkError>;
}

/// What to look for among events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventSearch {
    /// Words to look for; may be empty when authors are named.
    pub text: String,
    /// The kinds of events wanted.
    pub kinds: Vec<u16>,
    /// Only these authors, if any are named.
    pub authors: Vec<PublicKey>,
    /// Not older than this.
    pub since: Option<Timestamp>,
    /// Not newer than this.
    pub until: Option<Timestamp>,
    /// The most events wanted.
    pub limit: usize,
}

/// Why a library cannot be searched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the search failed: {0}")]
pub struct LibraryError(pub String);

/// The events that this node keeps. The daemon implements it over the embedded relay; only what the relay would show to
/// everybody may come out of it.
#[async_trait]
pub trait Library: Send + Sync {
    /// Events that fit, best first.
    async fn search_events(&self, search: &EventSearch) -> Result<Vec<Event>, LibraryError>;
    /// Profiles (kind 0) that fit `text`, best first.
    async fn search_profiles(&self, text: &str, limit: usize) -> Result<Vec<Event>, LibraryError>;
}

/// Cuts `text` to at most `bytes_max` bytes at a character boundary, and says so at its end.
pub(crate) fn cut(text: String, bytes_max: usize) -> String {
    const MARK: &str = "\n\n[cut]";
    if text.len() <= bytes_max {
        return text;
    }
    let mut text = text;
    let mut end = bytes_max.saturating_sub(MARK.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text + MARK
}
