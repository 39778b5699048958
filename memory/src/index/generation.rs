//! One generation: rows in memory, the table, and the changes that wait to get from the one into the other.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use nips::memory::EntryId;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::Clock;
use super::codes::Code;
use super::error::IndexError;
use super::folder::{self, Meta};
use super::scan::{Row, Scan};
use super::stats::{Counters, Work};
use super::store::{LARGE_FRAGMENT, Store};
use super::upkeep::{Due, Upkeep};
use crate::embed::Embedder;
use crate::entry::Entry;

/// Rows of one write, so that a batch stays within some tens of megabytes.
const WRITTEN_AT_A_TIME: usize = 8_192;
/// Bytes of text of one write.
const WRITTEN_BYTES: usize = 32 << 20;

/// What upkeep is counted and timed by, and where it runs.
#[derive(Clone)]
pub(super) struct Watch {
    pub counters: Arc<Counters>,
    pub clock: Clock,
    pub tracker: TaskTracker,
}

impl Watch {
    fn note<T>(&self, work: Work, outcome: Result<T, IndexError>) -> Result<T, IndexError> {
        self.counters.note(work, &outcome, (self.clock)());
        outcome
    }
}

/// One generation.
pub(super) struct Generation {
    pub name: String,
    pub dir: PathBuf,
    pub meta: Meta,
    /// Makes vectors like those that are in it, or at least answers questions to them; none when nothing at hand does.
    pub embedder: Option<Arc<dyn Embedder>>,
    pub store: Store,
    watch: Watch,
    live: RwLock<Live>,
    counts: Mutex<Upkeep>,
    pruned_at: Mutex<Instant>,
    /// One writer at a time. Short.
    writing: tokio::sync::Mutex<()>,
    /// One kind of upkeep at a time. Long; writes go on beside all but pruning.
    tending: tokio::sync::Mutex<()>,
    /// Another generation serves in its place.
    retired: AtomicBool,
}

/// What is in memory.
pub(super) struct Live {
    pub scan: Scan,
    waiting: HashMap<EntryId, Waiting>,
}

/// What the table is to learn of one id.
struct Waiting {
    delete: bool,
    entry: Option<Entry>,
}

/// What one write takes.
#[derive(Default)]
struct Taken {
    deletes: Vec<EntryId>,
    rows: Vec<(Entry, Option<Code>)>,
}

impl Taken {
    fn is_empty(&self) -> bool {
        self.deletes.is_empty() && self.rows.is_empty()
    }
}

/// A write under way. One that fails puts back what it took.
struct Taking<'a> {
    generation: &'a Generation,
    taken: Taken,
}

impl Drop for Taking<'_> {
    fn drop(&mut self) {
        if !self.taken.is_empty() {
            self.generation.write().put_back(std::mem::take(&mut self.taken));
        }
    }
}

impl Live {
    fn of(scan: Scan) -> Self {
        Self { scan, waiting: HashMap::new() }
    }

    /// Takes in an entry.
    pub(super) fn insert(&mut self, entry: Entry, code: Option<Code>) {
        let delete = self.scan.is_stored(&entry.id) || self.waiting.get(&entry.id).is_some_and(|w| w.delete);
        self.scan.insert(&Row::of(&entry, code));
        self.waiting.insert(entry.id, Waiting { delete, entry: Some(entry) });
    }

    /// Gives an entry its vector.
    pub(super) fn embed(&mut self, entry: Entry, code: &Code) {
        if self.scan.set_code(&entry.id, code) {
            let delete = self.scan.is_stored(&entry.id) || self.waiting.get(&entry.id).is_some_and(|w| w.delete);
            self.waiting.insert(entry.id, Waiting { delete, entry: Some(entry) });
        }
    }

    /// Takes an entry out.
    pub(super) fn remove(&mut self, id: &EntryId) {
        self.scan.remove(id);
        // Whether the table holds it or not: it may be on its way there.
        self.waiting.insert(*id, Waiting { delete: true, entry: None });
    }

    fn take(&mut self) -> Taken {
        let (mut taken, mut bytes) = (Taken::default(), 0);
        let ids: Vec<EntryId> = self.waiting.keys().copied().take(WRITTEN_AT_A_TIME).collect();
        for id in ids {
            if bytes > WRITTEN_BYTES {
                break;
            }
            let Some(waiting) = self.waiting.remove(&id) else { continue };
            if waiting.delete {
                taken.deletes.push(id);
            }
            if let Some(entry) = waiting.entry {
                bytes += entry.text.len();
                // From here on a change of this id must delete what is being written.
                self.scan.set_stored(&id);
                let code = self.scan.code(&id);
                taken.rows.push((entry, code));
            }
        }
        taken
    }

    /// What could not be written waits again, unless something newer does.
    fn put_back(&mut self, taken: Taken) {
        for id in taken.deletes {
            self.waiting.entry(id).or_insert(Waiting { delete: true, entry: None }).delete = true;
        }
        for (entry, _) in taken.rows {
            if self.scan.slot(&entry.id).is_none() {
                continue;
            }
            // Nobody knows how far the write came: whatever is there is deleted first.
            let waiting = self.waiting.entry(entry.id).or_insert(Waiting { delete: true, entry: None });
            waiting.delete = true;
            waiting.entry.get_or_insert(entry);
        }
    }
}

