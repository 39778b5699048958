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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn figures() -> impl Strategy<Value = Figures> {
        let number = prop_oneof![0u64..10_000, any::<u64>()];
        (any::<u32>(), any::<u32>(), number.clone(), number).prop_map(|(queued, slots, typical_ms, cost)| Figures {
            queued,
            slots,
            typical_ms,
            cost: Msat(cost),
        })
    }

    proptest! {
        #[test]
        fn more_to_do_never_costs_less(figures in figures(), queued in 0u32..100, ms in 0u64..100_000, cost in 0u64..1_000_000) {
            let more = Figures {
                queued: figures.queued.saturating_add(queued),
                typical_ms: figures.typical_ms.saturating_add(ms),
                cost: Msat(figures.cost.0.saturating_add(cost)),
                ..figures
            };
            prop_assert!(more.price() >= figures.price());
        }
    }

    #[test]
    fn a_queue_costs_as_many_rounds_as_it_takes() {
        let idle = Figures { queued: 0, slots: 2, typical_ms: 3_000, cost: Msat(10) };
        assert_eq!(idle.price(), Msat(3_010));
        assert_eq!(Figures { queued: 1, ..idle }.price(), Msat(3_010), "the other place is free");
        assert_eq!(Figures { queued: 4, ..idle }.price(), Msat(9_010));
    }
}
