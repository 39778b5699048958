//! The face: one handle on the truth, the index and recall.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nips::Audience;
use nips::memory::{EntryId, PageName, Space};
use nostr::{Event, EventId, Keys, PublicKey};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::embed::Embedder;
use crate::entry::{Draft, Entry};
use crate::index::{Clock, Index, IndexChange, IndexError, IndexOptions, IndexStats, Mode, Progress, RecallError};
use crate::index::{Source, SourceError, SourceRow};
use crate::recall::{Query, Recall, Sight};
use crate::sync::Snapshot;
use crate::truth::{
    Added, Changed, Directory, Forgotten, Outcome, Page, PageEdit, Reader, SealKey, Selector, Truth, TruthError,
    TruthOptions, Twice, Vetted,
};
use crate::worker::{Feed, Worker};

/// How often what was recalled is noted on disk.
const NOTE_EVERY: Duration = Duration::from_secs(60);

/// What memory cannot do.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// The truth refuses.
    #[error(transparent)]
    Truth(#[from] TruthError),
    /// The index fails.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// Nothing can be recalled.
    #[error(transparent)]
    Recall(#[from] RecallError),
}

/// What makes a memory.
#[derive(Clone)]
pub struct MemoryOptions {
    /// Its folder; made when it is missing.
    pub dir: PathBuf,
    /// Signs changes.
    pub install: Keys,
    /// The node's passport: the author of its entries.
    pub author: PublicKey,
    /// What rests is sealed under this.
    pub key: SealKey,
    /// Who may write where.
    pub directory: Arc<dyn Directory>,
    /// Makes vectors.
    pub embedder: Arc<dyn Embedder>,
    /// Seconds since 1970.
    pub clock: Clock,
}

/// The space of a person's own pages.
pub fn person_space(person: &PublicKey) -> Space {
    // 128 bits of the key: nobody else's.
    format!("person-{}", &person.to_hex()[..32]).parse().unwrap_or_else(|_| Space::private())
}

/// Counts of a memory.
#[derive(Debug, Clone, PartialEq)]
pub struct MemoryStats {
    /// Entries that count.
    pub entries: u64,
    /// Shards that hold something.
    pub shards: u64,
    /// The index.
    pub index: IndexStats,
    /// Bytes of everything in the folder.
    pub bytes_on_disk: u64,
    /// Writers with two changes under one number, each with the events that prove it.
    pub quarantined: Vec<(PublicKey, EventId, EventId)>,
}

/// A node's memory. Clones share one.
#[derive(Clone)]
pub struct Memory {
    inner: Arc<Inner>,
}

struct Inner {
    worker: Worker,
    reader: Arc<Mutex<Reader>>,
    index: Index,
    clock: Clock,
    author: PublicKey,
    dir: PathBuf,
    directory: Arc<dyn Directory>,
    /// Recalled since it was last noted.
    recalled: Mutex<BTreeSet<EntryId>>,
    /// The ids of a space at a version of the truth: a reconciliation asks for them with every message.
    snapshots: Mutex<BTreeMap<Space, (u64, Snapshot)>>,
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Memory").field("dir", &self.inner.dir).finish_non_exhaustive()
    }
}

/// The truth as the index reads it.
struct Rows(Arc<Mutex<Reader>>);

impl Source for Rows {
    fn rows(&self, after: i64, limit: usize) -> Result<Vec<SourceRow>, SourceError> {
        let rows = lock(&self.0).rows(after, limit).map_err(|e| SourceError(e.to_string()))?;
        Ok(rows.into_iter().map(|(row, entry)| SourceRow { row, entry }).collect())
    }

    fn entries(&self, ids: &[EntryId]) -> Result<Vec<Entry>, SourceError> {
        lock(&self.0).entries(ids).map_err(|e| SourceError(e.to_string()))
    }

    fn ids(&self, after: i64, limit: usize) -> Result<Vec<(i64, EntryId)>, SourceError> {
        lock(&self.0).ids(after, limit).map_err(|e| SourceError(e.to_string()))
    }
}

