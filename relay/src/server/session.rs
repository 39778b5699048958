//! One client's session: a single task that reads, answers and forwards live events.
//!
//! Nothing is queued for a client but the socket's buffer: while a client does not read, its session waits (up to a
//! time-out) and then reads what it missed from disk by sequence number.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use futures_util::{FutureExt, SinkExt, StreamExt};
use nostr::{EventId, PublicKey, Timestamp};
use serde_json::json;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::sync::mpsc;
use tokio::time::{Interval, timeout};

use super::limits::Address;
use super::negotiate::Reconciliation;
use super::parse::{self, ClientMessage, RawEvent, Unreadable};
use super::policy::{self, Circumstances};
use super::{AuthPolicy, ClientAddr, Shared, auth};
use crate::store::{Live, LiveBatch, PublishOutcome, PutResult, Query, Sight};

/// Events of one connection that wait for their commit.
const IN_FLIGHT: usize = 1_024;
/// Steps that are taken together before what they wrote is flushed.
const STEPS_A_FLUSH: usize = 64;
/// Pings that may stay unanswered.
const MISSED_PINGS: u32 = 2;
/// How long the last answers and the good-bye may take.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// Events read from disk at one time when a session was too slow.
const CATCH_UP_EVENTS: usize = 256;

/// The answer to a client over its rate.
pub(crate) const SLOW_DOWN: &str = "rate-limited: slow down";

/// Why a session ends.
#[derive(Debug)]
pub(crate) enum End {
    /// The client left, or the connection broke.
    Left,
    /// The relay shuts down.
    Stopping,
    /// The client breaks a limit.
    CutOff(u16, &'static str),
}

/// What a session does next.
enum Step {
    Stop,
    Tick,
    Answer(EventId, PutResult),
    Live(Result<LiveBatch, RecvError>),
    Message(Option<Result<Message, axum::Error>>),
}

/// A standing question.
pub(crate) struct Subscription {
    pub(crate) queries: Arc<Vec<Query>>,
    /// Live events up to this sequence number were in the snapshot.
    pub(crate) from: u64,
    /// What stands before the event in each message.
    pub(crate) head: String,
}

/// One connection.
pub(crate) struct Session {
    pub(crate) shared: Arc<Shared>,
    socket: WebSocket,
    address: Address,
    client: ClientAddr,
    place: auth::Place,
    challenge: String,
    pub(crate) keys: Arc<BTreeSet<PublicKey>>,
    pub(crate) subscriptions: BTreeMap<String, Subscription>,
    pub(crate) reconciliations: BTreeMap<String, Reconciliation>,
    live: broadcast::Receiver<LiveBatch>,
    /// Live events up to this sequence number have been looked at.
    seen: u64,
    answered: mpsc::Sender<(EventId, PutResult)>,
    answers: mpsc::Receiver<(EventId, PutResult)>,
    in_flight: usize,
    unanswered_pings: u32,
    ticks: Interval,
}

impl Session {
    /// Prepares a session; `None` when the store has closed.
    pub(crate) fn new(
        shared: Arc<Shared>,
        socket: WebSocket,
        address: Address,
        client: ClientAddr,
        place: auth::Place,
    ) -> Option<Self> {
        let live = shared.store.live()?;
        let (answered, answers) = mpsc::channel(IN_FLIGHT);
        let every = Duration::from_millis(shared.config.limits.ping_ms.max(1));
        Some(Self {
            socket,
            address,
            client,
            place,
            challenge: hex::encode(rand::random::<[u8; 16]>()),
            keys: Arc::default(),
            subscriptions: BTreeMap::new(),
            reconciliations: BTreeMap::new(),
            live,
            seen: shared.store.last_sequence(),
            answered,
            answers,
            in_flight: 0,
            unanswered_pings: 0,
            ticks: tokio::time::interval_at(tokio::time::Instant::now() + every, every),
            shared,
        })
    }

