//! Direct messages (NIP-17): who is answered, who is not, and who can read the answers.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use nostr::{Event, EventBuilder, Filter, JsonUtil, Keys, Kind, SecretKey, Tag, Timestamp, ToBech32, UnsignedEvent};
use tempfile::TempDir;
use tests::client::{encrypt, message, request, unwrap, wrap, wrap_at, wrap_text};
use tests::node::keys;
use tests::{Client, Node, Outside, eventually};

const DAY_S: u64 = 24 * 3600;

fn owned_by(owner: &Keys) -> String {
    format!("[owner]\nnpub = \"{}\"", owner.public_key().to_bech32().unwrap())
}

fn now() -> u64 {
    Timestamp::now().as_secs()
}

fn rumor(from: &Keys, node: &Node, text: &str) -> UnsignedEvent {
    nips::dm::rumor(from.public_key(), &node.public_key(), text, None, now())
}

async fn send(node: &Node, wrap: &Event) {
    Client::connect(node.relay()).await.must_publish(wrap).await;
}

/// Everything that `reader` can open on the node's relay, by the node.
async fn mail(node: &Node, reader: &Keys) -> Vec<String> {
    let mut client = Client::connect(node.relay()).await;
    client.auth(reader).await;
    let wraps = client.query(Filter::new().kind(Kind::GiftWrap).pubkey(reader.public_key())).await;
    let opened = wraps.iter().filter_map(|wrap| unwrap(reader, wrap));
    opened.filter(|(author, _)| *author == node.public_key()).map(|(_, text)| text).collect()
}

/// The mail of `reader`, as soon as there are `count` messages.
async fn mail_of(node: &Node, reader: &Keys, count: usize) -> Vec<String> {
    eventually("the answer is there", async || Some(mail(node, reader).await).filter(|m| m.len() >= count)).await
}

/// Says when everything sent before was seen: a job and a message of somebody new are answered.
async fn fence(node: &Node) {
    let new = keys();
    send(node, &message(&new, &node.public_key(), "hello").1).await;
    mail_of(node, &new, 1).await;
    let mut client = Client::connect(node.relay()).await;
    let asked = request(&keys(), 5000, &[&["i", "fence", "text"]]);
    client.must_publish(&asked).await;
    client.result(&asked).await;
}

#[tokio::test]
async fn the_owner_and_the_allowed_are_answered_without_a_model_too() {
    let (owner, friend) = (keys(), keys());
    let allow = format!("[nostr]\nallow = [\"{}\"]", friend.public_key().to_bech32().unwrap());
    let node = Node::builder().config(&owned_by(&owner)).config(&allow).start().await;
    for who in [&owner, &friend] {
        send(&node, &message(who, &node.public_key(), "What can you do?").1).await;
        let answer = mail_of(&node, who, 1).await.remove(0);
        assert!(answer.contains("no language model") && answer.contains("kind 5000"), "{answer}");
    }
    assert!(mail(&node, &owner).await[0].contains("[[models]]"), "the owner hears how to give it one");
    assert!(!mail(&node, &friend).await[0].contains("config.toml"));
}

#[tokio::test]
async fn a_stranger_gets_one_polite_line_a_day_also_across_a_restart() {
    let dir = TempDir::new().unwrap();
    let (owner, stranger) = (keys(), keys());
    let start = async || Node::builder().dir(dir.path()).config(&owned_by(&owner)).start().await;
    let mut node = start().await;
    for n in 0..3 {
        send(&node, &message(&stranger, &node.public_key(), &format!("hello {n}")).1).await;
    }
    let answers = mail_of(&node, &stranger, 1).await;
    assert!(answers[0].contains("cannot answer you here"), "{answers:?}");
    fence(&node).await;
    assert_eq!(mail(&node, &stranger).await.len(), 1);
    node.kill().await;
    let node = start().await;
    send(&node, &message(&stranger, &node.public_key(), "hello again").1).await;
    fence(&node).await;
    assert_eq!(mail(&node, &stranger).await.len(), 1);
}

