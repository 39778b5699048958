//! When a subscription's last seen time may move forward.
//!
//! A checkpoint says "everything up to this moment was handed over". It is saved once all events that were handed over before
//! it are handled (their tokens dropped), also those that another relay handed over first and this one repeated.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use nostr::RelayUrl;

use super::incoming::Token;
use super::subscription::Cursors;

/// Checkpoints that wait at a time. With more the daemon is far behind, and the next one would say nothing new.
const WAITING_MAX: usize = 2;

#[derive(Debug)]
struct Checkpoint {
    at_s: u64,
    subs: Vec<String>,
    waits_for: Vec<Weak<Token>>,
}

/// The checkpoints of one relay; outlives its connections.
#[derive(Debug)]
pub(super) struct Checkpoints {
    current: Arc<Token>,
    foreign: Vec<Weak<Token>>,
    waiting: VecDeque<Checkpoint>,
}

impl Checkpoints {
    pub(super) fn new() -> Self {
        Self { current: Arc::new(Token), foreign: Vec::new(), waiting: VecDeque::new() }
    }

    /// The token for events that are handed over now.
    pub(super) fn token(&self) -> Arc<Token> {
        self.current.clone()
    }

    /// Takes note of a copy of an event that was handed over under `token`.
    pub(super) fn repeated(&mut self, token: Weak<Token>) {
        let own = std::ptr::eq(token.as_ptr(), Arc::as_ptr(&self.current));
        let known = self.foreign.last().is_some_and(|last| last.ptr_eq(&token));
        if own || known || token.strong_count() == 0 {
            return;
        }
        self.foreign.retain(|token| token.strong_count() > 0);
        self.foreign.push(token);
    }

    /// Sets a checkpoint for `subs` at `at_s` (Unix seconds, when the relay was last heard).
    pub(super) fn set(&mut self, at_s: u64, subs: Vec<String>) {
        if subs.is_empty() || self.waiting.len() >= WAITING_MAX {
            return;
        }
        let own = std::mem::replace(&mut self.current, Arc::new(Token));
        let mut waits_for = std::mem::take(&mut self.foreign);
        waits_for.push(Arc::downgrade(&own));
        self.waiting.push_back(Checkpoint { at_s, subs, waits_for });
    }

    /// Saves what has been handled, in order.
    pub(super) fn save(&mut self, relay: &RelayUrl, cursors: &dyn Cursors) {
        while let Some(first) = self.waiting.front() {
            if first.waits_for.iter().any(|token| token.strong_count() > 0) {
                return;
            }
            first.subs.iter().for_each(|sub| cursors.save(relay, sub, first.at_s));
            self.waiting.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Default)]
    struct Saved(Mutex<Vec<u64>>);

    impl Cursors for Saved {
        fn load(&self, _: &RelayUrl, _: &str) -> Option<u64> {
            None
        }
        fn save(&self, _: &RelayUrl, _: &str, unix_s: u64) {
            self.0.lock().unwrap().push(unix_s);
        }
    }

    #[test]
    fn waits_for_own_and_foreign_events_in_order() {
        let url = RelayUrl::parse("ws://a").unwrap();
        let saved = Saved::default();
        let saved_now = |points: &mut Checkpoints| {
            points.save(&url, &saved);
            saved.0.lock().unwrap().clone()
        };
        let mut points = Checkpoints::new();
        let own = points.token();
        let foreign = Arc::new(Token);
        points.repeated(Arc::downgrade(&foreign));
        points.set(10, vec!["s".into()]);
        points.set(20, vec!["s".into()]);
        assert!(saved_now(&mut points).is_empty());
        drop(own);
        assert!(saved_now(&mut points).is_empty(), "another relay's copy is still being handled");
        drop(foreign);
        assert_eq!(saved_now(&mut points), vec![10, 20]);
    }

    #[test]
    fn events_after_a_checkpoint_do_not_hold_it() {
        let saved = Saved::default();
        let mut points = Checkpoints::new();
        points.set(10, vec!["s".into()]);
        let later = points.token();
        points.save(&RelayUrl::parse("ws://a").unwrap(), &saved);
        assert_eq!(*saved.0.lock().unwrap(), vec![10]);
        drop(later);
    }
}
