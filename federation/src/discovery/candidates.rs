//! Whom of those heard on the LAN to dial, and when. No I/O, no clock.
//!
//! Those that carry a tag of our federation come first and as soon as they are heard. Anyone can claim anything in
//! a record, so the others are dialed rarely, and those that failed with growing pauses.

use std::collections::{BTreeMap, VecDeque};

use libp2p::Multiaddr;

/// Instances remembered. A LAN with more nodes than this has their records time out in between.
const MAX_INSTANCES: usize = 256;
/// Dials of instances with an unknown tag in a minute.
const UNKNOWN_PER_MIN: usize = 6;
/// Dials of instances with our tag in a minute: a federation that comes up at once, and room for copies of its tag.
const KNOWN_PER_MIN: usize = 60;
/// The pause after a dial of one instance; doubled while nothing comes of it.
const FIRST_PAUSE_MS: u64 = 2_000;
const LAST_PAUSE_MS: u64 = 300_000;
const MINUTE_MS: u64 = 60_000;

/// An instance to be dialed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The instance.
    pub instance: String,
    /// Where it says it is.
    pub addrs: Vec<Multiaddr>,
    /// True when its tag is one of ours.
    pub is_ours: bool,
}

#[derive(Debug)]
struct Entry {
    addrs: Vec<Multiaddr>,
    is_ours: bool,
    heard: u64,
    due_ms: u64,
    pause_ms: u64,
    settled: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Candidates {
    entries: BTreeMap<String, Entry>,
    heard: u64,
    /// When the dials of this minute were begun: of ours, of the unknown.
    begun: [VecDeque<u64>; 2],
}

impl Candidates {
    /// An instance was heard, at `now` milliseconds. New addresses or a new tag make it due at once.
    pub fn seen(&mut self, instance: &str, addrs: Vec<Multiaddr>, is_ours: bool, now: u64) {
        self.heard += 1;
        let heard = self.heard;
        match self.entries.get_mut(instance) {
            Some(entry) if entry.addrs == addrs && entry.is_ours == is_ours => entry.heard = heard,
            _ => {
                let entry = Entry { addrs, is_ours, heard, due_ms: now, pause_ms: FIRST_PAUSE_MS, settled: false };
                self.entries.insert(instance.to_owned(), entry);
            }
        }
        if self.entries.len() > MAX_INSTANCES {
            self.drop_one();
        }
    }

    /// The instance heard longest ago gives way, one of the unknown before one of ours.
    fn drop_one(&mut self) {
        let oldest = self.entries.iter().min_by_key(|(_, e)| (e.is_ours, e.heard)).map(|(name, _)| name.clone());
        if let Some(name) = oldest {
            self.entries.remove(&name);
        }
    }

    /// An instance has said goodbye or timed out.
    pub fn gone(&mut self, instance: &str) {
        self.entries.remove(instance);
    }

    /// An instance is connected: it is not dialed until [`Self::lost`].
    pub fn connected(&mut self, instance: &str) {
        if let Some(entry) = self.entries.get_mut(instance) {
            entry.settled = true;
        }
    }

    /// The connection to an instance is lost: it is due again at once.
    pub fn lost(&mut self, instance: &str, now: u64) {
        if let Some(entry) = self.entries.get_mut(instance).filter(|e| e.settled) {
            (entry.settled, entry.due_ms, entry.pause_ms) = (false, now, FIRST_PAUSE_MS);
        }
    }