impl Generation {
    /// Makes an empty one.
    pub(super) async fn create(
        dir: PathBuf,
        meta: Meta,
        embedder: Option<Arc<dyn Embedder>>,
        watch: Watch,
    ) -> Result<Self, IndexError> {
        folder::make(&dir, &meta)?;
        let store = Box::pin(Store::create(&dir, meta.dimensions)).await?;
        let scan = Scan::new(meta.dimensions);
        Ok(Self::of(dir, meta, embedder, watch, store, Live::of(scan), Upkeep::default()))
    }

    /// Reads one.
    pub(super) async fn load(
        dir: PathBuf,
        meta: Meta,
        embedder: Option<Arc<dyn Embedder>>,
        watch: Watch,
    ) -> Result<Self, IndexError> {
        let store = Box::pin(Store::open(&dir, meta.dimensions)).await?;
        let mut scan = Scan::new(meta.dimensions);
        let mut doubled = Vec::new();
        let mut take = |rows: Vec<Row>| {
            for row in rows {
                if scan.slot(&row.id).is_some() {
                    doubled.push(row.id);
                }
                scan.insert(&row);
                scan.set_stored(&row.id);
            }
        };
        store.load(&mut take).await?;
        // Never seen, and cheap to be sure of: of an id that is there twice both rows go, and it is made up for as missing.
        store.delete(&doubled).await?;
        doubled.iter().for_each(|id| {
            scan.remove(id);
        });
        let fragments = store.fragments().await?;
        let tail_from = fragments.iter().map(|(id, _)| id + 1).max().unwrap_or(0);
        let counts = Upkeep { tail_rows: store.unindexed().await?, tail_from, commits: 1, ..Upkeep::default() };
        let generation = Self::of(dir, meta, embedder, watch, store, Live::of(scan), counts);
        generation.count_small().await?;
        Ok(generation)
    }

    fn of(
        dir: PathBuf,
        meta: Meta,
        embedder: Option<Arc<dyn Embedder>>,
        watch: Watch,
        store: Store,
        live: Live,
        counts: Upkeep,
    ) -> Self {
        let name = dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Self {
            name,
            dir,
            meta,
            embedder,
            store,
            watch,
            live: RwLock::new(live),
            counts: Mutex::new(counts),
            pruned_at: Mutex::new(Instant::now()),
            writing: tokio::sync::Mutex::new(()),
            tending: tokio::sync::Mutex::new(()),
            retired: AtomicBool::new(false),
        }
    }

    pub(super) fn read(&self) -> RwLockReadGuard<'_, Live> {
        self.live.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn write(&self) -> RwLockWriteGuard<'_, Live> {
        self.live.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes that wait for the table.
    pub(super) fn pending(&self) -> usize {
        self.read().waiting.len()
    }

    /// Rows that the full-text index does not hold.
    pub(super) fn tail(&self) -> usize {
        self.counts().tail_rows
    }

