//! What all clones of an index share, and the background tasks: one keeps the table, one keeps it equal to the truth.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use nips::memory::EntryId;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::codes::Code;
use super::error::IndexError;
use super::folder::{self, Meta, SCHEMA};
use super::generation::{Generation, Watch};
use super::source::Source;
use super::stats::{Counters, IndexState, IndexStats, Work, measure};
use super::{IndexChange, IndexOptions};
use crate::embed::{Embedder, MINILM_ID, MiniLmQuestions, STATIC_ID, StaticEmbedder};
use crate::entry::Entry;

/// Changes are written at once when so many wait.
const FLUSH_ROWS: usize = 200;
/// When so many wait for the table, whoever applies more writes them first. With entries of usual size some 20 MB.
const MAX_PENDING: usize = 16_384;
/// When even a failing table has so many waiting, no more are taken: the truth is compared at the next start.
const MAX_REFUSED: usize = 100_000;
/// Upkeep that fails so many times in a row means that the table is damaged: it is made anew.
const DAMAGED_AFTER: u32 = 4;

/// What all clones of an index share.
pub(super) struct Shared {
    pub options: IndexOptions,
    pub source: Arc<dyn Source>,
    /// The embedder that vectors are to be of.
    pub wanted: Arc<dyn Embedder>,
    pub counters: Arc<Counters>,
    pub tracker: TaskTracker,
    pub cancel: CancellationToken,
    pub serving: watch::Sender<Option<Arc<Generation>>>,
    pub is_healed: watch::Sender<bool>,
    /// One change at a time, so that their order is that of their calls.
    pub changes: tokio::sync::Mutex<Changes>,
    /// One filling from the truth at a time.
    pub filling: tokio::sync::Mutex<()>,
    /// The keeper has something to do.
    pub wake: Notify,
    /// Some entries wait for a vector, or a rebuild is asked for.
    pub fill: Notify,
    /// The full-text index has failed.
    pub suspect: AtomicBool,
    /// The table is to be made anew.
    pub broken: AtomicBool,
    state: Mutex<IndexState>,
}

/// What is remembered while a generation is filled.
#[derive(Default)]
pub(super) struct Changes {
    /// Ids that were changed meanwhile: what was read of them from the truth may be old.
    pub touched: Option<HashSet<EntryId>>,
    /// The generation that is filled beside the one that serves.
    pub next: Option<Arc<Generation>>,
}

/// The background work.
pub(super) struct Driver {
    shared: Arc<Shared>,
}

pub(super) fn new(
    options: IndexOptions,
    source: Arc<dyn Source>,
    embedder: Arc<dyn Embedder>,
    tracker: &TaskTracker,
    cancel: CancellationToken,
) -> (Arc<Shared>, Driver) {
    let shared = Arc::new(Shared {
        options,
        source,
        wanted: embedder,
        counters: Arc::default(),
        tracker: tracker.clone(),
        cancel,
        serving: watch::Sender::new(None),
        is_healed: watch::Sender::new(false),
        changes: tokio::sync::Mutex::default(),
        filling: tokio::sync::Mutex::default(),
        wake: Notify::new(),
        fill: Notify::new(),
        suspect: AtomicBool::new(false),
        broken: AtomicBool::new(false),
        state: Mutex::default(),
    });
    (shared.clone(), Driver { shared })
}

impl Driver {
    /// Works until it is cancelled; then writes what waits.
    pub(super) async fn run(self) {
        let shared = &self.shared;
        if !shared.load_patiently().await {
            return;
        }
        let work = async {
            tokio::join!(shared.keep(), shared.fill());
        };
        tokio::select! {
            () = work => {}
            () = shared.cancel.cancelled() => {}
        }
        if let Err(error) = shared.flush().await {
            tracing::warn!(%error, "the last changes are not in the index; the next start makes up for them");
        }
    }
}

impl Shared {
    fn watch(&self) -> Watch {
        let (counters, clock, tracker) = (self.counters.clone(), self.options.clock.clone(), self.tracker.clone());
        Watch { counters, clock, tracker }
    }

