//! Keys: a passphrase that does not fit changes nothing, and nothing secret is shown anywhere.

use std::collections::BTreeMap;
use std::path::Path;

use nostr::nips::nip49::EncryptedSecretKey;
use nostr::{FromBech32, SecretKey, ToBech32};
use tempfile::TempDir;
use tests::client::{message, request, sealed_request};
use tests::node::{binary, keys};
use tests::{Client, Node};

use super::{failing, write_config};

fn key_files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(dir.join("keys")).unwrap().map(Result::unwrap);
    entries.map(|e| (e.file_name().into_string().unwrap(), std::fs::read(e.path()).unwrap())).collect()
}

#[tokio::test]
async fn a_wrong_or_missing_passphrase_is_an_error_and_changes_no_key() {
    let home = TempDir::new().unwrap();
    let words = home.path().join("words");
    std::fs::write(&words, "correct horse\n").unwrap();
    let config = format!("[node]\npassphrase_file = \"{}\"", words.display());
    let mut node = Node::builder().dir(home.path()).config(&config).start().await;
    assert_eq!(node.stop().await.code(), Some(0));
    let before = key_files(home.path());
    assert_eq!(before.len(), 4, "{:?}", before.keys());
    assert!(before.values().all(|bytes| bytes.starts_with(b"ncryptsec1")), "all keys are encrypted");
    let log = home.path().join("test.log");
    assert!(!std::fs::read_to_string(log).unwrap().contains("correct horse"));

    std::fs::write(&words, "wrong horse\n").unwrap();
    let run = &["run", "--listen", "127.0.0.1:0"];
    let (code, err) = failing(home.path(), run).await;
    assert!(code == 1 && err.contains("passphrase does not open"), "{err}");
    assert!(!err.contains("wrong horse"), "{err}");
    std::fs::write(&words, "").unwrap();
    let (code, err) = failing(home.path(), run).await;
    assert!(code == 1 && err.contains("empty"), "{err}");
    write_config(home.path(), "");
    let (code, err) = failing(home.path(), run).await;
    assert!(code == 1 && err.contains("passphrase_file"), "{err}");
    std::fs::write(home.path().join("keys/passport"), "damaged").unwrap();
    let (code, err) = failing(home.path(), run).await;
    assert!(code == 1 && err.contains("damaged") || err.contains("encrypted"), "{err}");
    std::fs::write(home.path().join("keys/passport"), &before["passport"]).unwrap();
    assert_eq!(key_files(home.path()), before, "no key was touched");

    write_config(home.path(), &config);
    std::fs::write(&words, "correct horse").unwrap();
    let again = Node::builder().dir(home.path()).config(&config).start().await;
    assert_eq!(again.public_key(), node.public_key());
}

/// Every way in which the secrets of a node without a passphrase could be written.
fn spellings(dir: &Path) -> Vec<String> {
    let mut all = Vec::new();
    for (name, bytes) in key_files(dir) {
        let line = String::from_utf8(bytes).unwrap().trim().to_owned();
        let key = SecretKey::from_bech32(&line).unwrap_or_else(|e| panic!("{name}: {e}"));
        all.extend([line, key.to_secret_hex(), key.to_secret_hex().to_uppercase()]);
    }
    all.push(std::fs::read_to_string(dir.join("api-token")).unwrap().trim().to_owned());
    all
}

#[tokio::test]
async fn no_secret_is_in_the_log_at_trace_nor_in_arguments_or_environment() {
    let owner = keys();
    let config = format!("[owner]\nnpub = \"{}\"", owner.public_key().to_bech32().unwrap());
    let mut node = Node::builder().config(&config).env("TIMMY_LOG", "trace").start().await;
    let mut client = Client::connect(node.relay()).await;
    client.auth(&owner).await;
    let customer = keys();
    for asked in [
        request(&customer, 5000, &[&["i", "words", "text"], &["p", &node.public_key().to_hex()]]),
        sealed_request(&customer, &node.public_key(), 5000, &[&["i", "words", "text"]]),
    ] {
        client.must_publish(&asked).await;
        client.result(&asked).await;
    }
    client.must_publish(&message(&owner, &node.public_key(), "What can you do?").1).await;
    node.json(&["ask", "hello"]).await;
    node.json(&["status"]).await;
    let secrets = spellings(node.dir());
    assert_eq!(secrets.len(), 13);
    for file in ["cmdline", "environ"] {
        let shown = std::fs::read(format!("/proc/{}/{file}", node.pid())).unwrap();
        let shown = String::from_utf8_lossy(&shown).into_owned();
        assert!(!secrets.iter().any(|s| shown.contains(s)) && !shown.contains("nsec1"), "/proc/PID/{file}");
    }
    assert_eq!(node.stop().await.code(), Some(0));
    let log = node.log();
    assert!(log.contains("TRACE"), "the log is at trace");
    for secret in &secrets {
        assert!(!log.contains(secret), "the log holds a secret that begins with {}", &secret[..8]);
    }
    for word in ["nsec1", "ncryptsec1"] {
        assert!(!log.contains(word), "the log holds {word}");
    }
}

#[tokio::test]
async fn key_files_are_private_and_of_nip_49() {
    use std::os::unix::fs::PermissionsExt;
    let home = TempDir::new().unwrap();
    let words = home.path().join("words");
    std::fs::write(&words, "correct horse").unwrap();
    let config = format!("[node]\npassphrase_file = \"{}\"", words.display());
    let node = Node::builder().dir(home.path()).config(&config).start().await;
    for name in ["passport", "install", "transport", "memory"] {
        let path = home.path().join("keys").join(name);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600, "{name}");
    }
    // Any program that knows NIP-49 opens it.
    let text = std::fs::read_to_string(home.path().join("keys/passport")).unwrap();
    let key = EncryptedSecretKey::from_bech32(text.trim()).unwrap().decrypt("correct horse").unwrap();
    assert_eq!(nostr::Keys::new(key).public_key(), node.public_key());
    assert!(binary().exists());
}
