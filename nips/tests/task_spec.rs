//! The events in `spec/federation-tasks.md`: made here from fixed keys, compared with the document, and read back by the code that nodes
//! run. `UPDATE_SPEC=1` writes them anew.

#![allow(clippy::unwrap_used)]

mod examples;

use examples::{check, cut, is_update};
use std::path::PathBuf;

use nips::task::{
    Ability, Act, Attempt, AudienceClass, Award, Call, Cargo, Commitment, CommitmentSet, Entry, Envelope, Epoch,
    Factor, Label, Lease, Message, Outcome, Output, Reason, Refusal, Reveal, SizeClass, TaskId, Work, commitment_hash,
    open, seal, split, transcript_hash, verify_transcript,
};
use nips::{Audience, Msat};
use nostr::secp256k1::{Keypair, Message as Digest};
use nostr::{Event, EventId, JsonUtil, Keys, PublicKey};
use serde::{Deserialize, Serialize};

const AT: u64 = 1_800_000_000;

fn keys(n: u8) -> Keys {
    Keys::parse(&hex::encode([n; 32])).unwrap()
}

fn attempt() -> Attempt {
    Attempt { task: TaskId::from_bytes([0xab; 32]), epoch: Epoch(1) }
}

/// Requester and worker.
fn both() -> (Keys, Keys) {
    (keys(3), keys(5))
}

fn sign(message: Message, keys: &Keys) -> Envelope {
    Envelope::sign(message, keys, AT)
}

/// An auction with one bidder, in the order of its events.
fn auction() -> Vec<(&'static str, Envelope)> {
    let ((requester, worker), attempt) = (both(), attempt());
    let (price, nonce) = (Msat(1_500), [0xcd; 32]);
    let call = Call {
        attempt,
        ability: Ability::of_kind(5001).unwrap(),
        size: SizeClass::Small,
        audience: AudienceClass::Owner,
        guests: false,
        window_ms: 400,
    };
    let call = sign(Message::Call(call), &requester);
    let hash = commitment_hash(&attempt, &worker.public_key(), price, &nonce);
    let commitment = sign(Message::Commitment(Commitment { attempt, call: call.id(), hash }), &worker);
    let factor = Factor::from_permille(800).unwrap();
    let entries = vec![Entry { commitment: commitment.id(), bidder: worker.public_key(), factor }];
    let set = sign(Message::Set(CommitmentSet { attempt, call: call.id(), entries }), &requester);
    let reveal = sign(Message::Reveal(Reveal { attempt, set: set.id(), price, nonce }), &worker);
    let reveals = vec![reveal.id()];
    let transcript = transcript_hash(&call.id(), &set.id(), &reveals);
    let award =
        Award { attempt, set: set.id(), winner: worker.public_key(), price, lease_ms: 8_000, reveals, transcript };
    let award = sign(Message::Award(award), &requester);
    vec![("call", call), ("commitment", commitment), ("set", set), ("reveal", reveal), ("award", award)]
}

fn lease(act: Act, from: &Keys, to: &Keys) -> Envelope {
    sign(Message::Lease(Lease { attempt: attempt(), to: to.public_key(), act }), from)
}

fn cargo(text: &str, from: &Keys, to: PublicKey) -> Cargo {
    let (digest, parts) = split(text).unwrap();
    let sealed = seal(from, &to, &attempt(), parts[0]).unwrap();
    Cargo { attempt: attempt(), to, index: 0, count: 1, digest, sealed }
}

/// The input of a job that another node does, in the shape that the document describes.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Payload {
    inputs: Vec<Source>,
    params: Vec<(String, String)>,
    output: Option<String>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Source {
    Text(String),
    Url(String),
    Event(Box<Event>),
    Job(Box<Event>),
}

fn payload() -> Payload {
    Payload {
        inputs: vec![
            Source::Text("The text to be summed up.".to_owned()),
            Source::Url("https://example.com/article".to_owned()),
        ],
        params: vec![("length".to_owned(), "short".to_owned())],
        output: None,
    }
}

fn work() -> Work {
    let input = serde_json::to_string(&payload()).unwrap();
    Work { ability: Ability::of_kind(5001).unwrap(), audience: Audience::Owner, input }
}

