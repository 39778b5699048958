//! Invitation codes, membership on the wire, letters: what people mistype, what strangers send.

#![allow(clippy::unwrap_used)]

mod examples;

use examples::{check, cut, is_update};
use std::path::PathBuf;

use libp2p_identity::PeerId;
use nips::federation::letter::{self, MAX_PARTS, PART_BYTES};
use nips::federation::{
    Act, Answer, Code, CodeError, Entry, EnvelopeError, EpochKey, EpochSecrets, FederationId, KIND_DIGEST, KIND_PIECE,
    KIND_PRESENCE, Letter, LetterError, MAX_PIECE, MemoryDigest, Message, Piece, Presence, Reassembly, Refusal, Role,
    SpaceDigest, Terms, ViewId, is_envelope, parse, verified,
};
use nips::{PeerCard, dm};
use nostr::nips::nip44;
use nostr::secp256k1::rand::SeedableRng;
use nostr::secp256k1::rand::rngs::StdRng;
use nostr::secp256k1::{Keypair, Message as Digest};
use nostr::{Event, EventBuilder, EventId, JsonUtil, Keys, Kind, PublicKey, RelayUrl, Tag, ToBech32, UnsignedEvent};
use proptest::prelude::*;
use sha2::{Digest as _, Sha256};

const NOW: u64 = 1_800_000_000;

fn keys(n: u8) -> Keys {
    Keys::parse(&hex::encode([n; 32])).unwrap()
}

fn peer(n: u8) -> PeerId {
    libp2p_identity::Keypair::ed25519_from_bytes([n; 32]).unwrap().public().to_peer_id()
}

fn code() -> Code {
    let addresses = ["/ip4/192.0.2.7/udp/4001/quic-v1".to_owned(), "/ip4/192.0.2.7/tcp/4001".to_owned()];
    let relays = [RelayUrl::parse("wss://relay.example.com").unwrap()];
    Code::new([7; 16], keys(1).public_key(), peer(4), false, NOW).at(&addresses, &relays)
}

#[test]
fn a_code_comes_back_from_text_qr_and_chat() {
    let code = code();
    let text = code.print();
    assert!(text.starts_with("timmy1") && text.len() < 420, "{}", text.len());
    let (first, rest) = text.split_at(60);
    for spelling in [text.clone(), text.to_uppercase(), format!("  {first}\n   {rest}\n")] {
        assert!(Code::read(&spelling, NOW).unwrap() == code);
    }
    assert_eq!(format!("{code:?}"), format!("Code({})", code.id()), "nothing of the secret is shown");
    let guest = Code::new([7; 16], keys(1).public_key(), peer(4), true, NOW);
    assert!(Code::read(&guest.print(), NOW + 599).unwrap().is_guest);
    assert_eq!(Code::read(&guest.print(), NOW + 605), Err(CodeError::Expired(5)));
    // More addresses than fit: a code all the same.
    let long: Vec<String> = (0..20).map(|n| format!("/dns/{}.example.com/udp/{n}/quic-v1", "a".repeat(60))).collect();
    let relays: Vec<RelayUrl> =
        (0..9).map(|n| RelayUrl::parse(&format!("wss://{}{n}.example", "b".repeat(60))).unwrap()).collect();
    let full = Code::new([9; 16], keys(1).public_key(), peer(4), false, NOW).at(&long, &relays);
    assert!(!full.addresses.is_empty() && full.relays.len() == 3);
    assert!(Code::read(&full.print(), NOW).unwrap() == full);
}

