//! What the relay answers, NIP by NIP, over the wire.

#![allow(clippy::unwrap_used)]

mod common;

use common::{Client, Relay, event, event_at, wrap};
use nostr::{Keys, Timestamp};
use serde_json::json;
use tokio_util::task::TaskTracker;

#[tokio::test]
async fn newest_first_ties_by_lowest_id_and_limit() {
    let relay = Relay::start().await;
    let mut client = relay.client().await;
    let keys = Keys::generate();
    let now = Timestamp::now().as_secs();
    let mut events: Vec<_> = (0..20).map(|i| event_at(&keys, 1, now - i / 4, &[], &i.to_string())).collect();
    for event in &events {
        client.must(event).await;
    }
    events.sort();
    let wanted: Vec<_> = events.iter().map(|event| event.id.to_hex()).collect();
    let author = keys.public_key().to_hex();
    assert_eq!(client.ids(json!({"authors": [author]})).await, wanted);
    assert_eq!(client.ids(json!({"authors": [author], "kinds": [1], "limit": 7})).await, wanted[..7]);
    assert_eq!(client.ids(json!({"ids": wanted, "limit": 3})).await, wanted[..3]);
    let same = client.ids(json!({"kinds": [1], "since": now - 2, "until": now - 2})).await;
    assert_eq!(same, wanted[8..12], "since and until are inclusive");
    assert!(client.ids(json!({"limit": 0})).await.is_empty());
    assert!(client.ids(json!({"kinds": []})).await.is_empty());
    assert_eq!(client.count(json!({"authors": [author], "limit": 2})).await, 20);
}

#[tokio::test]
async fn snapshot_and_live_without_loss_or_doubling() {
    let relay = Relay::start().await;
    let mut writer = relay.client().await;
    let keys = Keys::generate();
    let events: Vec<_> = (0..300).map(|i| event(&keys, 1, i, &[], &i.to_string())).collect();
    let sent = events.clone();
    let writing = TaskTracker::new().spawn(async move {
        for event in &sent {
            writer.must(event).await;
        }
    });
    let mut reader = relay.client().await;
    let mut seen = std::collections::BTreeSet::new();
    for round in 0.. {
        let id = format!("s{round}");
        for event in reader.req(&id, &[json!({"kinds": [1], "limit": 5000})]).await.unwrap() {
            seen.insert(event.id);
        }
        if seen.len() >= 50 {
            break;
        }
        seen.clear();
        reader.json(json!(["CLOSE", id])).await;
    }
    while seen.len() < events.len() {
        let message = reader.receive().await;
        assert_eq!(message[0], "EVENT");
        let id = message[2]["id"].as_str().unwrap().parse().unwrap();
        assert!(seen.insert(id), "an event came twice");
    }
    writing.await.unwrap();
}

#[tokio::test]
async fn replaceable_addressable_and_ephemeral() {
    let relay = Relay::start().await;
    let mut client = relay.client().await;
    let mut other = relay.client().await;
    other.req("all", &[json!({"limit": 0})]).await.unwrap();
    let keys = Keys::generate();
    let (old, new) = (event(&keys, 0, 20, &[], "{}"), event(&keys, 0, 10, &[], "{\"name\":\"n\"}"));
    client.must(&new).await;
    let (taken, reason) = client.publish(&old).await;
    assert!(!taken && reason.starts_with("replaced:"), "{reason}");
    assert_eq!(client.publish(&new).await, (true, "duplicate: already have this event".to_owned()));
    assert_eq!(client.ids(json!({"kinds": [0]})).await, [new.id.to_hex()]);

    let a1 = event(&keys, 30_000, 20, &[&["d", "a"]], "1");
    let a2 = event(&keys, 30_000, 10, &[&["d", "a"]], "2");
    let b = event(&keys, 30_000, 30, &[&["d", "b"]], "3");
    for event in [&a1, &a2, &b] {
        client.must(event).await;
    }
    assert_eq!(client.ids(json!({"kinds": [30_000]})).await, [a2.id.to_hex(), b.id.to_hex()]);
    let tied: Vec<_> = (0..4).map(|i| event_at(&keys, 10_002, 1_700_000_000, &[], &i.to_string())).collect();
    for event in &tied {
        client.publish(event).await;
    }
    let lowest = tied.iter().map(|event| event.id.to_hex()).min().unwrap();
    assert_eq!(client.ids(json!({"kinds": [10_002]})).await, [lowest]);

    let fleeting = event(&keys, 20_001, 0, &[], "now");
    client.must(&fleeting).await;
    assert!(client.ids(json!({"kinds": [20_001]})).await.is_empty());
    loop {
        let message = other.receive().await;
        if message[2]["id"] == fleeting.id.to_hex() {
            break;
        }
    }
}

