//! Counters of the embedded relay.

use std::sync::atomic::{AtomicU64, Ordering};

/// A count that only one kind of occurrence raises.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn sub(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn take(&self, count: u64) {
        self.0.fetch_sub(count, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The live counters.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) connections: Count,
    pub(crate) connections_refused: Count,
    pub(crate) cut_off: Count,
    pub(crate) subscriptions: Count,
    pub(crate) requests: Count,
    pub(crate) stored: Count,
    pub(crate) broadcast: Count,
    pub(crate) duplicate: Count,
    pub(crate) replaced: Count,
    pub(crate) invalid: Count,
    pub(crate) refused: Count,
    pub(crate) rate_limited: Count,
    pub(crate) failed: Count,
}

/// What the relay has done since it started, and what it holds now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Open WebSocket connections.
    pub connections: u64,
    /// Connections refused because there were too many.
    pub connections_refused: u64,
    /// Connections cut off because they did not read, answer pings or keep to the message size.
    pub cut_off: u64,
    /// Open subscriptions.
    pub subscriptions: u64,
    /// REQ, COUNT and NEG-OPEN messages.
    pub requests: u64,
    /// Events stored.
    pub stored: u64,
    /// Ephemeral events passed on.
    pub broadcast: u64,
    /// Events that were there already.
    pub duplicate: u64,
    /// Events older than what had taken their place.
    pub replaced: u64,
    /// Events with a wrong form, id or signature.
    pub invalid: u64,
    /// Events that a policy, a deletion or a quota keeps out.
    pub refused: u64,
    /// Events and requests over the rate.
    pub rate_limited: u64,
    /// Events that the disk did not take.
    pub failed: u64,
    /// Events on disk now.
    pub events: u64,
    /// Their bytes, estimated.
    pub bytes: u64,
    /// Of them, the strangers' bytes.
    pub stranger_bytes: u64,
}
