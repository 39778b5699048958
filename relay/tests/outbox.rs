//! The outbox against relays that are down, refuse, ask for patience and come back.
#![allow(missing_docs, clippy::unwrap_used)]

mod pool_support;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use nostr::util::BoxedFuture;
use nostr::{Event, EventId, Keys};
use pool_support::*;
use relay::outbox::{
    Counts, Entry, LocalRelay, Next, Outbox, OutboxConfig, OutboxError, OutboxStore, Outcome, Settled, Target, Update,
};
use relay::pool::{PublishReply, Role};
use tokio::sync::mpsc;

struct Row {
    entry: Entry,
    next_at_s: u64,
    outcome: Option<Outcome>,
}

/// A store in memory; the order of insertion is the order of the list.
#[derive(Default)]
struct MemoryStore {
    rows: Mutex<Vec<Row>>,
    fails: Mutex<u32>,
}

impl MemoryStore {
    fn insert(&self, event: &Event, target: Target, deadline_s: u64) {
        let entry = Entry { event: Arc::new(event.clone()), target, attempts: 0, deadline_s };
        self.rows.lock().unwrap().push(Row { entry, next_at_s: 0, outcome: None });
    }

    fn attempts(&self, id: EventId) -> u32 {
        self.rows.lock().unwrap().iter().find(|row| row.entry.event.id == id).unwrap().entry.attempts
    }
}

fn ready<'a, T: Send + 'a>(value: T) -> BoxedFuture<'a, Result<T, OutboxError>> {
    Box::pin(async move { Ok(value) })
}

impl OutboxStore for MemoryStore {
    fn schedule(&self) -> BoxedFuture<'_, Result<Vec<(Target, u64)>, OutboxError>> {
        let mut fails = self.fails.lock().unwrap();
        if *fails > 0 {
            *fails -= 1;
            return Box::pin(async { Err(OutboxError("disk full".into())) });
        }
        let mut targets: BTreeMap<Target, u64> = BTreeMap::new();
        for row in self.rows.lock().unwrap().iter().filter(|row| row.outcome.is_none()) {
            let at = targets.entry(row.entry.target.clone()).or_insert(row.next_at_s);
            *at = (*at).min(row.next_at_s);
        }
        ready(targets.into_iter().collect())
    }

    fn due<'a>(
        &'a self,
        target: &'a Target,
        now_s: u64,
        limit: usize,
    ) -> BoxedFuture<'a, Result<Vec<Entry>, OutboxError>> {
        let rows = self.rows.lock().unwrap();
        let due = rows.iter().filter(|r| r.outcome.is_none() && r.entry.target == *target && r.next_at_s <= now_s);
        ready(due.take(limit).map(|row| row.entry.clone()).collect())
    }

    fn record(&self, updates: Vec<Update>) -> BoxedFuture<'_, Result<(), OutboxError>> {
        let mut rows = self.rows.lock().unwrap();
        for update in updates {
            let row = rows
                .iter_mut()
                .find(|row| row.entry.event.id == update.event_id && row.entry.target == update.target)
                .unwrap();
            match update.next {
                Next::Settled(outcome) => row.outcome = Some(outcome),
                // The tests do not wait for seconds.
                Next::Retry { attempts, .. } => row.entry.attempts = attempts,
            }
        }
        ready(())
    }

    fn counts(&self) -> BoxedFuture<'_, Result<Vec<(Target, Counts)>, OutboxError>> {
        let mut counts: BTreeMap<Target, Counts> = BTreeMap::new();
        for row in self.rows.lock().unwrap().iter() {
            let count = counts.entry(row.entry.target.clone()).or_default();
            match &row.outcome {
                None => count.pending += 1,
                Some(Outcome::Done) => count.done += 1,
                Some(Outcome::Refused { .. }) => count.refused += 1,
                Some(Outcome::Expired) => count.expired += 1,
            }
        }
        ready(counts.into_iter().collect())
    }
}

/// The own relay: keeps the order of what it was given.
#[derive(Default)]
struct Own(Mutex<Vec<EventId>>);

impl LocalRelay for Own {
    fn publish(&self, event: Arc<Event>) -> BoxedFuture<'_, PublishReply> {
        self.0.lock().unwrap().push(event.id);
        Box::pin(async { PublishReply::Accepted })
    }
}

struct Post {
    node: Node,
    store: Arc<MemoryStore>,
    own: Arc<Own>,
    outbox: Outbox,
    settled: mpsc::Receiver<Settled>,
}

impl Post {
    fn start(store: Arc<MemoryStore>) -> Self {
        let node = Node::start();
        let own: Arc<Own> = Arc::default();
        let mut config = OutboxConfig::new(store.clone(), node.pool.clone(), Some(own.clone()));
        config.rest = (ms(20), ms(100));
        config.publish_timeout = ms(2_000);
        let (outbox, settled) = Outbox::start(config, &node.tracker, node.cancel.clone());
        Self { node, store, own, outbox, settled }
    }

    fn post(&self, event: &Event, relay: &TestRelay) {
        self.node.pool.add_relay(&relay.url, Role::Configured);
        self.store.insert(event, Target::Relay(relay.url.clone()), now_s() + 86_400);
        self.outbox.wake();
    }

    async fn settled(&mut self) -> Settled {
        tokio::time::timeout(LONG, self.settled.recv()).await.expect("an outcome in time").unwrap()
    }
}