    pub(super) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }

    fn counts(&self) -> std::sync::MutexGuard<'_, Upkeep> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes everything that waits, and waits for a write that is under way. The write goes on when whoever waits for it gives up:
    /// nobody could say how far it came.
    pub(super) async fn flush(self: &Arc<Self>) -> Result<(), IndexError> {
        if self.pending() == 0 && self.writing.try_lock().is_ok() {
            return Ok(());
        }
        let this = self.clone();
        let task = self.watch.tracker.spawn(async move {
            let _writing = this.writing.lock().await;
            if this.is_retired() { Ok(()) } else { this.flush_alone().await }
        });
        task.await.map_err(|error| IndexError::Task(error.to_string()))?
    }

    async fn flush_alone(&self) -> Result<(), IndexError> {
        loop {
            let mut taking = Taking { generation: self, taken: self.write().take() };
            if taking.taken.is_empty() {
                return Ok(());
            }
            self.watch.note(Work::Flush, self.put(&taking.taken).await)?;
            taking.taken = Taken::default();
        }
    }

    async fn put(&self, taken: &Taken) -> Result<(), IndexError> {
        if !taken.deletes.is_empty() {
            self.store.delete(&taken.deletes).await?;
            self.counts().wrote(0, 1);
        }
        if !taken.rows.is_empty() {
            self.store.add(&taken.rows).await?;
            self.counts().wrote(taken.rows.len(), 1);
        }
        Ok(())
    }

    /// Does what is due until nothing is. A failure ends it; the next time begins with what failed.
    pub(super) async fn tend(&self, idle: bool, prune_every: Duration) -> Result<(), IndexError> {
        let _tending = self.tending.lock().await;
        loop {
            let since_prune = self.pruned_at.lock().unwrap_or_else(PoisonError::into_inner).elapsed();
            let due = self.counts().due(idle, since_prune, prune_every);
            let Some(due) = due.filter(|_| !self.is_retired()) else { return Ok(()) };
            let outcome = match due {
                Due::Refresh(merge) => self.watch.note(Work::Refresh, self.refresh(merge).await),
                Due::CompactTail => self.watch.note(Work::Compact, self.compact_tail().await),
                Due::Compact => self.watch.note(Work::Compact, self.compact().await),
                Due::Prune => self.watch.note(Work::Prune, self.prune().await),
            };
            if outcome.is_err() && due != Due::Prune {
                // A table that cannot be compacted must still be pruned, or it fills the disk.
                let _ = self.watch.note(Work::Prune, self.prune().await);
            }
            outcome?;
        }
    }

    async fn refresh(&self, merge: super::store::Merge) -> Result<(), IndexError> {
        let before = *self.counts();
        let tail_from = self.store.fragments().await?.iter().map(|(id, _)| id + 1).max().unwrap_or(0);
        self.store.refresh(merge).await?;
        {
            let mut counts = self.counts();
            counts.tail_rows = counts.tail_rows.saturating_sub(before.tail_rows);
            counts.tail_files = counts.tail_files.saturating_sub(before.tail_files);
            counts.tail_from = tail_from;
            counts.refreshes += 1;
            counts.commits += 1;
        }
        self.count_small().await
    }

    async fn compact_tail(&self) -> Result<(), IndexError> {
        let before = *self.counts();
        self.store.compact(before.tail_from, false).await?;
        let mut counts = self.counts();
        // What was joined is one file.
        counts.tail_files = counts.tail_files.saturating_sub(before.tail_files) + 1;
        counts.commits += 1;
        Ok(())
    }

    async fn compact(&self) -> Result<(), IndexError> {
        self.store.compact(0, false).await?;
        self.counts().commits += 1;
        self.count_small().await?;
        let mut counts = self.counts();
        // Files that cannot be joined with each other are no reason to try again at once.
        counts.indexed_small = counts.indexed_small.min(1);
        Ok(())
    }

    async fn count_small(&self) -> Result<(), IndexError> {
        let fragments = self.store.fragments().await?;
        let mut counts = self.counts();
        let small = fragments.iter().filter(|(id, rows)| *id < counts.tail_from && *rows < LARGE_FRAGMENT).count();
        counts.indexed_small = small;
        Ok(())
    }

    async fn prune(&self) -> Result<(), IndexError> {
        let before = self.counts().commits;
        {
            // A file that is being written belongs to no version yet.
            let _writing = self.writing.lock().await;
            self.store.prune().await?;
        }
        let mut counts = self.counts();
        counts.commits = counts.commits.saturating_sub(before);
        *self.pruned_at.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        Ok(())
    }

    /// Destroys rows: their bytes are on no file of this generation when it returns. It is done also when nobody waits for it.
    pub(super) async fn erase(self: &Arc<Self>, ids: &[EntryId]) -> Result<(), IndexError> {
        let (this, ids) = (self.clone(), ids.to_vec());
        let task = self.watch.tracker.spawn(async move { Box::pin(this.erase_alone(&ids)).await });
        task.await.map_err(|error| IndexError::Task(error.to_string()))?
    }

    async fn erase_alone(&self, ids: &[EntryId]) -> Result<(), IndexError> {
        let _tending = self.tending.lock().await;
        let _writing = self.writing.lock().await;
        {
            let mut live = self.write();
            for id in ids {
                live.remove(id);
            }
        }
        // The deletes are among what waits.
        self.flush_alone().await?;
        self.watch.note(Work::Compact, self.store.compact(0, true).await)?;
        // The index holds words; what is deleted from the table stays in it until it is made anew.
        self.watch.note(Work::Refresh, self.store.rebuild_text().await)?;
        self.watch.note(Work::Prune, self.store.prune().await)?;
        let tail_from = self.store.fragments().await?.iter().map(|(id, _)| id + 1).max().unwrap_or(0);
        *self.counts() = Upkeep { tail_from, ..Upkeep::default() };
        self.count_small().await
    }

    /// Makes the full-text index anew, after a search has failed in it.
    pub(super) async fn mend_text(&self) -> Result<(), IndexError> {
        let _tending = self.tending.lock().await;
        self.watch.note(Work::Refresh, self.store.rebuild_text().await)
    }

    /// It is given up before it served: it is deleted as soon as nobody works on it.
    pub(super) fn abandon(self: Arc<Self>) {
        let tracker = self.watch.tracker.clone();
        tracker.spawn(async move {
            // What cannot be deleted now is deleted at the next start.
            if let Err(error) = self.retire().await {
                tracing::warn!(%error, "an unfinished index could not be deleted");
            }
        });
    }

    /// Another one serves: waits until nobody reads this one, then deletes it.
    pub(super) async fn retire(&self) -> Result<(), IndexError> {
        self.retired.store(true, Ordering::Release);
        let _tending = self.tending.lock().await;
        let _writing = self.writing.lock().await;
        let _unread = self.store.unread().await;
        folder::delete(&self.dir)
    }
}
