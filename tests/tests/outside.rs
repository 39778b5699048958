//! Outside relays (an independent implementation): requests that come by them, answers that go to them, and what happens when
//! either side is away.

#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use nostr::{Event, EventBuilder, Filter, Keys, Kind, Tag, Timestamp};
use tempfile::TempDir;
use tests::client::request;
use tests::node::{NodeBuilder, keys};
use tests::outside::unresponsive;
use tests::{Client, Node, Outside, eventually};

fn job(text: &str, more: &[&[&str]]) -> Event {
    let mut tags: Vec<&[&str]> = vec![];
    let input = ["i", text, "text"];
    tags.push(&input);
    tags.extend(more);
    request(&keys(), 5000, &tags)
}

/// A job dated in the past.
fn old_job(text: &str, seconds_ago: u64) -> Event {
    let tags = [Tag::parse(["i", text, "text"]).unwrap()];
    let request = EventBuilder::new(Kind::from_u16(5000), "").tags(tags);
    request.custom_created_at(Timestamp::now() - seconds_ago).sign_with_keys(&keys()).unwrap()
}

/// The results of `asked` on a relay, as soon as there are any.
async fn results_at(relay: &Outside, asked: &Event) -> Vec<Event> {
    let filter = Filter::new().event(asked.id).kind(Kind::from_u16(6000));
    eventually("the result is on the outside relay", async || {
        Some(relay.query(filter.clone()).await).filter(|found| !found.is_empty())
    })
    .await
}

async fn is_settled(node: &Node, asked: &Event) {
    let id = asked.id.to_hex();
    eventually("the job settles", async || {
        let (_, out, _) = node.cli(&["job", "show", &id, "--json"]).await;
        out.contains("\"state\":\"settled\"").then_some(())
    })
    .await;
}

/// Waits until the node reads every one of `relays`: a job that each brings alone is answered.
async fn listening(node: &Node, relays: &[&Outside]) {
    let mut client = Client::connect(node.relay()).await;
    for relay in relays {
        let probe = job("are you there?", &[]);
        relay.must_publish(&probe).await;
        client.result(&probe).await;
    }
}

async fn results_here(node: &Node, asked: &Event) -> usize {
    let mut client = Client::connect(node.relay()).await;
    client.result(asked).await;
    client.query(Filter::new().event(asked.id).kind(Kind::from_u16(6000))).await.len()
}

fn at(dir: &TempDir, relays: &[&Outside]) -> NodeBuilder {
    Node::builder().dir(dir.path()).config(&Outside::config(relays))
}

#[tokio::test]
async fn the_same_request_on_three_relays_and_our_own_is_answered_once() {
    let (a, b, c) = (Outside::start().await, Outside::start().await, Outside::start().await);
    let all = [&a, &b, &c];
    let node = Node::builder().config(&Outside::config(&all)).start().await;
    listening(&node, &all).await;
    let asked = job("only once", &[]);
    let mut own = Client::connect(node.relay()).await;
    tokio::join!(a.must_publish(&asked), b.must_publish(&asked), c.must_publish(&asked), own.must_publish(&asked));
    assert_eq!(results_here(&node, &asked).await, 1);
    is_settled(&node, &asked).await;
    listening(&node, &all).await;
    let ids: Vec<_> = own.query(Filter::new().event(asked.id).kind(Kind::from_u16(6000))).await;
    assert_eq!(ids.len(), 1);
    for relay in all {
        let there = results_at(relay, &asked).await;
        assert!(there.len() == 1 && there[0].id == ids[0].id, "the same bytes everywhere");
    }
}

#[tokio::test]
async fn a_result_goes_to_the_relay_the_request_came_by_and_to_our_own() {
    let (a, b) = (Outside::start().await, Outside::start().await);
    let node = Node::builder().config(&Outside::config(&[&a, &b])).start().await;
    for relay in [&a, &b] {
        let asked = job("here", &[]);
        relay.must_publish(&asked).await;
        assert_eq!(results_at(relay, &asked).await.len(), 1);
        assert_eq!(results_here(&node, &asked).await, 1);
    }
}

