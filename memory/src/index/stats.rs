//! Counts: what is in the index, and how its upkeep fares.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

/// How one kind of upkeep has fared since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Tally {
    /// Times that it succeeded.
    pub done: u64,
    /// Times that it failed.
    pub failed: u64,
    /// When it succeeded last; seconds since 1970.
    pub last: Option<u64>,
}

/// Where the index is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum IndexState {
    /// Being read; searches wait.
    #[default]
    Loading,
    /// Serving, and being compared with the truth.
    Healing,
    /// Serving, while another generation is made.
    Rebuilding,
    /// Serving.
    Ready,
}

/// What is in the index.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct IndexStats {
    /// Entries.
    pub rows: usize,
    /// Changes that wait for the table.
    pub pending: usize,
    /// Entries that wait for a vector.
    pub unembedded: usize,
    /// Entries that the full-text index does not hold yet: text searches read through them.
    pub tail: usize,
    /// What its vectors were made by.
    pub embedder: String,
    /// Bytes in its folder.
    pub bytes_on_disk: u64,
    /// Files in its folder.
    pub files: u64,
    /// Writes of queued changes.
    pub flushes: Tally,
    /// Updates of the full-text index.
    pub refreshes: Tally,
    /// Joins of small files.
    pub compactions: Tally,
    /// Deletions of old versions.
    pub prunes: Tally,
    /// Everything that failed.
    pub failures: u64,
    /// Where it is in its life.
    pub state: IndexState,
}

/// A kind of upkeep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Work {
    Flush,
    Refresh,
    Compact,
    Prune,
    /// What is told among the failures alone: text searches, embedding, healing.
    Other,
}

/// The tallies.
#[derive(Debug, Default)]
pub(super) struct Counters(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    flushes: Tally,
    refreshes: Tally,
    compactions: Tally,
    prunes: Tally,
    other: Tally,
}

impl Counters {
    /// Counts an outcome; a failure is told in the log.
    pub(super) fn note<T, E: std::error::Error>(&self, work: Work, outcome: &Result<T, E>, now: u64) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let tally = match work {
            Work::Flush => &mut counts.flushes,
            Work::Refresh => &mut counts.refreshes,
            Work::Compact => &mut counts.compactions,
            Work::Prune => &mut counts.prunes,
            Work::Other => &mut counts.other,
        };
        match outcome {
            Ok(_) => {
                tally.done += 1;
                tally.last = Some(now);
            }
            Err(error) => {
                tally.failed += 1;
                let cause = error.source().map(ToString::to_string).unwrap_or_default();
                tracing::warn!(%error, cause, "the memory's index has trouble");
            }
        }
    }

    /// Writes the tallies into `stats`.
    pub(super) fn fill(&self, stats: &mut IndexStats) {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        stats.flushes = counts.flushes;
        stats.refreshes = counts.refreshes;
        stats.compactions = counts.compactions;
        stats.prunes = counts.prunes;
        let all = [counts.flushes, counts.refreshes, counts.compactions, counts.prunes, counts.other];
        stats.failures = all.iter().map(|tally| tally.failed).sum();
    }
}

/// Files and bytes below a folder. What disappears meanwhile is not counted.
pub(super) fn measure(dir: &Path) -> (u64, u64) {
    let (mut files, mut bytes) = (0, 0);
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(data) if data.is_dir() => folders.push(entry.path()),
                Ok(data) => {
                    files += 1;
                    bytes += data.len();
                }
                Err(_) => {}
            }
        }
    }
    (files, bytes)
}
