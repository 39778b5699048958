//! The requester's side of one auction.

use std::collections::BTreeMap;

use nips::Msat;
use nips::task::{
    Attempt, Award, Bid, Call, Commitment, CommitmentSet, Entry, Envelope, Factor, MAX_BIDDERS, Message, Reveal,
    settle, transcript_hash,
};
use nostr::{EventId, PublicKey};

use crate::tasks::{Now, Party, Signer};

/// What happens to an auction.
#[derive(Debug, Clone, Copy)]
pub enum Input<'a> {
    /// A commitment came from a member that may bid.
    Commitment {
        /// It.
        envelope: &'a Envelope,
        /// Who bids.
        from: &'a Party,
        /// What its price will be divided by.
        factor: Factor,
        /// True when it had this very task before and did not deliver: it counts only where nobody bids who had not.
        had_it: bool,
    },
    /// A reveal came.
    Reveal {
        /// It.
        envelope: &'a Envelope,
    },
    /// Time has passed.
    Timer,
}

/// What an auction wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Tell all members.
    Broadcast(Envelope),
    /// It is over.
    Ended(Ending),
}

/// How an auction ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// Nobody bid, or nobody who did said what.
    Nobody {
        /// Who bid and did not reveal.
        unrevealed: Vec<Party>,
    },
    /// Somebody won. The award is signed and told to nobody yet.
    Won(Box<Won>),
}

/// A won auction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Won {
    /// The signed award.
    pub award: Envelope,
    /// Who won.
    pub winner: Party,
    /// What it is paid.
    pub price: Msat,
    /// Who bid and did not reveal.
    pub unrevealed: Vec<Party>,
    /// Call, commitments, set, reveals and award: what `verify_transcript` takes.
    pub transcript: Vec<Envelope>,
}

/// One auction, as its requester runs it.
#[derive(Debug)]
pub struct Auction {
    call: Envelope,
    attempt: Attempt,
    window_ms: u64,
    lease_ms: u64,
    until_ms: u64,
    bidders: BTreeMap<PublicKey, Bidding>,
    set: Option<Envelope>,
    ended: bool,
}

#[derive(Debug)]
struct Bidding {
    party: Party,
    factor: Factor,
    had_it: bool,
    envelope: Envelope,
    commitment: Commitment,
    reveal: Option<(Envelope, Reveal)>,
}

impl Auction {
    /// Signs and opens it; the effects tell everybody. `lease_ms` goes into the award.
    pub fn open(call: Call, lease_ms: u64, signer: &Signer, now: Now) -> (Self, Vec<Effect>) {
        let (attempt, window_ms) = (call.attempt, call.window_ms);
        let call = signer.sign(Message::Call(call), now);
        let auction = Self {
            call: call.clone(),
            attempt,
            window_ms,
            lease_ms,
            until_ms: now.boot_ms.saturating_add(window_ms),
            bidders: BTreeMap::new(),
            set: None,
            ended: false,
        };
        (auction, vec![Effect::Broadcast(call)])
    }

    /// The id of the call.
    pub fn call(&self) -> EventId {
        self.call.id()
    }

    /// When it wants [`Input::Timer`], ms of boottime; `None` once it is over.
    pub fn deadline_ms(&self) -> Option<u64> {
        (!self.ended).then_some(self.until_ms)
    }

    /// Takes one input. An input that does not fit is ignored.
    pub fn handle(&mut self, input: Input<'_>, signer: &Signer, now: Now) -> Vec<Effect> {
        if self.ended {
            return Vec::new();
        }
        match input {
            Input::Commitment { envelope, from, factor, had_it } => {
                self.commitment(envelope, from, factor, had_it);
            }
            Input::Reveal { envelope } => return self.reveal(envelope, signer, now),
            Input::Timer if now.boot_ms < self.until_ms => {}
            Input::Timer if self.set.is_none() => return self.close_bids(signer, now),
            Input::Timer => return self.end(signer, now),
        }
        Vec::new()
    }

