//! Forgetting: no byte of the data folder says it afterwards.

use std::path::{Path, PathBuf};

use nostr::ToBech32;
use serde_json::json;
use tests::client::sealed_request;
use tests::node::keys;
use tests::{Client, Node, eventually};

use super::{add, failing, search, texts};

/// Files below `dir` that hold `word`, in any case of its ASCII letters.
pub(super) fn holding(dir: &Path, word: &str) -> Vec<PathBuf> {
    let word = word.to_ascii_lowercase().into_bytes();
    let (mut found, mut folders) = (Vec::new(), vec![dir.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(bytes) = std::fs::read(&path)
                && bytes.to_ascii_lowercase().windows(word.len()).any(|w| w == word)
            {
                found.push(path);
            }
        }
    }
    found
}

const PHRASE: &str = "the smugglers' cave is below Zorbiculehead";
const WORD: &str = "zorbicule";

#[tokio::test]
async fn what_is_forgotten_is_in_no_file_and_what_stood_beside_it_stays() {
    let mut node = Node::start().await;
    // Doors by which a phrase comes in without being published: the command line, the API, a sealed job.
    node.json(&["ask", &format!("somebody told me that {PHRASE}")]).await;
    let job = node.json(&["job", "submit", "--kind", "5000", "--input", &format!("Note: {PHRASE}.")]).await;
    let mut client = Client::connect(node.relay()).await;
    let customer = keys();
    client.auth(&customer).await;
    let asked = sealed_request(&customer, &node.public_key(), 5000, &[&["i", PHRASE, "text"]]);
    client.must_publish(&asked).await;
    client.result(&asked).await;
    let id = add(&node, &[PHRASE]).await;
    add(&node, &["The lighthouse keeper is called Orla"]).await;
    eventually("it is indexed", async || {
        let stats = node.json(&["memory", "stats"]).await;
        (stats["pending"] == 0 && stats["indexed"].as_u64() >= Some(2)).then_some(())
    })
    .await;
    let before = holding(node.dir(), WORD);
    assert!(before.iter().any(|p| p.to_string_lossy().contains("journal")), "{before:?}");
    assert!(before.iter().any(|p| p.to_string_lossy().contains("memory/index")), "{before:?}");
    assert!(
        !before.iter().any(|p| p.to_string_lossy().contains("changes.sqlite")),
        "the truth rests sealed: {before:?}"
    );

    let (code, err) = failing(node.dir(), &["memory", "forget", &id]).await;
    assert!(code == 1 && err.contains("--yes"), "nobody to ask: {err}");
    let done = node.json(&["memory", "forget", &id, "--yes"]).await;
    assert_eq!(done["forgotten"], json!([id]));
    assert!(done["journal"].as_u64() >= Some(3), "{done}");
    assert_eq!(holding(node.dir(), WORD), Vec::<PathBuf>::new(), "while it runs");
    let shown = node.json(&["job", "show", job["id"].as_str().unwrap()]).await;
    assert_eq!((shown["output"].as_str(), shown["state"].as_str()), (Some("(forgotten)"), job["state"].as_str()));
    assert_eq!(node.json(&["job", "replay", job["id"].as_str().unwrap()]).await["same_as_journal"], true);
    assert_eq!(texts(&search(&node, &["who keeps the lighthouse"]).await)[0], "The lighthouse keeper is called Orla");
    assert!(search(&node, &["smugglers cave"]).await.iter().all(|one| one["id"] != id.as_str()));
    assert_eq!(failing(node.dir(), &["memory", "show", &id]).await.0, 1);

    assert_eq!(node.stop().await.code(), Some(0));
    assert_eq!(holding(node.dir(), WORD), Vec::<PathBuf>::new(), "after an orderly end");
    let node = Node::builder().dir(node.dir()).start().await;
    assert_eq!(texts(&search(&node, &["who keeps the lighthouse"]).await)[0], "The lighthouse keeper is called Orla");
    // The same words by an import are not taken again.
    let file = node.dir().parent().unwrap().join(format!("{id}.txt"));
    std::fs::write(&file, PHRASE).unwrap();
    let taken = node.json(&["memory", "import", file.to_str().unwrap()]).await;
    std::fs::remove_file(&file).unwrap();
    assert_eq!((&taken["added"], &taken["forgotten"]), (&json!(0), &json!(1)), "{taken}");
    assert_eq!(holding(node.dir(), WORD), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn a_person_a_space_and_an_author_are_forgotten_whole() {
    let node = Node::start().await;
    let person = keys().public_key().to_bech32().unwrap();
    add(&node, &["Ines likes quibbleberries", "--person", &person]).await;
    add(&node, &["Ines was born in spring", "--person", &person]).await;
    add(&node, &["Quaggle soup needs salt", "--space", "kitchen"]).await;
    node.json(&["memory", "page", "edit", "menu", "--space", "kitchen", "--text", "Snorkwurst on Friday"]).await;
    add(&node, &["The gimblewick leaves at nine"]).await;
    for (args, entries, pages, word) in [
        (&["--person", &person] as &[&str], 2, 0, "quibbleberr"),
        (&["--space", "kitchen"], 1, 1, "snorkwurst"),
        (&["--author", node.ready["npub"].as_str().unwrap()], 1, 0, "gimblew"),
    ] {
        let mut all = vec!["memory", "forget", "--yes"];
        all.extend(args);
        let done = node.json(&all).await;
        let count = done["forgotten"].as_array().unwrap().len();
        assert_eq!((count, done["pages"].as_u64()), (entries, Some(pages)), "{args:?}: {done}");
        assert_eq!(holding(node.dir(), word), Vec::<PathBuf>::new(), "{word}");
    }
    assert_eq!(node.json(&["memory", "stats"]).await["entries"], 0);
    assert_eq!(holding(node.dir(), "quaggl"), Vec::<PathBuf>::new());
    let (code, err) = failing(node.dir(), &["memory", "forget", "--space", "kitchen", "--yes"]).await;
    assert!(code == 1 && err.contains("there is no"), "{err}");
}
