//! The index: where a question finds the entries that answer it. Derived from the truth; losing it loses nothing.
//!
//! ```text
//!            apply ──► rows in memory (filters, int8 vectors) ──► exact vector search ─┐
//!              │                                                                       ├─► recall::fuse ─► hits
//!              └─► queue ─► LanceDB table (texts, vectors, BM25 index) ──► text search ┘
//! ```
//!
//! What is applied is in memory at once and in the table within a second; a text search writes what is queued first, so everybody
//! reads their own writes. A *generation* is one table made by one embedder, in a folder of its own; `current` names the one that
//! serves. Another embedder, or a rebuild, fills a new generation beside it and then takes its place.
//!
//! | crashed here | at the next start |
//! |---|---|
//! | after the truth was written, before the table was | the difference of ids is made up for |
//! | while a generation is filled | the folder that `current` does not name is deleted, and filling begins anew |
//! | after `current` was replaced | the new one serves, the old one is deleted |
//! | a table that does not open | set aside as `<name>.damaged-<n>`, made anew from the truth, then deleted |
//!
//! | module | what it does |
//! |---|---|
//! | `source` | the truth as the index reads it |
//! | `codes`, `scan`, `filter` | rows in memory, exact vector search, filters |
//! | `columns`, `store` | the LanceDB table |
//! | `folder` | generations on disk |
//! | `generation` | rows, table and queue together |
//! | `upkeep` | when the table is indexed, compacted and pruned |
//! | `heal` | filling from the truth; embedding what waits |
//! | `driver` | the one background task |
//! | `search` | both legs of a recall |
//! | `stats` | counts |

mod codes;
mod columns;
mod driver;
mod error;
mod filter;
mod folder;
mod generation;
mod heal;
mod scan;
mod search;
mod source;
mod stats;
mod store;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod testing;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
mod upkeep;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use nips::memory::EntryId;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::embed::Embedder;
use crate::entry::Entry;
use crate::recall::{Query, Reasons, Sight};
use driver::Shared;

pub use error::{IndexError, RecallError};
pub use source::{Source, SourceError, SourceRow};
pub use stats::{IndexState, IndexStats, Tally};

/// Seconds since 1970, as the caller counts them.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// Where the index lives and how patient it is.
#[derive(Clone)]
pub struct IndexOptions {
    /// The folder; made when it is missing.
    pub dir: PathBuf,
    /// The time, for counts alone.
    pub clock: Clock,
    /// How long a change may wait before it is in the table: 1 s.
    pub flush_after: Duration,
    /// How long nothing must have changed before the last rows are taken into the full-text index: 30 s.
    pub idle_after: Duration,
    /// How often old versions are pruned at the latest: 5 min.
    pub prune_every: Duration,
    /// How long an embedder that does not answer is left alone, at first and at most: 1 s, 5 min.
    pub retry: (Duration, Duration),
    /// How long a question waits for an embedder that is not in this process; then full text alone answers: 2 s.
    pub question_timeout: Duration,
    /// How long a search waits at a start until the index is equal to the truth; then it answers from what is there: 5 s.
    pub heal_patience: Duration,
}

impl IndexOptions {
    /// The usual ones.
    pub fn new(dir: impl Into<PathBuf>, clock: Clock) -> Self {
        let seconds = Duration::from_secs;
        Self {
            dir: dir.into(),
            clock,
            flush_after: seconds(1),
            idle_after: seconds(30),
            prune_every: seconds(300),
            retry: (seconds(1), seconds(300)),
            question_timeout: seconds(2),
            heal_patience: seconds(5),
        }
    }
}

impl std::fmt::Debug for IndexOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IndexOptions").field("dir", &self.dir).finish_non_exhaustive()
    }
}

/// One change of what is indexed.
// Nearly all are entries: a box for each would cost more than the room that it spares.
#[allow(clippy::large_enum_variant)]
#[derive(Debug, Clone, PartialEq)]
pub enum IndexChange {
    /// An entry is there.
    Upsert(Entry),
    /// An entry is gone. Its text leaves the disk at the next compaction; [`Index::erase`] is for what must leave now.
    Remove(EntryId),
}

