//! The examples of `spec/`: made here from fixed keys, compared with the documents, and read back by the code that nodes run.
//! `UPDATE_SPEC=1` writes them anew.

#![allow(clippy::unwrap_used)]

use std::path::PathBuf;

use nips::Attestation;
use nips::card::PeerCard;
use nips::identity::Identity;
use nips::job::reply::{self, Feedback, Status, answered_job};
use nips::job::{Cipher, Input, JobRequest};
use nips::offer::Offer;
use nostr::secp256k1::{Keypair, Message};
use nostr::{Event, JsonUtil, Keys, Kind, RelayUrl, Tag, Timestamp, UnsignedEvent};
use sha2::{Digest, Sha256};

const AT: u64 = 1_800_000_000;

fn keys(n: u8) -> Keys {
    Keys::parse(&hex::encode([n; 32])).unwrap()
}

/// Signs without randomness, so that the examples stay the same.
fn sign(mut event: UnsignedEvent, keys: &Keys) -> Event {
    let id = event.id();
    let pair = Keypair::from_secret_key(nostr::SECP256K1, keys.secret_key());
    let sig = nostr::SECP256K1.sign_schnorr_no_aux_rand(&Message::from_digest(id.to_bytes()), &pair);
    Event::new(id, event.pubkey, event.created_at, event.kind, event.tags, event.content, sig)
}

fn request(tags: &[&[&str]], content: &str) -> Event {
    let tags = tags.iter().map(|t| Tag::parse(t.iter().copied()).unwrap()).collect::<Vec<_>>();
    let kind = Kind::from_u16(5001);
    sign(UnsignedEvent::new(keys(2).public_key(), Timestamp::from_secs(AT), kind, tags, content), &keys(2))
}

fn clear_request() -> Event {
    let node = keys(1).public_key().to_hex();
    request(&[&["i", "https://example.com/article", "url"], &["param", "length", "short"], &["p", &node]], "")
}

const SEALED_TAGS: &str = r#"[["i","A text that nobody else reads.","text"],["relays","wss://relay.example"]]"#;

fn word() -> Feedback {
    Feedback {
        status: Status::Error,
        message: Some("the page is not text".into()),
        content: String::new(),
        expires_at: None,
    }
}

fn card() -> Event {
    let (node, install) = (keys(1), keys(3));
    let transport = libp2p_identity::Keypair::ed25519_from_bytes([4; 32]).unwrap();
    let card = PeerCard {
        passport: node.public_key(),
        install: install.public_key(),
        peer_id: transport.public().to_peer_id(),
        abilities: vec!["5000".into(), "5001".into()],
        sequence: 1,
        not_after: AT + 86_400,
    };
    let pair = Keypair::from_secret_key(nostr::SECP256K1, install.secret_key());
    let sig = nostr::SECP256K1.sign_schnorr_no_aux_rand(&Message::from_digest(card.statement()), &pair);
    let event = sign(card.event(&sig, &transport, AT).unwrap(), &node);
    assert_eq!(PeerCard::read(&event, AT).unwrap(), card);
    event
}

fn profile() -> Event {
    let identity = Identity {
        node: keys(1).public_key(),
        name: "timmy".into(),
        about: "An agent.".into(),
        domain: Some("example.org".into()),
        relays: vec![RelayUrl::parse("wss://timmy.example.org").unwrap()],
        external: vec![],
        attestation: None,
        souls: vec![],
    };
    sign(identity.documents(AT).remove(0), &keys(1))
}

/// The tag by which the owner, `keys(5)`, attests the node's profile; signed as the document says, without randomness.
fn attestation() -> String {
    let (owner, node) = (keys(5), keys(1).public_key());
    let signed = format!("nostr:agent-auth:{}:kind=0", node.to_hex());
    let pair = Keypair::from_secret_key(nostr::SECP256K1, owner.secret_key());
    let digest = Message::from_digest(Sha256::digest(signed).into());
    let sig = nostr::SECP256K1.sign_schnorr_no_aux_rand(&digest, &pair);
    serde_json::to_string(&["auth", &owner.public_key().to_hex(), "kind=0", &sig.to_string()]).unwrap()
}

/// What the journal keeps of a job that a sister node did.
fn produced() -> Input {
    Input::Produced {
        attempt: 1,
        output: "It is about relays.".to_owned(),
        model: None,
        executed_by: Some(keys(2).public_key()),
    }
}

fn offer() -> Event {
    let kinds = [5000, 5001, 5302, 5303].into();
    let offer =
        Offer { node: keys(1).public_key(), name: "timmy".into(), about: "An agent.".into(), kinds, soul: None };
    sign(offer.event(AT), &keys(1))
}

