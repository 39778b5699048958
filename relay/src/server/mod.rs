//! The embedded relay: sessions over WebSocket on top of the event store.
//!
//! ```text
//!  socket ─► session: parse, verify, admit ─► writer thread: one commit for many ─┬─► OK to each session
//!              ▲                                                                  └─► live batch to all
//!              └── REQ: snapshot from the indexes up to sequence s, then live events after s
//! ```

mod auth;
mod config;
mod information;
mod limits;
mod negotiate;
mod parse;
mod policy;
mod requests;
mod session;
mod stats;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use axum::extract::ws::WebSocketUpgrade;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use nostr::{Event, Filter, JsonUtil, PublicKey};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use url::Url;

pub use self::config::{AuthPolicy, Limits, ServerConfig, WritePolicy};
use self::limits::{Addresses, Rates};
use self::session::Session;
use self::stats::Counters;
pub use self::stats::Stats;
use crate::store::{Class, Follower, MAP_BYTES, Note, PublishOutcome, Query, Rules, Sight, Store, StoreError, is_wrap};

/// How often expired and old events are removed, addresses forgotten and the disk looked at.
const HOUSEKEEPING: Duration = Duration::from_secs(10);
/// How long sessions may take to say good-bye.
const FAREWELL: Duration = Duration::from_secs(4);
/// Bytes of bodies that are copied out of the store at one time.
const PAGE_BYTES: usize = 1 << 20;

/// Why the relay could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The event store or its search index could not be opened.
    #[error("cannot open the relay's event store in {}", dir.display())]
    Store {
        /// The folder.
        dir: std::path::PathBuf,
        /// The reason.
        #[source]
        reason: StoreError,
    },
}

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientAddr {
    /// The client's address, after a trusted proxy has named it.
    pub ip: IpAddr,
    /// Whether the connection came through a proxy.
    pub proxied: bool,
}

impl ClientAddr {
    /// Says whether the client is a program on this machine.
    pub(crate) fn is_local(&self) -> bool {
        !self.proxied && self.ip.to_canonical().is_loopback()
    }
}

/// The embedded relay. Cheap to clone.
#[derive(Clone)]
pub struct Server {
    shared: Arc<Shared>,
}

/// What all sessions share.
pub(crate) struct Shared {
    pub(crate) config: ServerConfig,
    pub(crate) store: Store,
    pub(crate) counters: Counters,
    people: RwLock<Arc<BTreeSet<PublicKey>>>,
    accepting_strangers: AtomicBool,
    disk_has_room: AtomicBool,
    addresses: Arc<Addresses>,
    sessions: TaskTracker,
    cancel: CancellationToken,
    /// Items held by all reconciliations.
    pub(crate) reconciling: AtomicUsize,
}

