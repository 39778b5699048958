//! How busy this node is, and how long its work takes: the figures behind its bids.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What a job is thought to take before one was measured, ms.
const UNMEASURED_MS: f64 = 1_000.0;
/// The weight of the newest measurement.
const NEWEST: f64 = 0.2;

/// Measured times by kind, and the length of the queues. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Pace(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    typical_ms: Mutex<BTreeMap<u16, f64>>,
    /// Jobs of this node's own doors that wait or run.
    desk: AtomicU32,
    /// Tasks of sister nodes that wait or run.
    hands: AtomicU32,
}

impl Pace {
    /// A job of this kind took so long.
    pub fn took(&self, kind: u16, time: Duration) {
        let mut all = self.0.typical_ms.lock().unwrap_or_else(PoisonError::into_inner);
        let ms = time.as_secs_f64() * 1_000.0;
        let typical = all.entry(kind).or_insert(ms);
        *typical += (ms - *typical) * NEWEST;
    }

    /// What a job of this kind takes here, ms; at least one.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub fn typical_ms(&self, kind: u16) -> u64 {
        let all = self.0.typical_ms.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(&kind).copied().unwrap_or(UNMEASURED_MS).ceil().max(1.0) as u64
    }

    /// So many jobs of this node's own doors wait or run.
    pub fn set_desk(&self, count: usize) {
        self.0.desk.store(u32::try_from(count).unwrap_or(u32::MAX), Ordering::Relaxed);
    }

    /// So many tasks of sister nodes wait or run.
    pub fn set_hands(&self, count: usize) {
        self.0.hands.store(u32::try_from(count).unwrap_or(u32::MAX), Ordering::Relaxed);
    }

    /// Everything that waits or runs here.
    pub fn queued(&self) -> u32 {
        self.0.desk.load(Ordering::Relaxed).saturating_add(self.0.hands.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_measured_moves_the_figure_and_kinds_do_not_mix() {
        let pace = Pace::default();
        assert_eq!(pace.typical_ms(5050), 1_000);
        pace.took(5050, Duration::from_millis(200));
        assert_eq!(pace.typical_ms(5050), 200, "the first measurement counts whole");
        pace.took(5050, Duration::from_millis(700));
        assert_eq!(pace.typical_ms(5050), 300);
        assert_eq!(pace.typical_ms(5000), 1_000);
        pace.took(5000, Duration::ZERO);
        assert_eq!(pace.typical_ms(5000), 1, "nothing is free");
        pace.set_desk(3);
        pace.set_hands(2);
        assert_eq!(pace.queued(), 5);
    }
}
