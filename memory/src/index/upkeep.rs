//! When the table is looked after: pure decisions from counts.
//!
//! Each write adds three files and a version. Unhindered, a thousand single adds leave 3,004 files and make a question thirty times
//! slower. So small files are joined when there are some dozens of them, new rows are taken into the full-text index by the hundred,
//! and versions are pruned by the dozen; each by its own count, so that one that fails holds up no other.

use std::time::Duration;

use super::store::Merge;

/// New rows are taken into the full-text index from so many on: what is not in it is read through by every text search, at about
/// 5 µs a row.
const REFRESH_ROWS: usize = 256;
/// New small files are joined from so many on.
const COMPACT_TAIL: usize = 24;
/// Small files that are in the full-text index are joined from so many on; that renumbers rows, so the index is rewritten with them.
const COMPACT_INDEXED: usize = 24;
/// Versions are pruned from so many on.
const PRUNE_COMMITS: usize = 48;
/// Of the parts of the full-text index, the latest so many are joined at every so-manieth update; all of them at every square.
const MERGE_EVERY: usize = 8;

/// More parts than there ever are.
const ALL_PARTS: usize = 1_000;

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// Join the new small files that the full-text index does not hold.
    CompactTail,
    /// Take new rows into the full-text index.
    Refresh(Merge),
    /// Join small files.
    Compact,
    /// Delete old versions.
    Prune,
}

/// Counts since each thing was done last.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Upkeep {
    /// Rows that the full-text index does not hold.
    pub tail_rows: usize,
    /// Files that it does not hold.
    pub tail_files: usize,
    /// The number that the first of these files has, or a later one.
    pub tail_from: u64,
    /// Small files that it holds.
    pub indexed_small: usize,
    /// Versions.
    pub commits: usize,
    /// Updates of the full-text index.
    pub refreshes: usize,
}

impl Upkeep {
    /// Rows were written.
    pub(super) fn wrote(&mut self, rows: usize, commits: usize) {
        self.tail_rows += rows;
        self.tail_files += usize::from(rows > 0);
        self.commits += commits;
    }

    /// What is due first; `idle` when nothing has changed for a while.
    pub(super) fn due(&self, idle: bool, since_prune: Duration, prune_every: Duration) -> Option<Due> {
        if idle && self.tail_rows > 0 {
            return Some(Due::Refresh(Merge::Latest(ALL_PARTS)));
        }
        if self.tail_rows >= REFRESH_ROWS {
            return Some(Due::Refresh(self.merge()));
        }
        if self.tail_files >= COMPACT_TAIL {
            return Some(Due::CompactTail);
        }
        if self.indexed_small >= COMPACT_INDEXED {
            return Some(Due::Compact);
        }
        let old = self.commits > 0 && since_prune >= prune_every;
        (self.commits >= PRUNE_COMMITS || old).then_some(Due::Prune)
    }

    fn merge(&self) -> Merge {
        let next = self.refreshes + 1;
        if next.is_multiple_of(MERGE_EVERY * MERGE_EVERY) {
            Merge::Latest(ALL_PARTS)
        } else if next.is_multiple_of(MERGE_EVERY) {
            Merge::Latest(MERGE_EVERY)
        } else {
            Merge::None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn due(upkeep: &Upkeep) -> Option<Due> {
        upkeep.due(false, Duration::ZERO, MINUTE)
    }

    #[test]
    fn each_is_due_by_its_own_count() {
        let mut upkeep = Upkeep::default();
        assert_eq!(due(&upkeep), None);
        upkeep.wrote(1, 1);
        assert_eq!(due(&upkeep), None);
        assert_eq!(upkeep.due(true, Duration::ZERO, MINUTE), Some(Due::Refresh(Merge::Latest(ALL_PARTS))));
        assert_eq!(upkeep.due(false, MINUTE, MINUTE), Some(Due::Prune));
        for _ in 1..COMPACT_TAIL {
            upkeep.wrote(1, 1);
        }
        assert_eq!(due(&upkeep), Some(Due::CompactTail));
        upkeep.wrote(REFRESH_ROWS, 1);
        assert_eq!(due(&upkeep), Some(Due::Refresh(Merge::None)), "slow searches come before many files");
        upkeep = Upkeep { indexed_small: COMPACT_INDEXED, ..Upkeep::default() };
        assert_eq!(due(&upkeep), Some(Due::Compact));
        upkeep = Upkeep { commits: PRUNE_COMMITS, ..Upkeep::default() };
        assert_eq!(due(&upkeep), Some(Due::Prune));
    }

    #[test]
    fn parts_are_joined_like_a_logarithm() {
        let (mut parts, mut most) = (vec![1_000_usize], 0);
        for refreshes in 0..1_000 {
            let upkeep = Upkeep { refreshes, ..Upkeep::default() };
            let joined = match upkeep.merge() {
                Merge::None => 0,
                Merge::Latest(n) => n.min(parts.len()),
            };
            let rows: usize = parts.split_off(parts.len() - joined).iter().sum();
            parts.push(rows + 1);
            most = most.max(parts.len());
        }
        assert!(most <= 2 * MERGE_EVERY, "{most}");
        assert_eq!(parts.iter().sum::<usize>(), 2_000);
    }
}
