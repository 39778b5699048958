//! Encrypted jobs: read in NIP-44 and NIP-04, answered in NIP-44, and never with a clear word.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use nostr::nips::{nip04, nip44};
use nostr::{Event, EventBuilder, Filter, Keys, Kind, PublicKey, Tag};
use serde_json::Value;
use tests::client::{request, sealed_request};
use tests::node::keys;
use tests::{Client, ModelDouble, Node, Outside, eventually};

const SECRET: &str = "heliotrope-zeppelin-42";

/// An encrypted request under NIP-04.
fn sealed_04(keys: &Keys, to: &PublicKey, kind: u16, tags: &[&[&str]]) -> Event {
    let content = nip04::encrypt(keys.secret_key(), to, serde_json::to_string(tags).unwrap()).unwrap();
    sealed_with(keys, to, kind, &content)
}

/// A request that says it is encrypted, with any content.
fn sealed_with(keys: &Keys, to: &PublicKey, kind: u16, content: &str) -> Event {
    let open = [Tag::public_key(*to), Tag::parse(["encrypted"]).unwrap()];
    EventBuilder::new(Kind::from_u16(kind), content).tags(open).sign_with_keys(keys).unwrap()
}

/// The clear text of an answer, which must be NIP-44.
fn open(keys: &Keys, answer: &Event) -> String {
    nip44::decrypt(keys.secret_key(), &answer.pubkey, &answer.content).unwrap()
}

fn names(event: &Event) -> Vec<&str> {
    event.tags.iter().map(|t| t.as_slice()[0].as_str()).collect()
}

/// Nothing that the node said to `asked` tells what it is about or how it goes.
fn tells_nothing(answers: &[Event], asked: &Event) {
    assert!(!answers.is_empty());
    for answer in answers {
        let text = serde_json::to_string(answer).unwrap();
        for word in [SECRET, "processing", "partial", "error", "status", "decrypt", "input"] {
            assert!(!text.contains(word), "{word} in {text}");
        }
        let tags = names(answer);
        assert!(tags.contains(&"encrypted") && !tags.contains(&"i") && !tags.contains(&"status"), "{tags:?}");
        assert!(tags.contains(&"e") && tags.contains(&"p"));
        if answer.kind.as_u16() != 7000 {
            let tag = answer.tags.iter().map(Tag::as_slice).find(|t| t[0] == "request").unwrap();
            let original: Value = serde_json::from_str(&tag[1]).unwrap();
            assert_eq!(original, serde_json::to_value(asked).unwrap(), "`request` holds the ciphertext as it came");
        }
    }
}

#[tokio::test]
async fn encrypted_requests_are_answered_in_nip_44_with_no_clear_word() {
    let node = Node::start().await;
    let mut client = Client::connect(node.relay()).await;
    let author = keys();
    let tags: &[&[&str]] = &[&["i", SECRET, "text"], &["param", "length", "short"], &["output", "text/plain"]];
    for kind in [5000, 5001] {
        for asked in [sealed_request, sealed_04].map(|seal| seal(&author, &node.public_key(), kind, tags)) {
            client.must_publish(&asked).await;
            let result = client.result(&asked).await;
            assert_eq!(open(&author, &result), SECRET);
            tells_nothing(&client.answers(&asked).await, &asked);
        }
    }
    let everything = client.query(Filter::new().limit(5000)).await;
    assert!(everything.len() > 8 && !serde_json::to_string(&everything).unwrap().contains(SECRET));
    assert!(!node.log().contains(SECRET), "the log tells nothing either");
}

