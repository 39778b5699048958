//! The loop, and what it holds.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nips::PeerCard;
use nips::federation::Reassembly;
use nostr::{Event, Keys, PublicKey, RelayUrl};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Command;
use super::hello::{self, Side, Then};
use super::host::{Host, HostError, Write};
use super::joining::Joining;
use super::labels::Labels;
use super::links::Links;
use super::tasks::TaskLoop;
use super::tunnel::Tunnel;
use super::view::View;
use crate::discovery::{Candidates, Discovery, DiscoveryEvent};
use crate::handshake::Me;
use crate::invitation::Inviter;
use crate::keyring::{Keyring, SealedKeys};
use crate::letters::{Inbox, Outbox};
use crate::liveness::{Liveness, LivenessEvent};
use crate::membership::Log;
use crate::net::{Multiaddr, Net, NetEvent, PeerId, PeerStream, Protocol};

/// Topic of what siblings alone read.
pub(super) const MEMORY: &str = "memory";
/// Topic of what every member reads.
pub(super) const TASKS: &str = "tasks";
/// How often the loop looks at what is due.
const TICK: Duration = Duration::from_millis(250);
/// Ticks between two looks at members that are not connected.
const REDIAL_TICKS: u64 = 40;
/// A peer that dialed us and says nothing is greeted after this, ticks: both may have dialed at once.
const GREET_TICKS: u64 = 3;

/// What a task brings back.
pub(super) enum Back {
    /// A handshake ended.
    Hello(Box<hello::Ended>),
    /// An envelope came on a stream.
    Envelope(PeerId, Box<Event>, tokio::sync::oneshot::Sender<()>),
    /// A receipt came.
    Receipt(PeerId, Vec<nostr::EventId>),
    /// The passport signed for an inviter.
    Signed(super::joining::SignedFor),
    /// Somebody asks to join, on a stream that waits for the answer.
    Asked(PeerId, Box<Event>, tokio::sync::oneshot::Sender<crate::invitation::Frame>),
    /// The inviter answered.
    Answered(PeerId, crate::invitation::Frame),
    /// A stream for the memory is open.
    Linked(PeerId, PeerStream),
    /// Bytes of a stream that travels in letters, to a passport.
    Piece(PublicKey, nips::federation::Piece),
    /// What the node knows about itself and a task.
    Figures(PublicKey, nips::task::Attempt, Option<crate::auction::Figures>),
    /// The passport signed a label, or did not; true when it goes to relays.
    Labelled(nostr::EventId, Result<Event, HostError>, bool),
}

/// A passport's card, and where its node was met.
#[derive(Debug, Clone)]
pub(super) struct Met {
    pub card: PeerCard,
    pub event: Event,
    pub addresses: Vec<Multiaddr>,
    pub relays: Vec<RelayUrl>,
    pub last_seen: u64,
}

/// A stranger on the LAN.
pub(super) struct Stranger {
    pub last_seen: u64,
}

