//! The passport lives in a remote signer (NIP-46): NDK's signer backend, another codebase, on an independent relay.

#![allow(clippy::unwrap_used)]

use std::path::PathBuf;

use nostr::{Filter, Keys, Kind};
use nostr_relay_builder::MockRelay;
use serde_json::{Value, json};
use tempfile::TempDir;
use tests::client::{message, request, sealed_request, unwrap};
use tests::node::{cli, keys};
use tests::{Client, Node};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};

mod support;

use support::{Script, config_with_owner};

const SECRET: &str = "quite-secret-token-7d1f";

/// NDK's backend as a process; it ends with its stdin.
struct Bunker {
    keys: Keys,
    relay: MockRelay,
    folder: TempDir,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    _child: Child,
}

impl Bunker {
    async fn start() -> Self {
        let relay = MockRelay::run().await.unwrap();
        let keys = keys();
        let mut child = Script::node("ndk-bunker.mjs").start();
        let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let lines = BufReader::new(stdout).lines();
        let mut bunker = Self { keys, relay, folder: TempDir::new().unwrap(), stdin, lines, _child: child };
        let key = bunker.keys.secret_key().to_secret_hex();
        let task = json!({ "relay": bunker.relay.url().await, "key": key, "secret": SECRET });
        let ready = bunker.ask(&task).await;
        assert_eq!(ready["pubkey"], bunker.keys.public_key().to_hex());
        bunker
    }

    async fn ask(&mut self, line: &Value) -> Value {
        self.stdin.write_all(format!("{line}\n").as_bytes()).await.unwrap();
        let answer = tokio::time::timeout(tests::PATIENCE, self.lines.next_line()).await.expect("the bunker is silent");
        serde_json::from_str(&answer.unwrap().expect("the bunker ended")).unwrap()
    }

    /// A file with the `bunker://` address.
    async fn file(&self, secret: &str) -> PathBuf {
        bunker_file(&self.folder, &self.keys, self.relay.url().await.as_str(), secret)
    }
}

fn bunker_file(folder: &TempDir, keys: &Keys, relay: &str, secret: &str) -> PathBuf {
    let path = folder.path().join(format!("bunker-{secret}"));
    let uri = format!("bunker://{}?relay={relay}&secret={secret}\n", keys.public_key().to_hex());
    std::fs::write(&path, uri).unwrap();
    path
}

fn config(file: &std::path::Path, owner: &Keys) -> String {
    format!("[node]\nbunker_file = \"{}\"\n{}", file.display(), config_with_owner(owner))
}

#[tokio::test]
async fn a_node_whose_passport_is_in_a_bunker_signs_answers_and_talks_as_that_key() {
    let mut bunker = Bunker::start().await;
    let owner = keys();
    let file = bunker.file(SECRET).await;
    let node = Node::builder().config(&config(&file, &owner)).env("TIMMY_LOG", "trace").start().await;
    let passport = bunker.keys.public_key();
    assert_eq!(node.public_key(), passport);
    assert!(!node.dir().join("keys/passport").exists(), "no passport key is made beside the signer's");
    assert_eq!(node.json(&["id"]).await["pubkey"], passport.to_hex());

    let mut client = Client::connect(node.relay()).await;
    for kind in [0, 10002, 10050, 31990, 30078] {
        let id = client.subscribe(Filter::new().author(passport).kind(Kind::from_u16(kind))).await;
        client.next_event(&id).await;
    }
    let customer = keys();
    let plain = request(&customer, 5000, &[&["i", "signed far away", "text"], &["p", &passport.to_hex()]]);
    client.must_publish(&plain).await;
    let result = client.result(&plain).await;
    assert_eq!((result.pubkey, result.content.as_str()), (passport, "signed far away"));

    let sealed = sealed_request(&customer, &passport, 5000, &[&["i", "sealed far away", "text"]]);
    client.must_publish(&sealed).await;
    let result = client.result(&sealed).await;
    let text = nostr::nips::nip44::decrypt(customer.secret_key(), &passport, &result.content).unwrap();
    assert_eq!(text, "sealed far away");

    talk(&node, &owner).await;
    let asked = bunker.ask(&json!({})).await;
    for method in ["sign_event", "nip44_encrypt", "nip44_decrypt"] {
        assert!(asked["asked"][method].as_u64() > Some(0), "{asked}");
    }
    let secret = bunker.keys.secret_key().to_secret_hex();
    let log = node.log();
    assert!(log.len() > 1000, "the log at trace holds something");
    for hidden in [SECRET, secret.as_str()] {
        assert!(!log.contains(hidden), "the log holds a secret");
        assert!(!support::process_shows(node.pid(), hidden), "the process shows a secret");
    }
}