#[tokio::test]
async fn an_answer_is_readable_only_by_its_authenticated_recipient_and_the_node_keeps_a_copy() {
    let owner = keys();
    let node = Node::builder().config(&owned_by(&owner)).start().await;
    send(&node, &message(&owner, &node.public_key(), "What can you do?").1).await;
    let answer = mail_of(&node, &owner, 1).await.remove(0);
    for reader in [None, Some(keys())] {
        let mut client = Client::connect(node.relay()).await;
        if let Some(reader) = &reader {
            client.auth(reader).await;
        }
        let about_owner = Filter::new().kind(Kind::GiftWrap).pubkey(owner.public_key());
        assert!(client.query(about_owner).await.is_empty());
        let everything = client.query(Filter::new().limit(5000)).await;
        assert!(!everything.is_empty() && everything.iter().all(|e| e.kind != Kind::GiftWrap));
    }
    let itself = node_keys(node.dir());
    assert_eq!(itself.public_key(), node.public_key());
    assert_eq!(mail(&node, &itself).await, [answer]);
}

/// The passport of a node whose key has no passphrase.
fn node_keys(dir: &Path) -> Keys {
    let line = std::fs::read_to_string(dir.join("keys").join("passport")).unwrap();
    Keys::new(SecretKey::parse(line.trim()).unwrap())
}

#[tokio::test]
async fn an_answer_names_the_message_and_its_wrap_and_seal_are_dated_back_and_plain() {
    let owner = keys();
    let node = Node::builder().config(&owned_by(&owner)).start().await;
    let (id, wrapped) = message(&owner, &node.public_key(), "What can you do?");
    send(&node, &wrapped).await;
    mail_of(&node, &owner, 1).await;
    let mut client = Client::connect(node.relay()).await;
    client.auth(&owner).await;
    let wraps = client.query(Filter::new().kind(Kind::GiftWrap).pubkey(owner.public_key())).await;
    let layer = nostr::nips::nip44::decrypt(owner.secret_key(), &wraps[0].pubkey, &wraps[0].content).unwrap();
    let seal = Event::from_json(layer).unwrap();
    let inner = nostr::nips::nip44::decrypt(owner.secret_key(), &seal.pubkey, &seal.content).unwrap();
    let answer = UnsignedEvent::from_json(inner).unwrap();
    assert!(seal.tags.is_empty() && wraps[0].pubkey != node.public_key());
    assert!(answer.tags.event_ids().any(|e| *e == id), "it replies to the message");
    for date in [seal.created_at, wraps[0].created_at] {
        assert!(date.as_secs() <= now() && date.as_secs() + 2 * DAY_S + 60 >= now());
    }
}

