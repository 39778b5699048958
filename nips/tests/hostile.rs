//! Parsers that strangers feed: whatever comes, they give a value or an error, within their bounds.

#![allow(clippy::unwrap_used)]

use nips::card::{CARD_KIND, CARD_PREFIX, PeerCard};
use nips::job::reply::answered_job;
use nips::job::request::{MAX_INPUT_BYTES, MAX_INPUTS, MAX_PARAMS, MAX_RELAYS};
use nips::job::{Cipher, JobRequest, request};
use nips::{dm, guard, http_auth, identity};
use nostr::{Event, EventBuilder, JsonUtil, Keys, Kind, Tag};
use proptest::prelude::*;

fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z]{0,8}",
        Just("i".to_owned()),
        Just("param".to_owned()),
        Just("bid".to_owned()),
        Just("relays".to_owned()),
        Just("p".to_owned()),
        Just("e".to_owned()),
        Just("d".to_owned()),
        Just("expiration".to_owned()),
        Just("encrypted".to_owned()),
        Just("event".to_owned()),
        Just("url".to_owned()),
        Just("ab".repeat(32)),
        Just("wss://a.example".to_owned()),
        Just(format!("{CARD_PREFIX}{}", "ab".repeat(32))),
        "\\PC{0,40}",
        any::<String>(),
        any::<u64>().prop_map(|n| n.to_string()),
    ]
}

fn tags() -> impl Strategy<Value = Vec<Vec<String>>> {
    prop::collection::vec(prop::collection::vec(word(), 1..6), 0..30)
}

fn event(keys: &Keys, kind: u16, tags: &[Vec<String>], content: &str) -> Event {
    let tags = tags.iter().filter_map(|t| Tag::parse(t).ok());
    EventBuilder::new(Kind::from_u16(kind), content).tags(tags).sign_with_keys(keys).unwrap()
}

fn within_bounds(request: &JobRequest) -> bool {
    request.inputs.len() <= MAX_INPUTS
        && request.params.len() <= MAX_PARAMS
        && request.relays.len() <= MAX_RELAYS
        && serde_json::to_string(request).is_ok_and(|json| json.len() < 8 * MAX_INPUT_BYTES)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn requests(tags in tags(), sealed in tags(), content in any::<String>(), kind in 4990u16..6010) {
        let event = event(&Keys::generate(), kind, &tags, &content);
        let _ = (request::is_encrypted(&event), request::providers(&event), answered_job(&event));
        for parsed in [JobRequest::parse(&event), JobRequest::parse_sealed(&event, &serde_json::to_string(&sealed).unwrap(), Cipher::Nip44)] {
            prop_assert!(parsed.map_or(true, |r| within_bounds(&r) && (5000..=5999).contains(&kind)));
        }
        prop_assert!(JobRequest::parse_sealed(&event, &content, Cipher::Nip04).map_or(true, |r| within_bounds(&r)));
    }

    #[test]
    fn layers_of_a_message(tags in tags(), content in any::<String>(), kind in prop_oneof![Just(13u16), Just(14), Just(1059), any::<u16>()]) {
        let keys = Keys::generate();
        let layer = event(&keys, kind, &tags, &content);
        let _ = dm::read_seal(&layer, &content);
        let _ = dm::read_seal(&layer, &layer.as_json());
        let read = dm::read_rumor(&layer, &layer.as_json(), 4_000_000_000);
        prop_assert!(read.map_or(true, |m| kind == 14 && m.author == keys.public_key() && m.id == layer.id));
        let _ = dm::read_rumor(&layer, &content, 0);
    }

    #[test]
    fn cards_relay_lists_and_http_auth(tags in tags(), content in any::<String>(), now in any::<u64>()) {
        let keys = Keys::generate();
        let card = event(&keys, CARD_KIND, &tags, &content);
        prop_assert!(PeerCard::read(&card, now).is_err(), "nobody guesses three signatures");
        prop_assert!(identity::dm_relays(&card, 5).len() <= 5);
        prop_assert!(http_auth::verify(&card.as_json(), "http://h", "GET", b"", now).is_err());
        prop_assert!(http_auth::verify(&content, "http://h", "GET", b"", now).is_err());
    }

    #[test]
    fn no_spelling_of_a_private_address_passes(a in 0u8..=255, b in 0u8..=255, c in 0u8..=255) {
        let http = ["http", "https"];
        let number = (127u32 << 24) | (u32::from(a) << 16) | (u32::from(b) << 8) | u32::from(c);
        for host in [
            format!("127.{a}.{b}.{c}"), format!("10.{a}.{b}.{c}"), format!("192.168.{a}.{b}"), format!("169.254.{a}.{b}"),
            number.to_string(), format!("0x{number:x}"), format!("0{number:o}"), format!("127.{}", number & 0x00ff_ffff),
            format!("[::ffff:127.{a}.{b}.{c}]"), format!("[::127.{a}.{b}.{c}]"), format!("[64:ff9b::10.{a}.{b}.{c}]"),
            format!("[fe80::{a:x}:{b:x}]"), format!("[fd{a:02x}::{b:x}]"), format!("127。{a}。{b}。{c}"), format!("１２７.{a}.{b}.{c}"),
        ] {
            prop_assert!(guard::check_url(&format!("http://{host}/"), &http).is_err(), "{}", host);
        }
    }
}