/// Everything that the loop holds.
pub(super) struct Core {
    pub me: Me,
    pub install: Keys,
    pub name: String,
    pub host: Arc<dyn Host>,
    pub net: Net,
    pub live: Option<Liveness>,
    pub discovery: Option<Discovery>,
    pub candidates: Candidates,
    pub instances: BTreeMap<String, Vec<Multiaddr>>,
    pub log: Option<Log>,
    pub keyring: Keyring,
    pub sealed: SealedKeys,
    pub cards: BTreeMap<PublicKey, Met>,
    pub inviter: Inviter,
    pub joining: Option<Joining>,
    pub asking: BTreeMap<PeerId, tokio::sync::oneshot::Sender<crate::invitation::Frame>>,
    pub inbox: Inbox,
    pub outbox: Outbox,
    pub parts: Reassembly,
    /// Where those read who asked to join by letter.
    pub letter_relays: BTreeMap<PublicKey, Vec<RelayUrl>>,
    pub view: Arc<View>,
    pub strangers: BTreeMap<PeerId, Stranger>,
    pub connected: BTreeSet<PeerId>,
    pub meshed: BTreeSet<PeerId>,
    pub greeting: BTreeSet<PeerId>,
    /// Connections that somebody else made, and at which tick they are greeted if they stay silent.
    pub greet_at: BTreeMap<PeerId, u64>,
    pub commands: mpsc::Sender<Command>,
    pub back: mpsc::Sender<Back>,
    pub tracker: TaskTracker,
    pub began: Instant,
    /// When this node is to make new keys, by its own clock in ms.
    pub keys_due_ms: Option<u64>,
    /// When this node says where it is, likewise.
    pub presence_due_ms: u64,
    /// How often it was said.
    pub sayings: u64,
    /// The cards, by their events' ids, that others were told of.
    pub passed: BTreeMap<PublicKey, nostr::EventId>,
    /// When members said last where they are, by their own dates: a letter may be late.
    pub said_at: BTreeMap<PublicKey, u64>,
    /// When members were last heard over a relay, Unix seconds.
    pub heard_by_relay: BTreeMap<PublicKey, u64>,
    /// Members that were found dead, and when they had been heard over a relay last, by their own dates: only what they say later counts.
    pub fallen: BTreeMap<PublicKey, u64>,
    pub tasks: TaskLoop,
    pub labels: Labels,
    /// Streams that travel in letters, by passport.
    pub tunnels: BTreeMap<PublicKey, Tunnel>,
    /// Streams for the memory, by peer.
    pub links: Links,
    pub settings: crate::tasks::Settings,
    pub(super) ticks: u64,
    pub(super) inputs: Option<Inputs>,
}

/// What comes to the loop beside commands.
pub(super) struct Inputs {
    pub net: mpsc::Receiver<NetEvent>,
    pub live: Option<mpsc::Receiver<LivenessEvent>>,
    pub found: Option<mpsc::Receiver<DiscoveryEvent>>,
    pub back: mpsc::Receiver<Back>,
}

/// The next of a channel that may not be there; waits for ever without one.
async fn next<T>(channel: &mut Option<mpsc::Receiver<T>>) -> Option<T> {
    match channel {
        Some(channel) => channel.recv().await,
        None => std::future::pending().await,
    }
}

/// Waits so long; for ever when nothing is to come.
async fn until(wait: Option<Duration>) {
    match wait {
        Some(wait) => tokio::time::sleep(wait).await,
        None => std::future::pending().await,
    }
}

impl Core {
    pub async fn run(mut self, mut asked: mpsc::Receiver<Command>, cancel: CancellationToken) {
        let Some(mut inputs) = self.inputs.take() else { return };
        self.redial().await;
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        self.tasks_tick().await;
        loop {
            let wake = self.tasks.wait();
            tokio::select! {
                () = cancel.cancelled() => return,
                () = until(wake) => self.tasks_tick().await,
                Some(command) = asked.recv() => self.command(command).await,
                Some(event) = inputs.net.recv() => self.on_net(event).await,
                Some(event) = next(&mut inputs.live) => self.on_live(event).await,
                Some(event) = next(&mut inputs.found) => self.on_found(event).await,
                Some(back) = inputs.back.recv() => self.on_back(back).await,
                _ = tick.tick() => self.tick().await,
            }
        }
    }

    async fn command(&mut self, command: Command) {
        match command {
            Command::Invite(is_guest, readmit, reply) => drop(reply.send(self.invite(is_guest, readmit).await)),
            Command::Join(code, reply) => self.join(&code, reply).await,
            Command::Admin(npub, reply) => drop(reply.send(self.make_admin(npub).await)),
            Command::Remove(npub, reply) => drop(reply.send(self.remove(npub).await)),
            Command::Peers(reply) => drop(reply.send(self.peers())),
            Command::Gossip(change) => self.gossip(&change).await,
            Command::Letter(seal, plaintext) => self.letter(&seal, &plaintext).await,
            Command::Settled { to, id, is_taken } => {
                self.outbox_input(crate::letters::Input::Letter { to, id, is_taken }).await;
            }
            Command::Card => match self.host.card().await {
                Ok(card) => {
                    self.me.card = card;
                    self.plan_presence();
                }
                Err(error) => tracing::warn!(%error, "the peer card could not be signed anew"),
            },
            Command::Tell(install, envelope, life_s) => {
                if let Some(known) = self.view.install(&install) {
                    self.tell(known.passport, envelope, life_s).await;
                }
            }
            Command::Tunnel(install) => self.open_tunnel(&install),
            Command::Submit(submission, reply) => {
                self.submit(*submission).await;
                let _ = reply.send(());
            }
            Command::Task(input) => self.task_input(*input).await,
            Command::Reputation(passport, reply) => drop(reply.send(self.labels.reputation().record(&passport))),
            Command::Transcript(task, reply) => drop(reply.send(self.transcript(task).await)),
        }
    }

