//! What people see of sister nodes.

use nostr::PublicKey;

use crate::membership::Standing;
use crate::net::PeerId;

/// How a node is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerState {
    /// On this LAN, and nobody of ours.
    Seen,
    /// Belongs, and is there.
    Member,
    /// Belongs, and is not reached now.
    Lost,
}

/// How a node is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// By a connection on the LAN.
    Lan,
    /// By relays.
    Relay,
}

/// A sister node, or a stranger on the LAN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its passport; none while it is only seen.
    pub passport: Option<PublicKey>,
    /// Its install key, when its card is known.
    pub install: Option<PublicKey>,
    /// Its transport key, once it was met.
    pub peer_id: Option<PeerId>,
    /// What it is in the federation.
    pub standing: Standing,
    /// How it is known.
    pub state: PeerState,
    /// How it is reached.
    pub via: Via,
    /// When something was last heard of it, Unix seconds; 0 when never.
    pub last_seen: u64,
    /// What it can do.
    pub abilities: Vec<String>,
    /// What requesters say about its work; none when nobody said anything.
    pub reputation: Option<crate::reputation::Record>,
}
