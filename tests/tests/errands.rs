//! Sister nodes work for each other, as real processes: what one cannot do the other does, and who dies in the middle takes nothing along.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::time::Duration;

use nostr::{Event, EventId, Filter, Keys, Kind, PublicKey};
use serde_json::Value;
use tests::client::{request, sealed_request};
use tests::node::keys;
use tests::sisters::{SISTER, let_in, npub, seen, sister};
use tests::{Client, ModelDouble, Node, Outside, eventually};

const AT_ONCE: Duration = Duration::ZERO;
/// A story of three seconds: long enough to die in.
const SLOWLY: Duration = Duration::from_millis(150);
const STORY: [&str; 20] = ["word "; 20];

async fn worker(model: &ModelDouble) -> Node {
    Node::builder().config(SISTER).config("lease_s = 2").config(&model.config("")).start().await
}

async fn is_able(node: &Node, other: &Node, kind: &str) {
    eventually("the other can do it", async || {
        let peer = seen(node, other).await?;
        peer["abilities"].as_array().unwrap().iter().any(|one| one == kind).then_some(())
    })
    .await;
}

fn told(text: &str, p: &PublicKey) -> Event {
    request(&keys(), 5050, &[&["i", text, "text"], &["p", &p.to_hex()]])
}

async fn results(client: &mut Client, asked: &Event) -> Vec<Event> {
    let answers = client.answers(asked).await;
    answers.into_iter().filter(|event| event.kind.as_u16() == asked.kind.as_u16() + 1000).collect()
}