    async fn on_net(&mut self, event: NetEvent) {
        match event {
            NetEvent::Listening(_) | NetEvent::NotListening(_) => {
                let addresses = self.net.listen_addrs().await.unwrap_or_default();
                self.me.addresses = addresses.iter().map(ToString::to_string).collect();
                if let (Some(discovery), (Some(quic), tcp)) = (&self.discovery, ports(&addresses)) {
                    let _ = discovery.set_ports(quic, tcp).await;
                }
            }
            NetEvent::Connected { peer, addr, dialed, .. } => self.on_connected(peer, &addr, dialed).await,
            NetEvent::Meshed(peer) => self.on_meshed(peer).await,
            NetEvent::Disconnected(peer) => self.on_disconnected(peer).await,
            NetEvent::DialFailed { peer, why } => tracing::debug!(?peer, why, "a dial failed"),
            NetEvent::Stream { peer, protocol, stream } => self.on_stream(peer, protocol, stream),
            NetEvent::Gossip { topic, data, ticket, .. } => self.on_gossip(&topic, &data, ticket).await,
        }
    }

    async fn on_connected(&mut self, peer: PeerId, addr: &Multiaddr, dialed: bool) {
        self.connected.insert(peer);
        let bare: Multiaddr = addr.iter().filter(|part| !matches!(part, libp2p::multiaddr::Protocol::P2p(_))).collect();
        if let Some((instance, _)) = self.instances.iter().find(|(_, addrs)| addrs.contains(&bare)) {
            self.candidates.connected(instance);
        }
        let now = self.now_s();
        if self.by_peer(&peer).is_none() {
            self.strangers.insert(peer, Stranger { last_seen: now });
        }
        if self.joining.as_ref().is_some_and(|joining| joining.is_inviter(&peer)) {
            return self.ask_inviter(peer);
        }
        if dialed {
            self.greet(peer);
        } else {
            self.greet_at.insert(peer, self.ticks + GREET_TICKS);
        }
    }

    /// Begins a handshake, where there are keys to prove.
    pub fn greet(&mut self, peer: PeerId) {
        if self.keyring.is_empty() || !self.greeting.insert(peer) {
            return;
        }
        let Some(then) = self.then() else { return };
        let (net, back, began) = (self.net.clone(), self.back.clone(), self.began);
        self.tracker.spawn(async move {
            let ended = match net.open(peer, Protocol::HELLO).await {
                Ok(stream) => hello::run(stream, peer, Side::Dialer, then, || clock(began)).await,
                Err(_) => hello::Ended { peer_id: peer, learnt: vec![], peer: Err(crate::handshake::Refusal::Timeout) },
            };
            let _ = back.send(Back::Hello(Box::new(ended))).await;
        });
    }

    /// What a handshake that begins now looks things up in.
    pub fn then(&self) -> Option<Then> {
        let cards = self.cards.iter().map(|(passport, met)| (*passport, met.card.clone())).collect();
        Some(Then {
            me: self.me.clone(),
            log: self.log.clone()?,
            keyring: self.keyring.clone(),
            sealed: self.sealed.clone(),
            cards: Arc::new(cards),
        })
    }

