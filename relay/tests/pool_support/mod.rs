//! A relay for tests that can be told to misbehave, and the small parts that a pool needs around it.
#![allow(dead_code, missing_docs, clippy::unwrap_used)]

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use nostr::filter::MatchEventOptions;
use nostr::{Event, EventBuilder, EventId, Filter, JsonUtil, Keys, Kind, RelayUrl, Tag, Timestamp};
use relay::pool::{Backoff, Cursors, Incoming, Limits, Pool, PoolConfig, Role, Subscription};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{broadcast, mpsc};
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How a test relay behaves.
#[derive(Clone, Default)]
pub struct Manners {
    /// Takes the TCP connection and never says a word.
    pub half_open: bool,
    /// Shakes hands, then never reads or writes.
    pub frozen: bool,
    pub never_eose: bool,
    /// Answers every REQ with this CLOSED so many times.
    pub closes: Option<(String, usize)>,
    /// Wants AUTH for REQ and EVENT.
    pub auth: bool,
    /// Sends these raw events after each REQ, asked for or not, before the stored ones.
    pub sends: Vec<Value>,
    /// Cuts each answer.
    pub limit: Option<usize>,
    pub exclusive_until: bool,
    /// Answers EVENT with these OKs first, one after the other.
    pub oks: Vec<(bool, String)>,
    /// Never answers an EVENT.
    pub silent_ok: bool,
    /// Sends an endless stream of unasked events on each REQ.
    pub floods: bool,
}

#[derive(Default)]
pub struct State {
    pub manners: Manners,
    pub events: BTreeMap<EventId, Event>,
    pub reqs: Vec<Filter>,
    pub published: Vec<EventId>,
    pub authed: usize,
    pub connections: usize,
}

/// A relay on 127.0.0.1.
pub struct TestRelay {
    pub url: RelayUrl,
    pub state: Arc<Mutex<State>>,
    live: broadcast::Sender<Value>,
    address: SocketAddr,
    tasks: Option<JoinSet<()>>,
}

impl TestRelay {
    pub async fn start(manners: Manners) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State { manners, ..State::default() }));
        let mut relay = Self {
            url: RelayUrl::parse(&format!("ws://{address}")).unwrap(),
            state,
            live: broadcast::channel(10_000).0,
            address,
            tasks: None,
        };
        relay.serve(listener);
        relay
    }

    fn serve(&mut self, listener: TcpListener) {
        let (state, live) = (self.state.clone(), self.live.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut sessions = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                state.lock().unwrap().connections += 1;
                sessions.spawn(session(stream, state.clone(), live.clone()));
            }
        });
        self.tasks = Some(tasks);
    }

    /// Stops listening and cuts every connection; what is stored stays.
    pub async fn stop(&mut self) {
        if let Some(mut tasks) = self.tasks.take() {
            tasks.shutdown().await;
        }
    }

    /// Listens again on the same port.
    pub async fn restart(&mut self) {
        let listener = until_some("the port is free", || std::net::TcpListener::bind(self.address).ok()).await;
        listener.set_nonblocking(true).unwrap();
        self.serve(TcpListener::from_std(listener).unwrap());
    }

    pub fn store(&self, event: &Event) {
        self.state.lock().unwrap().events.insert(event.id, event.clone());
    }

    /// Stores and sends to whoever has a matching REQ.
    pub fn publish(&self, event: &Event) {
        self.store(event);
        let _ = self.live.send(serde_json::from_str(&event.as_json()).unwrap());
    }

    pub fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.state.lock().unwrap())
    }
}

type Ws = tokio_tungstenite::WebSocketStream<TcpStream>;

async fn session(stream: TcpStream, state: Arc<Mutex<State>>, sender: broadcast::Sender<Value>) {
    let mut live = sender.subscribe();
    if state.lock().unwrap().manners.half_open {
        let _open = stream;
        return std::future::pending().await;
    }
    let Ok(mut ws) = tokio_tungstenite::accept_async(stream).await else { return };
    if state.lock().unwrap().manners.frozen {
        return std::future::pending().await;
    }
    let mut subs: HashMap<String, Filter> = HashMap::new();
    let mut authed = !state.lock().unwrap().manners.auth;
    if !authed && send(&mut ws, json!(["AUTH", "challenge"])).await.is_err() {
        return;
    }
    loop {
        tokio::select! {
            frame = ws.next() => {
                let Some(Ok(frame)) = frame else { return };
                let Message::Text(text) = frame else { continue };
                let message: Value = serde_json::from_str(text.as_str()).unwrap();
                if answer(&mut ws, &state, &sender, &mut subs, &mut authed, &message).await.is_err() { return }
            }
            Ok(event) = live.recv() => {
                let parsed = Event::from_json(event.to_string()).unwrap();
                for (id, filter) in &subs {
                    if filter.match_event(&parsed, MatchEventOptions::new())
                        && send(&mut ws, json!(["EVENT", id, event])).await.is_err() { return }
                }
            }
        }
    }
}