fn examples() -> Vec<(&'static str, &'static str, String)> {
    let node = keys(1).public_key();
    let asked = clear_request();
    JobRequest::parse(&asked).unwrap();
    let sealed = request(&[&["p", &node.to_hex()], &["encrypted"]], "AoB… (NIP-44)");
    assert_eq!(JobRequest::parse_sealed(&sealed, SEALED_TAGS, Cipher::Nip44).unwrap().relays.len(), 1);
    let result =
        sign(reply::result(node, &asked, Some("wss://timmy.example.org"), "It is about relays.", AT + 1), &keys(1));
    let feedback = sign(reply::feedback(node, &asked, None, &word(), AT + 1), &keys(1));
    let sealed_feedback = sign(reply::sealed_feedback(node, &sealed, None, &word(), "AoC… (NIP-44)", AT + 1), &keys(1));
    for answer in [&result, &feedback] {
        assert_eq!(answered_job(answer), Some(asked.id.into()));
    }
    assert_eq!(answered_job(&sealed_feedback), Some(sealed.id.into()));
    vec![
        ("identity.md", "profile", profile().as_pretty_json()),
        ("identity.md", "auth", attestation()),
        ("identity.md", "card", card().as_pretty_json()),
        ("jobs.md", "request", asked.as_pretty_json()),
        ("jobs.md", "sealed-tags", SEALED_TAGS.to_owned()),
        ("jobs.md", "result", result.as_pretty_json()),
        ("jobs.md", "feedback", feedback.as_pretty_json()),
        ("jobs.md", "sealed-feedback", sealed_feedback.as_pretty_json()),
        ("jobs.md", "produced", serde_json::to_string(&produced()).unwrap()),
        ("jobs.md", "offer", offer().as_pretty_json()),
    ]
}

/// Examples that are parts of an event, or none.
const NO_EVENTS: [&str; 3] = ["sealed-tags", "auth", "produced"];

fn path(file: &str) -> PathBuf {
    PathBuf::from("../spec").join(file)
}

/// The text between the fences after `<!-- example: NAME -->`: before, inside, after.
fn split<'a>(document: &'a str, name: &str) -> (&'a str, &'a str, &'a str) {
    let open = format!("<!-- example: {name} -->\n```json\n");
    let start = document.find(&open).unwrap_or_else(|| panic!("no example `{name}`")) + open.len();
    let end = start + document[start..].find("```").unwrap();
    (&document[..start], &document[start..end], &document[end..])
}

#[test]
fn the_examples_are_what_the_code_writes() {
    for (file, name, expected) in examples() {
        let document = std::fs::read_to_string(path(file)).unwrap();
        let (before, inside, after) = split(&document, name);
        if std::env::var_os("UPDATE_SPEC").is_some() {
            std::fs::write(path(file), format!("{before}{expected}\n{after}")).unwrap();
        } else {
            assert_eq!(inside.trim_end(), expected, "{file}: example `{name}`; after a change: UPDATE_SPEC=1");
        }
    }
}

#[test]
fn every_example_in_the_documents_is_known() {
    let known: Vec<&str> = examples().iter().map(|(_, name, _)| *name).collect();
    for file in ["identity.md", "jobs.md", "messages.md"] {
        let document = std::fs::read_to_string(path(file)).unwrap();
        for name in document.split("<!-- example: ").skip(1).filter_map(|rest| rest.split(" -->").next()) {
            assert!(known.contains(&name), "{file}: example `{name}` is checked by nobody");
        }
        assert_eq!(
            document.matches("```json").count(),
            document.matches("<!-- example: ").count(),
            "{file}: a JSON block without a name"
        );
    }
}

#[test]
fn signed_examples_verify() {
    for (_, name, text) in examples().into_iter().filter(|(_, name, _)| !NO_EVENTS.contains(name)) {
        assert!(Event::from_json(&text).is_ok_and(|e| e.verify().is_ok()), "{name}");
    }
}

#[test]
fn the_attestation_in_the_document_is_the_owners_and_holds_for_the_profile_alone() {
    let document = std::fs::read_to_string(path("identity.md")).unwrap();
    let elements: Vec<String> = serde_json::from_str(split(&document, "auth").1).unwrap();
    let (read, node) = (Attestation::parse(&elements).unwrap(), keys(1).public_key());
    assert_eq!((read.owner, read.tag().as_slice()), (keys(5).public_key(), elements.as_slice()));
    assert_eq!(read.verify(&node, 0, AT), Ok(()));
    assert!(read.verify(&node, 1, AT).is_err() && read.verify(&keys(2).public_key(), 0, AT).is_err());
}

#[test]
fn the_input_in_the_document_is_what_the_journal_has() {
    let document = std::fs::read_to_string(path("jobs.md")).unwrap();
    assert_eq!(serde_json::from_str::<Input>(split(&document, "produced").1).unwrap(), produced());
    // Without a sister node the name of one is not there.
    let own = r#"{"input":"produced","attempt":1,"output":"It is about relays.","model":null}"#;
    let read: Input = serde_json::from_str(own).unwrap();
    assert!(matches!(&read, Input::Produced { executed_by: None, .. }));
    assert_eq!(serde_json::to_string(&read).unwrap(), own);
}