#[test]
fn what_is_mistyped_cut_or_something_else_says_so() {
    let text = code().print();
    for cut in 6..text.len() {
        assert_eq!(Code::read(&text[..cut], NOW), Err(CodeError::Cut), "{cut} letters");
    }
    let alphabet = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";
    // The first letters hold type and length; a typo there may look like a cut. Everywhere else it is a typo.
    for at in 6..text.len() {
        let mut typo = text.clone().into_bytes();
        let place = alphabet.iter().position(|letter| *letter == typo[at]).unwrap();
        typo[at] = alphabet[(place + 1) % 32];
        let read = Code::read(std::str::from_utf8(&typo).unwrap(), NOW).unwrap_err();
        assert!(read == CodeError::Checksum || (at < 12 && read == CodeError::Cut), "letter {at}: {read}");
    }
    assert_eq!(Code::read(&text.replace('q', "b"), NOW), Err(CodeError::Checksum), "a letter that codes do not have");
    for other in ["", "hello", "timmy", "https://example.com/timmy1", "lorem1ipsum"] {
        assert_eq!(Code::read(other, NOW), Err(CodeError::NotACode), "{other}");
    }
    let secret = keys(1).secret_key().to_bech32().unwrap();
    let error = Code::read(&secret, NOW).unwrap_err();
    assert_eq!(error, CodeError::OtherThing("nsec".into()));
    assert!(!error.to_string().contains(&secret[5..]));
    // A good checksum over something else.
    let hrp = bech32::Hrp::parse("timmy").unwrap();
    let of = |bytes: &[u8]| bech32::encode::<bech32::Bech32m>(hrp, bytes).unwrap();
    assert_eq!(Code::read(&of(&[9, 0, 3]), NOW), Err(CodeError::Type(9)));
    assert_eq!(Code::read(&of(&[1, 0, 3]), NOW), Err(CodeError::Malformed));
    assert_eq!(Code::read(&of(&[1, 255, 255, 0, 0]), NOW), Err(CodeError::Malformed));
}

#[test]
fn entries_come_back_and_keep_their_place() {
    let acts = [
        Act::Owner { person: keys(5).public_key() },
        Act::Join { node: keys(2).public_key(), role: Role::Guest, invitation: Some(code().id()) },
        Act::Join { node: keys(2).public_key(), role: Role::Sibling, invitation: None },
        Act::Admin { node: keys(2).public_key() },
        Act::Remove { node: keys(2).public_key() },
    ];
    let federation = FederationId(EventId::from_byte_array([9; 32]));
    let heads = [EventId::from_byte_array([3; 32]), EventId::from_byte_array([2; 32])];
    for act in acts {
        let event = Entry::to_event(&act, Some(federation), &heads, keys(1).public_key(), NOW);
        let event = event.sign_with_keys(&keys(1)).unwrap();
        let Ok(Message::Entry(entry)) = verified(&event) else { panic!() };
        assert_eq!((entry.act, entry.federation, entry.heads.len()), (act, Some(federation), 2));
        // A founding entry with heads, another entry without: no place in a log.
        let rootless =
            Entry::to_event(&Act::Found { name: "x".into(), owner: None }, None, &heads, keys(1).public_key(), NOW);
        assert_eq!(
            parse(&rootless.sign_with_keys(&keys(1)).unwrap()),
            Err(EnvelopeError::Malformed("place in the log"))
        );
        let mut broken = event.clone();
        broken.content = broken.content.replace("act", "Act");
        assert!(parse(&broken).is_err());
        let mut forged = event;
        forged.created_at = 7.into();
        assert_eq!(verified(&forged), Err(EnvelopeError::Signature));
    }
    let other = EventBuilder::new(Kind::from_u16(9773), "").sign_with_keys(&keys(1)).unwrap();
    assert_eq!(parse(&other), Err(EnvelopeError::Kind(9773)));
}

