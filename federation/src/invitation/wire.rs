//! The stream `/timmy/join/1`: one frame each way.

use nips::federation::{MAX_WELCOME, Refusal};
use nostr::Event;
use serde_json::value::RawValue;

/// The protocol's name on a stream.
pub const PROTOCOL: &str = "/timmy/join/1";
/// The largest frame that an inviter reads, bytes: an asking with its peer card.
pub const MAX_ASK_FRAME: usize = 32 * 1024;
/// The largest frame that a joiner reads, bytes: a welcome whose content is JSON in JSON.
pub const MAX_WELCOME_FRAME: usize = 2 * MAX_WELCOME;

/// A frame of the stream.
#[derive(Debug, Clone, PartialEq)]
pub enum Frame {
    /// `["EVENT", event]`: an answer (kind 9770).
    Event(Box<Event>),
    /// `["NO", code]`: refused. It names nobody: a stranger learns nothing by it.
    No(Refusal),
}

impl Frame {
    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let text = match self {
            Self::Event(event) => serde_json::to_vec(&("EVENT", event)),
            Self::No(refusal) => serde_json::to_vec(&("NO", refusal)),
        };
        text.unwrap_or_default()
    }

    /// None when the bytes are no frame, or more than `cap`.
    pub fn parse(bytes: &[u8], cap: usize) -> Option<Self> {
        if bytes.len() > cap {
            return None;
        }
        let places: Vec<&RawValue> = serde_json::from_slice(bytes).ok()?;
        let [word, body, ..] = places.as_slice() else { return None };
        match word.get() {
            "\"EVENT\"" => Some(Self::Event(serde_json::from_str(body.get()).ok()?)),
            "\"NO\"" => Some(Self::No(serde_json::from_str(body.get()).ok()?)),
            _ => None,
        }
    }
}
