//! The pool of outside relays: many connections, one stream of verified events.
//!
//! ```text
//!  relay A ─► task ─┐ verify, match, de-duplicate
//!  relay B ─► task ─┼──────────────► one bounded queue ─► the daemon
//!  relay C ─► task ─┘                (a full one stalls the reading only)
//! ```
//!
//! Each relay has a task of its own with bounded queues, its own back-off and its own idea of what was seen, so a dead, slow
//! or lying one costs the others nothing. [`machine`] holds the protocol without I/O; [`session`] carries it out.
//!
//! An event counts as seen only after it is verified, and a last seen time moves only over events that were handled
//! ([`incoming`]). So a crash at any point is followed by a catch-up that misses nothing.

mod backoff;
mod checkpoint;
mod config;
mod guard;
mod health;
mod incoming;
mod leg;
mod machine;
mod reply;
mod seen;
mod session;
mod subscription;
mod task;
mod wire;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nostr::{Event, EventId, Filter, RelayUrl};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use backoff::Backoff;
pub(crate) use backoff::exponential;
pub use config::{Limits, PoolConfig};
pub use guard::choose_tls_provider;
pub use guard::{DialPolicy, PublicOnly, Resolver, SystemResolver};
pub use health::{Link, RelayState};
pub use incoming::Incoming;
pub use reply::{FetchError, PublishReply, classify};
pub use subscription::{Cursors, LookBack, Subscription};

use guard::Dialer;
use health::Health;
use seen::Seen;

/// Who named a relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// The owner: kept connected for ever, given every subscription, may be a private address.
    Configured,
    /// A stranger: the address guard holds, no subscriptions, closed when idle, few at a time.
    Hinted,
}

/// A caller's wish, on its way to a relay's task.
pub(crate) enum Command {
    Publish { id: EventId, frame: String, deadline: Instant, reply: oneshot::Sender<PublishReply> },
    Fetch { filters: Vec<Filter>, deadline: Instant, reply: oneshot::Sender<Result<Vec<Event>, FetchError>> },
}

/// The wanted subscriptions by id.
type Wanted = Arc<BTreeMap<String, Arc<Subscription>>>;

struct Handle {
    role: Role,
    commands: mpsc::Sender<Command>,
    health: Arc<Health>,
    cancel: CancellationToken,
}

/// What every relay's task shares.
pub(crate) struct Shared {
    config: PoolConfig,
    dialer: Dialer,
    seen: Mutex<Seen>,
    incoming: mpsc::Sender<Incoming>,
    wanted: watch::Sender<Wanted>,
    relays: Mutex<HashMap<RelayUrl, Handle>>,
    tracker: TaskTracker,
    cancel: CancellationToken,
}

impl Shared {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn relays(&self) -> MutexGuard<'_, HashMap<RelayUrl, Handle>> {
        self.relays.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The outside relays. Clones share one pool.
#[derive(Clone)]
pub struct Pool(Arc<Shared>);

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("relays", &self.0.relays().len()).finish_non_exhaustive()
    }
}

/// Waits of one caller for a relay's task that is just ending.
const HANDLE_RETRIES: usize = 3;

impl Pool {
    /// Makes a pool without relays. Its tasks live in `tracker` and end when `cancel` is cancelled. The receiver gets each
    /// event once; while it is full, relays are not read.
    pub fn new(
        config: PoolConfig,
        tracker: &TaskTracker,
        cancel: CancellationToken,
    ) -> (Self, mpsc::Receiver<Incoming>) {
        let (incoming, receiver) = mpsc::channel(config.limits.incoming_queue.max(1));
        let dialer = Dialer {
            resolver: config.resolver.clone(),
            policy: config.policy.clone(),
            tls: guard::tls_config(),
            timeout: config.limits.connect_timeout,
            frame_bytes_max: config.limits.frame_bytes_max,
        };
        let shared = Shared {
            dialer,
            seen: Mutex::new(Seen::new(config.limits.seen_ids)),
            incoming,
            wanted: watch::Sender::new(Wanted::default()),
            relays: Mutex::default(),
            tracker: tracker.clone(),
            cancel,
            config,
        };
        (Self(Arc::new(shared)), receiver)
    }

    /// Adds a relay and begins to connect. A hinted relay that the owner configures as well becomes a configured one; the
    /// other way round nothing changes.
    pub fn add_relay(&self, url: &RelayUrl, role: Role) {
        // Over the cap: a later publish or fetch makes room or says so.
        let _ = self.handle(url, role);
    }