    /// Serves the client until one side ends it.
    pub(crate) async fn run(mut self) {
        let end = match self.serve().await {
            Ok(never) => match never {},
            Err(end) => end,
        };
        let frame = match end {
            End::Left => None,
            End::Stopping => Some((close_code::AWAY, "the relay shuts down")),
            End::CutOff(code, reason) => {
                self.shared.counters.cut_off.add();
                tracing::debug!(reason, "a relay client is cut off");
                Some((code, reason))
            }
        };
        // The client may be gone; then nobody misses the words.
        let _ = match frame {
            Some((code, reason)) => {
                let close = Message::Close(Some(CloseFrame { code, reason: reason.into() }));
                timeout(LAST_WORDS, self.socket.send(close)).await
            }
            // Sends the answer to the client's own good-bye.
            None => timeout(LAST_WORDS, self.socket.flush()).await,
        };
        self.shared.counters.subscriptions.take(self.subscriptions.len() as u64);
    }

    async fn serve(&mut self) -> Result<std::convert::Infallible, End> {
        self.send(json!(["AUTH", self.challenge]).to_string()).await?;
        self.flush().await?;
        loop {
            let step = self.next_step().await;
            self.take(step).await?;
            for _ in 1..STEPS_A_FLUSH {
                let Some(step) = self.next_step().now_or_never() else { break };
                self.take(step).await?;
            }
            self.flush().await?;
        }
    }

    async fn next_step(&mut self) -> Step {
        tokio::select! {
            () = self.shared.cancel.cancelled() => Step::Stop,
            Some((id, result)) = self.answers.recv() => Step::Answer(id, result),
            batch = self.live.recv() => Step::Live(batch),
            message = self.socket.next(), if self.in_flight < IN_FLIGHT => Step::Message(message),
            _ = self.ticks.tick() => Step::Tick,
        }
    }

    async fn take(&mut self, step: Step) -> Result<(), End> {
        match step {
            Step::Stop => self.say_farewell().await,
            Step::Tick => self.ping().await,
            Step::Answer(id, result) => self.answer(id, &result).await,
            Step::Live(Ok(batch)) => self.forward(&batch).await,
            Step::Live(Err(RecvError::Lagged(_))) => self.catch_up().await,
            Step::Live(Err(RecvError::Closed)) => Err(End::Stopping),
            Step::Message(Some(Ok(message))) => self.read(message).await,
            Step::Message(Some(Err(error))) => Err(broken(&error)),
            Step::Message(None) => Err(End::Left),
        }
    }

    /// Gives the answers that are still out, then ends.
    async fn say_farewell(&mut self) -> Result<(), End> {
        let deadline = tokio::time::Instant::now() + LAST_WORDS;
        while self.in_flight > 0
            && let Ok(Some((id, result))) = tokio::time::timeout_at(deadline, self.answers.recv()).await
        {
            self.answer(id, &result).await?;
        }
        self.flush().await?;
        Err(End::Stopping)
    }

    async fn ping(&mut self) -> Result<(), End> {
        if self.unanswered_pings >= MISSED_PINGS {
            return Err(End::CutOff(close_code::POLICY, "no answer to pings"));
        }
        self.unanswered_pings += 1;
        self.feed(Message::Ping(Vec::new().into())).await
    }

    async fn read(&mut self, message: Message) -> Result<(), End> {
        self.unanswered_pings = 0;
        match message {
            Message::Text(text) => self.hear(text.as_str()).await,
            Message::Binary(_) => self.complain("invalid: messages are text").await,
            Message::Ping(_) | Message::Pong(_) => Ok(()),
            Message::Close(_) => Err(End::Left),
        }
    }

