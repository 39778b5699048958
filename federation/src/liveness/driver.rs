//! Runs the liveness machine on the links of the network.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use libp2p::PeerId;
use libp2p::futures::io::{AsyncReadExt, ReadHalf, WriteHalf};
use libp2p::swarm::ConnectionId;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::machine::{Effect, Input, LivenessEvent, LivenessState, Machine};
use super::mailbox::Mailbox;
use super::paths::{Advice, LinkId};
use super::swim::MAX_DATAGRAM;
use crate::net::{FrameReader, FrameWriter, Link, Net, PeerStream};

/// Datagrams received that wait for the machine, from all links. Readers wait when it is full.
const RECEIVED: usize = 256;
/// Events that wait for their owner.
const EVENTS: usize = 256;
/// Events that wait beyond that; then the oldest are given up, and [`Liveness::states`] still tells the truth.
const WAITING: usize = 1_024;
/// Commands of the handle.
const COMMANDS: usize = 64;
/// A datagram that a link has not taken after this long means that the link is stuck.
const WRITE: Duration = Duration::from_secs(10);
/// A datagram must be whole within this.
const READ: Duration = Duration::from_secs(10);
/// How long the farewell may take.
const FAREWELL: Duration = Duration::from_millis(200);

/// How liveness is started.
#[derive(Clone, Copy, Debug)]
pub struct LivenessOptions {
    /// Later at each start of this node: Unix milliseconds.
    pub start_ms: u64,
    /// Seeds the choice of whom to probe.
    pub seed: u64,
}

enum Command {
    Forget(PeerId),
}

/// Speaks with the running failure detector.
#[derive(Clone, Debug)]
pub struct Liveness {
    commands: mpsc::Sender<Command>,
    states: watch::Receiver<BTreeMap<PeerId, LivenessState>>,
}

impl Liveness {
    /// Starts the detector on the links of `net`; runs in `tracker` until `cancel`. `None` when the links of this
    /// network have been taken before.
    pub async fn start(
        net: &Net,
        options: LivenessOptions,
        tracker: &TaskTracker,
        cancel: CancellationToken,
    ) -> Option<(Self, mpsc::Receiver<LivenessEvent>)> {
        let links = net.links().await?;
        let (commands, asked) = mpsc::channel(COMMANDS);
        let (events, told) = mpsc::channel(EVENTS);
        let (publish, states) = watch::channel(BTreeMap::new());
        let driver = Driver::new(net.clone(), options, events, publish);
        tracker.spawn(driver.run(links, asked, cancel));
        Some((Self { commands, states }, told))
    }

    /// What each member is taken for, now.
    #[must_use]
    pub fn states(&self) -> BTreeMap<PeerId, LivenessState> {
        self.states.borrow().clone()
    }

    /// Nothing more is told of a member that was removed.
    pub async fn forget(&self, peer: PeerId) {
        // A detector that has stopped tells nothing of anyone.
        let _ = self.commands.send(Command::Forget(peer)).await;
    }
}

struct Open {
    peer: PeerId,
    id: ConnectionId,
    mailbox: Mailbox,
}

/// A datagram, or the end of a link.
type Received = (LinkId, Option<Vec<u8>>);

struct Driver {
    net: Net,
    machine: Machine,
    began: Instant,
    open: BTreeMap<LinkId, Open>,
    next: LinkId,
    tasks: JoinSet<()>,
    received: (mpsc::Sender<Received>, mpsc::Receiver<Received>),
    told: Told,
    states: watch::Sender<BTreeMap<PeerId, LivenessState>>,
}

/// Events on their way to an owner that may be slow.
struct Told {
    events: mpsc::Sender<LivenessEvent>,
    waiting: VecDeque<LivenessEvent>,
}

impl Told {
    fn push(&mut self, event: LivenessEvent) {
        tracing::debug!(?event, "liveness");
        if self.waiting.is_empty() && self.events.try_send(event).is_ok() {
            return;
        }
        if self.waiting.len() == WAITING {
            self.waiting.pop_front();
        }
        self.waiting.push_back(event);
    }

    /// Waits for room and hands over the oldest event. Cancel-safe.
    async fn flush(&mut self) {
        match self.events.reserve().await {
            Ok(permit) => {
                if let Some(event) = self.waiting.pop_front() {
                    permit.send(event);
                }
            }
            Err(_) => self.waiting.clear(),
        }
    }
}

