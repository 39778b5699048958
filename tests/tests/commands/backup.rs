//! `timmy backup` and `restore`, and what happens when both the original and the restored node run.

use std::path::{Path, PathBuf};

use nostr::{Filter, Kind};
use nostr_relay_builder::MockRelay;
use serde_json::Value;
use tempfile::TempDir;
use tests::client::request;
use tests::node::{cli, keys};
use tests::{Client, Node, eventually};

use super::failing;

/// Files of one test: a passphrase, and where a backup goes.
struct Desk {
    dir: TempDir,
}

impl Desk {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        std::fs::write(dir.path().join("words"), "a long passphrase\n").unwrap();
        std::fs::write(dir.path().join("wrong"), "another passphrase\n").unwrap();
        Self { dir }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    async fn backup(&self, home: &Path) -> PathBuf {
        let file = self.path("node.backup");
        let args = ["backup", &file, "--passphrase-file", &self.path("words"), "--json"];
        let (code, out, err) = cli(home, &args).await;
        assert_eq!(code, 0, "{err}");
        let said: Value = serde_json::from_str(&out).unwrap();
        assert_eq!(said["bytes"].as_u64(), Some(std::fs::metadata(&file).unwrap().len()));
        file.into()
    }

    async fn restore(&self, file: &Path, home: &Path) {
        let args = ["restore", file.to_str().unwrap(), "--passphrase-file", &self.path("words")];
        let (code, _, err) = cli(home, &args).await;
        assert_eq!(code, 0, "{err}");
    }
}

#[tokio::test]
async fn a_backup_of_a_running_node_comes_back_with_its_name_its_jobs_and_new_install_keys() {
    let desk = Desk::new();
    let mut node = Node::builder().config("[node]\nname = \"kept\"").start().await;
    let customer = keys();
    let asked = request(&customer, 5000, &[&["i", "remember this", "text"], &["p", &node.public_key().to_hex()]]);
    let mut client = Client::connect(node.relay()).await;
    client.must_publish(&asked).await;
    client.result(&asked).await;
    let id = asked.id.to_hex();
    eventually("the job is settled", || async {
        (node.json(&["job", "show", &id]).await["state"] == "settled").then_some(())
    })
    .await;
    let file = desk.backup(node.dir()).await;
    let sealed = std::fs::read(&file).unwrap();
    assert!(sealed.starts_with(b"age-encryption.org/"), "the stock tool knows it");
    let original = node.json(&["id"]).await;
    assert_eq!(node.stop().await.code(), Some(0));

    let home = TempDir::new().unwrap();
    desk.restore(&file, home.path()).await;
    let mut restored = Node::builder().dir(home.path()).start().await;
    let again = restored.json(&["id"]).await;
    assert_eq!(again["npub"], original["npub"]);
    assert_ne!(again["peer_id"], original["peer_id"]);
    let install = |dir: &Path| std::fs::read_to_string(dir.join("keys/install")).unwrap();
    assert_ne!(install(node.dir()), install(home.path()));
    assert_eq!(restored.json(&["job", "show", &id]).await["output"], "remember this");
    assert_eq!(restored.json(&["config", "show"]).await["node"]["name"], "kept");
    let mut client = Client::connect(restored.relay()).await;
    let answers = client.query(Filter::new().event(asked.id).kind(Kind::from_u16(6000))).await;
    assert_eq!(answers.len(), 1, "the relay's events are there, and the job was not answered again");
    assert_eq!(restored.stop().await.code(), Some(0));
}

