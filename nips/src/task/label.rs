//! Labels of finished tasks (NIP-32, kind 1985, `L = timmy.task`): what a requester says about a node that worked for it.
//!
//! A label is signed by the requester's passport and names the worker's, the call and the result. It is the one thing about a task
//! that goes bare to relays, so that a reputation follows the npub.

use nostr::{Event, EventId, Kind, PublicKey, Timestamp, UnsignedEvent};
use serde::{Deserialize, Serialize};

use super::id::TaskId;
use crate::tags::{named, tag};

/// Kind of a label (NIP-32).
pub const LABEL_KIND: u16 = 1985;
/// The namespace of our labels.
pub const NAMESPACE: &str = "timmy.task";

/// What a node did with a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Its result was accepted.
    Done,
    /// It had won, and its lease ran out.
    Broken,
    /// It had bid, and did not say what.
    Unrevealed,
}

impl Outcome {
    /// The value of the `l` tag.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Broken => "broken",
            Self::Unrevealed => "unrevealed",
        }
    }
}

/// One label.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Label {
    /// The task.
    pub task: TaskId,
    /// Passport of the node that it is about.
    pub subject: PublicKey,
    /// What it did.
    pub outcome: Outcome,
    /// The call, the event that asked for the work.
    pub request: EventId,
    /// The result; there is one exactly when the outcome is [`Outcome::Done`].
    pub result: Option<EventId>,
}

/// Why an event is no label of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LabelError {
    /// Another kind or another namespace.
    #[error("not a label of a task")]
    NotALabel,
    /// The id or the signature is wrong.
    #[error("the id or the signature is wrong")]
    Signature,
    /// A part is missing, there twice or malformed.
    #[error("the label's {0} is not good")]
    Malformed(&'static str),
    /// Somebody praises themselves.
    #[error("a label about its own author")]
    OwnLabel,
}

impl Label {
    /// The event for the requester's passport to sign, dated `at` (Unix seconds). The same label and date give the same id.
    pub fn to_event(&self, requester: PublicKey, at: u64) -> UnsignedEvent {
        let mut tags = vec![
            tag(["L", NAMESPACE]),
            tag(["l", self.outcome.as_str(), NAMESPACE]),
            tag(["p", &self.subject.to_hex()]),
            tag(["task", &self.task.to_string()]),
            tag(["e", &self.request.to_hex(), "", "request"]),
        ];
        tags.extend(self.result.map(|id| tag(["e", &id.to_hex(), "", "result"])));
        UnsignedEvent::new(requester, Timestamp::from_secs(at), Kind::from_u16(LABEL_KIND), tags, "")
    }

    /// Checks id and signature, then reads: the passport that says it, and what it says.
    ///
    /// # Errors
    /// When it is no label of a task, malformed, badly signed, or about its own author.
    pub fn verified(event: &Event) -> Result<(PublicKey, Self), LabelError> {
        let label = Self::parse(event)?;
        event.verify().map_err(|_| LabelError::Signature)?;
        Ok((event.pubkey, label))
    }

    /// Reads an event without checking its signature.
    ///
    /// # Errors
    /// As [`Label::verified`], without the signature.
    pub fn parse(event: &Event) -> Result<Self, LabelError> {
        let ours = named(event, "L").any(|tag| tag.get(1).is_some_and(|name| name == NAMESPACE));
        if event.kind.as_u16() != LABEL_KIND || !ours {
            return Err(LabelError::NotALabel);
        }
        let subject = PublicKey::from_hex(&only(event, "p", |_| true)?[1]).map_err(|_| LabelError::Malformed("p"))?;
        if subject == event.pubkey {
            return Err(LabelError::OwnLabel);
        }
        let outcome = match only(event, "l", |tag| tag.get(2).is_some_and(|name| name == NAMESPACE))?[1].as_str() {
            "done" => Outcome::Done,
            "broken" => Outcome::Broken,
            "unrevealed" => Outcome::Unrevealed,
            _ => return Err(LabelError::Malformed("l")),
        };
        let task = only(event, "task", |_| true)?[1].parse().map_err(|_| LabelError::Malformed("task"))?;
        let request = reference(event, "request")?;
        let result = match outcome {
            Outcome::Done => Some(reference(event, "result")?),
            Outcome::Broken | Outcome::Unrevealed => None,
        };
        Ok(Self { task, subject, outcome, request, result })
    }
}

/// The one tag of this name that fits; it has a value.
fn only<'a>(
    event: &'a Event,
    name: &'static str,
    fits: impl Fn(&[String]) -> bool,
) -> Result<&'a [String], LabelError> {
    let mut found = named(event, name).filter(|tag| fits(tag));
    let first = found.next().filter(|tag| tag.len() > 1).ok_or(LabelError::Malformed(name))?;
    if found.next().is_some() { Err(LabelError::Malformed(name)) } else { Ok(first) }
}

fn reference(event: &Event, marker: &'static str) -> Result<EventId, LabelError> {
    let tag = only(event, "e", |tag| tag.get(3).is_some_and(|m| m == marker))?;
    EventId::from_hex(&tag[1]).map_err(|_| LabelError::Malformed(marker))
}
