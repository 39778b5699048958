//! Requests, replies, messages, cards and HTTP authorisation, from the outside.

#![allow(clippy::unwrap_used)]

use nips::card::{CardError, PeerCard};
use nips::dm::{self, OpenError};
use nips::http_auth::{self, AuthError};
use nips::job::reply::{self, Feedback, Status};
use nips::job::{Cipher, JobRequest, ParseError, Source, Standing, Verdict, admit, request};
use nostr::hashes::{Hash, sha256};
use nostr::nips::nip44;
use nostr::secp256k1::{Keypair, Message};
use nostr::{Event, EventBuilder, JsonUtil, Keys, Kind, Tag, Timestamp, UnsignedEvent};
use rand_core::{CryptoRng, RngCore};

/// A random source that is the same in each run.
struct Fixed(u64);
impl RngCore for Fixed {
    fn next_u32(&mut self) -> u32 {
        self.next_u64() as u32
    }
    fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 8
    }
    fn fill_bytes(&mut self, dest: &mut [u8]) {
        dest.iter_mut().for_each(|b| *b = self.next_u64() as u8);
    }
    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), rand_core::Error> {
        self.fill_bytes(dest);
        Ok(())
    }
}
impl CryptoRng for Fixed {}

fn event(keys: &Keys, kind: u16, tags: &[&[&str]], content: &str) -> Event {
    let tags = tags.iter().map(|t| Tag::parse(t.iter().copied()).unwrap());
    EventBuilder::new(Kind::from_u16(kind), content)
        .tags(tags)
        .custom_created_at(Timestamp::from_secs(1000))
        .sign_with_keys(keys)
        .unwrap()
}

fn parse(tags: &[&[&str]], content: &str) -> Result<JobRequest, ParseError> {
    JobRequest::parse(&event(&Keys::generate(), 5000, tags, content))
}

#[test]
fn requests_are_read_leniently() {
    let id = "ab".repeat(32);
    let r = parse(
        &[
            &["i", "hello", "prompt"],
            &["i", "bare"],
            &["i", "https://a.b/", "url"],
            &["i", &id, "event", "wss://r.x"],
            &["i", &id, "job"],
            &["param", "top_k", "5"],
            &["param", "size", "1", "2"],
            &["output", "text/plain"],
            &["bid", "21000"],
            &["relays", "wss://a.x", "nonsense", "wss://b.x", "wss://c.x", "wss://d.x", "wss://e.x", "wss://f.x"],
            &["unknown"],
            &["t", "x"],
        ],
        "",
    )
    .unwrap();
    assert_eq!(r.inputs[0], Source::Text("hello".into()));
    assert_eq!(r.inputs[1], Source::Text("bare".into()));
    assert_eq!(r.inputs[3], Source::Event { id, relay: Some("wss://r.x".into()) });
    assert_eq!((r.param("top-k"), r.param("SIZE")), (Some("5"), Some("1 2")));
    assert_eq!((r.bid.unwrap().0, r.relays.len(), r.expires_at), (21_000, request::MAX_RELAYS, None));
    assert_eq!(parse(&[], "prompt in the content").unwrap().inputs, [Source::Text("prompt in the content".into())]);
}