    pub(super) fn set_state(&self, state: IndexState) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }

    /// The generation that serves, once there is one.
    pub(super) async fn serving(&self) -> Result<Arc<Generation>, IndexError> {
        let mut serving = self.serving.subscribe();
        tokio::select! {
            found = serving.wait_for(Option::is_some) => match found.as_deref() {
                Ok(Some(generation)) => Ok(generation.clone()),
                Ok(None) | Err(_) => Err(IndexError::Closed),
            },
            () = self.cancel.cancelled() => self.serving.borrow().clone().ok_or(IndexError::Closed),
        }
    }

    pub(super) async fn healed(&self) -> Result<(), IndexError> {
        let mut healed = self.is_healed.subscribe();
        tokio::select! {
            _ = healed.wait_for(|healed| *healed) => Ok(()),
            () = self.cancel.cancelled() => Err(IndexError::Closed),
        }
    }

    async fn load_patiently(&self) -> bool {
        let mut pause = self.options.retry.0;
        loop {
            let loaded = self.load().await;
            self.counters.note(Work::Other, &loaded, (self.options.clock)());
            if let Ok(generation) = loaded {
                self.set_state(IndexState::Healing);
                self.serving.send_replace(Some(Arc::new(generation)));
                return true;
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(self.options.retry.1),
                () = self.cancel.cancelled() => return false,
            }
        }
    }

    async fn load(&self) -> Result<Generation, IndexError> {
        let dir = &self.options.dir;
        let name = folder::current(dir);
        folder::sweep(dir, &name.iter().map(String::as_str).collect::<Vec<_>>())?;
        let Some(name) = name else { return self.create().await };
        let path = dir.join(&name);
        match folder::meta(&path) {
            Ok(meta) if meta.schema == SCHEMA => {
                let embedder = self.maker_of(&meta.embedder);
                match Box::pin(Generation::load(path, meta, embedder, self.watch())).await {
                    Ok(generation) => return Ok(generation),
                    Err(error) => {
                        let cause = format!("{error:?}");
                        tracing::warn!(
                            cause,
                            "the memory's index is damaged: set aside and made anew from the entries"
                        );
                        folder::set_aside(dir, &name)?;
                    }
                }
            }
            Ok(meta) => {
                tracing::info!(schema = meta.schema, "the memory's index has another layout and is made anew");
                folder::delete(&path)?;
            }
            Err(error) => {
                tracing::warn!(%error, "the memory's index cannot be read: set aside and made anew from the entries");
                folder::set_aside(dir, &name)?;
            }
        }
        self.create().await
    }

    /// What makes vectors like those of this id, or at least answers questions to them.
    fn maker_of(&self, id: &str) -> Option<Arc<dyn Embedder>> {
        if self.wanted.id() == id {
            Some(self.wanted.clone())
        } else if id == STATIC_ID {
            Some(Arc::new(StaticEmbedder::new()))
        } else if id == MINILM_ID {
            Some(Arc::new(MiniLmQuestions::new()))
        } else {
            None
        }
    }

    /// An empty generation. The embedder inside the binary makes it unless the one that is wanted takes microseconds too: entries
    /// are then found at once, and the wanted one's vectors take their place when it has made them.
    async fn create(&self) -> Result<Generation, IndexError> {
        let wanted = self.wanted.clone();
        let known = wanted.dimensions().filter(|_| wanted.is_instant());
        let (embedder, dimensions): (Arc<dyn Embedder>, usize) = match known {
            Some(dimensions) => (wanted, dimensions),
            None => {
                let own = StaticEmbedder::new();
                let dimensions = own.dimensions().unwrap_or_default();
                (Arc::new(own), dimensions)
            }
        };
        let generation = self.begin(embedder, dimensions).await?;
        folder::set_current(&self.options.dir, &generation.name)?;
        Ok(generation)
    }

    /// A new generation that does not serve yet.
    pub(super) async fn begin(&self, embedder: Arc<dyn Embedder>, dimensions: usize) -> Result<Generation, IndexError> {
        let made_at = (self.options.clock)();
        let meta = Meta { schema: SCHEMA, embedder: embedder.id(), dimensions, made_at };
        let path = self.options.dir.join(folder::next_name(&self.options.dir)?);
        Box::pin(Generation::create(path, meta, Some(embedder), self.watch())).await
    }

    pub(super) async fn apply(&self, changes: Vec<IndexChange>) -> Result<(), IndexError> {
        let generation = self.serving().await?;
        let waiting = generation.pending();
        if waiting >= MAX_PENDING {
            let written = generation.flush().await;
            if waiting >= MAX_REFUSED {
                written?;
            }
        }
        let entries = changes.iter().filter_map(|change| match change {
            IndexChange::Upsert(entry) => Some(entry),
            IndexChange::Remove(_) => None,
        });
        let mut codes = embed_instantly(&generation, entries).await.into_iter();
        let mut order = self.changes.lock().await;
        let now = self.serving().await?;
        // The generation may have changed since; its vectors are then another embedder's.
        let same = now.meta.embedder == generation.meta.embedder;
        if let Some(touched) = &mut order.touched {
            touched.extend(changes.iter().map(|change| match change {
                IndexChange::Upsert(entry) => entry.id,
                IndexChange::Remove(id) => *id,
            }));
        }
        let unembedded = {
            let mut live = now.write();
            for change in changes {
                match change {
                    IndexChange::Upsert(entry) => {
                        let code = codes.next().flatten().filter(|_| same);
                        live.insert(entry, code);
                    }
                    IndexChange::Remove(id) => live.remove(&id),
                }
            }
            live.scan.waiting()
        };
        drop(order);
        self.wake.notify_one();
        if unembedded > 0 {
            self.fill.notify_one();
        }
        Ok(())
    }

    pub(super) async fn flush(&self) -> Result<(), IndexError> {
        let generation = self.serving().await?;
        generation.flush().await
    }

    pub(super) async fn erase(&self, ids: &[EntryId]) -> Result<(), IndexError> {
        self.serving().await?;
        let mut order = self.changes.lock().await;
        if let Some(touched) = &mut order.touched {
            touched.extend(ids);
        }
        let serving = self.serving().await?;
        for generation in [Some(serving), order.next.clone()].into_iter().flatten() {
            Box::pin(generation.erase(ids)).await?;
        }
        // Nothing can be deleted *from* what does not open.
        folder::sweep_damaged(&self.options.dir)
    }

    pub(super) async fn stats(&self) -> IndexStats {
        let mut stats = IndexStats::default();
        let serving = self.serving.borrow().clone();
        if let Some(generation) = serving {
            stats.embedder.clone_from(&generation.meta.embedder);
            stats.pending = generation.pending();
            stats.tail = generation.tail();
            let live = generation.read();
            stats.rows = live.scan.len();
            stats.unembedded = live.scan.waiting();
        }
        stats.state = *self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.counters.fill(&mut stats);
        let dir = self.options.dir.clone();
        let measured = tokio::task::spawn_blocking(move || measure(&dir)).await;
        (stats.files, stats.bytes_on_disk) = measured.unwrap_or_default();
        stats
    }

    /// Keeps the table: writes what waits, then does the upkeep that is due.
    async fn keep(&self) {
        let (mut failed, mut is_idle, mut mended) = (0, false, None);
        loop {
            let Ok(generation) = self.serving().await else { return };
            self.collect(&generation).await;
            let outcome = self.keep_once(&generation, is_idle, &mut mended).await;
            failed = if outcome.is_ok() { 0 } else { failed + 1 };
            if failed >= DAMAGED_AFTER {
                failed = 0;
                self.broken.store(true, Ordering::Release);
                self.fill.notify_one();
            }
            let pause = if failed > 0 { self.options.retry.0 * (1 << failed) } else { self.options.idle_after };
            is_idle = tokio::select! {
                () = self.wake.notified() => false,
                () = tokio::time::sleep(pause) => true,
            };
        }
    }

    /// Collects changes for a moment, so that they are written together. When none wait, a search has written them, and they count
    /// for upkeep all the same.
    async fn collect(&self, generation: &Generation) {
        let until = Instant::now() + self.options.flush_after;
        while (1..FLUSH_ROWS).contains(&generation.pending()) {
            tokio::select! {
                () = tokio::time::sleep_until(until) => return,
                () = self.wake.notified() => {}
            }
        }
    }

    async fn keep_once(
        &self,
        generation: &Arc<Generation>,
        is_idle: bool,
        mended: &mut Option<Instant>,
    ) -> Result<(), IndexError> {
        generation.flush().await?;
        // Not again and again: a question that always fails must not keep the machine busy.
        let may_mend = mended.is_none_or(|mended| mended.elapsed() >= self.options.prune_every);
        if self.suspect.swap(false, Ordering::AcqRel) && may_mend {
            *mended = Some(Instant::now());
            Box::pin(generation.mend_text()).await?;
        }
        Box::pin(generation.tend(is_idle, self.options.prune_every)).await
    }
}

