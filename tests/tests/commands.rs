//! The command line (CONTRACT): exit status, `--json` shapes, what is said when something is wrong.

#![allow(clippy::unwrap_used)]

#[path = "commands/backup.rs"]
mod backup;
#[path = "commands/disk.rs"]
mod disk;
#[path = "commands/help.rs"]
mod help;
#[path = "commands/homeserver.rs"]
mod homeserver;
#[path = "commands/init.rs"]
mod init;
#[path = "commands/secrets.rs"]
mod secrets;

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use tests::node::{cli, keys};
use tests::{Node, eventually};

/// The names of an object's fields, sorted.
fn fields(value: &Value) -> Vec<&str> {
    let mut names: Vec<&str> = value.as_object().into_iter().flatten().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    names
}

fn has_fields(value: &Value, names: &[&str]) {
    for name in names {
        assert!(value.get(name).is_some(), "`{name}` is missing: {value}");
    }
}

fn write_config(dir: &Path, toml: &str) {
    std::fs::write(dir.join("config.toml"), toml).unwrap();
}

/// Runs a command that must fail: its exit code and last words.
async fn failing(dir: &Path, args: &[&str]) -> (i32, String) {
    let (code, out, err) = cli(dir, args).await;
    assert_ne!(code, 0, "{args:?} did not fail: {out}{err}");
    (code, err)
}

#[tokio::test]
async fn commands_that_need_a_node_end_with_3_where_none_runs() {
    let dir = TempDir::new().unwrap();
    for args in [
        &["status"] as &[&str],
        &["ask", "hello"],
        &["job", "list"],
        &["job", "show", &"0".repeat(64)],
        &["job", "replay", &"0".repeat(64)],
        &["job", "cancel", &"0".repeat(64)],
        &["job", "submit", "--kind", "5000", "--input", "x"],
    ] {
        let (code, err) = failing(dir.path(), args).await;
        assert_eq!(code, 3, "{args:?}: {err}");
        assert!(err.contains("no node runs on") && err.contains("timmy run"), "{args:?}: {err}");
    }
}

#[tokio::test]
async fn wrong_usage_and_a_wrong_configuration_end_with_2_and_name_the_nearest_key() {
    let dir = TempDir::new().unwrap();
    for args in [
        &["frobnicate"] as &[&str],
        &["run", "--listen", "nowhere"],
        &["job", "submit"],
        &[],
        &["--log-format", "xml", "id"],
    ] {
        assert_eq!(failing(dir.path(), args).await.0, 2, "{args:?}");
    }
    for (toml, words) in [
        ("[node]\nnmae = \"x\"", "did you mean `name`"),
        ("[ndoe]\nname = \"x\"", "did you mean `node`"),
        ("[relay]\nmax_byte = 1", "did you mean `max_bytes`"),
        ("[node]\nname = 7", "name"),
        ("[node\n", "config.toml"),
        ("[matrix]\nuser = \"timmy\"", "@alice:example.org"),
        ("[voice]\nhears = \"x\"", "voice.base_url"),
    ] {
        write_config(dir.path(), toml);
        for args in [&["config", "check"] as &[&str], &["run", "--listen", "127.0.0.1:0"], &["id"], &["config", "show"]]
        {
            let (code, err) = failing(dir.path(), args).await;
            assert_eq!(code, 2, "{args:?} on {toml}: {err}");
            assert!(err.contains(words), "{args:?} on {toml}: {err}");
        }
    }
    let (code, err) = failing(dir.path(), &["--config", "/nowhere/at/all.toml", "config", "check"]).await;
    assert!(code == 2 && err.contains("/nowhere/at/all.toml"), "{err}");
    assert!(!dir.path().join("keys").exists(), "nothing was made");
}

