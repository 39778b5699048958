//! What the outbox needs kept, and by whom: the daemon, beside its journal.
//!
//! The daemon inserts an entry in the same transaction as the signed event, then calls [`Outbox::wake`](super::Outbox::wake).
//! So a result that exists is a result that will be sent.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use nostr::util::BoxedFuture;
use nostr::{Event, EventId, RelayUrl};

use super::machine::Next;

/// Where an event is to go.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// The node's own relay, without a socket.
    Local,
    /// An outside relay.
    Relay(RelayUrl),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local => f.write_str("local"),
            Self::Relay(url) => f.write_str(url.as_str_without_trailing_slash()),
        }
    }
}

impl FromStr for Target {
    type Err = nostr::types::url::Error;

    /// Reads what [`Display`](fmt::Display) wrote: `local` or the relay's URL.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "local" => Ok(Self::Local),
            url => RelayUrl::parse(url).map(Self::Relay),
        }
    }
}

/// One event for one target. The pair is its name.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The signed event; the same bytes at each try.
    pub event: Arc<Event>,
    /// Where it goes.
    pub target: Target,
    /// Tries so far.
    pub attempts: u32,
    /// Unix seconds after which it is given up.
    pub deadline_s: u64,
}

/// What is to be kept after a try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Update {
    /// The entry's event.
    pub event_id: EventId,
    /// The entry's target.
    pub target: Target,
    /// What becomes of it.
    pub next: Next,
}

/// How many entries of a target stand where.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Still to be sent, or sent again.
    pub pending: u64,
    /// Taken by the relay.
    pub done: u64,
    /// Finally refused.
    pub refused: u64,
    /// Given up after the deadline.
    pub expired: u64,
}

/// A failure of the store, in its own words.
#[derive(Debug, thiserror::Error)]
#[error("the outbox cannot be read or written: {0}")]
pub struct OutboxError(pub String);

/// The durable side of the outbox.
pub trait OutboxStore: Send + Sync {
    /// Gives each target that has pending entries, with the earliest time (Unix seconds) at which one is due.
    fn schedule(&self) -> BoxedFuture<'_, Result<Vec<(Target, u64)>, OutboxError>>;

    /// Gives up to `limit` pending entries of `target` that are due at `now_s`, in the order of their insertion.
    fn due<'a>(
        &'a self,
        target: &'a Target,
        now_s: u64,
        limit: usize,
    ) -> BoxedFuture<'a, Result<Vec<Entry>, OutboxError>>;

    /// Keeps what became of entries, all of them or none.
    fn record(&self, updates: Vec<Update>) -> BoxedFuture<'_, Result<(), OutboxError>>;

    /// Counts the entries of each target, for `timmy status`.
    fn counts(&self) -> BoxedFuture<'_, Result<Vec<(Target, Counts)>, OutboxError>>;
}
