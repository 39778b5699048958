//! Who a node says that it is, and its HTTP face.

#![allow(clippy::unwrap_used)]

use std::os::unix::fs::PermissionsExt;

use nips::identity::SOUL_ID;
use nips::{Attestation, PeerCard};
use nostr::{Event, Filter, Keys, Kind, Timestamp, ToBech32};
use nostr_relay_builder::MockRelay;
use serde_json::Value;
use tests::{Client, Node, eventually};

const DOCUMENTS: [u16; 7] = [0, 10_002, 10_050, 10_011, 31_990, 11_998, 30_078];

async fn document(url: &str, node: &Node, kind: u16) -> Event {
    eventually(&format!("kind {kind} on {url}"), || async {
        let mut client = Client::connect(url).await;
        let found = client.query(Filter::new().author(node.public_key()).kind(Kind::from_u16(kind))).await;
        found.into_iter().find(|event| event.tags.identifier() != Some(SOUL_ID))
    })
    .await
}

fn tags(event: &Event) -> Vec<Vec<String>> {
    event.tags.iter().map(|t| t.as_slice().to_vec()).collect()
}

async fn get(url: &str, accept: &str) -> (u16, reqwest::header::HeaderMap, String) {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let response = http.get(url).header("accept", accept).send().await.unwrap();
    (response.status().as_u16(), response.headers().clone(), response.text().await.unwrap())
}

#[tokio::test]
async fn documents_and_offer_go_to_its_own_relay_and_the_outside_ones() {
    let outside = MockRelay::run().await.unwrap();
    let url = outside.url().await.to_string();
    let config = format!(
        "[node]\nname = \"tim\"\ndomain = \"example.org\"\nidentities = [\"github:tim:abc\"]\n[nostr]\nrelays = [\"{url}\"]"
    );
    let node = Node::builder().config(&config).start().await;
    for kind in DOCUMENTS {
        let here = document(node.relay(), &node, kind).await;
        let there = document(&url, &node, kind).await;
        assert_eq!(here.id, there.id, "kind {kind}");
    }
    let profile: Value = serde_json::from_str(&document(&url, &node, 0).await.content).unwrap();
    assert_eq!((&profile["nip05"], &profile["bot"]), (&Value::from("tim@example.org"), &Value::from(true)));
    // Which values it has: named in the profile, and their history signed.
    let soul = eventually("the soul's history", async || {
        let mut client = Client::connect(&url).await;
        client.query(Filter::new().author(node.public_key()).identifier(SOUL_ID)).await.pop()
    })
    .await;
    let history: Value = serde_json::from_str(&soul.content).unwrap();
    assert_eq!(history["souls"].as_array().unwrap().last(), Some(&profile["soul"]), "{history}");
    let offer = document(&url, &node, 31_990).await;
    let kinds: Vec<String> = tags(&offer).into_iter().filter(|t| t[0] == "k").map(|t| t[1].clone()).collect();
    assert_eq!(kinds, ["5000", "5001", "5302", "5303"], "no model, so nothing that needs one");
    let (beat, d) = (document(&url, &node, 11_998).await, |e: &Event| {
        tags(e).into_iter().find(|t| t[0] == "d").unwrap()[1].clone()
    });
    assert_eq!(d(&beat), d(&offer));
    let card = PeerCard::read(&document(&url, &node, 30_078).await, Timestamp::now().as_secs()).unwrap();
    assert_eq!(card.peer_id.to_string(), node.ready["peer_id"].as_str().unwrap());
    let list = document(&url, &node, 10_050).await;
    assert!(
        tags(&list).iter().all(|t| !t[1].contains(&node.address())),
        "no private address leaves: {:?}",
        tags(&list)
    );
}

