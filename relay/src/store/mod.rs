//! The event store: LMDB tables, one writer thread, readers that never wait, and a derived search index.
//!
//! Every stored event has a sequence number, given in the order of storing and never given twice. Followers and live
//! subscriptions are built on it.

mod copy;
mod filter;
mod follow;
mod keys;
mod note;
mod query;
mod search;
mod tables;
#[cfg(test)]
mod tests;
mod write;
mod writer;

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use nostr::{EventId, Timestamp};
use tokio::sync::{Semaphore, broadcast, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

pub use self::copy::copy_events;
pub(crate) use self::filter::{MAX_FILTER_VALUES, Query, Viewer, hex32, is_lower_hex};
pub use self::follow::Follower;
use self::follow::read_after;
pub(crate) use self::keys::is_wrap;
pub(crate) use self::note::{Class, Note};
pub(crate) use self::query::{Budget, Selection};
use self::search::SearchIndex;
use self::tables::Disk;
pub use self::write::PublishOutcome;
pub(crate) use self::write::{Rules, recipients, same_place};
use self::writer::{Command, Gauges, Reply, Writer};
pub(crate) use self::writer::{Live, LiveBatch, PutResult};

/// Commands that wait for the writer: two batches.
const QUEUED_COMMANDS: usize = 2_048;
/// Batches that a live reader may be behind before it reads from disk.
const LIVE_BATCHES: usize = 256;
/// The memory map at the start; it grows by doubling.
pub(crate) const MAP_BYTES: u64 = 1 << 30;
/// Index entries that a question may look at in place; more is left to a thread that may take its time.
const SMALL_SCAN: usize = 2_000;
/// Long scans at one time.
const LONG_SCANS: usize = 4;
/// Index entries that one question may look at in all.
const LARGE_SCAN: usize = 1_000_000;

/// What can go wrong with stored events.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// An event could not be written: the disk is full or failing. Reading goes on.
    #[error("the event store could not write: {0}")]
    Write(String),
    /// Stored events could not be read.
    #[error("the event store could not be read: {0}")]
    Read(String),
    /// The search index failed or is far behind.
    #[error("search is not possible now: {0}")]
    Search(String),
    /// A filter asks to look at too many events.
    #[error("the filter is too broad; name ids, authors, kinds, tags or a shorter time")]
    TooBroad,
    /// The store has closed.
    #[error("the event store has closed")]
    Closed,
}

impl StoreError {
    #[allow(clippy::needless_pass_by_value)]
    fn read(error: heed::Error) -> Self {
        Self::Read(error.to_string())
    }

    #[allow(clippy::needless_pass_by_value)]
    fn search(error: rusqlite::Error) -> Self {
        Self::Search(error.to_string())
    }
}

/// Numbers of the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct StoreStats {
    pub(crate) events: u64,
    pub(crate) bytes: u64,
    pub(crate) stranger_bytes: u64,
}

/// The store. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Store {
    disk: Arc<Disk>,
    search: Arc<SearchIndex>,
    commands: mpsc::Sender<Command>,
    live: broadcast::WeakSender<LiveBatch>,
    gauges: Arc<Gauges>,
    closed: CancellationToken,
    long_scans: Arc<Semaphore>,
}

impl Store {
    /// Opens the store in a folder and starts its two threads.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`] or [`StoreError::Search`], with the reason.
    pub(crate) fn open(dir: &Path, rules: Rules, map_bytes: u64) -> Result<Self, StoreError> {
        let disk = Arc::new(Disk::open(&dir.join("events"), map_bytes).map_err(StoreError::read)?);
        let meta = {
            let snapshot = disk.read().map_err(StoreError::read)?;
            disk.meta(&snapshot.txn).map_err(StoreError::read)?
        };
        let gauges = Arc::new(Gauges::default());
        gauges.show(&meta);
        let search = SearchIndex::open(&dir.join("search.sqlite"), Arc::clone(&disk), Arc::clone(&gauges))?;
        let search = Arc::new(search);
        let (commands, receiver) = mpsc::channel(QUEUED_COMMANDS);
        let (live, _) = broadcast::channel(LIVE_BATCHES);
        let (indexer, wake) = std::sync::mpsc::sync_channel(1);
        let closed = CancellationToken::new();
        let weak = live.downgrade();
        let writer = Writer {
            disk: Arc::clone(&disk),
            rules,
            meta,
            commands: receiver,
            live,
            gauges: Arc::clone(&gauges),
            indexer,
        };
        let index = Arc::clone(&search);
        let indexing = spawn("relay-search", move || index.run(&wake))?;
        let ended = closed.clone();
        spawn("relay-writer", move || {
            writer.run();
            // A panic has been reported by the thread itself.
            let _ = indexing.join();
            ended.cancel();
        })?;
        let long_scans = Arc::new(Semaphore::new(LONG_SCANS));
        Ok(Self { disk, search, commands, live: weak, gauges, closed, long_scans })
    }

