//! The one task that owns the swarm.

mod commands;
mod dialing;
mod listening;
mod queue;
mod swarming;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use libp2p::core::transport::ListenerId;
use libp2p::futures::StreamExt;
use libp2p::swarm::ConnectionId;
use libp2p::{Multiaddr, PeerId, Swarm};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::behaviour::{self, Behaviour};
use super::book::Book;
use super::command::Command;
use super::events::{Link, NetEvent};
use super::handle::NetError;
use super::links::Links;
use super::options::{Gate, Limits, NetOptions};
use super::outbox::Outbox;
use super::redial::Redial;
use super::stats::Counters;
use dialing::{Attempt, DialBudget};
use listening::Twins;
use queue::EventQueue;

/// How often connections are looked after.
const TICK: Duration = Duration::from_millis(250);
/// A member that tells no topics for this long has none.
const TOPICS: Duration = Duration::from_secs(1);
/// Streams may end what they were saying for this long after a shutdown has begun.
const LAST_WORDS: Duration = Duration::from_millis(150);
/// How long a shutdown waits for connections to say goodbye.
const GOODBYE: Duration = Duration::from_millis(500);

/// What a task of the driver ended with.
enum Done {
    Nothing,
    Live(Box<Link>),
}

pub(crate) struct Driver {
    swarm: Swarm<Behaviour>,
    gate: Arc<dyn Gate>,
    limits: Limits,
    topics: Vec<String>,
    counters: Arc<Counters>,
    events: EventQueue,
    links_to: mpsc::Sender<Link>,
    links: Links,
    book: Book,
    redial: Redial,
    outbox: Outbox,
    budget: DialBudget,
    /// Addresses still to be tried of a dial without a PeerId, by the attempt that runs.
    attempts: BTreeMap<ConnectionId, Attempt>,
    listeners: Vec<(ListenerId, Multiaddr)>,
    /// Addresses whose listener failed.
    to_listen: Vec<Multiaddr>,
    twins: Twins,
    /// Peers that have begun and not yet told their topics, and since when.
    quiet: BTreeMap<PeerId, Instant>,
    tasks: JoinSet<Done>,
    connections: TaskTracker,
}

impl Driver {
    pub(crate) fn new(
        options: NetOptions,
        gate: Arc<dyn Gate>,
        counters: Arc<Counters>,
        events: mpsc::Sender<NetEvent>,
        links_to: mpsc::Sender<Link>,
    ) -> Result<Self, NetError> {
        let connections = TaskTracker::new();
        let swarm = behaviour::swarm(&options, &gate, &counters, connections.clone())?;
        let mut driver = Self {
            links: Links::new(*swarm.local_peer_id()),
            swarm,
            gate,
            budget: DialBudget::new(options.limits.dials_per_min),
            limits: options.limits,
            topics: options.topics,
            events: EventQueue::new(events, Arc::clone(&counters)),
            counters,
            links_to,
            book: Book::default(),
            redial: Redial::default(),
            outbox: Outbox::default(),
            attempts: BTreeMap::new(),
            listeners: Vec::new(),
            to_listen: Vec::new(),
            twins: Twins::default(),
            quiet: BTreeMap::new(),
            tasks: JoinSet::new(),
            connections,
        };
        driver.listen(options.listen)?;
        Ok(driver)
    }

    pub(crate) async fn run(mut self, mut asked: mpsc::Receiver<Command>, cancel: CancellationToken) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = cancel.cancelled() => break,
                command = asked.recv() => match command {
                    Some(command) => self.on_command(command),
                    None => break,
                },
                event = self.swarm.select_next_some() => self.on_swarm(event),
                () = self.events.flush(), if self.events.is_waiting() => {}
                Some(done) = self.tasks.join_next() => self.on_done(done.unwrap_or(Done::Nothing)),
                _ = tick.tick() => self.on_tick(Instant::now()),
            }
        }
        self.goodbye().await;
    }

    fn on_done(&mut self, done: Done) {
        match done {
            Done::Nothing => {}
            Done::Live(link) => self.tell_link(*link),
        }
    }

    /// Liveness that has fallen behind loses a link's stream; the link is then silent, and closed.
    fn tell_link(&self, link: Link) {
        if self.links_to.try_send(link).is_err() {
            tracing::debug!("liveness takes no links");
        }
    }

    fn on_tick(&mut self, now: Instant) {
        for id in self.links.settle(now) {
            tracing::debug!(%id, "closing one of two connections to a peer");
            self.swarm.close_connection(id);
        }
        for id in self.links.never_meshed(now) {
            self.swarm.close_connection(id);
        }
        let life = if self.gate.is_inviting() { self.limits.inviting_life } else { self.limits.stranger_life };
        for id in self.links.overstayed(now, life) {
            super::stats::count(&self.counters.strangers_expired);
            self.swarm.close_connection(id);
        }
        for peer in self.redial.due(now, rand::random()) {
            self.dial_again(peer, now);
        }
        let quiet: Vec<PeerId> = self.quiet.iter().filter(|(_, s)| now - **s >= TOPICS).map(|(p, _)| *p).collect();
        for peer in quiet {
            self.on_topics(peer);
        }
        self.dial_next(now);
        self.listen_again(now);
    }

    /// Closes every connection so that the peers need not find out by themselves.
    async fn goodbye(mut self) {
        let last_words = async {
            loop {
                self.swarm.select_next_some().await;
            }
        };
        let _ = tokio::time::timeout(LAST_WORDS, last_words).await;
        let peers: Vec<PeerId> = self.swarm.connected_peers().copied().collect();
        for peer in peers {
            let _ = self.swarm.disconnect_peer_id(peer);
        }
        let closed = async {
            while self.swarm.connected_peers().next().is_some() {
                self.swarm.select_next_some().await;
            }
        };
        let _ = tokio::time::timeout(GOODBYE, closed).await;
        drop(self.swarm);
        self.connections.close();
        let _ = tokio::time::timeout(GOODBYE, self.connections.wait()).await;
    }
}
