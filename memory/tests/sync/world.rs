//! A world of replicas under a seeded network: it loses, doubles, delays and reorders, splits and heals; replicas crash at any
//! point and start again with what they had taken.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use memory::sync::{
    BATCH_BYTES, Effect, Input, Limits, Message, Patience, Refusals, Replica, Reply, Session, SessionId, respond,
};
use nips::memory::Space;
use nostr::{Event, EventId, PublicKey};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::double::{Author, Double, START_S, fleet, keys, tombstone};
use crate::hostile::Liar;

/// Replicas write, crash and are split until then.
const QUIET_AT_MS: u64 = 60_000;
/// By then they must be equal.
const END_MS: u64 = 1_800_000;
const PATIENCE: Patience = Patience { first_ms: 300, longest_ms: 2_000, tries: 5 };

/// How bad the network is.
#[derive(Debug, Clone, Copy)]
pub struct Weather {
    pub loss: f64,
    pub doubling: f64,
    pub delay_max_ms: u64,
}

pub struct World {
    pub rng: StdRng,
    now_ms: u64,
    weather: Weather,
    /// By time, then by the order in which they were made: a replay is the same run.
    coming: BTreeMap<(u64, u64), Happening>,
    made: u64,
    nodes: Vec<Node>,
    /// The side of the split on which each node is.
    side: Vec<u8>,
    pub longest_message: usize,
}

struct Node {
    key: PublicKey,
    replica: Double,
    /// Counts its starts; what is of an earlier one is lost.
    start: u8,
    is_up: bool,
    sessions: BTreeMap<SessionId, (usize, Session)>,
    refusals: BTreeMap<usize, Refusals>,
    shard: Author,
    liar: Option<Liar>,
}

enum Happening {
    Arrive { to: usize, from: usize, text: Arc<str> },
    Wake { node: usize, start: u8, session: SessionId },
    Work { node: usize, start: u8, session: SessionId, work: Work },
    Begin { node: usize },
    Write { node: usize },
    Crash,
    Restart { node: usize },
    Split,
    Heal,
    StoreFails,
}

enum Work {
    Take(Vec<Event>),
    Load(Vec<EventId>),
}

impl World {
    /// `liars` of the nodes lie; they are the last ones.
    pub fn new(seed: u64, nodes: usize, liars: usize, weather: Weather) -> Self {
        let node = |number: usize| {
            let name = u64::try_from(number).unwrap();
            let is_liar = number >= nodes - liars;
            Node {
                key: keys(name).public_key(),
                replica: Double::default(),
                start: 0,
                is_up: true,
                sessions: BTreeMap::new(),
                refusals: BTreeMap::new(),
                shard: Author::of_shard(name, fleet()),
                liar: is_liar.then(|| Liar::new(name)),
            }
        };
        let mut world = Self {
            rng: StdRng::seed_from_u64(seed),
            now_ms: 0,
            weather,
            coming: BTreeMap::new(),
            made: 0,
            nodes: (0..nodes).map(node).collect(),
            side: vec![0; nodes],
            longest_message: 0,
        };
        for node in 0..nodes {
            // Something that must never leave.
            let mut secret = Author::of_shard(u64::try_from(node).unwrap(), Space::private());
            world.nodes[node].replica.add([secret.write("text", "a secret", START_S)]);
            let first = world.rng.random_range(0..3_000);
            world.at(first, Happening::Begin { node });
            let first = world.rng.random_range(0..2_000);
            world.at(first, Happening::Write { node });
        }
        for happening in [Happening::Crash, Happening::Split, Happening::StoreFails] {
            let first = world.rng.random_range(500..8_000);
            world.at(first, happening);
        }
        world
    }

    /// Runs until all honest replicas are equal.
    ///
    /// # Panics
    /// When they are not in time.
    pub fn run(&mut self) {
        while let Some((&at @ (now_ms, _), _)) = self.coming.first_key_value() {
            let happening = self.coming.remove(&at).unwrap();
            self.now_ms = now_ms;
            let is_beginning = matches!(happening, Happening::Begin { .. });
            self.happen(happening);
            if is_beginning && self.now_ms > QUIET_AT_MS && self.nodes.iter().all(|n| n.is_up) && self.are_equal() {
                return;
            }
            let counts: Vec<usize> = self.honest().map(|replica| replica.ids().len()).collect();
            assert!(self.now_ms < END_MS, "not equal after {} s: {counts:?}", END_MS / 1_000);
        }
    }

    pub fn honest(&self) -> impl Iterator<Item = &Double> {
        self.nodes.iter().filter(|node| node.liar.is_none()).map(|node| &node.replica)
    }

