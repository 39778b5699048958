//! What `timmy doctor` says of a Matrix account: each trouble, with its cure. The homeserver is a double: a real one is not so easily late,
//! busy or broken (what a real one says of a lost store and an ended session is in `matrix.rs`).

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::http::{HeaderMap, StatusCode, header};
use axum::routing::get;
use serde_json::{Value, json};
use tests::Node;
use tests::double::Pages;

/// What the homeserver answers to whoever asks who they are, and how far its clock is ahead, seconds.
type Mood = Arc<Mutex<(StatusCode, i64)>>;

async fn homeserver(mood: &Mood) -> Pages {
    let mood = Arc::clone(mood);
    let whoami = async move || {
        let (status, ahead) = *mood.lock().unwrap();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let theirs = SystemTime::UNIX_EPOCH + Duration::from_secs(now.checked_add_signed(ahead).unwrap());
        let mut headers = HeaderMap::new();
        headers.insert(header::DATE, httpdate::fmt_http_date(theirs).parse().unwrap());
        (status, headers, json!({ "user_id": "@timmy:localhost" }).to_string())
    };
    Pages::serve(Router::new().route("/_matrix/client/v3/account/whoami", get(whoami))).await
}

/// The checks of the account.
async fn matrix_checks(node: &Node) -> Vec<Value> {
    let (_, out, err) = node.cli(&["doctor", "--json"]).await;
    let report: Value = serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}{err}"));
    report["checks"].as_array().unwrap().iter().filter(|check| check["name"] == "matrix").cloned().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_names_what_is_wrong_between_here_and_a_homeserver_and_its_cure() {
    let mut node = Node::start().await;
    assert!(node.stop().await.success());
    let mood: Mood = Arc::new(Mutex::new((StatusCode::OK, 0)));
    let server = homeserver(&mood).await;
    let session = json!({
        "homeserver": format!("http://{}", server.address),
        "session": { "user_id": "@timmy:localhost", "device_id": "ABC", "access_token": "syt_secret" },
        "places": {},
    });
    std::fs::create_dir_all(node.dir().join("matrix")).unwrap();
    std::fs::write(node.dir().join("matrix/session.json"), session.to_string()).unwrap();
    let first = &matrix_checks(&node).await[0];
    assert!(first["ok"] == true && first["message"].as_str().unwrap().contains("device ABC"), "{first}");
    for (status, ahead, trouble, cure) in [
        (StatusCode::OK, 3_600, "clock", "set this machine's clock"),
        (StatusCode::OK, -3_600, "clock", "set this machine's clock"),
        (StatusCode::TOO_MANY_REQUESTS, 0, "limits how often", "higher limit"),
        (StatusCode::UNAUTHORIZED, 0, "no longer knows the session", "timmy matrix login"),
        (StatusCode::BAD_GATEWAY, 0, "HTTP 502", "matrix.homeserver"),
    ] {
        *mood.lock().unwrap() = (status, ahead);
        let check = &matrix_checks(&node).await[0];
        let says = |field: &str, text: &str| check[field].as_str().is_some_and(|said| said.contains(text));
        assert!(check["ok"] == false && says("message", trouble) && says("cure", cure), "{check}");
    }
    drop(server);
    let checks = matrix_checks(&node).await;
    assert!(checks[0]["message"].as_str().unwrap().contains("does not answer"), "{checks:?}");
    assert!(checks.iter().all(|check| !check.to_string().contains("syt_secret")), "{checks:?}");
    // The store that belongs to the session is not there: said each time.
    assert!(checks.iter().any(|check| check["message"].as_str().unwrap().contains("store is gone")), "{checks:?}");
}

#[tokio::test]
async fn a_second_process_on_one_folder_is_refused_and_told_who_has_it() {
    let node = Node::start().await;
    let (code, _, err) = node.cli(&["run", "--listen", "127.0.0.1:0"]).await;
    let pid = node.pid().to_string();
    assert!(code != 0 && err.contains("already runs") && err.contains(&format!("kill {pid}")), "{err}");
    assert_eq!(node.json(&["status"]).await["npub"], node.ready["npub"], "the first goes on");
}
