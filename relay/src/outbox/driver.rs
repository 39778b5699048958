//! The driver: reads what is due, sends it, records what came of it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use nostr::util::BoxedFuture;
use nostr::{Event, EventId, Timestamp};
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::machine::{Next, Outcome, after, expired};
use super::store::{Counts, Entry, OutboxError, OutboxStore, Target, Update};
use crate::pool::{Pool, PublishReply, exponential};

/// The node's own relay as a target.
pub trait LocalRelay: Send + Sync {
    /// Stores the event as if a client had sent it; answers once it is durable.
    fn publish(&self, event: Arc<Event>) -> BoxedFuture<'_, PublishReply>;
}

/// An entry came to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    /// The event.
    pub event_id: EventId,
    /// Where it went, or did not.
    pub target: Target,
    /// How it ended.
    pub outcome: Outcome,
}

/// What the outbox is given, and its bounds.
#[derive(Clone)]
pub struct OutboxConfig {
    /// Keeps the entries.
    pub store: Arc<dyn OutboxStore>,
    /// The outside relays.
    pub pool: Pool,
    /// The node's own relay.
    pub local: Option<Arc<dyn LocalRelay>>,
    /// How long one try may take: 20 s.
    pub publish_timeout: Duration,
    /// Targets served at a time: 64. Relays that do not answer hold their place for `publish_timeout` only.
    pub targets_max: usize,
    /// Events under way to one target: 32, so that a commit on the other side serves many.
    pub window: usize,
    /// How long a target rests after it could not be reached, at first and at most: 2 s, 5 min.
    pub rest: (Duration, Duration),
}

impl OutboxConfig {
    /// Makes the usual configuration.
    pub fn new(store: Arc<dyn OutboxStore>, pool: Pool, local: Option<Arc<dyn LocalRelay>>) -> Self {
        let seconds = Duration::from_secs;
        Self {
            store,
            pool,
            local,
            publish_timeout: seconds(20),
            targets_max: 64,
            window: 32,
            rest: (seconds(2), seconds(300)),
        }
    }
}

impl std::fmt::Debug for OutboxConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OutboxConfig").field("publish_timeout", &self.publish_timeout).finish_non_exhaustive()
    }
}

/// Outcomes that wait for the daemon. When it is full, workers wait.
const SETTLED_QUEUE: usize = 1024;

/// Entries that a worker reads at a time.
const BATCH: usize = 128;

/// The store is looked at this often even if nobody calls `wake`.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// Wait after the store failed.
const STORE_RETRY: Duration = Duration::from_secs(5);

/// The outbox. Clones share one.
#[derive(Clone)]
pub struct Outbox {
    wake: Arc<Notify>,
    store: Arc<dyn OutboxStore>,
}

impl std::fmt::Debug for Outbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outbox").finish_non_exhaustive()
    }
}

impl Outbox {
    /// Starts the outbox in `tracker` with what the store holds. The receiver tells each entry's end; if it is dropped the
    /// outbox goes on without telling.
    pub fn start(
        config: OutboxConfig,
        tracker: &TaskTracker,
        cancel: CancellationToken,
    ) -> (Self, mpsc::Receiver<Settled>) {
        let (settled, receiver) = mpsc::channel(SETTLED_QUEUE);
        let outbox = Self { wake: Arc::new(Notify::new()), store: config.store.clone() };
        let driver = Driver {
            config: Arc::new(config),
            wake: outbox.wake.clone(),
            settled,
            tracker: tracker.clone(),
            cancel,
            busy: HashSet::new(),
            resting: HashMap::new(),
        };
        tracker.spawn(driver.run());
        (outbox, receiver)
    }

    /// Says that the store holds new entries. Cheap; many calls become one look.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// Counts the entries of each target.
    ///
    /// # Errors
    ///
    /// [`OutboxError`] when the store cannot be read.
    pub async fn counts(&self) -> Result<Vec<(Target, Counts)>, OutboxError> {
        self.store.counts().await
    }
}

/// A target that could not be reached or asked for patience.
struct Rest {
    failures: u32,
    until: Instant,
}

/// How a worker left its target.
struct Report {
    target: Target,
    /// False: the target should rest.
    healthy: bool,
    store_failed: bool,
}

struct Driver {
    config: Arc<OutboxConfig>,
    wake: Arc<Notify>,
    settled: mpsc::Sender<Settled>,
    tracker: TaskTracker,
    cancel: CancellationToken,
    busy: HashSet<Target>,
    resting: HashMap<Target, Rest>,
}

impl Driver {
    async fn run(mut self) {
        let (done, mut reports) = mpsc::channel(self.config.targets_max.max(1));
        let cancel = self.cancel.clone();
        loop {
            let wait = self.look(&done).await;
            tokio::select! {
                () = cancel.cancelled() => return,
                () = self.wake.notified() => {}
                () = tokio::time::sleep(wait) => {}
                report = reports.recv() => report.into_iter().for_each(|report| self.take(report)),
            }
            while let Ok(report) = reports.try_recv() {
                self.take(report);
            }
        }
    }

    /// Starts a worker for each target that has something due; gives the time until the next look.
    async fn look(&mut self, done: &mpsc::Sender<Report>) -> Duration {
        let schedule = match self.config.store.schedule().await {
            Ok(schedule) => schedule,
            Err(error) => {
                tracing::warn!(%error, "the outbox waits for its store");
                return STORE_RETRY;
            }
        };
        let (now, now_s) = (Instant::now(), Timestamp::now().as_secs());
        self.forget_settled_targets(&schedule);
        let mut wait = LOOK_EVERY;
        for (target, due_s) in schedule {
            if self.busy.contains(&target) {
                continue; // its worker's report brings us back
            }
            let rest =
                self.resting.get(&target).map_or(Duration::ZERO, |rest| rest.until.saturating_duration_since(now));
            let until_due = Duration::from_secs(due_s.saturating_sub(now_s)).max(rest);
            if !until_due.is_zero() {
                wait = wait.min(until_due);
            } else if self.busy.len() < self.config.targets_max {
                self.start_worker(target, done.clone());
            }
        }
        wait
    }

