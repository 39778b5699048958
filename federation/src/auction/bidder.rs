//! The bidder's side of all auctions that a node hears of.

use nips::Msat;
use nips::task::{
    Ability, Attempt, AudienceClass, Award, Call, Commitment, CommitmentSet, Envelope, Epoch, Message, Reason, Refusal,
    Reveal, SizeClass, commitment_hash,
};
use nostr::{EventId, PublicKey};
use serde::{Deserialize, Serialize};

use crate::tasks::{Party, Shelf};

/// Auctions remembered for one requester: far more than it may have open, so that replayed calls find the old ones.
const MAX_BIDS_PER_REQUESTER: usize = 512;
/// Auctions remembered in all: a few hundred bytes each.
const MAX_BIDS: usize = 4_096;

/// The question whether and for what this node would do a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// Install key of whoever asks.
    pub requester: PublicKey,
    /// What is asked for.
    pub attempt: Attempt,
    /// What one must be able to do.
    pub ability: Ability,
    /// How much input there is.
    pub size: SizeClass,
    /// For whom; a guest's task is a stranger's.
    pub audience: AudienceClass,
}

/// What an award means to this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Won: the lease may be taken.
    Won,
    /// Somebody else's.
    NotMine,
    /// It names this node, which has no such bid (any more): a replay, or a bid from before a restart.
    NoBid,
    /// It names this node and does not fit its bid.
    Bad,
}

#[derive(Debug)]
struct Bid {
    epoch: Epoch,
    call: EventId,
    state: State,
}

#[derive(Debug)]
enum State {
    /// The figures are asked for.
    Asked,
    /// The commitment is out.
    Committed { commitment: EventId, price: Msat, nonce: [u8; 32] },
    /// The price is out.
    Revealed { set: EventId, price: Msat },
    /// Not bid, not counted, lost, or won and taken.
    Out,
    /// The requester broke the rules: nothing of this epoch is taken.
    Void,
}

/// All auctions that this node bids in. One bid an epoch of a task; epochs only rise.
#[derive(Debug)]
pub struct Bidder {
    me: PublicKey,
    bids: Shelf<Bid>,
}

impl Bidder {
    /// Without any bid, for the install key `me`.
    pub fn new(me: PublicKey) -> Self {
        Self { me, bids: Shelf::new(MAX_BIDS_PER_REQUESTER, MAX_BIDS) }
    }

    /// A call came: the question to ask oneself, once an epoch.
    pub fn call(&mut self, envelope: &Envelope, call: &Call, from: &Party) -> Option<Ask> {
        let (task, requester) = (call.attempt.task, envelope.author());
        if self.bids.get(task, requester).is_some_and(|bid| bid.epoch >= call.attempt.epoch) {
            return None;
        }
        let bid = Bid { epoch: call.attempt.epoch, call: envelope.id(), state: State::Asked };
        self.bids.insert(task, requester, bid);
        let audience = if from.guest { AudienceClass::Stranger } else { call.audience };
        Some(Ask { requester, attempt: call.attempt, ability: call.ability, size: call.size, audience })
    }

    /// The answer: a price and 32 random bytes, or that it cannot be done. Gives the commitment; the caller signs it and says its id
    /// by [`Bidder::committed`].
    pub fn figures(
        &mut self,
        requester: PublicKey,
        attempt: Attempt,
        offer: Option<(Msat, [u8; 32])>,
    ) -> Option<Commitment> {
        let me = self.me;
        let bid = self.asked(requester, attempt)?;
        let Some((price, nonce)) = offer else {
            bid.state = State::Out;
            return None;
        };
        Some(Commitment { attempt, call: bid.call, hash: commitment_hash(&attempt, &me, price, &nonce) })
    }

    /// The commitment was signed.
    pub fn committed(&mut self, requester: PublicKey, attempt: Attempt, id: EventId, price: Msat, nonce: [u8; 32]) {
        if let Some(bid) = self.asked(requester, attempt) {
            bid.state = State::Committed { commitment: id, price, nonce };
        }
    }

    fn asked(&mut self, requester: PublicKey, attempt: Attempt) -> Option<&mut Bid> {
        let bid = self.bids.get_mut(attempt.task, requester)?;
        (bid.epoch == attempt.epoch && matches!(bid.state, State::Asked)).then_some(bid)
    }

    /// A set came: the reveal, when this node's commitment is in it; a refusal, when it is not the set that was revealed for.
    pub fn set(&mut self, envelope: &Envelope, set: &CommitmentSet) -> Option<Message> {
        let me = self.me;
        let bid = self.bids.get_mut(set.attempt.task, envelope.author())?;
        if bid.epoch != set.attempt.epoch || bid.call != set.call {
            return None;
        }
        match &bid.state {
            State::Committed { commitment, price, nonce } => {
                let mine = set.of(&me).is_some_and(|entry| entry.commitment == *commitment);
                let (price, nonce) = (*price, *nonce);
                bid.state = if mine { State::Revealed { set: envelope.id(), price } } else { State::Out };
                let reveal = Reveal { attempt: set.attempt, set: envelope.id(), price, nonce };
                mine.then_some(Message::Reveal(reveal))
            }
            State::Revealed { set: known, .. } if *known != envelope.id() => {
                let newest = bid.epoch;
                bid.state = State::Void;
                let to = envelope.author();
                let refusal = Refusal { attempt: set.attempt, to, reason: Reason::SetChanged, newest };
                Some(Message::Refusal(refusal))
            }
            State::Asked | State::Revealed { .. } | State::Out | State::Void => None,
        }
    }

    /// An award came. A bid is used up by it, so the same award twice is won once.
    pub fn award(&mut self, envelope: &Envelope, award: &Award) -> Verdict {
        let for_me = award.winner == self.me;
        let missing = if for_me { Verdict::NoBid } else { Verdict::NotMine };
        let Some(bid) = self.bids.get_mut(award.attempt.task, envelope.author()) else { return missing };
        if bid.epoch != award.attempt.epoch {
            return missing;
        }
        let fits = matches!(bid.state, State::Revealed { set, price } if set == award.set && award.price >= price)
            && award.is_about(&bid.call);
        match bid.state {
            State::Out => missing,
            State::Asked | State::Committed { .. } | State::Revealed { .. } | State::Void if !for_me => {
                bid.state = State::Out;
                Verdict::NotMine
            }
            State::Revealed { .. } if fits => {
                bid.state = State::Out;
                Verdict::Won
            }
            State::Asked | State::Committed { .. } | State::Revealed { .. } | State::Void => Verdict::Bad,
        }
    }
}