#[tokio::test]
async fn deletion_by_author_only_and_before_arrival() {
    let relay = Relay::start().await;
    let mut client = relay.client().await;
    let (keys, stranger) = (Keys::generate(), Keys::generate());
    let note = event(&keys, 1, 10, &[], "note");
    client.must(&note).await;
    client.must(&event(&stranger, 5, 0, &[&["e", &note.id.to_hex()]], "")).await;
    assert_eq!(client.ids(json!({"ids": [note.id.to_hex()]})).await.len(), 1);
    let deletion = event(&keys, 5, 0, &[&["e", &note.id.to_hex()]], "");
    client.must(&deletion).await;
    assert!(client.ids(json!({"ids": [note.id.to_hex()]})).await.is_empty());
    assert!(client.publish(&note).await.1.starts_with("blocked:"));
    client.must(&event(&keys, 5, 0, &[&["e", &deletion.id.to_hex()]], "")).await;
    assert_eq!(client.ids(json!({"ids": [deletion.id.to_hex()]})).await.len(), 1, "deletions stay");

    let early = event(&keys, 1, 10, &[], "early");
    client.must(&event(&keys, 5, 0, &[&["e", &early.id.to_hex()]], "")).await;
    assert!(!client.publish(&early).await.0);

    let coordinate = format!("30000:{}:x", keys.public_key().to_hex());
    client.must(&event(&keys, 30_000, 20, &[&["d", "x"]], "old")).await;
    client.must(&event(&keys, 5, 10, &[&["a", &coordinate]], "")).await;
    assert!(client.ids(json!({"kinds": [30_000]})).await.is_empty());
    assert!(!client.publish(&event(&keys, 30_000, 15, &[&["d", "x"]], "older")).await.0);
    client.must(&event(&keys, 30_000, 5, &[&["d", "x"]], "newer")).await;

    let mail = wrap(&relay.owner.public_key(), 100);
    client.must(&mail).await;
    client.must(&event(&relay.owner, 5, 0, &[&["e", &mail.id.to_hex()]], "")).await;
    assert!(!client.publish(&mail).await.0, "a recipient deletes a wrap for good");
    client.auth(&relay.owner).await;
    assert!(client.ids(json!({"kinds": [1059]})).await.is_empty());
}

#[tokio::test]
async fn vanishing_takes_events_and_mail() {
    let relay = Relay::start().await;
    let mut client = relay.client().await;
    let note = event(&relay.owner, 1, 10, &[], "note");
    let mail = wrap(&relay.owner.public_key(), 10);
    let other = event(&Keys::generate(), 1, 10, &[], "other");
    for event in [&note, &mail, &other] {
        client.must(event).await;
    }
    let elsewhere = event(&relay.owner, 62, 5, &[&["relay", "wss://elsewhere.example"]], "");
    assert!(!client.publish(&elsewhere).await.0);
    client.must(&event(&relay.owner, 62, 5, &[&["relay", &relay.url()]], "")).await;
    assert_eq!(client.ids(json!({"kinds": [1]})).await, [other.id.to_hex()]);
    client.auth(&relay.owner).await;
    assert!(client.ids(json!({"kinds": [1059]})).await.is_empty());
    assert!(!client.publish(&note).await.0);
    client.must(&event(&relay.owner, 1, 0, &[], "again")).await;
    client.must(&event(&relay.owner, 62, 0, &[&["relay", "ALL_RELAYS"]], "")).await;
}

