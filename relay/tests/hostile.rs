//! What hostile and broken clients get, and that others notice nothing.

#![allow(clippy::unwrap_used)]

mod common;

use common::{Client, Relay, event};
use futures_util::SinkExt;
use nostr::{Event, JsonUtil, Keys};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

async fn serves(relay: &Relay) {
    let mut client = relay.client().await;
    let event = event(&Keys::generate(), 1, 0, &[], "still here");
    client.must(&event).await;
    assert_eq!(client.ids(json!({"ids": [event.id.to_hex()]})).await.len(), 1);
}

fn altered(event: &Event, field: &str, value: Value) -> String {
    let mut json: Value = serde_json::from_str(&event.as_json()).unwrap();
    json[field] = value;
    json!(["EVENT", json]).to_string()
}

#[tokio::test]
async fn malformed_events_are_refused_by_id() {
    let relay = Relay::start().await;
    let mut client = relay.client().await;
    let event = event(&Keys::generate(), 1, 0, &[&["t", "x"]], "text");
    let id = event.id.to_hex();
    let altered = [
        altered(&event, "content", json!("other")),
        altered(&event, "content", json!(7)),
        altered(&event, "sig", json!("00".repeat(64))),
        altered(&event, "sig", json!("zz")),
        altered(&event, "pubkey", json!(event.pubkey.to_hex().to_uppercase())),
        altered(&event, "created_at", json!(-1)),
        altered(&event, "created_at", json!(1.5)),
        altered(&event, "created_at", json!("1")),
        altered(&event, "kind", json!(65_536)),
        altered(&event, "kind", json!(null)),
        altered(&event, "tags", json!([["t", 1]])),
        altered(&event, "tags", json!([[]])),
        altered(&event, "tags", json!([[["t"]]])),
        altered(&event, "tags", json!({})),
    ];
    for text in altered {
        client.text(&text).await;
        let (taken, reason) = client.ok(&id).await;
        assert!(!taken && reason.starts_with("invalid:"), "{text}: {reason}");
    }
    let upper =
        json!(["EVENT", serde_json::from_str::<Value>(&event.as_json().replace(&id, &id.to_uppercase())).unwrap()]);
    client.json(upper).await;
    assert!(!client.ok(&id.to_uppercase()).await.0);
    let ahead = common::event(&Keys::generate(), 1, -3_600, &[], "");
    assert!(client.publish(&ahead).await.1.starts_with("invalid:"));
    serves(&relay).await;
}

#[tokio::test]
async fn malformed_messages_get_a_notice_or_closed() {
    let relay = Relay::start().await;
    let mut client = relay.client().await;
    let deep = format!("[\"REQ\",\"a\",{}1{}]", "[".repeat(50_000), "]".repeat(50_000));
    for text in
        ["", "{", "[]", "{}", "7", "[\"NOPE\"]", "[\"REQ\"]", "[\"REQ\",7,{}]", "[\"EVENT\"]", "[\"EVENT\",[]]", &deep]
    {
        client.text(text).await;
        let answer = client.receive().await;
        assert_eq!(answer[0], "NOTICE", "{text:.40}: {answer}");
    }
    let long = "x".repeat(65);
    for (id, filter) in [
        ("a", json!({"ids": ["xyz"]})),
        ("a", json!({"authors": ["A".repeat(64)]})),
        ("a", json!({"kinds": [70_000]})),
        ("a", json!({"kinds": "1"})),
        ("a", json!({"limit": -1})),
        ("a", json!({"since": "now"})),
        ("a", json!({"#t": [1]})),
        ("a", json!({"#t": vec!["x"; 2_001]})),
        ("a", json!([])),
        ("", json!({})),
        (&*long, json!({})),
    ] {
        let reason = client.req(id, std::slice::from_ref(&filter)).await.unwrap_err();
        assert!(reason.starts_with("invalid:"), "{filter}: {reason}");
    }
    assert!(client.req("many", &vec![json!({}); 33]).await.is_err());
    assert!(client.req("unknown", &[json!({"surprise": 1, "#long": ["x"]})]).await.is_ok());
    let odd = "\"\\\n\u{1}ü";
    assert!(client.req(odd, &[json!({})]).await.is_ok(), "any string is a subscription id");
    serves(&relay).await;
}

#[tokio::test]
async fn a_thousand_subscriptions_end_at_the_limit() {
    let relay = Relay::start().await;
    let mut client = relay.client().await;
    let mut closed = 0;
    for i in 0..1_000 {
        closed += usize::from(client.req(&format!("s{i}"), &[json!({"limit": 0})]).await.is_err());
    }
    assert_eq!(closed, 1_000 - 64);
    assert!(client.req("s0", &[json!({"limit": 1})]).await.is_ok(), "the same id takes the old one's place");
    assert_eq!(relay.server.stats().subscriptions, 64);
    serves(&relay).await;
}