#[tokio::test]
async fn forgeries_garbage_and_replays_are_dropped_counted_and_never_answered() {
    let (owner, thief) = (keys(), keys());
    let node = Node::builder().config(&owned_by(&owner)).start().await;
    let to = node.public_key();
    // Somebody else seals words in the owner's name.
    send(&node, &wrap(&thief, &to, &rumor(&owner, &node, "forged"))).await;
    // A seal in the owner's name that the owner did not sign.
    let sealed = encrypt(&thief, &to, &rumor(&owner, &node, "unsigned").as_json());
    let mut seal = nips::dm::seal(thief.public_key(), &sealed, now()).sign_with_keys(&thief).unwrap();
    seal.pubkey = owner.public_key();
    send(&node, &wrap_text(&to, &seal.as_json(), now())).await;
    // An id that is not the hash.
    let mut renamed = rumor(&owner, &node, "renamed");
    renamed.id = Some(nostr::EventId::all_zeros());
    send(&node, &wrap(&owner, &to, &renamed)).await;
    // Other kinds, garbage in each layer, dates from the future.
    let reaction = UnsignedEvent::new(owner.public_key(), Timestamp::now(), Kind::Reaction, [Tag::public_key(to)], "+");
    send(&node, &wrap(&owner, &to, &reaction)).await;
    for garbage in ["not json", "[]", "{}", "\u{0}"] {
        send(&node, &wrap_text(&to, garbage, now())).await;
        let seal = nips::dm::seal(owner.public_key(), &encrypt(&owner, &to, garbage), now());
        send(&node, &wrap_text(&to, &seal.sign_with_keys(&owner).unwrap().as_json(), now())).await;
    }
    let no_cipher = EventBuilder::new(Kind::GiftWrap, "what is this").tag(Tag::public_key(to));
    send(&node, &no_cipher.sign_with_keys(&keys()).unwrap()).await;
    let tomorrow = nips::dm::rumor(owner.public_key(), &to, "tomorrow", None, now() + DAY_S);
    send(&node, &wrap(&owner, &to, &tomorrow)).await;
    fence(&node).await;
    assert!(mail(&node, &owner).await.is_empty() && mail(&node, &thief).await.is_empty());
    let metrics = page(&node, "/metrics").await;
    let counted = metrics.lines().filter(|l| l.contains("dropped") && l.contains("unreadable"));
    let count: f64 = counted.filter_map(|l| l.rsplit(' ').next()?.parse::<f64>().ok()).sum();
    assert!(count >= 13.0, "{metrics}");
}

async fn page(node: &Node, path: &str) -> String {
    reqwest::get(format!("{}{path}", node.http())).await.unwrap().text().await.unwrap()
}

#[tokio::test]
async fn the_same_message_in_new_wraps_is_answered_once_also_across_a_restart() {
    let dir = TempDir::new().unwrap();
    let owner = keys();
    let start = async || Node::builder().dir(dir.path()).config(&owned_by(&owner)).start().await;
    let mut node = start().await;
    let said = rumor(&owner, &node, "only once");
    for back in [0, 10, DAY_S] {
        send(&node, &wrap_at(&owner, &node.public_key(), &said, now() - back)).await;
    }
    mail_of(&node, &owner, 1).await;
    fence(&node).await;
    assert_eq!(mail(&node, &owner).await.len(), 1);
    node.kill().await;
    let node = start().await;
    send(&node, &wrap(&owner, &node.public_key(), &said)).await;
    fence(&node).await;
    assert_eq!(mail(&node, &owner).await.len(), 1);
}

#[tokio::test]
async fn a_message_sent_while_the_node_was_down_is_answered_once_where_the_sender_reads() {
    let (a, b) = (Outside::start().await, Outside::start().await);
    let dir = TempDir::new().unwrap();
    let owner = keys();
    let start = async || {
        let builder = Node::builder().dir(dir.path()).config(&owned_by(&owner));
        builder.config(&Outside::config(&[&a, &b])).start().await
    };
    let mut node = start().await;
    let inbox = EventBuilder::new(Kind::from_u16(10050), "").tag(Tag::parse(["relay", &b.url()]).unwrap());
    Client::connect(node.relay()).await.must_publish(&inbox.sign_with_keys(&owner).unwrap()).await;
    let probe = request(&keys(), 5000, &[&["i", "are you there?", "text"]]);
    a.must_publish(&probe).await;
    Client::connect(node.relay()).await.result(&probe).await;
    node.kill().await;
    // Dated back by almost two days, as clients do.
    let said = rumor(&owner, &node, "while you were away");
    a.must_publish(&wrap_at(&owner, &node.public_key(), &said, now() - 2 * DAY_S + 600)).await;
    for _ in 0..2 {
        let mut node = start().await;
        mail_of(&node, &owner, 1).await;
        let wraps = Filter::new().kind(Kind::GiftWrap).pubkey(owner.public_key());
        let there = eventually("the answer is where the owner reads", async || {
            Some(b.query(wraps.clone()).await).filter(|found| !found.is_empty())
        })
        .await;
        fence(&node).await;
        assert_eq!((there.len(), mail(&node, &owner).await.len()), (1, 1));
        assert!(a.query(wraps).await.is_empty(), "only where the recipient reads");
        node.kill().await;
    }
}

