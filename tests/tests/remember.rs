//! What the agent remembers in a talk, for whom, and across kills.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use nostr::{Filter, Keys, Kind, ToBech32};
use tests::client::{message, unwrap};
use tests::node::keys;
use tests::{Client, ModelDouble, Node, eventually};

fn people(owner: &Keys, friend: &Keys) -> String {
    let (owner, friend) = (owner.public_key().to_bech32().unwrap(), friend.public_key().to_bech32().unwrap());
    format!("[owner]\nnpub = \"{owner}\"\n[nostr]\nallow = [\"{friend}\"]")
}

/// Sends a message and waits for its answer.
async fn say(node: &Node, who: &Keys, text: &str) -> String {
    let before = mail(node, who).await.len();
    Client::connect(node.relay()).await.must_publish(&message(who, &node.public_key(), text).1).await;
    eventually("the answer is there", async || {
        let mail = mail(node, who).await;
        (mail.len() > before).then_some(mail)
    })
    .await
    .into_iter()
    .max_by_key(|(at, _)| *at)
    .unwrap()
    .1
}

/// What `who` can open of the node's mail, each with the time that its author gave it.
async fn mail(node: &Node, who: &Keys) -> Vec<(u64, String)> {
    let mut client = Client::connect(node.relay()).await;
    client.auth(who).await;
    let wraps = client.query(Filter::new().kind(Kind::GiftWrap).pubkey(who.public_key())).await;
    let opened = wraps.iter().filter_map(|wrap| unwrap(who, wrap));
    opened
        .filter(|(author, _)| *author == node.public_key())
        .enumerate()
        .map(|(at, (_, text))| (at as u64, text))
        .collect()
}

/// Everything that a model was asked.
fn prompts(model: &ModelDouble) -> String {
    model.prompts()
}

/// True when one of the answers so far has these words.
async fn heard(node: &Node, who: &Keys, words: &str) -> bool {
    mail(node, who).await.iter().any(|(_, text)| text.contains(words))
}

#[tokio::test]
async fn the_agent_remembers_for_each_person_what_is_theirs_also_after_a_kill() {
    let (owner, friend) = (keys(), keys());
    let mut node = Node::builder().config(&people(&owner, &friend)).start().await;
    say(&node, &owner, "Remember that the spare key lies under the flower pot").await;
    assert!(heard(&node, &owner, "I will remember").await);
    say(&node, &friend, "remember that my birthday is on the third of May").await;
    assert!(heard(&node, &friend, "I will remember").await);
    node.kill().await;
    let node = Node::builder().dir(node.dir()).config(&people(&owner, &friend)).start().await;
    say(&node, &owner, "What do you know about the key?").await;
    assert!(heard(&node, &owner, "This is what I remember:\n- the spare key lies under the flower pot").await);
    // The friend asks for both; only their own comes.
    say(&node, &friend, "What do you know about the key?").await;
    say(&node, &friend, "What do you know about my birthday?").await;
    assert!(heard(&node, &friend, "third of May").await);
    assert!(!heard(&node, &friend, "flower pot").await, "what the owner said is not the friend's");
    // A stranger gets the one line for strangers.
    let stranger = keys();
    let answer = say(&node, &stranger, "What do you know about the key?").await;
    assert!(!answer.contains("flower pot"), "{answer}");
    // Shared, the friend has it; the command line asks the same memory.
    let npub = friend.public_key().to_bech32().unwrap();
    node.json(&["memory", "share", "fleet", &npub]).await;
    say(&node, &friend, "Recall the key").await;
    assert!(heard(&node, &friend, "flower pot").await);
    let found = node.json(&["memory", "search", "where is the key"]).await;
    assert!(found[0]["text"].as_str().unwrap().contains("flower pot"), "{found}");
}

#[tokio::test]
async fn lists_are_kept_in_talks_and_are_pages() {
    let (owner, friend) = (keys(), keys());
    let node = Node::builder().config(&people(&owner, &friend)).start().await;
    say(&node, &owner, "Add milk and eggs to the shopping list").await;
    say(&node, &owner, "add bread to my shopping list").await;
    say(&node, &owner, "take milk off the shopping list").await;
    say(&node, &owner, "What is on the shopping list?").await;
    assert!(heard(&node, &owner, "The shopping list:\n- eggs\n- bread").await, "{:?}", mail(&node, &owner).await);
    let page = node.json(&["memory", "page", "show", "shopping-list"]).await;
    assert_eq!(page["items"], serde_json::json!(["eggs", "bread"]));
    // The friend's list of the same name is another one.
    say(&node, &friend, "add tea to the shopping list").await;
    assert!(heard(&node, &friend, "The shopping list:\n- tea").await);
    assert!(!heard(&node, &friend, "eggs").await);
}

#[tokio::test]
async fn an_answer_names_its_memories_and_only_models_that_may_see_memory_are_given_any() {
    let model = ModelDouble::start(&["It is where you left it."], Duration::ZERO).await;
    let config = model.config("sees_memory = true");
    let node = Node::builder().config(&config).start().await;
    let added = node.json(&["memory", "add", "The spare key lies under the flower pot"]).await;
    let answer = node.json(&["ask", "Where did I leave the spare key?"]).await;
    assert_eq!(answer["memories"][0], added["id"], "{answer}");
    assert!(prompts(&model).contains("flower pot"));

    let blind = ModelDouble::start(&["It is where you left it."], Duration::ZERO).await;
    let config = blind.config("sees_memory = false");
    let node = Node::builder().config(&config).start().await;
    node.json(&["memory", "add", "The spare key lies under the flower pot"]).await;
    let answer = node.json(&["ask", "Where did I leave the spare key?"]).await;
    assert_eq!(answer["memories"], serde_json::json!([]), "{answer}");
    assert_eq!(answer["model"], "double");
    assert!(!prompts(&blind).contains("flower pot"));

    // Without a model the memory itself is quoted, and the lack of a model is said.
    let node = Node::start().await;
    let added = node.json(&["memory", "add", "The spare key lies under the flower pot"]).await;
    let answer = node.json(&["ask", "Where did I leave the spare key?"]).await;
    let text = answer["answer"].as_str().unwrap();
    assert!(text.contains("flower pot") && text.contains("no language model"), "{text}");
    assert_eq!((&answer["memories"][0], &answer["model"]), (&added["id"], &serde_json::Value::Null));
}
