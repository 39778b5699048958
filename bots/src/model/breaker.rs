//! A circuit breaker: after three failures in a row a model rests for 30 s, then one call may try it; each failed try
//! doubles the rest, up to ten minutes. Pure: time is an argument.

use std::time::Duration;

/// Failures in a row that open the breaker.
const FAILURES_MAX: u32 = 3;
/// The first rest.
const REST_MIN: Duration = Duration::from_secs(30);
/// The longest rest.
const REST_MAX: Duration = Duration::from_secs(600);

/// What a breaker says about its model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerState {
    /// Calls pass.
    Closed,
    /// Calls are refused until this moment of the clock.
    Open {
        /// When a call may try again.
        until: Duration,
    },
    /// One call is trying; others are refused until it ends.
    HalfOpen,
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Breaker {
    state: BreakerState,
    failures: u32,
    rest: Duration,
}

impl Default for Breaker {
    fn default() -> Self {
        Self { state: BreakerState::Closed, failures: 0, rest: REST_MIN }
    }
}

impl Breaker {
    /// The state as it is.
    pub fn state(&self) -> BreakerState {
        self.state
    }

    /// True when a call at `now` would pass. Changes nothing.
    pub fn would_pass(&self, now: Duration) -> bool {
        match self.state {
            BreakerState::Closed => true,
            BreakerState::Open { until } => now >= until,
            BreakerState::HalfOpen => false,
        }
    }

    /// Lets a call pass or not. A call that passed must end in one of the three `on_…`.
    pub fn try_pass(&mut self, now: Duration) -> bool {
        let passes = self.would_pass(now);
        if passes && self.state != BreakerState::Closed {
            self.state = BreakerState::HalfOpen;
        }
        passes
    }

    /// The call ended well.
    pub fn on_success(&mut self) {
        *self = Self::default();
    }

    /// The call failed at `now`.
    pub fn on_failure(&mut self, now: Duration) {
        self.failures = self.failures.saturating_add(1);
        match self.state {
            BreakerState::Closed if self.failures < FAILURES_MAX => {}
            BreakerState::Closed => self.state = BreakerState::Open { until: now + self.rest },
            BreakerState::HalfOpen => {
                self.rest = (self.rest * 2).min(REST_MAX);
                self.state = BreakerState::Open { until: now + self.rest };
            }
            // A call that began before the breaker opened.
            BreakerState::Open { .. } => {}
        }
    }

    /// The call ended without saying anything about the model (cancelled, or its request was at fault): the next call
    /// may try at once.
    pub fn on_nothing(&mut self, now: Duration) {
        if self.state == BreakerState::HalfOpen {
            self.state = BreakerState::Open { until: now };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn opened() -> Breaker {
        let mut b = Breaker::default();
        for _ in 0..3 {
            assert!(b.try_pass(s(0)));
            b.on_failure(s(0));
        }
        b
    }

    #[test]
    fn opens_after_three_and_lets_one_try_after_thirty_seconds() {
        let mut b = opened();
        assert!(!b.try_pass(s(29)));
        assert!(b.try_pass(s(30)));
        assert!(!b.try_pass(s(30)), "only one call tries");
        b.on_success();
        assert_eq!(b.state(), BreakerState::Closed);
    }

    #[test]
    fn the_rest_doubles_up_to_ten_minutes() {
        let mut b = opened();
        let mut now = s(30);
        for rest in [60, 120, 240, 480, 600, 600] {
            assert!(b.try_pass(now));
            b.on_failure(now);
            assert!(!b.would_pass(now + s(rest - 1)));
            now += s(rest);
            assert!(b.would_pass(now));
        }
    }

    #[test]
    fn a_success_between_failures_forgives_them() {
        let mut b = Breaker::default();
        for _ in 0..5 {
            b.on_failure(s(0));
            b.on_failure(s(0));
            b.on_success();
        }
        assert!(b.would_pass(s(0)));
    }

    #[test]
    fn a_cancelled_try_does_not_block_the_next() {
        let mut b = opened();
        assert!(b.try_pass(s(31)));
        b.on_nothing(s(31));
        assert!(b.try_pass(s(31)));
    }
}