async fn labels(node: &Node) -> Vec<Event> {
    Client::connect(node.relay()).await.query(Filter::new().kind(Kind::from_u16(1985))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_cannot_do_the_other_does_and_everybody_can_recompute_why_it_was_that_one() {
    let model = ModelDouble::start(&["Once ", "upon ", "a time"], AT_ONCE).await;
    let (a, b) = (sister().await, worker(&model).await);
    let (code, _, err) = a.cli(&["job", "submit", "--kind", "5050", "--input", "tell"]).await;
    assert!(code == 1 && err.contains("cannot be done here"), "{err}");
    let_in(&a, &b, &[]).await;
    is_able(&a, &b, "5050").await;
    let done = a.json(&["job", "submit", "--kind", "5050", "--input", "tell"]).await;
    assert_eq!((done["output"].as_str(), done["executed_by"].as_str()), (Some("Once upon a time"), Some(&*npub(&b))));
    let job = done["id"].as_str().unwrap();
    let shown = a.json(&["job", "show", job]).await;
    assert_eq!((shown["state"].as_str(), shown["executed_by"].as_str()), (Some("settled"), Some(&*npub(&b))));
    let run = a.json(&["job", "replay", job]).await;
    assert_eq!(run["same_as_journal"], true, "{run}");
    // The requester knows the auction by its job, the other by the task.
    for (node, id) in [(&a, job), (&a, shown["task"].as_str().unwrap()), (&b, shown["task"].as_str().unwrap())] {
        let verified = node.json(&["auction", "verify", id]).await;
        let found = (&verified["ok"], verified["winner"].as_str(), verified["requester"].as_str());
        assert_eq!(found, (&Value::Bool(true), Some(&*npub(&b)), Some(&*npub(&a))), "{verified}");
        assert!(verified["price"].as_u64().unwrap() > 0, "{verified}");
    }
    let (code, _, err) = a.cli(&["auction", "verify", &"0".repeat(64)]).await;
    assert!(code == 1 && err.contains("no auction"), "{err}");
    let counted = reqwest::get(format!("{}/metrics", a.http())).await.unwrap().text().await.unwrap();
    assert!(counted.contains("timmy_peers{state=\"member\"} 1"), "{counted}");
    assert!(counted.contains("timmy_auction_duration_seconds_count 1"), "{counted}");
    // The label is on the requester's relay, names the worker, and is known to both.
    let label = eventually("a label", async || labels(&a).await.pop()).await;
    assert_eq!(label.pubkey, a.public_key());
    assert!(label.tags.public_keys().any(|key| *key == b.public_key()), "{label:?}");
    assert_eq!(seen(&a, &b).await.unwrap()["reputation"]["done"], 1);
    // Somebody may be named, and then it is that one or nobody.
    let here = a.json(&["job", "submit", "--kind", "5000", "--input", "text", "--on", &npub(&a)]).await;
    assert_eq!(here["executed_by"], npub(&a));
    let there = a.json(&["job", "submit", "--kind", "5000", "--input", "text", "--on", &npub(&b)]).await;
    assert_eq!((there["output"].as_str(), there["executed_by"].as_str()), (Some("text"), Some(&*npub(&b))));
    let (code, _, err) = a.cli(&["job", "submit", "--kind", "5050", "--input", "x", "--on", &npub(&a)]).await;
    assert!(code == 1 && err.contains("cannot be done here"), "{err}");
    let (code, _, err) =
        a.cli(&["job", "submit", "--kind", "5000", "--input", "x", "--on", &hex_to_npub(&keys())]).await;
    assert!(code == 1 && err.contains("timmy peer list"), "{err}");
}

fn hex_to_npub(keys: &Keys) -> String {
    use nostr::ToBech32;
    keys.public_key().to_bech32().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_one_is_served_by_another_and_of_a_sealed_job_nothing_is_published() {
    let model = ModelDouble::start(&["a ", "secret"], AT_ONCE).await;
    let (a, b) = (sister().await, worker(&model).await);
    let_in(&a, &b, &[]).await;
    is_able(&a, &b, "5050").await;
    let mut client = Client::connect(a.relay()).await;
    eventually("the offer names what the sister can do", async || {
        let offers = client.query(Filter::new().kind(Kind::from_u16(31990)).author(a.public_key())).await;
        let names = |offer: &Event| offer.tags.iter().any(|tag| tag.as_slice() == ["k", "5050"]);
        offers.iter().any(names).then_some(())
    })
    .await;
    let customer = keys();
    let tags: &[&[&str]] = &[&["i", "tell", "text"]];
    let sealed = sealed_request(&customer, &a.public_key(), 5050, tags);
    client.must_publish(&sealed).await;
    let result = client.result(&sealed).await;
    assert_eq!(result.pubkey, a.public_key(), "answered by the one that was asked");
    assert!(!result.content.contains("secret"), "sealed");
    let open = told("tell", &a.public_key());
    client.must_publish(&open).await;
    assert_eq!(client.result(&open).await.content, "a secret");
    // The open job has its label; the sealed one, which was earlier, has none.
    eventually("one label", async || (!labels(&a).await.is_empty()).then_some(())).await;
    assert_eq!(labels(&a).await.len(), 1);
    assert_eq!(model.calls(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_want_it_publishes_no_word_about_the_work_of_others() {
    let model = ModelDouble::start(&["a ", "story"], AT_ONCE).await;
    let quiet = Node::builder().config(SISTER).config("publish_labels = false").start().await;
    let (mut a, b) = (quiet, worker(&model).await);
    let_in(&a, &b, &[]).await;
    is_able(&a, &b, "5050").await;
    let done = a.json(&["job", "submit", "--kind", "5050", "--input", "tell"]).await;
    assert_eq!((done["output"].as_str(), done["executed_by"].as_str()), (Some("a story"), Some(&*npub(&b))));
    // What was to be published is journaled: an end and a beginning bring it out.
    assert!(a.stop().await.success());
    let a = Node::builder().dir(a.dir()).start().await;
    eventually("they see each other again", async || seen(&a, &b).await).await;
    assert!(labels(&a).await.is_empty() && labels(&b).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_worker_dies_and_the_client_never_knows() {
    let (left, right) = (ModelDouble::start(&STORY, SLOWLY).await, ModelDouble::start(&STORY, SLOWLY).await);
    let a = Node::builder().config(SISTER).config("lease_s = 2").start().await;
    let (b, c) = (worker(&left).await, worker(&right).await);
    for one in [&b, &c] {
        let_in(&a, one, &[]).await;
        is_able(&a, one, "5050").await;
    }
    let mut client = Client::connect(a.relay()).await;
    let asked = told("a long story", &a.public_key());
    client.must_publish(&asked).await;
    eventually("somebody works", async || (left.calls() + right.calls() > 0).then_some(())).await;
    let (mut dead, other) = if left.calls() > 0 { (b, &right) } else { (c, &left) };
    dead.kill().await;
    let result = client.result(&asked).await;
    assert_eq!((result.pubkey, result.content.trim_end()), (a.public_key(), "word ".repeat(20).trim_end()));
    assert_eq!(other.finished(), 1);
    // The dead one comes back, and nothing is said twice.
    let dir = dead.dir().to_owned();
    let back = Node::builder().dir(&dir).start().await;
    eventually("it is back", async || seen(&a, &back).await.filter(|peer| peer["state"] == "member").map(|_| ())).await;
    assert_eq!(results(&mut client, &asked).await.len(), 1);
    // A broken promise is known.
    eventually("what is said of the dead one", async || {
        let said = seen(&a, &back).await.unwrap();
        (said["reputation"]["broken"] == 1).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_requester_dies_and_its_task_is_done_once_all_the_same() {
    let model = ModelDouble::start(&STORY, SLOWLY).await;
    let mut a = Node::builder().config(SISTER).start().await;
    let b = Node::builder().config(SISTER).config(&model.config("")).start().await;
    let_in(&a, &b, &[]).await;
    is_able(&a, &b, "5050").await;
    let asked = told("a long story", &a.public_key());
    Client::connect(a.relay()).await.must_publish(&asked).await;
    eventually("the other works", async || (model.calls() > 0).then_some(())).await;
    a.kill().await;
    let dir = a.dir().to_owned();
    let back = Node::builder().dir(&dir).start().await;
    let mut client = Client::connect(back.relay()).await;
    let result = client.result(&asked).await;
    assert_eq!(result.content.trim_end(), "word ".repeat(20).trim_end());
    assert_eq!(results(&mut client, &asked).await.len(), 1);
    assert_eq!(model.calls(), 1, "the lease outlived the requester's absence");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_three_sisters_one_answers_a_broadcast_also_while_one_dies() {
    let outside = Outside::start().await;
    let config = format!("{SISTER}\n{}\n[dvm]\njobs_per_author_per_min = 1000", Outside::config(&[&outside]));
    let mut nodes = Vec::new();
    for _ in 0..3 {
        nodes.push(Node::builder().config(&config).start().await);
    }
    for other in &nodes[1..] {
        let_in(&nodes[0], other, &[]).await;
    }
    for one in &nodes {
        for other in nodes.iter().filter(|other| npub(other) != npub(one)) {
            is_able(one, other, "5000").await;
        }
    }
    let customer = keys();
    let ask = async |from: usize, count: usize| {
        let mut asked = Vec::new();
        for n in from..from + count {
            let event = request(&customer, 5000, &[&["i", &format!("text {n}"), "text"]]);
            outside.must_publish(&event).await;
            asked.push(event.id);
        }
        asked
    };
    let first = ask(0, 200).await;
    all_answered_once(&outside, &nodes, &first).await;
    let members: Vec<PublicKey> = nodes.iter().map(Node::public_key).collect();
    let answers = outside.query(Filter::new().kind(Kind::from_u16(6000))).await;
    for member in &members {
        let share = answers.iter().filter(|answer| answer.pubkey == *member).count();
        assert!(share > 30, "each answers its share: {share} of 200");
    }
    // One dies in the middle of the next ones.
    let mut second = ask(200, 30).await;
    nodes[1].kill().await;
    second.extend(ask(230, 30).await);
    all_answered_once(&outside, &nodes, &second).await;
}

/// Every request gets a result, and after the last one could have come none has two.
async fn all_answered_once(outside: &Outside, nodes: &[Node], asked: &[EventId]) {
    let count = async || {
        let mut counts: BTreeMap<EventId, usize> = asked.iter().map(|id| (*id, 0)).collect();
        for answer in outside.query(Filter::new().kind(Kind::from_u16(6000))).await {
            let id = answer.tags.event_ids().next().copied();
            if let Some(count) = id.and_then(|id| counts.get_mut(&id)) {
                *count += 1;
            }
        }
        counts
    };
    let deadline = tokio::time::Instant::now() + tests::PATIENCE;
    loop {
        let counts = count().await;
        let Some((missing, _)) = counts.iter().find(|(_, n)| **n == 0) else { break };
        if tokio::time::Instant::now() > deadline {
            let mut told = String::new();
            for node in nodes {
                let (_, job, err) = node.cli(&["job", "show", &missing.to_hex()]).await;
                told += &format!("\n{}: {job}{err}", npub(node));
            }
            let words = outside.query(Filter::new().event(*missing)).await;
            panic!("{missing} is not answered; at the relay: {words:#?}\nat the nodes: {told}");
        }
    }
    // The last in the order would speak four seconds after the first.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let counts = count().await;
    assert!(counts.values().all(|n| *n == 1), "{counts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_breaks_the_rules_stops_nobody_and_gets_nothing() {
    let model = ModelDouble::start(&["an ", "honest ", "story"], AT_ONCE).await;
    let (a, b) = (sister().await, worker(&model).await);
    let_in(&a, &b, &[]).await;
    is_able(&a, &b, "5050").await;
    a.json(&["memory", "page", "edit", "list", "--add", "milk"]).await;
    a.json(&["memory", "add", "told before the rogue came"]).await;
    let mut rogue = Rogue::join(&a).await;
    rogue.rounds(3).await;
    // While it goes on: memory travels, and work that it outbids the honest for and then gives up is done by the honest.
    for n in 0..10 {
        a.json(&["memory", "add", &format!("entry number {n} while a rogue shouts")]).await;
        let done = a.json(&["job", "submit", "--kind", "5050", "--input", &format!("story {n}")]).await;
        assert_eq!(done["output"], "an honest story", "{done}");
        assert_eq!(done["executed_by"].as_str(), Some(&*npub(&b)), "{done}");
    }
    rogue.rounds(3).await;
    for node in [&a, &b] {
        for n in 0..10 {
            let text = format!("entry number {n} while a rogue shouts");
            eventually("an entry on both", async || {
                let found = node.json(&["memory", "search", &text, "--limit", "50"]).await;
                found.as_array().unwrap().iter().any(|one| one["text"] == text.as_str()).then_some(())
            })
            .await;
        }
        let (_, page, _) = node.cli(&["memory", "page", "show", "list"]).await;
        assert_eq!(page.trim(), "- milk", "what it forked and forged is not on the page");
    }
    // It has made itself neither admin nor owner, and thrown nobody out.
    let peers = a.json(&["peer", "list"]).await;
    let of_rogue = peers.as_array().unwrap().iter().find(|peer| peer["npub"] == rogue.npub.as_str());
    let Some(rogue_peer) = of_rogue else { panic!("{} is not in {peers}", rogue.npub) };
    assert_eq!(rogue_peer["role"], "sibling", "{rogue_peer}");
    assert!(seen(&a, &b).await.is_some() && seen(&b, &a).await.is_some());
    let (code, _, err) = b.cli(&["peer", "remove", &rogue.npub]).await;
    assert!(code == 1, "{err}");
    // And it can be thrown out.
    a.json(&["peer", "remove", &rogue.npub]).await;
    eventually("it is out on both", async || {
        let mut is_out = true;
        for node in [&a, &b] {
            let peers = node.json(&["peer", "list"]).await;
            is_out &=
                !peers.as_array().unwrap().iter().any(|p| p["npub"] == rogue.npub.as_str() && p["state"] == "member");
        }
        is_out.then_some(())
    })
    .await;
    eventually("equal", async || {
        let (code, out, _) = a.cli(&["peer", "doctor", "--json"]).await;
        let report: Value = serde_json::from_str(&out).unwrap();
        (code == 0 && report["ok"] == true).then_some(())
    })
    .await;
    rogue.stop().await;
}

/// The process of `src/rogue.rs`.
struct Rogue {
    child: tokio::process::Child,
    lines: tokio::io::Lines<tokio::io::BufReader<tokio::process::ChildStdout>>,
    npub: String,
}

impl Rogue {
    async fn join(inviter: &Node) -> Self {
        use tokio::io::AsyncBufReadExt;
        let made = inviter.json(&["peer", "invite"]).await;
        let mut child = tokio::process::Command::new(tests::node::binary().with_file_name("rogue"))
            .arg(made["code"].as_str().unwrap())
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = tokio::io::BufReader::new(child.stdout.take().unwrap()).lines();
        let joined = tokio::time::timeout(tests::PATIENCE, lines.next_line()).await.unwrap().unwrap().unwrap();
        let npub = joined.strip_prefix("joined ").unwrap().to_owned();
        Self { child, lines, npub }
    }

    /// Waits until it has done all its deeds so many times.
    async fn rounds(&mut self, count: usize) {
        for _ in 0..count {
            let line = tokio::time::timeout(tests::PATIENCE, self.lines.next_line()).await.unwrap().unwrap();
            let line = line.unwrap();
            assert!(line.starts_with("round"), "{line}");
        }
    }

    async fn stop(mut self) {
        drop(self.child.stdin.take());
        while self.lines.next_line().await.unwrap().is_some() {}
        assert!(self.child.wait().await.unwrap().success());
    }
}
