//! What the network is started with, and the questions it asks.

use std::time::Duration;

use libp2p::identity::Keypair;
use libp2p::{Multiaddr, PeerId, StreamProtocol};

/// What a peer may do here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// A sibling or a guest whose peer card is valid: gossips and opens member streams.
    Member,
    /// Anyone else: may say hello, and join while an invitation is open.
    Stranger,
    /// Removed or misbehaving: its connections are closed.
    Blocked,
}

/// Answers who a peer is. Asked on the network's own task: an answer must be quick and never wait.
pub trait Gate: Send + Sync + 'static {
    /// The standing of the holder of this transport key, now.
    fn standing(&self, peer: &PeerId) -> Standing;
    /// True while an invitation of this node can be answered.
    fn is_inviting(&self) -> bool;
}

/// The name of a stream protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Protocol(&'static str);

impl Protocol {
    /// The first stream, by which two nodes prove themselves to each other. Open to strangers.
    pub const HELLO: Self = Self("/timmy/hello/1");
    /// An answer to an invitation. Open to strangers while an invitation is open.
    pub const JOIN: Self = Self("/timmy/join/1");
    /// Liveness datagrams, one stream a connection. Driven by [`crate::liveness`].
    pub const LIVE: Self = Self("/timmy/live/1");
    /// Memory reconciliation.
    pub const SYNC: Self = Self("/timmy/sync/1");
    /// Envelopes addressed to one peer.
    pub const ENVELOPE: Self = Self("/timmy/envelope/1");

    /// A protocol of another name; it must begin with `/`, or no stream of it can be opened.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self(name)
    }

    /// The name as it is negotiated.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.0
    }

    /// True for what a stranger may open (an invitation permitting).
    #[must_use]
    pub fn is_for_strangers(self) -> bool {
        self == Self::HELLO || self == Self::JOIN
    }

    pub(crate) fn wire(self) -> StreamProtocol {
        // `StreamProtocol::new` panics at any other name.
        if self.0.starts_with('/') { StreamProtocol::new(self.0) } else { StreamProtocol::new("/invalid") }
    }
}

/// Bounds of connections, each against one way of being flooded.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections in all. A federation has tens of members, each with one connection and for moments two.
    pub connections: u32,
    /// Connections of one peer: one, one more while two simultaneous dials settle, one more as a second path, one spare.
    pub per_peer: u32,
    /// Handshakes in flight, in each direction.
    pub pending: u32,
    /// Strangers' inbound connections in all.
    pub strangers: usize,
    /// Strangers' inbound connections from one address: one flooder must not take every place.
    pub strangers_per_ip: usize,
    /// How long a stranger may stay.
    pub stranger_life: Duration,
    /// How long a stranger may stay while an invitation is open: a person may be typing.
    pub inviting_life: Duration,
    /// Physical memory of the process above which no new connection is taken, in bytes.
    pub memory_bytes: usize,
    /// Streams that one member may have open towards this node.
    pub streams_per_peer: usize,
    /// Dials begun in a minute, those for lost members included.
    pub dials_per_min: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 256,
            per_peer: 4,
            pending: 64,
            strangers: 16,
            strangers_per_ip: 4,
            stranger_life: Duration::from_secs(10),
            inviting_life: Duration::from_secs(60),
            memory_bytes: 4 << 30,
            streams_per_peer: 32,
            dials_per_min: 240,
        }
    }
}

/// How a node takes part in the network.
#[derive(Clone)]
pub struct NetOptions {
    /// The transport key (Ed25519).
    pub keypair: Keypair,
    /// Addresses to listen on; port 0 takes a free one. An IPv6 address with port 0 takes the port of the IPv4
    /// address with port 0 and the same transport, if both are given.
    pub listen: Vec<Multiaddr>,
    /// Gossip topics; every member that meshes subscribes to its own list.
    pub topics: Vec<String>,
    /// Stream protocols that members may open, besides [`Protocol::LIVE`].
    pub protocols: Vec<Protocol>,
    /// Bounds of connections.
    pub limits: Limits,
    /// A connection without streams and mesh is closed after this long.
    pub idle: Duration,
}

impl NetOptions {
    /// Options with the default bounds, listening on every interface, QUIC and TCP, on free ports.
    #[must_use]
    pub fn new(keypair: Keypair) -> Self {
        let listen = ["/ip4/0.0.0.0/udp/0/quic-v1", "/ip4/0.0.0.0/tcp/0", "/ip6/::/udp/0/quic-v1", "/ip6/::/tcp/0"];
        Self {
            keypair,
            listen: listen.iter().filter_map(|a| a.parse().ok()).collect(),
            topics: Vec::new(),
            protocols: vec![Protocol::SYNC, Protocol::ENVELOPE],
            limits: Limits::default(),
            idle: Duration::from_secs(300),
        }
    }
}

impl std::fmt::Debug for NetOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NetOptions")
            .field("listen", &self.listen)
            .field("topics", &self.topics)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}
