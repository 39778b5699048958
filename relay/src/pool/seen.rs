//! Which verified events were already handed over, across all relays, in bounded room.

use std::collections::HashMap;
use std::sync::Weak;

use nostr::EventId;

use super::incoming::Token;

/// A bounded set of event ids with two generations: when the young one is full it becomes the old one and the old one is
/// forgotten. An id that is asked about again moves to the young one, so the rarely seen go first.
///
/// Only ids of *verified* events get in: a forged copy must not suppress the real one.
#[derive(Debug)]
pub(super) struct Seen {
    young: HashMap<EventId, Weak<Token>>,
    old: HashMap<EventId, Weak<Token>>,
    half: usize,
}

impl Seen {
    pub(super) fn new(capacity: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), half: (capacity / 2).max(1) }
    }

    /// Finds the token of an event that was handed over before (dead when it is handled already).
    pub(super) fn get(&mut self, id: &EventId) -> Option<Weak<Token>> {
        if let Some(token) = self.young.get(id) {
            return Some(token.clone());
        }
        let token = self.old.remove(id)?;
        self.insert(*id, token.clone());
        Some(token)
    }

    pub(super) fn insert(&mut self, id: EventId, token: Weak<Token>) {
        if self.young.len() >= self.half {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(id, token);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u32) -> EventId {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&n.to_be_bytes());
        EventId::from_byte_array(bytes)
    }

    #[test]
    fn is_bounded_and_keeps_what_is_asked_for() {
        let mut seen = Seen::new(100);
        seen.insert(id(0), Weak::new());
        for n in 1..10_000 {
            assert!(seen.get(&id(0)).is_some());
            seen.insert(id(n), Weak::new());
            assert!(seen.young.len() + seen.old.len() <= 101);
        }
        assert!(seen.get(&id(9_999)).is_some());
        assert!(seen.get(&id(1)).is_none());
    }
}
