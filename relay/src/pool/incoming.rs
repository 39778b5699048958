//! What the pool hands over, and how it learns that it was handled.
//!
//! An event in a queue is not yet safe: a crash loses the queue. Each [`Incoming`] therefore holds a token, and a cursor
//! moves past a moment only when every event handed over before that moment has been dropped by whoever took it.

use std::sync::Arc;

use nostr::{Event, RelayUrl};

/// Held by the events that were handed over between two checkpoints of one relay.
#[derive(Debug)]
pub(super) struct Token;

/// A verified event that answers a subscription, once in the life of the process for all relays together.
///
/// Keep it until the event is durable: dropping it says "handled", and the catch-up position of the subscription may move
/// past it. A crash before that makes the relay send it again.
#[derive(Debug, Clone)]
pub struct Incoming {
    /// The relay that was first to send it.
    pub relay: RelayUrl,
    /// The id of the [`Subscription`](super::Subscription) that it answers.
    pub subscription: String,
    /// The event: id and signature are checked, and it matches a filter of the subscription.
    pub event: Arc<Event>,
    held: Option<Arc<Token>>,
}

impl Incoming {
    /// Makes one that holds no catch-up position back, for doors other than the pool and for tests.
    pub fn new(relay: RelayUrl, subscription: impl Into<String>, event: Event) -> Self {
        Self { relay, subscription: subscription.into(), event: Arc::new(event), held: None }
    }

    pub(super) fn held_by(mut self, token: Arc<Token>) -> Self {
        self.held = Some(token);
        self
    }
}