#[tokio::test]
async fn the_claim_code_makes_its_first_sender_the_owner_once() {
    let dir = TempDir::new().unwrap();
    let mut node = Node::builder().dir(dir.path()).for_people().start().await;
    let line = node.welcome.lines().find(|l| l.contains("become its owner")).unwrap();
    let code = line.split_whitespace().last().unwrap().to_owned();
    assert!(!node.log().contains(&code), "the code is not in the log");
    let (first, second) = (keys(), keys());
    let guess = keys();
    send(&node, &message(&guess, &node.public_key(), "AAAA-BBBB-CCCC").1).await;
    assert!(mail_of(&node, &guess, 1).await[0].contains("cannot answer you here"));
    send(&node, &message(&first, &node.public_key(), &format!("my code: {}", code.to_lowercase())).1).await;
    assert!(mail_of(&node, &first, 1).await[0].contains("You are my owner now"));
    send(&node, &message(&second, &node.public_key(), &code).1).await;
    assert!(mail_of(&node, &second, 1).await[0].contains("cannot answer you here"));
    node.kill().await;
    let node = Node::builder().dir(dir.path()).for_people().start().await;
    assert!(!node.welcome.contains("become its owner"), "{}", node.welcome);
    send(&node, &message(&first, &node.public_key(), "What can you do?").1).await;
    let answers = mail_of(&node, &first, 2).await;
    assert!(answers.iter().any(|a| a.contains("[[models]]")), "spoken to as the owner: {answers:?}");
}

#[tokio::test]
async fn a_node_with_an_owner_prints_no_code_and_a_ready_line_never_does() {
    let owner = keys();
    let owned = Node::builder().config(&owned_by(&owner)).for_people().start().await;
    assert!(!owned.welcome.contains("become its owner"));
    let unowned = Node::start().await;
    let mut keys: Vec<&String> = unowned.ready.as_object().unwrap().keys().collect();
    keys.sort();
    assert_eq!(keys, ["http", "npub", "peer_id", "pid", "pubkey", "ready", "relay"]);
}

#[tokio::test]
async fn a_claim_is_kept_if_its_welcome_is_whenever_the_node_dies() {
    let mut welcomed = 0;
    for pass in 1..=6 {
        let dir = TempDir::new().unwrap();
        let point = format!("desk.after-journal:{pass}");
        let builder = Node::builder().dir(dir.path()).env("TIMMY_CRASH_AT", &point).for_people();
        let Ok(mut node) = builder.try_start().await else { continue };
        let line = node.welcome.lines().find(|l| l.contains("become its owner")).unwrap();
        let (claimer, to) = (keys(), node.public_key());
        let claim = message(&claimer, &to, line.split_whitespace().last().unwrap()).1;
        let Some(client) = Client::try_connect(node.relay()).await else { continue };
        if client.publish_until_cut(vec![claim]).await.is_empty() {
            continue;
        }
        // Either it dies at this pass, or every pass of this life is over once the welcome has left.
        eventually("the node dies, or the message is answered", async || {
            let counted = node.cli(&["job", "list", "--json"]).await.1;
            (node.has_ended() || counted.contains("\"settled\"")).then_some(())
        })
        .await;
        if !node.has_ended() {
            node.kill().await;
        }
        let node = Node::builder().dir(dir.path()).for_people().start().await;
        let answer = mail_of(&node, &claimer, 1).await.remove(0);
        let owned = answer.contains("You are my owner now");
        assert_eq!(owned, !node.welcome.contains("become its owner"), "{point}: {answer}");
        welcomed += usize::from(owned);
    }
    assert!(welcomed > 0);
}