type Sent = Result<(), tokio_tungstenite::tungstenite::Error>;

async fn send(ws: &mut Ws, message: Value) -> Sent {
    ws.send(Message::text(message.to_string())).await
}

async fn answer(
    ws: &mut Ws,
    state: &Arc<Mutex<State>>,
    live: &broadcast::Sender<Value>,
    subs: &mut HashMap<String, Filter>,
    authed: &mut bool,
    message: &Value,
) -> Sent {
    match message[0].as_str().unwrap() {
        "REQ" => req(ws, state, subs, *authed, message).await,
        "CLOSE" => {
            subs.remove(message[1].as_str().unwrap());
            Ok(())
        }
        "AUTH" => {
            let event = Event::from_json(message[1].to_string()).unwrap();
            event.verify().unwrap();
            *authed = true;
            state.lock().unwrap().authed += 1;
            send(ws, json!(["OK", event.id, true, ""])).await
        }
        "EVENT" => {
            let event = Event::from_json(message[1].to_string()).unwrap();
            let reply = {
                let mut state = state.lock().unwrap();
                if state.manners.silent_ok {
                    return Ok(());
                }
                if !*authed {
                    (false, "auth-required: who are you".to_owned())
                } else if state.manners.oks.is_empty() {
                    state.published.push(event.id);
                    state.events.insert(event.id, event.clone());
                    let _ = live.send(message[1].clone());
                    (true, String::new())
                } else {
                    state.manners.oks.remove(0)
                }
            };
            send(ws, json!(["OK", event.id, reply.0, reply.1])).await
        }
        _ => Ok(()),
    }
}

async fn req(
    ws: &mut Ws,
    state: &Arc<Mutex<State>>,
    subs: &mut HashMap<String, Filter>,
    authed: bool,
    message: &Value,
) -> Sent {
    let id = message[1].as_str().unwrap().to_owned();
    let filter = Filter::from_json(message[2].to_string()).unwrap();
    let (manners, stored, closed) = {
        let mut state = state.lock().unwrap();
        state.reqs.push(filter.clone());
        let closed = match state.manners.closes.as_mut() {
            Some((words, times)) if *times > 0 => {
                *times -= 1;
                Some(words.clone())
            }
            _ => None,
        };
        let mut stored: Vec<Event> = state
            .events
            .values()
            .filter(|event| filter.match_event(event, MatchEventOptions::new()))
            .filter(|event| !state.manners.exclusive_until || filter.until.is_none_or(|until| event.created_at < until))
            .cloned()
            .collect();
        stored.sort_by(|a, b| b.created_at.cmp(&a.created_at).then(a.id.cmp(&b.id)));
        stored.truncate(state.manners.limit.unwrap_or(usize::MAX).min(filter.limit.unwrap_or(usize::MAX)));
        (state.manners.clone(), stored, closed)
    };
    if !authed {
        return send(ws, json!(["CLOSED", id, "auth-required: who are you"])).await;
    }
    if let Some(words) = closed {
        return send(ws, json!(["CLOSED", id, words])).await;
    }
    for event in &manners.sends {
        send(ws, json!(["EVENT", id, event])).await?;
    }
    for event in stored {
        send(ws, json!(["EVENT", id, event])).await?;
    }
    if manners.floods {
        loop {
            for event in &manners.sends {
                send(ws, json!(["EVENT", id, event])).await?;
            }
            tokio::task::yield_now().await;
        }
    }
    subs.insert(id.clone(), filter);
    if !manners.never_eose {
        send(ws, json!(["EOSE", id])).await?;
    }
    Ok(())
}

/// Last seen times in memory.
#[derive(Default)]
pub struct MemoryCursors(pub Mutex<HashMap<(String, String), u64>>);