#[test]
fn epoch_keys_for_eighty_members_fit_an_envelope() {
    let mut rng = StdRng::seed_from_u64(1);
    let terms = Terms { federation: FederationId(EventId::all_zeros()), epoch: 3, view: ViewId([0; 32]) };
    let members: Vec<(PublicKey, Role)> = (1..=80).map(|n| (keys(n).public_key(), Role::Sibling)).collect();
    let secrets = EpochSecrets::new(&[5; 64]);
    let seal = |members: &[(PublicKey, Role)], rng: &mut StdRng| {
        EpochKey::seal(&terms, &secrets, members, keys(1).public_key(), NOW, &keys(99), rng)
    };
    let event = seal(&members, &mut rng).unwrap().sign_with_keys(&keys(1)).unwrap();
    assert!(event.content.len() <= nips::federation::MAX_CONTENT, "{}", event.content.len());
    let Ok(Message::EpochKey(key)) = verified(&event) else { panic!() };
    assert!(key.open(&keys(80)).unwrap().unwrap().secrets == secrets);
    assert!(key.open(&keys(81)).unwrap().is_none());
    let more: Vec<(PublicKey, Role)> = (1..=81).map(|n| (keys(n).public_key(), Role::Guest)).collect();
    assert!(matches!(seal(&more, &mut rng), Err(EnvelopeError::TooMany(_))));
    assert!(!event.as_json().contains(&hex::encode([5; 32])));
}

/// A letter on its way, as signers, relays and receivers see it.
fn carry(envelope: &Event, from: &Keys, to: &Keys, expires_at: u64) -> Vec<Event> {
    let mut rng = StdRng::seed_from_u64(1);
    let rumors = letter::rumors(envelope, from.public_key(), &to.public_key(), expires_at, NOW).unwrap();
    let wrap = |rumor: UnsignedEvent| {
        let text = nip44::encrypt(from.secret_key(), &to.public_key(), rumor.as_json(), nip44::Version::V2).unwrap();
        let seal = dm::seal(from.public_key(), &text, NOW).sign_with_keys(from).unwrap();
        letter::wrap(&seal, &to.public_key(), &keys(77), (NOW - 5, expires_at), &mut rng).unwrap()
    };
    rumors.into_iter().map(wrap).collect()
}

fn open(wrap: &Event, to: &Keys, now: u64) -> Result<Letter, LetterError> {
    let seal = nip44::decrypt(to.secret_key(), &wrap.pubkey, &wrap.content).unwrap();
    let seal = dm::read_seal(wrap, &seal)?;
    let rumor = nip44::decrypt(to.secret_key(), &seal.pubkey, &seal.content).unwrap();
    assert!(letter::is_letter(&rumor));
    letter::read(&seal, &rumor, now)
}

fn envelope(size: usize) -> Event {
    // As unkind to JSON in JSON as text can be.
    EventBuilder::new(Kind::from_u16(9760), "\"\\".repeat(size / 2)).sign_with_keys(&keys(3)).unwrap()
}

#[test]
fn letters_of_every_size_arrive_in_wraps_that_relays_take() {
    for size in [10, PART_BYTES, 256 * 1024] {
        let envelope = envelope(size);
        let mut wraps = carry(&envelope, &keys(1), &keys(2), NOW + 600);
        assert!(wraps.len() <= MAX_PARTS);
        for wrap in &wraps {
            assert!(wrap.as_json().len() < 65_536, "{}", wrap.as_json().len());
            assert!(wrap.kind == Kind::GiftWrap && wrap.tags.expiration().is_some());
            assert!(wrap.verify().is_ok());
        }
        // In any order, and doubled.
        wraps.reverse();
        let twice: Vec<Event> = wraps.iter().flat_map(|wrap| [wrap.clone(), wrap.clone()]).collect();
        let mut all = Reassembly::default();
        let got: Vec<Event> =
            twice.iter().filter_map(|wrap| all.take(open(wrap, &keys(2), NOW).unwrap(), NOW).unwrap()).collect();
        assert!(got.iter().all(|event| *event == envelope) && !got.is_empty());
        assert!(got[0].verify().is_ok());
        assert!(all.unfinished() <= 1, "the doubled last part begins a letter that ends with its time");
        all.tick(NOW + 700);
        assert_eq!(all.unfinished(), 0);
    }
    let large = letter::rumors(&envelope(1_200_000), keys(1).public_key(), &keys(2).public_key(), NOW + 1, NOW);
    assert!(matches!(large, Err(LetterError::TooLarge(_))));
    let note = EventBuilder::text_note("hi").sign_with_keys(&keys(1)).unwrap();
    assert!(letter::rumors(&note, keys(1).public_key(), &keys(2).public_key(), NOW + 1, NOW).is_err());
}