#[tokio::test]
async fn a_reader_that_never_reads_is_cut_off() {
    let relay = Relay::with(|config| config.limits.write_timeout_ms = 300).await;
    let keys = Keys::generate();
    let text = "x".repeat(200_000);
    let mut lazy = relay.client().await;
    lazy.json(json!(["REQ", "all", {}])).await;
    let mut writer = relay.client().await;
    for i in 0..150 {
        writer.must(&event(&keys, 1, i, &[], &format!("{i} {text}"))).await;
    }
    while relay.server.stats().cut_off == 0 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    drop(lazy);
    serves(&relay).await;
}

#[tokio::test]
async fn huge_frames_and_negentropy_bombs() {
    let relay = Relay::start().await;
    let mut client = relay.client().await;
    client.json(json!(["NEG-OPEN", "g", {"kinds": [1]}, "61000002ffffffff0f"])).await;
    assert_eq!(client.receive().await[0], "NEG-ERR");
    for bomb in ["zz", "", "61", "60", "00", "6100000100"] {
        client.json(json!(["NEG-OPEN", "g", {"kinds": [1]}, bomb])).await;
        client.receive().await;
    }
    for i in 0..10 {
        client.json(json!(["NEG-OPEN", format!("n{i}"), {}, "6100000200"])).await;
        let answer = client.receive().await;
        assert_eq!(answer[0], if i < 4 { "NEG-MSG" } else { "NEG-ERR" }, "{answer}");
    }
    let mut huge = relay.client().await;
    let _ = huge.socket.send(Message::text(format!("[\"REQ\",\"{}\"]", "x".repeat(3 << 20)))).await;
    while huge.try_receive().await.is_some() {}
    serves(&relay).await;
}

#[tokio::test]
async fn too_many_connections_and_events_are_turned_away() {
    let relay = Relay::with(|config| config.max_connections = 2).await;
    let (_a, _b) = (relay.client().await, relay.client().await);
    assert!(tokio_tungstenite::connect_async(relay.url()).await.is_err());

    let relay = Relay::behind_proxy(|config| {
        config.limits.connections_per_address = 2;
        config.limits.events_burst = 3.0;
        config.limits.events_per_s = 0.0;
        config.limits.requests_burst = 3.0;
        config.limits.requests_per_s = 0.0;
    })
    .await;
    let mut client = relay.client().await;
    let _other = relay.client().await;
    assert!(tokio_tungstenite::connect_async(relay.url()).await.is_err());
    let keys = Keys::generate();
    let mut answers = Vec::new();
    for i in 0..4 {
        answers.push(client.publish(&event(&keys, 1, i, &[], &i.to_string())).await.1);
    }
    assert!(answers[3].starts_with("rate-limited:"), "{answers:?}");
    for _ in 0..3 {
        client.req("a", &[json!({})]).await.unwrap();
    }
    assert!(client.req("a", &[json!({})]).await.unwrap_err().starts_with("rate-limited:"));
    let url = format!("ws://localhost:{}", relay.address.port());
    let bad = common::auth_event(&keys, &url, &client.challenge, nostr::Timestamp::now());
    assert!(!client.auth_with(&bad).await.0);
}

#[tokio::test]
async fn closing_says_good_bye_and_loses_nothing() {
    let relay = Relay::start().await;
    let mut client = relay.client().await;
    let keys = Keys::generate();
    let events: Vec<_> = (0..200).map(|i| event(&keys, 1, i, &[], &i.to_string())).collect();
    for event in &events {
        client.text(format!("[\"EVENT\",{}]", event.as_json())).await;
    }
    client.ok(&events[0].id.to_hex()).await;
    relay.server.close();
    let mut acknowledged = 1;
    while let Some(message) = client.try_receive().await {
        acknowledged += u64::from(message[0] == "OK");
    }
    let relay = relay.reopen().await;
    let mut client = Client::connect(&relay.url()).await;
    assert!(client.count(json!({"kinds": [1]})).await >= acknowledged);
}

#[tokio::test]
async fn a_client_that_never_answers_pings_is_cut_off() {
    let relay = Relay::with(|config| config.limits.ping_ms = 20).await;
    let silent = relay.client().await;
    while relay.server.stats().cut_off == 0 {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    drop(silent);
}

#[tokio::test]
async fn a_slow_reader_gets_everything_once_and_in_order() {
    let relay = Relay::with(|config| config.limits.write_timeout_ms = 60_000).await;
    let mut slow = relay.client().await;
    slow.req("all", &[json!({"limit": 0})]).await.unwrap();
    let text = "x".repeat(200_000);
    let mut wanted = Vec::new();
    for i in 0..700 {
        let text = if i < 100 { &*text } else { "" };
        let event = event(&relay.node, 1, i, &[], &format!("{i} {text}"));
        wanted.push(event.id.to_hex());
        relay.server.publish(event).await.unwrap();
    }
    for id in wanted {
        assert_eq!(slow.receive().await[2]["id"], id);
    }
}
