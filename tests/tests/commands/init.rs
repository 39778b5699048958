//! `timmy init`, answered by a pipe.

use std::path::Path;

use nostr::ToBech32;
use serde_json::{Value, json};
use tempfile::TempDir;
use tests::node::{cli, cli_told, keys};

async fn init(dir: &Path, answers: &str) -> (i32, String, String) {
    cli_told(dir, &["init", "--json"], answers).await
}

/// A model server of OpenAI's kind that has one model.
async fn model_server() -> String {
    let models = || async { axum::Json(json!({ "data": [{ "id": "tiny-one" }] })) };
    let router = axum::Router::new().route("/v1/models", axum::routing::get(models));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut set = tokio::task::JoinSet::new();
    set.spawn(async move { axum::serve(listener, router).await });
    set.detach_all();
    format!("http://{address}/v1")
}

#[tokio::test]
async fn init_asks_tests_each_answer_saves_and_can_be_run_again() {
    let dir = TempDir::new().unwrap();
    let (owner, server) = (keys().public_key().to_bech32().unwrap(), model_server().await);
    let answers = format!("{owner}\nwss://one.example, wss://two.example\n{server}\ntiny-one\n");
    let (code, out, err) = init(dir.path(), &answers).await;
    assert_eq!(code, 0, "{err}");
    let written: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(written["models"][0]["model"], "tiny-one");
    assert_eq!(written["nostr"]["relays"].as_array().unwrap().len(), 2);
    let first = std::fs::read_to_string(dir.path().join("config.toml")).unwrap();
    assert!(first.contains(&owner), "{first}");

    // A second run with empty answers keeps everything; a later one changes one thing.
    let (code, _, err) = init(dir.path(), "\n\n\n\n").await;
    assert_eq!(code, 0, "{err}");
    assert!(err.contains(&owner) && err.contains("one.example"), "it shows what stands: {err}");
    assert_eq!(std::fs::read_to_string(dir.path().join("config.toml")).unwrap(), first);
    let (code, _, err) = init(dir.path(), "\nwss://three.example\n\n").await;
    assert_eq!(code, 0, "{err}");
    let third = std::fs::read_to_string(dir.path().join("config.toml")).unwrap();
    assert!(third.contains("three.example") && !third.contains("one.example") && third.contains(&owner), "{third}");
    assert_eq!(cli(dir.path(), &["config", "check"]).await.0, 0);
}

#[tokio::test]
async fn init_saves_nothing_after_a_wrong_answer_and_warns_of_a_secret_key() {
    let dir = TempDir::new().unwrap();
    let secret = keys().secret_key().to_bech32().unwrap();
    for (answers, words) in [
        (format!("{secret}\n"), "secret key"),
        ("npub1nonsense\n".to_owned(), "no npub"),
        ("\nhttps://one.example\n".to_owned(), "no relay"),
        ("\n\nnot a url\n".to_owned(), "no URL"),
        ("\n\nhttp://127.0.0.1:1/v1\n".to_owned(), "does not answer as a model server"),
        ("\n\n\nmatrix.example\n".to_owned(), "no URL"),
        ("\n\n\nhttp://127.0.0.1:1\n".to_owned(), "does not answer as a Matrix homeserver"),
    ] {
        let (code, out, err) = init(dir.path(), &answers).await;
        assert!(code == 1 && out.is_empty() && err.contains(words), "{words}: {code} {out}{err}");
        assert!(!err.contains(&secret), "the secret is not repeated");
        assert!(!dir.path().join("config.toml").exists(), "nothing was saved");
    }
}
