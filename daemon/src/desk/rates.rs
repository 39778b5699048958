//! How much one customer may ask in a minute.

use std::collections::HashMap;

use nostr::PublicKey;

/// Customers remembered at a time; beyond, those of the past minute are forgotten first.
const MAX_CUSTOMERS: usize = 20_000;

/// Counts requests by customer in windows of a minute.
#[derive(Debug)]
pub struct Rates {
    limit: u32,
    minute: u64,
    counts: HashMap<(PublicKey, Purpose), u32>,
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
        Self { limit, minute: 0, counts: HashMap::new() }
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
    }
}
