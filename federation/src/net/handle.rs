//! The handle to the network.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use libp2p::swarm::ConnectionId;
use libp2p::{Multiaddr, PeerId};
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::command::Command;
use super::driver::Driver;
use super::events::{Link, NetEvent, Rtt, Ticket, Verdict};
use super::options::{Gate, NetOptions, Protocol};
use super::stats::{Counters, NetStats};
use super::stream::PeerStream;

/// Commands that wait for the driver: one for each task of a node that may ask at a time, with room.
const COMMANDS: usize = 256;
/// Events that wait for their owner: gossip of some seconds at 200 a second.
pub(crate) const EVENTS: usize = 1_024;
/// Links that wait for liveness: two connections for each of a hundred members.
const LINKS: usize = 256;
/// How long a stream may take to open, a missing admission by the other side included.
const OPEN_PATIENCE: Duration = Duration::from_secs(8);

/// Why the network refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// The transports could not be made.
    #[error("the transport could not be set up: {0}")]
    Transport(String),
    /// Gossip refused a setting or a message.
    #[error("gossip: {0}")]
    Gossip(String),
    /// An address could not be listened on.
    #[error("cannot listen on {addr}")]
    Listen {
        /// The address.
        addr: Multiaddr,
        /// The transport's reason.
        #[source]
        source: libp2p::TransportError<std::io::Error>,
    },
    /// A dial was not begun.
    #[error("cannot dial: {0}")]
    Dial(String),
    /// A message is larger than gossip carries.
    #[error("a gossip message of {len} bytes is longer than {max}")]
    TooLarge {
        /// Its length in bytes.
        len: usize,
        /// The bound in bytes.
        max: usize,
    },
    /// The network has been shut down.
    #[error("the network is shut down")]
    Stopped,
}

/// Why a stream was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is no connection (for a member protocol: none on which both sides have admitted each other).
    #[error("not connected to {0}")]
    NotConnected(PeerId),
    /// The other side does not take this protocol from us.
    #[error("the peer does not take {0}")]
    Unsupported(&'static str),
    /// The connection broke, or took too long.
    #[error("the stream could not be opened: {0}")]
    Broken(String),
    /// Too many streams are open on this connection.
    #[error("too many streams are open to {0}")]
    TooMany(PeerId),
    /// The network has been shut down.
    #[error("the network is shut down")]
    Stopped,
}

/// A connected peer.
#[derive(Clone, Debug)]
pub struct PeerInfo {
    /// Its transport key.
    pub peer: PeerId,
    /// The addresses of its connections, the best first.
    pub addrs: Vec<Multiaddr>,
    /// True when the best connection is QUIC, false when it is TCP.
    pub quic: bool,
    /// True when both sides have admitted each other.
    pub meshed: bool,
    /// When the oldest connection began.
    pub since: SystemTime,
    /// The round trip of the best connection, once measured.
    pub rtt: Option<Duration>,
}

/// Speaks with the network. Clones speak with the same one.
#[derive(Clone, Debug)]
pub struct Net {
    me: PeerId,
    commands: mpsc::Sender<Command>,
    counters: Arc<Counters>,
    links: Arc<Mutex<Option<mpsc::Receiver<Link>>>>,
}

impl Net {
    /// Starts the network: listens, and runs its driver in `tracker` until `cancel`.
    ///
    /// The receiver must be read: gossip and streams that do not fit are dropped and counted.
    ///
    /// # Errors
    /// [`NetError::Transport`], [`NetError::Gossip`] or [`NetError::Listen`].
    pub fn start(
        options: NetOptions,
        gate: Arc<dyn Gate>,
        tracker: &TaskTracker,
        cancel: CancellationToken,
    ) -> Result<(Self, mpsc::Receiver<NetEvent>), NetError> {
        let me = options.keypair.public().to_peer_id();
        let counters = Arc::new(Counters::default());
        let (commands, asked) = mpsc::channel(COMMANDS);
        let (events, told) = mpsc::channel(EVENTS);
        let (links, linked) = mpsc::channel(LINKS);
        let driver = Driver::new(options, gate, Arc::clone(&counters), events, links)?;
        tracker.spawn(driver.run(asked, cancel));
        let links = Arc::new(Mutex::new(Some(linked)));
        Ok((Self { me, commands, counters, links }, told))
    }