    async fn hear(&mut self, text: &str) -> Result<(), End> {
        match parse::message(text) {
            Ok(ClientMessage::Event(raw)) => self.event(raw).await,
            Ok(ClientMessage::Auth(raw)) => self.authenticate(raw).await,
            Ok(ClientMessage::Req(id, filters)) => self.req(id, filters).await,
            Ok(ClientMessage::Count(id, filters)) => self.count(id, filters).await,
            Ok(ClientMessage::Close(id)) => {
                if self.subscriptions.remove(&id).is_some() {
                    self.shared.counters.subscriptions.sub();
                }
                Ok(())
            }
            Ok(ClientMessage::NegOpen(id, filter, message)) => self.neg_open(id, filter, message).await,
            Ok(ClientMessage::NegMsg(id, message)) => self.neg_msg(id, message).await,
            Ok(ClientMessage::NegClose(id)) => {
                self.reconciliations.remove(&id);
                Ok(())
            }
            Ok(ClientMessage::Unknown(verb)) => self.complain(&format!("invalid: {verb} is not known here")).await,
            Err(Unreadable::Event(id, reason)) => {
                self.shared.counters.invalid.add();
                let reason = if self.may_send_event() { format!("invalid: {reason}") } else { SLOW_DOWN.to_owned() };
                self.ok(&id, false, &reason).await
            }
            Err(Unreadable::Message(reason)) => self.complain(&format!("invalid: {reason}")).await,
        }
    }

    /// Tells the client what is wrong, as often as it may ask.
    async fn complain(&mut self, text: &str) -> Result<(), End> {
        if !self.may_ask() {
            return Ok(());
        }
        self.send(json!(["NOTICE", text]).to_string()).await
    }

    /// Takes the right to send one event; programs on this machine have it always.
    fn may_send_event(&self) -> bool {
        let granted = self.client.is_local() || self.address.may_send_event(Instant::now());
        if !granted {
            self.shared.counters.rate_limited.add();
        }
        granted
    }

    /// Checks an event and hands it to the writer; its answer comes when it is on disk.
    async fn event(&mut self, raw: RawEvent<'_>) -> Result<(), End> {
        let shared = Arc::clone(&self.shared);
        let id = raw.claimed_id().to_owned();
        if !self.may_send_event() {
            return self.ok(&id, false, SLOW_DOWN).await;
        }
        let note = match raw.verify(&shared.config.limits) {
            Ok(note) => note,
            Err(reason) => {
                shared.counters.invalid.add();
                return self.ok(&id, false, &format!("invalid: {reason}")).await;
            }
        };
        let people = shared.people();
        let circumstances = Circumstances {
            config: &shared.config,
            people: &people,
            keys: &self.keys,
            strangers: shared.takes_strangers(),
            now: Timestamp::now().as_secs(),
        };
        let class = match policy::admit(&note.event, &circumstances) {
            Ok(class) => class,
            Err(refusal) => {
                shared.counters.refused.add();
                return self.ok(&id, false, &refusal).await;
            }
        };
        let permit = self.answered.clone().reserve_owned().await.map_err(|_| End::Stopping)?;
        if shared.store.put_for_session(note, class, permit).await.is_err() {
            return Err(End::Stopping);
        }
        self.in_flight += 1;
        Ok(())
    }

    async fn answer(&mut self, id: EventId, result: &PutResult) -> Result<(), End> {
        self.in_flight = self.in_flight.saturating_sub(1);
        let counters = &self.shared.counters;
        match result {
            Ok(PublishOutcome::Stored(_)) => counters.stored.add(),
            Ok(PublishOutcome::Broadcast) => counters.broadcast.add(),
            Ok(PublishOutcome::Duplicate) => counters.duplicate.add(),
            Ok(PublishOutcome::Replaced) => counters.replaced.add(),
            Ok(_) => counters.refused.add(),
            Err(_) => counters.failed.add(),
        }
        let (taken, reason) = policy::answer(result);
        self.ok(&id.to_hex(), taken, &reason).await
    }

    async fn authenticate(&mut self, raw: RawEvent<'_>) -> Result<(), End> {
        let id = raw.claimed_id().to_owned();
        if !self.may_ask() {
            return self.ok(&id, false, SLOW_DOWN).await;
        }
        let note = match raw.verify(&self.shared.config.limits) {
            Ok(note) => note,
            Err(reason) => return self.ok(&id, false, &format!("invalid: {reason}")).await,
        };
        if let Err(reason) = auth::check(&note.event, &self.challenge, &self.place, Timestamp::now().as_secs()) {
            return self.ok(&id, false, &format!("invalid: {reason}")).await;
        }
        if self.keys.len() >= self.shared.config.limits.keys && !self.keys.contains(&note.event.pubkey) {
            return self.ok(&id, false, "restricted: too many keys on one connection").await;
        }
        Arc::make_mut(&mut self.keys).insert(note.event.pubkey);
        self.ok(&id, true, "").await
    }