#[tokio::test]
async fn a_result_goes_to_the_configured_relays_that_a_request_names_and_to_our_own() {
    let (a, b) = (Outside::start().await, Outside::start().await);
    let node = Node::builder().config(&Outside::config(&[&a, &b])).start().await;
    listening(&node, &[&a, &b]).await;
    let asked = job("answer there", &[&["relays", &b.url(), node.relay()]]);
    Client::connect(node.relay()).await.must_publish(&asked).await;
    assert_eq!(results_at(&b, &asked).await.len(), 1);
    assert_eq!(results_here(&node, &asked).await, 1);
    is_settled(&node, &asked).await;
    assert!(a.query(Filter::new().event(asked.id)).await.is_empty(), "not where nobody asked for it");
}

#[tokio::test]
async fn a_private_relay_that_a_stranger_names_is_not_dialled() {
    let (known, private) = (Outside::start().await, Outside::start().await);
    let node = Node::builder().config(&Outside::config(&[&known])).start().await;
    listening(&node, &[&known]).await;
    let name = private.url().replace("127.0.0.1", "localhost");
    let mapped = private.url().replace("127.0.0.1", "[::ffff:127.0.0.1]");
    let asked = job("answer there", &[&["relays", &private.url(), &name, &mapped, &known.url()]]);
    Client::connect(node.relay()).await.must_publish(&asked).await;
    assert_eq!(results_at(&known, &asked).await.len(), 1);
    let id = asked.id.to_hex();
    let targets = eventually("each relay was tried", async || {
        let shown = node.json(&["job", "show", &id]).await;
        let targets = shown["published"].as_array().unwrap().clone();
        let others = targets.iter().filter(|t| t["relay"] != "local" && t["relay"] != known.url().as_str());
        others.clone().all(|t| t["message"].is_string() || t["state"] == "done").then(|| targets.clone())
    })
    .await;
    assert!(targets.len() >= 2, "{targets:?}");
    assert!(private.query(Filter::new().limit(10)).await.is_empty(), "{targets:?}");
    // A hint in an `i` tag is guarded alike: the event is there, and it is not fetched.
    let note = EventBuilder::text_note("inside").sign_with_keys(&keys()).unwrap();
    private.must_publish(&note).await;
    let prying = request(
        &keys(),
        5000,
        &[&["i", &note.id.to_hex(), "event", &private.url()], &["p", &node.public_key().to_hex()]],
    );
    let mut client = Client::connect(node.relay()).await;
    let wait = client.subscribe(Filter::new().event(prying.id).kind(Kind::from_u16(7000))).await;
    client.must_publish(&prying).await;
    let error = client.next_event(&wait).await;
    assert!(error.tags.iter().any(|t| t.as_slice().iter().any(|w| w.contains("was not found"))), "{error:?}");
}

#[tokio::test]
async fn an_event_is_found_on_the_owners_relays() {
    let outside = Outside::start().await;
    let node = Node::builder().config(&Outside::config(&[&outside])).start().await;
    let note = EventBuilder::text_note("far away").sign_with_keys(&keys()).unwrap();
    outside.must_publish(&note).await;
    let asked = request(&keys(), 5000, &[&["i", &note.id.to_hex(), "event"]]);
    let mut client = Client::connect(node.relay()).await;
    client.must_publish(&asked).await;
    assert_eq!(client.result(&asked).await.content, "far away");
}