    async fn on_meshed(&mut self, peer: PeerId) {
        self.meshed.insert(peer);
        self.strangers.remove(&peer);
        let now = self.now_s();
        let Some(met) = self.by_peer_mut(&peer) else { return };
        met.last_seen = now;
        let passport = met.card.passport;
        self.reach(passport).await;
        self.open_link(peer);
        self.plan_presence();
    }

    async fn on_disconnected(&mut self, peer: PeerId) {
        self.connected.remove(&peer);
        self.meshed.remove(&peer);
        self.greeting.remove(&peer);
        self.greet_at.remove(&peer);
        let now = self.now_ms();
        let instances: Vec<String> = self.instances.keys().cloned().collect();
        for instance in instances {
            self.candidates.lost(&instance, now);
        }
        if let Some(passport) = self.by_peer(&peer).map(|met| met.card.passport) {
            self.reach(passport).await;
            self.plan_presence();
        }
    }

    fn on_stream(&mut self, peer: PeerId, protocol: Protocol, stream: PeerStream) {
        if protocol == Protocol::HELLO {
            self.greet_at.remove(&peer);
            let Some(then) = self.then() else { return };
            let (back, began) = (self.back.clone(), self.began);
            self.tracker.spawn(async move {
                let ended = hello::run(stream, peer, Side::Listener, then, || clock(began)).await;
                let _ = back.send(Back::Hello(Box::new(ended))).await;
            });
        } else if protocol == Protocol::JOIN {
            self.serve_joiner(peer, stream);
        } else if protocol == Protocol::ENVELOPE {
            self.read_envelopes(peer, stream);
        } else if protocol == Protocol::SYNC {
            self.link(peer, stream);
        }
    }

    async fn on_live(&mut self, event: LivenessEvent) {
        let (LivenessEvent::Alive(peer)
        | LivenessEvent::Suspect(peer)
        | LivenessEvent::Dead(peer)
        | LivenessEvent::Back(peer)) = event;
        let now = self.now_s();
        if matches!(event, LivenessEvent::Alive(_) | LivenessEvent::Back(_))
            && let Some(met) = self.by_peer_mut(&peer)
        {
            met.last_seen = now;
        }
        if let Some((passport, install)) = self.by_peer(&peer).map(|met| (met.card.passport, met.card.install)) {
            if matches!(event, LivenessEvent::Dead(_)) {
                let heard = self.heard_by_relay.get(&passport).copied().unwrap_or_default();
                self.fallen.insert(passport, heard);
            }
            self.reach(passport).await;
            if matches!(event, LivenessEvent::Dead(_)) {
                // Perhaps only the connection is: by letter it hears where this node is, and answers.
                self.plan_presence();
                self.task_peer_dead(install).await;
            }
        }
    }

    async fn on_found(&mut self, event: DiscoveryEvent) {
        let now = self.now_ms();
        match event {
            DiscoveryEvent::Seen { instance, addrs, tag } => {
                let day = self.now_s() / 86_400;
                let is_ours = tag
                    .chunks_exact(16)
                    .any(|tag| tag.try_into().is_ok_and(|tag: [u8; 16]| self.keyring.knows(&tag, day).is_some()));
                self.candidates.seen(&instance, addrs.clone(), is_ours, now);
                self.instances.insert(instance, addrs);
            }
            DiscoveryEvent::Gone { instance } => {
                self.candidates.gone(&instance);
                self.instances.remove(&instance);
            }
            DiscoveryEvent::Renamed { .. } => {}
        }
        self.dial_candidates().await;
    }

    async fn dial_candidates(&mut self) {
        let now = self.now_ms();
        while let Some(candidate) = self.candidates.next(now) {
            if let Err(error) = self.net.dial(None, candidate.addrs).await {
                tracing::debug!(%error, "a node on the LAN could not be dialed");
                return;
            }
        }
    }

