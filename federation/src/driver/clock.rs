//! Time that goes on while the machine sleeps (CLOCK_BOOTTIME): leases count by it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// The kernel's figure has hundredths; what differs by less is the same.
const SAME_MS: u64 = 50;

/// Milliseconds of CLOCK_BOOTTIME. Linux tells them in `/proc/uptime`; elsewhere, time of sleep is not counted.
#[derive(Debug)]
pub struct BootClock {
    began: Instant,
    /// What is added to the time since `began`; grows by each sleep.
    ahead_ms: AtomicU64,
}

impl Default for BootClock {
    fn default() -> Self {
        Self { began: Instant::now(), ahead_ms: AtomicU64::new(uptime_ms().unwrap_or_default()) }
    }
}

impl BootClock {
    /// Now, in ms since the machine was started.
    pub fn now_ms(&self) -> u64 {
        let since = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let ahead = self.ahead_ms.load(Ordering::Relaxed);
        let told = uptime_ms().unwrap_or_default();
        if told > since.saturating_add(ahead).saturating_add(SAME_MS) {
            self.ahead_ms.fetch_max(told - since, Ordering::Relaxed);
        }
        since.saturating_add(self.ahead_ms.load(Ordering::Relaxed))
    }
}

fn uptime_ms() -> Option<u64> {
    read(&std::fs::read_to_string("/proc/uptime").ok()?)
}

/// The first number of `/proc/uptime`, seconds with two decimals.
fn read(text: &str) -> Option<u64> {
    let (seconds, hundredths) = text.split_whitespace().next()?.split_once('.')?;
    let hundredths: u64 = hundredths.get(..2)?.parse().ok()?;
    Some(seconds.parse::<u64>().ok()?.saturating_mul(1_000).saturating_add(hundredths * 10))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uptime_is_read_and_nonsense_is_not() {
        assert_eq!(read("34521.07 60000.11\n"), Some(34_521_070));
        for bad in ["", "x.yy", "12", "12.", "12.3"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn it_never_goes_back_and_catches_up_with_a_sleep() {
        let clock = BootClock { began: Instant::now(), ahead_ms: AtomicU64::new(0) };
        let first = clock.now_ms();
        assert!(first + 1_000 >= uptime_ms().unwrap_or_default(), "{first}");
        assert!(clock.now_ms() >= first);
    }
}