fn messages() -> Vec<(&'static str, Envelope)> {
    let (requester, worker) = both();
    let input = cargo(&serde_json::to_string(&work()).unwrap(), &requester, worker.public_key());
    let output = Output { output: "In short.".to_owned() };
    let result = cargo(&serde_json::to_string(&output).unwrap(), &worker, requester.public_key());
    let refusal = Refusal { attempt: attempt(), to: worker.public_key(), reason: Reason::OldEpoch, newest: Epoch(2) };
    let accepted = Lease::release(attempt(), worker.public_key(), "accepted", true);
    let mut all = auction();
    all.extend([
        ("accept", lease(Act::Accept, &worker, &requester)),
        ("renew", lease(Act::Renew { turn: 1 }, &worker, &requester)),
        ("grant", lease(Act::Grant { turn: 1 }, &requester, &worker)),
        ("release", sign(Message::Lease(accepted), &requester)),
        ("input", sign(Message::Input(input), &requester)),
        ("result", sign(Message::Result(result), &worker)),
        ("refusal", sign(Message::Refusal(refusal), &requester)),
    ]);
    all
}

fn label() -> Event {
    let (requester, worker) = (keys(1), keys(2));
    let of = |name: &str| -> EventId { messages().iter().find(|(n, _)| *n == name).unwrap().1.id() };
    let label = Label {
        task: attempt().task,
        subject: worker.public_key(),
        outcome: Outcome::Done,
        request: of("call"),
        result: Some(of("result")),
    };
    let mut event = label.to_event(requester.public_key(), AT);
    let id = event.id();
    let pair = Keypair::from_secret_key(nostr::SECP256K1, requester.secret_key());
    let sig = nostr::SECP256K1.sign_schnorr_no_aux_rand(&Digest::from_digest(id.to_bytes()), &pair);
    let event = Event::new(id, event.pubkey, event.created_at, event.kind, event.tags, event.content, sig);
    assert_eq!(Label::verified(&event), Ok((requester.public_key(), label)));
    event
}

fn examples() -> Vec<(&'static str, String)> {
    let mut all: Vec<_> =
        messages().into_iter().map(|(name, envelope)| (name, envelope.event().as_pretty_json())).collect();
    all.push(("payload", serde_json::to_string(&payload()).unwrap()));
    all.push(("label", label().as_pretty_json()));
    all
}

fn path() -> PathBuf {
    PathBuf::from("../spec/federation-tasks.md")
}

#[test]
fn the_examples_are_what_the_code_writes() {
    check(&path(), &examples());
}

#[test]
fn the_examples_say_what_the_document_says() {
    if is_update() {
        return; // The document is being written.
    }
    let document = std::fs::read_to_string(path()).unwrap();
    let read = |name: &str| Envelope::verified(Event::from_json(cut(&document, name).1).unwrap()).unwrap();
    for (name, envelope) in messages() {
        assert_eq!(read(name), envelope, "{name}");
    }
    let events: Vec<Event> = auction().iter().map(|(name, _)| read(name).event().clone()).collect();
    let verified = verify_transcript(&events).unwrap();
    assert_eq!((verified.winner, verified.price), (both().1.public_key(), Msat(1_500)), "a lone bidder's own price");
    let (requester, worker) = both();
    let Message::Input(input) = read("input").message().clone() else { panic!("no input") };
    let text = open(&worker, &requester.public_key(), &input.sealed).unwrap();
    let opened: Work = serde_json::from_str(&text).unwrap();
    assert_eq!(opened, work());
    for json in [opened.input.as_str(), cut(&document, "payload").1] {
        assert_eq!(serde_json::from_str::<Payload>(json).unwrap(), payload());
    }
    assert!(Label::verified(&Event::from_json(cut(&document, "label").1).unwrap()).is_ok());
}

#[test]
fn events_and_results_of_other_jobs_travel_whole_in_an_input() {
    let event = Box::new(label());
    let inputs = vec![Source::Event(event.clone()), Source::Job(event)];
    let whole = Payload { inputs, params: vec![], output: Some("text/plain".to_owned()) };
    let json = serde_json::to_string(&whole).unwrap();
    assert!(json.starts_with(r#"{"inputs":[{"event":{"id":"#) && json.contains(r#"},{"job":{"id":"#), "{json}");
    assert_eq!(serde_json::from_str::<Payload>(&json).unwrap(), whole);
}
