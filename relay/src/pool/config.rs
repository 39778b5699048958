//! What a pool is given, and its bounds.

use std::sync::Arc;
use std::time::Duration;

use nostr::NostrSigner;

use super::backoff::Backoff;
use super::guard::{DialPolicy, PublicOnly, Resolver, SystemResolver};
use super::machine::Bounds;
use super::subscription::Cursors;

/// What a pool needs from the daemon.
#[derive(Clone)]
pub struct PoolConfig {
    /// Answers challenges of relays (NIP-42).
    pub signer: Arc<dyn NostrSigner>,
    /// Keeps the last seen times.
    pub cursors: Arc<dyn Cursors>,
    /// Judges the addresses of hinted relays.
    pub policy: Arc<dyn DialPolicy>,
    /// Finds addresses.
    pub resolver: Arc<dyn Resolver>,
    /// The bounds.
    pub limits: Limits,
}

impl PoolConfig {
    /// Makes the usual configuration: public addresses only for hinted relays, the system's resolver, default bounds.
    pub fn new(signer: Arc<dyn NostrSigner>, cursors: Arc<dyn Cursors>) -> Self {
        let (policy, resolver) = (Arc::new(PublicOnly), Arc::new(SystemResolver));
        Self { signer, cursors, policy, resolver, limits: Limits::default() }
    }
}

impl std::fmt::Debug for PoolConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PoolConfig").field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// The bounds of a pool. Each default says why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Waiting times between connects.
    pub backoff: Backoff,
    /// For DNS, TCP, TLS and the WebSocket handshake together: 15 s, a slow phone line needs 5.
    pub connect_timeout: Duration,
    /// For one frame to leave: 15 s.
    pub send_timeout: Duration,
    /// Between two pings: 25 s, below the 30 s after which home routers forget a connection.
    pub ping_every: Duration,
    /// Pings without any answer after which a connection is dead: 2.
    pub pings_missed_max: u32,
    /// An AUTH that is not answered by then has failed: 30 s.
    pub auth_timeout: Duration,
    /// A page without a word for that long is asked for again: 30 s.
    pub page_timeout: Duration,
    /// After the first `rate-limited` CLOSED: 5 s.
    pub closed_retry_first: Duration,
    /// The longest wait before a closed subscription is asked again: 5 min.
    pub closed_retry_max: Duration,
    /// Between two checkpoints of a live connection: 5 s.
    pub checkpoint_every: Duration,
    /// How often a relay's task looks at its time-outs: 200 ms.
    pub tick: Duration,
    /// A hinted relay without work is closed after that: 60 s.
    pub idle_after: Duration,
    /// Hinted relays at a time: 32.
    pub hinted_max: usize,
    /// Events that wait for the daemon: 1024.
    pub incoming_queue: usize,
    /// Events of one relay that wait for a place in that queue before its socket is no longer read: 64.
    pub relay_queue: usize,
    /// Commands that wait for one relay: 64.
    pub command_queue: usize,
    /// Callers that one relay answers at a time: 256.
    pub waiting_max: usize,
    /// Ids remembered to drop copies: 100,000 (about 8 MB).
    pub seen_ids: usize,
    /// A larger event is dropped before it is parsed: 512 KiB, well above what relays take (64–256 KiB).
    pub event_bytes_max: usize,
    /// A larger frame ends the connection: 4 MiB.
    pub frame_bytes_max: usize,
    /// Pages of one catch-up of one filter: 1,000 (half a million events at the usual 500 a page). Above it the catch-up
    /// counts as done, so that a relay that invents events cannot hold a subscription back for ever.
    pub pages_max: u32,
    /// Bad events after which a connection is ended, when they outnumber the good: 200.
    pub bad_events_max: u64,
    /// Events in the answer to one fetch: 5,000.
    pub fetch_events_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            backoff: Backoff::default(),
            connect_timeout: seconds(15),
            send_timeout: seconds(15),
            ping_every: seconds(25),
            pings_missed_max: 2,
            auth_timeout: seconds(30),
            page_timeout: seconds(30),
            closed_retry_first: seconds(5),
            closed_retry_max: seconds(300),
            checkpoint_every: seconds(5),
            tick: Duration::from_millis(200),
            idle_after: seconds(60),
            hinted_max: 32,
            incoming_queue: 1024,
            relay_queue: 64,
            command_queue: 64,
            waiting_max: 256,
            seen_ids: 100_000,
            event_bytes_max: 512 * 1024,
            frame_bytes_max: 4 * 1024 * 1024,
            pages_max: 1_000,
            bad_events_max: 200,
            fetch_events_max: 5_000,
        }
    }
}

impl Limits {
    pub(super) fn bounds(&self) -> Bounds {
        Bounds {
            event_bytes_max: self.event_bytes_max,
            pages_max: self.pages_max,
            page_timeout: self.page_timeout,
            auth_timeout: self.auth_timeout,
            closed_retry_first: self.closed_retry_first,
            closed_retry_max: self.closed_retry_max,
            bad_events_max: self.bad_events_max,
            fetch_events_max: self.fetch_events_max,
        }
    }
}
