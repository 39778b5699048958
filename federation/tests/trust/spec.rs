//! The examples of `spec/federation-trust.md`: made here from fixed keys, compared with the document, and read back by the code that nodes
//! run. `UPDATE_SPEC=1` writes them anew.

use std::path::PathBuf;

use federation::handshake::Handshake;
use federation::invitation::Frame;
use federation::keyring::{Keyring, SealedKeys, make};
use federation::letters::{receipt, receipt_ids};
use federation::membership::{Log, Taken};
use nips::federation::{
    Act, Answer, Ask, Code, Joiner, Message, Opened, Refusal, Role, Welcome, letter, parse, verified,
};
use nostr::secp256k1::rand::SeedableRng;
use nostr::secp256k1::rand::rngs::StdRng;
use nostr::{Event, EventBuilder, JsonUtil, Keys, UnsignedEvent};

use super::world::{NOW, Node, meet, sign};

/// A home: founded by 1, joined by 2, left by 3 against its will.
struct Home {
    founder: Node,
    joiner: Node,
    founding: Event,
    join: Event,
    remove: Event,
    key: Event,
    code: Code,
}

fn signed(builder: EventBuilder, keys: &Keys) -> Event {
    sign(builder.custom_created_at(NOW.into()).build(keys.public_key()), keys)
}

fn home() -> Home {
    let (mut founder, joiner, gone) = (Node::new(1), Node::new(2), Node::new(3));
    let founding = sign(Log::founding("home", None, founder.npub(), NOW), &founder.passport);
    let mut log = Log::found(&founding).unwrap();
    let code = Code::new([7; 16], founder.npub(), founder.me.peer_id, false, NOW).at(&founder.me.addresses, &[]);
    let mut add = |act: Act| {
        let event = sign(log.draft(&act, founder.npub(), NOW).unwrap(), &founder.passport);
        assert!(matches!(log.take(&event), Ok(Taken::New(_))));
        event
    };
    add(Act::Join { node: gone.npub(), role: Role::Guest, invitation: None });
    let join = add(Act::Join { node: joiner.npub(), role: Role::Sibling, invitation: Some(code.id()) });
    let remove = add(Act::Remove { node: gone.npub() });
    let installs = [(founder.npub(), founder.me.install), (joiner.npub(), joiner.me.install)].into();
    let mut rng = StdRng::seed_from_u64(1);
    let ephemeral = super::world::keys(4, 1);
    let (opened, key) = make(
        &log,
        &installs,
        founder.npub(),
        NOW,
        &std::array::from_fn(|n| u8::try_from(n).unwrap()),
        &ephemeral,
        &mut rng,
    )
    .unwrap();
    let key = sign(key, &founder.passport);
    founder.keyring.add(&opened);
    founder.sealed.take(&key, &log, &founder.install).unwrap();
    founder.log = Some(log);
    Home { founder, joiner, founding, join, remove, key, code }
}

fn ask(home: &Home) -> Event {
    let me = &home.joiner.me;
    let joiner = Joiner { passport: &me.passport, install: &me.install, peer_id: &me.peer_id };
    let ask = Ask {
        invitation: home.code.id(),
        inviter: home.code.inviter,
        nonce: [5; 32],
        proof: Ask::proof(&home.code, &joiner, Role::Sibling, &[5; 32]),
        role: Role::Sibling,
        card: Box::new(me.card.clone()),
        addresses: me.addresses.clone(),
        relays: vec![],
    };
    signed(Answer::Ask(ask).to_event(), &home.joiner.install)
}

fn welcome(home: &Home) -> Event {
    let log = home.founder.log();
    let welcome = Welcome {
        invitation: home.code.id(),
        joiner: home.joiner.npub(),
        federation: log.federation(),
        entry: home.join.id,
        proof: Welcome::proof(&home.code.secret(), &[5; 32], log.federation(), home.join.id),
        card: Box::new(home.founder.me.card.clone()),
        log: log.events(),
        keys: vec![home.key.clone()],
    };
    signed(Answer::Welcome(welcome).to_event(), &home.founder.install)
}

fn refused(home: &Home) -> Event {
    let (invitation, joiner) = (home.code.id(), home.joiner.npub());
    signed(Answer::Refused { invitation, joiner, refusal: Refusal::Expired }.to_event(), &home.founder.install)
}

fn rumor(home: &Home) -> String {
    let (from, to) = (home.founder.npub(), home.joiner.npub());
    let mut rumors = letter::rumors(&home.join, from, &to, NOW + 600, NOW).unwrap();
    assert_eq!(rumors.len(), 1);
    let rumor: UnsignedEvent = rumors.remove(0);
    let seal = sign(nips::dm::seal(from, "x", NOW), &home.founder.passport);
    let read = letter::read(&seal, &rumor.as_json(), NOW).unwrap();
    assert_eq!(letter::Reassembly::default().take(read, NOW).unwrap(), Some(home.join.clone()));
    serde_json::to_string_pretty(&rumor).unwrap()
}

