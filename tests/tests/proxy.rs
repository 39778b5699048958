//! A node behind a real reverse proxy: nginx, from Debian.

#![allow(clippy::unwrap_used)]

use std::net::TcpListener;
use std::path::Path;

use nostr::{EventBuilder, JsonUtil, Keys, Kind, RelayUrl, Tag};
use serde_json::{Value, json};
use tempfile::TempDir;
use tests::client::request;
use tests::node::keys;
use tests::{Client, Node, eventually};
use tokio::process::{Child, Command};

mod support;

use support::config_with_owner;
use support::raw::Raw;

/// nginx in the foreground, with everything of its own in one folder; killed when dropped.
struct Proxy {
    address: String,
    _child: Child,
    _dir: TempDir,
}

fn nginx() -> &'static str {
    let found =
        ["/usr/sbin/nginx", "/usr/local/sbin/nginx", "/usr/bin/nginx"].into_iter().find(|p| Path::new(p).exists());
    found.expect("nginx is missing: run `make tools`")
}

/// What nginx is told: one process, and the client's address as it sees it at the end of X-Forwarded-For.
fn nginx_config(dir: &Path, address: &str, upstream: &str) -> String {
    let dir = dir.display();
    format!(
        "daemon off; master_process off; pid {dir}/pid; error_log {dir}/error.log;\n\
         events {{ worker_connections 512; }}\n\
         http {{ access_log off; client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/fastcgi;\n\
         uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi;\n\
         server {{ listen {address}; location / {{ proxy_pass http://{upstream}; proxy_http_version 1.1;\n\
         proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $http_connection; proxy_set_header Host $host;\n\
         proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_read_timeout 300s; }} }} }}\n"
    )
}

/// A port of loopback that was free a moment ago. nginx cannot say which port it took, so it is told one.
fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

impl Proxy {
    /// Starts nginx at `address` before `upstream`.
    async fn start(address: &str, upstream: &str) -> Self {
        let dir = TempDir::new().unwrap();
        let config = dir.path().join("nginx.conf");
        std::fs::write(&config, nginx_config(dir.path(), address, upstream)).unwrap();
        let mut child = Command::new(nginx())
            .args(["-p", dir.path().to_str().unwrap(), "-e", dir.path().join("error.log").to_str().unwrap(), "-c"])
            .arg(&config)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        eventually("nginx listens", || {
            let ended = child.try_wait().unwrap();
            let log = std::fs::read_to_string(dir.path().join("error.log")).unwrap_or_default();
            assert!(ended.is_none(), "nginx ended: {log}");
            async { tokio::net::TcpStream::connect(address).await.ok() }
        })
        .await;
        Self { address: address.to_owned(), _child: child, _dir: dir }
    }

    fn ws(&self) -> String {
        format!("ws://{}", self.address)
    }

