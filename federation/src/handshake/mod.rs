//! The handshake `/timmy/hello/1`: the first stream between two nodes, free of I/O.
//!
//! ```text
//! dialer                                  listener
//!   HELLO nonce ──────────────────────────►
//!   ◄────────────────────────── HELLO nonce
//!   PROOFS 64 tags ───────────────────────►   one of them is by a key that is here, or: NO stranger
//!   ◄──────────── PROOF mac, any│first, heads
//!   CARD, or YOU ─────────────────────────►   (after YOU the two sides change places below)
//!   ◄────────────────────── CARD, log, keys   or: NO removed
//!   MORE log, keys ───────────────────────►
//! ```
//!
//! A tag is HMAC(key, role ‖ both PeerIds ‖ nonces) for a key of some epoch. The PeerIds are those that the transport has authenticated, so a proof
//! is good on this very stream alone, cannot be sent back, and cannot be passed on. Before its proof nobody sees anything but random
//! bytes: 64 tags are sent however many keys there are, so not even the number of the epoch shows.
//!
//! **Who shows its card first**: whoever is behind. A key older than the log's epoch may be a removed node's, so the side whose newest key
//! was *not* the one they had in common asks the other to show first; a removed node gets `NO removed` and nothing else. When both hold keys that
//! the other lacks (two removals made apart), the dialer shows first.
//!
//! A card counts when its signatures hold, it is of *this* PeerId, it has not ended, no newer card of its passport is known, and the log says
//! that the passport belongs. The log is what is known here plus what the other brings, since a new member is often ahead of its own news.

mod machine;
mod message;

use libp2p::PeerId;
use nips::PeerCard;
use nips::federation::Role;
use nostr::{Event, PublicKey, RelayUrl};
use serde::{Deserialize, Serialize};

pub use machine::Handshake;

use crate::keyring::{Circle, Keyring, SealedKeys};
use crate::membership::{Log, Standing};

/// The protocol's name on a stream.
pub const PROTOCOL: &str = "/timmy/hello/1";
/// The largest frame before the other has proved a key, bytes: 64 tags in hex are 2 KiB.
pub const MAX_EARLY_FRAME: usize = 4 * 1024;
/// The largest frame after that, bytes: a whole membership log, eight sets of sealed keys and a card.
pub const MAX_FRAME: usize = 640 * 1024;
/// How long a handshake may take, milliseconds.
pub const TIMEOUT_MS: u64 = 10_000;
/// How many tags a dialer sends: two keys for each of 32 epochs.
pub const TAGS: usize = 64;

/// Why a handshake ends without a peer. `Stranger` and `Removed` and the like travel as `["NO", code]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum Refusal {
    /// No key in common: the other knows nobody like this. Nothing was told.
    #[error("the peer belongs to no federation of ours")]
    Stranger,
    /// The passport was removed.
    #[error("this passport was removed from the federation")]
    Removed,
    /// The key is good and the log does not know the passport.
    #[error("the membership log does not know this passport")]
    Unknown,
    /// The card is not good: a signature, its end, or another PeerId.
    #[error("the peer card is not good")]
    Card,
    /// A newer card of the same passport is known.
    #[error("a newer peer card of this passport is known: this install speaks for it no more")]
    Superseded,
    /// The same passport as the one that reads it: a copy of a data folder.
    #[error("both sides have one passport: a copy of this node runs elsewhere")]
    Twin,
    /// A message out of turn, malformed or too large.
    #[error("the peer does not speak this protocol")]
    Protocol,
    /// It took too long.
    #[error("the peer did not answer in time")]
    Timeout,
}

/// What a node says of itself.
#[derive(Debug, Clone)]
pub struct Me {
    /// Its passport.
    pub passport: PublicKey,
    /// Its install key.
    pub install: PublicKey,
    /// Its transport key.
    pub peer_id: PeerId,
    /// Its signed peer card.
    pub card: Event,
    /// Where it listens; at most eight are sent.
    pub addresses: Vec<String>,
    /// Where it reads; at most eight are sent.
    pub relays: Vec<RelayUrl>,
}

/// What the machine looks things up in; it changes nothing there.
#[derive(Clone, Copy)]
pub struct World<'a> {
    /// This node.
    pub me: &'a Me,
    /// Who belongs, as far as is known here.
    pub log: &'a Log,
    /// The keys.
    pub keyring: &'a Keyring,
    /// Sealed keys to be handed on.
    pub sealed: &'a SealedKeys,
    /// The newest card known of each passport.
    pub cards: &'a dyn KnownCards,
}

/// The newest cards that are known.
pub trait KnownCards {
    /// The card with the highest sequence number of a passport, whether or not it has ended.
    fn newest(&self, passport: &PublicKey) -> Option<PeerCard>;
}

/// What comes in.
#[derive(Debug, Clone)]
pub enum Input<'a> {
    /// A frame from the other.
    Frame(&'a [u8]),
    /// Time has passed.
    Tick,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Send this frame.
    Send(Vec<u8>),
    /// Entries that were new here, causes before effects: to be taken into the log and kept.
    Entries(Vec<Event>),
    /// Sealed keys (kind 9772): to be taken by [`SealedKeys::take`] after the entries, and opened.
    Keys(Vec<Event>),
    /// A passport's card was seen that is newer than what was known: to be kept.
    Card(Box<Event>),
    /// The other belongs and did not prove the present keys of its role, and no copy of them for it is here, or perhaps one of a role that it had
    /// before. If this node is an admin: seal them by [`crate::keyring::seal_to`], keep the event in [`SealedKeys`] and send it.
    SealTo {
        /// Its install key.
        install: PublicKey,
        /// As what.
        role: Role,
    },
    /// Our own passport with another install: to be told to the owner.
    Twin(Box<PeerCard>),
    /// Done: the stream may be closed, the peer is this.
    Done(Box<Peer>),
    /// Over without a peer; close the stream, after what is to be sent.
    Refused(Refusal),
}

/// A peer that is who it says.
#[derive(Debug, Clone, PartialEq)]
pub struct Peer {
    /// Its checked card: passport, install, PeerId, abilities.
    pub card: PeerCard,
    /// What it is in the federation.
    pub standing: Standing,
    /// The key it proved: only siblings can prove the siblings'.
    pub circle: Circle,
    /// True when that key is current.
    pub is_current: bool,
    /// Where it listens.
    pub addresses: Vec<String>,
    /// Where it reads.
    pub relays: Vec<RelayUrl>,
}
