//! A federation simulated: datagrams lost and delayed, nodes killed, stopped and cut off. One thread, one seed.

use std::collections::{BTreeSet, BinaryHeap};

use super::*;

const HOUR_MS: u64 = 3_600_000;

/// What the network between any two nodes does.
#[derive(Clone, Copy)]
struct Weather {
    /// Datagrams lost, of a thousand.
    loss_permille: u64,
    /// Usual delays, in milliseconds.
    delay_ms: (u64, u64),
    /// Datagrams that take up to this much longer, of a thousand.
    spikes_permille: u64,
    spike_ms: u64,
}

const STORMY: Weather = Weather { loss_permille: 50, delay_ms: (1, 40), spikes_permille: 10, spike_ms: 600 };
const CALM: Weather = Weather { loss_permille: 0, delay_ms: (1, 3), spikes_permille: 0, spike_ms: 0 };

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Health {
    Runs,
    /// Stopped like by SIGSTOP: gets nothing done, receives what waits when it goes on.
    Stopped,
    Dead,
}

struct Node {
    machine: Machine,
    health: Health,
    /// Came while it was stopped.
    backlog: Vec<(LinkId, Vec<u8>)>,
}

type Delivery = (std::cmp::Reverse<(u64, u64)>, usize, LinkId, Vec<u8>);

struct Sim {
    rng: SplitMix,
    weather: Weather,
    now: u64,
    nodes: Vec<Node>,
    ids: Vec<PeerId>,
    queue: BinaryHeap<Delivery>,
    count: u64,
    /// Ordered pairs (from, to) between which nothing passes.
    cut: BTreeSet<(usize, usize)>,
    told: Vec<(u64, usize, LivenessEvent)>,
    starts: u64,
    /// How often a node looked and SWIM suspected someone.
    doubts: u64,
}

/// The link between two nodes; the same number at both ends.
fn link(a: usize, b: usize) -> LinkId {
    (a.min(b) * 1_000 + a.max(b)) as LinkId
}

/// The node at the other end.
fn other(link: LinkId, me: usize) -> usize {
    let (low, high) = ((link / 1_000) as usize, (link % 1_000) as usize);
    if low == me { high } else { low }
}

/// PeerIds that are the same for a seed.
fn peer_id(n: u64) -> PeerId {
    let mut secret = [7; 32];
    secret[..8].copy_from_slice(&n.to_be_bytes());
    libp2p::identity::Keypair::ed25519_from_bytes(secret).unwrap().public().to_peer_id()
}

impl Sim {
    fn new(count: usize, weather: Weather, seed: u64) -> Self {
        let ids: Vec<PeerId> = (0..count as u64).map(peer_id).collect();
        let mut sim = Self {
            rng: SplitMix::new(seed),
            weather,
            now: 0,
            nodes: Vec::new(),
            queue: BinaryHeap::new(),
            count: 0,
            cut: BTreeSet::new(),
            told: Vec::new(),
            starts: 1,
            doubts: 0,
            ids,
        };
        for n in 0..count {
            let machine = sim.machine(n);
            sim.nodes.push(Node { machine, health: Health::Runs, backlog: Vec::new() });
        }
        for a in 0..count {
            for b in 0..a {
                sim.connect(a, b);
            }
        }
        sim
    }

    fn machine(&mut self, n: usize) -> Machine {
        self.starts += 1;
        let seed = self.rng.next();
        Machine::new(self.ids[n], self.now + self.starts, seed, self.now)
    }

    fn connect(&mut self, a: usize, b: usize) {
        for (me, peer) in [(a, b), (b, a)] {
            let peer = self.ids[peer];
            self.input(me, Input::LinkUp { link: link(a, b), peer });
        }
    }

    fn input(&mut self, n: usize, input: Input<'_>) {
        let effects = self.nodes[n].machine.handle(input, self.now);
        self.doubts += u64::from(self.nodes[n].machine.swim.values().any(|s| *s == State::Suspect));
        for effect in effects {
            match effect {
                Effect::Send { link, bytes } => self.send(n, link, bytes),
                Effect::Tell(event) => self.told.push((self.now, n, event)),
                // Links are the simulation's to open; a link that is given up comes back as a new one.
                Effect::Path(Advice::Close { link }) => {
                    drop(self.nodes[n].machine.handle(Input::LinkDown { link }, self.now))
                }
                Effect::Path(Advice::HangUp { peer }) => {
                    let links: Vec<LinkId> = self.nodes[n].machine.paths.of(peer).collect();
                    for link in links {
                        self.input(n, Input::LinkDown { link });
                    }
                }
                Effect::Path(_) | Effect::Rtt { .. } => {}
            }
        }
    }

