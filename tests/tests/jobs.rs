//! Jobs (NIP-90) in clear, from the outside: inputs, answers, refusals, what is taken back.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::response::{Html, Redirect};
use axum::routing::get;
use nostr::{Event, EventBuilder, EventId, Filter, Keys, Kind, Tag, Timestamp};
use serde_json::Value;
use tests::client::request;
use tests::double::Pages;
use tests::node::keys;
use tests::{Client, Node, eventually};

/// A node, a client of it, and the node's key.
async fn node_and_client(config: &str) -> (Node, Client, String) {
    let node = Node::builder().config(config).start().await;
    let client = Client::connect(node.relay()).await;
    let p = node.public_key().to_hex();
    (node, client, p)
}

fn tag<'a>(event: &'a Event, name: &str) -> Option<&'a [String]> {
    event.tags.iter().map(Tag::as_slice).find(|t| t[0] == name)
}

/// The `error` feedback to `asked`: its words.
async fn error_to(client: &mut Client, asked: &Event) -> String {
    let feedback = client.subscribe(Filter::new().event(asked.id).kind(Kind::from_u16(7000))).await;
    let event = client.next_event(&feedback).await;
    let status = tag(&event, "status").unwrap();
    assert_eq!(status[1], "error");
    status[2].clone()
}

/// Sends a job that must be answered, and says when everything published before it was seen by the desk.
async fn fence(client: &mut Client, p: &str) {
    let asked = request(&keys(), 5000, &[&["i", "fence", "text"], &["p", p]]);
    client.must_publish(&asked).await;
    client.result(&asked).await;
}

#[tokio::test]
async fn a_job_gets_its_result() {
    let (node, mut client, p) = node_and_client("").await;
    let asked = request(&keys(), 5000, &[&["i", "hello", "text"], &["p", &p]]);
    client.must_publish(&asked).await;
    let result = client.result(&asked).await;
    assert_eq!((result.pubkey, result.content.as_str()), (node.public_key(), "hello"));
}

#[tokio::test]
async fn a_result_carries_request_e_p_i_and_amount() {
    let (_node, mut client, p) = node_and_client("").await;
    let asked = request(
        &keys(),
        5000,
        &[&["i", "hello", "text"], &["p", &p], &["bid", "1000"], &["output", "text/plain"], &["t", "x"], &["odd"]],
    );
    client.must_publish(&asked).await;
    let result = client.result(&asked).await;
    let original: Value = serde_json::from_str(&tag(&result, "request").unwrap()[1]).unwrap();
    assert_eq!(original, serde_json::to_value(&asked).unwrap());
    let first_e = tag(&result, "e").unwrap();
    assert_eq!(first_e[1], asked.id.to_hex());
    assert_eq!(tag(&result, "p").unwrap()[1], asked.pubkey.to_hex());
    assert_eq!(tag(&result, "i").unwrap(), ["i", "hello", "text"]);
    assert_eq!(tag(&result, "amount").unwrap()[1], "0");
}

#[tokio::test]
async fn a_broadcast_is_answered_and_a_request_for_somebody_else_is_left_alone() {
    let (_node, mut client, p) = node_and_client("").await;
    let other = keys().public_key().to_hex();
    let theirs = request(&keys(), 5000, &[&["i", "not yours", "text"], &["p", &other]]);
    let broken = request(&keys(), 5000, &[&["i", "not yours", "nonsense"], &["p", &other]]);
    let both = request(&keys(), 5000, &[&["i", "ours too", "text"], &["p", &other], &["p", &p]]);
    let everybody = request(&keys(), 5000, &[&["i", "all", "text"]]);
    for asked in [&theirs, &broken, &both, &everybody] {
        client.must_publish(asked).await;
    }
    assert_eq!(client.result(&both).await.content, "ours too");
    assert_eq!(client.result(&everybody).await.content, "all");
    fence(&mut client, &p).await;
    assert!(client.answers(&theirs).await.is_empty() && client.answers(&broken).await.is_empty());
}