    /// Ends the connection to a relay and forgets it.
    pub fn remove_relay(&self, url: &RelayUrl) {
        if let Some(handle) = self.0.relays().remove(url) {
            handle.cancel.cancel();
        }
    }

    /// Puts a subscription to every configured relay, now and after each connect. The same id replaces the earlier one.
    pub fn subscribe(&self, subscription: Subscription) {
        self.0.wanted.send_modify(|wanted| {
            Arc::make_mut(wanted).insert(subscription.id.clone(), Arc::new(subscription));
        });
    }

    /// Withdraws a subscription from all relays. Its last seen times stay.
    pub fn unsubscribe(&self, id: &str) {
        self.0.wanted.send_modify(|wanted| {
            Arc::make_mut(wanted).remove(id);
        });
    }

    /// Sends an event to one relay and waits for its OK. A relay that was not added is taken as hinted by a stranger. A relay
    /// that is known to be down is reported at once, not after `timeout`.
    pub async fn publish(&self, relay: &RelayUrl, event: &Event, timeout: Duration) -> PublishReply {
        let deadline = Instant::now() + timeout;
        let frame = wire::event(event);
        let make = |reply| Command::Publish { id: event.id, frame: frame.clone(), deadline, reply };
        match self.call(relay, deadline, make).await {
            Ok(reply) => reply,
            Err(message) => PublishReply::Unreachable { message },
        }
    }

    /// Asks one relay once and gives its stored events, verified, newest first, no more than the relay's own limit. Relays
    /// that were not added are taken as hinted.
    ///
    /// # Errors
    ///
    /// [`FetchError`] when the relay cannot be reached, closes the question, or does not finish: what came until then is not
    /// given as if it were all.
    pub async fn fetch(
        &self,
        relay: &RelayUrl,
        filters: Vec<Filter>,
        timeout: Duration,
    ) -> Result<Vec<Event>, FetchError> {
        let deadline = Instant::now() + timeout;
        let make = |reply| Command::Fetch { filters: filters.clone(), deadline, reply };
        self.call(relay, deadline, make).await.map_err(FetchError::Unreachable)?
    }

    async fn call<T>(
        &self,
        relay: &RelayUrl,
        deadline: Instant,
        make: impl Fn(oneshot::Sender<T>) -> Command,
    ) -> Result<T, String> {
        let late = |_| "no answer in time".to_owned();
        for _ in 0..HANDLE_RETRIES {
            let commands = self.handle(relay, Role::Hinted)?;
            let (reply, answer) = oneshot::channel();
            let sent = timeout_at(deadline, commands.send(make(reply))).await.map_err(late)?;
            if sent.is_err() {
                continue; // an idle relay's task was just ending
            }
            // The task answers by the deadline; the second is for its clock's grain.
            if let Ok(answer) = timeout_at(deadline + Duration::from_secs(1), answer).await.map_err(late)? {
                return Ok(answer);
            }
        }
        Err("the connection is being closed".to_owned())
    }

    /// Finds or makes the relay's task. Every relay has a bounded queue of commands.
    fn handle(&self, url: &RelayUrl, role: Role) -> Result<mpsc::Sender<Command>, String> {
        if self.0.cancel.is_cancelled() {
            return Err("the node is stopping".to_owned());
        }
        let mut relays = self.0.relays();
        if let Some(handle) = relays.get(url) {
            let upgraded = role == Role::Configured && handle.role == Role::Hinted;
            if !upgraded && !handle.commands.is_closed() {
                return Ok(handle.commands.clone());
            }
            handle.cancel.cancel();
            relays.remove(url);
        }
        let hinted = relays.values().filter(|handle| handle.role == Role::Hinted).count();
        if role == Role::Hinted && hinted >= self.0.config.limits.hinted_max {
            return Err("too many relays named by strangers are in use".to_owned());
        }
        let (commands, queue) = mpsc::channel(self.0.config.limits.command_queue.max(1));
        let cancel = self.0.cancel.child_token();
        let health = Arc::new(Health::new(url.clone(), role));
        let task = task::RelayTask::new(self.0.clone(), url.clone(), role, health.clone(), cancel.clone());
        self.0.tracker.spawn(task.run(queue));
        relays.insert(url.clone(), Handle { role, commands: commands.clone(), health, cancel });
        Ok(commands)
    }

    /// Gives the state of each relay, ordered by address.
    pub fn states(&self) -> Vec<RelayState> {
        let mut states: Vec<RelayState> = self.0.relays().values().map(|handle| handle.health.get()).collect();
        states.sort_by(|a, b| a.url.cmp(&b.url));
        states
    }
}
