//! What the network tells its owner.

use std::time::Duration;

use libp2p::gossipsub::{MessageAcceptance, MessageId};
use libp2p::swarm::ConnectionId;
use libp2p::{Multiaddr, PeerId};

use super::options::{Protocol, Standing};
use super::stream::PeerStream;

/// Something that happened on the network.
#[derive(Debug)]
pub enum NetEvent {
    /// This node can be reached at a new address.
    Listening(Multiaddr),
    /// An address is gone (its interface went down).
    NotListening(Multiaddr),
    /// The first connection to a peer exists. Nothing is known of it but its key.
    Connected {
        /// The peer.
        peer: PeerId,
        /// Its address as seen from here.
        addr: Multiaddr,
        /// True when this node dialed.
        dialed: bool,
        /// What the gate said of it.
        standing: Standing,
    },
    /// Both sides have admitted each other and the peer has told its topics: gossip flows, member streams open.
    Meshed(PeerId),
    /// The last connection to a peer is gone.
    Disconnected(PeerId),
    /// A dial failed at every address.
    DialFailed {
        /// The peer, when it was named.
        peer: Option<PeerId>,
        /// Why, in libp2p's words.
        why: String,
    },
    /// A peer opened a stream.
    Stream {
        /// The peer.
        peer: PeerId,
        /// The protocol it chose.
        protocol: Protocol,
        /// The stream.
        stream: PeerStream,
    },
    /// A gossiped message that waits for a verdict before it is passed on.
    Gossip {
        /// The member that handed it to us.
        peer: PeerId,
        /// The topic.
        topic: String,
        /// The bytes, at most 64 KiB.
        data: Vec<u8>,
        /// What [`super::Net::verdict`] takes.
        ticket: Ticket,
    },
}

/// Names one received gossip message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    pub(crate) id: MessageId,
    pub(crate) from: PeerId,
}

/// What is to become of a gossip message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Pass it on.
    Accept,
    /// Drop it, nobody's fault.
    Ignore,
    /// Drop it and count it against the member that sent it.
    Reject,
}

impl From<Verdict> for MessageAcceptance {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Accept => Self::Accept,
            Verdict::Ignore => Self::Ignore,
            Verdict::Reject => Self::Reject,
        }
    }
}

/// What liveness hears of connections.
#[derive(Debug)]
pub enum Link {
    /// A connection on which both sides have admitted each other, with its liveness stream.
    Up {
        /// The peer.
        peer: PeerId,
        /// The connection.
        id: ConnectionId,
        /// The stream of [`Protocol::LIVE`].
        stream: PeerStream,
    },
    /// A connection is gone.
    Down {
        /// The peer.
        peer: PeerId,
        /// The connection.
        id: ConnectionId,
    },
}

/// The round trip of one connection, as liveness measured it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rtt {
    pub(crate) id: ConnectionId,
    pub(crate) rtt: Duration,
}