    fn send(&mut self, from: usize, link: LinkId, bytes: Vec<u8>) {
        let to = other(link, from);
        let weather = self.weather;
        let mut chance = |permille| self.rng.next() % 1_000 < permille;
        if chance(weather.loss_permille) || self.cut.contains(&(from, to)) {
            return;
        }
        let spike = chance(weather.spikes_permille);
        let (least, most) = weather.delay_ms;
        let mut delay = least + self.rng.next() % (most - least + 1);
        if spike {
            delay += self.rng.next() % (weather.spike_ms + 1);
        }
        self.count += 1;
        self.queue.push((std::cmp::Reverse((self.now + delay, self.count)), to, link, bytes));
    }

    fn deliver(&mut self, to: usize, link: LinkId, bytes: Vec<u8>) {
        match self.nodes[to].health {
            Health::Runs => self.input(to, Input::Frame { link, bytes: &bytes }),
            Health::Stopped => self.nodes[to].backlog.push((link, bytes)),
            Health::Dead => {}
        }
    }

    /// Runs until `until`, or until something is told when `stop` says so.
    fn run(&mut self, until: u64, stop: impl Fn(&LivenessEvent) -> bool) -> bool {
        let seen = self.told.len();
        loop {
            if self.told[seen..].iter().any(|(_, _, event)| stop(event)) {
                return true;
            }
            let wake = self.nodes.iter().enumerate().filter(|(_, n)| n.health == Health::Runs);
            let wake = wake.map(|(i, n)| (n.machine.wake_ms(), i)).min();
            let arrival = self.queue.peek().map(|(at, ..)| at.0.0);
            let next = wake.map_or(u64::MAX, |(at, _)| at).min(arrival.unwrap_or(u64::MAX));
            if next > until {
                self.now = until;
                return false;
            }
            self.now = self.now.max(next);
            if arrival == Some(next) {
                let Some((_, to, link, bytes)) = self.queue.pop() else { continue };
                self.deliver(to, link, bytes);
            } else if let Some((_, n)) = wake {
                self.input(n, Input::Wake);
            }
        }
    }

    fn pass(&mut self, ms: u64) {
        let until = self.now + ms;
        self.run(until, |_| false);
    }

    /// Lets a stopped node go on: what waited comes first, as from a socket.
    fn resume(&mut self, n: usize) {
        self.nodes[n].health = Health::Runs;
        for (link, bytes) in std::mem::take(&mut self.nodes[n].backlog) {
            self.input(n, Input::Frame { link, bytes: &bytes });
        }
    }

    fn reconnect_all(&mut self) {
        for a in 0..self.nodes.len() {
            for b in 0..a {
                self.connect(a, b);
            }
        }
    }

    fn deaths(&self) -> Vec<(u64, usize, PeerId)> {
        self.told
            .iter()
            .filter_map(|(at, n, e)| if let LivenessEvent::Dead(p) = e { Some((*at, *n, *p)) } else { None })
            .collect()
    }

    fn all_alive(&self) -> bool {
        let alive = |n: &Node| n.machine.states().values().all(|s| *s == LivenessState::Alive);
        self.nodes.iter().filter(|n| n.health == Health::Runs).all(alive)
    }
}

/// Simulated hours: a day takes about a minute of an optimised build (`LIVENESS_HOURS=24`).
fn hours() -> u64 {
    std::env::var("LIVENESS_HOURS").ok().and_then(|h| h.parse().ok()).unwrap_or(1)
}

fn no_false_death(count: usize, seed: u64) {
    eprintln!("seed {seed}");
    let mut sim = Sim::new(count, STORMY, seed);
    sim.pass(30_000);
    assert!(sim.all_alive(), "{:?}", sim.told);
    sim.pass(hours() * HOUR_MS);
    let suspicions = sim.told.iter().filter(|(_, _, e)| matches!(e, LivenessEvent::Suspect(_))).count();
    eprintln!("{count} nodes, {} h: {suspicions} suspicions told, {} deaths", hours(), sim.deaths().len());
    assert_eq!(sim.deaths(), vec![]);
    // Otherwise this proves nothing about weathering them.
    assert!(sim.doubts > 0);
}

