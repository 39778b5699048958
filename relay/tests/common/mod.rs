//! A relay on a free port and a plain WebSocket client for tests.
#![allow(dead_code, clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, State, WebSocketUpgrade};
use axum::response::Response;
use axum::routing::get;
use axum::serve::ListenerExt;
use futures_util::{SinkExt, StreamExt};
use nostr::{Event, EventBuilder, JsonUtil, Keys, Kind, PublicKey, Tag, Timestamp};
use relay::{ClientAddr, Server, ServerConfig};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Far more than anything here takes; a test that hangs fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// A relay in a folder of its own.
pub struct Relay {
    pub server: Server,
    pub node: Keys,
    pub owner: Keys,
    pub address: SocketAddr,
    pub dir: tempfile::TempDir,
    tracker: TaskTracker,
    cancel: CancellationToken,
}

#[derive(Clone)]
struct App {
    server: Server,
    local: SocketAddr,
    proxied: bool,
}

async fn upgrade(
    State(app): State<App>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    upgrade: WebSocketUpgrade,
) -> Response {
    let client = ClientAddr { ip: peer.ip(), proxied: app.proxied };
    app.server.websocket(upgrade, client, Some(app.local)).await
}

impl Relay {
    pub async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub async fn with(change: impl FnOnce(&mut ServerConfig)) -> Self {
        Self::open(tempfile::tempdir().unwrap(), Keys::generate(), Keys::generate(), false, change).await
    }

    pub async fn behind_proxy(change: impl FnOnce(&mut ServerConfig)) -> Self {
        Self::open(tempfile::tempdir().unwrap(), Keys::generate(), Keys::generate(), true, change).await
    }

    async fn open(
        dir: tempfile::TempDir,
        node: Keys,
        owner: Keys,
        proxied: bool,
        change: impl FnOnce(&mut ServerConfig),
    ) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut config = ServerConfig::new(dir.path().to_owned(), node.public_key());
        config.free_bytes_reserve = 0;
        config.listen = vec![address];
        change(&mut config);
        let (tracker, cancel) = (TaskTracker::new(), CancellationToken::new());
        let people = BTreeSet::from([owner.public_key()]);
        let server = Server::open(config, people, &tracker, cancel.clone()).unwrap();
        let app = Router::new()
            .route("/", get(upgrade))
            .with_state(App { server: server.clone(), local: address, proxied })
            .into_make_service_with_connect_info::<SocketAddr>();
        let stop = cancel.clone();
        let listener = listener.tap_io(|stream| {
            let _ = stream.set_nodelay(true);
        });
        tracker.spawn(async move {
            let _ = axum::serve(listener, app).with_graceful_shutdown(stop.cancelled_owned()).await;
        });
        Self { server, node, owner, address, dir, tracker, cancel }
    }

    /// Ends it and gives what is needed to open it again.
    pub async fn stop(self) -> (tempfile::TempDir, Keys, Keys) {
        self.cancel.cancel();
        self.tracker.close();
        tokio::time::timeout(PATIENCE, self.tracker.wait()).await.unwrap();
        drop(self.server);
        (self.dir, self.node, self.owner)
    }

    pub async fn reopen(self) -> Self {
        let (dir, node, owner) = self.stop().await;
        Self::open(dir, node, owner, false, |_| {}).await
    }

    pub fn url(&self) -> String {
        format!("ws://{}", self.address)
    }

    pub async fn client(&self) -> Client {
        Client::connect(&self.url()).await
    }
}

/// A client that speaks raw JSON.
pub struct Client {
    pub socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    pub challenge: String,
    pub url: String,
}