impl Driver {
    fn new(
        net: Net,
        options: LivenessOptions,
        events: mpsc::Sender<LivenessEvent>,
        states: watch::Sender<BTreeMap<PeerId, LivenessState>>,
    ) -> Self {
        Self {
            machine: Machine::new(net.peer_id(), options.start_ms, options.seed, 0),
            net,
            began: Instant::now(),
            open: BTreeMap::new(),
            next: 0,
            tasks: JoinSet::new(),
            received: mpsc::channel(RECEIVED),
            told: Told { events, waiting: VecDeque::new() },
            states,
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    async fn run(
        mut self,
        mut links: mpsc::Receiver<Link>,
        mut asked: mpsc::Receiver<Command>,
        cancel: CancellationToken,
    ) {
        loop {
            let wake = self.began + Duration::from_millis(self.machine.wake_ms());
            tokio::select! {
                () = cancel.cancelled() => break,
                link = links.recv() => match link {
                    Some(link) => self.on_link(link).await,
                    None => break,
                },
                Some((link, frame)) = self.received.1.recv() => self.on_received(link, frame).await,
                Some(Command::Forget(peer)) = asked.recv() => self.feed(Input::Forget { peer }).await,
                Some(_) = self.tasks.join_next() => {}
                () = self.told.flush(), if !self.told.waiting.is_empty() => {}
                () = tokio::time::sleep_until(wake.into()) => self.feed(Input::Wake).await,
            }
        }
        self.farewell().await;
    }

    async fn on_link(&mut self, link: Link) {
        match link {
            Link::Up { peer, id, stream } => {
                let link = self.next;
                self.next += 1;
                self.open_link(link, peer, id, stream);
                self.feed(Input::LinkUp { link, peer }).await;
            }
            Link::Down { id, .. } => {
                let gone: Vec<LinkId> = self.open.iter().filter(|(_, o)| o.id == id).map(|(link, _)| *link).collect();
                for link in gone {
                    self.end_link(link).await;
                }
            }
        }
    }

    fn open_link(&mut self, link: LinkId, peer: PeerId, id: ConnectionId, stream: PeerStream) {
        let (from, to) = stream.split();
        let mailbox = Mailbox::default();
        let reader = FrameReader::new(from, MAX_DATAGRAM + 1, READ);
        let writer = FrameWriter::new(to, MAX_DATAGRAM + 1, WRITE);
        self.tasks.spawn(read(link, reader, self.received.0.clone()));
        self.tasks.spawn(write(writer, mailbox.clone()));
        self.open.insert(link, Open { peer, id, mailbox });
    }

    async fn end_link(&mut self, link: LinkId) {
        if let Some(open) = self.open.remove(&link) {
            open.mailbox.close();
            self.feed(Input::LinkDown { link }).await;
        }
    }

    async fn on_received(&mut self, link: LinkId, frame: Option<Vec<u8>>) {
        match frame {
            Some(bytes) => self.feed(Input::Frame { link, bytes: &bytes }).await,
            None => {
                // Its stream ended while its connection may stand: a peer that ended liveness on purpose.
                self.end_link(link).await;
            }
        }
    }

    async fn feed(&mut self, input: Input<'_>) {
        let now = self.now();
        let effects = self.machine.handle(input, now);
        for effect in effects {
            self.carry_out(effect).await;
        }
        let states = self.machine.states();
        self.states.send_if_modified(|old| {
            let changed = *old != states;
            *old = states;
            changed
        });
    }

    async fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Send { link, bytes } => {
                if let Some(open) = self.open.get(&link) {
                    open.mailbox.push(bytes);
                }
            }
            Effect::Tell(event) => self.told.push(event),
            Effect::Path(Advice::SecondPath { peer }) => self.net.second_path(peer).await,
            Effect::Path(Advice::HangUp { peer }) => {
                let links: Vec<LinkId> =
                    self.open.iter().filter(|(_, o)| o.peer == peer).map(|(link, _)| *link).collect();
                for link in links {
                    self.end_closed(link);
                }
                self.net.hang_up(peer).await;
            }
            Effect::Path(Advice::Silent { link, silent }) => {
                if let Some(open) = self.open.get(&link) {
                    self.net.silent(open.id, silent).await;
                }
            }
            Effect::Path(Advice::Close { link }) => {
                if let Some(open) = self.open.get(&link) {
                    self.net.close(open.id).await;
                }
                self.end_closed(link);
            }
            Effect::Rtt { link, ms } => {
                if let Some(open) = self.open.get(&link) {
                    self.net.note_rtt(open.id, Duration::from_millis(ms)).await;
                }
            }
        }
    }

    /// A link that the machine gave up: its end is no news to it.
    fn end_closed(&mut self, link: LinkId) {
        if let Some(open) = self.open.remove(&link) {
            open.mailbox.close();
            let now = self.now();
            // Forgetting a link has no effects.
            drop(self.machine.handle(Input::LinkDown { link }, now));
        }
    }

    /// Tells the others that this node leaves, as far as they take it in a moment.
    async fn farewell(mut self) {
        self.feed(Input::Leave).await;
        for open in self.open.values() {
            open.mailbox.close();
        }
        drop(self.received);
        let sent = async { while self.tasks.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(FAREWELL, sent).await;
    }
}

async fn read(link: LinkId, mut from: FrameReader<ReadHalf<PeerStream>>, to: mpsc::Sender<Received>) {
    while let Ok(Some(frame)) = from.next_patient().await {
        if to.send((link, Some(frame))).await.is_err() {
            return;
        }
    }
    let _ = to.send((link, None)).await;
}

async fn write(mut to: FrameWriter<WriteHalf<PeerStream>>, mailbox: Mailbox) {
    while let Some(bytes) = mailbox.pop().await {
        if to.send(&bytes).await.is_err() {
            return;
        }
    }
    let _ = to.close().await;
}