#[tokio::test]
async fn every_command_prints_the_json_that_the_contract_says() {
    let mut node = Node::builder().config("[node]\ndomain = \"timmy.example\"").start().await;
    has_fields(&node.ready, &["ready", "npub", "pubkey", "peer_id", "relay", "http", "pid"]);
    assert_eq!(node.ready["pid"], node.pid());
    let id = node.json(&["id"]).await;
    assert_eq!(fields(&id), ["nip05", "npub", "peer_id", "pubkey"]);
    assert_eq!((&id["npub"], &id["peer_id"]), (&node.ready["npub"], &node.ready["peer_id"]));
    assert_eq!(id["nip05"], "timmy@timmy.example");

    let status = node.json(&["status"]).await;
    has_fields(&status, &["npub", "jobs", "models", "relays", "outbox", "offered", "warnings"]);
    let no_owner = status["warnings"].as_array().unwrap().iter().find(|w| w["code"] == "no_owner").unwrap();
    assert_eq!(fields(no_owner), ["code", "cure", "message", "severity"]);

    let doctor = node.json(&["doctor"]).await;
    assert_eq!(doctor["ok"], true, "{doctor}");
    assert_eq!(fields(&doctor["checks"][0]), ["cure", "message", "name", "ok"]);

    let answer = node.json(&["ask", "What", "can", "you", "do?"]).await;
    assert_eq!(fields(&answer), ["answer", "memories", "model"]);
    assert!(answer["answer"].as_str().unwrap().len() > 20);
    assert_eq!(answer["memories"], json!([]));
    let paths = node.json(&["paths"]).await;
    assert_eq!(paths["data"], node.dir().to_str().unwrap());
    assert_eq!(node.json(&["config", "check"]).await["ok"], true);
    assert_eq!(node.json(&["config", "show"]).await["node"]["domain"], "timmy.example");
    assert_eq!(node.stop().await.code(), Some(0));
    assert_eq!(node.json(&["id"]).await, id, "the same without a running node");
}

#[tokio::test]
async fn a_job_can_be_submitted_listed_shown_replayed_and_is_not_cancelled_when_it_is_done() {
    let node = Node::start().await;
    let done = node.json(&["job", "submit", "--kind", "5000", "--input", "some words"]).await;
    has_fields(&done, &["id", "state", "output", "executed_by"]);
    assert_eq!((done["output"].as_str(), &done["executed_by"]), (Some("some words"), &node.ready["npub"]));
    let id = done["id"].as_str().unwrap();
    let list = node.json(&["job", "list"]).await;
    assert_eq!(list[0]["id"], id);
    let shown = node.json(&["job", "show", id]).await;
    assert_eq!((shown["output"].as_str(), shown["kind"].as_u64()), (Some("some words"), Some(5000)));
    let replay = node.json(&["job", "replay", id]).await;
    assert_eq!(replay["same_as_journal"], true, "{replay}");
    has_fields(&replay["steps"][0], &["at_ms", "input", "effects", "state"]);
    let (code, err) = failing(node.dir(), &["job", "cancel", id]).await;
    assert!(code == 1 && err.contains("already"), "{err}");
    let (code, err) = failing(node.dir(), &["job", "show", &"0".repeat(64)]).await;
    assert!(code == 1 && err.contains("no such job"), "{err}");
    let (code, err) = failing(node.dir(), &["job", "submit", "--kind", "5999", "--input", "x"]).await;
    assert!(code == 1 && err.contains("5999"), "{err}");

    let started = node.json(&["job", "submit", "--kind", "5000", "--input", "later", "--no-wait"]).await;
    let id = started["id"].as_str().unwrap().to_owned();
    eventually("the job is done", || async {
        let shown = node.json(&["job", "show", &id]).await;
        (shown["output"] == "later").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_second_start_names_the_first_ones_pid_and_a_taken_port_is_named() {
    let node = Node::start().await;
    let (code, err) = failing(node.dir(), &["run", "--listen", "127.0.0.1:0"]).await;
    assert!(code == 1 && err.contains(&format!("pid {}", node.pid())), "{err}");
    let other = TempDir::new().unwrap();
    let (code, err) = failing(other.path(), &["run", "--listen", &node.address()]).await;
    assert!(code == 1 && err.contains(&node.address()) && err.contains("--listen"), "{err}");
    assert_eq!(node.json(&["status"]).await["npub"], node.ready["npub"], "the first one is well");
}

#[tokio::test]
async fn sigterm_drains_and_ends_with_0_within_ten_seconds() {
    let mut node = Node::start().await;
    // Somebody listens, and an answer is on its way.
    let mut client = tests::Client::connect(node.relay()).await;
    client.subscribe(nostr::Filter::new().kind(nostr::Kind::TextNote)).await;
    let asked = tests::client::request(&keys(), 5000, &[&["i", "last words", "text"]]);
    client.must_publish(&asked).await;
    let began = Instant::now();
    assert_eq!(node.stop().await.code(), Some(0), "{}", node.log());
    assert!(began.elapsed() < Duration::from_secs(10), "it took {:?}", began.elapsed());
    assert_eq!(failing(node.dir(), &["status"]).await.0, 3);
}

#[tokio::test]
async fn json_logs_parse_line_by_line() {
    let mut node = Node::builder().arg("--log-format").arg("json").env("TIMMY_LOG", "debug").start().await;
    node.json(&["ask", "hello"]).await;
    assert_eq!(node.stop().await.code(), Some(0));
    let log = node.log();
    assert!(log.contains("stopping"), "{log}");
    for line in log.lines() {
        let entry: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        has_fields(&entry, &["timestamp", "level", "message"]);
    }
}