/// The vectors of entries whose embedder is in this process; the others' come later.
async fn embed_instantly<'a>(generation: &Generation, entries: impl Iterator<Item = &'a Entry>) -> Vec<Option<Code>> {
    let texts: Vec<String> = entries.map(|entry| entry.text.clone()).collect();
    let Some(embedder) = generation.embedder.as_ref().filter(|embedder| embedder.is_instant()) else {
        return vec![None; texts.len()];
    };
    embed(embedder.as_ref(), &texts, generation.meta.dimensions)
        .await
        .map_or_else(|_| vec![None; texts.len()], |codes| codes.into_iter().map(Some).collect())
}

/// The vectors of texts, made small.
pub(super) async fn embed(
    embedder: &dyn Embedder,
    texts: &[String],
    dimensions: usize,
) -> Result<Vec<Code>, IndexError> {
    let vectors = if texts.is_empty() { Vec::new() } else { embedder.embed(texts).await.map_err(IndexError::Embed)? };
    if vectors.len() != texts.len() || vectors.iter().any(|vector| vector.len() != dimensions) {
        let why = format!("{} texts gave {} vectors, not all of length {dimensions}", texts.len(), vectors.len());
        return Err(IndexError::Embed(crate::embed::EmbedError::Garbled { embedder: embedder.id(), why }));
    }
    Ok(vectors.iter().map(|vector| Code::of(vector)).collect())
}
