//! Sealed bids: a commitment (kind 9762), the set of those that count (9763), and the price behind one (9764).

use std::collections::BTreeSet;

use nostr::{Event, EventId, PublicKey, Tag};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::MAX_BIDDERS;
use super::fields;
use super::id::Attempt;
use super::message::MessageError;
use super::score::Factor;
use crate::Msat;
use crate::tags::{named, tag};

/// What a commitment's hash begins with, so that it is the hash of nothing else.
const DOMAIN: &[u8] = b"timmy/commitment/1";

/// SHA-256(domain ‖ task ‖ epoch ‖ bidder ‖ price ‖ nonce), numbers big endian (DESIGN §6). `nonce` is random: without it the price
/// could be guessed.
pub fn commitment_hash(attempt: &Attempt, bidder: &PublicKey, price: Msat, nonce: &[u8; 32]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(DOMAIN);
    hash.update(attempt.bytes());
    hash.update(bidder.to_bytes());
    hash.update(price.0.to_be_bytes());
    hash.update(nonce);
    hash.finalize().into()
}

/// A hidden price, given to everybody before any price is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commitment {
    /// What is bid for.
    pub attempt: Attempt,
    /// The call that it answers.
    pub call: EventId,
    /// [`commitment_hash`].
    pub hash: [u8; 32],
}

#[derive(Serialize, Deserialize)]
struct CommitmentContent {
    #[serde(with = "fields::hex32")]
    commitment: [u8; 32],
}

impl Commitment {
    pub(super) fn write(&self) -> (Vec<Tag>, String) {
        let content = serde_json::to_string(&CommitmentContent { commitment: self.hash }).unwrap_or_default();
        (fields::with(&self.attempt, [fields::e(&self.call)]), content)
    }

    pub(super) fn parse(event: &Event) -> Result<Self, MessageError> {
        let CommitmentContent { commitment: hash } = fields::content(event)?;
        Ok(Self { attempt: fields::attempt(event)?, call: fields::event_id(event)?, hash })
    }
}

/// One bid that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Id of the commitment.
    pub commitment: EventId,
    /// Install key of the bidder.
    pub bidder: PublicKey,
    /// What the bidder's price is divided by. Fixed before any price is known.
    pub factor: Factor,
}

/// The bids that count: at most [`MAX_BIDDERS`], one a bidder. There is one set an epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitmentSet {
    /// What is bid for.
    pub attempt: Attempt,
    /// The call that was answered.
    pub call: EventId,
    /// The bids.
    pub entries: Vec<Entry>,
}

impl CommitmentSet {
    /// The entry of a bidder.
    pub fn of(&self, bidder: &PublicKey) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.bidder == *bidder)
    }

    pub(super) fn write(&self) -> (Vec<Tag>, String) {
        let mut tags = fields::with(&self.attempt, [fields::e(&self.call)]);
        tags.extend(self.entries.iter().map(|entry| {
            tag(["c", &entry.commitment.to_hex(), &entry.bidder.to_hex(), &entry.factor.permille().to_string()])
        }));
        (tags, String::new())
    }

    pub(super) fn parse(event: &Event) -> Result<Self, MessageError> {
        let entries = named(event, "c").map(entry).collect::<Result<Vec<_>, _>>()?;
        if entries.len() > MAX_BIDDERS {
            return Err(MessageError::TooMany("commitments"));
        }
        let bidders: BTreeSet<PublicKey> = entries.iter().map(|entry| entry.bidder).collect();
        if bidders.len() != entries.len() {
            return Err(MessageError::Twice("c"));
        }
        Ok(Self { attempt: fields::attempt(event)?, call: fields::event_id(event)?, entries })
    }
}

fn entry(values: &[String]) -> Result<Entry, MessageError> {
    let [_, commitment, bidder, factor, ..] = values else { return Err(MessageError::Malformed("c")) };
    let factor = fields::number(factor, "factor")?;
    Ok(Entry {
        commitment: EventId::from_hex(commitment).map_err(|_| MessageError::Malformed("c"))?,
        bidder: fields::key(bidder, "c")?,
        factor: Factor::from_permille(factor).ok_or(MessageError::Malformed("factor"))?,
    })
}

/// The price behind a commitment, given once the set is signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reveal {
    /// What is bid for.
    pub attempt: Attempt,
    /// The set that holds the commitment.
    pub set: EventId,
    /// The price.
    pub price: Msat,
    /// The random bytes.
    pub nonce: [u8; 32],
}

#[derive(Serialize, Deserialize)]
struct RevealContent {
    price_msat: Msat,
    #[serde(with = "fields::hex32")]
    nonce: [u8; 32],
}

impl Reveal {
    /// True when this is what `bidder` committed to.
    pub fn opens(&self, commitment: &Commitment, bidder: &PublicKey) -> bool {
        self.attempt == commitment.attempt
            && commitment_hash(&self.attempt, bidder, self.price, &self.nonce) == commitment.hash
    }

    pub(super) fn write(&self) -> (Vec<Tag>, String) {
        let content = RevealContent { price_msat: self.price, nonce: self.nonce };
        (fields::with(&self.attempt, [fields::e(&self.set)]), serde_json::to_string(&content).unwrap_or_default())
    }

    pub(super) fn parse(event: &Event) -> Result<Self, MessageError> {
        let RevealContent { price_msat: price, nonce } = fields::content(event)?;
        Ok(Self { attempt: fields::attempt(event)?, set: fields::event_id(event)?, price, nonce })
    }
}
