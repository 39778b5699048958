//! How each relay is doing, for `timmy status` and the metrics.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use nostr::RelayUrl;

use super::Role;
use super::machine::Badness;

/// Where the connection to a relay stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Link {
    /// Dialling.
    #[default]
    Connecting,
    /// The WebSocket stands.
    Connected,
    /// The last try failed; the next one comes at this time (Unix seconds).
    Waiting {
        /// When it is tried again.
        retry_at_s: u64,
    },
}

/// A relay's state as the pool sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayState {
    /// Its address.
    pub url: RelayUrl,
    /// Configured or hinted.
    pub role: Role,
    /// Where the connection stands.
    pub link: Link,
    /// Why the last connection failed or ended.
    pub last_error: Option<String>,
    /// The last ping's round trip, in milliseconds.
    pub rtt_ms: Option<u64>,
    /// Since when it is connected, in Unix seconds.
    pub connected_since_s: Option<u64>,
    /// Connections made so far.
    pub connects: u64,
    /// Events handed over that this relay was first to send.
    pub events: u64,
    /// Copies of events that were known already.
    pub duplicates: u64,
    /// Events dropped: not parsable, too large, a wrong id or signature, or not asked for.
    pub bad_events: u64,
    /// Of the bad ones: not asked for.
    pub unasked_events: u64,
    /// Subscriptions that are caught up and live.
    pub live: Vec<String>,
    /// The relay's words about subscriptions that it closed; they are asked for again.
    pub refused: BTreeMap<String, String>,
}

/// One relay's state, shared between its task and whoever looks.
#[derive(Debug)]
pub(super) struct Health(Mutex<RelayState>);

impl Health {
    pub(super) fn new(url: RelayUrl, role: Role) -> Self {
        Self(Mutex::new(RelayState {
            url,
            role,
            link: Link::Connecting,
            last_error: None,
            rtt_ms: None,
            connected_since_s: None,
            connects: 0,
            events: 0,
            duplicates: 0,
            bad_events: 0,
            unasked_events: 0,
            live: Vec::new(),
            refused: BTreeMap::new(),
        }))
    }

    pub(super) fn update(&self, change: impl FnOnce(&mut RelayState)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub(super) fn get(&self) -> RelayState {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn count_bad(&self, badness: Badness) {
        self.update(|state| {
            state.bad_events += 1;
            state.unasked_events += u64::from(badness == Badness::Unasked);
        });
    }

    pub(super) fn connected(&self, now_s: u64) {
        self.update(|state| {
            state.link = Link::Connected;
            state.connected_since_s = Some(now_s);
            state.connects += 1;
        });
    }

    pub(super) fn waiting(&self, retry_at_s: u64, error: String) {
        self.update(|state| {
            state.link = Link::Waiting { retry_at_s };
            state.last_error = Some(error);
            state.connected_since_s = None;
            state.rtt_ms = None;
            state.live.clear();
        });
    }
}
