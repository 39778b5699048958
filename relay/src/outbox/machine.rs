//! What follows from a relay's answer: the outbox's decision, free of I/O.
//!
//! ```text
//!              accepted, duplicate, replaced ─► done
//!  pending ──► invalid, blocked, pow, restricted, unsupported, mute ─► refused
//!     ▲        past the deadline ─► expired
//!     └─────── anything else: later, 2 s … 1 h (no connection: … 5 min)
//! ```

use std::time::Duration;

use crate::pool::{PublishReply, exponential};

/// Before the second try.
const FIRST: Duration = Duration::from_secs(2);

/// The longest wait after a refusal that may pass (`rate-limited`, `error`, `auth-required`).
const REFUSED_MAX: Duration = Duration::from_secs(3600);

/// The longest wait for a relay that cannot be reached: asking the pool costs next to nothing, and the result should leave
/// soon after the relay is back.
const UNREACHABLE_MAX: Duration = Duration::from_secs(300);

/// How an entry ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The relay has it.
    Done,
    /// The relay will never take it.
    Refused {
        /// Its words.
        message: String,
    },
    /// The deadline passed without either.
    Expired,
}

/// What becomes of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// It is over.
    Settled(Outcome),
    /// Once more.
    Retry {
        /// When, in Unix seconds.
        at_s: u64,
        /// Tries so far, this one included.
        attempts: u32,
        /// Why.
        message: String,
    },
}

/// Decides after a try. `attempts` is their number before this one, `now_s` and `deadline_s` are Unix seconds, `jitter` is in
/// 0..1.
pub fn after(reply: PublishReply, attempts: u32, deadline_s: u64, now_s: u64, jitter: f64) -> Next {
    let (message, max) = match reply {
        PublishReply::Accepted => return Next::Settled(Outcome::Done),
        PublishReply::Refused { permanent: true, message } => return Next::Settled(Outcome::Refused { message }),
        PublishReply::Refused { permanent: false, message } => (message, REFUSED_MAX),
        PublishReply::Unreachable { message } => (message, UNREACHABLE_MAX),
    };
    if now_s >= deadline_s {
        return Next::Settled(Outcome::Expired);
    }
    let attempts = attempts.saturating_add(1);
    let wait_s = exponential(FIRST, max, attempts, jitter).as_secs().max(1);
    Next::Retry { at_s: now_s.saturating_add(wait_s).min(deadline_s), attempts, message }
}

/// Decides before a try: an entry past its deadline is not sent any more.
pub fn expired(deadline_s: u64, now_s: u64) -> bool {
    now_s >= deadline_s
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::pool::classify;

    fn unreachable() -> PublishReply {
        PublishReply::Unreachable { message: "down".into() }
    }

    #[test]
    fn answers_that_end_it() {
        for (status, message) in [(true, ""), (false, "duplicate: have it"), (false, "replaced: newer")] {
            assert_eq!(after(classify(status, message), 0, 100, 1, 0.5), Next::Settled(Outcome::Done), "{message}");
        }
        for message in ["invalid: x", "blocked: x", "pow: x", "restricted: x"] {
            let next = after(classify(false, message), 0, 100, 1, 0.5);
            assert_eq!(next, Next::Settled(Outcome::Refused { message: message.into() }));
        }
    }

    #[test]
    fn answers_that_do_not() {
        for message in ["rate-limited: x", "error: x", "auth-required: x", "strange"] {
            let next = after(classify(false, message), 0, 100, 1, 1.0);
            assert_eq!(next, Next::Retry { at_s: 3, attempts: 1, message: message.into() });
        }
    }

    #[test]
    fn waits_grow_to_their_limits() {
        let wait = |reply, attempts| match after(reply, attempts, u64::MAX, 0, 1.0) {
            Next::Retry { at_s, .. } => at_s,
            Next::Settled(_) => 0,
        };
        assert_eq!((wait(unreachable(), 2), wait(unreachable(), 40)), (8, 300));
        assert_eq!(wait(classify(false, "error: disk"), 40), 3600);
    }

    #[test]
    fn the_deadline_ends_it_unless_it_worked() {
        assert_eq!(after(unreachable(), 3, 100, 100, 0.0), Next::Settled(Outcome::Expired));
        assert_eq!(after(PublishReply::Accepted, 3, 100, 200, 0.0), Next::Settled(Outcome::Done));
    }

    proptest! {
        /// Total, never in the past, never beyond the deadline; and it always ends.
        #[test]
        fn every_entry_ends(jitters in prop::collection::vec(0.0f64..1.0, 1..50), span in 1u64..100_000, start in 0u64..1 << 40) {
            let deadline = start + span;
            let (mut now, mut attempts, mut tries) = (start, 0, 0u64);
            for jitter in jitters.iter().cycle() {
                tries += 1;
                prop_assert!(tries <= span + 2);
                match after(unreachable(), attempts, deadline, now, *jitter) {
                    Next::Settled(outcome) => { prop_assert_eq!(outcome, Outcome::Expired); break; }
                    Next::Retry { at_s, attempts: n, .. } => {
                        prop_assert!(at_s > now && at_s <= deadline && n == attempts + 1);
                        (now, attempts) = (at_s, n);
                    }
                }
            }
        }
    }
}
