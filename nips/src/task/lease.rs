//! Leases (kind 9767) and refusals (kind 9766).

use nostr::{Event, PublicKey, Tag};
use serde::{Deserialize, Serialize};

use super::fields;
use super::id::{Attempt, Epoch};
use super::message::MessageError;

/// The longest word about a failure, bytes.
const MAX_WORD: usize = 512;

/// What is done with a lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "act", rename_all = "snake_case")]
pub enum Act {
    /// Worker: I take it. Its lease counts from the sending of this (turn 0).
    Accept,
    /// Worker: I am still on it.
    Renew {
        /// Counts up from 1; a repeated number prolongs nothing.
        turn: u32,
    },
    /// Requester: the lease now counts from your sending of this turn. Until its acceptance is granted a worker does not begin.
    Grant {
        /// 0 for the acceptance.
        turn: u32,
    },
    /// Worker: I give it back. Requester: it is over, the result is accepted or nobody wants it any more.
    Release {
        /// For people, at most 512 bytes.
        word: String,
        /// True when the requester has accepted this worker's result.
        #[serde(default)]
        accepted: bool,
    },
}

/// A message about a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// What is leased.
    pub attempt: Attempt,
    /// Install key of the other side.
    pub to: PublicKey,
    /// What is done.
    pub act: Act,
}

impl Lease {
    /// Gives a lease back or ends it, with a word that is cut to 512 bytes.
    pub fn release(attempt: Attempt, to: PublicKey, word: &str, accepted: bool) -> Self {
        let end = word.floor_char_boundary(MAX_WORD);
        Self { attempt, to, act: Act::Release { word: word[..end].to_owned(), accepted } }
    }

    pub(super) fn write(&self) -> (Vec<Tag>, String) {
        let content = serde_json::to_string(&self.act).unwrap_or_default();
        (fields::with(&self.attempt, [fields::p(&self.to)]), content)
    }

    pub(super) fn parse(event: &Event) -> Result<Self, MessageError> {
        let act: Act = fields::content(event)?;
        if let Act::Release { word, .. } = &act
            && word.len() > MAX_WORD
        {
            return Err(MessageError::Malformed("word"));
        }
        Ok(Self { attempt: fields::attempt(event)?, to: fields::recipient(event)?, act })
    }
}

/// Why something is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The task has gone on to a newer epoch.
    OldEpoch,
    /// The task has its result.
    Finished,
    /// No such task here (any more).
    UnknownTask,
    /// The epoch was given to another.
    NotWinner,
    /// The worker has had all the time there is.
    OverTime,
    /// The result does not open or is not whole.
    BadResult,
    /// A second set of commitments for one epoch.
    SetChanged,
    /// An award that does not follow from what the bidder knows.
    BadAward,
    /// A reason of a later version.
    #[serde(other)]
    Other,
}

/// Says to a peer that something of its is not taken, and why. An answer to it is never sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What was refused is about this.
    pub attempt: Attempt,
    /// Install key of whoever sent it.
    pub to: PublicKey,
    /// Why.
    pub reason: Reason,
    /// The newest epoch that the refusing side knows of.
    pub newest: Epoch,
}

#[derive(Serialize, Deserialize)]
struct Content {
    reason: Reason,
    newest_epoch: u32,
}

impl Refusal {
    pub(super) fn write(&self) -> (Vec<Tag>, String) {
        let content = Content { reason: self.reason, newest_epoch: self.newest.0 };
        (fields::with(&self.attempt, [fields::p(&self.to)]), serde_json::to_string(&content).unwrap_or_default())
    }

    pub(super) fn parse(event: &Event) -> Result<Self, MessageError> {
        let Content { reason, newest_epoch } = fields::content(event)?;
        let newest = Epoch(newest_epoch);
        Ok(Self { attempt: fields::attempt(event)?, to: fields::recipient(event)?, reason, newest })
    }
}
