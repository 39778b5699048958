//! Peers that replay, reflect, swap, relay, stuff and babble.

use federation::handshake::{Effect, Handshake, Input, MAX_EARLY_FRAME, MAX_FRAME, Refusal};
use federation::invitation::{Frame, MAX_ASK_FRAME};
use nips::federation::Role;
use proptest::prelude::*;

use super::world::{Met, Node, admit, meet};

fn pair() -> (Node, Node) {
    let mut a = Node::new(1).found(None);
    let b = admit(&mut a, Node::new(2), Role::Sibling);
    (a, b)
}

fn refusals(effects: &[Effect]) -> Vec<Refusal> {
    effects.iter().filter_map(|e| if let Effect::Refused(refusal) = e { Some(*refusal) } else { None }).collect()
}

/// Feeds frames to a new listener of `node`, dialed by `from`; all that it does.
fn feed(node: &Node, from: libp2p::PeerId, random: [u8; 64], frames: &[Vec<u8>]) -> Vec<Effect> {
    let mut machine = Handshake::listen(from, random, 0);
    frames.iter().flat_map(|frame| node.step(&mut machine, &Input::Frame(frame), 1)).collect()
}

fn has_card(effects: &[Effect]) -> bool {
    effects
        .iter()
        .any(|e| matches!(e, Effect::Send(frame) if frame.starts_with(b"[\"CARD\"")) || matches!(e, Effect::Done(_)))
}

#[test]
fn a_recorded_conversation_is_good_for_nothing() {
    let (mut a, mut b) = pair();
    let met: Met = meet(&mut b, &mut a);
    // To the same node, by another PeerId and by the very same: its nonce is another.
    for from in [Node::new(7).me.peer_id, b.me.peer_id] {
        let effects = feed(&a, from, [9; 64], &met.by_dialer);
        assert_eq!(refusals(&effects), [Refusal::Stranger]);
        assert!(!has_card(&effects));
    }
    // To a dialer.
    let (mut machine, _) = Handshake::dial(a.me.peer_id, [8; 64], 0);
    let effects: Vec<Effect> =
        met.by_listener.iter().flat_map(|frame| b.step(&mut machine, &Input::Frame(frame), 1)).collect();
    assert_eq!(refusals(&effects), [Refusal::Stranger]);
    assert!(!has_card(&effects));
}

#[test]
fn what_is_reflected_is_refused() {
    let (a, b) = pair();
    // The dialer gets its own messages back.
    let (mut machine, first) = Handshake::dial(a.me.peer_id, [8; 64], 0);
    let mut effects = first;
    let mut all = Vec::new();
    for _ in 0..5 {
        let frames: Vec<Vec<u8>> =
            effects.iter().filter_map(|e| if let Effect::Send(f) = e { Some(f.clone()) } else { None }).collect();
        effects = frames.iter().flat_map(|frame| b.step(&mut machine, &Input::Frame(frame), 1)).collect();
        all.extend(effects.clone());
    }
    assert_eq!(refusals(&all), [Refusal::Protocol], "tags are no proof");
    assert!(!has_card(&all));
    // Two dialers that are wired to each other: neither becomes a listener.
    let (mut x, hello_x) = Handshake::dial(b.me.peer_id, [1; 64], 0);
    let (mut y, hello_y) = Handshake::dial(a.me.peer_id, [2; 64], 0);
    let send = |effects: &[Effect]| {
        effects.iter().find_map(|e| if let Effect::Send(f) = e { Some(f.clone()) } else { None }).unwrap()
    };
    let tags_x = a.step(&mut x, &Input::Frame(&send(&hello_y)), 1);
    let tags_y = b.step(&mut y, &Input::Frame(&send(&hello_x)), 1);
    assert_eq!(refusals(&a.step(&mut x, &Input::Frame(&send(&tags_y)), 1)), [Refusal::Protocol]);
    assert_eq!(refusals(&b.step(&mut y, &Input::Frame(&send(&tags_x)), 1)), [Refusal::Protocol]);
}

