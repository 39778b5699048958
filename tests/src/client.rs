//! A plain Nostr client over one WebSocket: the simplest thing that can speak NIP-01 and NIP-42.

use std::collections::VecDeque;

use futures_util::{SinkExt, StreamExt};
use nostr::{Event, EventBuilder, EventId, Filter, JsonUtil, Keys, Kind, PublicKey, Tag, Timestamp, UnsignedEvent};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::{Node, PATIENCE};

/// One connection.
pub struct Client {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    pending: VecDeque<Value>,
    next_id: u32,
    url: String,
    challenge: Option<String>,
}

/// A request of NIP-90 in clear.
pub fn request(keys: &Keys, kind: u16, tags: &[&[&str]]) -> Event {
    let tags = tags.iter().map(|t| Tag::parse(t.iter().copied()).unwrap());
    EventBuilder::new(Kind::from_u16(kind), "").tags(tags).sign_with_keys(keys).unwrap()
}

/// An encrypted request of NIP-90: `tags` go into the content under NIP-44.
pub fn sealed_request(keys: &Keys, to: &PublicKey, kind: u16, tags: &[&[&str]]) -> Event {
    let plain = serde_json::to_string(tags).unwrap();
    let content = nostr::nips::nip44::encrypt(keys.secret_key(), to, plain, nostr::nips::nip44::Version::V2).unwrap();
    let open = [Tag::public_key(*to), Tag::parse(["encrypted"]).unwrap()];
    EventBuilder::new(Kind::from_u16(kind), content).tags(open).sign_with_keys(keys).unwrap()
}

/// A NIP-17 message, wrapped for its reader.
pub fn message(keys: &Keys, to: &PublicKey, text: &str) -> (EventId, Event) {
    let mut rumor = nips::dm::rumor(keys.public_key(), to, text, None, Timestamp::now().as_secs());
    let id = rumor.id();
    (id, wrap(keys, to, &rumor))
}

/// Seals and wraps any rumor.
pub fn wrap(keys: &Keys, to: &PublicKey, rumor: &UnsignedEvent) -> Event {
    wrap_at(keys, to, rumor, Timestamp::now().as_secs())
}

/// Seals and wraps any rumor; seal and wrap are dated `at` (Unix seconds).
pub fn wrap_at(keys: &Keys, to: &PublicKey, rumor: &UnsignedEvent, at: u64) -> Event {
    let sealed = encrypt(keys, to, &rumor.as_json());
    let seal = nips::dm::seal(keys.public_key(), &sealed, at).sign_with_keys(keys).unwrap();
    wrap_text(to, &seal.as_json(), at)
}

/// A wrap around anything.
pub fn wrap_text(to: &PublicKey, inside: &str, at: u64) -> Event {
    let ephemeral = Keys::generate();
    EventBuilder::new(Kind::GiftWrap, encrypt(&ephemeral, to, inside))
        .tag(Tag::public_key(*to))
        .custom_created_at(Timestamp::from_secs(at))
        .sign_with_keys(&ephemeral)
        .unwrap()
}

/// NIP-44.
pub fn encrypt(keys: &Keys, to: &PublicKey, text: &str) -> String {
    nostr::nips::nip44::encrypt(keys.secret_key(), to, text, nostr::nips::nip44::Version::V2).unwrap()
}

/// What the author of `event` encrypted to `keys` as its content.
pub fn decrypt(keys: &Keys, event: &Event) -> Option<String> {
    nostr::nips::nip44::decrypt(keys.secret_key(), &event.pubkey, &event.content).ok()
}

/// What the node says to a message that `who` wrote.
pub async fn answer_to(node: &Node, who: &Keys, id: EventId) -> String {
    let mut client = Client::connect(node.relay()).await;
    client.auth(who).await;
    let mail = client.subscribe(Filter::new().kind(Kind::GiftWrap).pubkey(who.public_key())).await;
    loop {
        let said = open_wrap(who, &client.next_event(&mail).await);
        if let Some(said) = said.filter(|said| said.reply_to == Some(id)) {
            return said.text;
        }
    }
}

/// Writes to the node as `who`; gives what it answers.
pub async fn written(node: &Node, who: &Keys, text: &str) -> String {
    let (id, wrap) = message(who, &node.public_key(), text);
    Client::connect(node.relay()).await.must_publish(&wrap).await;
    answer_to(node, who, id).await
}

/// Opens a wrap for `keys`: its author and text.
pub fn unwrap(keys: &Keys, wrap: &Event) -> Option<(PublicKey, String)> {
    open_wrap(keys, wrap).map(|message| (message.author, message.text))
}

/// The message in a wrap for `keys`.
pub fn open_wrap(keys: &Keys, wrap: &Event) -> Option<nips::DirectMessage> {
    let layer = decrypt(keys, wrap)?;
    let seal = nips::dm::read_seal(wrap, &layer).ok()?;
    let rumor = nostr::nips::nip44::decrypt(keys.secret_key(), &seal.pubkey, &seal.content).ok()?;
    nips::dm::read_rumor(&seal, &rumor, Timestamp::now().as_secs()).ok()
}

impl Client {
    pub async fn connect(url: &str) -> Self {
        Self::try_connect(url).await.unwrap()
    }

    /// None when nobody is there.
    pub async fn try_connect(url: &str) -> Option<Self> {
        let (socket, _) = tokio_tungstenite::connect_async(url).await.ok()?;
        Some(Self { socket, pending: VecDeque::new(), next_id: 0, url: url.to_owned(), challenge: None })
    }

    pub async fn send(&mut self, message: Value) {
        self.socket.send(Message::text(message.to_string())).await.unwrap();
    }

