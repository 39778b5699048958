//! An embedding server instead of the embedder inside the binary.

use serde_json::Value;
use tempfile::TempDir;
use tests::embedder::Manner;
use tests::{EmbedderDouble, Node, eventually};

use super::{add, search, texts};

async fn status(node: &Node) -> Value {
    node.json(&["status"]).await
}

#[tokio::test]
async fn another_embedder_takes_over_in_the_background_and_its_troubles_are_told() {
    let home = TempDir::new().unwrap();
    let key = home.path().join("embedder-key");
    std::fs::write(&key, "sk-hush-hush\n").unwrap();
    let mut node = Node::builder().dir(home.path()).start().await;
    let file = home.path().join("lines");
    let lines: Vec<String> = (0..150).map(|n| format!("Barrel {n} holds herring")).collect();
    std::fs::write(&file, lines.join("\n")).unwrap();
    node.json(&["memory", "import", file.to_str().unwrap()]).await;
    assert_eq!(node.stop().await.code(), Some(0));

    let server = EmbedderDouble::start(Manner::Vectors(32)).await;
    let config = server.config(&format!("api_key_file = \"{}\"", key.display()));
    let mut node = Node::builder().dir(home.path()).config(&config).start().await;
    assert_eq!(texts(&search(&node, &["barrel 77 herring", "--limit", "3"]).await)[0], "Barrel 77 holds herring");
    eventually("all vectors are the server's", async || {
        let memory = status(&node).await["memory"].clone();
        let is_there = memory["embedder"].as_str().unwrap().starts_with("openai:") && memory["unembedded"] == 0;
        (is_there && memory["indexed"] == 150).then_some(())
    })
    .await;
    assert!(server.texts() >= 150 && server.largest_batch() <= 64, "{} {}", server.texts(), server.largest_batch());
    assert!(server.keys().iter().all(|key| key == "Bearer sk-hush-hush"), "{:?}", server.keys());
    let doctor = node.json(&["doctor"]).await;
    assert!(doctor.to_string().contains("answers with vectors of 32"), "{doctor}");

    // It breaks, answers nonsense, changes its length: words still find, nothing stops, and the key is told to nobody.
    for manner in [Manner::Broken, Manner::TooFew, Manner::Html, Manner::Vectors(7)] {
        server.be(manner);
        let id = add(&node, &[&format!("Trouble {manner:?} on the pier")]).await;
        let found = search(&node, &[&format!("trouble {manner:?} pier"), "--limit", "10"]).await;
        assert!(found.iter().any(|one| one["id"] == id.as_str()), "{manner:?}: {found:?}");
    }
    eventually("the owner is told", async || {
        let status = status(&node).await;
        let told = status["warnings"].as_array()?.iter().any(|w| w["code"] == "memory_embedder");
        told.then_some(())
    })
    .await;
    server.be(Manner::Broken);
    let (code, out, _) = node.cli(&["doctor", "--json"]).await;
    assert!(code == 1 && out.contains("no luck with Bearer ***") && !out.contains("hush"), "{out}");
    assert!(!node.log().contains("hush"), "the key is in the log");
    server.be(Manner::Vectors(32));
    eventually("the rest gets its vectors", async || (status(&node).await["memory"]["unembedded"] == 0).then_some(()))
        .await;
    assert_eq!(node.stop().await.code(), Some(0));
}

#[tokio::test]
async fn a_server_elsewhere_is_warned_of_until_the_owner_says_yes() {
    let config = "[embedder]\nkind = \"openai\"\nbase_url = \"http://192.0.2.1:9/v1\"\nmodel = \"m\"";
    let node = Node::builder().config(config).start().await;
    let warned = async |node: &Node| {
        let status = status(node).await;
        status["warnings"].as_array().unwrap().iter().any(|w| w["code"] == "memory_leaves")
    };
    assert!(warned(&node).await);
    let node = Node::builder().config(&format!("{config}\nsees_memory = true")).start().await;
    assert!(!warned(&node).await);
}

#[tokio::test]
async fn minilm_from_a_folder_takes_over_in_the_background_and_doctor_looks_at_it() {
    let folder = "../memory/model/minilm-256";
    let home = TempDir::new().unwrap();
    let mut node = Node::builder().dir(home.path()).start().await;
    let boiler = add(&node, &["The boiler in the cellar was serviced by Mr Hansen in March."]).await;
    for n in 0..20 {
        add(&node, &[&format!("Barrel {n} holds herring")]).await;
    }
    assert_eq!(node.stop().await.code(), Some(0));

    let config = format!("[embedder]\nkind = \"minilm\"\nmodel_dir = \"{folder}\"");
    let mut node = Node::builder().dir(home.path()).config(&config).start().await;
    let finds = async |node: &Node| {
        let found = search(node, &["who repaired the heating", "--limit", "3"]).await;
        assert!(found.iter().any(|one| one["id"] == boiler.as_str()), "{found:?}");
    };
    finds(&node).await;
    eventually("all vectors are MiniLM's", async || {
        let memory = status(&node).await["memory"].clone();
        let is_there = memory["embedder"] == "minilm-256/1" && memory["unembedded"] == 0;
        (is_there && memory["indexed"] == 21).then_some(())
    })
    .await;
    finds(&node).await;
    let doctor = node.json(&["doctor"]).await;
    assert!(doctor.to_string().contains("answers with vectors of 256"), "{doctor}");
    assert_eq!(node.stop().await.code(), Some(0));

    // Without its files the node says what is missing and how to mend it.
    let config = "[embedder]\nkind = \"minilm\"\nmodel_dir = \"/nonexistent/minilm\"";
    std::fs::write(home.path().join("config.toml"), config).unwrap();
    let (code, out, _) = node.cli(&["doctor", "--json"]).await;
    assert!(code == 1 && out.contains("/nonexistent/minilm") && out.contains("memory/model/minilm-256"), "{out}");
}
