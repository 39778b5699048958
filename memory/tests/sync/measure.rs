//! What reconciliation costs. Not a test of speed: it prints.
//!
//! `cargo test --release -p memory --test sync -- --ignored --nocapture measure`

use std::time::{Duration, Instant};

use memory::sync::{
    Batch, Effect, Input, Limits, Message, Outcome, Patience, Refusals, Replica, ReplicaError, Session, SessionId,
    Snapshot, respond,
};
use nips::memory::Space;
use nostr::{Event, EventId, PublicKey};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::double::{START_S, fleet, keys};

/// Ids without events, as a store that keeps its last snapshot.
struct Names(Snapshot);

impl Replica for Names {
    fn may_sync(&self, _peer: &PublicKey, _space: &Space) -> Result<bool, ReplicaError> {
        Ok(true)
    }

    fn snapshot(&self, _space: &Space) -> Result<Snapshot, ReplicaError> {
        Ok(self.0.clone())
    }

    fn events(&self, _space: &Space, ids: &[EventId], max_bytes: usize) -> Result<Batch, ReplicaError> {
        Batch::fill(ids, std::iter::empty::<Result<Event, ReplicaError>>(), max_bytes)
    }

    fn take(&self, _from: &PublicKey, _space: &Space, events: Vec<Event>) -> Result<Vec<Outcome>, ReplicaError> {
        Ok(vec![Outcome::New; events.len()])
    }
}

#[derive(Default)]
struct Cost {
    rounds: u32,
    out: usize,
    back: usize,
    spent: Duration,
    asked: usize,
}

/// Reconciles until the first request for events.
fn reconcile(here: Snapshot, there: &Names) -> Cost {
    let mut cost = Cost::default();
    let began = Instant::now();
    let bounds = (Limits { ids: 1_000_000, ..Limits::default() }, Patience::default());
    let mut session = Session::new(SessionId(1), fleet(), here, Refusals::default(), bounds);
    let mut inputs = vec![Input::Start];
    while let Some(input) = inputs.pop() {
        for effect in session.handle(input, 0) {
            match effect {
                Effect::Send(text) => {
                    let Message::Request(request) = Message::parse(text.as_bytes()).unwrap() else { panic!() };
                    if let memory::sync::RequestBody::Get(ids) = &request.body {
                        cost.asked = ids.len();
                        cost.spent = began.elapsed();
                        return cost;
                    }
                    cost.rounds += 1;
                    cost.out += text.len();
                    let reply = Message::Reply(respond(request, &keys(1).public_key(), there)).to_json();
                    cost.back += reply.len();
                    let Message::Reply(reply) = Message::parse(reply.as_bytes()).unwrap() else { panic!() };
                    inputs.push(Input::Received(reply));
                }
                Effect::Take(_) | Effect::Load(_) | Effect::WakeAt(_) => {}
                Effect::Ended(_) => cost.spent = began.elapsed(),
            }
        }
    }
    cost
}

#[test]
#[ignore = "prints figures"]
fn measure() {
    for count in [10_000_u64, 100_000] {
        let mut rng = StdRng::seed_from_u64(count);
        let mut id = || {
            let mut bytes = [0; 32];
            rng.fill(&mut bytes);
            EventId::from_byte_array(bytes)
        };
        let all: Vec<(u64, EventId)> = (0..count).map(|n| (START_S + n * 300, id())).collect();
        let began = Instant::now();
        let there = Names(Snapshot::new(all.iter().copied()).unwrap());
        println!("{count} ids: snapshot {:?}", began.elapsed());
        let lacking: Vec<_> = (0..10).map(|_| rng.random_range(0..all.len())).collect();
        let some = || all.iter().enumerate().filter(|(at, _)| !lacking.contains(at)).map(|(_, id)| *id);
        for (name, here) in [
            ("equal", Snapshot::new(all.iter().copied()).unwrap()),
            ("10 lacking", Snapshot::new(some()).unwrap()),
            ("empty", Snapshot::new([]).unwrap()),
        ] {
            let Cost { rounds, out, back, spent, asked } = reconcile(here, &there);
            println!("  {name}: {rounds} rounds, {out} bytes out, {back} back, {spent:?}, first GET asks for {asked}");
        }
    }
}
