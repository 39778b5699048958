//! How many wrong tries are taken: a window of one minute, in all and for each source.

use std::collections::VecDeque;

use super::{MAX_WRONG_IN_ALL, MAX_WRONG_OF_ONE, Source};

const WINDOW_S: u64 = 60;

/// Wrong tries of the last minute. Bounded: what is over the limit is not counted, since it is not looked at either.
#[derive(Debug, Clone, Default)]
pub(super) struct Limit(VecDeque<(u64, Source)>);

impl Limit {
    /// True when this source, or all together, have to wait.
    pub fn is_over(&mut self, source: Source, now: u64) -> bool {
        while self.0.front().is_some_and(|(at, _)| at.saturating_add(WINDOW_S) <= now) {
            self.0.pop_front();
        }
        let of_one = self.0.iter().filter(|(_, from)| *from == source).count();
        of_one >= MAX_WRONG_OF_ONE || self.0.len() >= MAX_WRONG_IN_ALL
    }

    /// Counts a wrong try.
    pub fn count(&mut self, source: Source, now: u64) {
        if self.0.len() < MAX_WRONG_IN_ALL {
            self.0.push_back((now, source));
        }
    }
}
