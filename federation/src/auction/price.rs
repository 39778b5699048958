//! What a bidder asks: from figures that were measured, never from a guess.

use nips::Msat;
use serde::{Deserialize, Serialize};

/// What a second of waiting counts, msat: makes "when" and "how much" one number. One satoshi a second, so that a queue of a minute
/// weighs as much as a small model call on a paid service.
pub const MSAT_PER_WAITED_S: u64 = 1_000;

/// What a node knows about itself when it is asked to bid. It says nothing (`None` in its place) when it cannot do the work: no such
/// worker, no model that may serve this audience, no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Figures {
    /// Tasks that wait or run here.
    pub queued: u32,
    /// Tasks that run at once.
    pub slots: u32,
    /// Measured time of such a task here, ms.
    pub typical_ms: u64,
    /// What it costs this node beside time: a paid model, energy.
    pub cost: Msat,
}

impl Figures {
    /// When it would be done, ms from now: the rounds before it and its own.
    pub fn expected_ms(&self) -> u64 {
        let rounds = u64::from(self.queued / self.slots.max(1)).saturating_add(1);
        self.typical_ms.saturating_mul(rounds)
    }

    /// The price: cost and waiting. More of anything never makes it lower.
    pub fn price(&self) -> Msat {
        let waiting = self.expected_ms().saturating_mul(MSAT_PER_WAITED_S) / 1_000;
        Msat(self.cost.0.saturating_add(waiting))
    }
}
