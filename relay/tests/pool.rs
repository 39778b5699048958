//! The pool against relays that fail, lie, stall and come back.
#![allow(missing_docs, clippy::unwrap_used)]

mod pool_support;

use std::sync::Arc;

use nostr::{Filter, Keys, Kind, RelayUrl};
use pool_support::*;
use relay::pool::{FetchError, LookBack, PublishReply, Role, Subscription};
use serde_json::json;
use tokio::time::timeout;

#[tokio::test]
async fn catches_up_exactly_once_after_a_gap() {
    let keys = Keys::generate();
    let mut relay = TestRelay::start(Manners::default()).await;
    let mut node = Node::start();
    node.pool.subscribe(notes("s"));
    node.add(&relay);
    let first = note(&keys, "before", now_s());
    relay.publish(&first);
    assert_eq!(node.next().await.id, first.id);
    node.live(&relay, "s").await;
    until("a last seen time is kept", || node.cursors.0.lock().unwrap().len() == 1).await;

    relay.stop().await;
    let missed: Vec<_> = (0..3).map(|n| note(&keys, &format!("missed {n}"), now_s())).collect();
    missed.iter().for_each(|event| relay.store(event));
    relay.restart().await;
    let mut ids: Vec<_> = missed.iter().map(|event| event.id).collect();
    ids.sort();
    assert_eq!(node.next_ids(3).await, ids);

    node.live(&relay, "s").await;
    let last = note(&keys, "live", now_s());
    relay.publish(&last);
    assert_eq!(node.next().await.id, last.id, "the first one does not come again");
    let since = relay.with(|state| state.reqs.iter().filter_map(|f| f.since).max()).unwrap().as_secs();
    assert!(since > 0 && since <= now_s() - 600, "asked from ten minutes before the last seen time");
    node.stop().await;
}

#[tokio::test]
async fn a_restart_continues_from_the_kept_time_and_wraps_look_back_two_days() {
    let me = Keys::generate();
    let relay = TestRelay::start(Manners::default()).await;
    let cursors: Arc<MemoryCursors> = Arc::default();
    let seen_at = now_s() - 1_000;
    for sub in ["wraps", "notes"] {
        cursors.0.lock().unwrap().insert((relay.url.to_string(), sub.into()), seen_at);
    }
    let back_dated = wrap(&me, seen_at - 2 * 86_400 + 60);
    relay.store(&back_dated);
    relay.store(&wrap(&me, seen_at - 3 * 86_400));
    relay.store(&note(&me, "old", seen_at - 3_600));
    let recent = note(&me, "recent", seen_at - 300);
    relay.store(&recent);

    let mut node = Node::with(cursors, |_| {});
    node.pool.subscribe(notes("notes"));
    let filters = vec![Filter::new().kind(Kind::GiftWrap).pubkey(me.public_key())];
    let lookback = LookBack::GiftWraps;
    node.pool.subscribe(Subscription { id: "wraps".into(), filters, lookback, first_since_s: 0 });
    node.add(&relay);
    let mut expected = vec![back_dated.id, recent.id];
    expected.sort();
    assert_eq!(node.next_ids(2).await, expected);
    node.live(&relay, "wraps").await;
    node.live(&relay, "notes").await;
    assert!(node.incoming.try_recv().is_err());
    node.stop().await;
}

#[tokio::test]
async fn an_event_that_is_not_handled_holds_the_last_seen_time() {
    let relay = TestRelay::start(Manners::default()).await;
    relay.store(&note(&Keys::generate(), "a", now_s()));
    let mut node = Node::start();
    node.pool.subscribe(notes("s"));
    node.add(&relay);
    let held = timeout(LONG, node.incoming.recv()).await.unwrap().unwrap();
    node.live(&relay, "s").await;
    let later = note(&Keys::generate(), "b", now_s());
    relay.publish(&later);
    assert_eq!(node.next().await.id, later.id);
    assert!(node.cursors.0.lock().unwrap().is_empty());
    drop(held);
    until("the time is kept", || !node.cursors.0.lock().unwrap().is_empty()).await;
    node.stop().await;
}

