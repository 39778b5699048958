//! The driver of [`Machine`]: one socket, one loop.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use nostr::util::BoxedFuture;
use nostr::{Event, EventBuilder, EventId, NostrSigner, RelayUrl, Timestamp};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_tungstenite::tungstenite::{self, Bytes, Message};

use super::guard::Socket;
use super::incoming::Incoming;
use super::machine::{Effect, Machine, Ticket};
use super::reply::{FetchError, PublishReply};
use super::task::RelayTask;
use super::{Command, Limits, Role, Wanted, wire};

/// Frames that wait for the socket before callers have to wait.
const WRITE_QUEUE: usize = 64;

/// How a connection ended.
pub(super) enum End {
    /// On purpose: shutdown, or an idle hinted relay.
    Stopped,
    /// With this error.
    Lost(String),
}

enum Caller {
    Publish(oneshot::Sender<PublishReply>),
    Fetch(oneshot::Sender<Result<Vec<Event>, FetchError>>),
}

type Signing = BoxedFuture<'static, Result<Event, String>>;

/// The state of one connection.
pub(super) struct Session<'a> {
    task: &'a mut RelayTask,
    machine: Machine,
    stream: SplitStream<Socket>,
    sink: Option<SplitSink<Socket, Message>>,
    /// Frames that wait for the writer. Bounded by the machine: a few for each leg and caller.
    out: VecDeque<Message>,
    callers: HashMap<Ticket, Caller>,
    next_ticket: Ticket,
    signing: Option<Signing>,
    wanted: watch::Receiver<Wanted>,
    started: Instant,
    heard_s: u64,
    checkpoint_at: Instant,
    used_at: Instant,
    ping_at: Instant,
    ping_sent: Option<Instant>,
    pings_missed: u32,
    end: Option<End>,
}

impl<'a> Session<'a> {
    pub(super) fn new(task: &'a mut RelayTask, socket: Socket) -> Self {
        let (sink, stream) = socket.split();
        let limits = &task.shared.config.limits;
        let now = Instant::now();
        Self {
            // A stranger's relay learns who we are only when it must.
            machine: Machine::new(limits.bounds(), task.role == Role::Configured),
            wanted: task.shared.wanted.subscribe(),
            checkpoint_at: now + limits.checkpoint_every,
            ping_at: now + limits.ping_every,
            task,
            stream,
            sink: Some(sink),
            out: VecDeque::new(),
            callers: HashMap::new(),
            next_ticket: 0,
            signing: None,
            started: now,
            heard_s: Timestamp::now().as_secs(),
            used_at: now,
            ping_sent: None,
            pings_missed: 0,
            end: None,
        }
    }

    fn limits(&self) -> &Limits {
        &self.task.shared.config.limits
    }

    fn now_ms(&self) -> u64 {
        self.at_ms(Instant::now())
    }