/// The frames of a handshake, long ones cut.
fn handshake(home: &mut Home) -> String {
    let mut log = Log::new(home.founder.log().federation());
    for event in home.founder.log().events() {
        log.take(&event).unwrap();
    }
    let mut sealed = SealedKeys::default();
    let Some(opened): Option<Opened> = sealed.take(&home.key, &log, &home.joiner.install).unwrap() else { panic!() };
    let mut keyring = Keyring::default();
    keyring.add(&opened);
    (home.joiner.log, home.joiner.keyring, home.joiner.sealed) = (Some(log), keyring, sealed);
    let met = meet(&mut home.joiner, &mut home.founder);
    assert!(met.dialer.unwrap().is_ok() && met.listener.unwrap().is_ok());
    let mut lines = Vec::new();
    let mut by_listener = met.by_listener.iter();
    for frame in &met.by_dialer {
        lines.push(format!("> {}", cut(frame)));
        lines.extend(by_listener.next().map(|frame| format!("< {}", cut(frame))));
    }
    lines.join("\n")
}

fn cut(frame: &[u8]) -> String {
    let text = String::from_utf8_lossy(frame);
    if text.len() <= 160 { text.into_owned() } else { format!("{}…{}", &text[..110], &text[text.len() - 40..]) }
}

fn stranger(home: &Home) -> String {
    let machine = Handshake::listen(home.joiner.me.peer_id, [0; 64], 0);
    assert!(!machine.is_over());
    String::from_utf8(Frame::No(Refusal::Unknown).encode()).unwrap()
}

fn examples() -> Vec<(&'static str, String)> {
    let mut home = home();
    assert_eq!(Code::read(&home.code.print(), NOW).unwrap(), home.code);
    let events = [
        ("found", home.founding.clone()),
        ("join", home.join.clone()),
        ("remove", home.remove.clone()),
        ("epoch-key", home.key.clone()),
        ("ask", ask(&home)),
        ("welcome", welcome(&home)),
        ("refused", refused(&home)),
    ];
    let mut all = Vec::new();
    for (name, event) in events {
        let message = verified(&event).unwrap();
        let is_right = match name {
            "found" | "join" | "remove" => matches!(message, Message::Entry(_)),
            "epoch-key" => matches!(message, Message::EpochKey(_)),
            _ => matches!(message, Message::Answer(_)),
        };
        assert!(is_right, "{name}");
        // What is in the document is what is read.
        assert_eq!(parse(&Event::from_json(event.as_pretty_json()).unwrap()).unwrap(), message);
        all.push((name, event.as_pretty_json()));
    }
    let got = receipt(&[home.join.id]);
    assert_eq!(receipt_ids(&got).unwrap(), [home.join.id]);
    all.push(("code", home.code.print()));
    all.push(("letter", rumor(&home)));
    all.push(("receipt", String::from_utf8(got).unwrap()));
    all.push(("join-refused", stranger(&home)));
    all.push(("hello", handshake(&mut home)));
    all
}

fn path() -> PathBuf {
    PathBuf::from("../spec/federation-trust.md")
}

#[test]
fn the_examples_are_what_the_code_writes() {
    for (name, expected) in examples() {
        let document = std::fs::read_to_string(path()).unwrap();
        let mark = format!("<!-- example: {name} -->\n```");
        let start = document.find(&mark).unwrap_or_else(|| panic!("no example `{name}`")) + mark.len();
        let start = start + document[start..].find('\n').unwrap() + 1;
        let end = start + document[start..].find("```").unwrap();
        if std::env::var_os("UPDATE_SPEC").is_some() {
            std::fs::write(path(), format!("{}{expected}\n{}", &document[..start], &document[end..])).unwrap();
        } else {
            assert_eq!(document[start..end].trim_end(), expected, "example `{name}`; after a change: UPDATE_SPEC=1");
        }
    }
}

#[test]
fn every_example_in_the_document_is_known() {
    let document = std::fs::read_to_string(path()).unwrap();
    let known: Vec<&str> = examples().iter().map(|(name, _)| *name).collect();
    for name in document.split("<!-- example: ").skip(1).filter_map(|rest| rest.split(" -->").next()) {
        assert!(known.contains(&name), "example `{name}` is checked by nobody");
    }
    assert_eq!(
        document.matches("```json").count(),
        document.matches("-->\n```json").count(),
        "a JSON block without a name"
    );
}
