//! What the handle asks of the driver.

use libp2p::swarm::ConnectionId;
use libp2p::{Multiaddr, PeerId};
use tokio::sync::oneshot;

use super::events::{Rtt, Ticket, Verdict};
use super::handle::{NetError, OpenError, PeerInfo};
use super::options::Protocol;
use super::stream::PeerStream;

pub(crate) type Opened = oneshot::Sender<Result<PeerStream, OpenError>>;

pub(crate) enum Command {
    Open {
        peer: PeerId,
        protocol: Protocol,
        reply: Opened,
    },
    Dial {
        peer: Option<PeerId>,
        addrs: Vec<Multiaddr>,
        reply: oneshot::Sender<Result<(), NetError>>,
    },
    /// Opens a second path to a peer whose first is silent.
    SecondPath {
        peer: PeerId,
    },
    /// Nothing was heard on a connection for a while, or something is heard again.
    Silent {
        id: ConnectionId,
        silent: bool,
    },
    AddAddrs {
        peer: PeerId,
        addrs: Vec<Multiaddr>,
    },
    Disconnect {
        peer: PeerId,
    },
    Close {
        id: ConnectionId,
    },
    /// The peer is dead: every connection to it is closed, and it is dialed again.
    HangUp {
        peer: PeerId,
    },
    /// The gate's answer about a peer has changed.
    Reconsider {
        peer: PeerId,
    },
    Publish {
        topic: String,
        data: Vec<u8>,
        reply: oneshot::Sender<Result<(), NetError>>,
    },
    Verdict {
        ticket: Ticket,
        verdict: Verdict,
    },
    Peers {
        reply: oneshot::Sender<Vec<PeerInfo>>,
    },
    ListenAddrs {
        reply: oneshot::Sender<Vec<Multiaddr>>,
    },
    Rtt(Rtt),
}
