//! Gossip that was published before anyone was there to hear it, kept for the first peers.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Messages kept. A node that has just lost its federation writes some tens before it finds it again; what is
/// lost here is repaired by reconciliation.
const MAX_MESSAGES: usize = 512;
/// Bytes kept.
const MAX_BYTES: usize = 4 << 20;
/// After this a message is older than the reconciliation that will carry it.
const MAX_AGE: Duration = Duration::from_secs(60);

#[derive(Debug)]
struct Kept {
    topic: String,
    data: Vec<u8>,
    at: Instant,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    kept: VecDeque<Kept>,
    bytes: usize,
}

impl Outbox {
    /// Keeps a message; the number of older ones given up for it.
    pub(crate) fn keep(&mut self, topic: String, data: Vec<u8>, now: Instant) -> u64 {
        self.bytes += data.len();
        self.kept.push_back(Kept { topic, data, at: now });
        let mut given_up = self.expire(now);
        while self.kept.len() > MAX_MESSAGES || self.bytes > MAX_BYTES {
            self.pop_oldest();
            given_up += 1;
        }
        given_up
    }

    /// Takes the messages of a topic that are still young, oldest first, and the number given up.
    pub(crate) fn take(&mut self, topic: &str, now: Instant) -> (Vec<Vec<u8>>, u64) {
        let given_up = self.expire(now);
        let (taken, left): (Vec<Kept>, Vec<Kept>) = self.kept.drain(..).partition(|k| k.topic == topic);
        self.kept = left.into();
        self.bytes = self.kept.iter().map(|k| k.data.len()).sum();
        (taken.into_iter().map(|k| k.data).collect(), given_up)
    }

    fn expire(&mut self, now: Instant) -> u64 {
        let mut given_up = 0;
        while self.kept.front().is_some_and(|k| now.saturating_duration_since(k.at) > MAX_AGE) {
            self.pop_oldest();
            given_up += 1;
        }
        given_up
    }

    fn pop_oldest(&mut self) {
        if let Some(old) = self.kept.pop_front() {
            self.bytes -= old.data.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_by_topic_in_order_until_too_old() {
        let (mut outbox, t0) = (Outbox::default(), Instant::now());
        outbox.keep("a".into(), vec![1], t0);
        outbox.keep("b".into(), vec![2], t0);
        outbox.keep("a".into(), vec![3], t0 + Duration::from_secs(30));
        assert_eq!(outbox.take("a", t0 + Duration::from_secs(31)), (vec![vec![1], vec![3]], 0));
        assert_eq!(outbox.take("b", t0 + Duration::from_secs(61)), (vec![], 1));
        assert_eq!(outbox.bytes, 0);
    }

    #[test]
    fn is_bounded_in_number_and_in_bytes() {
        let (mut outbox, t0) = (Outbox::default(), Instant::now());
        let given_up: u64 = (0..MAX_MESSAGES + 7).map(|_| outbox.keep("a".into(), vec![0; 8], t0)).sum();
        assert_eq!((given_up, outbox.kept.len()), (7, MAX_MESSAGES));
        for _ in 0..MAX_BYTES / 65_536 + 3 {
            outbox.keep("b".into(), vec![0; 65_536], t0);
        }
        assert!(outbox.bytes <= MAX_BYTES);
        assert!(outbox.take("b", t0).0.len() >= 60);
    }
}