#[test]
fn letters_that_are_over_forged_or_do_not_fit_are_dropped() {
    let small = envelope(10);
    let wrap = carry(&small, &keys(1), &keys(2), NOW + 600).remove(0);
    assert_eq!(open(&wrap, &keys(2), NOW + 600), Err(LetterError::Expired));
    // Sealed by another than who wrote it.
    let rumor = letter::rumors(&small, keys(1).public_key(), &keys(2).public_key(), NOW + 600, NOW).unwrap().remove(0);
    let seal = dm::seal(keys(5).public_key(), "x", NOW).sign_with_keys(&keys(5)).unwrap();
    assert_eq!(letter::read(&seal, &rumor.as_json(), NOW), Err(LetterError::Open(dm::OpenError::Author)));
    // The whole is another envelope than the letter says.
    let good = open(&wrap, &keys(2), NOW).unwrap();
    let lie = Letter { id: EventId::from_byte_array([1; 32]), ..good.clone() };
    assert_eq!(Reassembly::default().take(lie, NOW), Err(LetterError::Envelope));
    let lie = Letter { kind: 9771, ..good.clone() };
    assert_eq!(Reassembly::default().take(lie, NOW), Err(LetterError::Envelope));
    // Parts that contradict each other.
    let part = |part, of, byte| Letter { part, of, bytes: vec![byte; 9], ..good.clone() };
    let mut all = Reassembly::default();
    assert_eq!(all.take(part(0, 3, 1), NOW), Ok(None));
    assert_eq!(all.take(part(0, 3, 2), NOW), Err(LetterError::Mismatch));
    assert_eq!(all.take(part(1, 4, 2), NOW), Err(LetterError::Mismatch));
    // Somebody else's parts are another letter.
    assert_eq!(all.take(Letter { from: keys(9).public_key(), ..part(1, 3, 2) }, NOW), Ok(None));
    assert_eq!(all.unfinished(), 2);
}

#[test]
fn unfinished_letters_are_bounded_for_one_in_all_and_in_bytes() {
    let mut all = Reassembly::default();
    let part = |from: u8, id: u8, size: usize| Letter {
        from: keys(from).public_key(),
        kind: 9760,
        id: EventId::from_byte_array([id; 32]),
        part: 0,
        of: 2,
        expires_at: NOW + 900_000,
        bytes: vec![0; size],
    };
    let taken = (0..40).filter(|id| all.take(part(1, *id, 10), NOW).is_ok()).count();
    assert_eq!(taken, 16);
    for from in 2..20 {
        for id in 0..16 {
            let _ = all.take(part(from, id, 10), NOW);
        }
    }
    assert_eq!(all.unfinished(), 64);
    assert_eq!(all.take(part(100, 1, 10), NOW), Err(LetterError::Full));
    assert_eq!(all.take(part(100, 1, 10), NOW + 86_400), Ok(None), "what waited a day is gone");
    let mut all = Reassembly::default();
    let taken = (0..64).filter(|n| all.take(part(n % 8 + 1, *n, 100_000), NOW).is_ok()).count();
    assert_eq!(taken, 41, "four megabytes");
}

fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec!["f", "e", "p", "x", "epoch", "view", "guest", "sibling", "letter", "expiration"])
            .prop_map(str::to_owned),
        Just("ab".repeat(32)),
        Just("ab".repeat(16)),
        Just(keys(1).public_key().to_hex()),
        any::<u8>().prop_map(|n| n.to_string()),
        "\\PC{0,20}",
    ]
}

