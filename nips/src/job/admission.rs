//! Whether this node takes a request. Pure: what the node knows about itself and the customer comes in as a [`Standing`].

use nostr::PublicKey;
use serde::{Deserialize, Serialize};

use super::JobRequest;

/// How far ahead of our clock a request may be dated, seconds.
pub const MAX_FUTURE_S: u64 = 15 * 60;

/// What the node knows at the moment a request comes in.
#[derive(Debug, Clone)]
pub struct Standing<'a> {
    /// The node's passport.
    pub node: &'a PublicKey,
    /// Unix seconds.
    pub now: u64,
    /// Requests older than this are not answered: the later of the journal's first start and `catch_up_h` ago.
    pub not_before: u64,
    /// Kinds that this node can really do now.
    pub offered: bool,
    /// False while the job doors are shut (another install speaks for this passport, or `[dvm] enabled = false`).
    pub open: bool,
    /// Jobs waiting, against `max_queued`.
    pub queue_full: bool,
    /// The customer is over `jobs_per_author_per_min`.
    pub over_rate: bool,
    /// The customer already took the request back (kind 5 that came first).
    pub cancelled: bool,
}

/// What becomes of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    /// It is worked on.
    Accept,
    /// Nothing is said and nothing is kept: it is not for us, or nobody waits for a word from us.
    Ignore,
    /// It is refused, and the customer is told.
    Refuse {
        /// Words for the customer.
        reason: String,
    },
    /// It was taken back before it came.
    Cancelled,
    /// It has expired or is too old.
    Expired,
}

/// Decides on `request`. A request that names others only is left alone; a broadcast that cannot be served gets silence, a
/// request that names this node gets one `error` (DESIGN §4).
pub fn admit(request: &JobRequest, standing: &Standing<'_>) -> Verdict {
    let named = request.names(standing.node);
    if !standing.open || (!request.providers.is_empty() && !named) {
        return Verdict::Ignore;
    }
    if request.customer == *standing.node {
        return Verdict::Ignore;
    }
    if standing.cancelled {
        return Verdict::Cancelled;
    }
    if request.expires_at.is_some_and(|at| at <= standing.now) || request.created_at < standing.not_before {
        return Verdict::Expired;
    }
    let refusal = if request.created_at > standing.now + MAX_FUTURE_S {
        "the request is dated in the future; check your clock"
    } else if !standing.offered {
        "this kind is not offered here now; see this node's kind 31990"
    } else if standing.over_rate {
        "too many jobs from you in this minute; try again later"
    } else if standing.queue_full {
        "busy: the queue is full; try again later"
    } else {
        return Verdict::Accept;
    };
    if named { Verdict::Refuse { reason: refusal.to_owned() } } else { Verdict::Ignore }
}