impl Cursors for MemoryCursors {
    fn load(&self, relay: &RelayUrl, sub: &str) -> Option<u64> {
        self.0.lock().unwrap().get(&(relay.to_string(), sub.to_owned())).copied()
    }
    fn save(&self, relay: &RelayUrl, sub: &str, unix_s: u64) {
        self.0.lock().unwrap().insert((relay.to_string(), sub.to_owned()), unix_s);
    }
}

/// A pool with quick time-outs.
pub struct Node {
    pub pool: Pool,
    pub incoming: mpsc::Receiver<Incoming>,
    pub cursors: Arc<MemoryCursors>,
    pub cancel: CancellationToken,
    pub tracker: TaskTracker,
}

impl Node {
    pub fn start() -> Self {
        Self::with(Arc::default(), |_| {})
    }

    pub fn with(cursors: Arc<MemoryCursors>, change: impl FnOnce(&mut PoolConfig)) -> Self {
        let mut config = PoolConfig::new(Arc::new(Keys::generate()), cursors.clone());
        config.limits = Limits {
            backoff: Backoff { first: ms(20), max: ms(100), ..Backoff::default() },
            closed_retry_first: ms(50),
            closed_retry_max: ms(200),
            checkpoint_every: ms(50),
            tick: ms(20),
            ..Limits::default()
        };
        change(&mut config);
        let (tracker, cancel) = (TaskTracker::new(), CancellationToken::new());
        let (pool, incoming) = Pool::new(config, &tracker, cancel.clone());
        Self { pool, incoming, cursors, cancel, tracker }
    }

    pub fn add(&self, relay: &TestRelay) {
        self.pool.add_relay(&relay.url, Role::Configured);
    }

    pub async fn next(&mut self) -> Event {
        let got = tokio::time::timeout(LONG, self.incoming.recv()).await.expect("an event in time");
        got.unwrap().event.as_ref().clone()
    }

    pub async fn next_ids(&mut self, n: usize) -> Vec<EventId> {
        let mut ids = Vec::new();
        for _ in 0..n {
            ids.push(self.next().await.id);
        }
        ids.sort();
        ids
    }

    /// Waits until `sub` is caught up on `relay`.
    pub async fn live(&self, relay: &TestRelay, sub: &str) {
        until("the subscription is live", || {
            self.state(relay).is_some_and(|state| state.live.iter().any(|id| id == sub))
        })
        .await;
    }

    pub fn state(&self, relay: &TestRelay) -> Option<relay::pool::RelayState> {
        self.pool.states().into_iter().find(|state| state.url == relay.url)
    }

    pub async fn stop(self) {
        self.cancel.cancel();
        self.tracker.close();
        tokio::time::timeout(LONG, self.tracker.wait()).await.expect("every task ends");
    }
}

/// Far longer than anything takes; a test that needs it has failed.
pub const LONG: Duration = Duration::from_secs(60);

pub fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

pub fn now_s() -> u64 {
    Timestamp::now().as_secs()
}

pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    until_some(what, || holds().then_some(())).await;
}

pub async fn until_some<T>(what: &str, mut find: impl FnMut() -> Option<T>) -> T {
    let look = async {
        loop {
            if let Some(found) = find() {
                return found;
            }
            tokio::time::sleep(ms(5)).await;
        }
    };
    tokio::time::timeout(LONG, look).await.unwrap_or_else(|_| panic!("never: {what}"))
}

pub fn note(keys: &Keys, text: &str, at_s: u64) -> Event {
    EventBuilder::text_note(text).custom_created_at(Timestamp::from_secs(at_s)).sign_with_keys(keys).unwrap()
}

pub fn wrap(to: &Keys, at_s: u64) -> Event {
    EventBuilder::new(Kind::GiftWrap, "sealed")
        .tag(Tag::public_key(to.public_key()))
        .custom_created_at(Timestamp::from_secs(at_s))
        .sign_with_keys(&Keys::generate())
        .unwrap()
}

pub fn notes(id: &str) -> Subscription {
    Subscription {
        id: id.to_owned(),
        filters: vec![Filter::new().kind(Kind::TextNote)],
        lookback: Default::default(),
        first_since_s: 0,
    }
}

pub fn value(event: &Event) -> Value {
    serde_json::from_str(&event.as_json()).unwrap()
}

/// The event with another word in it: id and signature no longer fit.
pub fn forged(event: &Event) -> Value {
    let mut forged = value(event);
    forged["content"] = json!("forged");
    forged
}