    fn http(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// A node that knows itself by the proxy's address, and the proxy before it. `trusted` says whether the proxy is believed.
async fn behind_nginx(owner: &Keys, trusted: bool, more: &str) -> (Node, Proxy) {
    let address = free_address();
    let believed = if trusted { "trusted_proxies = [\"127.0.0.1\"]" } else { "" };
    let config = format!("[node]\npublic_url = \"ws://{address}\"\n{believed}\n{}\n{more}", config_with_owner(owner));
    let node = Node::builder().config(&config).start().await;
    let proxy = Proxy::start(&address, &node.address()).await;
    (node, proxy)
}

/// The answer to an AUTH event that names `relay`, over a connection to `url`.
async fn auth_naming(url: &str, relay: &str, keys: &Keys) -> (bool, String) {
    let mut socket = Raw::connect(url, &[]).await;
    let challenge = socket.message("AUTH").await[1].as_str().unwrap().to_owned();
    let event = EventBuilder::auth(challenge, RelayUrl::parse(relay).unwrap()).sign_with_keys(keys).unwrap();
    socket.send(&json!(["AUTH", serde_json::to_value(&event).unwrap()])).await;
    let ok = socket.message("OK").await;
    (ok[2].as_bool().unwrap(), ok[3].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn websocket_jobs_and_documents_pass_through_the_proxy() {
    let (node, proxy) = behind_nginx(&keys(), true, "").await;
    let mut client = Client::connect(&proxy.ws()).await;
    let asked = request(&keys(), 5000, &[&["i", "through nginx", "text"], &["p", &node.public_key().to_hex()]]);
    client.must_publish(&asked).await;
    assert_eq!(client.result(&asked).await.content, "through nginx");

    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let nip11 = http.get(proxy.http()).header("accept", "application/nostr+json").send().await.unwrap();
    assert_eq!(nip11.headers()["access-control-allow-origin"], "*");
    let nip11: Value = nip11.json().await.unwrap();
    assert_eq!(nip11["self"], node.public_key().to_hex());
    let nip05 = http.get(format!("{}/.well-known/nostr.json?name=timmy", proxy.http())).send().await.unwrap();
    let nip05: Value = nip05.json().await.unwrap();
    assert_eq!(nip05["names"]["timmy"], node.public_key().to_hex());
    let relay = nip05["relays"][node.public_key().to_hex()][0].as_str().unwrap().trim_end_matches('/').to_owned();
    assert_eq!(relay, proxy.ws(), "what is published is public_url");
    assert_eq!(http.get(format!("{}/healthz", proxy.http())).send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn auth_through_the_proxy_must_name_the_public_url() {
    let (_node, proxy) = behind_nginx(&keys(), true, "").await;
    let me = keys();
    assert_eq!(auth_naming(&proxy.ws(), &proxy.ws(), &me).await, (true, String::new()));
    for other in ["ws://relay.example", "ws://127.0.0.1:1", "wss://127.0.0.1"] {
        let (ok, words) = auth_naming(&proxy.ws(), other, &me).await;
        assert!(!ok && words.contains("another relay"), "{other}: {words}");
    }
}

/// NIP-98 for one call.
fn nip98(keys: &Keys, url: &str, method: &str) -> String {
    let tags = [Tag::parse(["u", url]).unwrap(), Tag::parse(["method", method]).unwrap()];
    let event = EventBuilder::new(Kind::HttpAuth, "").tags(tags).sign_with_keys(keys).unwrap();
    format!("Nostr {}", support::base64(event.as_json().as_bytes()))
}

#[tokio::test]
async fn the_owner_calls_the_api_with_nip_98_for_the_public_url_and_nobody_else_does() {
    let owner = keys();
    let (node, proxy) = behind_nginx(&owner, true, "").await;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("{}/api/v1/status", proxy.http());
    let call = |at: String, authorisation: String| {
        let http = http.clone();
        async move { http.get(at).header("authorization", authorisation).send().await.unwrap().status().as_u16() }
    };
    let signed = nip98(&owner, &url, "GET");
    assert_eq!(call(url.clone(), signed.clone()).await, 200);
    assert_eq!(call(url.clone(), signed).await, 401, "an authorisation opens the door once");
    assert_eq!(call(url.clone(), nip98(&keys(), &url, "GET")).await, 401, "a stranger's");
    let inner = format!("{}/api/v1/status", node.http());
    assert_eq!(call(url.clone(), nip98(&owner, &inner, "GET")).await, 401, "for the address behind the proxy");
    assert_eq!(call(url.clone(), nip98(&owner, &url, "POST")).await, 401, "for another method");
    assert_eq!(call(url.clone(), "Bearer wrong".to_owned()).await, 401);
}

#[tokio::test]
async fn metrics_and_the_api_are_not_open_through_the_proxy_without_the_token() {
    for trusted in [true, false] {
        let (node, proxy) = behind_nginx(&keys(), trusted, "").await;
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let token = std::fs::read_to_string(node.dir().join("api-token")).unwrap();
        let status = |url: String, token: Option<String>| {
            let call = http.get(url);
            let call = token.map_or(call.try_clone().unwrap(), |t| call.bearer_auth(t));
            async move { call.send().await.unwrap().status().as_u16() }
        };
        for (path, refused) in [("/metrics", 403), ("/api/v1/status", 401), ("/api/v1/jobs", 401)] {
            let url = format!("{}{path}", proxy.http());
            assert_eq!(status(url.clone(), None).await, refused, "{path}, trusted: {trusted}");
            assert_eq!(status(url, Some(token.trim().to_owned())).await, 200, "{path} with the token");
        }
        assert_eq!(status(format!("{}/metrics", node.http()), None).await, 200, "metrics on loopback itself");
    }
}

/// Opens connections that claim to come from `from` until one is refused; gives the open ones.
async fn exhaust(url: &str, from: &str, most: usize) -> Vec<Raw> {
    let mut open = Vec::new();
    for _ in 0..most {
        match Raw::try_connect(url, &[("x-forwarded-for", from)]).await {
            Some(socket) => open.push(socket),
            None => break,
        }
    }
    open
}

#[tokio::test]
async fn limits_hold_for_the_client_that_the_trusted_proxy_names() {
    let (node, proxy) = behind_nginx(&keys(), true, "").await;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let nip11 = http.get(node.http()).header("accept", "application/nostr+json").send().await.unwrap();
    let nip11: Value = nip11.json().await.unwrap();
    let limit = usize::try_from(nip11["limitation"]["max_connections_per_address"].as_u64().unwrap()).unwrap();
    // A proxy of a proxy: the node believes 127.0.0.1 only, so its client is the last address that 127.0.0.1 named.
    let direct = node.relay();
    let first = exhaust(direct, "198.51.100.7", limit + 1).await;
    assert_eq!(first.len(), limit, "one address gets {limit} connections");
    assert!(Raw::try_connect(direct, &[("x-forwarded-for", "198.51.100.7")]).await.is_none());
    // What the client itself wrote before the proxy's word changes nothing.
    assert!(Raw::try_connect(direct, &[("x-forwarded-for", "203.0.113.1, 198.51.100.7")]).await.is_none());
    assert!(
        Raw::try_connect(direct, &[("x-forwarded-for", "198.51.100.8")]).await.is_some(),
        "another address is served"
    );
    // Through nginx: it appends 127.0.0.1, which is trusted, so the address before it is the client's.
    assert!(Raw::try_connect(&proxy.ws(), &[("x-forwarded-for", "198.51.100.7")]).await.is_none());
    assert!(Raw::try_connect(&proxy.ws(), &[("x-forwarded-for", "198.51.100.9")]).await.is_some());
    drop(first);
    eventually("the address has places again", || Raw::try_connect(direct, &[("x-forwarded-for", "198.51.100.7")]))
        .await;
}

#[tokio::test]
async fn a_client_that_is_no_trusted_proxy_cannot_name_another_address() {
    let (node, _proxy) = behind_nginx(&keys(), false, "").await;
    let direct = node.relay();
    let open = exhaust(direct, "198.51.100.7", 2000).await;
    assert!(open.len() < 2000, "the limit of an address holds");
    for claimed in ["198.51.100.8", "127.0.0.1", "::1", "garbage"] {
        assert!(Raw::try_connect(direct, &[("x-forwarded-for", claimed)]).await.is_none(), "{claimed} is believed");
    }
}
