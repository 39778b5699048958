//! A passport in a remote signer, over a relay of the tests.
#![allow(missing_docs, clippy::unwrap_used)]

mod pool_support;

use std::time::Duration;

use nostr::nips::nip44;
use nostr::nips::nip46::{NostrConnectMessage, NostrConnectRequest, NostrConnectResponse, ResponseResult};
use nostr::{Event, EventBuilder, Filter, JsonUtil, Keys, Kind, NostrSigner, PublicKey};
use pool_support::*;
use relay::RemoteSigner;
use relay::pool::{LookBack, Subscription};
use relay::signer::RemoteSignerError;
use tokio::task::JoinSet;

/// What the test's signer does.
#[derive(Clone, Copy, PartialEq)]
enum Mood {
    Honest,
    Refuses,
    SignsOther,
    Silent,
}

struct Bunker {
    uri: String,
    user: Keys,
    _task: JoinSet<()>,
}

async fn bunker(relay: &TestRelay, mood: Mood) -> Bunker {
    let (own, user) = (Keys::generate(), Keys::generate());
    let uri = format!("bunker://{}?relay={}&secret=hush-hush", own.public_key(), relay.url);
    let mut node = Node::start();
    node.add(relay);
    let filters = vec![Filter::new().kind(Kind::NostrConnect).pubkey(own.public_key())];
    node.pool.subscribe(Subscription { id: "requests".into(), filters, lookback: LookBack::Minutes, first_since_s: 0 });
    node.live(relay, "requests").await;
    let (url, keys) = (relay.url.clone(), user.clone());
    let mut task = JoinSet::new();
    task.spawn(async move {
        loop {
            let event = node.next().await;
            if let Some(answer) = respond(&own, &keys, &event, mood) {
                node.pool.publish(&url, &answer, LONG).await;
            }
        }
    });
    Bunker { uri, user, _task: task }
}

fn respond(own: &Keys, user: &Keys, event: &Event, mood: Mood) -> Option<Event> {
    let text = nip44::decrypt(own.secret_key(), &event.pubkey, &event.content).unwrap();
    let message = NostrConnectMessage::from_json(text).unwrap();
    let id = message.id().to_owned();
    let response = match (message.to_request().unwrap(), mood) {
        (_, Mood::Silent) => return None,
        (_, Mood::Refuses) => NostrConnectResponse::with_error("not you"),
        (NostrConnectRequest::Connect { .. }, _) => NostrConnectResponse::with_result(ResponseResult::Ack),
        (NostrConnectRequest::GetPublicKey, _) => {
            NostrConnectResponse::with_result(ResponseResult::GetPublicKey(user.public_key()))
        }
        (NostrConnectRequest::SignEvent(_), Mood::SignsOther) => {
            let other = EventBuilder::text_note("something else").sign_with_keys(user).unwrap();
            NostrConnectResponse::with_result(ResponseResult::SignEvent(Box::new(other)))
        }
        (NostrConnectRequest::SignEvent(unsigned), _) => {
            let signed = unsigned.sign_with_keys(user).unwrap();
            NostrConnectResponse::with_result(ResponseResult::SignEvent(Box::new(signed)))
        }
        (NostrConnectRequest::Nip44Encrypt { public_key, text }, _) => {
            let sealed = nip44::encrypt(user.secret_key(), &public_key, text, nip44::Version::V2).unwrap();
            NostrConnectResponse::with_result(ResponseResult::Nip44Encrypt { ciphertext: sealed })
        }
        _ => NostrConnectResponse::with_error("unknown method"),
    };
    Some(sealed_answer(own, event.pubkey, NostrConnectMessage::response(id, response)))
}

fn sealed_answer(own: &Keys, to: PublicKey, message: NostrConnectMessage) -> Event {
    EventBuilder::nostr_connect(own, to, message).unwrap().sign_with_keys(own).unwrap()
}

async fn connect(uri: &str, timeout: Duration) -> Result<std::sync::Arc<dyn NostrSigner>, RemoteSignerError> {
    RemoteSigner::connect(uri, Keys::generate(), timeout).await
}

#[tokio::test]
async fn signs_and_encrypts_through_a_bunker() {
    let relay = TestRelay::start(Manners::default()).await;
    let bunker = bunker(&relay, Mood::Honest).await;
    let signer = connect(&bunker.uri, LONG).await.unwrap();
    assert_eq!(signer.get_public_key().await.unwrap(), bunker.user.public_key());
    let event = EventBuilder::text_note("hello").sign(&signer).await.unwrap();
    event.verify().unwrap();
    assert_eq!(event.pubkey, bunker.user.public_key());
    let friend = Keys::generate();
    let sealed = signer.nip44_encrypt(&friend.public_key(), "word").await.unwrap();
    assert_eq!(nip44::decrypt(friend.secret_key(), &bunker.user.public_key(), sealed).unwrap(), "word");
    assert!(!format!("{signer:?}").contains("hush-hush"));
}

#[tokio::test]
async fn another_event_than_asked_for_is_not_taken() {
    let relay = TestRelay::start(Manners::default()).await;
    let bunker = bunker(&relay, Mood::SignsOther).await;
    let signer = connect(&bunker.uri, LONG).await.unwrap();
    assert!(EventBuilder::text_note("hello").sign(&signer).await.is_err());
}

#[tokio::test]
async fn failures_say_what_to_do_and_keep_the_secret() {
    let relay = TestRelay::start(Manners::default()).await;
    let refusing = bunker(&relay, Mood::Refuses).await;
    let silent = bunker(&relay, Mood::Silent).await;
    let key = Keys::generate().public_key();
    let nowhere = format!("bunker://{key}?relay=ws://127.0.0.1:1&secret=hush-hush");
    let refused = connect(&refusing.uri, LONG).await.unwrap_err();
    assert!(matches!(refused, RemoteSignerError::Refused(_)), "{refused}");
    // Long enough for a busy machine to connect to the silent one.
    let (late, unreachable) = tokio::join!(connect(&silent.uri, ms(8_000)), connect(&nowhere, ms(1_500)));
    let (late, unreachable) = (late.unwrap_err(), unreachable.unwrap_err());
    assert!(matches!(late, RemoteSignerError::TimedOut(_)), "{late}");
    assert!(matches!(unreachable, RemoteSignerError::Unreachable { .. }), "{unreachable}");
    let garbage = connect("bunker://hush-hush", LONG).await.unwrap_err();
    assert!(matches!(garbage, RemoteSignerError::NotABunker), "{garbage}");
    for error in [refused, late, unreachable, garbage] {
        assert!(!format!("{error} {error:?}").contains("hush-hush"));
    }
}