#[test]
fn five_nodes_in_a_storm_declare_nobody_dead() {
    no_false_death(5, 51);
}

#[test]
fn ten_nodes_in_a_storm_declare_nobody_dead() {
    no_false_death(10, 52);
}

#[test]
fn two_nodes_in_a_storm_declare_nobody_dead() {
    no_false_death(2, 53);
}

/// How long until *every* survivor has told a death, sorted.
fn detection(count: usize, weather: Weather, trials: u64, seed: u64) -> Vec<u64> {
    let mut times = Vec::new();
    for trial in 0..trials {
        let mut sim = Sim::new(count, weather, seed + trial);
        let before = 20_000 + sim.rng.next() % 3_000;
        sim.pass(before);
        assert!(sim.deaths().is_empty());
        sim.nodes[0].health = Health::Dead;
        let died = sim.now;
        sim.pass(30_000);
        let deaths = sim.deaths();
        assert!(deaths.iter().all(|(_, _, peer)| *peer == sim.ids[0]), "only the dead: {deaths:?}");
        let tellers: BTreeSet<usize> = deaths.iter().map(|(_, n, _)| *n).collect();
        assert_eq!(tellers.len(), count - 1, "all survivors tell");
        times.push(deaths.iter().map(|(at, _, _)| at - died).max().unwrap());
    }
    times.sort_unstable();
    times
}

#[test]
fn death_is_told_in_time() {
    for count in [2, 3, 10] {
        for (name, weather) in [("calm", CALM), ("storm", STORMY)] {
            let times = detection(count, weather, 60, 100 * count as u64);
            let (p50, p95, max) = (times[30], times[56], times[59]);
            eprintln!(
                "{count} nodes, {name}, seeds from {}: told by all after p50 {p50} ms, p95 {p95} ms, max {max} ms",
                100 * count
            );
            assert!(p95 <= 6_000, "{count} nodes, {name}: {times:?}");
        }
    }
}

#[test]
fn a_pause_of_a_second_is_no_death_and_a_long_one_is_one_that_comes_back() {
    let mut sim = Sim::new(5, CALM, 9);
    sim.pass(20_000);
    sim.nodes[0].health = Health::Stopped;
    sim.pass(1_500);
    sim.resume(0);
    sim.pass(10_000);
    assert!(sim.deaths().is_empty() && sim.all_alive(), "{:?}", sim.told);

    sim.nodes[0].health = Health::Stopped;
    sim.pass(60_000);
    assert!((1..5).all(|n| sim.deaths().iter().any(|(_, teller, peer)| *teller == n && *peer == sim.ids[0])));
    let before = sim.told.len();
    sim.resume(0);
    sim.reconnect_all();
    sim.pass(10_000);
    let by_itself = |e: &(u64, usize, LivenessEvent)| e.1 == 0 && matches!(e.2, LivenessEvent::Dead(_));
    assert!(!sim.told[before..].iter().any(by_itself), "the sleeper blames nobody: {:?}", &sim.told[before..]);
    let back = |n: usize| sim.told[before..].iter().any(|(_, t, e)| *t == n && *e == LivenessEvent::Back(sim.ids[0]));
    assert!((1..5).all(back), "{:?}", &sim.told[before..]);
    assert!(sim.all_alive());
}

#[test]
fn a_partition_is_told_on_both_sides_and_heals() {
    let mut sim = Sim::new(5, STORMY, 10);
    sim.pass(20_000);
    for a in 0..2 {
        for b in 2..5 {
            sim.cut.extend([(a, b), (b, a)]);
        }
    }
    sim.pass(15_000);
    let told: BTreeSet<(usize, PeerId)> = sim.deaths().into_iter().map(|(_, n, p)| (n, p)).collect();
    assert_eq!(told.len(), 12, "each of 2 tells 3, each of 3 tells 2: {told:?}");
    sim.cut.clear();
    sim.reconnect_all();
    sim.pass(10_000);
    assert!(sim.all_alive(), "{:?}", sim.told);
}

/// A hears B no more, but C hears both: SWIM's indirect probes keep B alive for A.
#[test]
fn one_broken_path_is_not_a_death() {
    let mut sim = Sim::new(3, STORMY, 11);
    sim.pass(20_000);
    sim.cut.extend([(0, 1), (1, 0)]);
    sim.pass(60 * 60_000);
    assert_eq!(sim.deaths(), vec![]);
}