    fn at_ms(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.started).as_millis()).unwrap_or(u64::MAX)
    }

    /// Talks until the connection ends. Every caller gets an answer.
    pub(super) async fn run(mut self, commands: &mut mpsc::Receiver<Command>) -> End {
        let (writer, queue) = mpsc::channel(WRITE_QUEUE);
        let mut writing = JoinSet::new();
        if let Some(sink) = self.sink.take() {
            writing.spawn(write(sink, queue, self.limits().send_timeout));
        }
        self.subscribe();
        let mut tick = tokio::time::interval(self.limits().tick);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while self.end.is_none() {
            self.step(commands, &writer, &mut writing, &mut tick).await;
        }
        let end = self.end.take().unwrap_or(End::Stopped);
        let reason = match &end {
            End::Stopped => "the connection is being closed",
            End::Lost(error) => error,
        };
        let mut effects = Vec::new();
        self.machine.lost(reason, &mut effects);
        self.carry_out(effects);
        end
    }

    async fn step(
        &mut self,
        commands: &mut mpsc::Receiver<Command>,
        writer: &mpsc::Sender<Message>,
        writing: &mut JoinSet<String>,
        tick: &mut tokio::time::Interval,
    ) {
        let limits = self.limits();
        let may_read = self.task.deliveries.len() < limits.relay_queue;
        let may_take = self.machine.waiting() < limits.waiting_max;
        let incoming = self.task.shared.incoming.clone();
        tokio::select! {
            () = self.task.cancel.cancelled() => self.end = Some(End::Stopped),
            frame = self.stream.next(), if may_read => self.frame(frame),
            permit = incoming.reserve(), if !self.task.deliveries.is_empty() => match permit {
                Ok(permit) => hand_over(permit, &mut self.task.deliveries),
                Err(_) => self.end = Some(End::Stopped),
            },
            permit = writer.reserve(), if !self.out.is_empty() => match permit {
                Ok(permit) => hand_over(permit, &mut self.out),
                Err(_) => self.end = Some(End::Lost("the connection was closed".to_owned())),
            },
            command = commands.recv(), if may_take => match command {
                Some(command) => self.command(command),
                None => self.end = Some(End::Stopped),
            },
            changed = self.wanted.changed() => match changed {
                Ok(()) => self.subscribe(),
                Err(_) => self.end = Some(End::Stopped),
            },
            signed = sign(&mut self.signing) => {
                self.signing = None;
                self.with_machine(|machine, now_ms, out| machine.auth_signed(signed, now_ms, out));
            }
            error = writing.join_next() => {
                let error = error.and_then(Result::ok).unwrap_or_else(|| "the writer stopped".to_owned());
                self.end = Some(End::Lost(error));
            }
            _ = tick.tick() => self.tick(),
        }
    }

    fn with_machine(&mut self, act: impl FnOnce(&mut Machine, u64, &mut Vec<Effect>)) {
        let mut effects = Vec::new();
        let now_ms = self.now_ms();
        act(&mut self.machine, now_ms, &mut effects);
        self.carry_out(effects);
    }

    fn subscribe(&mut self) {
        if self.task.role == Role::Hinted {
            self.wanted.mark_unchanged();
            return;
        }
        let wanted = self.wanted.borrow_and_update().clone();
        let cursors = self.task.shared.config.cursors.clone();
        let url = self.task.url.clone();
        self.with_machine(|machine, now_ms, out| {
            let since = |sub: &super::Subscription| sub.since_s(cursors.load(&url, &sub.id));
            machine.subscribe(&wanted, &since, now_ms, out);
        });
    }

    fn command(&mut self, command: Command) {
        self.used_at = Instant::now();
        self.next_ticket += 1;
        let ticket = self.next_ticket;
        match command {
            Command::Publish { id, frame, deadline, reply } => {
                self.callers.insert(ticket, Caller::Publish(reply));
                let deadline_ms = self.at_ms(deadline);
                self.with_machine(|machine, _, out| machine.publish(ticket, id, frame, deadline_ms, out));
            }
            Command::Fetch { filters, deadline, reply } => {
                self.callers.insert(ticket, Caller::Fetch(reply));
                let deadline_ms = self.at_ms(deadline);
                self.with_machine(|machine, _, out| machine.fetch(ticket, filters, deadline_ms, out));
            }
        }
    }

    fn frame(&mut self, frame: Option<Result<Message, tungstenite::Error>>) {
        self.heard_s = Timestamp::now().as_secs();
        self.pings_missed = 0;
        match frame {
            Some(Ok(Message::Text(text))) => {
                let shared = self.task.shared.clone();
                let seen = |id: &EventId| shared.seen().get(id).is_some();
                self.with_machine(|machine, now_ms, out| machine.frame(text.as_str(), &seen, now_ms, out));
            }
            Some(Ok(Message::Pong(_))) => {
                let rtt = self.ping_sent.take().map(|sent| sent.elapsed().as_millis());
                let rtt_ms = rtt.and_then(|ms| u64::try_from(ms).ok());
                self.task.health.update(|state| state.rtt_ms = rtt_ms.or(state.rtt_ms));
            }
            Some(Ok(Message::Close(_))) | None => {
                self.end = Some(End::Lost("the relay closed the connection".to_owned()));
            }
            Some(Ok(Message::Ping(_) | Message::Binary(_) | Message::Frame(_))) => {}
            Some(Err(error)) => self.end = Some(End::Lost(wire::clip(error.to_string()))),
        }
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Send(text) => self.out.push_back(Message::text(text)),
                Effect::SignAuth { challenge } => self.sign_auth(challenge),
                Effect::Deliver { sub, event } => self.deliver(sub, *event),
                Effect::Duplicate { id } => self.repeated(&id),
                Effect::Bad(badness) => self.task.health.count_bad(badness),
                Effect::CaughtUp => self.checkpoint(),
                Effect::Published { ticket, reply } => {
                    if let Some(Caller::Publish(caller)) = self.callers.remove(&ticket) {
                        let _ = caller.send(reply); // the caller may have gone
                    }
                }
                Effect::Fetched { ticket, result } => {
                    if let Some(Caller::Fetch(caller)) = self.callers.remove(&ticket) {
                        let _ = caller.send(result);
                    }
                }
                Effect::HangUp { reason } => self.end = Some(End::Lost(reason)),
            }
        }
    }

    fn deliver(&mut self, sub: String, event: Event) {
        let token = self.task.checkpoints.token();
        let mut seen = self.task.shared.seen();
        // Between the machine's question and this line another relay may have been first.
        if let Some(token) = seen.get(&event.id) {
            drop(seen);
            self.task.checkpoints.repeated(token);
            return self.task.health.update(|state| state.duplicates += 1);
        }
        seen.insert(event.id, Arc::downgrade(&token));
        drop(seen);
        let incoming = Incoming::new(self.task.url.clone(), sub, event).held_by(token);
        self.task.deliveries.push_back(incoming);
        self.task.health.update(|state| state.events += 1);
    }

    fn repeated(&mut self, id: &EventId) {
        let token = self.task.shared.seen().get(id);
        token.into_iter().for_each(|token| self.task.checkpoints.repeated(token));
        self.task.health.update(|state| state.duplicates += 1);
    }

    fn sign_auth(&mut self, challenge: String) {
        let signer = self.task.shared.config.signer.clone();
        self.signing = Some(Box::pin(sign_challenge(signer, challenge, self.task.url.clone())));
    }

    /// Sets a checkpoint at the moment the relay was last heard, and saves those whose events are handled.
    fn checkpoint(&mut self) {
        let live = self.machine.live();
        self.task.health.update(|state| state.live.clone_from(&live));
        self.task.checkpoints.set(self.heard_s, live);
        self.checkpoint_at = Instant::now() + self.limits().checkpoint_every;
        self.save();
    }

    fn save(&mut self) {
        let shared = &self.task.shared;
        // Events that die with the queue at shutdown were not handled.
        if !shared.incoming.is_closed() && !shared.cancel.is_cancelled() {
            self.task.checkpoints.save(&self.task.url, shared.config.cursors.as_ref());
        }
    }

    fn tick(&mut self) {
        self.with_machine(|machine, now_ms, out| machine.tick(now_ms, out));
        let now = Instant::now();
        if now >= self.checkpoint_at {
            self.checkpoint();
        }
        self.save();
        let (live, refused) = (self.machine.live(), self.machine.refused());
        self.task.health.update(|state| (state.live, state.refused) = (live, refused));
        if now >= self.ping_at {
            self.ping(now);
        }
        if self.machine.waiting() > 0 {
            self.used_at = now;
        }
        if self.task.role == Role::Hinted && now >= self.used_at + self.limits().idle_after {
            self.end = Some(End::Stopped);
        }
    }

    fn ping(&mut self, now: Instant) {
        self.ping_at = now + self.limits().ping_every;
        if self.task.deliveries.len() >= self.limits().relay_queue {
            return; // it is we who do not read
        }
        if self.pings_missed >= self.limits().pings_missed_max {
            self.end = Some(End::Lost("the relay does not answer pings".to_owned()));
            return;
        }
        self.pings_missed += 1;
        self.ping_sent = Some(now);
        self.out.push_back(Message::Ping(Bytes::new()));
    }
}

