//! A talk over several messages: what was said before is known, also after a restart; commands; and a chain of models that fail.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use axum::Router;
use axum::routing::post;
use nostr::ToBech32;
use serde_json::Value;
use tempfile::TempDir;
use tests::client::message;
use tests::double::{ANTHROPIC_KEY, Pages};
use tests::node::keys;
use tests::{Client, ModelDouble, Node, eventually};

const AT_ONCE: Duration = Duration::ZERO;

async fn ask(node: &Node, text: &str) -> Value {
    node.json(&["ask", text]).await
}

async fn said(node: &Node, text: &str) -> String {
    ask(node, text).await["answer"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_said_before_is_known_at_every_door_also_after_a_restart_and_what_is_forgotten_is_not() {
    let model = ModelDouble::start(&["I ", "hear ", "you"], AT_ONCE).await;
    let owner = keys();
    let config = format!("[owner]\nnpub = \"{}\"\n{}", owner.public_key().to_bech32().unwrap(), model.config(""));
    let mut node = Node::builder().config(&config).start().await;
    said(&node, "my cat is called Minka").await;
    assert!(!model.prompts().contains("assistant"), "nothing was said before");
    said(&node, "what is she called?").await;
    let last = model.last_prompt();
    let roles: Vec<&str> = last.iter().map(|m| m["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["system", "user", "assistant", "user"]);
    assert_eq!(
        (last[1]["content"].as_str(), last[2]["content"].as_str()),
        (Some("my cat is called Minka"), Some("I hear you"))
    );
    // The same talk over Nostr, after a kill.
    node.kill().await;
    let node = Node::builder().dir(node.dir()).start().await;
    let calls = model.calls();
    Client::connect(node.relay()).await.must_publish(&message(&owner, &node.public_key(), "and over Nostr?").1).await;
    eventually("it is asked", async || (model.calls() > calls).then_some(())).await;
    let last = model.last_prompt();
    assert_eq!(last.len(), 6, "{last:?}");
    assert!(last[1]["content"].as_str().unwrap().contains("Minka"));
    // A stranger to this talk gets nothing of it; what is forgotten is in no later prompt.
    said(&node, "!remember my cat is called Minka").await;
    let found = said(&node, "!recall cat").await;
    let id = found.split('`').nth(1).unwrap();
    assert_eq!(said(&node, &format!("!forget {id}")).await, "Forgotten.");
    said(&node, "tell me more").await;
    let last = format!("{:?}", model.last_prompt());
    assert!(!last.contains("Minka") && last.contains("and over Nostr?"), "{last}");
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_are_obeyed_without_a_model_and_what_is_none_is_said() {
    let (owner, friend) = (keys(), keys());
    let npub = |keys: &nostr::Keys| keys.public_key().to_bech32().unwrap();
    let story = ["word "; 200];
    let model = ModelDouble::start(&story, Duration::from_millis(100)).await;
    let config =
        format!("[owner]\nnpub = \"{}\"\n[nostr]\nallow = [\"{}\"]\n{}", npub(&owner), npub(&friend), model.config(""));
    let node = Node::builder().config(&config).start().await;
    assert!(said(&node, "!help").await.contains("!recall TEXT"));
    assert!(said(&node, "!status").await.contains("memory: 0 entries"));
    assert!(said(&node, "!dance").await.contains("!help"));
    assert!(said(&node, "!recall").await.contains("!recall TEXT"));
    assert!(said(&node, "!remember the gate code is on the fridge").await.contains("fridge"));
    assert!(said(&node, "!recall gate code").await.contains("fridge"));
    assert!(said(&node, "!model").await.contains("double"));
    assert!(said(&node, "!jobs").await.contains("kind"));
    assert!(said(&node, "!peers").await.contains("federation"));
    assert!(said(&node, "!stop").await.contains("was not answering"));
    assert_eq!(model.calls(), 0, "no model is asked about a command");
    // A story is stopped.
    let mut asking = tokio::task::JoinSet::new();
    let dir = node.dir().to_owned();
    asking.spawn(async move { tests::node::cli(&dir, &["ask", "a long story", "--json"]).await });
    eventually("the story begins", async || (model.calls() == 1).then_some(())).await;
    assert_eq!(said(&node, "!stop").await, "Stopped.");
    asking.join_next().await.unwrap().unwrap();
    eventually("the model is left", async || (model.hung_up() == 1).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_model_is_gone_the_second_hangs_the_third_is_garbled_and_the_person_sees_no_error() {
    let mut gone = ModelDouble::start(&["never"], AT_ONCE).await;
    let hangs = ModelDouble::start(&["never"], Duration::from_secs(600)).await;
    let garbled = Pages::serve(Router::new().route("/v1/chat/completions", post(async || "{\"choices\": 7"))).await;
    let good = ModelDouble::start(&["here ", "I am"], AT_ONCE).await;
    let folder = TempDir::new().unwrap();
    let key = folder.path().join("key");
    std::fs::write(&key, ANTHROPIC_KEY).unwrap();
    let config = [
        gone.config("").replace("\"double\"", "\"gone\""),
        hangs.config("timeout_s = 2").replace("\"double\"", "\"hangs\""),
        format!("[[models]]\nname = \"garbled\"\nbase_url = \"http://{}/v1\"\nmodel = \"d\"", garbled.address),
        good.config(&format!("api = \"anthropic\"\napi_key_file = {key:?}")).replace("\"double\"", "\"good\""),
    ];
    let node = Node::builder().config(&config.join("\n")).start().await;
    gone.stop();
    let answer = ask(&node, "are you there?").await;
    assert_eq!((answer["answer"].as_str(), answer["model"].as_str()), (Some("here I am"), Some("good")), "{answer}");
    let asked = good.last_request();
    assert!(
        asked["system"].as_str().is_some_and(|rules| rules.contains("Timmy")) && asked["max_tokens"].is_u64(),
        "{asked}"
    );
    assert!(asked["messages"].as_array().unwrap().iter().all(|m| m["role"] != "system"), "{asked}");
    // All gone: the embedded answerer speaks, and there is still no error.
    drop(good);
    drop(hangs);
    let answer = ask(&node, "and now?").await;
    assert!(answer["answer"].as_str().unwrap().contains("no language model") && answer["model"].is_null(), "{answer}");
}