    /// The next message of the relay.
    pub async fn receive(&mut self) -> Value {
        tokio::time::timeout(PATIENCE, self.read()).await.expect("the relay is silent")
    }

    async fn read(&mut self) -> Value {
        loop {
            let message = self.socket.next().await.expect("the relay closed the connection").unwrap();
            if let Message::Text(text) = message {
                let value: Value = serde_json::from_str(&text).unwrap();
                if value[0] == "AUTH" {
                    self.challenge = value[1].as_str().map(str::to_owned);
                    continue;
                }
                return value;
            }
        }
    }

    async fn wait_for(&mut self, mut wanted: impl FnMut(&Value) -> bool) -> Value {
        if let Some(index) = self.pending.iter().position(&mut wanted) {
            return self.pending.remove(index).unwrap();
        }
        loop {
            let value = self.receive().await;
            if wanted(&value) {
                return value;
            }
            self.pending.push_back(value);
        }
    }

    /// Publishes and gives the relay's OK: accepted, message.
    pub async fn publish(&mut self, event: &Event) -> (bool, String) {
        self.send(json!(["EVENT", serde_json::to_value(event).unwrap()])).await;
        let id = event.id.to_hex();
        let ok = self.wait_for(|v| v[0] == "OK" && v[1] == id.as_str()).await;
        (ok[2].as_bool().unwrap(), ok[3].as_str().unwrap_or_default().to_owned())
    }

    /// Publishes what must be taken.
    pub async fn must_publish(&mut self, event: &Event) {
        let (ok, message) = self.publish(event).await;
        assert!(ok, "refused: {message}");
    }

    /// Publishes all at once; gives the ids that the relay took before it fell silent or the connection broke.
    pub async fn publish_until_cut(mut self, events: Vec<Event>) -> Vec<EventId> {
        let mut taken = Vec::new();
        for event in &events {
            let message = json!(["EVENT", serde_json::to_value(event).unwrap()]);
            if self.socket.send(Message::text(message.to_string())).await.is_err() {
                break;
            }
        }
        let mut answers = 0;
        while answers < events.len() {
            let Ok(Some(Ok(message))) = tokio::time::timeout(PATIENCE, self.socket.next()).await else { break };
            let Message::Text(text) = message else { continue };
            let value: Value = serde_json::from_str(&text).unwrap();
            if value[0] == "OK" {
                answers += 1;
                if value[2] == true {
                    taken.push(EventId::from_hex(value[1].as_str().unwrap()).unwrap());
                }
            }
        }
        taken
    }

    /// Authenticates (NIP-42).
    pub async fn auth(&mut self, keys: &Keys) {
        while self.challenge.is_none() {
            // The challenge comes by itself; reading on brings it.
            let probe = self.query(Filter::new().limit(1).kind(Kind::Metadata)).await;
            drop(probe);
        }
        let relay = nostr::RelayUrl::parse(&self.url).unwrap();
        let event = EventBuilder::auth(self.challenge.clone().unwrap(), relay).sign_with_keys(keys).unwrap();
        self.send(json!(["AUTH", serde_json::to_value(&event).unwrap()])).await;
        let id = event.id.to_hex();
        let ok = self.wait_for(|v| v[0] == "OK" && v[1] == id.as_str()).await;
        assert_eq!(ok[2], true, "{ok}");
    }

    fn fresh_id(&mut self) -> String {
        self.next_id += 1;
        format!("s{}", self.next_id)
    }

    /// Stored events that match.
    pub async fn query(&mut self, filter: Filter) -> Vec<Event> {
        let id = self.fresh_id();
        self.send(json!(["REQ", id, serde_json::to_value(&filter).unwrap()])).await;
        let mut events = Vec::new();
        loop {
            let value =
                self.wait_for(|v| (v[0] == "EVENT" || v[0] == "EOSE" || v[0] == "CLOSED") && v[1] == id.as_str()).await;
            match value[0].as_str() {
                Some("EVENT") => events.push(Event::from_value(value[2].clone()).unwrap()),
                _ => break,
            }
        }
        self.send(json!(["CLOSE", id])).await;
        events
    }

    /// Opens a subscription and waits for its EOSE; stored events are kept for [`Client::next_event`].
    pub async fn subscribe(&mut self, filter: Filter) -> String {
        let id = self.fresh_id();
        self.send(json!(["REQ", id, serde_json::to_value(&filter).unwrap()])).await;
        self.wait_for(|v| v[0] == "EOSE" && v[1] == id.as_str()).await;
        id
    }

    /// The next event of a subscription.
    pub async fn next_event(&mut self, subscription: &str) -> Event {
        let value = self.wait_for(|v| v[0] == "EVENT" && v[1] == subscription).await;
        Event::from_value(value[2].clone()).unwrap()
    }

    /// Every answer (6xxx, 7000) to `request` that the relay has.
    pub async fn answers(&mut self, request: &Event) -> Vec<Event> {
        let mut found = self.query(Filter::new().event(request.id)).await;
        found.retain(|event| (6000..=7000).contains(&event.kind.as_u16()));
        found
    }

    /// Waits until the relay has a result (6xxx) for `request`.
    pub async fn result(&mut self, request: &Event) -> Event {
        let id =
            self.subscribe(Filter::new().event(request.id).kind(Kind::from_u16(request.kind.as_u16() + 1000))).await;
        let event = self.next_event(&id).await;
        self.send(json!(["CLOSE", id])).await;
        event
    }
}

/// Reads an event from a JSON value.
trait FromValue: Sized {
    fn from_value(value: Value) -> Option<Self>;
}

impl FromValue for Event {
    fn from_value(value: Value) -> Option<Self> {
        let event = Self::from_json(value.to_string()).ok()?;
        event.verify().ok()?;
        Some(event)
    }
}