/// A reader holds nothing that a panic could leave half done.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Memory {
    /// Opens or makes a memory. The index is loaded and healed behind the caller's back, in `tracker`, until `cancel`.
    ///
    /// # Errors
    /// When the store is newer than this program, sealed under another key, or the disk refuses.
    pub async fn open(
        options: MemoryOptions,
        tracker: &TaskTracker,
        cancel: CancellationToken,
    ) -> Result<Self, MemoryError> {
        let dir = options.dir.clone();
        let path = dir.join("changes.sqlite");
        let file = |source| TruthError::File { path: dir.clone(), source };
        private_folder(&dir).map_err(file)?;
        let truth = TruthOptions {
            path: path.clone(),
            install: options.install,
            author: options.author,
            key: options.key,
            directory: Arc::clone(&options.directory),
        };
        let opened = tokio::task::spawn_blocking(move || -> Result<_, TruthError> {
            let (truth, _salvage) = Truth::open(&truth)?;
            let readers = (truth.reader(&path)?, truth.reader(&path)?);
            Ok((truth, readers))
        });
        let (truth, (reader, for_index)) = opened.await.map_err(|_| TruthError::Closed)??;
        let (worker, fed) = Worker::start(truth)?;
        let source = Arc::new(Rows(Arc::new(Mutex::new(for_index))));
        let index_options = IndexOptions::new(dir.join("index"), Arc::clone(&options.clock));
        let index = Index::open(index_options, source, options.embedder, tracker, cancel.clone())?;
        let memory = Self {
            inner: Arc::new(Inner {
                worker,
                reader: Arc::new(Mutex::new(reader)),
                index,
                clock: options.clock,
                author: options.author,
                dir,
                directory: options.directory,
                recalled: Mutex::new(BTreeSet::new()),
                snapshots: Mutex::new(BTreeMap::new()),
            }),
        };
        tracker.spawn(feed(fed, memory.inner.index.clone(), cancel.clone()));
        tracker.spawn(memory.clone().tend(cancel));
        Ok(memory)
    }

    /// What runs beside: bytes that a crash left in the index are erased, and what was recalled is noted.
    async fn tend(self, cancel: CancellationToken) {
        let finish = async {
            if let Err(error) = self.finish_erasures().await {
                tracing::warn!(%error, "what was forgotten is not erased from the index yet; the next start tries again");
            }
        };
        tokio::select! { () = finish => {}, () = cancel.cancelled() => {} }
        loop {
            let is_over = tokio::select! {
                () = tokio::time::sleep(NOTE_EVERY) => false,
                () = cancel.cancelled() => true,
            };
            self.note_recalled().await;
            if is_over {
                return;
            }
        }
    }

    async fn note_recalled(&self) {
        let ids: Vec<EntryId> = std::mem::take(&mut *lock(&self.inner.recalled)).into_iter().collect();
        let now = self.now();
        if !ids.is_empty()
            && let Err(error) = self.inner.worker.write(move |truth| truth.note_recalls(&ids, now)).await
        {
            tracing::debug!(%error, "what was recalled was not noted");
        }
    }

    async fn finish_erasures(&self) -> Result<(), MemoryError> {
        let ids = self.inner.worker.write(|truth| truth.erasures()).await?;
        if ids.is_empty() {
            return Ok(());
        }
        self.inner.index.healed().await?;
        self.erase(ids).await
    }

    async fn erase(&self, ids: Vec<EntryId>) -> Result<(), MemoryError> {
        self.inner.index.erase(&ids).await?;
        self.inner.worker.write(move |truth| truth.erased(&ids)).await?;
        Ok(self.inner.worker.checkpoint().await?)
    }

    pub(crate) fn time(&self) -> u64 {
        self.now()
    }

    pub(crate) fn author(&self) -> PublicKey {
        self.inner.author
    }

    fn now(&self) -> u64 {
        (self.inner.clock)()
    }

    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Reader) -> Result<T, TruthError> + Send + 'static,
    ) -> Result<T, MemoryError> {
        let reader = Arc::clone(&self.inner.reader);
        let done = tokio::task::spawn_blocking(move || work(&lock(&reader)));
        Ok(done.await.map_err(|_| TruthError::Closed)??)
    }

    /// Remembers; durable when it returns.
    ///
    /// # Errors
    /// When a bound is broken or the disk refuses.
    pub async fn add(&self, draft: Draft) -> Result<EntryId, MemoryError> {
        let now = self.now();
        let added = self.inner.worker.write(move |truth| truth.add(vec![draft], Twice::Keep, now)).await?;
        Ok(added.first().map(|a| a.id).ok_or(TruthError::Closed)?)
    }

    /// Remembers many, all or none. What is there already (by id, else by text, space and person) is left alone; what was forgotten is
    /// refused one by one: `None` stands in its place.
    ///
    /// # Errors
    /// When a bound is broken or the disk refuses.
    pub async fn add_all(&self, drafts: Vec<Draft>) -> Result<Vec<Option<Added>>, MemoryError> {
        let now = self.now();
        let work = move |truth: &mut Truth| {
            let add = |draft| match truth.add(vec![draft], Twice::Skip, now) {
                Ok(added) => Ok(added.first().copied()),
                Err(TruthError::Forgotten(_)) => Ok(None),
                Err(error) => Err(error),
            };
            drafts.into_iter().map(add).collect()
        };
        Ok(self.inner.worker.write(work).await?)
    }

    /// Takes signed events as an export has them: their signatures alone are asked, not who their writers are.
    ///
    /// # Errors
    /// When the disk refuses.
    pub async fn restore(&self, events: Vec<Event>) -> Result<Vec<Outcome>, MemoryError> {
        let now = self.now();
        Ok(self.inner.worker.write(move |truth| truth.restore(events, now)).await?)
    }

    /// The events that this node signs from now on, each after its commit, none of a private space. Who is slow misses some and
    /// finds them by sync.
    pub fn follow(&self) -> tokio::sync::broadcast::Receiver<Arc<Event>> {
        self.inner.worker.made()
    }

    /// Takes events of another node: checked, kept, known already, or refused.
    ///
    /// # Errors
    /// When the disk refuses.
    pub async fn take(&self, events: Vec<Event>) -> Result<Vec<Outcome>, MemoryError> {
        let memory = self.clone();
        let done = tokio::task::spawn_blocking(move || memory.take_blocking(events));
        done.await.map_err(|_| MemoryError::from(TruthError::Closed))?
    }

    /// The same, from a thread that may block.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn take_blocking(&self, events: Vec<Event>) -> Result<Vec<Outcome>, MemoryError> {
        self.take_vetted(crate::check::vetted(events))
    }

    pub(crate) fn take_vetted(&self, events: Vec<Vetted>) -> Result<Vec<Outcome>, MemoryError> {
        let now = self.now();
        Ok(self.inner.worker.write_blocking(move |truth| truth.take(&events, now))?)
    }

    /// Finds what answers a question, best first, of what the audience may recall.
    ///
    /// # Errors
    /// When the index is closed or could not be loaded.
    pub async fn search(&self, query: &Query, audience: Audience) -> Result<Vec<Recall>, MemoryError> {
        self.search_by(query, audience, Mode::Hybrid).await
    }

    /// As [`Memory::search`], by one leg alone: for measuring.
    ///
    /// # Errors
    /// As [`Memory::search`].
    pub async fn search_by(&self, query: &Query, audience: Audience, mode: Mode) -> Result<Vec<Recall>, MemoryError> {
        let sight = self.sight(audience).await?;
        if sight == Sight::nothing() {
            return Ok(Vec::new());
        }
        self.inner.worker.fence().await?;
        let hits = self.inner.index.search_by(query, &sight, self.now(), mode).await?;
        let ids: Vec<EntryId> = hits.iter().map(|hit| hit.id).collect();
        let found = self.read(move |reader| reader.entries(&ids)).await?;
        let mut entries: BTreeMap<EntryId, Entry> = found.into_iter().map(|e| (e.id, e)).collect();
        let recalls: Vec<Recall> = hits
            .into_iter()
            .filter_map(|hit| {
                let entry = entries.remove(&hit.id)?;
                Some(Recall { entry, score: hit.score, reasons: hit.reasons })
            })
            .collect();
        lock(&self.inner.recalled).extend(recalls.iter().map(|r| r.entry.id));
        Ok(recalls)
    }

    async fn sight(&self, audience: Audience) -> Result<Sight, MemoryError> {
        Ok(match audience {
            Audience::Owner => Sight::All,
            Audience::Member => Sight::Some { spaces: BTreeSet::from([Space::fleet()]), person: None },
            Audience::Stranger => Sight::nothing(),
            Audience::Person(person) => {
                let mut spaces = self.shared_with(person).await?;
                spaces.insert(person_space(&person));
                Sight::Some { spaces, person: Some(person) }
            }
        })
    }

    /// The entry whose id begins with these hex digits.
    ///
    /// # Errors
    /// When there is none, or more than one.
    pub async fn find(&self, prefix: &str) -> Result<Entry, MemoryError> {
        let prefix = prefix.to_ascii_lowercase();
        self.read(move |reader| reader.find(&prefix)).await
    }

    /// Entries in the order they came, after a row: for reading all of them in pages. Each comes with its row.
    ///
    /// # Errors
    /// When the disk refuses.
    pub async fn rows(&self, after: i64, limit: usize) -> Result<Vec<(i64, Entry)>, MemoryError> {
        self.read(move |reader| reader.rows(after, limit)).await
    }

    /// How often and when (seconds) entries were recalled on this node.
    ///
    /// # Errors
    /// When the disk refuses.
    pub async fn recalls(&self) -> Result<BTreeMap<EntryId, (u64, u64)>, MemoryError> {
        self.note_recalled().await;
        self.read(Reader::recalls).await
    }

    /// Forgets, here and (by the tombstone) wherever it is synced to. When it returns, no file of the folder holds the words.
    ///
    /// # Errors
    /// When nothing is meant by the selector, or the disk refuses.
    pub async fn forget(&self, selector: Selector) -> Result<Forgotten, MemoryError> {
        let now = self.now();
        let forgotten = self.inner.worker.write(move |truth| truth.forget(&selector, now)).await?;
        lock(&self.inner.recalled).retain(|id| !forgotten.entries.contains(id));
        self.inner.worker.fence().await?;
        self.erase(forgotten.entries.iter().copied().collect()).await?;
        Ok(forgotten)
    }

    /// Forgets a page; its name begins anew.
    ///
    /// # Errors
    /// When there is no such page, or the disk refuses.
    pub async fn forget_page(&self, space: Space, name: PageName) -> Result<Forgotten, MemoryError> {
        let now = self.now();
        let forgotten = self.inner.worker.write(move |truth| truth.forget_named(&space, &name, now)).await?;
        self.inner.worker.checkpoint().await?;
        Ok(forgotten)
    }

    /// Shares a space with a person, or takes it back.
    ///
    /// # Errors
    /// When the space is `private`, or the disk refuses.
    pub async fn share(&self, space: Space, person: PublicKey, is_shared: bool) -> Result<(), MemoryError> {
        Ok(self.inner.worker.write(move |truth| truth.share(&space, &person, is_shared)).await?)
    }

    /// Every share: space and person.
    ///
    /// # Errors
    /// When the disk refuses.
    pub async fn shares(&self) -> Result<Vec<(Space, PublicKey)>, MemoryError> {
        Ok(self.inner.worker.write(|truth| truth.shares()).await?)
    }

    /// The spaces that an install shares with this node, the fleet's also while nothing is in it.
    ///
    /// # Errors
    /// When the disk refuses.
    pub async fn spaces_with(&self, install: PublicKey) -> Result<BTreeSet<Space>, MemoryError> {
        let mut all = self.inner.worker.write(|truth| truth.spaces()).await?;
        all.insert(Space::fleet());
        all.retain(|space| !space.is_private() && self.inner.directory.may_share(&install, space));
        Ok(all)
    }

    /// The spaces that were shared with a person.
    ///
    /// # Errors
    /// When the disk refuses.
    pub async fn shared_with(&self, person: PublicKey) -> Result<BTreeSet<Space>, MemoryError> {
        Ok(self.inner.worker.write(move |truth| truth.shared_with(&person)).await?)
    }

    /// What a page says, if the audience may see it.
    ///
    /// # Errors
    /// When the disk refuses.
    pub async fn page(&self, space: Space, name: PageName, audience: Audience) -> Result<Option<Page>, MemoryError> {
        if !self.sight(audience).await?.sees(&space, None) {
            return Ok(None);
        }
        Ok(self.inner.worker.write(move |truth| truth.page(&space, &name)).await?)
    }

    /// The pages that the audience may see, of one space or of all.
    ///
    /// # Errors
    /// When the disk refuses.
    pub async fn pages(&self, space: Option<Space>, audience: Audience) -> Result<Vec<Page>, MemoryError> {
        let sight = self.sight(audience).await?;
        let pages = self.inner.worker.write(move |truth| truth.pages(space.as_ref())).await?;
        Ok(pages.into_iter().filter(|page| sight.sees(&page.space, None)).collect())
    }

    /// Edits a page, which begins with its first edit.
    ///
    /// # Errors
    /// When an edit breaks a bound or names what is not there, or the disk refuses.
    pub async fn edit_page(&self, space: Space, name: PageName, edits: Vec<PageEdit>) -> Result<Page, MemoryError> {
        let now = self.now();
        Ok(self.inner.worker.write(move |truth| truth.edit_page(&space, &name, &edits, now)).await?)
    }

    /// All events of a space, or of all spaces, in the order they came, in pages: those with a number above `after`.
    ///
    /// # Errors
    /// When the disk refuses.
    pub async fn events_after(&self, after: i64, limit: usize) -> Result<Vec<(i64, Event)>, MemoryError> {
        Ok(self.inner.worker.write(move |truth| truth.events_after(after, limit)).await?)
    }

    /// The tombstones of all spaces.
    ///
    /// # Errors
    /// When the disk refuses.
    pub async fn tombstones(&self) -> Result<Vec<Event>, MemoryError> {
        Ok(self.inner.worker.write(|truth| truth.tombstone_events()).await?)
    }

    /// Makes the index anew; recall works meanwhile.
    ///
    /// # Errors
    /// When the disk or the embedder refuses.
    pub async fn reindex(&self, progress: impl Fn(Progress) + Send + Sync) -> Result<(), MemoryError> {
        self.inner.worker.fence().await?;
        Ok(self.inner.index.reindex(progress).await?)
    }

    /// Waits until the index holds all that the truth holds.
    ///
    /// # Errors
    /// When the index is closed.
    pub async fn settled(&self) -> Result<(), MemoryError> {
        self.inner.worker.fence().await?;
        self.inner.index.healed().await?;
        Ok(self.inner.index.flush().await?)
    }

    /// Counts.
    ///
    /// # Errors
    /// When the disk refuses.
    pub async fn stats(&self) -> Result<MemoryStats, MemoryError> {
        let entries = self.read(Reader::count).await?;
        let (shards, quarantined) =
            self.inner.worker.write(|truth| Ok((truth.shards()?, truth.quarantined()?))).await?;
        let dir = self.inner.dir.clone();
        let size = tokio::task::spawn_blocking(move || bytes_in(&dir)).await.map_err(|_| TruthError::Closed)?;
        let index = self.inner.index.stats().await;
        Ok(MemoryStats { entries, shards, index, bytes_on_disk: size, quarantined })
    }

    /// Copies the truth into one file, as it is now.
    ///
    /// # Errors
    /// When the disk refuses.
    pub async fn back_up(&self, target: PathBuf) -> Result<(), MemoryError> {
        Ok(self.inner.worker.write(move |truth| truth.back_up_to(&target)).await?)
    }

    pub(crate) fn worker(&self) -> &Worker {
        &self.inner.worker
    }

    pub(crate) fn directory(&self) -> &dyn Directory {
        self.inner.directory.as_ref()
    }

    pub(crate) fn snapshots(&self) -> &Mutex<BTreeMap<Space, (u64, Snapshot)>> {
        &self.inner.snapshots
    }
}

fn private_folder(dir: &std::path::Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::create_dir_all(dir)?;
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700))
}

/// Bytes of all files under a folder; what vanishes meanwhile is not counted.
fn bytes_in(dir: &std::path::Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    entries
        .filter_map(Result::ok)
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => bytes_in(&entry.path()),
            Ok(meta) => meta.len(),
            Err(_) => 0,
        })
        .sum()
}

async fn feed(mut fed: mpsc::Receiver<Feed>, index: Index, cancel: CancellationToken) {
    loop {
        let next = tokio::select! {
            next = fed.recv() => next,
            () = cancel.cancelled() => None,
        };
        match next {
            None => return,
            Some(Feed::Fence(reply)) => {
                let _ = reply.send(());
            }
            Some(Feed::Changes(changes)) => {
                let changes = changes.into_iter().map(|change| match change {
                    Changed::Upsert(entry) => IndexChange::Upsert(*entry),
                    Changed::Remove(id) => IndexChange::Remove(id),
                });
                if let Err(error) = index.apply(changes.collect()).await {
                    tracing::warn!(%error, "the index lags; it makes up for this at the next start");
                }
            }
        }
    }
}
