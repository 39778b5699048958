//! The transcript of an auction: the signed events that led to an award, recomputed by anyone (`timmy auction verify ID`).

use std::collections::BTreeMap;

use nostr::{Event, EventId, PublicKey};
use sha2::{Digest, Sha256};

use super::bid::{Commitment, CommitmentSet, Reveal};
use super::id::Attempt;
use super::message::{Envelope, Message, MessageError};
use super::score::{Bid, settle};
use super::{Award, Call};
use crate::Msat;

/// The most events that a transcript can have: call, set, award, and two a bidder.
const MAX_EVENTS: usize = 3 + 2 * super::MAX_BIDDERS;

/// SHA-256(domain ‖ call ‖ set ‖ each reveal that counted, lowest id first).
pub fn transcript_hash(call: &EventId, set: &EventId, reveals: &[EventId]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(b"timmy/transcript/1");
    for id in [call, set].into_iter().chain(reveals) {
        hash.update(id.as_bytes());
    }
    hash.finalize().into()
}

/// Why a transcript does not bear its award out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TranscriptError {
    /// An event is no message, or its signature is wrong.
    #[error("event {id} is no good message")]
    Event {
        /// Which.
        id: EventId,
        /// What is wrong with it.
        #[source]
        source: MessageError,
    },
    /// More events than an auction has.
    #[error("{0} events are more than an auction has")]
    TooMany(usize),
    /// An event that has no place in an auction, or is about another attempt.
    #[error("event {0} does not belong to this auction")]
    Stranger(EventId),
    /// The call, the set, the award, a commitment or a counted reveal is not there.
    #[error("the {0} is missing")]
    Missing(&'static str),
    /// There are two calls, sets or awards.
    #[error("there are two of: {0}")]
    Two(&'static str),
    /// Call, set and award are not all of one key, or do not name each other.
    #[error("the {0} does not follow from what went before")]
    Broken(&'static str),
    /// A counted reveal is not what its bidder committed to, or is counted twice.
    #[error("the reveal {0} is not what was committed to")]
    WrongReveal(EventId),
    /// The award names another hash.
    #[error("the award is about another transcript")]
    Hash,
    /// Another bidder won.
    #[error("{winner} won, the award says otherwise")]
    Winner {
        /// Who won.
        winner: PublicKey,
    },
    /// Another price is due.
    #[error("{price} msat are due, the award says otherwise")]
    Price {
        /// What is due.
        price: Msat,
    },
}

/// What a transcript shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// What was auctioned.
    pub attempt: Attempt,
    /// Install key of the requester.
    pub requester: PublicKey,
    /// Install key of the winner.
    pub winner: PublicKey,
    /// What the winner is paid.
    pub price: Msat,
    /// Bidders in the set whose reveal is not in the transcript.
    pub unrevealed: Vec<PublicKey>,
    /// Bidders whose good reveal is here and was not counted: it came late, or the requester left it out. Nobody can tell which.
    pub left_out: Vec<PublicKey>,
}

/// The events of one auction, sorted by what they are.
#[derive(Debug, Default)]
pub struct Transcript {
    call: Option<(Envelope, Call)>,
    set: Option<(Envelope, CommitmentSet)>,
    award: Option<(Envelope, Award)>,
    commitments: BTreeMap<EventId, (PublicKey, Commitment)>,
    reveals: BTreeMap<EventId, (PublicKey, Reveal)>,
}

/// Recomputes an auction from its signed events alone, in whatever order they come; the same event may come twice.
///
/// # Errors
/// Says what does not follow. A wrong factor is no error: factors are in the signed set, for everybody to compare with their own.
pub fn verify_transcript(events: &[Event]) -> Result<Verified, TranscriptError> {
    if events.len() > 2 * MAX_EVENTS {
        return Err(TranscriptError::TooMany(events.len()));
    }
    let mut transcript = Transcript::default();
    for event in events {
        let id = event.id;
        let envelope = Envelope::verified(event.clone()).map_err(|source| TranscriptError::Event { id, source })?;
        transcript.add(envelope)?;
    }
    transcript.verify()
}

impl Transcript {
    /// Adds a checked event.
    ///
    /// # Errors
    /// When it has no place in an auction, or is a second call, set or award.
    pub fn add(&mut self, envelope: Envelope) -> Result<(), TranscriptError> {
        let (id, author) = (envelope.id(), envelope.author());
        match envelope.message().clone() {
            Message::Call(call) => once(&mut self.call, envelope, call, "call"),
            Message::Set(set) => once(&mut self.set, envelope, set, "set"),
            Message::Award(award) => once(&mut self.award, envelope, award, "award"),
            Message::Commitment(commitment) => {
                self.commitments.insert(id, (author, commitment));
                Ok(())
            }
            Message::Reveal(reveal) => {
                self.reveals.insert(id, (author, reveal));
                Ok(())
            }
            Message::Refusal(_) | Message::Lease(_) | Message::Input(_) | Message::Result(_) => {
                Err(TranscriptError::Stranger(id))
            }
        }
    }

    /// Recomputes the award.
    ///
    /// # Errors
    /// Says what does not follow.
    pub fn verify(&self) -> Result<Verified, TranscriptError> {
        let (call, asked) = self.call.as_ref().ok_or(TranscriptError::Missing("call"))?;
        let (set, counted) = self.set.as_ref().ok_or(TranscriptError::Missing("set"))?;
        let (award, awarded) = self.award.as_ref().ok_or(TranscriptError::Missing("award"))?;
        if set.author() != call.author() || counted.call != call.id() || counted.attempt != asked.attempt {
            return Err(TranscriptError::Broken("set"));
        }
        if award.author() != call.author() || awarded.set != set.id() || awarded.attempt != asked.attempt {
            return Err(TranscriptError::Broken("award"));
        }
        self.check_commitments(&asked.attempt, call.id(), counted)?;
        if !awarded.is_about(&call.id()) {
            return Err(TranscriptError::Hash);
        }
        let bids = self.counted_bids(set.id(), counted, awarded)?;
        let due = settle(&asked.attempt, &bids).ok_or(TranscriptError::Missing("reveal"))?;
        if due.winner != awarded.winner {
            return Err(TranscriptError::Winner { winner: due.winner });
        }
        if due.price != awarded.price {
            return Err(TranscriptError::Price { price: due.price });
        }
        let (unrevealed, left_out) = self.silent(set.id(), counted, &bids);
        let (attempt, requester) = (asked.attempt, call.author());
        Ok(Verified { attempt, requester, winner: due.winner, price: due.price, unrevealed, left_out })
    }

    fn check_commitments(&self, attempt: &Attempt, call: EventId, set: &CommitmentSet) -> Result<(), TranscriptError> {
        for (id, (_, commitment)) in &self.commitments {
            if commitment.attempt != *attempt || commitment.call != call {
                return Err(TranscriptError::Stranger(*id));
            }
        }
        for entry in &set.entries {
            let (author, _) = self.commitments.get(&entry.commitment).ok_or(TranscriptError::Missing("commitment"))?;
            if *author != entry.bidder {
                return Err(TranscriptError::Broken("set"));
            }
        }
        Ok(())
    }

    /// The bids that the award counted, each held against its commitment.
    fn counted_bids(&self, set: EventId, entries: &CommitmentSet, award: &Award) -> Result<Vec<Bid>, TranscriptError> {
        let mut bids: Vec<Bid> = Vec::new();
        for id in &award.reveals {
            let (bidder, reveal) = self.reveals.get(id).ok_or(TranscriptError::Missing("reveal"))?;
            let bid = self.bid(set, entries, bidder, reveal).ok_or(TranscriptError::WrongReveal(*id))?;
            if bids.iter().any(|other| other.bidder == *bidder) {
                return Err(TranscriptError::WrongReveal(*id));
            }
            bids.push(bid);
        }
        Ok(bids)
    }

    /// The bid behind a reveal, when it opens a commitment of the set.
    fn bid(&self, set: EventId, entries: &CommitmentSet, bidder: &PublicKey, reveal: &Reveal) -> Option<Bid> {
        let entry = entries.of(bidder)?;
        let (_, commitment) = self.commitments.get(&entry.commitment)?;
        let good = reveal.set == set && reveal.opens(commitment, bidder);
        good.then_some(Bid { bidder: *bidder, price: reveal.price, factor: entry.factor })
    }

    /// Who of the set is not among the counted: without a good reveal here, and with one.
    fn silent(&self, set: EventId, entries: &CommitmentSet, bids: &[Bid]) -> (Vec<PublicKey>, Vec<PublicKey>) {
        let revealed = |bidder: &PublicKey| {
            self.reveals.values().any(|(author, r)| author == bidder && self.bid(set, entries, bidder, r).is_some())
        };
        let others = entries.entries.iter().map(|entry| entry.bidder);
        let (left_out, unrevealed) =
            others.filter(|key| !bids.iter().any(|bid| bid.bidder == *key)).partition(revealed);
        (unrevealed, left_out)
    }
}

fn once<T>(
    slot: &mut Option<(Envelope, T)>,
    envelope: Envelope,
    message: T,
    name: &'static str,
) -> Result<(), TranscriptError> {
    match slot {
        Some((known, _)) if known.id() != envelope.id() => Err(TranscriptError::Two(name)),
        Some(_) => Ok(()),
        None => {
            *slot = Some((envelope, message));
            Ok(())
        }
    }
}