impl Shared {
    /// The owner and who else is allowed.
    pub(crate) fn people(&self) -> Arc<BTreeSet<PublicKey>> {
        Arc::clone(&self.people.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Says whether there is room for strangers' events.
    pub(crate) fn takes_strangers(&self) -> bool {
        self.accepting_strangers.load(Ordering::Relaxed) && self.disk_has_room.load(Ordering::Relaxed)
    }
}

impl Server {
    /// Opens the store and starts the relay's housekeeping in `tracker`. When `cancel` is cancelled, sessions are closed
    /// and the writer ends after what was queued. Must be called in a tokio runtime.
    ///
    /// # Errors
    ///
    /// [`OpenError`] when the store cannot be opened.
    #[allow(clippy::needless_pass_by_value)]
    pub fn open(
        config: ServerConfig,
        people: BTreeSet<PublicKey>,
        tracker: &TaskTracker,
        cancel: CancellationToken,
    ) -> Result<Self, OpenError> {
        let rules = Rules {
            mailbox_bytes: config.limits.mailbox_bytes,
            stranger_bytes: config.max_bytes,
            stranger_age_s: u64::from(config.retention_days) * 86_400,
            names: own_names(&config),
        };
        let store = Store::open(&config.dir, rules, MAP_BYTES)
            .map_err(|reason| OpenError::Store { dir: config.dir.clone(), reason })?;
        let limits = &config.limits;
        let addresses = Addresses::new(Rates {
            connections: limits.connections_per_address,
            events_burst: limits.events_burst,
            events_per_s: limits.events_per_s,
            requests_burst: limits.requests_burst,
            requests_per_s: limits.requests_per_s,
        });
        let shared = Arc::new(Shared {
            config,
            store,
            counters: Counters::default(),
            people: RwLock::new(Arc::new(people)),
            accepting_strangers: AtomicBool::new(true),
            disk_has_room: AtomicBool::new(true),
            addresses,
            sessions: TaskTracker::new(),
            cancel: cancel.child_token(),
            reconciling: AtomicUsize::new(0),
        });
        tracker.spawn(keep_house(Arc::clone(&shared)));
        Ok(Self { shared })
    }

    /// Sets who beside the node may receive gift wraps here and is no stranger: owner, allowed people, members.
    pub fn set_people(&self, people: BTreeSet<PublicKey>) {
        *self.shared.people.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(people);
    }

    /// Says whether strangers' events are taken; they are answered `error:` otherwise.
    pub fn set_accepting_strangers(&self, accepting: bool) {
        self.shared.accepting_strangers.store(accepting, Ordering::Relaxed);
    }

    /// Answers a WebSocket upgrade: 101 and a session, 503 when there are too many connections, 429 when this address has
    /// too many. `local` is the address at which the TCP connection came in; NIP-42 checks it.
    #[allow(clippy::unused_async)]
    pub async fn websocket(
        &self,
        upgrade: WebSocketUpgrade,
        client: ClientAddr,
        local: Option<SocketAddr>,
    ) -> Response {
        let shared = &self.shared;
        let Some(slot) = Slot::take(shared) else {
            return (StatusCode::SERVICE_UNAVAILABLE, "too many connections\n").into_response();
        };
        let Some(address) = shared.addresses.connect(client.ip, Instant::now()) else {
            shared.counters.connections_refused.add();
            return (StatusCode::TOO_MANY_REQUESTS, "too many connections from this address\n").into_response();
        };
        let place = auth::Place { public_url: shared.config.public_url.clone(), local, loopback: client.is_local() };
        let bytes = shared.config.limits.message_bytes;
        let token = shared.sessions.token();
        let shared = Arc::clone(shared);
        upgrade.max_message_size(bytes).max_frame_size(bytes).on_upgrade(move |socket| async move {
            let (_token, _slot) = (token, slot);
            if let Some(session) = Session::new(shared, socket, address, client, place) {
                Box::pin(session.run()).await;
            }
        })
    }

    /// Gives the relay information document (NIP-11).
    pub fn information(&self) -> serde_json::Value {
        information::document(&self.shared.config)
    }

    /// Stores an event of the node itself, without the policies for clients; it is on disk when this returns. The
    /// signature is not checked.
    ///
    /// # Errors
    ///
    /// [`StoreError::Write`] when the disk does not take it, [`StoreError::Closed`] after the end.
    pub async fn publish(&self, event: Event) -> Result<PublishOutcome, StoreError> {
        let class = match event.kind.as_u16() {
            kind if is_wrap(kind) => Class::Mail,
            // Answers to jobs are as short-lived as the requests that they answer: strangers decide how many there are.
            5000..=7000 => Class::Stranger,
            _ => Class::Own,
        };
        self.shared.store.put(Note::from_event(event), class, true).await
    }

    /// Answers filters, gift wraps included: newest first and each event once, or best first for a `search`. A filter
    /// without `limit` gives everything.
    ///
    /// # Errors
    ///
    /// [`StoreError::TooBroad`], [`StoreError::Read`] or [`StoreError::Search`].
    pub async fn query(&self, filters: Vec<Filter>) -> Result<Vec<Event>, StoreError> {
        let queries = filters.iter().map(Query::from).collect();
        let store = self.shared.store.clone();
        let selection = store.select(Arc::new(queries), Sight::All).await?;
        store
            .clone()
            .long(move || {
                let mut events = Vec::with_capacity(selection.hits.len());
                store.load(&selection.hits, usize::MAX, |json| events.extend(Event::from_json(json)))?;
                Ok(events)
            })
            .await
    }

    /// Follows the stored events after a sequence number (0: from the first), in order and without a gap.
    pub fn follow(&self, after: u64) -> Follower {
        self.shared.store.follow(after)
    }

    /// Gives the newest sequence number.
    pub fn last_sequence(&self) -> u64 {
        self.shared.store.last_sequence()
    }

    /// Gives the counters.
    pub fn stats(&self) -> Stats {
        let counters = &self.shared.counters;
        let store = self.shared.store.stats();
        Stats {
            connections: counters.connections.get(),
            connections_refused: counters.connections_refused.get(),
            cut_off: counters.cut_off.get(),
            subscriptions: counters.subscriptions.get(),
            requests: counters.requests.get(),
            stored: counters.stored.get(),
            broadcast: counters.broadcast.get(),
            duplicate: counters.duplicate.get(),
            replaced: counters.replaced.get(),
            invalid: counters.invalid.get(),
            refused: counters.refused.get(),
            rate_limited: counters.rate_limited.get(),
            failed: counters.failed.get(),
            events: store.events,
            bytes: store.bytes,
            stranger_bytes: store.stranger_bytes,
        }
    }

    /// Begins the end, as cancelling does: sessions are closed, the writer finishes. The tracker given to
    /// [`Server::open`] knows when it is done.
    pub fn close(&self) {
        self.shared.cancel.cancel();
    }
}

/// One of the connections that may be open at one time; given back when dropped.
struct Slot {
    shared: Arc<Shared>,
}

impl Slot {
    fn take(shared: &Arc<Shared>) -> Option<Self> {
        shared.counters.connections.add();
        let slot = Self { shared: Arc::clone(shared) };
        let full = shared.counters.connections.get() > shared.config.max_connections as u64;
        if full || shared.cancel.is_cancelled() {
            shared.counters.connections_refused.add();
            return None;
        }
        Some(slot)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.shared.counters.connections.sub();
    }
}

async fn keep_house(shared: Arc<Shared>) {
    let mut ticks = tokio::time::interval(HOUSEKEEPING);
    loop {
        tokio::select! {
            () = shared.cancel.cancelled() => break,
            _ = ticks.tick() => {}
        }
        shared.addresses.forget_idle(Instant::now());
        look_at_disk(&shared);
        shared.store.purge().await;
    }
    shared.sessions.close();
    if tokio::time::timeout(FAREWELL, shared.sessions.wait()).await.is_err() {
        tracing::warn!("some relay sessions did not end in time");
    }
    shared.store.close().await;
}

/// Stops taking strangers' events before the disk is full.
fn look_at_disk(shared: &Shared) {
    let Ok(disk) = rustix::fs::statvfs(&shared.config.dir) else { return };
    let has_room = disk.f_bavail.saturating_mul(disk.f_frsize) >= shared.config.free_bytes_reserve;
    if shared.disk_has_room.swap(has_room, Ordering::Relaxed) != has_room {
        tracing::warn!(has_room, "the relay's disk: strangers' events are taken only while there is room");
    }
}

/// The addresses by which a request to vanish may name this relay.
fn own_names(config: &ServerConfig) -> Vec<Url> {
    let listen = config.listen.iter().flat_map(|address| {
        let local = address.ip().is_loopback() || address.ip().is_unspecified();
        let alias = local.then(|| format!("ws://localhost:{}", address.port()));
        let ip = if address.ip().is_unspecified() { "127.0.0.1".to_owned() } else { host_of(address.ip()) };
        std::iter::once(format!("ws://{ip}:{}", address.port())).chain(alias)
    });
    config.public_url.iter().cloned().chain(listen.filter_map(|url| Url::parse(&url).ok())).collect()
}

fn host_of(ip: IpAddr) -> String {
    if ip.is_ipv6() { format!("[{ip}]") } else { ip.to_string() }
}
