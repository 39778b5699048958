//! What strangers may spend: tokens a UTC day and model, of all strangers together.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Counts the tokens of strangers. The daemon keeps it in its journal, so that a restart gives nobody a second helping.
pub trait Budget: Send + Sync {
    /// Takes `tokens` of `model`'s `limit` for `day` (days since 1970, UTC) if so many are left. False: nothing was taken.
    fn reserve(&self, model: &str, day: u64, tokens: u64, limit: u64) -> bool;
    /// Replaces a reservation of `reserved` tokens by the `used` ones.
    fn settle(&self, model: &str, day: u64, reserved: u64, used: u64);
    /// The tokens taken on `day` so far.
    fn used(&self, model: &str, day: u64) -> u64;
}

/// A budget that forgets at exit. Keeps the newest day only.
#[derive(Debug, Default)]
pub struct MemoryBudget {
    used: Mutex<BTreeMap<String, (u64, u64)>>,
}

impl MemoryBudget {
    fn with<T>(&self, model: &str, day: u64, act: impl FnOnce(&mut u64) -> T) -> T {
        let mut map = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = map.entry(model.to_owned()).or_insert((day, 0));
        // A day that is over: a late settlement no longer counts, and nothing more can be taken from it.
        if day < entry.0 {
            return act(&mut { u64::MAX });
        }
        if day > entry.0 {
            *entry = (day, 0);
        }
        act(&mut entry.1)
    }
}

impl Budget for MemoryBudget {
    fn reserve(&self, model: &str, day: u64, tokens: u64, limit: u64) -> bool {
        self.with(model, day, |used| {
            let after = used.saturating_add(tokens);
            let fits = after <= limit;
            if fits {
                *used = after;
            }
            fits
        })
    }

    fn settle(&self, model: &str, day: u64, reserved: u64, now_used: u64) {
        self.with(model, day, |used| *used = used.saturating_sub(reserved).saturating_add(now_used));
    }

    fn used(&self, model: &str, day: u64) -> u64 {
        self.with(model, day, |used| *used)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reservations_never_pass_the_limit_and_days_are_apart() {
        let b = MemoryBudget::default();
        assert!(b.reserve("m", 1, 60, 100));
        assert!(!b.reserve("m", 1, 60, 100));
        b.settle("m", 1, 60, 10);
        assert_eq!(b.used("m", 1), 10);
        assert!(b.reserve("m", 1, 90, 100));
        assert!(b.reserve("m", 2, 100, 100), "a new day");
        b.settle("m", 1, 90, 90);
        assert_eq!(b.used("m", 2), 100, "yesterday's settlement changes nothing today");
        assert!(b.reserve("other", 2, 100, 100));
    }
}