#[tokio::test]
async fn three_relays_one_copy() {
    let event = note(&Keys::generate(), "once", now_s());
    let mut node = Node::start();
    node.pool.subscribe(notes("s"));
    let mut relays = Vec::new();
    for _ in 0..3 {
        let relay = TestRelay::start(Manners::default()).await;
        relay.store(&event);
        node.add(&relay);
        relays.push(relay);
    }
    for relay in &relays {
        node.live(relay, "s").await;
    }
    assert_eq!(node.next().await.id, event.id);
    assert!(node.incoming.try_recv().is_err());
    // The catch-up's page brings the same event once more to each relay.
    let states = node.pool.states();
    assert_eq!(states.iter().map(|state| state.events).sum::<u64>(), 1);
    assert!(states.iter().map(|state| state.duplicates).sum::<u64>() >= 2);
    node.stop().await;
}

#[tokio::test]
async fn a_forged_copy_does_not_suppress_the_real_event() {
    let event = note(&Keys::generate(), "real", now_s());
    let bad_signature = {
        let mut bad = value(&event);
        bad["sig"] = json!("11".repeat(64));
        bad
    };
    let liar = TestRelay::start(Manners { sends: vec![forged(&event), bad_signature], ..Manners::default() }).await;
    let honest = TestRelay::start(Manners::default()).await;
    let mut node = Node::start();
    node.pool.subscribe(notes("s"));
    node.add(&liar);
    until("the forgeries were met", || node.state(&liar).is_some_and(|state| state.bad_events >= 2)).await;
    honest.store(&event);
    node.add(&honest);
    assert_eq!(node.next().await, event);
    node.stop().await;
}

#[tokio::test]
async fn dead_silent_and_flooding_relays_slow_nothing() {
    let keys = Keys::generate();
    let other_kind = nostr::EventBuilder::new(Kind::Metadata, "{}").sign_with_keys(&keys).unwrap();
    let half_open = TestRelay::start(Manners { half_open: true, ..Manners::default() }).await;
    let silent = TestRelay::start(Manners { never_eose: true, silent_ok: true, ..Manners::default() }).await;
    let flood = Manners { floods: true, sends: vec![value(&other_kind)], ..Manners::default() };
    let flooding = TestRelay::start(flood).await;
    let mut dead = TestRelay::start(Manners::default()).await;
    dead.stop().await;
    let good = TestRelay::start(Manners::default()).await;
    let mut node = Node::start();
    node.pool.subscribe(notes("s"));
    for relay in [&half_open, &silent, &flooding, &dead, &good] {
        node.add(relay);
    }
    for n in 0..20 {
        let event = note(&keys, &format!("{n}"), now_s());
        assert_eq!(node.pool.publish(&good.url, &event, LONG).await, PublishReply::Accepted);
        good.publish(&event);
        assert_eq!(node.next().await.id, event.id);
    }
    until("the flood is cut off", || {
        node.state(&flooding).is_some_and(|s| s.last_error.is_some_and(|e| e.contains("bad events")))
    })
    .await;
    assert!(node.state(&flooding).unwrap().unasked_events > 0);
    let event = note(&keys, "nobody answers", now_s());
    for relay in [&silent, &dead] {
        let reply = node.pool.publish(&relay.url, &event, ms(200)).await;
        assert!(matches!(reply, PublishReply::Unreachable { .. }), "{reply:?}");
    }
    node.stop().await;
}

#[tokio::test]
async fn authenticates_when_asked_and_asks_again() {
    let keys = Keys::generate();
    let relay = TestRelay::start(Manners { auth: true, ..Manners::default() }).await;
    let event = note(&keys, "for members", now_s());
    relay.store(&event);
    let mut node = Node::start();
    node.pool.subscribe(notes("s"));
    node.add(&relay);
    assert_eq!(node.next().await.id, event.id);
    let mine = note(&keys, "mine", now_s());
    assert_eq!(node.pool.publish(&relay.url, &mine, LONG).await, PublishReply::Accepted);
    let found = node.pool.fetch(&relay.url, vec![Filter::new().id(event.id)], LONG).await.unwrap();
    assert_eq!(found, vec![event]);
    assert_eq!(relay.with(|state| state.authed), 1);
    node.stop().await;
}