    async fn on_back(&mut self, back: Back) {
        match back {
            Back::Hello(ended) => self.on_hello(*ended).await,
            Back::Envelope(peer, event, taken) => {
                self.on_envelope(peer, &event).await;
                let _ = taken.send(());
            }
            Back::Receipt(peer, ids) => {
                if let Some(from) = self.by_peer(&peer).map(|met| met.card.passport) {
                    self.outbox_input(crate::letters::Input::Receipt { from, ids }).await;
                }
            }
            Back::Signed(signed) => self.on_signed(signed).await,
            Back::Asked(peer, event, answer) => self.on_asked(peer, &event, answer).await,
            Back::Answered(peer, frame) => self.on_answered(peer, frame).await,
            Back::Linked(peer, stream) => self.link(peer, stream),
            Back::Piece(to, piece) => self.send_piece(to, piece).await,
            Back::Figures(requester, attempt, figures) => self.on_figures(requester, attempt, figures).await,
            Back::Labelled(id, signed, public) => self.on_labelled(id, signed, public).await,
        }
    }

    async fn tick(&mut self) {
        self.ticks += 1;
        let ticks = self.ticks;
        let due: Vec<PeerId> = self.greet_at.iter().filter(|(_, at)| **at <= ticks).map(|(peer, _)| *peer).collect();
        for peer in due {
            self.greet_at.remove(&peer);
            self.greet(peer);
        }
        self.dial_candidates().await;
        self.mend_links();
        self.tasks_tick().await;
        self.joining_tick().await;
        self.make_keys_when_due().await;
        self.say_presence_when_due().await;
        self.outbox_input(crate::letters::Input::Tick).await;
        if ticks.is_multiple_of(REDIAL_TICKS) {
            self.redial().await;
            self.inviter_tick().await;
            let now = self.now_s();
            self.parts.tick(now);
            if !self.inviter.is_answering(now) {
                self.letter_relays.clear();
            }
            self.strangers.retain(|_, stranger| stranger.last_seen + 600 > now);
        }
    }

    /// Dials the members that are not there, at where they were met.
    async fn redial(&mut self) {
        let lost: Vec<(PeerId, Vec<Multiaddr>)> = self
            .cards
            .values()
            .filter(|met| met.card.passport != self.me.passport && !self.connected.contains(&met.card.peer_id))
            .filter(|met| self.standing(&met.card.passport).is_member() && !met.addresses.is_empty())
            .map(|met| (met.card.peer_id, met.addresses.clone()))
            .collect();
        for (peer, addresses) in lost {
            let _ = self.net.dial(Some(peer), addresses).await;
        }
    }

    pub fn by_peer(&self, peer: &PeerId) -> Option<&Met> {
        self.cards.values().find(|met| met.card.peer_id == *peer)
    }

    fn by_peer_mut(&mut self, peer: &PeerId) -> Option<&mut Met> {
        self.cards.values_mut().find(|met| met.card.peer_id == *peer)
    }

    pub async fn keep(&self, writes: Vec<Write>) -> Result<(), HostError> {
        if writes.is_empty() { Ok(()) } else { self.host.keep(writes).await }
    }

    pub fn now_ms(&self) -> u64 {
        clock(self.began).0
    }

    pub fn now_s(&self) -> u64 {
        clock(self.began).1
    }
}

/// Monotonic milliseconds since the start, and Unix seconds.
pub(super) fn clock(began: Instant) -> (u64, u64) {
    (u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX), unix_ms() / 1000)
}

pub(super) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

pub(super) fn event_of(bytes: &[u8]) -> Result<Event, HostError> {
    serde_json::from_slice(bytes).map_err(|e| HostError(format!("an event of the federation cannot be read: {e}")))
}

/// The ports of QUIC and TCP among addresses.
pub(super) fn ports(addresses: &[Multiaddr]) -> (Option<u16>, Option<u16>) {
    use libp2p::multiaddr::Protocol as Part;
    let port = |pick: fn(&Part<'_>) -> Option<u16>| addresses.iter().find_map(|a| a.iter().find_map(|p| pick(&p)));
    let udp = port(|part| if let Part::Udp(port) = part { Some(*port) } else { None });
    let tcp = port(|part| if let Part::Tcp(port) = part { Some(*port) } else { None });
    (udp, tcp)
}