#[tokio::test]
async fn requests_from_while_the_node_was_down_are_answered_once_back_to_catch_up_h() {
    let (a, b) = (Outside::start().await, Outside::start().await);
    let dir = TempDir::new().unwrap();
    let start = async || at(&dir, &[&a, &b]).config("[dvm]\ncatch_up_h = 1").start().await;
    let mut node = start().await;
    listening(&node, &[&a, &b]).await;
    age_journal(&mut node, 5 * 3600).await;
    let missed = job("while you were away", &[]);
    let recent = old_job("half an hour ago", 1800);
    let ancient = old_job("hours ago", 2 * 3600);
    for asked in [&missed, &recent, &ancient] {
        a.must_publish(asked).await;
        b.must_publish(asked).await;
    }
    for _ in 0..2 {
        let mut node = start().await;
        assert_eq!(results_here(&node, &missed).await, 1);
        assert_eq!(results_here(&node, &recent).await, 1);
        listening(&node, &[&a, &b]).await;
        for asked in [&missed, &recent] {
            is_settled(&node, asked).await;
            assert_eq!(results_at(&a, asked).await.len(), 1);
        }
        for relay in [&a, &b] {
            assert!(relay.query(Filter::new().event(ancient.id)).await.is_empty(), "too old to be answered");
        }
        node.kill().await;
    }
}

/// More than the queue holds, and more from one customer than a minute allows: none of it came too fast, it only gathered.
#[tokio::test]
async fn all_that_gathered_while_the_node_was_away_is_done() {
    let outside = Outside::start().await;
    let dir = TempDir::new().unwrap();
    let start = async || at(&dir, &[&outside]).start().await;
    let mut node = start().await;
    listening(&node, &[&outside]).await;
    let provider = node.public_key();
    age_journal(&mut node, 5 * 3600).await;
    let patient = keys();
    let ask = |keys: &Keys, seconds_ago: u64| {
        let tags = [Tag::parse(["i", "x", "text"]).unwrap(), Tag::public_key(provider)];
        let request = EventBuilder::new(Kind::from_u16(5000), "").tags(tags);
        request.custom_created_at(Timestamp::now() - seconds_ago).sign_with_keys(keys).unwrap()
    };
    let crowd = (0..120).map(|_| ask(&keys(), 1800));
    let asked: Vec<Event> = crowd.chain((5..35).map(|minute| ask(&patient, minute * 60))).collect();
    let mut client = outside.client().await;
    for request in &asked {
        client.must_publish(request).await;
    }
    let node = start().await;
    let mut client = Client::connect(node.relay()).await;
    for request in &asked {
        let result = client.result(request).await;
        assert_eq!(result.content, "x");
    }
    let refusals = client.query(Filter::new().author(provider).kind(Kind::from_u16(7000))).await;
    assert!(refusals.is_empty(), "{refusals:?}");
}

/// Stops the node and lets its journal believe that it began, and was last connected, `seconds` earlier.
async fn age_journal(node: &mut Node, seconds: i64) {
    node.stop().await;
    let journal = rusqlite::Connection::open(node.dir().join("journal.sqlite")).unwrap();
    let aged = "UPDATE meta SET value = CAST(value AS INTEGER) - ?1 WHERE key = 'first_start_s'";
    assert_eq!(journal.execute(aged, [seconds]).unwrap(), 1);
    journal.execute("UPDATE cursors SET unix_s = unix_s - ?1", [seconds]).unwrap();
}

#[tokio::test]
async fn a_new_journal_does_not_answer_what_came_before_its_first_start() {
    let outside = Outside::start().await;
    let before = old_job("before you were born", 600);
    outside.must_publish(&before).await;
    let dir = TempDir::new().unwrap();
    for _ in 0..2 {
        let mut node = at(&dir, &[&outside]).start().await;
        listening(&node, &[&outside]).await;
        assert!(outside.query(Filter::new().event(before.id)).await.is_empty());
        node.kill().await;
    }
}