impl Client {
    pub async fn connect(url: &str) -> Self {
        let (socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
        let mut client = Self { socket, challenge: String::new(), url: url.to_owned() };
        let hello = client.receive().await;
        assert_eq!(hello[0], "AUTH");
        client.challenge = hello[1].as_str().unwrap().to_owned();
        client
    }

    pub async fn text(&mut self, text: impl Into<String>) {
        self.socket.send(Message::text(text.into())).await.unwrap();
    }

    pub async fn json(&mut self, value: Value) {
        self.text(value.to_string()).await;
    }

    /// The next message; `None` when the relay has ended the connection.
    pub async fn try_receive(&mut self) -> Option<Value> {
        loop {
            let next = tokio::time::timeout(PATIENCE, self.socket.next()).await.expect("an answer");
            match next {
                Some(Ok(Message::Text(text))) => return Some(serde_json::from_str(text.as_str()).unwrap()),
                Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
                Some(Ok(_)) => {}
            }
        }
    }

    pub async fn receive(&mut self) -> Value {
        self.try_receive().await.expect("the connection is open")
    }

    /// Publishes and gives what OK says.
    pub async fn publish(&mut self, event: &Event) -> (bool, String) {
        self.text(format!("[\"EVENT\",{}]", event.as_json())).await;
        self.ok(&event.id.to_hex()).await
    }

    /// Publishes what must be taken.
    pub async fn must(&mut self, event: &Event) {
        let (taken, reason) = self.publish(event).await;
        assert!(taken, "{reason}");
    }

    pub async fn ok(&mut self, id: &str) -> (bool, String) {
        loop {
            let message = self.receive().await;
            if message[0] == "OK" && message[1] == id {
                return (message[2].as_bool().unwrap(), message[3].as_str().unwrap().to_owned());
            }
        }
    }

    /// Asks and gives the events up to EOSE, or the CLOSED message's reason.
    pub async fn req(&mut self, id: &str, filters: &[Value]) -> Result<Vec<Event>, String> {
        let mut message = vec![json!("REQ"), json!(id)];
        message.extend(filters.iter().cloned());
        self.json(Value::Array(message)).await;
        let mut events = Vec::new();
        loop {
            let message = self.receive().await;
            if message[1] != id {
                continue;
            }
            match message[0].as_str().unwrap() {
                "EVENT" => events.push(Event::from_json(message[2].to_string()).unwrap()),
                "EOSE" => return Ok(events),
                "CLOSED" => return Err(message[2].as_str().unwrap().to_owned()),
                other => panic!("{other}"),
            }
        }
    }

    /// Asks, forgets the subscription, and gives the ids.
    pub async fn ids(&mut self, filter: Value) -> Vec<String> {
        let events = self.req("once", &[filter]).await.unwrap();
        self.json(json!(["CLOSE", "once"])).await;
        events.iter().map(|event| event.id.to_hex()).collect()
    }

    pub async fn count(&mut self, filter: Value) -> u64 {
        self.json(json!(["COUNT", "count", filter])).await;
        loop {
            let message = self.receive().await;
            if message[0] == "COUNT" {
                return message[2]["count"].as_u64().unwrap();
            }
            assert_ne!(message[0], "CLOSED", "{message}");
        }
    }

    /// Says who it is (NIP-42) and gives what OK says.
    pub async fn auth(&mut self, keys: &Keys) -> (bool, String) {
        let event = auth_event(keys, &self.url, &self.challenge, Timestamp::now());
        self.auth_with(&event).await
    }

    pub async fn auth_with(&mut self, event: &Event) -> (bool, String) {
        self.text(format!("[\"AUTH\",{}]", event.as_json())).await;
        self.ok(&event.id.to_hex()).await
    }
}

pub fn auth_event(keys: &Keys, relay: &str, challenge: &str, at: Timestamp) -> Event {
    let tags = [Tag::parse(["relay", relay]).unwrap(), Tag::parse(["challenge", challenge]).unwrap()];
    EventBuilder::new(Kind::from(22_242), "").tags(tags).custom_created_at(at).sign_with_keys(keys).unwrap()
}

/// An event with tags given as slices, `age` seconds old.
pub fn event(keys: &Keys, kind: u16, age: i64, tags: &[&[&str]], content: &str) -> Event {
    let at = Timestamp::now().as_secs().saturating_add_signed(-age);
    event_at(keys, kind, at, tags, content)
}

pub fn event_at(keys: &Keys, kind: u16, at: u64, tags: &[&[&str]], content: &str) -> Event {
    let tags = tags.iter().map(|tag| Tag::parse(tag.iter().copied()).unwrap());
    EventBuilder::new(Kind::from(kind), content)
        .tags(tags)
        .allow_self_tagging()
        .custom_created_at(Timestamp::from_secs(at))
        .sign_with_keys(keys)
        .unwrap()
}

/// A gift wrap to somebody, by a key that nobody knows.
pub fn wrap(to: &PublicKey, age: i64) -> Event {
    event(&Keys::generate(), 1059, age, &[&["p", &to.to_hex()]], "sealed")
}