#[tokio::test]
async fn inputs_without_a_type_and_prompts_and_contents_are_read() {
    let (_node, mut client, p) = node_and_client("").await;
    let bare = request(&keys(), 5000, &[&["i", "bare"], &["p", &p]]);
    let prompt = request(&keys(), 5000, &[&["i", "prompted", "prompt"], &["p", &p]]);
    let content = EventBuilder::new(Kind::from_u16(5000), "in the content")
        .tag(Tag::parse(["p", &p]).unwrap())
        .sign_with_keys(&keys())
        .unwrap();
    for (asked, expected) in [(bare, "bare"), (prompt, "prompted"), (content, "in the content")] {
        client.must_publish(&asked).await;
        assert_eq!(client.result(&asked).await.content, expected);
    }
}

#[tokio::test]
async fn an_event_is_an_input() {
    let (_node, mut client, p) = node_and_client("").await;
    let note = EventBuilder::text_note("the words of a note").sign_with_keys(&keys()).unwrap();
    client.must_publish(&note).await;
    let asked = request(&keys(), 5000, &[&["i", &note.id.to_hex(), "event"], &["p", &p]]);
    client.must_publish(&asked).await;
    assert_eq!(client.result(&asked).await.content, "the words of a note");
    let missing = request(&keys(), 5000, &[&["i", &EventId::all_zeros().to_hex(), "event"], &["p", &p]]);
    client.must_publish(&missing).await;
    assert!(error_to(&mut client, &missing).await.contains("was not found"));
}

#[tokio::test]
async fn a_private_event_is_no_input_of_a_stranger() {
    let (_node, mut client, p) = node_and_client("").await;
    let secret = EventBuilder::new(Kind::from_u16(4), "ciphertext?iv=x")
        .tag(Tag::parse(["p", &p]).unwrap())
        .sign_with_keys(&keys())
        .unwrap();
    client.must_publish(&secret).await;
    let asked = request(&keys(), 5000, &[&["i", &secret.id.to_hex(), "event"], &["p", &p]]);
    client.must_publish(&asked).await;
    assert!(error_to(&mut client, &asked).await.contains("was not found"));
}

#[tokio::test]
async fn a_job_is_chained_to_one_that_has_no_result_yet() {
    let (_node, mut client, p) = node_and_client("").await;
    let first = request(&keys(), 5000, &[&["i", "first words", "text"], &["p", &p]]);
    let second = request(&keys(), 5000, &[&["i", &first.id.to_hex(), "job"], &["p", &p]]);
    client.must_publish(&second).await;
    // The chained job is being resolved: it holds no worker, and others are served meanwhile.
    fence(&mut client, &p).await;
    assert!(client.answers(&second).await.is_empty());
    client.must_publish(&first).await;
    assert_eq!(client.result(&second).await.content, "first words");
}

const PAGE: &str = "<html><head><title>A page</title></head><body><nav><a href='/x'>Menu of links</a></nav><article><h1>Otters</h1>\
<p>Otters hold hands while they sleep, so that they do not drift apart in the current of the river.</p>\
<p>They also keep a favourite stone in a pocket of loose skin, and use it to open shells all their life.</p></article>\
<script>var hidden = 'code';</script><footer>Copyright</footer></body></html>";

async fn pages(fetched: &Arc<AtomicUsize>) -> Pages {
    let counter = Arc::clone(fetched);
    let page = get(async move || {
        counter.fetch_add(1, Ordering::SeqCst);
        Html(PAGE)
    });
    Pages::serve(Router::new().route("/otters", page)).await
}