#[tokio::test]
async fn a_wrong_passphrase_a_used_folder_and_a_damaged_backup_are_refused_and_change_nothing() {
    let desk = Desk::new();
    let mut node = Node::start().await;
    let file = desk.backup(node.dir()).await;
    let file = file.to_str().unwrap();
    assert_eq!(node.stop().await.code(), Some(0));
    let (words, wrong) = (desk.path("words"), desk.path("wrong"));

    let home = TempDir::new().unwrap();
    let (code, err) = failing(home.path(), &["restore", file, "--passphrase-file", &wrong]).await;
    assert!(code == 1 && err.contains("passphrase does not open"), "{err}");
    let (code, err) = failing(node.dir(), &["restore", file, "--passphrase-file", &words]).await;
    assert!(code == 1 && err.contains("holds a node already"), "{err}");
    let (code, err) = failing(node.dir(), &["backup", file, "--passphrase-file", &words]).await;
    assert!(code == 1 && err.contains("does not exist yet"), "an older backup is not overwritten: {err}");
    let (code, err) = failing(home.path(), &["backup", &desk.path("x"), "--passphrase-file", &words]).await;
    assert!(code == 1 && err.contains("nothing to back up"), "{err}");

    let whole = std::fs::read(file).unwrap();
    let mut flipped = whole.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0x40;
    let damaged = desk.path("damaged");
    for bytes in [&whole[..whole.len() / 2], &whole[..whole.len() - 10], &flipped, b"something else", b""] {
        std::fs::write(&damaged, bytes).unwrap();
        let (code, err) = failing(home.path(), &["restore", &damaged, "--passphrase-file", &words]).await;
        assert!(code == 1 && (err.contains("damaged") || err.contains("no backup")), "{err}");
        for name in ["journal.sqlite", "keys/passport", "config.toml"] {
            assert!(!home.path().join(name).exists(), "{name} was left behind by a failed restore");
        }
    }
    // After all that the right words still bring it back into the same folder.
    desk.restore(Path::new(file), home.path()).await;
    let restored = Node::builder().dir(home.path()).start().await;
    assert_eq!(restored.public_key(), node.public_key());
}

fn warnings(status: &Value) -> Vec<&str> {
    status["warnings"].as_array().unwrap().iter().map(|w| w["code"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn beside_a_restored_backup_the_original_shuts_its_doors_and_each_job_is_answered_once() {
    let desk = Desk::new();
    let outside = MockRelay::run().await.unwrap();
    let config = format!("[nostr]\nrelays = [\"{}\"]", outside.url().await);
    let original = Node::builder().config(&config).start().await;
    let mut client = Client::connect(outside.url().await.as_str()).await;
    // Its own peer card is out: the restored one will be compared with it.
    let cards = client.subscribe(Filter::new().kind(Kind::from_u16(30078)).author(original.public_key())).await;
    client.next_event(&cards).await;
    let file = desk.backup(original.dir()).await;

    let home = TempDir::new().unwrap();
    desk.restore(&file, home.path()).await;
    let restored = Node::builder().dir(home.path()).start().await;
    eventually("the original says that another install speaks for it", || async {
        warnings(&original.json(&["status"]).await).contains(&"passport_elsewhere").then_some(())
    })
    .await;
    assert!(!warnings(&restored.json(&["status"]).await).contains(&"passport_elsewhere"));
    let health = reqwest::Client::builder().no_proxy().build().unwrap();
    let health = health.get(format!("{}/healthz", original.http())).send().await.unwrap();
    assert_eq!(health.status(), 503);

    let customer = keys();
    let node = original.public_key().to_hex();
    let asked = request(&customer, 5000, &[&["i", "who answers?", "text"], &["p", &node]]);
    client.must_publish(&asked).await;
    assert_eq!(client.result(&asked).await.content, "who answers?");
    // A later job is done by the restored one as well; by then the original had its time.
    let later = request(&customer, 5000, &[&["i", "and now?", "text"], &["p", &node]]);
    client.must_publish(&later).await;
    client.result(&later).await;
    let jobs = |node: &Value| node.as_array().unwrap().iter().map(|j| j["id"].clone()).collect::<Vec<_>>();
    for event in [&asked, &later] {
        let id = Value::from(event.id.to_hex());
        assert!(jobs(&restored.json(&["job", "list"]).await).contains(&id), "the restored one did it");
        assert!(!jobs(&original.json(&["job", "list"]).await).contains(&id), "the original left it alone");
        let results = client.query(Filter::new().event(event.id).kind(Kind::from_u16(6000))).await;
        assert_eq!(results.len(), 1, "one result");
    }
}
