//! Invitations: how a node comes to belong, over a stream on the LAN or over letters alike. Two machines free of I/O.
//!
//! ```text
//! joiner                                   inviter
//!   Ask: name of the invitation, nonce, ──►  limits, card, proof, terms, rights
//!   card, HMAC(code, both sides)             Journal "spent by this one" ── and only then
//!                                            sign the join (9771) and the sealed keys (9772)
//!   ◄── Welcome: log, keys, HMAC(code, …)
//! ```
//!
//! The code never travels. It is spent when its spending is written down, before anything is signed or answered; if the inviter dies then, or
//! the answer is lost, the same joiner asks again and gets the same. Nobody else does.
//!
//! | crashed after | what follows |
//! |---|---|
//! | nothing was journaled | the code is still open; the joiner asks again |
//! | *spent* was journaled | the joiner asks again: the join is signed then |
//! | the join is in the log | the joiner asks again: keys are sealed anew, no second join |
//!
//! To one who names no invitation that was ever made here, the answer on a stream is the same four letters whether or not some are open.

mod inviter;
mod joiner;
mod limit;
mod record;
mod wire;

use libp2p::PeerId;
use nips::federation::{Answer, InvitationId, Refusal};
use nostr::{Event, PublicKey, UnsignedEvent};

pub use inviter::{Ended, Inviter, InviterWorld, Offer};
pub use joiner::{JoinError, Joined, Joiner, JoinerEffect, JoinerInput, may_join};
pub use record::Record;
pub use wire::{Frame, MAX_ASK_FRAME, MAX_WELCOME_FRAME, PROTOCOL};

/// The most codes that are open at once.
pub const MAX_OPEN: usize = 16;
/// After so many wrong proofs an invitation is burnt.
pub const MAX_WRONG_PROOFS: u32 = 5;
/// The most wrong tries of one source in a minute.
pub const MAX_WRONG_OF_ONE: usize = 5;
/// The most wrong tries in a minute in all.
pub const MAX_WRONG_IN_ALL: usize = 30;
/// How long a spent or ended code is remembered after its end, seconds: so that it is told from one that never was.
pub const REMEMBER_S: u64 = 24 * 3600;

/// By which carrier somebody speaks, as authenticated by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// A stream from this transport key.
    Stream(PeerId),
    /// A letter from this passport.
    Letter(PublicKey),
}

/// What comes to an inviter.
#[derive(Debug, Clone)]
pub enum InviterInput<'a> {
    /// Somebody asks (kind 9770).
    Asked {
        /// By which carrier.
        from: Source,
        /// The event, unverified.
        event: &'a Event,
    },
    /// The record that [`InviterEffect::Journal`] gave is on disk.
    Journaled(InvitationId),
    /// The passport signed what [`InviterEffect::Sign`] gave.
    Signed {
        /// Which invitation.
        invitation: InvitationId,
        /// The join, where one was to be signed.
        entry: Option<Box<Event>>,
        /// The sealed keys.
        keys: Box<Event>,
    },
    /// It could not be journaled or signed.
    Failed(InvitationId),
    /// Time has passed.
    Tick,
}

/// What an inviter wants done.
#[derive(Debug, Clone)]
pub enum InviterEffect {
    /// Write this record, then say [`InviterInput::Journaled`]. It holds a secret.
    Journal(Record),
    /// The record is needed no more.
    Forget(InvitationId),
    /// Have the passport sign these, then say [`InviterInput::Signed`].
    Sign {
        /// Which invitation.
        invitation: InvitationId,
        /// The join; none when the joiner belongs already.
        entry: Option<Box<UnsignedEvent>>,
        /// The keys, sealed to the joiner's install key.
        keys: Box<UnsignedEvent>,
    },
    /// Take this entry into the log, keep it and tell the members.
    Entry(Box<Event>),
    /// Keep the joiner's card.
    Card(Box<Event>),
    /// Answer. The install key signs [`Answer::to_event`].
    Welcome {
        /// By which carrier.
        to: Source,
        /// What.
        answer: Box<Answer>,
    },
    /// Refuse. On a stream as [`Frame::No`]; as a letter, [`Answer::Refused`].
    Refuse {
        /// By which carrier.
        to: Source,
        /// Which invitation was named.
        invitation: InvitationId,
        /// Why.
        refusal: Refusal,
    },
}