    fn forget_settled_targets(&mut self, schedule: &[(Target, u64)]) {
        if self.resting.len() > schedule.len() {
            let pending: HashSet<&Target> = schedule.iter().map(|(target, _)| target).collect();
            self.resting.retain(|target, _| pending.contains(target));
        }
    }

    fn start_worker(&mut self, target: Target, done: mpsc::Sender<Report>) {
        self.busy.insert(target.clone());
        let worker =
            Worker { config: self.config.clone(), settled: self.settled.clone(), cancel: self.cancel.clone(), target };
        self.tracker.spawn(async move {
            let report = worker.run().await;
            let _ = done.send(report).await; // the driver may have stopped
        });
    }

    fn take(&mut self, report: Report) {
        self.busy.remove(&report.target);
        if report.healthy && !report.store_failed {
            self.resting.remove(&report.target);
            return;
        }
        let failures = self.resting.get(&report.target).map_or(0, |rest| rest.failures).saturating_add(1);
        let (first, max) = self.config.rest;
        let wait = if report.store_failed { STORE_RETRY } else { exponential(first, max, failures, rand::random()) };
        self.resting.insert(report.target, Rest { failures, until: Instant::now() + wait });
    }
}

struct Worker {
    config: Arc<OutboxConfig>,
    settled: mpsc::Sender<Settled>,
    cancel: CancellationToken,
    target: Target,
}

impl Worker {
    /// Sends what is due until nothing is, or the target should rest.
    async fn run(self) -> Report {
        let (mut healthy, mut store_failed) = (true, false);
        let cancel = self.cancel.clone();
        while healthy && !store_failed {
            let batch = tokio::select! {
                () = cancel.cancelled() => break,
                batch = self.batch() => batch,
            };
            match batch {
                Ok(Some(still_healthy)) => healthy = still_healthy,
                Ok(None) => break,
                Err(error) => {
                    tracing::warn!(%error, "the outbox waits for its store");
                    store_failed = true;
                }
            }
        }
        Report { target: self.target, healthy, store_failed }
    }

    /// Sends one batch, in order, a window at a time. `None`: nothing is due. Else: may the next batch follow at once?
    async fn batch(&self) -> Result<Option<bool>, OutboxError> {
        let due = self.config.store.due(&self.target, Timestamp::now().as_secs(), BATCH).await?;
        if due.is_empty() {
            return Ok(None);
        }
        let mut healthy = true;
        let mut due = due.into_iter();
        loop {
            // `buffered` keeps the order; a window is recorded in one transaction.
            let window: Vec<Entry> = due.by_ref().take(self.config.window.max(1)).collect();
            if window.is_empty() || !healthy {
                return Ok(Some(healthy));
            }
            let width = window.len();
            let tried: Vec<(Update, bool)> =
                stream::iter(window).map(|entry| self.attempt(entry)).buffered(width).collect().await;
            healthy = tried.iter().all(|(_, well)| *well);
            self.keep(tried.into_iter().map(|(update, _)| update).collect()).await?;
        }
    }

    /// Makes one try; the flag is false when the whole target should rest.
    async fn attempt(&self, entry: Entry) -> (Update, bool) {
        let event_id = entry.event.id;
        let (next, well) = if expired(entry.deadline_s, Timestamp::now().as_secs()) {
            (Next::Settled(Outcome::Expired), true)
        } else {
            let reply = self.publish(&entry.event).await;
            let well = !asks_for_rest(&reply);
            let now_s = Timestamp::now().as_secs();
            (after(reply, entry.attempts, entry.deadline_s, now_s, rand::random()), well)
        };
        (Update { event_id, target: entry.target, next }, well)
    }

    async fn publish(&self, event: &Arc<Event>) -> PublishReply {
        let timeout = self.config.publish_timeout;
        match (&self.target, &self.config.local) {
            (Target::Relay(url), _) => self.config.pool.publish(url, event, timeout).await,
            (Target::Local, Some(local)) => match tokio::time::timeout(timeout, local.publish(event.clone())).await {
                Ok(reply) => reply,
                Err(_) => PublishReply::Unreachable { message: "the own relay gave no answer in time".to_owned() },
            },
            (Target::Local, None) => PublishReply::Unreachable { message: "there is no own relay".to_owned() },
        }
    }

    async fn keep(&self, updates: Vec<Update>) -> Result<(), OutboxError> {
        let ends: Vec<Settled> = updates.iter().filter_map(settled).collect();
        self.config.store.record(updates).await?;
        for end in ends {
            let _ = self.settled.send(end).await; // nobody has to listen
        }
        Ok(())
    }
}

fn settled(update: &Update) -> Option<Settled> {
    let Next::Settled(outcome) = &update.next else { return None };
    Some(Settled { event_id: update.event_id, target: update.target.clone(), outcome: outcome.clone() })
}

/// True when the answer is about the relay and not about this event.
fn asks_for_rest(reply: &PublishReply) -> bool {
    match reply {
        PublishReply::Accepted => false,
        PublishReply::Refused { permanent, message } => !permanent && message.starts_with("rate-limited:"),
        PublishReply::Unreachable { .. } => true,
    }
}