    pub fn spent_s(&self) -> u64 {
        self.now_ms / 1_000
    }

    fn are_equal(&self) -> bool {
        let sets: BTreeSet<BTreeSet<EventId>> =
            self.honest().map(|r| r.events_of(&fleet()).iter().map(|event| event.id).collect()).collect();
        sets.len() == 1
    }

    fn at(&mut self, wait_ms: u64, happening: Happening) {
        self.made += 1;
        self.coming.insert((self.now_ms + wait_ms, self.made), happening);
    }

    fn happen(&mut self, happening: Happening) {
        let is_quiet = self.now_ms > QUIET_AT_MS;
        match happening {
            Happening::Arrive { to, from, text } => self.arrive(to, from, &text),
            Happening::Wake { node, start, session } => {
                if self.nodes[node].start == start {
                    self.step(node, session, Input::Tick);
                }
            }
            Happening::Work { node, start, session, work } => {
                if self.nodes[node].start == start {
                    let input = self.work(node, work);
                    self.step(node, session, input);
                }
            }
            Happening::Begin { node } => self.begin(node),
            Happening::Write { node } if !is_quiet => self.write(node),
            Happening::Crash if !is_quiet => self.crash(),
            Happening::Split if !is_quiet => self.split(),
            Happening::StoreFails if !is_quiet => {
                let node = self.rng.random_range(0..self.nodes.len());
                self.nodes[node].replica.fails(1);
                self.at(3_000, Happening::StoreFails);
            }
            Happening::Write { .. } | Happening::Crash | Happening::Split | Happening::StoreFails => {}
            Happening::Heal => self.side.fill(0),
            Happening::Restart { node } => self.nodes[node].is_up = true,
        }
    }

    fn begin(&mut self, node: usize) {
        let wait = self.rng.random_range(500..3_000);
        self.at(wait, Happening::Begin { node });
        let peer = (node + self.rng.random_range(1..self.nodes.len())) % self.nodes.len();
        let busy = self.nodes[node].sessions.values().any(|(with, _)| *with == peer);
        if !self.nodes[node].is_up || busy {
            return;
        }
        if let Some(mut liar) = self.nodes[node].liar.take() {
            let requests = liar.requests(&mut self.rng);
            self.nodes[node].liar = Some(liar);
            for text in requests {
                self.send(node, peer, &text);
            }
            return;
        }
        let id = SessionId(self.rng.random());
        let snapshot = self.nodes[node].replica.snapshot(&fleet()).unwrap();
        let refusals = self.nodes[node].refusals.remove(&peer).unwrap_or_default();
        // Small limits now and then, so that sessions are cut.
        let ids = if self.rng.random_bool(0.3) { 5 } else { 100_000 };
        let bounds = (Limits { ids, rounds: 20, requests: 50 }, PATIENCE);
        let session = Session::new(id, fleet(), snapshot, refusals, bounds);
        self.nodes[node].sessions.insert(id, (peer, session));
        self.step(node, id, Input::Start);
    }

    fn step(&mut self, node: usize, id: SessionId, input: Input) {
        let now_ms = self.now_ms;
        let start = self.nodes[node].start;
        let Some((peer, session)) = self.nodes[node].sessions.get_mut(&id) else { return };
        let peer = *peer;
        for effect in session.handle(input, now_ms) {
            let mut work = None;
            match effect {
                Effect::Send(text) => self.send(node, peer, &text),
                Effect::WakeAt(at_ms) => {
                    self.at(at_ms.saturating_sub(now_ms), Happening::Wake { node, start, session: id });
                }
                Effect::Take(events) => work = Some(Work::Take(events)),
                Effect::Load(ids) => work = Some(Work::Load(ids)),
                Effect::Ended(report) => {
                    self.nodes[node].sessions.remove(&id);
                    self.nodes[node].refusals.insert(peer, report.refusals);
                }
            }
            if let Some(work) = work {
                let wait = self.rng.random_range(0..30);
                self.at(wait, Happening::Work { node, start, session: id, work });
            }
        }
    }

    fn work(&mut self, node: usize, work: Work) -> Input {
        let Node { replica, key, .. } = &self.nodes[node];
        match work {
            Work::Take(events) => Input::Taken(replica.take(key, &fleet(), events)),
            Work::Load(ids) => Input::Loaded(replica.events(&fleet(), &ids, BATCH_BYTES)),
        }
    }

