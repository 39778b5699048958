//! The truth under the sync machine: messages are lost and doubled, sessions break off, nodes start anew, pages are edited on all
//! sides, entries, pages and spaces are forgotten, shards are saved whole; in the end all nodes show the same.
//!
//! `TIMMY_SEED` runs one seed again, `TIMMY_RUNS` more of them.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::sync::{
    BATCH_BYTES, Batch, Effect, End, Input, Limits, Message as Wire, Outcome as Taken, Patience, Refusals, Replica,
    ReplicaError, Session, SessionId, Snapshot, respond,
};

const PAGES: [&str; 2] = ["list", "notes"];

/// A truth as a replica; the index has no part in this.
struct Held(Mutex<Truth>);

fn failed(source: TruthError) -> ReplicaError {
    ReplicaError::Store { operation: "work", source: Box::new(source) }
}

impl Replica for Held {
    fn may_sync(&self, _peer: &PublicKey, space: &Space) -> Result<bool, ReplicaError> {
        Ok(*space == Space::fleet())
    }

    fn snapshot(&self, space: &Space) -> Result<Snapshot, ReplicaError> {
        Snapshot::new(self.0.lock().unwrap().event_ids(space).map_err(failed)?)
    }

    fn events(&self, space: &Space, ids: &[EventId], max_bytes: usize) -> Result<Batch, ReplicaError> {
        self.0.lock().unwrap().batch(space, ids, max_bytes).map_err(failed)
    }

    fn take(&self, _from: &PublicKey, _space: &Space, events: Vec<Event>) -> Result<Vec<Taken>, ReplicaError> {
        let vetted: Vec<Vetted> = events.into_iter().map(Vetted::new).collect();
        let taken = self.0.lock().unwrap().take(&vetted, NOW).map_err(failed)?;
        Ok(taken.into_iter().map(Taken::from).collect())
    }
}

/// One session; `fault` is the chance that it breaks off at a message, or that a request comes twice. True when it ended complete.
fn meet(rng: &mut StdRng, here: &Held, there: &Held, peer: &PublicKey, fault: f64) -> bool {
    let ids = if rng.random_bool(0.5) { 20 } else { 10_000 };
    let bounds = (Limits { ids, ..Limits::default() }, Patience::default());
    let snapshot = here.snapshot(&Space::fleet()).unwrap();
    let mut session = Session::new(SessionId(rng.random()), Space::fleet(), snapshot, Refusals::default(), bounds);
    let mut inputs = vec![Input::Start];
    while let Some(input) = inputs.pop() {
        for effect in session.handle(input, 0) {
            match effect {
                Effect::Send(text) => {
                    let Wire::Request(request) = Wire::parse(text.as_bytes()).unwrap() else { panic!("{text}") };
                    if rng.random_bool(fault) {
                        // The answer is lost, or the request.
                        if rng.random_bool(0.5) {
                            respond(request, peer, there);
                        }
                        return false;
                    }
                    if rng.random_bool(fault) {
                        respond(request.clone(), peer, there);
                    }
                    inputs.push(Input::Received(respond(request, peer, there)));
                }
                Effect::Take(events) => inputs.push(Input::Taken(here.take(peer, &Space::fleet(), events))),
                Effect::Load(ids) => inputs.push(Input::Loaded(here.events(&Space::fleet(), &ids, BATCH_BYTES))),
                Effect::WakeAt(_) => {}
                Effect::Ended(report) => return matches!(report.end, End::Complete),
            }
        }
    }
    panic!("the session stands still");
}

fn session(rng: &mut StdRng, nodes: &mut [Node], from: usize, to: usize, fault: f64) -> bool {
    let held = [from, to].map(|at| Held(Mutex::new(nodes[at].truth.take().unwrap())));
    let peer = nodes[from].install.public_key();
    let is_complete = meet(rng, &held[0], &held[1], &peer, fault);
    for (at, held) in [from, to].into_iter().zip(held) {
        nodes[at].truth = Some(held.0.into_inner().unwrap());
    }
    is_complete
}

