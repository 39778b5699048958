//! Clients of other codebases drive a node: nostr-tools and NDK (Node), the nostr-sdk bindings (Python).
//!
//! The scripts are in `tests/external`; `make tools` brings what they need. Each takes its task as JSON on stdin, so that no key
//! stands in an argument list, and prints what it found as JSON.

#![allow(clippy::unwrap_used)]

use nostr::ToBech32;
use serde_json::{Value, json};
use tests::Node;
use tests::node::keys;

mod support;

use support::{Script, config_with_owner};

#[tokio::test]
async fn nostr_tools_finds_the_embedded_relay_complete() {
    let node = Node::start().await;
    let task =
        json!({ "relay": node.relay(), "http": node.http(), "node": node.public_key().to_hex(), "name": "timmy" });
    let found = Script::node("nostr-tools-relay.mjs").run(&task).await;
    assert_eq!((&found["synced"]["have"], &found["synced"]["need"]), (&json!(1), &json!(9)), "{found}");
}

#[tokio::test]
async fn nostr_tools_as_the_owner_has_a_talk_and_as_a_customer_gets_its_jobs_done() {
    let owner = keys();
    let node = Node::builder().config(&config_with_owner(&owner)).start().await;
    let task = json!({ "relay": node.relay(), "node": node.public_key().to_hex(), "owner": owner.secret_key().to_secret_hex() });
    let found = Script::node("nostr-tools-agent.mjs").run(&task).await;
    assert!(found["answer"].as_str().is_some_and(|a| a.len() > 20), "{found}");
    assert_eq!(found["jobs"]["results"], 2, "one result a job: {found}");
    assert!(found["jobs"]["reason"].as_str().is_some_and(|r| r.contains("nonsense") || r.contains("type")), "{found}");
}

#[tokio::test]
async fn ndk_finds_the_offer_and_reads_results_and_feedback_plain_and_encrypted() {
    let node = Node::start().await;
    let task = json!({ "relay": node.relay(), "node": node.public_key().to_hex() });
    let found = Script::node("ndk-jobs.mjs").run(&task).await;
    assert_eq!(found["kinds"], json!([5000, 5001, 5302, 5303]), "{found}");
    for reason in [&found["error"], &found["sealed_error"]] {
        assert!(reason.as_str().is_some_and(|r| r.len() > 10), "the reason helps: {found}");
    }
}

#[tokio::test]
async fn the_python_bindings_of_nostr_sdk_talk_sync_and_get_a_job_done() {
    let owner = keys();
    let node = Node::builder().config(&config_with_owner(&owner)).start().await;
    let task = json!({
        "relay": node.relay(),
        "node": node.public_key().to_bech32().unwrap(),
        "owner": owner.secret_key().to_secret_hex(),
    });
    let found: Value = Script::python("nostr_sdk_client.py").run(&task).await;
    assert!(found["answer"].as_str().is_some_and(|a| a.len() > 20), "{found}");
    assert_eq!(found["synced"], json!({ "received": 20, "sent": 5 }));
    assert_eq!(found["job"], "a text from the bindings");
}
