//! What finding the differences costs: ids alone, no events.

use std::time::{Duration, Instant};

use memory::sync::{
    Batch, Effect, Input, Limits, Message, Outcome, Patience, Refusals, Replica, ReplicaError, RequestBody, Session,
    SessionId, Snapshot, respond,
};
use nips::memory::Space;
use nostr::{Event, EventId, PublicKey};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::house::keys;
use super::texts::SEED;
use crate::report::{Report, digits, thousands};

/// Ids of a space.
const COUNTS: [u64; 2] = [10_000, 100_000];
/// Ids that one side lacks.
const LACKING: usize = 10;
const FIRST_S: u64 = 1_795_000_000;
/// The ids' times lie this far apart, seconds.
const SPACING_S: u64 = 300;

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
    bytes: usize,
    spent: Duration,
}

/// Reconciles until the first request for events, or until nothing differs.
fn reconcile(here: Snapshot, there: &Names) -> Cost {
    let mut cost = Cost::default();
    let started = Instant::now();
    let bounds = (Limits { ids: 1_000_000, ..Limits::default() }, Patience::default());
    let mut session = Session::new(SessionId(1), Space::fleet(), here, Refusals::default(), bounds);
    let mut inputs = vec![Input::Start];
    while let Some(input) = inputs.pop() {
        for effect in session.handle(input, 0) {
            let Effect::Send(text) = effect else { continue };
            let Message::Request(request) = Message::parse(text.as_bytes()).unwrap() else { panic!("{text}") };
            if let RequestBody::Get(_) = &request.body {
                cost.spent = started.elapsed();
                return cost;
            }
            let reply = Message::Reply(respond(request, &keys(1).public_key(), there)).to_json();
            cost.rounds += 1;
            cost.bytes += text.len() + reply.len();
            let Message::Reply(reply) = Message::parse(reply.as_bytes()).unwrap() else { panic!("{reply}") };
            inputs.push(Input::Received(reply));
        }
    }
    cost.spent = started.elapsed();
    cost
}

/// Measures and reports.
pub fn run(report: &mut Report) {
    report.table(
        "Memory: finding what differs (negentropy)",
        &["ids", "the other side has", "messages there and back", "bytes, both ways", "time, both sides"],
    );
    for count in COUNTS {
        let mut rng = StdRng::seed_from_u64(SEED ^ count);
        let mut id = || EventId::from_byte_array(rng.random());
        let all: Vec<(u64, EventId)> = (0..count).map(|n| (FIRST_S + n * SPACING_S, id())).collect();
        let there = Names(Snapshot::new(all.iter().copied()).unwrap());
        let step = all.len() / LACKING;
        let some = all.iter().enumerate().filter(|(at, _)| at % step != step / 2).map(|(_, id)| *id);
        for (name, here) in [
            ("the same", Snapshot::new(all.iter().copied()).unwrap()),
            ("all but 10", Snapshot::new(some).unwrap()),
            ("nothing", Snapshot::new([]).unwrap()),
        ] {
            let cost = reconcile(here, &there);
            report.row(&[
                &thousands(count as f64),
                name,
                &cost.rounds.to_string(),
                &thousands(cost.bytes as f64),
                &format!("{} ms", digits(cost.spent.as_secs_f64() * 1e3)),
            ]);
        }
    }
}