/// Forgetting what is not there is told, and no failure.
fn is_done(forgotten: Result<Forgotten, TruthError>) {
    if let Err(error) = forgotten {
        assert!(matches!(error, TruthError::Missing(_)), "{error}");
    }
}

/// Something that an owner does.
fn act(rng: &mut StdRng, node: &mut Node, step: usize, forgets: bool) {
    let name = PAGES[rng.random_range(0..PAGES.len())];
    match rng.random_range(0..40) {
        0 => node.open().map(drop).unwrap(),
        1 if forgets => {
            let author = node.author;
            is_done(node.truth().forget(&Selector::Author(author), NOW));
        }
        2 => {
            is_done(node.truth().forget_named(&Space::fleet(), &name.parse().unwrap(), NOW));
        }
        3..6 if forgets => {
            let first = node.truth.as_ref().unwrap().reader(&node.path()).unwrap().ids(0, 1).unwrap();
            if let Some((_, id)) = first.first() {
                is_done(node.truth().forget(&Selector::Id(*id), NOW));
            }
        }
        1..20 => {
            // Large enough that shards and pages are saved whole on the way.
            node.add(&format!("entry {step} {}", "x".repeat(rng.random_range(0..3_000))));
        }
        20..30 => {
            node.edit(name, &[PageEdit::Add(format!("item {step}"))]);
        }
        _ => {
            node.edit(name, &[PageEdit::Append(format!("{step} {}\n", "y".repeat(rng.random_range(0..2_000))))]);
        }
    }
}

/// What the owner sees.
fn view(node: &mut Node) -> (BTreeSet<String>, Vec<Page>, BTreeSet<EventId>) {
    let pages = node.truth().pages(Some(&Space::fleet())).unwrap();
    (node.texts(), pages, node.events("fleet").iter().map(|event| event.id).collect())
}

fn run(count: usize, forgets: bool) {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let seeds = match number("TIMMY_SEED") {
        Some(seed) => vec![seed],
        None => (0..number("TIMMY_RUNS").unwrap_or(2)).collect(),
    };
    for seed in seeds {
        let rng = &mut StdRng::seed_from_u64(seed);
        let mut nodes: Vec<Node> = (0..count).map(|_| Node::new()).collect();
        for a in &nodes {
            nodes.iter().filter(|b| b.author != a.author).for_each(|b| a.meets(b));
        }
        for step in 0..100 + 10 * count {
            let at = rng.random_range(0..count);
            act(rng, &mut nodes[at], step, forgets);
            if rng.random_bool(0.3) {
                let to = (at + rng.random_range(1..count)) % count;
                session(rng, &mut nodes, at, to, 0.2);
            }
        }
        // Tombstones ask their readers to write survivors anew: a few rounds until nothing is new.
        let mut rounds = 0;
        loop {
            let mut all_complete = true;
            for at in 0..count {
                all_complete &= session(rng, &mut nodes, at, (at + 1) % count, 0.0);
            }
            let views: Vec<_> = nodes.iter_mut().map(view).collect();
            if all_complete && views.iter().all(|view| *view == views[0]) {
                assert!(!views[0].2.is_empty());
                break;
            }
            rounds += 1;
            let counts: Vec<_> =
                views.iter().map(|(texts, pages, ids)| (texts.len(), pages.len(), ids.len())).collect();
            assert!(rounds < 20 * count, "TIMMY_SEED={seed}: not equal: {counts:?}");
        }
        for node in &mut nodes {
            let before = view(node);
            node.open().unwrap();
            assert_eq!(view(node), before, "TIMMY_SEED={seed}: a start changes nothing");
        }
    }
}

#[test]
fn two_truths_become_equal() {
    run(2, false);
}

#[test]
fn three_truths_become_equal() {
    run(3, false);
}

#[test]
fn ten_truths_become_equal() {
    run(10, false);
}

/// Entries that were moved by several nodes at once lie in several shards.
#[test]
fn truths_become_equal_also_when_entries_are_forgotten_on_all_sides() {
    run(2, true);
    run(3, true);
}