#[test]
fn a_tag_taken_for_a_proof_is_none() {
    let (a, b) = pair();
    let (mut machine, hello) = Handshake::dial(a.me.peer_id, [8; 64], 0);
    let Some(Effect::Send(_)) = hello.first() else { panic!() };
    let hello = format!(r#"["HELLO",1,"{}"]"#, "07".repeat(32));
    let tags = b.step(&mut machine, &Input::Frame(hello.as_bytes()), 1);
    let Some(Effect::Send(tags)) = tags.first() else { panic!() };
    let text = String::from_utf8(tags.clone()).unwrap();
    let first = text.split('"').nth(3).unwrap()[..64].to_owned();
    let proof = format!(r#"["PROOF","{first}","any",[]]"#);
    assert_eq!(refusals(&b.step(&mut machine, &Input::Frame(proof.as_bytes()), 1)), [Refusal::Stranger]);
}

#[test]
fn one_in_the_middle_is_refused() {
    // The middle passes every frame on between two members; each sees the middle's PeerId.
    let (a, b) = pair();
    let middle = Node::new(9);
    let (mut dialer, first) = Handshake::dial(middle.me.peer_id, [1; 64], 0);
    let mut listener = Handshake::listen(middle.me.peer_id, [2; 64], 0);
    let mut to_listener = first;
    let mut all = Vec::new();
    for _ in 0..6 {
        let frames = to_listener.iter().filter_map(|e| if let Effect::Send(f) = e { Some(f.clone()) } else { None });
        let back: Vec<Effect> = frames.flat_map(|f| a.step(&mut listener, &Input::Frame(&f), 1)).collect();
        let frames = back.iter().filter_map(|e| if let Effect::Send(f) = e { Some(f.clone()) } else { None });
        to_listener = frames.flat_map(|f| b.step(&mut dialer, &Input::Frame(&f), 1)).collect();
        all.extend(back);
        all.extend(to_listener.clone());
    }
    assert_eq!(refusals(&all), [Refusal::Stranger, Refusal::Stranger]);
    assert!(!has_card(&all));
}

#[test]
fn one_who_was_removed_cannot_have_a_card_shown_by_asking() {
    let (mut a, mut b) = pair();
    let mut gone = admit(&mut a, Node::new(3), Role::Sibling);
    meet(&mut b, &mut a);
    let current = meet(&mut gone, &mut a);
    assert!(current.dialer.unwrap().is_ok());
    assert!(a.act(&nips::federation::Act::Remove { node: gone.npub() }));
    // It proves the old key honestly, and then says "you first".
    let random = gone.random();
    let (mut dialer, first) = Handshake::dial(a.me.peer_id, random, 0);
    let mut listener = Handshake::listen(gone.me.peer_id, [5; 64], 0);
    let send = |effects: &[Effect]| {
        effects.iter().find_map(|e| if let Effect::Send(f) = e { Some(f.clone()) } else { None }).unwrap()
    };
    let hello = a.step(&mut listener, &Input::Frame(&send(&first)), 1);
    let tags = gone.step(&mut dialer, &Input::Frame(&send(&hello)), 1);
    let proof = a.step(&mut listener, &Input::Frame(&send(&tags)), 1);
    assert!(send(&proof).starts_with(b"[\"PROOF\""));
    let effects = a.step(&mut listener, &Input::Frame(br#"["YOU",[]]"#), 1);
    assert_eq!(refusals(&effects), [Refusal::Protocol]);
    assert!(!has_card(&effects));
}

#[test]
fn what_is_too_large_or_out_of_turn_ends_it() {
    let (a, b) = pair();
    let hello = format!(r#"["HELLO",1,"{}"]"#, "07".repeat(32)).into_bytes();
    let mut large = hello.clone();
    large.resize(MAX_EARLY_FRAME + 1, b' ');
    let card = br#"["CARD",{}]"#.to_vec();
    let more = br#"["MORE",[],[]]"#.to_vec();
    let version = format!(r#"["HELLO",2,"{}"]"#, "07".repeat(32)).into_bytes();
    for frames in [
        vec![large],
        vec![card.clone()],
        vec![more],
        vec![version],
        vec![hello.clone(), hello.clone()],
        vec![hello, card],
    ] {
        let effects = feed(&a, b.me.peer_id, [3; 64], &frames);
        assert_eq!(refusals(&effects), [Refusal::Protocol]);
        assert!(!has_card(&effects));
    }
    let machine = Handshake::listen(b.me.peer_id, [3; 64], 0);
    assert!(machine.max_frame() == MAX_EARLY_FRAME && MAX_EARLY_FRAME < MAX_FRAME);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_panic_and_none_are_believed(
        frames in prop::collection::vec(prop_oneof![
            prop::collection::vec(any::<u8>(), 0..64),
            "\\[\"(HELLO|PROOFS|PROOF|YOU|CARD|MORE|NO|EVENT)\",.{0,40}\\]".prop_map(String::into_bytes),
            Just(format!(r#"["HELLO",1,"{}"]"#, "07".repeat(32)).into_bytes()),
            Just(format!(r#"["PROOFS","{}"]"#, "07".repeat(1024)).into_bytes()),
            Just(format!(r#"["PROOF","{}","any",[]]"#, "07".repeat(32)).into_bytes()),
        ], 0..6),
    ) {
        let (a, b) = pair();
        prop_assert!(!has_card(&feed(&a, b.me.peer_id, [3; 64], &frames)));
        let (mut machine, _) = Handshake::dial(b.me.peer_id, [4; 64], 0);
        let effects: Vec<Effect> = frames.iter().flat_map(|f| a.step(&mut machine, &Input::Frame(f), 1)).collect();
        prop_assert!(!has_card(&effects));
        for frame in &frames {
            let _ = Frame::parse(frame, MAX_ASK_FRAME);
        }
    }
}