/// The owner writes and is answered by the passport's key.
async fn talk(node: &Node, owner: &Keys) {
    let passport = node.public_key();
    let mut client = Client::connect(node.relay()).await;
    client.auth(owner).await;
    let inbox = client.subscribe(Filter::new().kind(Kind::GiftWrap).pubkey(owner.public_key())).await;
    client.must_publish(&message(owner, &passport, "What can you do?").1).await;
    loop {
        let wrap = client.next_event(&inbox).await;
        if let Some((author, text)) = unwrap(owner, &wrap)
            && author == passport
        {
            assert!(text.len() > 20, "{text}");
            return;
        }
    }
}

#[tokio::test]
async fn a_restart_needs_no_new_approval_of_the_bunker() {
    let bunker = Bunker::start().await;
    let file = bunker.file(SECRET).await;
    let home = TempDir::new().unwrap();
    let owner = keys();
    let mut first = Node::builder().dir(home.path()).config(&config(&file, &owner)).start().await;
    assert_eq!(first.stop().await.code(), Some(0));
    let again = Node::builder().dir(home.path()).config(&config(&file, &owner)).start().await;
    assert_eq!(again.public_key(), bunker.keys.public_key());
}

/// Starts a node that must fail: its exit code and its words.
async fn failing(file: &std::path::Path) -> (i32, String) {
    let home = TempDir::new().unwrap();
    std::fs::write(home.path().join("config.toml"), config(file, &keys())).unwrap();
    let (code, out, err) = cli(home.path(), &["run", "--json", "--listen", "127.0.0.1:0", "--log", "trace"]).await;
    assert_eq!(out, "", "no ready line");
    assert!(!home.path().join("keys/passport").exists(), "no key is made in the signer's place");
    assert!(!err.contains(SECRET), "the bunker's secret is in the log: {err}");
    (code, err)
}

fn last_line(err: &str) -> &str {
    err.lines().last().unwrap_or_default()
}

#[tokio::test]
async fn a_bunker_that_refuses_is_a_clear_error() {
    let bunker = Bunker::start().await;
    let file = bunker.file("another-token").await;
    let (code, err) = failing(&file).await;
    assert_eq!(code, 1);
    let words = last_line(&err);
    assert!(words.contains("node.bunker_file") && words.contains("refused"), "{words}");
    assert!(!err.contains("another-token"), "the wrong secret is in the log too");
}

#[tokio::test]
async fn a_bunker_that_cannot_be_reached_is_a_clear_error() {
    let folder = TempDir::new().unwrap();
    // A port that was free a moment ago: nobody listens there.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let file = bunker_file(&folder, &keys(), &format!("ws://{free}"), SECRET);
    let (code, err) = failing(&file).await;
    assert_eq!(code, 1);
    assert!(last_line(&err).contains("none of the signer's relays can be reached"), "{}", last_line(&err));
}

#[tokio::test]
async fn a_file_that_holds_no_bunker_address_and_a_missing_file_are_clear_errors() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("bunker");
    let (code, err) = failing(&path).await;
    assert_eq!(code, 1);
    assert!(last_line(&err).contains("cannot read node.bunker_file"), "{}", last_line(&err));
    std::fs::write(&path, format!("nostrconnect://{SECRET}")).unwrap();
    let (code, err) = failing(&path).await;
    assert_eq!(code, 1);
    assert!(last_line(&err).contains("bunker://"), "{}", last_line(&err));
}
