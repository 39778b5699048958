//! How long to wait before the next try: exponential, with jitter, bounded.

use std::time::Duration;

/// The waiting times between two connects to one relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// Before the second try.
    pub first: Duration,
    /// Never longer than this.
    pub max: Duration,
    /// A connection that lived this long makes the next wait start at `first` again.
    pub healthy_after: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { first: Duration::from_secs(1), max: Duration::from_secs(300), healthy_after: Duration::from_secs(60) }
    }
}

impl Backoff {
    /// Gives the wait after `failures` failures in a row (from 1 up). `jitter` in 0..1 spreads it over the upper half, so that
    /// a thousand clients of one relay do not come back in the same second.
    pub fn wait(&self, failures: u32, jitter: f64) -> Duration {
        exponential(self.first, self.max, failures, jitter)
    }
}

/// Doubles `first` with each failure after the first one up to `max`, then takes between half and all of it.
pub(crate) fn exponential(first: Duration, max: Duration, failures: u32, jitter: f64) -> Duration {
    let doubled = first.saturating_mul(1u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX));
    let whole = if failures > 31 { max } else { doubled.min(max) };
    whole.mul_f64(0.5 + 0.5 * jitter.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_the_limit() {
        let b = Backoff::default();
        assert_eq!(b.wait(1, 1.0), Duration::from_secs(1));
        assert_eq!(b.wait(3, 1.0), Duration::from_secs(4));
        assert_eq!(b.wait(3, 0.0), Duration::from_secs(2));
        for n in [9, 10, 31, 32, 33, 64, u32::MAX] {
            assert_eq!(b.wait(n, 1.0), Duration::from_secs(if n == 9 { 256 } else { 300 }), "{n}");
        }
    }
}