    /// The next instance to dial at `now` milliseconds, if any may be dialed.
    pub fn next(&mut self, now: u64) -> Option<Candidate> {
        for begun in &mut self.begun {
            while begun.front().is_some_and(|at| now.saturating_sub(*at) >= MINUTE_MS) {
                begun.pop_front();
            }
        }
        let may = [self.begun[0].len() < KNOWN_PER_MIN, self.begun[1].len() < UNKNOWN_PER_MIN];
        let is_due = |e: &Entry| !e.settled && e.due_ms <= now && may[usize::from(!e.is_ours)];
        let first = self.entries.iter_mut().filter(|(_, e)| is_due(e)).min_by_key(|(_, e)| (!e.is_ours, e.due_ms));
        let (instance, entry) = first?;
        entry.due_ms = now + entry.pause_ms;
        entry.pause_ms = (entry.pause_ms * 2).min(LAST_PAUSE_MS);
        self.begun[usize::from(!entry.is_ours)].push_back(now);
        Some(Candidate { instance: instance.clone(), addrs: entry.addrs.clone(), is_ours: entry.is_ours })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn addr(n: u16) -> Vec<Multiaddr> {
        vec![format!("/ip4/10.0.0.1/udp/{n}/quic-v1").parse().unwrap()]
    }

    #[test]
    fn ours_come_first_and_the_unknown_are_rationed() {
        let mut candidates = Candidates::default();
        for n in 0..50 {
            candidates.seen(&format!("x{n:02}"), addr(n), false, 0);
        }
        candidates.seen("ours", addr(99), true, 10);
        assert_eq!(candidates.next(10).unwrap().instance, "ours");
        let unknown = std::iter::from_fn(|| candidates.next(10)).count();
        assert_eq!(unknown, UNKNOWN_PER_MIN);
        assert!(candidates.next(MINUTE_MS + 9).is_some_and(|c| c.is_ours), "ours is due again, others are not");
        assert_eq!(std::iter::from_fn(|| candidates.next(MINUTE_MS + 10)).count(), UNKNOWN_PER_MIN);
    }

    #[test]
    fn one_that_fails_is_dialed_with_growing_pauses() {
        let mut candidates = Candidates::default();
        candidates.seen("a", addr(1), true, 0);
        let dials: Vec<u64> = (0..3_600_000).step_by(500).filter(|now| candidates.next(*now).is_some()).collect();
        assert_eq!(&dials[..4], [0, 2_000, 6_000, 14_000]);
        assert!(dials.len() < 25, "{}", dials.len());
        candidates.seen("a", addr(1), true, 3_600_000);
        assert!(candidates.next(3_600_000).is_none(), "nothing new");
        candidates.seen("a", addr(2), true, 3_600_000);
        assert!(candidates.next(3_600_000).is_some(), "a new address");
    }

    #[test]
    fn a_connected_one_is_left_alone_until_it_is_lost() {
        let mut candidates = Candidates::default();
        candidates.seen("a", addr(1), true, 0);
        candidates.next(0).unwrap();
        candidates.connected("a");
        assert!(candidates.next(1_000_000).is_none());
        candidates.lost("a", 1_000_000);
        assert!(candidates.next(1_000_000).is_some());
        candidates.gone("a");
        assert!(candidates.next(2_000_000).is_none());
    }

    #[test]
    fn a_flood_of_names_does_not_push_ours_out() {
        let mut candidates = Candidates::default();
        candidates.seen("ours", addr(1), true, 0);
        for n in 0..10_000 {
            candidates.seen(&format!("x{n}"), addr(2), false, 1);
        }
        assert_eq!(candidates.entries.len(), MAX_INSTANCES);
        assert_eq!(candidates.next(1).unwrap().instance, "ours");
    }

    proptest! {
        #[test]
        fn never_more_than_the_ration(seen in prop::collection::vec((0u8..60, any::<bool>(), 0u64..300), 1..300)) {
            let mut candidates = Candidates::default();
            let mut seen = seen;
            seen.sort_by_key(|(_, _, at)| *at);
            let mut dials: Vec<(u64, bool)> = Vec::new();
            for (name, ours, at) in seen {
                let now = at * 1_000;
                candidates.seen(&name.to_string(), addr(u16::from(name)), ours, now);
                while let Some(next) = candidates.next(now) {
                    dials.push((now, next.is_ours));
                }
            }
            for (at, _) in &dials {
                let unknown = dials.iter().filter(|(t, ours)| !ours && (*at..*at + MINUTE_MS).contains(t)).count();
                prop_assert!(unknown <= UNKNOWN_PER_MIN);
            }
        }
    }
}