#[test]
fn malformed_requests_get_a_reason_that_helps() {
    for (tags, word) in [
        (vec![vec!["i"]], "no data"),
        (vec![vec!["i", ""]], "no data"),
        (vec![vec!["i", "x", "video"]], "video"),
        (vec![vec!["i", "x", "event"]], "64 hexadecimal"),
        (vec![vec!["bid", "much"]], "millisats"),
        (vec![vec!["i", "x"]; 17], "too much input"),
    ] {
        let tags: Vec<&[&str]> = tags.iter().map(Vec::as_slice).collect();
        let error = parse(&tags, "").unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
    assert_eq!(parse(&[&["i", &"x".repeat(300_000)]], ""), Err(ParseError::TooLarge));
    assert_eq!(JobRequest::parse(&event(&Keys::generate(), 1, &[], "")), Err(ParseError::Kind(1)));
}

#[test]
fn sealed_parameters_are_read_and_nothing_of_them_answered_in_clear() {
    let customer = Keys::generate();
    let node = Keys::generate().public_key();
    let asked = event(&customer, 5050, &[&["encrypted"], &["p", &node.to_hex()]], "ciphertext?iv=abc");
    assert!(request::is_encrypted(&asked));
    assert_eq!(request::cipher_of(&asked.content), Cipher::Nip04);
    let sealed = r#"[["i","my secret","text"],["relays","wss://a.x"]]"#;
    let r = JobRequest::parse_sealed(&asked, sealed, Cipher::Nip04).unwrap();
    assert_eq!((r.inputs.len(), r.relays.len(), r.names(&node)), (1, 1, true));
    assert_eq!(JobRequest::parse_sealed(&asked, "{}", Cipher::Nip44), Err(ParseError::SealedTags));

    let word = Feedback {
        status: Status::Error,
        message: Some("my secret is bad".into()),
        content: "part".into(),
        expires_at: Some(5),
    };
    let payload = reply::sealed_feedback_payload(&word);
    assert!(payload.contains(r#"["status","error","my secret is bad"]"#), "{payload}");
    for said in [
        reply::sealed_feedback(node, &asked, None, &word, "CIPHER", 1),
        reply::sealed_result(node, &asked, None, "CIPHER", 1),
    ] {
        let json = said.as_json();
        assert!(!json.contains("secret") && !json.contains("\"status\"") && !json.contains("[\"i\""), "{json}");
        assert!(json.contains("[\"encrypted\"]") && said.content == "CIPHER");
    }
}

#[test]
fn results_carry_what_nip90_asks() {
    let customer = Keys::generate();
    let asked = event(&customer, 5000, &[&["i", "x", "text"]], "");
    let said = reply::result(Keys::generate().public_key(), &asked, Some("wss://r.x"), "out", 7);
    let tags: Vec<&[String]> = said.tags.iter().map(Tag::as_slice).collect();
    assert_eq!(said.kind.as_u16(), 6000);
    assert_eq!(tags[0], ["e", &asked.id.to_hex(), "wss://r.x"]);
    assert_eq!(tags[1], ["p", &customer.public_key().to_hex()]);
    assert_eq!(tags[2], ["request", &asked.as_json()]);
    assert_eq!(
        (tags[3], tags[4]),
        (&["i".to_owned(), "x".into(), "text".into()][..], &["amount".to_owned(), "0".into()][..])
    );
}

#[test]
fn admission() {
    let node = Keys::generate().public_key();
    let customer = Keys::generate();
    let ask = |tags: &[&[&str]]| JobRequest::parse(&event(&customer, 5000, tags, "x")).unwrap();
    let to_us = ask(&[&["p", &node.to_hex()]]);
    let broadcast = ask(&[]);
    let other = ask(&[&["p", &Keys::generate().public_key().to_hex()]]);
    let fine = Standing {
        node: &node,
        now: 1010,
        not_before: 900,
        offered: true,
        open: true,
        queue_full: false,
        over_rate: false,
        cancelled: false,
    };
    assert_eq!(admit(&to_us, &fine), Verdict::Accept);
    assert_eq!(admit(&broadcast, &fine), Verdict::Accept);
    assert_eq!(admit(&other, &fine), Verdict::Ignore);
    for busy in [
        Standing { queue_full: true, ..fine.clone() },
        Standing { over_rate: true, ..fine.clone() },
        Standing { offered: false, ..fine.clone() },
        Standing { now: 1, not_before: 0, ..fine.clone() },
    ] {
        assert!(matches!(admit(&to_us, &busy), Verdict::Refuse { .. }), "{busy:?}");
        assert_eq!(admit(&broadcast, &busy), Verdict::Ignore, "a broadcast gets silence");
    }
    assert_eq!(admit(&to_us, &Standing { open: false, ..fine.clone() }), Verdict::Ignore);
    assert_eq!(admit(&to_us, &Standing { cancelled: true, ..fine.clone() }), Verdict::Cancelled);
    assert_eq!(admit(&to_us, &Standing { not_before: 1001, ..fine.clone() }), Verdict::Expired);
    let over = ask(&[&["expiration", "1005"]]);
    assert_eq!(admit(&over, &fine), Verdict::Expired);
}

struct Mail {
    author: Keys,
    reader: Keys,
}

impl Mail {
    fn send(&self, rumor: &UnsignedEvent, signer: &Keys) -> Event {
        let sealed =
            nip44::encrypt(signer.secret_key(), &self.reader.public_key(), rumor.as_json(), nip44::Version::V2)
                .unwrap();
        let seal = dm::seal(signer.public_key(), &sealed, 900).sign_with_keys(signer).unwrap();
        dm::wrap(&seal, &self.reader.public_key(), &Keys::generate(), 800, &mut Fixed(1)).unwrap()
    }

    fn open(&self, wrap: &Event) -> Result<dm::DirectMessage, OpenError> {
        wrap.verify().unwrap();
        let layer = nip44::decrypt(self.reader.secret_key(), &wrap.pubkey, &wrap.content).unwrap();
        let seal = dm::read_seal(wrap, &layer)?;
        let rumor = nip44::decrypt(self.reader.secret_key(), &seal.pubkey, &seal.content).unwrap();
        dm::read_rumor(&seal, &rumor, 1000)
    }
}

#[test]
fn messages_open_for_their_reader_and_forgeries_do_not() {
    let mail = Mail { author: Keys::generate(), reader: Keys::generate() };
    let rumor = dm::rumor(mail.author.public_key(), &mail.reader.public_key(), "hello", None, 1000);
    let wrap = mail.send(&rumor, &mail.author);
    let message = mail.open(&wrap).unwrap();
    assert_eq!(
        (message.text.as_str(), message.author, Some(message.id)),
        ("hello", mail.author.public_key(), rumor.id)
    );
    assert_ne!(wrap.pubkey, mail.author.public_key(), "the wrap does not name its author");

    let thief = Keys::generate();
    assert_eq!(mail.open(&mail.send(&rumor, &thief)), Err(OpenError::Author));
    let other = UnsignedEvent { id: None, kind: Kind::from_u16(1), ..rumor.clone() };
    assert_eq!(mail.open(&mail.send(&other, &mail.author)), Err(OpenError::Kind(1)));
    let lonely = UnsignedEvent { id: None, kind: Kind::from_u16(7), ..rumor.clone() };
    assert_eq!(mail.open(&mail.send(&lonely, &mail.author)), Err(OpenError::Incomplete("reaction")));
    let bare = UnsignedEvent { id: None, kind: Kind::from_u16(15), ..rumor.clone() };
    assert_eq!(mail.open(&mail.send(&bare, &mail.author)), Err(OpenError::Incomplete("file")));
    let wrong_id = UnsignedEvent { content: "changed".into(), ..rumor };
    assert_eq!(mail.open(&mail.send(&wrong_id, &mail.author)), Err(OpenError::RumorId));
    let ahead = dm::rumor(mail.author.public_key(), &mail.reader.public_key(), "x", None, 99_999);
    assert_eq!(mail.open(&mail.send(&ahead, &mail.author)), Err(OpenError::Limits));
}

#[test]
fn files_reactions_and_messages_that_end_are_read() {
    let mail = Mail { author: Keys::generate(), reader: Keys::generate() };
    let (author, reader) = (mail.author.public_key(), mail.reader.public_key());
    let said = dm::rumor(author, &reader, "hello", None, 1000);
    let mark = dm::rumor(author, &reader, "+", said.id, 1000);
    let mark = UnsignedEvent { id: None, kind: Kind::from_u16(dm::REACTION_KIND), ..mark };
    let read = mail.open(&mail.send(&mark, &mail.author)).unwrap();
    assert_eq!((read.content, read.reply_to), (dm::Content::Reaction, said.id));
    let ending = dm::rumor_until(author, &reader, "burn this", None, 1000, Some(1060));
    assert_eq!(mail.open(&mail.send(&ending, &mail.author)).unwrap().expires_at, Some(1060));
    // The example of NIP-17, with a key and a nonce.
    let (key, nonce, hash) = ("ab".repeat(32), "cd".repeat(12), "ef".repeat(32));
    let tags = [
        ["p", &reader.to_hex()],
        ["file-type", "text/plain"],
        ["encryption-algorithm", "aes-gcm"],
        ["decryption-key", &key],
        ["decryption-nonce", &nonce],
        ["x", &hash],
    ];
    let file = |tags: &[[&str; 2]]| {
        let tags = tags.iter().map(|tag| Tag::parse(*tag).unwrap());
        UnsignedEvent::new(author, Timestamp::from_secs(1000), Kind::from_u16(15), tags, "https://files.example/a")
    };
    let read = mail.open(&mail.send(&file(&tags), &mail.author)).unwrap();
    let dm::Content::File(sealed) = read.content else { panic!("no file") };
    assert_eq!((sealed.url.as_str(), &sealed.key, &sealed.nonce), ("https://files.example/a", &key, &nonce));
    for missing in 2..tags.len() {
        let rest: Vec<[&str; 2]> =
            tags.iter().enumerate().filter(|(at, _)| *at != missing).map(|(_, tag)| *tag).collect();
        assert!(mail.open(&mail.send(&file(&rest), &mail.author)).is_err(), "{missing}");
    }
}

#[test]
fn nip17_examples_of_the_nip_shape_are_backdated() {
    let mut rng = Fixed(3);
    for _ in 0..1000 {
        let at = dm::backdated(1_000_000, &mut rng);
        assert!(at <= 1_000_000 && at > 1_000_000 - dm::BACKDATE_S);
    }
}

fn card(passport: &Keys, install: &Keys, transport: &libp2p_identity::Keypair, sequence: u64) -> PeerCard {
    PeerCard {
        passport: passport.public_key(),
        install: install.public_key(),
        peer_id: transport.public().to_peer_id(),
        abilities: vec!["5000".into()],
        sequence,
        not_after: 5000,
    }
}

fn signed(card: &PeerCard, passport: &Keys, install: &Keys, transport: &libp2p_identity::Keypair) -> Event {
    let pair = Keypair::from_secret_key(nostr::SECP256K1, install.secret_key());
    let sig = nostr::SECP256K1.sign_schnorr_no_aux_rand(&Message::from_digest(card.statement()), &pair);
    card.event(&sig, transport, 1000).unwrap().sign_with_keys(passport).unwrap()
}

fn transport(seed: u8) -> libp2p_identity::Keypair {
    libp2p_identity::Keypair::ed25519_from_bytes([seed; 32]).unwrap()
}

#[test]
fn peer_cards_bind_three_keys() {
    let (passport, install) = (Keys::generate(), Keys::generate());
    let c = card(&passport, &install, &transport(1), 4);
    let event = signed(&c, &passport, &install, &transport(1));
    assert_eq!(PeerCard::read(&event, 1000).unwrap(), c);
    assert_eq!(PeerCard::read(&event, 5000), Err(CardError::Lifetime));
    let forged = signed(&c, &passport, &Keys::generate(), &transport(1));
    assert_eq!(PeerCard::read(&forged, 1000), Err(CardError::Signature));
    let forged = signed(&c, &passport, &install, &transport(2));
    assert_eq!(PeerCard::read(&forged, 1000), Err(CardError::Signature));
    let other = card(&Keys::generate(), &install, &transport(1), 4);
    let stolen = UnsignedEvent {
        id: None,
        pubkey: passport.public_key(),
        ..signed(&other, &Keys::generate(), &install, &transport(1)).into()
    };
    assert_eq!(PeerCard::read(&stolen.sign_with_keys(&passport).unwrap(), 1000), Err(CardError::Mismatch));
    let newer = card(&passport, &Keys::generate(), &transport(2), 5);
    assert!(newer.revokes(&c) && !c.revokes(&newer) && !c.revokes(&c));
}

#[test]
fn http_requests_are_signed_for_one_url_method_and_body() {
    let keys = Keys::generate();
    let hash = sha256::Hash::hash(b"body").to_string();
    let json = event(&keys, 27_235, &[&["u", "http://h/x"], &["method", "POST"], &["payload", &hash]], "").as_json();
    assert_eq!(http_auth::verify(&json, "http://h/x", "post", b"body", 1000).unwrap().0, keys.public_key());
    assert_eq!(http_auth::verify(&json, "http://h/y", "POST", b"body", 1000), Err(AuthError::Target));
    assert_eq!(http_auth::verify(&json, "http://h/x", "GET", b"body", 1000), Err(AuthError::Target));
    assert_eq!(http_auth::verify(&json, "http://h/x", "POST", b"other", 1000), Err(AuthError::Payload));
    assert_eq!(http_auth::verify(&json, "http://h/x", "POST", b"body", 1061), Err(AuthError::Time));
    assert_eq!(http_auth::verify("{}", "", "", b"", 0), Err(AuthError::Event));
}
