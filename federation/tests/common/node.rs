//! A node on loopback whose gate is a list.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use federation::net::{
    Gate, Keypair, Limits, Multiaddr, Net, NetEvent, NetOptions, PeerId, Protocol, Standing, Verdict,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Long enough for the slowest of machines; nothing is measured with it.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub const TASKS: &str = "tasks";
pub const MEMORY: &str = "memory";

/// Who is who, changed while the node runs.
#[derive(Default)]
pub struct List {
    pub members: Mutex<BTreeSet<PeerId>>,
    pub blocked: Mutex<BTreeSet<PeerId>>,
    pub inviting: Mutex<bool>,
}

impl Gate for List {
    fn standing(&self, peer: &PeerId) -> Standing {
        if self.blocked.lock().unwrap().contains(peer) {
            Standing::Blocked
        } else if self.members.lock().unwrap().contains(peer) {
            Standing::Member
        } else {
            Standing::Stranger
        }
    }

    fn is_inviting(&self) -> bool {
        *self.inviting.lock().unwrap()
    }
}

pub struct Node {
    pub net: Net,
    pub events: mpsc::Receiver<NetEvent>,
    pub gate: Arc<List>,
    pub tracker: TaskTracker,
    pub cancel: CancellationToken,
    /// Events that were read while looking for another one.
    pub seen: Vec<NetEvent>,
}

pub fn addr(text: &str) -> Multiaddr {
    text.parse().unwrap()
}

pub fn loopback(quic: bool, tcp: bool) -> Vec<Multiaddr> {
    let quic = quic.then(|| addr("/ip4/127.0.0.1/udp/0/quic-v1"));
    quic.into_iter().chain(tcp.then(|| addr("/ip4/127.0.0.1/tcp/0"))).collect()
}

/// Bounds under which ten nodes may share one address.
pub fn roomy() -> Limits {
    Limits { strangers: 64, strangers_per_ip: 64, stranger_life: PATIENCE, dials_per_min: 10_000, ..Limits::default() }
}

pub fn options(listen: Vec<Multiaddr>) -> NetOptions {
    let mut options = NetOptions::new(Keypair::generate_ed25519());
    options.listen = listen;
    options.topics = vec![TASKS.into(), MEMORY.into()];
    options.limits = roomy();
    options
}

impl Node {
    pub fn start(options: NetOptions) -> Self {
        Self::try_start(options).expect("it listens")
    }

    pub fn try_start(options: NetOptions) -> Result<Self, federation::net::NetError> {
        let gate = Arc::new(List::default());
        let (tracker, cancel) = (TaskTracker::new(), CancellationToken::new());
        let (net, events) = Net::start(options, Arc::clone(&gate) as _, &tracker, cancel.clone())?;
        Ok(Self { net, events, gate, tracker, cancel, seen: Vec::new() })
    }

    pub fn quic() -> Self {
        Self::start(options(loopback(true, false)))
    }

    pub fn id(&self) -> PeerId {
        self.net.peer_id()
    }

    pub fn knows(&self, peer: PeerId) {
        self.gate.members.lock().unwrap().insert(peer);
    }

    /// The first address listened on, once there is one.
    pub async fn addrs(&self) -> Vec<Multiaddr> {
        let wait = async {
            loop {
                let addrs = self.net.listen_addrs().await.unwrap();
                if !addrs.is_empty() {
                    return addrs;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("it listens")
    }

    /// Waits for an event and gives what `pick` makes of it.
    pub async fn wait<T>(&mut self, what: &str, mut pick: impl FnMut(&mut NetEvent) -> Option<T>) -> T {
        let wait = async {
            loop {
                let mut event = self.events.recv().await.expect("the network runs");
                if let Some(found) = pick(&mut event) {
                    return found;
                }
                self.seen.push(event);
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("no {what} within {PATIENCE:?}"))
    }

    pub async fn meshed(&mut self, peer: PeerId) {
        self.wait("mesh", |e| matches!(e, NetEvent::Meshed(p) if *p == peer).then_some(())).await;
    }

    pub async fn disconnected(&mut self, peer: PeerId) {
        self.wait("end of a connection", |e| matches!(e, NetEvent::Disconnected(p) if *p == peer).then_some(())).await;
    }

    /// The next gossip, accepted.
    pub async fn gossip(&mut self) -> Vec<u8> {
        let (data, ticket) = self
            .wait("gossip", |e| match e {
                NetEvent::Gossip { data, ticket, .. } => Some((std::mem::take(data), ticket.clone())),
                _ => None,
            })
            .await;
        self.net.verdict(ticket, Verdict::Accept).await;
        data
    }

    pub async fn stream(&mut self, wanted: Protocol) -> (PeerId, federation::net::PeerStream) {
        let wait = async {
            loop {
                match self.events.recv().await.expect("the network runs") {
                    NetEvent::Stream { peer, protocol, stream } if protocol == wanted => return (peer, stream),
                    other => self.seen.push(other),
                }
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("a stream comes")
    }

    pub async fn stop(self) {
        self.cancel.cancel();
        self.tracker.close();
        tokio::time::timeout(PATIENCE, self.tracker.wait()).await.expect("it stops");
    }
}

/// Makes two nodes members of each other.
pub fn befriend(a: &Node, b: &Node) {
    a.knows(b.id());
    b.knows(a.id());
}

/// Two members, connected and meshed.
pub async fn pair(a: NetOptions, b: NetOptions) -> (Node, Node) {
    let (mut a, mut b) = (Node::start(a), Node::start(b));
    befriend(&a, &b);
    a.net.dial(Some(b.id()), b.addrs().await).await.unwrap();
    let (at_a, at_b) = (a.id(), b.id());
    a.meshed(at_b).await;
    b.meshed(at_a).await;
    (a, b)
}

/// Waits until a condition holds, looking again whenever others had a turn.
pub async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let wait = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("{what}: not within {PATIENCE:?}"));
}