    fn send(&mut self, from: usize, to: usize, text: &Arc<str>) {
        self.longest_message = self.longest_message.max(text.len());
        if self.nodes[from].liar.is_none() {
            assert!(text.len() <= memory::sync::MAX_FRAME);
            assert!(!text.contains("private"), "{text}");
        }
        let copies = if self.rng.random_bool(self.weather.doubling) { 2 } else { 1 };
        for _ in 0..copies {
            if !self.rng.random_bool(self.weather.loss) {
                let delay = self.rng.random_range(1..=self.weather.delay_max_ms);
                self.at(delay, Happening::Arrive { to, from, text: Arc::clone(text) });
            }
        }
    }

    fn arrive(&mut self, to: usize, from: usize, text: &str) {
        if !self.nodes[to].is_up || self.side[to] != self.side[from] {
            return;
        }
        let parsed = Message::parse(text.as_bytes());
        if let Some(mut liar) = self.nodes[to].liar.take() {
            let answer = match parsed {
                Ok(Message::Request(request)) => liar.answer(&request, &mut self.rng),
                Ok(Message::Reply(_)) | Err(_) => None,
            };
            self.nodes[to].liar = Some(liar);
            if let Some(text) = answer {
                self.send(to, from, &text);
            }
            return;
        }
        match parsed {
            Ok(Message::Request(request)) => {
                let reply = respond(request, &self.nodes[from].key, &self.nodes[to].replica);
                self.send(to, from, &Message::Reply(reply).to_json().into());
            }
            // Whose answer it is must not be believed: the carrier says from whom it came.
            Ok(Message::Reply(reply)) => self.replied(to, from, reply),
            Err(error) => assert!(self.nodes[from].liar.is_some(), "{error}: {text}"),
        }
    }

    fn replied(&mut self, to: usize, from: usize, reply: Reply) {
        let id = reply.session;
        if self.nodes[to].sessions.get(&id).is_some_and(|(peer, _)| *peer == from) {
            self.step(to, id, Input::Received(reply));
        }
    }

    fn write(&mut self, node: usize) {
        let wait = self.rng.random_range(200..4_000);
        self.at(wait, Happening::Write { node });
        if !self.nodes[node].is_up || self.nodes[node].liar.is_some() {
            return;
        }
        let created_at = START_S + self.now_ms / 1_000;
        let name = u64::try_from(node).unwrap();
        let text = format!("{} ms", self.now_ms);
        let is_forgotten = self.shard_is_forgotten(node);
        let event = match self.rng.random_range(0..20) {
            0 if !is_forgotten => tombstone(name, fleet(), self.nodes[node].shard.document().clone(), created_at),
            1..10 => {
                // A new actor each time, as after a restart: what it knows of the page is what its replica holds.
                let life = u8::try_from(self.made % 251).unwrap();
                let mut page = Author::of_page(name, fleet(), "shopping-list", life);
                let known = self.nodes[node].replica.events_of(&fleet());
                page.learn(&known);
                if page.has_written() {
                    return;
                }
                let key = format!("item {}", self.rng.random_range(0..5));
                page.write(&key, &text, created_at)
            }
            _ if is_forgotten => return,
            _ => self.nodes[node].shard.write("text", &text, created_at),
        };
        self.nodes[node].replica.add([event]);
    }

    /// A writer learns of its own tombstone at once; it has one shard here, so it then writes pages only.
    fn shard_is_forgotten(&self, node: usize) -> bool {
        self.nodes[node].replica.has_retired(self.nodes[node].shard.document())
    }

    fn crash(&mut self) {
        let wait = self.rng.random_range(1_000..6_000);
        self.at(wait, Happening::Crash);
        let node = self.rng.random_range(0..self.nodes.len());
        // Work that had begun was done, or was not.
        let begun: Vec<(u64, u64)> =
            self.coming.iter().filter(|(_, h)| h.is_work_of(node)).map(|(at, _)| *at).collect();
        for at in begun {
            if let Some(Happening::Work { work, .. }) = self.coming.remove(&at)
                && self.rng.random_bool(0.5)
            {
                self.work(node, work);
            }
        }
        let crashed = &mut self.nodes[node];
        crashed.start = crashed.start.wrapping_add(1);
        crashed.is_up = false;
        crashed.sessions.clear();
        crashed.refusals.clear();
        let down = self.rng.random_range(100..5_000);
        self.at(down, Happening::Restart { node });
    }

    fn split(&mut self) {
        for side in &mut self.side {
            *side = u8::from(self.rng.random_bool(0.5));
        }
        let lasts = self.rng.random_range(1_000..8_000);
        self.at(lasts, Happening::Heal);
        let wait = lasts + self.rng.random_range(1_000..8_000);
        self.at(wait, Happening::Split);
    }
}

impl Happening {
    fn is_work_of(&self, of: usize) -> bool {
        matches!(self, Self::Work { node, .. } if *node == of)
    }
}