    /// The first commitment of each bidder counts, while there is room and no set.
    fn commitment(&mut self, envelope: &Envelope, from: &Party, factor: Factor, had_it: bool) {
        let Message::Commitment(commitment) = envelope.message() else { return };
        let ours = commitment.attempt == self.attempt && commitment.call == self.call.id();
        let known = self.bidders.contains_key(&envelope.author());
        if !ours || known || self.set.is_some() || self.bidders.len() >= MAX_BIDDERS {
            return;
        }
        let (bidder, envelope, commitment) = (envelope.author(), envelope.clone(), commitment.clone());
        self.bidders.insert(bidder, Bidding { party: *from, factor, had_it, envelope, commitment, reveal: None });
    }

    fn close_bids(&mut self, signer: &Signer, now: Now) -> Vec<Effect> {
        if self.bidders.is_empty() {
            return self.end(signer, now);
        }
        if self.bidders.values().any(|bidding| !bidding.had_it) {
            self.bidders.retain(|_, bidding| !bidding.had_it);
        }
        let entries = self.bidders.iter().map(|(bidder, bidding)| Entry {
            commitment: bidding.envelope.id(),
            bidder: *bidder,
            factor: bidding.factor,
        });
        let set = CommitmentSet { attempt: self.attempt, call: self.call.id(), entries: entries.collect() };
        let set = signer.sign(Message::Set(set), now);
        self.set = Some(set.clone());
        self.until_ms = now.boot_ms.saturating_add(self.window_ms);
        vec![Effect::Broadcast(set)]
    }

    /// A reveal that opens its commitment counts; once all are there the auction need not wait.
    fn reveal(&mut self, envelope: &Envelope, signer: &Signer, now: Now) -> Vec<Effect> {
        let (Message::Reveal(reveal), Some(set)) = (envelope.message(), &self.set) else { return Vec::new() };
        let Some(bidding) = self.bidders.get_mut(&envelope.author()) else { return Vec::new() };
        let good = reveal.set == set.id() && reveal.opens(&bidding.commitment, &envelope.author());
        if !good || bidding.reveal.is_some() {
            return Vec::new();
        }
        bidding.reveal = Some((envelope.clone(), reveal.clone()));
        if self.bidders.values().all(|bidding| bidding.reveal.is_some()) { self.end(signer, now) } else { Vec::new() }
    }

    fn end(&mut self, signer: &Signer, now: Now) -> Vec<Effect> {
        self.ended = true;
        let silent = self.bidders.values().filter(|bidding| bidding.reveal.is_none());
        let unrevealed: Vec<Party> = silent.map(|bidding| bidding.party).collect();
        let Some((award, winner)) = self.award() else { return vec![Effect::Ended(Ending::Nobody { unrevealed })] };
        let price = award.price;
        let award = signer.sign(Message::Award(award), now);
        let transcript = self.transcript(&award);
        vec![Effect::Ended(Ending::Won(Box::new(Won { award, winner, price, unrevealed, transcript })))]
    }

    fn award(&self) -> Option<(Award, Party)> {
        let set = self.set.as_ref()?.id();
        let revealed = || self.bidders.iter().filter_map(|(key, b)| b.reveal.as_ref().map(|r| (*key, b.factor, r)));
        let bids: Vec<Bid> =
            revealed().map(|(bidder, factor, (_, reveal))| Bid { bidder, price: reveal.price, factor }).collect();
        let due = settle(&self.attempt, &bids)?;
        let mut reveals: Vec<EventId> = revealed().map(|(_, _, (envelope, _))| envelope.id()).collect();
        reveals.sort_unstable();
        let award = Award {
            attempt: self.attempt,
            set,
            winner: due.winner,
            price: due.price,
            lease_ms: self.lease_ms,
            transcript: transcript_hash(&self.call.id(), &set, &reveals),
            reveals,
        };
        Some((award, self.bidders.get(&due.winner)?.party))
    }

    fn transcript(&self, award: &Envelope) -> Vec<Envelope> {
        let mut events = vec![self.call.clone()];
        events.extend(self.bidders.values().map(|bidding| bidding.envelope.clone()));
        events.extend(self.set.clone());
        events.extend(self.bidders.values().filter_map(|bidding| bidding.reveal.as_ref().map(|(e, _)| e.clone())));
        events.push(award.clone());
        events
    }
}