/// Uses a place in a queue for the first that waits.
pub(super) fn hand_over<T>(place: mpsc::Permit<'_, T>, waiting: &mut VecDeque<T>) {
    if let Some(first) = waiting.pop_front() {
        place.send(first);
    }
}

async fn sign(signing: &mut Option<Signing>) -> Result<Event, String> {
    match signing {
        Some(signing) => signing.await,
        None => std::future::pending().await,
    }
}

async fn sign_challenge(signer: Arc<dyn NostrSigner>, challenge: String, relay: RelayUrl) -> Result<Event, String> {
    let public_key = signer.get_public_key().await.map_err(|e| e.to_string())?;
    let unsigned = EventBuilder::auth(challenge, relay).build(public_key);
    signer.sign_event(unsigned).await.map_err(|e| e.to_string())
}

/// Writes frames until one does not leave in time; gives the error.
async fn write(
    mut sink: SplitSink<Socket, Message>,
    mut queue: mpsc::Receiver<Message>,
    send_timeout: std::time::Duration,
) -> String {
    while let Some(frame) = queue.recv().await {
        match tokio::time::timeout(send_timeout, sink.send(frame)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return wire::clip(error.to_string()),
            Err(_) => return "the relay does not read".to_owned(),
        }
    }
    let _ = sink.close().await; // a courtesy: the relay may have gone
    "closed".to_owned()
}