#[tokio::test]
async fn a_url_is_read_where_the_owner_allows_its_host() {
    let fetched = Arc::default();
    let pages = pages(&fetched).await;
    let (_node, mut client, p) = node_and_client(&format!("[dvm]\nprivate_hosts = [\"{}\"]", pages.address)).await;
    let url = format!("http://{}/otters", pages.address);
    let asked = request(&keys(), 5000, &[&["i", &url, "url"], &["p", &p]]);
    client.must_publish(&asked).await;
    let text = client.result(&asked).await.content;
    assert!(text.contains("Otters hold hands") && text.contains("favourite stone"), "{text}");
    assert!(!text.contains("hidden") && !text.contains("<p>"), "{text}");
    let summary = request(&keys(), 5001, &[&["i", &url, "url"], &["param", "length", "short"], &["p", &p]]);
    client.must_publish(&summary).await;
    assert!(client.result(&summary).await.content.to_lowercase().contains("otters"));
    assert_eq!(fetched.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_private_address_is_not_fetched_neither_by_name_nor_by_redirect() {
    let fetched = Arc::default();
    let inner = pages(&fetched).await;
    let target = format!("http://{}/otters", inner.address);
    let to = target.clone();
    let redirecting = Pages::serve(Router::new().route("/", get(async move || Redirect::temporary(&to)))).await;
    let allowed = format!("[dvm]\nprivate_hosts = [\"{}\"]", redirecting.address);
    let (_node, mut client, p) = node_and_client(&allowed).await;
    let port = inner.address.port();
    let urls = [
        target,
        format!("http://localhost:{port}/otters"),
        format!("http://[::ffff:127.0.0.1]:{port}/otters"),
        format!("http://2130706433:{port}/otters"),
        format!("http://{}/", redirecting.address),
    ];
    for url in urls {
        let asked = request(&keys(), 5000, &[&["i", &url, "url"], &["p", &p]]);
        client.must_publish(&asked).await;
        let reason = error_to(&mut client, &asked).await;
        assert!(reason.contains("not a public address"), "{url}: {reason}");
    }
    assert_eq!(fetched.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn notes_and_people_are_found_with_params() {
    let (_node, mut client, p) = node_and_client("").await;
    let (alice, bob) = (keys(), keys());
    let note = |who: &Keys, text: &str| EventBuilder::text_note(text).sign_with_keys(who).unwrap();
    let (hers, his) = (note(&alice, "a heron on the river"), note(&bob, "another heron, another river"));
    let profile = EventBuilder::new(Kind::Metadata, r#"{"name":"alice","about":"watches herons"}"#);
    for event in [&hers, &his, &profile.sign_with_keys(&alice).unwrap()] {
        client.must_publish(event).await;
    }
    let found = async |client: &mut Client, kind, tags: &[&[&str]]| -> BTreeSet<String> {
        let asked = request(&keys(), kind, tags);
        client.must_publish(&asked).await;
        let content = client.result(&asked).await.content;
        let tags: Vec<(String, String)> = serde_json::from_str(&content).unwrap();
        tags.into_iter().map(|(name, value)| format!("{name} {value}")).collect()
    };
    let ids = |events: &[&Event]| events.iter().map(|e| format!("e {}", e.id)).collect::<BTreeSet<_>>();
    let all = found(&mut client, 5302, &[&["i", "heron", "text"], &["p", &p]]).await;
    assert_eq!(all, ids(&[&hers, &his]));
    let users = format!(r#"[["p","{}"]]"#, bob.public_key());
    let bobs = found(&mut client, 5302, &[&["i", "heron", "text"], &["param", "users", &users], &["p", &p]]).await;
    assert_eq!(bobs, ids(&[&his]));
    let one = found(&mut client, 5302, &[&["i", "heron", "text"], &["param", "max_results", "1"], &["p", &p]]).await;
    assert_eq!(one.len(), 1);
    let people = found(&mut client, 5303, &[&["i", "herons", "text"], &["p", &p]]).await;
    assert_eq!(people, BTreeSet::from([format!("p {}", alice.public_key())]));
}

#[tokio::test]
async fn a_malformed_request_gets_an_error_that_helps() {
    let (_node, mut client, p) = node_and_client("").await;
    let many: Vec<String> = (0..17).map(|n| n.to_string()).collect();
    let mut inputs: Vec<Vec<&str>> = many.iter().map(|n| vec!["i", n.as_str(), "text"]).collect();
    inputs.push(vec!["p", &p]);
    let crowd: Vec<&[&str]> = inputs.iter().map(Vec::as_slice).collect();
    let cases: [(u16, &[&[&str]], &str); 7] = [
        (5000, &[&["i", "x", "smell"], &["p", &p]], "use text, url, event or job"),
        (5000, &[&["i", "", "text"], &["p", &p]], "no data"),
        (5000, &[&["i"], &["p", &p]], "no data"),
        (5000, &[&["i", "abc", "event"], &["p", &p]], "64 hexadecimal"),
        (5000, &[&["i", "x", "text"], &["bid", "a lot"], &["p", &p]], "millisats"),
        (5000, &[&["p", &p]], "nothing to work on"),
        (5000, &crowd, "at most 16 inputs"),
    ];
    for (kind, tags, expected) in cases {
        let asked = request(&keys(), kind, tags);
        client.must_publish(&asked).await;
        let reason = error_to(&mut client, &asked).await;
        assert!(reason.contains(expected), "{tags:?}: {reason}");
    }
    let unknown = request(&keys(), 5999, &[&["i", "x", "text"], &["p", &p]]);
    client.must_publish(&unknown).await;
    assert!(error_to(&mut client, &unknown).await.contains("not offered"));
    let shouted = request(&keys(), 5999, &[&["i", "x", "text"]]);
    client.must_publish(&shouted).await;
    fence(&mut client, &p).await;
    assert!(client.answers(&shouted).await.is_empty());
}

#[tokio::test]
async fn an_expired_or_too_old_request_is_never_answered() {
    let (node, mut client, p) = node_and_client("[dvm]\ncatch_up_h = 1").await;
    let old = EventBuilder::new(Kind::from_u16(5000), "old")
        .tag(Tag::parse(["p", &p]).unwrap())
        .custom_created_at(Timestamp::now() - 7200)
        .sign_with_keys(&keys())
        .unwrap();
    client.must_publish(&old).await;
    let past = (Timestamp::now().as_secs() - 5).to_string();
    let late = request(&keys(), 5000, &[&["i", "late", "text"], &["expiration", &past], &["p", &p]]);
    let _refused_or_not = client.publish(&late).await;
    // Its input never comes; its time is over first, and its result, when it comes, is nobody's any more.
    let soon = (Timestamp::now().as_secs() + 6).to_string();
    let first = request(&keys(), 5000, &[&["i", "first", "text"], &["p", &p]]);
    let chained = request(&keys(), 5000, &[&["i", &first.id.to_hex(), "job"], &["expiration", &soon], &["p", &p]]);
    client.must_publish(&chained).await;
    let id = chained.id.to_hex();
    eventually("the job expires", async || {
        // The relay's OK comes before the desk has taken the request in: until then there is no such job.
        let (_, out, _) = node.cli(&["job", "show", &id, "--json"]).await;
        serde_json::from_str::<Value>(&out).ok().filter(|job| job["state"] == "expired")
    })
    .await;
    client.must_publish(&first).await;
    client.result(&first).await;
    fence(&mut client, &p).await;
    for asked in [&old, &late, &chained] {
        assert!(client.answers(asked).await.is_empty());
    }
}

#[tokio::test]
async fn kind_5_of_its_author_that_comes_first_takes_a_request_back_and_nobody_elses_does() {
    let (_node, mut client, p) = node_and_client("").await;
    let (author, thief) = (keys(), keys());
    let taken_back = request(&author, 5000, &[&["i", "never mind", "text"], &["p", &p]]);
    let kept = request(&author, 5000, &[&["i", "still wanted", "text"], &["p", &p]]);
    let deletion = |who: &Keys, of: &Event| {
        let tags = [Tag::event(of.id), Tag::parse(["k", "5000"]).unwrap()];
        EventBuilder::new(Kind::EventDeletion, "").tags(tags).sign_with_keys(who).unwrap()
    };
    client.must_publish(&deletion(&author, &taken_back)).await;
    client.must_publish(&deletion(&thief, &kept)).await;
    let (_refused_or_not, _) = client.publish(&taken_back).await;
    client.must_publish(&kept).await;
    assert_eq!(client.result(&kept).await.content, "still wanted");
    fence(&mut client, &p).await;
    assert!(client.answers(&taken_back).await.is_empty());
}

#[tokio::test]
async fn one_author_has_so_many_jobs_a_minute() {
    let (_node, mut client, p) = node_and_client("[dvm]\njobs_per_author_per_min = 3").await;
    let author = keys();
    // The window is a minute of the clock: in the worst case the jobs fall into two of them.
    let mut refused = BTreeSet::new();
    let mut answered = 0;
    for n in 0..8 {
        let asked = request(&author, 5000, &[&["i", &n.to_string(), "text"], &["p", &p]]);
        client.must_publish(&asked).await;
        fence(&mut client, &p).await;
        for answer in client.answers(&asked).await {
            match tag(&answer, "status") {
                Some(status) => drop(refused.insert(status[2].clone())),
                None => answered += 1,
            }
        }
    }
    assert!((3..=6).contains(&answered), "{answered}");
    assert_eq!(refused.len(), 1);
    assert!(refused.first().unwrap().contains("too many jobs"), "{refused:?}");
}