fn content() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        prop::sample::select(vec!["found", "owner", "join", "admin", "remove", "x"])
            .prop_map(|act| format!(r#"{{"act":"{act}","role":"guest","name":"n"}}"#)),
        Just(r#"{"refused":"unknown"}"#.to_owned()),
        Just(format!(
            r#"{{"from":"{}","sealed":[["{}","x"]]}}"#,
            keys(1).public_key().to_hex(),
            keys(2).public_key().to_hex()
        )),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_envelope_panics(
        tags in prop::collection::vec(prop::collection::vec(word(), 1..4), 0..30),
        content in content(),
        kind in 9768u16..9775,
    ) {
        let tags = tags.iter().filter_map(|t| Tag::parse(t).ok());
        let event = EventBuilder::new(Kind::from_u16(kind), &content).tags(tags).sign_with_keys(&keys(1)).unwrap();
        if let Ok(message) = parse(&event) {
            prop_assert!((9770..=9772).contains(&kind));
            if let Message::Entry(entry) = message {
                // What was read is written back as it was.
                let again = Entry::to_event(&entry.act, entry.federation, &entry.heads, entry.author, entry.at);
                let again = again.sign_with_keys(&keys(1)).unwrap();
                prop_assert_eq!(parse(&again).map(|m| matches!(m, Message::Entry(e) if e.act == entry.act && e.heads == entry.heads)), Ok(true));
            }
        }
        let rumor = UnsignedEvent::new(keys(1).public_key(), NOW.into(), event.kind, event.tags.clone().to_vec(), content.clone());
        prop_assert!(letter::read(&event, &rumor.as_json(), NOW).is_err() || event.tags.iter().any(|t| t.as_slice()[0] == "letter"));
        let _ = (letter::read(&event, &content, NOW), letter::is_letter(&content));
    }

    #[test]
    fn no_code_panics(text in prop_oneof![any::<String>(), "timmy1[qpzry9x8gf2tvdw0s3jn54khce6mua7l]{0,300}"], bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        prop_assert!(Code::read(&text, NOW).is_err());
        // Bytes of every kind under a good checksum.
        let mut bytes = bytes;
        if let [kind, high, low, ..] = bytes.as_mut_slice() { (*kind, *high, *low) = (1, 2, 0); }
        let text = bech32::encode::<bech32::Bech32m>(bech32::Hrp::parse("timmy").unwrap(), &bytes).unwrap();
        prop_assert!(Code::parse(&text).is_err());
    }

    #[test]
    fn no_presence_digest_or_piece_panics(content in said(), kind in KIND_PRESENCE..=KIND_PIECE) {
        let event = EventBuilder::new(Kind::from_u16(kind), &content).sign_with_keys(&keys(3)).unwrap();
        prop_assert!(Presence::read(&event, NOW).is_err(), "none of them has a good card");
        if let Ok(digest) = MemoryDigest::read(&event) {
            let again = digest.to_event().sign_with_keys(&keys(3)).unwrap();
            prop_assert_eq!(MemoryDigest::read(&again), Ok(digest));
        }
        if let Ok(piece) = Piece::read(&event) {
            prop_assert!(piece.bytes.len() <= MAX_PIECE);
            let again = piece.to_event().sign_with_keys(&keys(3)).unwrap();
            prop_assert_eq!(Piece::read(&again), Ok(piece));
        }
    }
}

/// What a member that is broken, or a liar, may put into a presence, a digest or a piece.
fn said() -> impl Strategy<Value = String> {
    let hash = prop_oneof![Just("ab".repeat(32)), "\\PC{0,70}"];
    let digest = (any::<i64>(), hash, "\\PC{0,210}", any::<i64>()).prop_map(|(changes, digest, name, count)| {
        let (digest, name) = (serde_json::to_string(&digest).unwrap(), serde_json::to_string(&name).unwrap());
        format!(r#"{{"spaces":{{{name}:{{"changes":{changes},"digest":{digest},"shards":{{{name}:{count}}}}}}}}}"#)
    });
    let piece = ("[0-9a-f+-]{0,18}", any::<i64>(), "[A-Za-z0-9+/]{0,40}={0,2}")
        .prop_map(|(stream, number, bytes)| format!(r#"{{"stream":"{stream}","number":{number},"bytes":"{bytes}"}}"#));
    let presence = ("\\PC{0,40}", "\\PC{0,210}", "[0-9a-f]{0,70}").prop_map(|(content, place, labels)| {
        let card = EventBuilder::new(Kind::from_u16(30_078), content).sign_with_keys(&keys(1)).unwrap().as_json();
        let place = serde_json::to_string(&place).unwrap();
        format!(r#"{{"card":{card},"addresses":[{place}],"relays":[{place}],"labels":"{labels}"}}"#)
    });
    prop_oneof![any::<String>(), digest, piece, presence]
}

#[test]
fn refusals_come_back_and_have_words_for_people() {
    let all = [
        Refusal::Unknown,
        Refusal::Used,
        Refusal::Expired,
        Refusal::Forged,
        Refusal::Burnt,
        Refusal::Busy,
        Refusal::Removed,
        Refusal::Terms,
        Refusal::NotAllowed,
        Refusal::Card,
        Refusal::Full,
        Refusal::Failed,
    ];
    let mut texts = std::collections::BTreeSet::new();
    for refusal in all {
        let answer = Answer::Refused { invitation: code().id(), joiner: keys(2).public_key(), refusal };
        let event = answer.to_event().sign_with_keys(&keys(1)).unwrap();
        assert_eq!(verified(&event), Ok(Message::Answer(Box::new(answer))));
        let text = refusal.to_string();
        assert!(text.contains("timmy ") || text.contains("ask an admin") || text.contains("wait"), "{text}");
        texts.insert(text);
    }
    assert_eq!(texts.len(), all.len());
}

/// Signs without randomness, so that examples stay the same.
fn sign(builder: EventBuilder, keys: &Keys) -> Event {
    signed(builder.custom_created_at(NOW.into()).build(keys.public_key()), keys)
}

fn signed(mut event: UnsignedEvent, keys: &Keys) -> Event {
    let id = event.id();
    let pair = Keypair::from_secret_key(nostr::SECP256K1, keys.secret_key());
    let sig = nostr::SECP256K1.sign_schnorr_no_aux_rand(&Digest::from_digest(id.to_bytes()), &pair);
    Event::new(id, event.pubkey, event.created_at, event.kind, event.tags, event.content, sig)
}

/// The card of the node whose passport is `keys(1)` and whose install key is `keys(3)`.
fn card() -> Event {
    let (passport, install) = (keys(1), keys(3));
    let transport = libp2p_identity::Keypair::ed25519_from_bytes([4; 32]).unwrap();
    let card = PeerCard {
        passport: passport.public_key(),
        install: install.public_key(),
        peer_id: transport.public().to_peer_id(),
        abilities: vec!["5000".into(), "5001".into(), "5050/people".into()],
        sequence: 1,
        not_after: NOW + 86_400,
    };
    let pair = Keypair::from_secret_key(nostr::SECP256K1, install.secret_key());
    let sig = nostr::SECP256K1.sign_schnorr_no_aux_rand(&Digest::from_digest(card.statement()), &pair);
    signed(card.event(&sig, &transport, NOW).unwrap(), &passport)
}

/// SHA-256 of the ids that are all of one of these bytes, in ascending order.
fn set_of(ids: &[u8]) -> [u8; 32] {
    Sha256::digest(ids.iter().flat_map(|id| [*id; 32]).collect::<Vec<u8>>()).into()
}

fn presence() -> Presence {
    Presence {
        card: Box::new(card()),
        addresses: vec!["/ip4/192.0.2.7/udp/4001/quic-v1".into(), "/ip4/192.0.2.7/tcp/4001".into()],
        relays: vec![RelayUrl::parse("wss://relay.example.com").unwrap()],
        labels: Some(set_of(&[2, 3])),
    }
}

/// One space that is counted by document, with one tombstone, and one of too many documents.
fn digest() -> MemoryDigest {
    let shard = format!("fleet/shard/{}/2027-01/0", keys(3).public_key().to_hex());
    let shards = [(shard, 2), ("fleet/page/0/shopping-list".to_owned(), 1)].into();
    let fleet = SpaceDigest { changes: 4, digest: hex::encode(set_of(&[1, 2, 3, 4])), shards };
    let recipes = SpaceDigest { changes: 900, digest: hex::encode(set_of(&[5])), shards: [].into() };
    MemoryDigest { spaces: [("fleet".to_owned(), fleet), ("recipes".to_owned(), recipes)].into() }
}

/// The first words of a sync, as they would go over a stream: their length, then they.
fn piece() -> Piece {
    let words = r#"["NEG",1,"51c0000000000001",1,"fleet","610000020000"]"#;
    let length = u32::try_from(words.len()).unwrap().to_be_bytes();
    Piece { stream: 0x7069_6563_6573_0001, number: 0, bytes: [&length[..], words.as_bytes()].concat() }
}

fn network_examples() -> [(&'static str, Event); 3] {
    let install = keys(3);
    [
        ("presence", sign(presence().to_event(), &install)),
        ("digest", sign(digest().to_event(), &install)),
        ("piece", sign(piece().to_event(), &install)),
    ]
}

fn network_page() -> PathBuf {
    PathBuf::from("../spec/federation-network.md")
}

/// The events in `spec/federation-network.md`. `UPDATE_SPEC=1` writes them anew.
#[test]
fn the_examples_of_the_network_are_what_the_code_writes() {
    let examples: Vec<_> = network_examples().into_iter().map(|(name, event)| (name, event.as_pretty_json())).collect();
    check(&network_page(), &examples);
}

#[test]
fn the_examples_of_the_network_say_what_the_page_says() {
    if is_update() {
        return; // The page is being written.
    }
    let document = std::fs::read_to_string(network_page()).unwrap();
    let read = |name: &str| {
        let event = Event::from_json(cut(&document, name).1).unwrap();
        assert!(event.verify().is_ok() && is_envelope(event.kind.as_u16()) && event.tags.is_empty(), "{name}");
        assert_eq!(event.pubkey, keys(3).public_key(), "{name}: the install key signs");
        event
    };
    let (said, card) = Presence::read(&read("presence"), NOW).unwrap();
    assert_eq!((said, card.passport), (presence(), keys(1).public_key()));
    assert!(Presence::read(&read("presence"), NOW + 86_400).is_err(), "worth nothing once the card has ended");
    assert_eq!(MemoryDigest::read(&read("digest")), Ok(digest()));
    let bytes = Piece::read(&read("piece")).unwrap().bytes;
    assert_eq!(bytes, piece().bytes);
    assert_eq!(usize::try_from(u32::from_be_bytes(bytes[..4].try_into().unwrap())).unwrap(), bytes.len() - 4);
    let kinds = ["presence", "digest", "piece"].map(|name| read(name).kind.as_u16());
    assert_eq!(kinds, [KIND_PRESENCE, KIND_DIGEST, KIND_PIECE]);
}

#[test]
fn a_presence_without_labels_is_read_and_one_with_the_card_of_another_is_not() {
    let bare = Presence { labels: None, ..presence() };
    let event = sign(bare.to_event(), &keys(3));
    assert!(!event.content.contains("labels"));
    assert_eq!(Presence::read(&event, NOW).unwrap().0, bare);
    let stolen = sign(bare.to_event(), &keys(5));
    assert_eq!(Presence::read(&stolen, NOW), Err(EnvelopeError::Malformed("peer card of another install")));
    // Nine addresses: the first eight are said, and a ninth is not read.
    let many = Presence { addresses: vec!["/ip4/192.0.2.7/tcp/1".into(); 9], ..bare };
    let said = many.to_event();
    assert_eq!(Presence::read(&sign(said, &keys(3)), NOW).unwrap().0.addresses.len(), 8);
    let place = r#""/ip4/192.0.2.7/tcp/1","#;
    let more = event.content.replacen(r#""addresses":["#, &format!(r#""addresses":[{}"#, place.repeat(7)), 1);
    let more = sign(EventBuilder::new(Kind::from_u16(KIND_PRESENCE), more), &keys(3));
    assert_eq!(Presence::read(&more, NOW), Err(EnvelopeError::TooMany("addresses")));
}