#[tokio::test]
async fn an_encrypted_request_that_cannot_be_read_gets_an_encrypted_error_that_helps() {
    let node = Node::start().await;
    let mut client = Client::connect(node.relay()).await;
    let (author, to) = (keys(), node.public_key());
    let seal = |plain: &str| nip44::encrypt(author.secret_key(), &to, plain, nip44::Version::V2).unwrap();
    let cases = [
        (seal(SECRET), "JSON array of tags"),
        (seal(&format!(r#"[["i","{SECRET}","smell"]]"#)), "use text, url, event or job"),
        (seal("[]"), "nothing to work on"),
        (SECRET.repeat(20), "NIP-44"),
        ("AAAA?iv=AAAA".to_owned(), "NIP-44"),
        (String::new(), "NIP-44"),
    ];
    for (content, expected) in cases {
        let asked = sealed_with(&author, &to, 5000, &content);
        client.must_publish(&asked).await;
        let wait = client.subscribe(Filter::new().event(asked.id).kind(Kind::from_u16(7000))).await;
        let feedback = client.next_event(&wait).await;
        let tags: Vec<Vec<String>> = serde_json::from_str(&open(&author, &feedback)).unwrap();
        let status = tags.iter().find(|t| t[0] == "status").unwrap();
        assert!(status[1] == "error" && status[2].contains(expected), "{content}: {status:?}");
        tells_nothing(&client.answers(&asked).await, &asked);
    }
}

#[tokio::test]
async fn feedback_to_an_encrypted_request_is_encrypted_too() {
    let words = ["heliotrope-", "zeppelin-", "42 ", "and so ", "it goes "];
    let model = ModelDouble::start(&words, Duration::from_millis(800)).await;
    let node = Node::builder().config(&model.config("")).start().await;
    let mut client = Client::connect(node.relay()).await;
    let author = keys();
    let asked = sealed_request(&author, &node.public_key(), 5050, &[&["i", SECRET, "text"]]);
    let wait = client.subscribe(Filter::new().event(asked.id).kind(Kind::from_u16(7000))).await;
    client.must_publish(&asked).await;
    let mut statuses = Vec::new();
    while !statuses.contains(&"partial".to_owned()) {
        let payload = open(&author, &client.next_event(&wait).await);
        let tags: Vec<Vec<String>> = serde_json::from_str(&payload).unwrap();
        statuses.push(tags.iter().find(|t| t[0] == "status").unwrap()[1].clone());
    }
    assert_eq!(open(&author, &client.result(&asked).await), words.concat());
    tells_nothing(&client.answers(&asked).await, &asked);
}

#[tokio::test]
async fn an_encrypted_request_for_somebody_else_or_for_nobody_is_left_alone() {
    let node = Node::start().await;
    let mut client = Client::connect(node.relay()).await;
    let (author, other) = (keys(), keys());
    let theirs = sealed_request(&author, &other.public_key(), 5000, &[&["i", SECRET, "text"]]);
    let nobodys = EventBuilder::new(Kind::from_u16(5000), theirs.content.clone())
        .tag(Tag::parse(["encrypted"]).unwrap())
        .sign_with_keys(&author)
        .unwrap();
    let ours = sealed_request(&author, &node.public_key(), 5000, &[&["i", "last", "text"]]);
    for asked in [&theirs, &nobodys, &ours] {
        client.must_publish(asked).await;
    }
    client.result(&ours).await;
    assert!(client.answers(&theirs).await.is_empty() && client.answers(&nobodys).await.is_empty());
}

#[tokio::test]
async fn kind_5_takes_back_an_encrypted_request_too() {
    let words = ["word "; 200];
    let model = ModelDouble::start(&words, Duration::from_millis(300)).await;
    let node = Node::builder().config(&model.config("")).start().await;
    let mut client = Client::connect(node.relay()).await;
    let author = keys();
    let asked = sealed_request(&author, &node.public_key(), 5050, &[&["i", SECRET, "text"]]);
    client.must_publish(&asked).await;
    eventually("the model is asked", async || (model.calls() == 1).then_some(())).await;
    let deletion = EventBuilder::new(Kind::EventDeletion, "").tag(Tag::event(asked.id));
    client.must_publish(&deletion.sign_with_keys(&author).unwrap()).await;
    eventually("the model call is dropped", async || (model.hung_up() == 1).then_some(())).await;
}

#[tokio::test]
async fn the_relays_inside_an_encrypted_request_are_used_and_not_shown() {
    let outside = Outside::start().await;
    let node = Node::builder().config(&Outside::config(&[&outside])).start().await;
    let mut client = Client::connect(node.relay()).await;
    let author = keys();
    let tags: &[&[&str]] = &[&["i", SECRET, "text"], &["relays", &outside.url()]];
    let asked = sealed_request(&author, &node.public_key(), 5000, tags);
    client.must_publish(&asked).await;
    client.result(&asked).await;
    let filter = Filter::new().event(asked.id).author(node.public_key());
    let there = eventually("the answer reaches the relay inside", async || {
        Some(outside.query(filter.clone()).await).filter(|found| !found.is_empty())
    })
    .await;
    assert_eq!(open(&author, &there[0]), SECRET);
    tells_nothing(&there, &asked);
}

#[tokio::test]
async fn a_clear_job_about_an_encrypted_answer_does_not_open_it() {
    let node = Node::start().await;
    let mut client = Client::connect(node.relay()).await;
    let author = keys();
    let asked = sealed_request(&author, &node.public_key(), 5000, &[&["i", SECRET, "text"]]);
    client.must_publish(&asked).await;
    let result = client.result(&asked).await;
    let p = node.public_key().to_hex();
    let prying = request(&keys(), 5000, &[&["i", &result.id.to_hex(), "event"], &["p", &p]]);
    client.must_publish(&prying).await;
    assert_eq!(client.result(&prying).await.content, result.content, "ciphertext stays ciphertext");
}