    /// Stores (or passes on) a verified event and waits until it is on disk.
    ///
    /// # Errors
    ///
    /// [`StoreError::Write`] or [`StoreError::Closed`].
    pub(crate) async fn put(&self, note: Note, class: Class, trusted: bool) -> PutResult {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Put { note, class, trusted, reply: Reply::Caller(reply) }).await?;
        answer.await.map_err(|_| StoreError::Closed)?
    }

    /// Queues a verified event of a session; the answer comes into the session's queue of answers.
    ///
    /// # Errors
    ///
    /// [`StoreError::Closed`].
    pub(crate) async fn put_for_session(
        &self,
        note: Note,
        class: Class,
        permit: mpsc::OwnedPermit<(EventId, PutResult)>,
    ) -> Result<(), StoreError> {
        let id = note.event.id;
        self.send(Command::Put { note, class, trusted: false, reply: Reply::Session(permit, id) }).await
    }

    async fn send(&self, command: Command) -> Result<(), StoreError> {
        self.commands.send(command).await.map_err(|_| StoreError::Closed)
    }

    /// Removes expired events and strangers' old ones, until none is due.
    pub(crate) async fn purge(&self) {
        loop {
            let (reply, answer) = oneshot::channel();
            let sent = self.send(Command::Purge(reply)).await;
            if sent.is_err() || !answer.await.unwrap_or(false) {
                return;
            }
        }
    }

    /// Finishes what was queued and ends the writer.
    pub(crate) async fn close(&self) {
        // An error means that it has ended already.
        let _ = self.send(Command::Close).await;
        self.closed.cancelled().await;
    }

    /// Joins the stream of committed batches; `None` when the store has closed.
    pub(crate) fn live(&self) -> Option<broadcast::Receiver<LiveBatch>> {
        self.live.upgrade().map(|sender| sender.subscribe())
    }

    /// Follows the store from after a sequence number.
    pub(crate) fn follow(&self, after: u64) -> Follower {
        let live = self.live().unwrap_or_else(|| broadcast::channel(1).1);
        Follower::new(Arc::clone(&self.disk), live, self.closed.clone(), after)
    }

    /// The newest committed sequence number.
    pub(crate) fn last_sequence(&self) -> u64 {
        self.gauges.last_sequence.load(Ordering::Acquire)
    }

    /// The numbers of the last commit.
    pub(crate) fn stats(&self) -> StoreStats {
        StoreStats {
            events: self.gauges.events.load(Ordering::Relaxed),
            bytes: self.gauges.bytes.load(Ordering::Relaxed),
            stranger_bytes: self.gauges.stranger_bytes.load(Ordering::Relaxed),
        }
    }

    /// Answers filters: a small question in place, a large one on a thread of its own.
    ///
    /// # Errors
    ///
    /// [`StoreError::TooBroad`], [`StoreError::Read`] or [`StoreError::Search`].
    pub(crate) async fn select(&self, queries: Arc<Vec<Query>>, viewer: Sight) -> Result<Selection, StoreError> {
        if queries.iter().all(|query| query.search.is_none()) {
            match self.select_now(&queries, &viewer, SMALL_SCAN) {
                Err(StoreError::TooBroad) => {}
                other => return other,
            }
        }
        let store = self.clone();
        self.long(move || store.select_now(&queries, &viewer, LARGE_SCAN)).await
    }

    /// Runs a long scan on a thread of its own; few run at one time.
    ///
    /// # Errors
    ///
    /// What the scan gives, or [`StoreError::Closed`] when it was aborted.
    pub(crate) async fn long<T: Send + 'static>(
        &self,
        scan: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let _permit = self.long_scans.acquire().await.map_err(|_| StoreError::Closed)?;
        tokio::task::spawn_blocking(scan).await.map_err(|_| StoreError::Closed)?
    }

    fn select_now(&self, queries: &[Query], sight: &Sight, budget: usize) -> Result<Selection, StoreError> {
        let now = Timestamp::now().as_secs();
        let mut budget = Budget(budget);
        let viewer = sight.viewer();
        let (searches, plain): (Vec<_>, Vec<_>) = queries.iter().cloned().partition(|query| query.search.is_some());
        let (last, places) = {
            let snapshot = self.disk.read().map_err(StoreError::read)?;
            let last = snapshot.last_sequence().map_err(StoreError::read)?;
            (last, snapshot.select(&plain, viewer, now, &mut budget)?)
        };
        let mut hits = Vec::new();
        for query in &searches {
            self.search_into(query, viewer, now, &mut budget, &mut hits)?;
        }
        // What came after the snapshot is delivered live.
        hits.retain(|sequence| *sequence <= last);
        let seen: HashSet<u64> = hits.iter().copied().collect();
        hits.extend(places.iter().map(keys::sequence_of).filter(|sequence| !seen.contains(sequence)));
        Ok(Selection { snapshot: last, hits })
    }

    fn search_into(
        &self,
        query: &Query,
        viewer: Viewer<'_>,
        now: u64,
        budget: &mut Budget,
        hits: &mut Vec<u64>,
    ) -> Result<(), StoreError> {
        let mut left = query.limit.unwrap_or(usize::MAX);
        if query.is_void() || left == 0 {
            return Ok(());
        }
        let mut seen: HashSet<u64> = hits.iter().copied().collect();
        self.search.ranked(query.search.as_deref().unwrap_or_default(), |sequence| {
            budget.0 = budget.0.checked_sub(1).ok_or(StoreError::TooBroad)?;
            let snapshot = self.disk.read().map_err(StoreError::read)?;
            if let Some(record) = snapshot.record(sequence).map_err(StoreError::read)?
                && record.expires_at() > now
                && query.matches_record(&record)
                && viewer.may_see_record(&record)
            {
                left -= 1;
                if seen.insert(sequence) {
                    hits.push(sequence);
                }
            }
            Ok(left > 0)
        })
    }

    /// Calls back with the JSON of each of these events that is still there, until `max_bytes` are reached; gives how many
    /// of `hits` were dealt with.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`].
    pub(crate) fn load(&self, hits: &[u64], max_bytes: usize, mut each: impl FnMut(&str)) -> Result<usize, StoreError> {
        let snapshot = self.disk.read().map_err(StoreError::read)?;
        let mut bytes = 0;
        for (i, sequence) in hits.iter().enumerate() {
            if bytes >= max_bytes {
                return Ok(i);
            }
            if let Some(record) = snapshot.record(*sequence).map_err(StoreError::read)? {
                bytes += record.len();
                each(record.json());
            }
        }
        Ok(hits.len())
    }

    /// Collects `created_at` and id of the events that one filter matches, for reconciliation (NIP-77), `max` at most.
    ///
    /// # Errors
    ///
    /// [`StoreError::TooBroad`] when there are more; [`StoreError::Read`].
    pub(crate) fn collect_ids(&self, query: &Query, sight: &Sight, max: usize) -> Result<Vec<Item>, StoreError> {
        let snapshot = self.disk.read().map_err(StoreError::read)?;
        let mut items = Vec::new();
        let mut budget = Budget(LARGE_SCAN);
        let bounded =
            Query { limit: Some(query.limit.unwrap_or(usize::MAX).min(max.saturating_add(1))), ..query.clone() };
        snapshot.scan(&bounded, sight.viewer(), Timestamp::now().as_secs(), &mut budget, &mut |_, record| {
            if let Ok(id) = record.id().try_into() {
                items.push((record.created_at(), id));
            }
        })?;
        if items.len() > max { Err(StoreError::TooBroad) } else { Ok(items) }
    }

    /// Reads the events after a sequence number, in order: one page.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`].
    pub(crate) fn page_after(&self, after: u64, events: usize, bytes: usize) -> Result<Vec<Live>, StoreError> {
        read_after(&self.disk, after, events, bytes)
    }
}

/// `created_at` in unix seconds, and id.
pub(crate) type Item = (u64, [u8; 32]);

/// Who asks, in a form that can move to another thread.
#[derive(Clone, Debug)]
pub(crate) enum Sight {
    /// Sees everything.
    All,
    /// Sees the gift wraps to these keys.
    Keys(Arc<std::collections::BTreeSet<nostr::PublicKey>>),
}

impl Sight {
    /// Borrows it.
    pub(crate) fn viewer(&self) -> Viewer<'_> {
        match self {
            Self::All => Viewer::All,
            Self::Keys(keys) => Viewer::Keys(keys),
        }
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StoreError> {
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(work);
    thread.map_err(|error| StoreError::Write(error.to_string()))
}
