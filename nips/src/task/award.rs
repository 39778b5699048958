//! The award (kind 9765): who won, what is paid, and the hash of everything that led to it.

use nostr::{Event, EventId, PublicKey, Tag};
use serde::{Deserialize, Serialize};

use super::fields;
use super::id::Attempt;
use super::message::MessageError;
use super::{MAX_BIDDERS, transcript_hash};
use crate::Msat;
use crate::tags::{named, tag};

/// Gives an epoch of a task to one bidder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Award {
    /// What is given.
    pub attempt: Attempt,
    /// The set of commitments.
    pub set: EventId,
    /// Install key of the winner.
    pub winner: PublicKey,
    /// The highest price at which the winner would still have won; a lone bidder's own.
    pub price: Msat,
    /// How long a lease lasts without a renewal, ms.
    pub lease_ms: u64,
    /// The reveals that counted, lowest id first.
    pub reveals: Vec<EventId>,
    /// [`transcript_hash`].
    pub transcript: [u8; 32],
}

#[derive(Serialize, Deserialize)]
struct Content {
    price_msat: Msat,
    lease_ms: u64,
}

impl Award {
    pub(super) fn write(&self) -> (Vec<Tag>, String) {
        let mut tags =
            fields::with(&self.attempt, [fields::e(&self.set), fields::p(&self.winner), fields::x(&self.transcript)]);
        tags.extend(self.reveals.iter().map(|id| tag(["r", &id.to_hex()])));
        let content = Content { price_msat: self.price, lease_ms: self.lease_ms };
        (tags, serde_json::to_string(&content).unwrap_or_default())
    }

    pub(super) fn parse(event: &Event) -> Result<Self, MessageError> {
        let Content { price_msat: price, lease_ms } = fields::content(event)?;
        let reveal = |tag: &[String]| tag.get(1).and_then(|id| EventId::from_hex(id).ok());
        let reveals: Option<Vec<EventId>> = named(event, "r").map(reveal).collect();
        let reveals = reveals.ok_or(MessageError::Malformed("r"))?;
        if reveals.len() > MAX_BIDDERS {
            return Err(MessageError::TooMany("reveals"));
        }
        if !reveals.windows(2).all(|pair| pair[0] < pair[1]) {
            return Err(MessageError::Malformed("order of reveals"));
        }
        Ok(Self {
            attempt: fields::attempt(event)?,
            set: fields::event_id(event)?,
            winner: fields::recipient(event)?,
            price,
            lease_ms,
            reveals,
            transcript: fields::hash(fields::value(event, "x")?, "x")?,
        })
    }

    /// True when the hash is that of this call, this set and these reveals.
    pub fn is_about(&self, call: &EventId) -> bool {
        transcript_hash(call, &self.set, &self.reveals) == self.transcript
    }
}