#[tokio::test]
async fn a_hinted_relay_learns_who_we_are_only_when_it_insists() {
    let relay = TestRelay::start(Manners { auth: true, ..Manners::default() }).await;
    let node = Node::with(Arc::default(), allow_loopback);
    let named = RelayUrl::parse(&format!("ws://relay.example:{}", port(&relay))).unwrap();
    let event = note(&Keys::generate(), "hi", now_s());
    assert_eq!(node.pool.publish(&named, &event, LONG).await, PublishReply::Accepted);
    assert_eq!(relay.with(|state| (state.authed, state.reqs.len())), (1, 0));
    node.stop().await;
}

#[tokio::test]
async fn a_closed_subscription_is_asked_again() {
    for words in ["rate-limited: slow down", "error: shutting down", "blocked: not now"] {
        let relay = TestRelay::start(Manners { closes: Some((words.into(), 2)), ..Manners::default() }).await;
        let event = note(&Keys::generate(), "patience", now_s());
        relay.store(&event);
        let mut node = Node::start();
        node.pool.subscribe(notes("s"));
        node.add(&relay);
        assert_eq!(node.next().await.id, event.id, "{words}");
        node.stop().await;
    }
}

#[tokio::test]
async fn pages_backwards_until_the_catch_up_is_complete() {
    let keys = Keys::generate();
    for exclusive_until in [false, true] {
        let relay = TestRelay::start(Manners { limit: Some(5), exclusive_until, ..Manners::default() }).await;
        let start = now_s() - 500;
        let events: Vec<_> = (0..32).map(|n| note(&keys, &format!("{n}"), start + n / 2)).collect();
        events.iter().for_each(|event| relay.store(event));
        let mut node = Node::start();
        node.pool.subscribe(notes("s"));
        node.add(&relay);
        let mut ids: Vec<_> = events.iter().map(|event| event.id).collect();
        ids.sort();
        assert_eq!(node.next_ids(32).await, ids);
        node.live(&relay, "s").await;
        node.stop().await;
    }
}

#[tokio::test]
async fn an_answer_that_was_not_finished_is_an_error() {
    let node = Node::start();
    let closing =
        TestRelay::start(Manners { closes: Some(("rate-limited: no".into(), 100)), ..Manners::default() }).await;
    let endless = TestRelay::start(Manners { never_eose: true, ..Manners::default() }).await;
    node.add(&closing);
    node.add(&endless);
    let all = || vec![Filter::new()];
    let refused = node.pool.fetch(&closing.url, all(), LONG).await;
    assert_eq!(refused, Err(FetchError::Closed("rate-limited: no".into())));
    assert_eq!(node.pool.fetch(&endless.url, all(), ms(300)).await, Err(FetchError::TimedOut));
    let nobody = RelayUrl::parse("ws://127.0.0.1:1").unwrap();
    node.pool.add_relay(&nobody, Role::Configured);
    assert!(matches!(node.pool.fetch(&nobody, all(), LONG).await, Err(FetchError::Unreachable(_))));
    node.stop().await;
}

#[tokio::test]
async fn strangers_relays_are_guarded_capped_and_closed_when_idle() {
    let relay = TestRelay::start(Manners::default()).await;
    let event = note(&Keys::generate(), "hi", now_s());
    let strict = Node::start();
    let reply = strict.pool.publish(&relay.url, &event, LONG).await;
    assert!(
        matches!(&reply, PublishReply::Unreachable { message } if message.contains("not a public address")),
        "{reply:?}"
    );
    assert_eq!(relay.with(|state| state.connections), 0);
    strict.stop().await;

    let node = Node::with(Arc::default(), |config| {
        allow_loopback(config);
        config.limits.idle_after = ms(300);
        config.limits.hinted_max = 1;
    });
    let named = |n: u8| RelayUrl::parse(&format!("ws://relay{n}.example:{}", port(&relay))).unwrap();
    assert_eq!(node.pool.publish(&named(1), &event, LONG).await, PublishReply::Accepted);
    let refused = node.pool.publish(&named(2), &event, LONG).await;
    assert!(matches!(&refused, PublishReply::Unreachable { message } if message.contains("too many")), "{refused:?}");
    until("the idle one is closed", || node.pool.states().is_empty()).await;
    assert_eq!(node.pool.publish(&named(2), &event, LONG).await, PublishReply::Accepted);
    node.stop().await;
}