/// Which legs a search has; for measuring them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Full text and vectors.
    #[default]
    Hybrid,
    /// Full text alone.
    Text,
    /// Vectors alone.
    Vector,
}

/// One thing found; the text is read from the truth.
#[derive(Debug, Clone, PartialEq)]
pub struct Hit {
    /// Which entry.
    pub id: EntryId,
    /// How well it fits; comparable within one search alone.
    pub score: f32,
    /// Why.
    pub reasons: Reasons,
}

/// How far a rebuild has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Entries taken in.
    pub done: usize,
    /// Of so many.
    pub total: usize,
}

/// The index. Clones share one.
#[derive(Clone)]
pub struct Index {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Index {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Index").field("dir", &self.shared.options.dir).finish_non_exhaustive()
    }
}

impl Index {
    /// Opens the index and returns at once; it is loaded, compared with the truth and looked after in `tracker`, until `cancel`.
    ///
    /// # Errors
    /// When its folder cannot be made.
    pub fn open(
        options: IndexOptions,
        source: Arc<dyn Source>,
        embedder: Arc<dyn Embedder>,
        tracker: &TaskTracker,
        cancel: CancellationToken,
    ) -> Result<Self, IndexError> {
        std::fs::create_dir_all(&options.dir)
            .map_err(|source| IndexError::Folder { path: options.dir.clone(), source })?;
        let (shared, driver) = driver::new(options, source, embedder, tracker, cancel);
        tracker.spawn(driver.run());
        Ok(Self { shared })
    }

    /// Takes changes in, in their order. They are found at once; when many wait for the table, this waits too.
    ///
    /// # Errors
    /// When the index is closed, or the table has refused so many changes that no more can wait.
    pub async fn apply(&self, changes: Vec<IndexChange>) -> Result<(), IndexError> {
        self.shared.apply(changes).await
    }

    /// Finds what answers a question, best first, of what `sight` lets see. Waits until the index is loaded.
    ///
    /// # Errors
    /// When the index is closed or could not be loaded. A leg that fails leaves the answer to the other.
    pub async fn search(&self, query: &Query, sight: &Sight, now: u64) -> Result<Vec<Hit>, RecallError> {
        self.search_by(query, sight, now, Mode::Hybrid).await
    }

    /// As [`Index::search`], by the legs that are named.
    ///
    /// # Errors
    /// As [`Index::search`].
    pub async fn search_by(&self, query: &Query, sight: &Sight, now: u64, mode: Mode) -> Result<Vec<Hit>, RecallError> {
        self.shared.search(query, sight, now, mode).await
    }

    /// Destroys entries: when this returns, no file of the index holds their texts. The truth must not give them any more.
    ///
    /// # Errors
    /// When something could not be destroyed; call it again.
    pub async fn erase(&self, ids: &[EntryId]) -> Result<(), IndexError> {
        self.shared.erase(ids).await
    }

    /// Makes the index anew from the truth, beside the one that serves meanwhile.
    ///
    /// # Errors
    /// When the truth, the embedder or the disk fails; the old one goes on serving.
    pub async fn reindex(&self, progress: impl Fn(Progress) + Send + Sync) -> Result<(), IndexError> {
        self.shared.rebuild(&progress).await
    }

    /// Waits until everything applied so far is in the table.
    ///
    /// # Errors
    /// When the table refuses it.
    pub async fn flush(&self) -> Result<(), IndexError> {
        self.shared.flush().await
    }

    /// Waits until it is loaded and has been compared with the truth.
    ///
    /// # Errors
    /// When the index is closed before.
    pub async fn healed(&self) -> Result<(), IndexError> {
        self.shared.healed().await
    }

    /// What is in it, and how its upkeep fares.
    pub async fn stats(&self) -> IndexStats {
        self.shared.stats().await
    }
}