#[tokio::test]
async fn a_result_waits_for_a_relay_that_is_away() {
    let (mut a, b) = (Outside::start().await, Outside::start().await);
    let node = Node::builder().config(&Outside::config(&[&a, &b])).start().await;
    listening(&node, &[&a, &b]).await;
    a.stop();
    let asked = job("later", &[&["relays", &a.url()]]);
    Client::connect(node.relay()).await.must_publish(&asked).await;
    assert_eq!(results_here(&node, &asked).await, 1);
    let shown = node.json(&["job", "show", &asked.id.to_hex()]).await;
    assert_eq!(shown["state"], "delivered", "{shown}");
    let waiting = eventually("status shows what waits", async || {
        let status = node.json(&["status"]).await;
        status.to_string().contains("\"pending\":").then_some(status)
    })
    .await;
    assert!(waiting.to_string().contains(&a.url()), "{waiting}");
    a.run().await;
    assert_eq!(results_at(&a, &asked).await.len(), 1);
    is_settled(&node, &asked).await;
}

#[tokio::test]
async fn a_result_waits_through_a_restart_of_the_node() {
    let (mut a, b) = (Outside::start().await, Outside::start().await);
    let dir = TempDir::new().unwrap();
    let mut node = at(&dir, &[&a, &b]).start().await;
    listening(&node, &[&a, &b]).await;
    a.stop();
    let asked = job("much later", &[&["relays", &a.url()]]);
    Client::connect(node.relay()).await.must_publish(&asked).await;
    let mut client = Client::connect(node.relay()).await;
    let said = client.result(&asked).await;
    node.kill().await;
    let node = at(&dir, &[&a, &b]).start().await;
    a.run().await;
    let there = results_at(&a, &asked).await;
    assert!(there.len() == 1 && there[0].id == said.id, "the same bytes are sent again");
    is_settled(&node, &asked).await;
}

#[tokio::test]
async fn a_dead_and_a_silent_relay_slow_nothing() {
    let good = Outside::start().await;
    let dead = Outside::stopped();
    let (_silent, silent_url) = unresponsive().await;
    let config = format!("[nostr]\nrelays = [\"{}\", \"{silent_url}\", \"{}\"]", dead.url(), good.url());
    let node = Node::builder().config(&config).start().await;
    listening(&node, &[&good]).await;
    // What is asked of the silent relay at the start may take its seconds; the jobs afterwards wait for nobody.
    let mut client = Client::connect(node.relay()).await;
    let began = Instant::now();
    for n in 0..10 {
        let asked = job(&format!("quick {n}"), &[]);
        good.must_publish(&asked).await;
        client.result(&asked).await;
        assert_eq!(results_at(&good, &asked).await.len(), 1);
    }
    // Far above what ten jobs take on a busy machine, far below ten waits for a silent relay (15 s each to connect).
    assert!(began.elapsed() < Duration::from_secs(40), "{:?}", began.elapsed());
}

#[tokio::test]
async fn kind_5_on_one_relay_takes_back_a_request_that_comes_later_by_another() {
    let (a, b) = (Outside::start().await, Outside::start().await);
    let node = Node::builder().config(&Outside::config(&[&a, &b])).start().await;
    listening(&node, &[&a, &b]).await;
    let (author, thief) = (keys(), keys());
    let taken_back = request(&author, 5000, &[&["i", "never mind", "text"]]);
    let kept = request(&author, 5000, &[&["i", "still wanted", "text"]]);
    let deletion = |who: &Keys, of: &Event| {
        let tags = [Tag::event(of.id), Tag::parse(["k", "5000"]).unwrap()];
        EventBuilder::new(Kind::EventDeletion, "").tags(tags).sign_with_keys(who).unwrap()
    };
    a.must_publish(&deletion(&author, &taken_back)).await;
    a.must_publish(&deletion(&thief, &kept)).await;
    listening(&node, &[&a]).await;
    b.must_publish(&taken_back).await;
    b.must_publish(&kept).await;
    assert_eq!(results_at(&b, &kept).await.len(), 1);
    listening(&node, &[&a, &b]).await;
    let mut client = Client::connect(node.relay()).await;
    assert!(client.answers(&taken_back).await.is_empty());
    assert!(b.query(Filter::new().event(taken_back.id)).await.is_empty());
}