#[tokio::test]
async fn a_full_queue_stalls_and_loses_nothing() {
    let keys = Keys::generate();
    let relay = TestRelay::start(Manners::default()).await;
    let events: Vec<_> = (0..200).map(|n| note(&keys, &format!("{n}"), now_s() - n)).collect();
    events.iter().for_each(|event| relay.store(event));
    let mut node = Node::with(Arc::default(), |config| {
        config.limits.incoming_queue = 1;
        config.limits.relay_queue = 2;
    });
    node.pool.subscribe(notes("s"));
    node.add(&relay);
    let mut ids: Vec<_> = events.iter().map(|event| event.id).collect();
    ids.sort();
    assert_eq!(node.next_ids(200).await, ids);
    node.stop().await;
}

#[tokio::test]
async fn subscriptions_change_on_a_living_connection() {
    let keys = Keys::generate();
    let relay = TestRelay::start(Manners::default()).await;
    let mut node = Node::start();
    node.add(&relay);
    node.pool.subscribe(notes("s"));
    node.live(&relay, "s").await;
    let other = Subscription { filters: vec![Filter::new().kind(Kind::Metadata)], ..notes("s") };
    node.pool.subscribe(other);
    until("the new filter was sent", || relay.with(|state| state.reqs.len()) >= 2).await;
    node.live(&relay, "s").await;
    relay.publish(&note(&keys, "no longer asked for", now_s()));
    let profile = nostr::EventBuilder::new(Kind::Metadata, "{}").sign_with_keys(&keys).unwrap();
    relay.publish(&profile);
    assert_eq!(node.next().await.id, profile.id);
    node.stop().await;
}

#[tokio::test]
async fn a_frozen_connection_is_found_dead_and_made_anew() {
    let relay = TestRelay::start(Manners { frozen: true, ..Manners::default() }).await;
    let mut node = Node::with(Arc::default(), |config| config.limits.ping_every = ms(50));
    node.pool.subscribe(notes("s"));
    node.add(&relay);
    until("it is found dead", || {
        node.state(&relay).is_some_and(|s| s.last_error.is_some_and(|e| e.contains("does not answer pings")))
    })
    .await;
    relay.with(|state| state.manners.frozen = false);
    let event = note(&Keys::generate(), "thawed", now_s());
    relay.store(&event);
    assert_eq!(node.next().await.id, event.id);
    node.stop().await;
}

#[tokio::test]
async fn an_event_that_is_too_large_is_dropped_and_the_rest_comes() {
    let keys = Keys::generate();
    let relay = TestRelay::start(Manners::default()).await;
    relay.store(&note(&keys, &"x".repeat(20_000), now_s()));
    let small = note(&keys, "small", now_s() - 1);
    relay.store(&small);
    let mut node = Node::with(Arc::default(), |config| config.limits.event_bytes_max = 10_000);
    node.pool.subscribe(notes("s"));
    node.add(&relay);
    assert_eq!(node.next().await.id, small.id);
    assert!(node.state(&relay).unwrap().bad_events >= 1);
    node.stop().await;
}

struct Loopback;

impl relay::pool::Resolver for Loopback {
    fn resolve<'a>(
        &'a self,
        _: &'a str,
        port: u16,
    ) -> nostr::util::BoxedFuture<'a, std::io::Result<Vec<std::net::SocketAddr>>> {
        Box::pin(async move { Ok(vec![([127, 0, 0, 1], port).into()]) })
    }
}

impl relay::pool::DialPolicy for Loopback {
    fn allows(&self, ip: std::net::IpAddr) -> bool {
        ip.is_loopback()
    }
}

fn allow_loopback(config: &mut relay::pool::PoolConfig) {
    config.resolver = Arc::new(Loopback);
    config.policy = Arc::new(Loopback);
}

fn port(relay: &TestRelay) -> u16 {
    relay.url.as_str().rsplit(':').next().unwrap().trim_end_matches('/').parse().unwrap()
}
