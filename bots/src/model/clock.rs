//! Time, passed in.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// What time it is. Tests pass their own.
pub trait Clock: Send + Sync {
    /// Time since some fixed moment; never goes back.
    fn monotonic(&self) -> Duration;
    /// Seconds since 1970 (UTC).
    fn unix_s(&self) -> u64;
    /// Days since 1970 (UTC): the day of a budget.
    fn unix_day(&self) -> u64 {
        self.unix_s() / 86_400
    }
}

/// The machine's clock.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock {
    start: Instant,
}

impl Default for SystemClock {
    fn default() -> Self {
        Self { start: Instant::now() }
    }
}

impl Clock for SystemClock {
    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }

    fn unix_s(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
    }
}
