//! A disk that fills up: the data folder is a small file system of its own.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use nostr::{EventBuilder, PublicKey};
use serde_json::Value;
use tempfile::TempDir;
use tests::node::{binary, keys};
use tests::{Client, PATIENCE, eventually};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// A node in a mount namespace of its own, whose data folder is a tmpfs.
struct SmallDisk {
    child: Child,
    ready: Value,
    /// The data folder as this process sees it.
    outside: PathBuf,
    _dir: TempDir,
}

impl SmallDisk {
    async fn start(megabytes: u32) -> Self {
        let dir = TempDir::new().unwrap();
        let mount = r#"mount -t tmpfs -o size="$1"m,mode=700 tmpfs "$2" && exec "$3" --data-dir "$2" run --json --listen 127.0.0.1:0"#;
        let mut child = Command::new("unshare")
            .args(["-rm", "--propagation", "private", "sh", "-c", mount, "sh", &megabytes.to_string()])
            .arg(dir.path())
            .arg(binary())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("unshare (util-linux) is missing");
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.expect("the node is not ready").unwrap();
        let ready = line.expect("the node did not start: this test needs mount namespaces (root, or user namespaces)");
        let ready: Value = serde_json::from_str(&ready).unwrap();
        // sh and unshare became the node by exec, so its pid is the child's.
        let root = format!("/proc/{}/root", child.id().unwrap());
        let outside = Path::new(&root).join(dir.path().strip_prefix("/").unwrap());
        Self { child, ready, outside, _dir: dir }
    }

    async fn health(&self) -> (u16, Value) {
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let url = format!("{}/healthz", self.ready["http"].as_str().unwrap());
        let response = http.get(url).send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }
}

/// Writes `megabytes` of zeros.
fn fill(path: &Path, megabytes: usize) {
    let chunk = vec![0u8; 1 << 20];
    let mut file = std::fs::File::create(path).unwrap();
    for _ in 0..megabytes {
        std::io::Write::write_all(&mut file, &chunk).unwrap();
    }
}

#[tokio::test]
async fn a_nearly_full_disk_refuses_strangers_is_said_and_recovers() {
    let mut disk = SmallDisk::start(640).await;
    let relay = disk.ready["relay"].as_str().unwrap().to_owned();
    let node = PublicKey::from_hex(disk.ready["pubkey"].as_str().unwrap()).unwrap();
    let mut client = Client::connect(&relay).await;
    let note = |text: &str| EventBuilder::text_note(text).sign_with_keys(&keys()).unwrap();
    assert_eq!(disk.health().await.0, 200);
    client.must_publish(&note("while there is room")).await;

    let ballast = disk.outside.join("ballast");
    fill(&ballast, 450);
    let (_, health) = eventually("healthz says 503", || async {
        let (code, body) = disk.health().await;
        (code == 503).then_some((code, body))
    })
    .await;
    assert!(health["reasons"].to_string().contains("disk"), "{health}");
    let (ok, words) = eventually("strangers are refused", || {
        let note = note("no room");
        let relay = relay.clone();
        async move {
            let (ok, words) = Client::connect(&relay).await.publish(&note).await;
            (!ok).then_some((ok, words))
        }
    })
    .await;
    assert!(!ok && !words.is_empty(), "{words}");
    let found = client.query(nostr::Filter::new().kind(nostr::Kind::TextNote)).await;
    assert!(!found.is_empty(), "what is stored is still served");

    std::fs::remove_file(&ballast).unwrap();
    eventually("healthz says 200 again", || async { (disk.health().await.0 == 200).then_some(()) }).await;
    eventually("strangers are served again", || {
        let note = note("room again");
        let relay = relay.clone();
        async move { Client::connect(&relay).await.publish(&note).await.0.then_some(()) }
    })
    .await;
    let asked = tests::client::request(&keys(), 5000, &[&["i", "still at work", "text"], &["p", &node.to_hex()]]);
    client.must_publish(&asked).await;
    assert_eq!(client.result(&asked).await.content, "still at work");
    disk.child.kill().await.unwrap();
}

#[tokio::test]
async fn a_full_disk_neither_kills_the_node_nor_loses_what_it_took_and_it_recovers() {
    let mut disk = SmallDisk::start(640).await;
    let relay = disk.ready["relay"].as_str().unwrap().to_owned();
    let node = disk.ready["pubkey"].as_str().unwrap().to_owned();
    let token = std::fs::read_to_string(disk.outside.join("api-token")).unwrap();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut client = Client::connect(&relay).await;
    let kept = EventBuilder::text_note("taken before").sign_with_keys(&keys()).unwrap();
    client.must_publish(&kept).await;

    // To the last byte: also what was kept free for the journal is gone.
    let ballast = disk.outside.join("ballast");
    let mut file = std::fs::File::create(&ballast).unwrap();
    while std::io::Write::write_all(&mut file, &[0u8; 4096]).is_ok() {}
    let submit = |text: &'static str| {
        let url = format!("{}/api/v1/jobs", disk.ready["http"].as_str().unwrap());
        let call = http.post(url).bearer_auth(token.trim());
        let body = serde_json::json!({ "kind": 5000, "input": text, "wait": true });
        async move {
            let response = call.json(&body).send().await.unwrap();
            (response.status().as_u16(), response.text().await.unwrap())
        }
    };
    let (code, words) = submit("x".repeat(200_000).leak()).await;
    assert!(code >= 500 || words.contains("settled"), "a job that cannot be journaled is refused: {code} {words}");
    eventually("healthz says 503", || async { (disk.health().await.0 == 503).then_some(()) }).await;
    // The index tidies up beside: what it gives back is filled again, until there is no room for an OK.
    let mut refused = None;
    for _ in 0..200 {
        while std::io::Write::write_all(&mut file, &[0u8; 512]).is_ok() {}
        let asked = tests::client::request(&keys(), 5000, &[&["i", "no room at all", "text"], &["p", &node]]);
        let (ok, words) = client.publish(&asked).await;
        if !ok {
            refused = Some(words);
            break;
        }
    }
    assert!(refused.is_some_and(|words| !words.is_empty()), "no OK without room to store");
    assert!(disk.child.try_wait().unwrap().is_none(), "the node still runs");

    drop(file);
    std::fs::remove_file(&ballast).unwrap();
    eventually("healthz says 200 again", || async { (disk.health().await.0 == 200).then_some(()) }).await;
    let (code, words) = submit("room again").await;
    assert!(code == 200 && words.contains("settled") && words.contains("room again"), "{code} {words}");
    let found = Client::connect(&relay).await.query(nostr::Filter::new().id(kept.id)).await;
    assert_eq!(found, [kept], "nothing that was taken is lost");
    disk.child.kill().await.unwrap();
}