#[test]
fn a_member_that_starts_again_is_taken_for_the_same_at_once() {
    let mut sim = Sim::new(3, CALM, 12);
    sim.pass(20_000);
    sim.now += 1;
    let machine = sim.machine(0);
    sim.nodes[0].machine = machine;
    sim.connect(0, 1);
    sim.connect(0, 2);
    sim.pass(5_000);
    assert!(sim.deaths().is_empty() && sim.all_alive(), "{:?}", sim.told);
}

/// The others' word of a member comes before the link to it does.
#[test]
fn a_member_that_was_heard_of_before_it_was_linked_is_alive() {
    let mut sim = Sim::new(3, CALM, 19);
    sim.pass(5_000);
    let machine = sim.machine(0);
    sim.nodes[0].machine = machine;
    sim.connect(0, 1);
    sim.pass(5_000);
    sim.connect(0, 2);
    sim.pass(5_000);
    assert_eq!(sim.nodes[0].machine.states().len(), 2);
    assert!(sim.all_alive(), "{:?}", sim.told);
}

/// A member that says of another that it is down does not bury it: the others hear it.
#[test]
fn a_liar_buries_nobody() {
    let mut sim = Sim::new(4, CALM, 13);
    sim.pass(20_000);
    let victim = Who::new(sim.ids[0], 2);
    for _ in 0..50 {
        for _ in 0..2 {
            let liar = &mut sim.nodes[3].machine;
            let mut wants = Wants::default();
            let down = foca::Member::new(victim.clone(), 9, State::Down);
            liar.foca.apply_many([down].into_iter(), true, &mut wants).unwrap();
            liar.foca.gossip(&mut wants).unwrap();
            for (to, bytes) in wants.sends {
                let to = sim.ids.iter().position(|id| *id == to.peer).unwrap();
                sim.send(3, link(3, to), bytes);
            }
        }
        sim.pass(1_000);
    }
    let fooled: Vec<_> = sim.deaths().into_iter().filter(|(_, n, _)| [1, 2].contains(n)).collect();
    assert_eq!(fooled, vec![]);
}

#[test]
fn hostile_frames_change_nothing() {
    let mut sim = Sim::new(3, CALM, 14);
    sim.pass(20_000);
    for _ in 0..20_000 {
        let len = sim.rng.next() % 200;
        let mut bytes: Vec<u8> = (0..len).map(|_| sim.rng.next() as u8).collect();
        if let Some(kind) = bytes.first_mut() {
            *kind %= 3;
        }
        sim.input(0, Input::Frame { link: link(0, 1), bytes: &bytes });
        sim.input(0, Input::Frame { link: 999_999, bytes: &bytes });
    }
    sim.pass(10_000);
    assert!(sim.deaths().is_empty() && sim.all_alive());
}

#[test]
fn a_forgotten_member_is_spoken_of_no_more() {
    let mut sim = Sim::new(2, CALM, 15);
    sim.pass(10_000);
    let peer = sim.ids[1];
    sim.input(0, Input::Forget { peer });
    let before = sim.told.len();
    sim.nodes[1].health = Health::Dead;
    sim.pass(30_000);
    assert_eq!(sim.told[before..], []);
    assert!(sim.nodes[0].machine.states().is_empty());
}

#[test]
fn a_farewell_is_told_at_once() {
    let mut sim = Sim::new(5, CALM, 18);
    sim.pass(1_500);
    sim.input(0, Input::Leave);
    sim.nodes[0].health = Health::Dead;
    let left = sim.now;
    sim.pass(10_000);
    let deaths = sim.deaths();
    assert_eq!(deaths.len(), 4);
    assert!(deaths.iter().all(|(at, _, peer)| *peer == sim.ids[0] && at - left < 100), "{deaths:?}");
}

#[test]
fn the_same_seed_is_the_same_run() {
    let run = || {
        let mut sim = Sim::new(4, STORMY, 16);
        sim.pass(120_000);
        (sim.count, sim.told)
    };
    assert_eq!(run(), run());
}

#[test]
fn idle_traffic_is_small() {
    let mut sim = Sim::new(10, CALM, 17);
    sim.pass(60_000);
    let before = sim.count;
    sim.pass(60_000);
    let per_node_s = (sim.count - before) / 600;
    eprintln!("10 nodes idle: {per_node_s} datagrams a second and node");
    assert!(per_node_s <= 25);
}
