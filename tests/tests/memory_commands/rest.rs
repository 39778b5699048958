//! At rest: backups, the key, and what the node says of its memory.

use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;
use tests::Node;
use tests::node::cli;

use super::forget::holding;
use super::{add, digest, failing, search, texts};

fn codes(status: &Value) -> Vec<&str> {
    status["warnings"].as_array().unwrap().iter().map(|w| w["code"].as_str().unwrap()).collect()
}

fn check<'a>(doctor: &'a Value, name: &str) -> &'a Value {
    let checks = doctor["checks"].as_array().unwrap();
    checks.iter().find(|c| c["name"] == name).unwrap_or_else(|| panic!("no check `{name}`: {doctor}"))
}

#[tokio::test]
async fn status_metrics_and_doctor_tell_of_the_memory() {
    let mut node = Node::start().await;
    for n in 0..3 {
        add(&node, &[&format!("Crate {n} is full of lemons")]).await;
    }
    let status = node.json(&["status"]).await;
    assert_eq!(status["memory"]["entries"], 3, "{status}");
    assert_eq!(status["memory"]["embedder"], "static-256-int8/1");
    assert!(!codes(&status).iter().any(|code| code.starts_with("memory")), "{status}");
    let (_, screen, _) = node.cli(&["status"]).await;
    assert!(screen.contains("memory   3 entries"), "{screen}");
    let metrics = reqwest::get(format!("{}/metrics", node.http())).await.unwrap().text().await.unwrap();
    for line in
        ["timmy_memory_count 3", "timmy_memory_index_pending ", "timmy_memory_unembedded 0", "timmy_memory_bytes "]
    {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    let doctor = node.json(&["doctor"]).await;
    assert_eq!((&doctor["ok"], &check(&doctor, "memory")["ok"]), (&true.into(), &true.into()), "{doctor}");
    assert_eq!(check(&doctor, "memory index")["ok"], true);
    assert_eq!(node.stop().await.code(), Some(0));
    let doctor = node.json(&["doctor"]).await;
    assert!(check(&doctor, "memory")["message"].as_str().unwrap().contains("3 entries"), "{doctor}");
}

#[tokio::test]
async fn a_lost_or_wrong_key_is_an_error_and_changes_nothing() {
    let mut node = Node::start().await;
    add(&node, &["The safe is in the cellar"]).await;
    assert_eq!(node.stop().await.code(), Some(0));
    let key = node.dir().join("keys/memory");
    let good = std::fs::read(&key).unwrap();
    let truth = std::fs::read(node.dir().join("memory/changes.sqlite")).unwrap();
    let run = &["run", "--listen", "127.0.0.1:0"];
    std::fs::remove_file(&key).unwrap();
    let (code, err) = failing(node.dir(), run).await;
    assert!(code == 1 && err.contains("keys/memory") && err.contains("restore"), "{err}");
    assert!(!key.exists(), "no new key in its place");
    std::fs::copy(node.dir().join("keys/install"), &key).unwrap();
    let (code, err) = failing(node.dir(), run).await;
    assert!(code == 1 && err.contains("sealed under another key"), "{err}");
    let doctor = node.cli(&["doctor", "--json"]).await;
    let doctor: Value = serde_json::from_str(&doctor.1).unwrap();
    assert_eq!((&doctor["ok"], &check(&doctor, "memory")["ok"]), (&false.into(), &false.into()), "{doctor}");
    assert_eq!(std::fs::read(node.dir().join("memory/changes.sqlite")).unwrap(), truth, "nothing was changed");
    std::fs::write(&key, good).unwrap();
    let node = Node::builder().dir(node.dir()).start().await;
    assert_eq!(texts(&search(&node, &["safe"]).await), ["The safe is in the cellar"]);
}

#[tokio::test]
async fn with_a_passphrase_the_truth_says_nothing_and_doctor_tells_what_is_not_encrypted() {
    let home = TempDir::new().unwrap();
    let words = home.path().join("words");
    std::fs::write(&words, "correct horse").unwrap();
    let config = format!("[node]\npassphrase_file = \"{}\"", words.display());
    let mut node = Node::builder().dir(home.path()).config(&config).start().await;
    add(&node, &["Grobnik sleeps under the stairs", "--tag", "wumpus"]).await;
    node.json(&["memory", "page", "edit", "plan", "--text", "Feed Grobnik"]).await;
    assert_eq!(node.stop().await.code(), Some(0));
    for word in ["grobnik", "wumpus"] {
        let found = holding(home.path(), word);
        assert!(found.iter().all(|p| p.starts_with(home.path().join("memory/index"))), "{word}: {found:?}");
    }
    assert!(std::fs::read(home.path().join("keys/memory")).unwrap().starts_with(b"ncryptsec1"));
    let doctor = node.json(&["doctor"]).await;
    assert!(check(&doctor, "disk encryption")["message"].as_str().unwrap().contains("not encrypted"), "{doctor}");
    let node = Node::builder().dir(home.path()).config(&config).start().await;
    assert_eq!(texts(&search(&node, &["who sleeps under the stairs"]).await), ["Grobnik sleeps under the stairs"]);
}

async fn back_up(home: &Path, file: &str, words: &str) {
    let (code, _, err) = cli(home, &["backup", file, "--passphrase-file", words]).await;
    assert_eq!(code, 0, "{err}");
}

#[tokio::test]
async fn a_backup_brings_memory_back_and_what_was_forgotten_stays_forgotten() {
    let dir = TempDir::new().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(path("words"), "a long passphrase").unwrap();
    let mut node = Node::start().await;
    add(&node, &["The spare key hangs behind the clock"]).await;
    let gone = add(&node, &["The clock is a fake Frobozz"]).await;
    node.json(&["memory", "page", "edit", "keys", "--add", "spare"]).await;
    node.json(&["memory", "forget", &gone, "--yes"]).await;
    back_up(node.dir(), &path("running"), &path("words")).await;
    let before = digest(&node).await;
    assert_eq!(node.stop().await.code(), Some(0));
    back_up(node.dir(), &path("stopped"), &path("words")).await;
    for file in ["running", "stopped"] {
        let home = TempDir::new().unwrap();
        let args = ["restore", &path(file), "--passphrase-file", &path("words")];
        let (code, _, err) = cli(home.path(), &args).await;
        assert_eq!(code, 0, "{err}");
        assert!(!home.path().join("memory/index").exists(), "the index is not in it");
        assert_eq!(
            std::fs::read(home.path().join("keys/memory")).unwrap(),
            std::fs::read(node.dir().join("keys/memory")).unwrap()
        );
        let restored = Node::builder().dir(home.path()).start().await;
        assert_eq!(digest(&restored).await, before, "{file}");
        assert_eq!(
            texts(&search(&restored, &["where is the spare key"]).await)[0],
            "The spare key hangs behind the clock"
        );
        // The new install goes on where the old one ended: it may forget what that one wrote.
        add(&restored, &["The clock was sold"]).await;
        let found = search(&restored, &["spare key clock"]).await;
        let id = found.iter().find(|f| f["text"].as_str().unwrap().contains("spare")).unwrap()["id"].as_str().unwrap();
        restored.json(&["memory", "forget", id, "--yes"]).await;
        assert_eq!(texts(&search(&restored, &["clock"]).await), ["The clock was sold"]);
        assert!(holding(home.path(), "frobozz").is_empty());
    }
}