    /// This node's own PeerId.
    #[must_use]
    pub fn peer_id(&self) -> PeerId {
        self.me
    }

    /// The links for liveness; once. Without a taker no liveness stream is ever opened.
    pub async fn links(&self) -> Option<mpsc::Receiver<Link>> {
        self.links.lock().await.take()
    }

    /// Opens a stream to a connected peer.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open(&self, peer: PeerId, protocol: Protocol) -> Result<PeerStream, OpenError> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::Open { peer, protocol, reply }).await.map_err(|_| OpenError::Stopped)?;
        match tokio::time::timeout(OPEN_PATIENCE, answer).await {
            Ok(answer) => answer.map_err(|_| OpenError::Broken("the connection was lost".into()))?,
            Err(_) => Err(OpenError::Broken(format!("nothing within {OPEN_PATIENCE:?}"))),
        }
    }

    /// Begins to dial. Without a peer, whoever answers is taken. Known addresses are tried too. Success and
    /// failure come as events. A peer that is connected or being dialed is not dialed again.
    ///
    /// # Errors
    /// [`NetError::Dial`] when the dial was not begun.
    pub async fn dial(&self, peer: Option<PeerId>, addrs: Vec<Multiaddr>) -> Result<(), NetError> {
        self.ask(|reply| Command::Dial { peer, addrs, reply }).await?
    }

    /// Notes addresses of a peer for later dials.
    pub async fn add_addrs(&self, peer: PeerId, addrs: Vec<Multiaddr>) {
        self.tell(Command::AddAddrs { peer, addrs }).await;
    }

    /// Closes every connection to a peer, and does not dial it again by itself.
    pub async fn disconnect(&self, peer: PeerId) {
        self.tell(Command::Disconnect { peer }).await;
    }

    /// The gate's answer about this peer has changed: admits a new member, closes the connections of a blocked
    /// one, and those of one that is a member no more.
    pub async fn reconsider(&self, peer: PeerId) {
        self.tell(Command::Reconsider { peer }).await;
    }

    /// Gossips to the members. While none is there the message is kept for the first that comes, for a minute.
    /// The same bytes within a minute are sent once.
    ///
    /// # Errors
    /// [`NetError::TooLarge`], [`NetError::Gossip`].
    pub async fn publish(&self, topic: &str, data: Vec<u8>) -> Result<(), NetError> {
        let topic = topic.to_owned();
        self.ask(|reply| Command::Publish { topic, data, reply }).await?
    }

    /// Decides about a gossip message. One that comes too late does nothing.
    pub async fn verdict(&self, ticket: Ticket, verdict: Verdict) {
        self.tell(Command::Verdict { ticket, verdict }).await;
    }

    /// The peers that are connected, by PeerId.
    ///
    /// # Errors
    /// [`NetError::Stopped`].
    pub async fn peers(&self) -> Result<Vec<PeerInfo>, NetError> {
        self.ask(|reply| Command::Peers { reply }).await
    }

    /// The addresses that are listened on, without `/p2p`.
    ///
    /// # Errors
    /// [`NetError::Stopped`].
    pub async fn listen_addrs(&self) -> Result<Vec<Multiaddr>, NetError> {
        self.ask(|reply| Command::ListenAddrs { reply }).await
    }

    /// The counters.
    #[must_use]
    pub fn stats(&self) -> NetStats {
        self.counters.snapshot()
    }

    /// Dials a peer on another path than the one that is silent.
    pub(crate) async fn second_path(&self, peer: PeerId) {
        self.tell(Command::SecondPath { peer }).await;
    }

    pub(crate) async fn silent(&self, id: ConnectionId, silent: bool) {
        self.tell(Command::Silent { id, silent }).await;
    }

    pub(crate) async fn close(&self, id: ConnectionId) {
        self.tell(Command::Close { id }).await;
    }

    pub(crate) async fn hang_up(&self, peer: PeerId) {
        self.tell(Command::HangUp { peer }).await;
    }

    pub(crate) async fn note_rtt(&self, id: ConnectionId, rtt: Duration) {
        self.tell(Command::Rtt(Rtt { id, rtt })).await;
    }

    async fn tell(&self, command: Command) {
        // A driver that has stopped has nothing left to do it to.
        let _ = self.commands.send(command).await;
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, NetError> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| NetError::Stopped)?;
        answer.await.map_err(|_| NetError::Stopped)
    }
}
