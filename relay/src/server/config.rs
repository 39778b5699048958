//! What the owner decides about the embedded relay, and the limits it shows in NIP-11.

use std::net::SocketAddr;
use std::path::PathBuf;

use nostr::PublicKey;
use url::Url;

/// What is asked of a connection before it may read (NIP-42).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AuthPolicy {
    /// Nothing: gift wraps too are given to everybody.
    None,
    /// Gift wraps (kind 1059) go only to the key they are for.
    #[default]
    Dm,
    /// Every request and every event needs an authenticated key.
    All,
}

/// Whose events are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WritePolicy {
    /// Anybody's, within the limits.
    #[default]
    Open,
    /// Those of the node and its people; of others only gift wraps to them, job requests (5000–5999), deletions and
    /// requests to vanish.
    Members,
}

/// How the embedded relay is set up.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// The folder that holds the event store and the search index.
    pub dir: PathBuf,
    /// The node's own key: its events are kept, and gift wraps to it are taken.
    pub node: PublicKey,
    /// NIP-11 `name`.
    pub name: String,
    /// NIP-11 `description`.
    pub description: String,
    /// NIP-11 `contact`, when the owner gave one.
    pub contact: Option<String>,
    /// NIP-11 `pubkey`: the owner, when there is one.
    pub owner: Option<PublicKey>,
    /// How others reach the relay; NIP-42 checks it.
    pub public_url: Option<Url>,
    /// The addresses that are listened on, for requests to vanish that name them.
    pub listen: Vec<SocketAddr>,
    /// Bytes of strangers' events that are kept.
    pub max_bytes: u64,
    /// WebSocket connections at one time.
    pub max_connections: usize,
    /// Who may read what.
    pub auth: AuthPolicy,
    /// Who may write.
    pub write: WritePolicy,
    /// Days for which strangers' events are kept.
    pub retention_days: u32,
    /// Limits of one client.
    pub limits: Limits,
    /// Bytes that must stay free on the disk; below, strangers' events are refused.
    pub free_bytes_reserve: u64,
}

impl ServerConfig {
    /// Makes a configuration with the defaults of the reference page, for a folder and a key.
    pub fn new(dir: PathBuf, node: PublicKey) -> Self {
        Self {
            dir,
            node,
            name: "timmy".to_owned(),
            description: "The relay of a Timmy node".to_owned(),
            contact: None,
            owner: None,
            public_url: None,
            listen: Vec::new(),
            max_bytes: 2_000_000_000,
            max_connections: 1_024,
            auth: AuthPolicy::default(),
            write: WritePolicy::default(),
            retention_days: 30,
            limits: Limits::default(),
            free_bytes_reserve: 512 << 20,
        }
    }
}

/// Limits of one client; NIP-11 shows them under `limitation`.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of one message.
    pub message_bytes: usize,
    /// Bytes of an event's content.
    pub content_bytes: usize,
    /// Tags of an event.
    pub event_tags: usize,
    /// Subscriptions of one connection.
    pub subscriptions: usize,
    /// Characters of a subscription id.
    pub subscription_id_chars: usize,
    /// Filters of one request.
    pub filters: usize,
    /// The largest `limit`, and the one of a filter without.
    pub limit: usize,
    /// The `limit` of a filter that has none.
    pub default_limit: usize,
    /// How far in the future `created_at` may be, in seconds.
    pub future_s: u64,
    /// Connections of one address.
    pub connections_per_address: usize,
    /// Events a second of one address, in the long run.
    pub events_per_s: f64,
    /// Events of one address at once.
    pub events_burst: f64,
    /// Other requests a second of one address, in the long run.
    pub requests_per_s: f64,
    /// Other requests of one address at once.
    pub requests_burst: f64,
    /// Keys that one connection may authenticate.
    pub keys: usize,
    /// Bytes of gift wraps that are kept for one recipient.
    pub mailbox_bytes: u64,
    /// Reconciliations (NIP-77) that one connection may have open.
    pub reconciliations: usize,
    /// Events in one reconciliation.
    pub reconciliation_events: usize,
    /// How long a client may not read before it is cut off, in milliseconds.
    pub write_timeout_ms: u64,
    /// Between two pings, in milliseconds; a client that misses two is cut off.
    pub ping_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_bytes: 512 << 10,
            content_bytes: 256 << 10,
            event_tags: 2_500,
            subscriptions: 64,
            subscription_id_chars: 64,
            filters: 32,
            limit: 5_000,
            default_limit: 500,
            future_s: 900,
            connections_per_address: 256,
            events_per_s: 200.0,
            events_burst: 2_000.0,
            requests_per_s: 100.0,
            requests_burst: 1_000.0,
            keys: 16,
            mailbox_bytes: 256 << 20,
            reconciliations: 4,
            reconciliation_events: 200_000,
            write_timeout_ms: 10_000,
            ping_ms: 30_000,
        }
    }
}