#[tokio::test]
async fn expired_events_are_neither_taken_nor_given() {
    let relay = Relay::start().await;
    let mut client = relay.client().await;
    let keys = Keys::generate();
    let now = Timestamp::now().as_secs();
    let past = event(&keys, 1, 0, &[&["expiration", &(now - 1).to_string()]], "");
    assert!(client.publish(&past).await.1.starts_with("invalid:"));
    let soon = event(&keys, 1, 0, &[&["expiration", &(now + 3).to_string()]], "");
    let (taken, reason) = client.publish(&soon).await;
    assert!(taken || reason.contains("expired"), "{reason}");
    while Timestamp::now().as_secs() < now + 3 {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert!(client.ids(json!({"authors": [keys.public_key().to_hex()]})).await.is_empty());
    assert_eq!(client.count(json!({"kinds": [1]})).await, 0);
}

#[tokio::test]
async fn wraps_are_for_their_recipient_on_every_path() {
    let relay = Relay::start().await;
    let (mut writer, mut stranger, mut owner) = (relay.client().await, relay.client().await, relay.client().await);
    let thief = Keys::generate();
    assert!(stranger.auth(&thief).await.0);
    assert!(owner.auth(&relay.owner).await.0);
    let mut nobody = relay.client().await;
    assert!(nobody.req("w", &[json!({"kinds": [1059]})]).await.unwrap_err().starts_with("auth-required:"));
    for client in [&mut stranger, &mut owner] {
        client.req("live", &[json!({})]).await.unwrap();
    }
    let mail = wrap(&relay.owner.public_key(), 5);
    let id = mail.id.to_hex();
    writer.must(&mail).await;
    let marker = event(&Keys::generate(), 1, 0, &[], "marker");
    writer.must(&marker).await;
    assert_eq!(stranger.receive().await[2]["id"], marker.id.to_hex(), "live leaves the wrap out");
    assert_eq!(owner.receive().await[2]["id"], id);
    let to = relay.owner.public_key().to_hex();
    for filter in
        [json!({"kinds": [1059]}), json!({"ids": [id]}), json!({"#p": [to]}), json!({"kinds": [1, 1059]}), json!({})]
    {
        assert!(!stranger.ids(filter.clone()).await.contains(&id), "{filter}");
        assert!(owner.ids(filter.clone()).await.contains(&id), "{filter}");
        assert_eq!(owner.count(filter.clone()).await - stranger.count(filter.clone()).await, 1, "{filter}");
    }
    assert!(!stranger.ids(json!({"search": "sealed"})).await.contains(&id));
    stranger.json(json!(["NEG-OPEN", "n", {"kinds": [1059]}, "6100000200"])).await;
    assert_eq!(stranger.receive().await, json!(["NEG-MSG", "n", "6100000200"]), "an empty list of ids");
    let elsewhere = wrap(&thief.public_key(), 5);
    assert!(writer.publish(&elsewhere).await.1.starts_with("blocked:"));
    assert_eq!(relay.server.query(vec![nostr::Filter::new()]).await.unwrap().len(), 2, "the node sees all");
}

#[tokio::test]
async fn auth_names_this_relay_this_challenge_and_now() {
    let relay = Relay::start().await;
    let mut client = relay.client().await;
    let keys = Keys::generate();
    let (url, now) = (relay.url(), Timestamp::now());
    let challenge = client.challenge.clone();
    let port = relay.address.port();
    let wrong = [
        common::auth_event(&keys, "ws://elsewhere.example", &challenge, now),
        common::auth_event(&keys, &format!("ws://127.0.0.1:{}", port ^ 1), &challenge, now),
        common::auth_event(&keys, &url, "other", now),
        common::auth_event(&keys, &url, &challenge, Timestamp::from_secs(now.as_secs() - 3_600)),
        common::auth_event(&keys, &url, &challenge, Timestamp::from_secs(now.as_secs() + 3_600)),
        event(&keys, 1, 0, &[&["relay", &url], &["challenge", &challenge]], ""),
    ];
    for event in &wrong {
        let (taken, reason) = client.auth_with(event).await;
        assert!(!taken && reason.starts_with("invalid:"), "{reason}");
    }
    let protected = event(&keys, 1, 0, &[&["-"]], "mine");
    assert!(client.publish(&protected).await.1.starts_with("auth-required:"));
    assert!(client.auth(&Keys::generate()).await.0);
    assert!(client.publish(&protected).await.1.starts_with("restricted:"));
    client.url = format!("ws://localhost:{port}");
    assert!(client.auth(&keys).await.0, "a second key on one connection");
    client.must(&protected).await;
    let repost = event(&Keys::generate(), 6, 0, &[], &nostr::JsonUtil::as_json(&protected));
    assert!(client.publish(&repost).await.1.starts_with("blocked:"));
    let bare = common::auth_event(&keys, &url, &challenge, now);
    assert!(!client.publish(&bare).await.0, "AUTH events are not published");
}

#[tokio::test]
async fn a_relay_for_members_and_one_for_the_authenticated() {
    let relay = Relay::with(|config| config.write = relay::WritePolicy::Members).await;
    let mut client = relay.client().await;
    let stranger = Keys::generate();
    assert!(client.publish(&event(&stranger, 1, 0, &[], "")).await.1.starts_with("blocked:"));
    client.must(&event(&stranger, 5_050, 0, &[], "")).await;
    client.must(&wrap(&relay.node.public_key(), 0)).await;
    client.must(&event(&relay.owner, 1, 0, &[], "")).await;
    relay.server.set_people([stranger.public_key()].into());
    client.must(&event(&stranger, 1, 0, &[], "now a member")).await;

    let relay = Relay::with(|config| config.auth = relay::AuthPolicy::None).await;
    let mut client = relay.client().await;
    client.must(&wrap(&relay.owner.public_key(), 0)).await;
    assert_eq!(client.ids(json!({"kinds": [1059]})).await.len(), 1, "nothing is guarded");

    let relay = Relay::with(|config| config.auth = relay::AuthPolicy::All).await;
    let mut client = relay.client().await;
    assert!(client.publish(&event(&stranger, 1, 0, &[], "")).await.1.starts_with("auth-required:"));
    assert!(client.req("a", &[json!({})]).await.unwrap_err().starts_with("auth-required:"));
    client.auth(&stranger).await;
    client.must(&event(&stranger, 1, 0, &[], "")).await;
    assert_eq!(client.req("a", &[json!({})]).await.unwrap().len(), 1);
    relay.server.set_accepting_strangers(false);
    assert!(client.publish(&event(&stranger, 1, 0, &[], "2")).await.1.starts_with("error:"));
    client.must(&event(&relay.owner, 1, 0, &[], "3")).await;
}

#[tokio::test]
async fn search_is_ranked_complete_and_safe() {
    let relay = Relay::start().await;
    let mut client = relay.client().await;
    let keys = Keys::generate();
    let best = event(&keys, 1, 50, &[], "Purple ostriches, purple ostriches");
    let good =
        event(&keys, 1, 5, &[], "a long text about many birds and among them one purple Östriches or two of them");
    let profile = event(&keys, 0, 5, &[], r#"{"name":"ostriches purple","picture":"https://purple.example"}"#);
    let secret = event(&keys, 4, 5, &[], "purple ostriches");
    for event in [&best, &good, &profile, &secret] {
        client.must(event).await;
    }
    let found = client.ids(json!({"search": "purple ostriches", "kinds": [1]})).await;
    assert_eq!(found, [best.id.to_hex(), good.id.to_hex()]);
    assert_eq!(client.ids(json!({"search": "purple ostriches", "kinds": [1], "limit": 1})).await, found[..1]);
    assert_eq!(client.ids(json!({"search": "purple", "kinds": [0]})).await, [profile.id.to_hex()]);
    assert!(client.ids(json!({"search": "purple", "kinds": [4]})).await.is_empty());
    for hostile in ["\"", "a AND", "NEAR(", "text:x*", "') --", "*", "^", "{a b}:c", "-"] {
        client.ids(json!({"search": hostile})).await;
    }
    client.must(&event(&keys, 5, 0, &[&["e", &best.id.to_hex()]], "")).await;
    assert_eq!(client.ids(json!({"search": "purple", "kinds": [1]})).await, [good.id.to_hex()]);
    client.req("live", &[json!({"search": "Zebra", "limit": 0})]).await.unwrap();
    let zebra = event(&keys, 1, 0, &[], "a ZEBRA passes");
    client.text(format!("[\"EVENT\",{}]", nostr::JsonUtil::as_json(&zebra))).await;
    loop {
        let message = client.receive().await;
        if message[0] == "EVENT" {
            assert_eq!(message[2]["id"], zebra.id.to_hex());
            break;
        }
    }
    let relay = relay.reopen().await;
    let dir = relay.dir.path().join("search.sqlite");
    let (folder, ..) = relay.stop().await;
    std::fs::write(&dir, "not a database at all, but a damaged file").unwrap();
    let relay = Relay::with(|config| config.dir = folder.path().to_owned()).await;
    let mut client = relay.client().await;
    assert_eq!(client.ids(json!({"search": "purple", "kinds": [1]})).await, [good.id.to_hex()], "made anew");
}

#[tokio::test]
async fn reconciliation_finds_the_difference() {
    use negentropy::{Id, Negentropy, NegentropyStorageVector};
    let relay = Relay::start().await;
    let mut client = relay.client().await;
    let keys = Keys::generate();
    let events: Vec<_> = (0..300).map(|i| event(&keys, 1, i, &[], &i.to_string())).collect();
    let mut mine = NegentropyStorageVector::new();
    for (i, event) in events.iter().enumerate() {
        if i % 3 != 0 {
            client.must(event).await;
        }
        if i % 5 != 0 {
            mine.insert(event.created_at.as_secs(), Id::from_byte_array(event.id.to_bytes())).unwrap();
        }
    }
    mine.seal().unwrap();
    let mut side = Negentropy::owned(mine, 0).unwrap();
    let mut message = side.initiate().unwrap();
    let (mut have, mut need) = (Vec::new(), Vec::new());
    client.json(json!(["NEG-OPEN", "n", {"kinds": [1]}, hex::encode(&message)])).await;
    loop {
        let answer = client.receive().await;
        assert_eq!(answer[0], "NEG-MSG", "{answer}");
        let bytes = hex::decode(answer[2].as_str().unwrap()).unwrap();
        let Some(next) = side.reconcile_with_ids(&bytes, &mut have, &mut need).unwrap() else { break };
        message = next;
        client.json(json!(["NEG-MSG", "n", hex::encode(&message)])).await;
    }
    assert_eq!(have.len(), (0..300).filter(|i| i % 3 == 0 && i % 5 != 0).count());
    assert_eq!(need.len(), (0..300).filter(|i| i % 3 != 0 && i % 5 == 0).count());
    client.json(json!(["NEG-CLOSE", "n"])).await;
    client.json(json!(["NEG-MSG", "n", "61"])).await;
    assert_eq!(client.receive().await[0], "NEG-ERR");
}

#[tokio::test]
async fn acknowledged_events_are_there_after_reopening() {
    let relay = Relay::start().await;
    let mut client = relay.client().await;
    let keys = Keys::generate();
    for i in 0..50 {
        client.must(&event(&keys, 1, i, &[], &i.to_string())).await;
    }
    let last = relay.server.last_sequence();
    drop(client);
    let relay = relay.reopen().await;
    assert_eq!(relay.server.last_sequence(), last);
    let mut client = relay.client().await;
    assert_eq!(client.count(json!({"kinds": [1]})).await, 50);
    client.must(&event(&keys, 1, 60, &[], "y")).await;
    assert_eq!(relay.server.last_sequence(), last + 1);
}

#[tokio::test]
async fn a_follower_sees_everything_once_and_in_order() {
    let relay = Relay::start().await;
    let keys = Keys::generate();
    for i in 0..300 {
        relay.server.publish(event(&keys, 1, i, &[], &i.to_string())).await.unwrap();
    }
    let mut follower = relay.server.follow(10);
    let server = relay.server.clone();
    let more: Vec<_> = (0..1_000).map(|i| event(&keys, 1, i, &[], &format!("later {i}"))).collect();
    let writing = TaskTracker::new().spawn(async move {
        for event in more {
            server.publish(event).await.unwrap();
        }
    });
    for wanted in 11..=1_300 {
        assert_eq!(follower.next().await.unwrap().0, wanted);
    }
    writing.await.unwrap();
    relay.server.close();
    assert!(follower.next().await.is_none());
}

#[tokio::test]
async fn information_says_what_holds() {
    let relay = Relay::start().await;
    let information = relay.server.information();
    assert_eq!(information["self"], relay.node.public_key().to_hex());
    assert_eq!(information["limitation"]["max_subscriptions"], 64);
    for nip in [1, 9, 11, 17, 40, 42, 45, 50, 62, 65, 70, 77] {
        assert!(information["supported_nips"].as_array().unwrap().contains(&json!(nip)), "{nip}");
    }
}

#[tokio::test]
async fn strangers_events_go_by_bytes_and_mailboxes_have_a_quota() {
    let relay = Relay::with(|config| {
        config.max_bytes = 20_000;
        config.limits.mailbox_bytes = 2_000;
    })
    .await;
    let mut client = relay.client().await;
    let keys = Keys::generate();
    client.must(&event(&relay.owner, 1, 9_999, &[], "kept")).await;
    for i in 0..200 {
        client.must(&event(&keys, 1, i, &[], &i.to_string())).await;
    }
    let stats = relay.server.stats();
    assert!(stats.stranger_bytes <= 20_000, "{stats:?}");
    assert_eq!(client.count(json!({"authors": [relay.owner.public_key().to_hex()]})).await, 1);
    let mut refused = None;
    for i in 0..10 {
        let (taken, reason) = client.publish(&wrap(&relay.owner.public_key(), i)).await;
        refused = refused.or((!taken).then_some(reason));
    }
    assert!(refused.unwrap().starts_with("restricted:"));
    let url = relay.url();
    drop(client);
    Client::connect(&url).await;
}