    /// Sends live events to the subscriptions that they match.
    async fn forward(&mut self, batch: &[Live]) -> Result<(), End> {
        for live in batch {
            if let Some(sequence) = live.sequence {
                if sequence <= self.seen {
                    continue;
                }
                self.seen = sequence;
            }
            if self.subscriptions.is_empty() || !self.sight().viewer().may_see_event(&live.event) {
                continue;
            }
            let due = self.subscriptions.values().filter(|subscription| {
                live.sequence.is_none_or(|sequence| sequence > subscription.from)
                    && subscription.queries.iter().any(|query| query.matches_event(&live.event))
            });
            let messages: Vec<String> = due.map(|subscription| event_message(&subscription.head, &live.json)).collect();
            for message in messages {
                self.send(message).await?;
            }
        }
        Ok(())
    }

    /// Reads from disk what came while the client was slower than the stream of events.
    async fn catch_up(&mut self) -> Result<(), End> {
        if self.subscriptions.is_empty() {
            self.seen = self.shared.store.last_sequence();
            return Ok(());
        }
        loop {
            let (store, seen) = (self.shared.store.clone(), self.seen);
            let page = store.clone().long(move || store.page_after(seen, CATCH_UP_EVENTS, super::PAGE_BYTES)).await;
            match page {
                Ok(page) if page.is_empty() => return Ok(()),
                Ok(page) => self.forward(&page).await?,
                Err(error) => {
                    tracing::error!(%error, "a session could not catch up");
                    return Err(End::CutOff(close_code::ERROR, "the relay cannot read its store"));
                }
            }
        }
    }

    /// Takes the right to ask one question; programs on this machine have it always.
    pub(crate) fn may_ask(&self) -> bool {
        let granted = self.client.is_local() || self.address.may_ask(Instant::now());
        if !granted {
            self.shared.counters.rate_limited.add();
        }
        granted
    }

    /// Whose gift wraps this connection may see.
    pub(crate) fn sight(&self) -> Sight {
        match self.shared.config.auth {
            AuthPolicy::None => Sight::All,
            AuthPolicy::Dm | AuthPolicy::All => Sight::Keys(Arc::clone(&self.keys)),
        }
    }

    async fn ok(&mut self, id: &str, taken: bool, reason: &str) -> Result<(), End> {
        self.send(json!(["OK", id, taken, reason]).to_string()).await
    }

    /// Writes a message into the socket's buffer.
    pub(crate) async fn send(&mut self, text: String) -> Result<(), End> {
        self.feed(Message::Text(text.into())).await
    }

    async fn feed(&mut self, message: Message) -> Result<(), End> {
        let patience = Duration::from_millis(self.shared.config.limits.write_timeout_ms);
        settle(timeout(patience, self.socket.feed(message)).await.ok().map(|written| written.is_ok()))
    }

    /// Sends what the socket's buffer holds.
    pub(crate) async fn flush(&mut self) -> Result<(), End> {
        let patience = Duration::from_millis(self.shared.config.limits.write_timeout_ms);
        settle(timeout(patience, self.socket.flush()).await.ok().map(|written| written.is_ok()))
    }
}

/// Writes an EVENT message around stored JSON.
pub(crate) fn event_message(head: &str, json: &str) -> String {
    let mut message = String::with_capacity(head.len() + json.len() + 1);
    message.push_str(head);
    message.push_str(json);
    message.push(']');
    message
}

/// Tells a written message from a broken connection and from a time that ran out.
fn settle(written: Option<bool>) -> Result<(), End> {
    match written {
        Some(true) => Ok(()),
        Some(false) => Err(End::Left),
        None => Err(End::CutOff(close_code::POLICY, "the client does not read")),
    }
}

/// Tells a message over the size limit from a connection that broke.
fn broken(error: &axum::Error) -> End {
    let text = error.to_string();
    if text.contains("too long") || text.contains("too large") || text.contains("too big") {
        return End::CutOff(close_code::SIZE, "the message is too large");
    }
    End::Left
}
