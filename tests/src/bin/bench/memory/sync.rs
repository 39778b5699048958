//! A memory with nothing gets everything from another one over a stream, beside what must be done in any case: checking the same
//! signatures and loading the same changes into automerge.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use automerge::{AutoCommit, Change};
use memory::Memory;
use memory::sync::{End, Link, LinkConfig};
use nips::memory::{Message, Space};
use nostr::{Event, PublicKey};
use tokio::io::DuplexStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::WRITER;
use super::house::{House, keys};
use crate::events::on_two_threads;

/// Bytes that the stream holds: a socket's usual buffer.
const STREAM: usize = 256 << 10;
/// Events read at a time.
const PAGE: usize = 5_000;
/// Who has nothing.
const NEWCOMER: u8 = 2;

/// What a sync took, and what it is held against.
pub struct Synced {
    pub events: usize,
    /// Until every event was checked and durable on the other side.
    pub took: Duration,
    /// Until its index held them too.
    pub searchable: Duration,
    /// Checking the signatures on two threads.
    pub signatures: Duration,
    /// Loading the changes into automerge, document by document.
    pub automerge: Duration,
}

impl Synced {
    /// The sync over what must be done in any case.
    pub fn ratio(&self) -> f64 {
        self.took.as_secs_f64() / (self.signatures + self.automerge).as_secs_f64()
    }
}

/// Syncs everything of `from` into a memory in `dir`.
pub async fn run(from: &House, dir: &Path) -> Synced {
    let events = all_events(&from.memory).await;
    let (signatures, automerge) = alone(&events);
    let newcomer = House::open(dir, NEWCOMER).await;
    newcomer.memory.settled().await.unwrap();
    let started = Instant::now();
    let fetched = over_a_stream(&newcomer.memory, &from.memory).await;
    let took = started.elapsed();
    newcomer.memory.settled().await.unwrap();
    let searchable = started.elapsed();
    assert_eq!(fetched, events.len(), "everything came");
    newcomer.close().await;
    Synced { events: events.len(), took, searchable, signatures, automerge }
}

/// Sessions until nothing differs; how many events came.
async fn over_a_stream(here: &Memory, there: &Memory) -> usize {
    let (tracker, cancel) = (TaskTracker::new(), CancellationToken::new());
    let link = |stream: DuplexStream, peer: PublicKey, memory: &Memory| {
        Link::start(stream, peer, Arc::new(memory.clone()), LinkConfig::new(1), (&tracker, &cancel))
    };
    let (near, far) = tokio::io::duplex(STREAM);
    let asking = link(near, keys(WRITER).public_key(), here);
    let answering = link(far, keys(NEWCOMER).public_key(), there);
    let mut fetched = 0;
    loop {
        let report = asking.sync(Space::fleet()).await.unwrap();
        fetched += report.fetched;
        match report.end {
            End::Complete => break,
            End::Partial => {}
            end @ (End::Failed { .. } | End::GaveUp | End::Misbehaved(_) | End::Replica(_) | End::Private) => {
                panic!("{end:?}")
            }
        }
    }
    drop((asking, answering));
    cancel.cancel();
    tracker.close();
    tracker.wait().await;
    fetched
}

async fn all_events(memory: &Memory) -> Vec<Event> {
    let (mut all, mut after) = (Vec::new(), 0);
    loop {
        let page = memory.events_after(after, PAGE).await.unwrap();
        let Some((last, _)) = page.last() else { return all };
        after = *last;
        all.extend(page.into_iter().map(|(_, event)| event));
    }
}

fn alone(events: &[Event]) -> (Duration, Duration) {
    let started = Instant::now();
    let good = on_two_threads(events.len(), |at| events[at].verify().is_ok());
    let signatures = started.elapsed();
    assert!(good.iter().all(|good| *good));
    let mut documents: BTreeMap<String, Vec<Vec<u8>>> = BTreeMap::new();
    for event in events {
        let Message::Change(change) = Message::parse(event).unwrap() else { continue };
        documents.entry(change.document.to_string()).or_default().push(change.bytes);
    }
    let started = Instant::now();
    for changes in documents.into_values() {
        let changes: Vec<Change> = changes.into_iter().map(|bytes| Change::from_bytes(bytes).unwrap()).collect();
        AutoCommit::new().apply_changes(changes).unwrap();
    }
    (signatures, started.elapsed())
}
