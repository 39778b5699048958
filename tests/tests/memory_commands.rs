//! `timmy memory …` from outside: every command by the binary, on nodes that are real processes.

#![allow(clippy::unwrap_used)]

#[path = "memory_commands/carry.rs"]
mod carry;
#[path = "memory_commands/embedder.rs"]
mod embedder;
#[path = "memory_commands/forget.rs"]
mod forget;
#[path = "memory_commands/rest.rs"]
mod rest;

use std::path::Path;

use nostr::ToBech32;
use serde_json::{Value, json};
use tempfile::TempDir;
use tests::node::{cli, keys};
use tests::{Node, eventually};

/// Runs a command that must fail: its exit code and last words.
async fn failing(dir: &Path, args: &[&str]) -> (i32, String) {
    let (code, out, err) = cli(dir, args).await;
    assert_ne!(code, 0, "{args:?} did not fail: {out}{err}");
    (code, err)
}

/// Remembers; gives the id.
async fn add(node: &Node, args: &[&str]) -> String {
    let mut all = vec!["memory", "add"];
    all.extend(args);
    node.json(&all).await["id"].as_str().unwrap().to_owned()
}

async fn search(node: &Node, args: &[&str]) -> Vec<Value> {
    let mut all = vec!["memory", "search"];
    all.extend(args);
    node.json(&all).await.as_array().unwrap().clone()
}

fn texts(found: &[Value]) -> Vec<&str> {
    found.iter().map(|one| one["text"].as_str().unwrap()).collect()
}

/// The names of an object's fields, sorted.
fn fields(value: &Value) -> Vec<&str> {
    let mut names: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
    names.sort_unstable();
    names
}

