//! How much one customer may ask in a minute.

use std::collections::HashMap;

use nostr::PublicKey;

/// Customers remembered at a time; beyond, those of the past minute are forgotten first.
const MAX_CUSTOMERS: usize = 20_000;

/// Pairs of customer and past minute remembered at a time.
const MAX_PAST: usize = 100_000;

/// Counts requests by customer in windows of a minute.
#[derive(Debug)]
pub struct Rates {
    limit: u32,
    minute: u64,
    counts: HashMap<(PublicKey, Purpose), u32>,
    /// Jobs by customer and by the past minute in which they were asked for.
    past: HashMap<(PublicKey, u64), u32>,
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// Jobs taken.
    Job,
    /// Refusals said.
    Refusal,
    /// Messages read, and requests taken back.
    Message,
}

impl Rates {
    /// Allows `limit` of each purpose a customer and minute.
    pub fn new(limit: u32) -> Self {
        Self { limit, minute: 0, counts: HashMap::new(), past: HashMap::new() }
    }

    /// True when `who` is over the limit; nothing is counted.
    pub fn is_over(&mut self, who: &PublicKey, purpose: Purpose, now_ms: u64) -> bool {
        self.turn(now_ms);
        let limit = if purpose == Purpose::Message { self.limit.max(60) } else { self.limit };
        self.counts.get(&(*who, purpose)).is_some_and(|count| *count >= limit)
            || (self.counts.len() >= MAX_CUSTOMERS && !self.counts.contains_key(&(*who, purpose)))
    }

    /// Counts one.
    pub fn count(&mut self, who: &PublicKey, purpose: Purpose, now_ms: u64) {
        self.turn(now_ms);
        *self.counts.entry((*who, purpose)).or_default() += 1;
    }

    /// The same for a job that was asked for at `asked_s` (Unix seconds), a while ago: it counts in the minute in which it was
    /// asked for, so what gathered while the node was away is not refused for coming all at once.
    pub fn past_is_over(&self, who: &PublicKey, asked_s: u64) -> bool {
        let count = self.past.get(&(*who, asked_s / 60));
        count.is_some_and(|count| *count >= self.limit) || (self.past.len() >= MAX_PAST && count.is_none())
    }

    /// Counts a job that was asked for a while ago.
    pub fn count_past(&mut self, who: &PublicKey, asked_s: u64, now_s: u64, catch_up_s: u64) {
        if self.past.len() >= MAX_PAST {
            self.past.retain(|(_, minute), _| (minute + 1) * 60 + catch_up_s > now_s);
        }
        *self.past.entry((*who, asked_s / 60)).or_default() += 1;
    }

    fn turn(&mut self, now_ms: u64) {
        let minute = now_ms / 60_000;
        if minute != self.minute {
            self.minute = minute;
            self.counts.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_is_a_minute() {
        let who = nostr::Keys::generate().public_key();
        let mut rates = Rates::new(2);
        for _ in 0..2 {
            assert!(!rates.is_over(&who, Purpose::Job, 5));
            rates.count(&who, Purpose::Job, 5);
        }
        assert!(rates.is_over(&who, Purpose::Job, 59_999));
        assert!(!rates.is_over(&who, Purpose::Refusal, 59_999));
        assert!(!rates.is_over(&who, Purpose::Job, 60_000));
        for minute in 0..5 {
            assert!(!rates.past_is_over(&who, minute * 60), "each past minute counts for itself");
            rates.count_past(&who, minute * 60, 1000, 3600);
            rates.count_past(&who, minute * 60 + 59, 1000, 3600);
            assert!(rates.past_is_over(&who, minute * 60 + 30));
        }
    }
}