fn event(n: usize) -> Event {
    note(&Keys::generate(), &format!("{n}"), now_s())
}

#[tokio::test]
async fn retries_until_the_relay_says_ok() {
    let passing = [(false, "rate-limited: slow".into()), (false, "error: disk".into()), (false, "huh?".into())];
    let relay = TestRelay::start(Manners { oks: passing.to_vec(), ..Manners::default() }).await;
    let mut post = Post::start(Arc::default());
    let event = event(0);
    post.post(&event, &relay);
    let target = Target::Relay(relay.url.clone());
    assert_eq!(post.settled().await, Settled { event_id: event.id, target, outcome: Outcome::Done });
    assert_eq!(post.store.attempts(event.id), 3);
    assert_eq!(relay.with(|state| state.published.clone()), vec![event.id]);
    post.node.stop().await;
}

#[tokio::test]
async fn a_final_refusal_ends_it_and_a_duplicate_is_done() {
    let words = [(false, "blocked: you".into()), (false, "duplicate: have it".into())];
    let relay = TestRelay::start(Manners { oks: words.to_vec(), ..Manners::default() }).await;
    let mut post = Post::start(Arc::default());
    let first = event(1);
    post.post(&first, &relay);
    assert_eq!(post.settled().await.outcome, Outcome::Refused { message: "blocked: you".into() });
    let second = event(2);
    post.post(&second, &relay);
    assert_eq!(post.settled().await.outcome, Outcome::Done);
    let counts = post.outbox.counts().await.unwrap();
    assert_eq!(counts, vec![(Target::Relay(relay.url.clone()), Counts { refused: 1, done: 1, ..Counts::default() })]);
    post.node.stop().await;
}

#[tokio::test]
async fn waits_for_a_relay_that_is_down_and_sends_in_order_when_it_is_back() {
    let mut relay = TestRelay::start(Manners::default()).await;
    relay.stop().await;
    let mut post = Post::start(Arc::default());
    let events: Vec<Event> = (0..50).map(event).collect();
    events.iter().for_each(|event| post.post(event, &relay));
    until("it was tried", || post.store.attempts(events[0].id) > 1).await;
    relay.restart().await;
    for _ in &events {
        assert_eq!(post.settled().await.outcome, Outcome::Done);
    }
    let sent = relay.with(|state| state.published.clone());
    assert_eq!(sent, events.iter().map(|event| event.id).collect::<Vec<_>>());
    post.node.stop().await;
}

#[tokio::test]
async fn a_relay_that_is_down_delays_only_its_own() {
    let mut down = TestRelay::start(Manners::default()).await;
    down.stop().await;
    let silent = TestRelay::start(Manners { silent_ok: true, ..Manners::default() }).await;
    let good = TestRelay::start(Manners::default()).await;
    let mut post = Post::start(Arc::default());
    for n in 0..200 {
        post.post(&event(n), &down);
        post.post(&event(n), &silent);
    }
    let mine = event(1_000);
    post.post(&mine, &good);
    post.store.insert(&mine, Target::Local, now_s() + 100);
    post.outbox.wake();
    let (first, second) = (post.settled().await, post.settled().await);
    assert_eq!((first.event_id, second.event_id), (mine.id, mine.id));
    assert_eq!(*post.own.0.lock().unwrap(), vec![mine.id]);
    post.node.stop().await;
}

#[tokio::test]
async fn a_new_start_sends_what_was_left_once_more() {
    let relay = TestRelay::start(Manners { silent_ok: true, ..Manners::default() }).await;
    let store: Arc<MemoryStore> = Arc::default();
    let event = event(0);
    let post = Post::start(store.clone());
    post.post(&event, &relay);
    until("a try is under way", || relay.with(|state| state.connections) > 0).await;
    post.node.stop().await;

    relay.with(|state| state.manners.silent_ok = false);
    let mut again = Post::start(store);
    again.node.add(&relay);
    assert_eq!(again.settled().await.outcome, Outcome::Done);
    assert_eq!(relay.with(|state| state.published.clone()), vec![event.id]);
    again.node.stop().await;
}

#[tokio::test]
async fn the_deadline_ends_it() {
    let relay = TestRelay::start(Manners::default()).await;
    let store: Arc<MemoryStore> = Arc::default();
    store.insert(&event(0), Target::Relay(relay.url.clone()), now_s() - 1);
    let mut post = Post::start(store);
    assert_eq!(post.settled().await.outcome, Outcome::Expired);
    assert_eq!(relay.with(|state| state.connections), 0);
    post.node.stop().await;
}

#[tokio::test]
async fn many_events_to_the_own_relay_keep_their_order() {
    let store: Arc<MemoryStore> = Arc::default();
    let events: Vec<Event> = (0..300).map(event).collect();
    events.iter().for_each(|event| store.insert(event, Target::Local, now_s() + 100));
    let mut post = Post::start(store);
    for _ in &events {
        assert_eq!(post.settled().await.outcome, Outcome::Done);
    }
    assert_eq!(*post.own.0.lock().unwrap(), events.iter().map(|event| event.id).collect::<Vec<_>>());
    post.node.stop().await;
}

#[test]
fn a_target_is_written_and_read() {
    for text in ["local", "wss://relay.example", "ws://127.0.0.1:7777"] {
        assert_eq!(text.parse::<Target>().unwrap().to_string(), text);
    }
    assert!("nonsense".parse::<Target>().is_err());
}