/// Same contents, same word.
async fn digest(node: &Node) -> String {
    node.json(&["memory", "stats"]).await["digest"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn without_a_node_they_end_with_3_and_wrong_words_with_2() {
    let dir = TempDir::new().unwrap();
    for args in [
        &["memory", "add", "x"] as &[&str],
        &["memory", "search", "x"],
        &["memory", "show", "ab"],
        &["memory", "import", "/nowhere"],
        &["memory", "export"],
        &["memory", "forget", "ab", "--yes"],
        &["memory", "reindex"],
        &["memory", "stats"],
        &["memory", "share", "garden", &keys().public_key().to_bech32().unwrap()],
        &["memory", "page", "list"],
        &["memory", "page", "edit", "x", "--text", "y"],
    ] {
        let (code, err) = failing(dir.path(), args).await;
        assert_eq!(code, 3, "{args:?}: {err}");
        assert!(err.contains("timmy run"), "{args:?}: {err}");
    }
    for args in [
        &["memory"] as &[&str],
        &["memory", "add"],
        &["memory", "add", "x", "--space", "No Such Space"],
        &["memory", "add", "x", "--kind", "vague"],
        &["memory", "add", "x", "--person", "npub1wrong"],
        &["memory", "add", "x", "--valid-until", "soon"],
        &["memory", "search", "x", "--since", "2026-13-01"],
        &["memory", "search", "x", "--limit", "many"],
        &["memory", "forget"],
        &["memory", "forget", "ab", "--space", "fleet"],
        &["memory", "page", "show", "!!"],
        &["memory", "page", "edit", "x", "--set", "novalue"],
    ] {
        assert_eq!(failing(dir.path(), args).await.0, 2, "{args:?}");
    }
}

#[tokio::test]
async fn what_is_added_is_found_shown_filtered_and_explained_also_after_a_kill() {
    let home = TempDir::new().unwrap();
    let mut node = Node::builder().dir(home.path()).start().await;
    let person = keys().public_key().to_bech32().unwrap();
    let boat = add(&node, &["The", "boat", "is", "called", "Mary", "--tag", "harbour", "--tag", "boats"]).await;
    let tide = add(
        &node,
        &["High tide was at noon", "--kind", "episodic", "--space", "sea", "--person", &person, "--importance", "0.9"],
    )
    .await;
    let old = add(&node, &["The gate code is 1111", "--valid-until", "2020-01-01"]).await;
    let found = search(&node, &["what is the boat's name"]).await;
    assert_eq!(fields(&found[0]), ["author", "created_at", "id", "kind", "score", "space", "tags", "text"]);
    assert_eq!((found[0]["id"].as_str().unwrap(), &found[0]["author"]), (boat.as_str(), &node.ready["npub"]));
    assert_eq!((&found[0]["kind"], &found[0]["space"]), (&json!("semantic"), &json!("fleet")));
    assert_eq!(found[0]["tags"], json!(["boats", "harbour"]));
    assert!(!texts(&found).contains(&"The gate code is 1111"), "what is no longer valid is left out");

    let explained = search(&node, &["boat", "--explain", "--limit", "1"]).await;
    assert_eq!(explained.len(), 1);
    assert!(explained[0]["reasons"]["text"].as_f64().unwrap() > 0.0, "{explained:?}");
    for filter in [
        &["--space", "sea"] as &[&str],
        &["--kind", "episodic"],
        &["--person", &person],
        &["--space", "sea", "--space", "fleet", "--kind", "episodic"],
    ] {
        let mut args = vec!["tide boat"];
        args.extend(filter);
        assert_eq!(texts(&search(&node, &args).await), ["High tide was at noon"], "{filter:?}");
    }
    assert_eq!(search(&node, &["boat", "--tag", "boats", "--tag", "harbour"]).await.len(), 1);
    assert!(search(&node, &["boat", "--tag", "boats", "--tag", "cars"]).await.is_empty());
    assert!(search(&node, &["boat", "--author", &person]).await.is_empty());
    assert!(search(&node, &["boat", "--until", "2020-01-01"]).await.is_empty());
    assert_eq!(search(&node, &["boat", "--since", "2020-01-01", "--limit", "1"]).await.len(), 1);
    assert!(search(&node, &["boat", "--space", "never-heard-of"]).await.is_empty());

    let shown = node.json(&["memory", "show", &tide[..10]]).await;
    assert_eq!((shown["id"].as_str(), shown["person"].as_str()), (Some(tide.as_str()), Some(person.as_str())));
    assert!((shown["importance"].as_f64().unwrap() - 0.9).abs() < 1e-6, "{shown}");
    let renamed = add(&node, &["The boat is called Anna now", "--supersedes", &boat]).await;
    let found = search(&node, &["what is the boat called"]).await;
    assert!(found[0]["id"] == renamed.as_str() && !texts(&found).contains(&"The boat is called Mary"), "{found:?}");

    for (args, words) in [
        (&["memory", "show", "zz"] as &[&str], "no entry zz"),
        (&["memory", "show", "ffffffffffffffffffffffffffffffff"], "no entry ffff"),
        (&["memory", "forget", "ffffffffffffffff", "--yes"], "no entry ffff"),
        (&["memory", "add", "x", "--supersedes", "ffffffffffffffff"], "no entry ffff"),
        (&["memory", "add", " "], "no text"),
        (&["memory", "add", "x", "--importance", "7"], "between 0 and 1"),
        (&["memory", "search", "x", "--limit", "0"], "1 to 1000"),
    ] {
        let (code, err) = failing(node.dir(), args).await;
        assert!(code == 1 && err.contains(words), "{args:?}: {err}");
    }
    node.kill().await;
    let node = Node::builder().dir(home.path()).start().await;
    assert_eq!(node.json(&["memory", "show", &old]).await["text"], "The gate code is 1111");
    assert_eq!(texts(&search(&node, &["tide"]).await)[0], "High tide was at noon");
    let stats = node.json(&["memory", "stats"]).await;
    assert_eq!((stats["entries"].as_u64(), stats["shards"].as_u64()), (Some(4), Some(2)), "{stats}");
    assert!(stats["indexed"].is_u64() && stats["bytes_on_disk"].as_u64().unwrap() > 0, "{stats}");
}

#[tokio::test]
async fn pages_are_edited_by_parts_and_spaces_are_shared() {
    let node = Node::start().await;
    let page = node.json(&["memory", "page", "edit", "Shopping list", "--add", "milk", "--add", "bread"]).await;
    assert_eq!((&page["name"], &page["items"]), (&json!("shopping-list"), &json!(["milk", "bread"])));
    node.json(&["memory", "page", "edit", "shopping-list", "--remove", "MILK", "--set", "shop=corner"]).await;
    node.json(&["memory", "page", "edit", "shopping-list", "--text", "For Sunday"]).await;
    let page = node.json(&["memory", "page", "edit", "shopping-list", "--append", "and Monday"]).await;
    assert_eq!(page["text"], "For Sunday\nand Monday");
    assert_eq!(node.json(&["memory", "page", "show", "Shopping List"]).await, page);
    assert_eq!((&page["items"], &page["fields"]), (&json!(["bread"]), &json!({ "shop": "corner" })));
    let list = node.json(&["memory", "page", "list"]).await;
    assert_eq!((list[0]["name"].as_str(), list[0]["items"].as_u64()), (Some("shopping-list"), Some(1)));
    assert_eq!(node.json(&["memory", "page", "list", "--space", "sea"]).await, json!([]));
    node.json(&["memory", "page", "edit", "shopping-list", "--unset", "shop"]).await;
    for (args, words) in [
        (&["memory", "page", "show", "nothing"] as &[&str], "no page nothing"),
        (&["memory", "page", "edit", "shopping-list", "--remove", "caviar"], "no such item"),
        (&["memory", "page", "forget", "nothing", "--yes"], "no page nothing"),
        (&["memory", "page", "forget", "shopping-list"], "--yes"),
        (&["memory", "share", "private", &keys().public_key().to_bech32().unwrap()], "never leaves"),
    ] {
        let (code, err) = failing(node.dir(), args).await;
        assert!(code == 1 && err.contains(words), "{args:?}: {err}");
    }
    node.json(&["memory", "page", "forget", "shopping-list", "--yes"]).await;
    assert_eq!(node.json(&["memory", "page", "list"]).await, json!([]));
    let again = node.json(&["memory", "page", "edit", "shopping-list", "--add", "tea"]).await;
    assert_eq!(again["items"], json!(["tea"]), "its name begins anew");

    let friend = keys().public_key().to_bech32().unwrap();
    let shared = node.json(&["memory", "share", "garden", &friend]).await;
    assert_eq!(shared, json!({ "space": "garden", "npub": friend, "shared": true }));
    assert_eq!(node.json(&["memory", "share", "garden", &friend, "--revoke"]).await["shared"], false);
}

#[tokio::test]
async fn the_editor_of_the_owner_changes_the_text() {
    let node = Node::start().await;
    let script = node.dir().join("editor.sh");
    std::fs::write(&script, "#!/bin/sh\nprintf 'line by hand\\n' >> \"$1\"\n").unwrap();
    let editor = format!("sh {}", script.display());
    node.json(&["memory", "page", "edit", "notes", "--text", "begun"]).await;
    let out = tokio::process::Command::new(tests::node::binary())
        .args(["--data-dir", node.dir().to_str().unwrap(), "memory", "page", "edit", "notes", "--json"])
        .env_remove("VISUAL")
        .env("EDITOR", editor)
        .output()
        .await
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    assert_eq!(node.json(&["memory", "page", "show", "notes"]).await["text"], "begunline by hand");
    let left = std::fs::read_dir(node.dir())
        .unwrap()
        .filter(|e| e.as_ref().unwrap().file_name().to_string_lossy().starts_with("page-"));
    assert_eq!(left.count(), 0, "the file of the editor is gone");
}

#[tokio::test]
async fn reindex_goes_on_while_others_search() {
    let node = Node::start().await;
    let lines: Vec<String> = (0..1_500).map(|n| format!("Buoy number {n} lies off the northern pier")).collect();
    let file = node.dir().join("buoys.txt");
    std::fs::write(&file, lines.join("\n")).unwrap();
    let taken = node.json(&["memory", "import", file.to_str().unwrap()]).await;
    assert_eq!(taken["added"], 1_500, "{taken}");
    let searching = async {
        let mut rounds = 0;
        for n in [3, 700, 1_499, 42] {
            let found = search(&node, &[&format!("buoy {n}"), "--limit", "5"]).await;
            assert!(texts(&found).iter().any(|t| t.contains(&format!(" {n} "))), "{n}: {found:?}");
            rounds += 1;
        }
        rounds
    };
    let (done, rounds) = tokio::join!(node.json(&["memory", "reindex"]), searching);
    assert_eq!((done, rounds), (json!({ "reindexed": true }), 4));
    assert!(!search(&node, &["northern pier"]).await.is_empty());
    eventually("all is indexed", async || {
        let stats = node.json(&["memory", "stats"]).await;
        (stats["indexed"] == 1_500 && stats["unembedded"] == 0).then_some(())
    })
    .await;
}