#[tokio::test]
async fn the_owners_word_for_the_node_stands_on_its_profile() {
    let mut node = Node::start().await;
    assert_eq!(Attestation::of_event(&document(node.relay(), &node, 0).await).unwrap(), None);
    let owner = Keys::generate();
    let file = node.dir().join("owner.nsec");
    std::fs::write(&file, owner.secret_key().to_bech32().unwrap()).unwrap();
    let npub = node.public_key().to_bech32().unwrap();
    let attest = ["attest", "--owner-key-file", file.to_str().unwrap(), &npub];
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).unwrap();
    let (code, _, err) = node.cli(&attest).await;
    assert!(code == 1 && err.contains("chmod 600"), "{err}");
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
    let (code, lines, err) = node.cli(&attest).await;
    assert_eq!(code, 0, "{err}");
    assert!(node.stop().await.success());
    let node = Node::builder().dir(node.dir()).config(&lines).start().await;
    eventually("the profile with the owner's word", async || {
        let profile = document(node.relay(), &node, 0).await;
        (Attestation::of_event(&profile).unwrap() == Some(owner.public_key())).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_changes_is_published_again_and_what_does_not_is_not() {
    let mut node = Node::builder().config("[node]\nname = \"one\"").start().await;
    let (profile, list) = (document(node.relay(), &node, 0).await, document(node.relay(), &node, 10_002).await);
    let address = node.address();
    assert!(node.stop().await.success());
    let node = Node::builder().dir(node.dir()).listen(&address).config("[node]\nname = \"two\"").start().await;
    let changed = eventually("the new profile", || async {
        Some(document(node.relay(), &node, 0).await).filter(|e| e.id != profile.id)
    })
    .await;
    assert!(changed.content.contains("\"two\"") && changed.created_at > profile.created_at);
    assert_eq!(document(node.relay(), &node, 10_002).await.id, list.id, "the same address, the same list");
}

#[tokio::test]
async fn the_http_face_answers_on_the_relays_port() {
    let node = Node::builder().config("[node]\nname = \"tim\"").start().await;
    let key = node.ready["pubkey"].as_str().unwrap();
    let (code, headers, body) = get(&format!("{}/.well-known/nostr.json?name=tim", node.http()), "*/*").await;
    let json: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((code, &json["names"]["tim"]), (200, &Value::from(key)));
    assert_eq!(headers["access-control-allow-origin"], "*");
    assert!(json["relays"][key].is_array());
    let (_, _, nobody) = get(&format!("{}/.well-known/nostr.json?name=bob", node.http()), "*/*").await;
    assert!(!nobody.contains(key));

    let (code, headers, body) = get(node.http(), "application/nostr+json").await;
    let info: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((code, &info["self"]), (200, &Value::from(key)));
    assert_eq!(headers["access-control-allow-origin"], "*");
    let nips: Vec<u64> = info["supported_nips"].as_array().unwrap().iter().filter_map(Value::as_u64).collect();
    for nip in [1, 9, 11, 17, 40, 42, 45, 50, 62, 65, 70, 77] {
        assert!(nips.contains(&nip), "NIP-{nip} in {nips:?}");
    }
    assert!(info["limitation"].as_object().unwrap().len() >= 8);

    let (code, _, body) = get(&format!("{}/healthz", node.http()), "*/*").await;
    assert_eq!((code, body.contains("\"ok\":true")), (200, true));
    let (code, _, page) = get(node.http(), "text/html").await;
    assert!(code == 200 && page.contains(node.ready["npub"].as_str().unwrap()));
    let (code, _, _) = get(&format!("{}/api/v1/status", node.http()), "*/*").await;
    assert_eq!(code, 401, "the API is for who has the token");
}

/// A model server that answers every question with one word.
async fn model() -> String {
    let answer = serde_json::json!({
        "choices": [{ "message": { "role": "assistant", "content": "yes" }, "finish_reason": "stop" }],
        "usage": { "prompt_tokens": 7, "completion_tokens": 1 },
    });
    let router = axum::Router::new()
        .route(
            "/v1/models",
            axum::routing::get(|| async { axum::Json(serde_json::json!({ "data": [{ "id": "m" }] })) }),
        )
        .route("/v1/chat/completions", axum::routing::post(move || async { axum::Json(answer) }));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let mut servers = tokio::task::JoinSet::new();
    servers.spawn(async move { axum::serve(listener, router).await });
    servers.detach_all();
    url
}

#[tokio::test]
async fn metrics_have_the_names_of_the_contract() {
    let config = format!("[[models]]\nname = \"one\"\nbase_url = \"{}\"\nmodel = \"m\"", model().await);
    let node = Node::builder().config(&config).start().await;
    let answer = node.json(&["ask", "really?"]).await;
    assert_eq!((answer["answer"].as_str(), answer["model"].as_str()), (Some("yes"), Some("one")));
    let (code, _, text) = get(&format!("{}/metrics", node.http()), "*/*").await;
    assert_eq!(code, 200);
    for line in [
        "timmy_tasks_total{status=\"settled\",persona=\"timmy\"} 1",
        "timmy_task_duration_seconds_count 1",
        "timmy_ws_connections 0",
        "timmy_agent_health{persona=\"timmy\"} 1",
        "timmy_relay_events_total{outcome=\"stored\"}",
        "timmy_llm_request_duration_seconds_count{provider=\"127.0.0.1\",model=\"one\"} 1",
        "timmy_llm_tokens_total{provider=\"127.0.0.1\",direction=\"in\"} 7",
    ] {
        assert!(text.contains(line), "{line} is missing in\n{text}");
    }
}
