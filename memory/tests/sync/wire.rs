//! Messages: every example of the specification, and whatever bytes come.

use memory::sync::{ErrorCode, Message, MessageError, Refusal, Reply, ReplyBody, Request, RequestBody, SessionId};
use memory::sync::{MAX_FRAME, MAX_GET_IDS};
use nostr::{Event, EventId};
use proptest::prelude::*;

use crate::double::{events, fleet};

fn examples() -> Vec<String> {
    let spec = std::fs::read_to_string("../spec/memory.md").unwrap();
    let (_, sync) = spec.split_once("\n## Sync").expect("spec/memory.md has a section on sync");
    let sync = sync.split("\n## ").next().unwrap();
    let lines = sync.lines().filter(|line| line.starts_with("[\""));
    lines.map(str::to_owned).collect()
}

#[test]
fn every_example_of_the_specification_is_read_and_written_alike() {
    let mut words = std::collections::BTreeSet::new();
    for example in examples() {
        let message = Message::parse(example.as_bytes()).unwrap_or_else(|error| panic!("{error}: {example}"));
        assert_eq!(message.to_json(), example);
        let brought = match &message {
            Message::Request(Request { body: RequestBody::Put(events), .. })
            | Message::Reply(Reply { body: ReplyBody::Given { events, .. }, .. }) => events.clone(),
            Message::Request(_) | Message::Reply(_) => Vec::new(),
        };
        assert!(brought.iter().all(|event| nips::memory::verified(event).is_ok()));
        words.insert(example.split('"').nth(1).unwrap().to_owned());
    }
    let all = ["DIFF", "ERR", "GET", "GIVE", "NEG", "OK", "PUT"];
    assert_eq!(words.into_iter().collect::<Vec<_>>(), all, "an example of each");
}

#[test]
fn what_is_too_large_too_many_or_of_another_version_is_said() {
    let parse = |text: &str| Message::parse(text.as_bytes()).unwrap_err();
    let session = "00000000000000ff";
    assert_eq!(
        parse(&format!(r#"["NEG",2,"{session}",7,{{"any":"thing"}}]"#)),
        MessageError::Version { version: 2, session: SessionId(255), number: 7 }
    );
    assert_eq!(parse(&" ".repeat(MAX_FRAME + 1)), MessageError::TooLarge(MAX_FRAME + 1));
    let ids = vec![format!("\"{}\"", EventId::all_zeros()); MAX_GET_IDS + 1].join(",");
    assert_eq!(parse(&format!(r#"["GET",1,"{session}",1,"fleet",[{ids}]]"#)), MessageError::TooMany("ids"));
    let bytes = "00".repeat(120_000);
    assert_eq!(parse(&format!(r#"["NEG",1,"{session}",1,"fleet","{bytes}"]"#)), MessageError::TooLarge(120_000));
    for text in ["", "[]", "{}", "[1]", r#"["NEG"]"#, r#"["NOPE",1,2]"#, r#"["OK","00000000000000FF",1,0,0,[]]"#] {
        parse(text);
    }
    let space = parse(&format!(r#"["GET",1,"{session}",1,"../etc",[]]"#));
    assert_eq!(space, MessageError::Malformed("space"));
    assert!(matches!(parse(&"[".repeat(100_000)), MessageError::Shape));
}

fn some_events() -> &'static [Event] {
    static EVENTS: std::sync::LazyLock<Vec<Event>> = std::sync::LazyLock::new(|| events(1, 5));
    &EVENTS
}

fn id() -> impl Strategy<Value = EventId> {
    any::<[u8; 32]>().prop_map(EventId::from_byte_array)
}

fn brought() -> impl Strategy<Value = Vec<Event>> {
    prop::sample::subsequence(some_events().to_vec(), 0..=5)
}

fn refusal() -> impl Strategy<Value = Refusal> {
    let words = ["invalid", "forgotten", "quarantined", "not-allowed", "ahead", "full"];
    prop::sample::select(words.to_vec()).prop_map(|word| word.parse().unwrap())
}

fn message() -> impl Strategy<Value = Message> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..200);
    let ids = || prop::collection::vec(id(), 0..9);
    let request = prop_oneof![
        bytes().prop_map(RequestBody::Reconcile),
        ids().prop_map(RequestBody::Get),
        brought().prop_map(RequestBody::Put),
    ];
    let code = prop::sample::select(vec!["version", "refused", "malformed", "failed"]);
    let code = code.prop_map(|word| word.parse::<ErrorCode>().unwrap());
    let reply = prop_oneof![
        bytes().prop_map(ReplyBody::Reconciled),
        (brought(), ids()).prop_map(|(events, gone)| ReplyBody::Given { events, gone }),
        (any::<u32>(), any::<u32>(), prop::collection::vec((id(), refusal()), 0..5))
            .prop_map(|(new, known, refused)| ReplyBody::Stored { new, known, refused }),
        (code, "\\PC{0,40}").prop_map(|(code, text)| ReplyBody::Failed { code, text }),
    ];
    let address = || (any::<u64>().prop_map(SessionId), any::<u32>());
    prop_oneof![
        (address(), request).prop_map(|((session, number), body)| Message::Request(Request {
            session,
            number,
            space: fleet(),
            body
        })),
        (address(), reply).prop_map(|((session, number), body)| Message::Reply(Reply { session, number, body })),
    ]
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(message in message()) {
        prop_assert_eq!(Message::parse(message.to_json().as_bytes()).unwrap(), message);
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = Message::parse(&bytes);
    }

    /// Cut and bitten messages, which come much farther than noise.
    #[test]
    fn no_bitten_message_panics(message in message(), bites in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4), cut in any::<prop::sample::Index>()) {
        let mut bytes = message.to_json().into_bytes();
        for (at, byte) in bites {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let _ = Message::parse(&bytes);
        let _ = Message::parse(&bytes[..cut.index(bytes.len())]);
    }

    /// Whatever negentropy is told, a responder answers and an initiator goes on or ends.
    #[test]
    fn no_reconciliation_message_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        use memory::sync::{Input, Limits, Patience, Refusals, Replica, Session, respond};
        let replica = crate::double::Double::with(some_events().to_vec());
        for message in [bytes.clone(), [&[0x61], &bytes[..]].concat()] {
            let body = RequestBody::Reconcile(message.clone());
            let request = Request { session: SessionId(1), number: 1, space: fleet(), body };
            respond(request, &some_events()[0].pubkey, &replica);
            let bounds = (Limits::default(), Patience::default());
            let snapshot = replica.snapshot(&fleet()).unwrap();
            let mut session = Session::new(SessionId(1), fleet(), snapshot, Refusals::default(), bounds);
            session.handle(Input::Start, 0);
            let reply = Reply { session: SessionId(1), number: 1, body: ReplyBody::Reconciled(message) };
            prop_assert!(!session.handle(Input::Received(reply), 0).is_empty());
        }
    }
}
