//! Keeping the index equal to the truth: the difference at each start, entries that wait for a vector, and new generations.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use nips::memory::EntryId;

use super::Progress;
use super::codes::{Code, MAX_DIMENSIONS};
use super::driver::{Shared, embed};
use super::error::IndexError;
use super::folder;
use super::generation::Generation;
use super::source::Source;
use super::stats::{IndexState, Work};
use crate::embed::{EmbedError, Embedder};
use crate::entry::Entry;

/// Ids read from the truth at a time.
const IDS_AT_A_TIME: usize = 10_000;
/// Entries taken in at a time: at most 64 MB of text, usually a few hundred kilobytes.
const ENTRIES_AT_A_TIME: usize = 1_000;
/// Entries that one request to an embedder carries that is outside this process, or slow.
const EMBEDDED_AT_A_TIME: usize = 64;
/// Times that a rebuild asks an embedder again before it gives up what it has made.
const TRIES: u32 = 6;

impl Shared {
    /// Compares with the truth, then keeps what is wanted: the wanted embedder's vectors, of every entry.
    pub(super) async fn fill(&self) {
        let mut pause = self.options.retry.0;
        loop {
            let outcome = self.fill_once().await;
            self.counters.note(Work::Other, &outcome, (self.options.clock)());
            match outcome {
                Ok(true) => pause = self.options.retry.0,
                Ok(false) => {
                    pause = self.options.retry.0;
                    self.fill.notified().await;
                }
                Err(_) => {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(self.options.retry.1);
                }
            }
        }
    }

    /// Does the first thing that is missing; false when nothing is.
    async fn fill_once(&self) -> Result<bool, IndexError> {
        let generation = self.serving().await?;
        if !*self.is_healed.borrow() {
            self.heal(&generation).await?;
            return Ok(true);
        }
        if self.broken.swap(false, Ordering::AcqRel) {
            tracing::warn!("the memory's index cannot be kept and is made anew from the entries");
            let rebuilt = self.rebuild(&|_| {}).await;
            if rebuilt.is_err() {
                self.broken.store(true, Ordering::Release);
            }
            return rebuilt.map(|()| true);
        }
        // What waits in a generation that is to go gets its vector in the next one: what made this one may not be at hand.
        if generation.meta.embedder != self.wanted.id() {
            self.rebuild(&|_| {}).await?;
            return Ok(true);
        }
        if generation.read().scan.waiting() > 0 {
            self.embed_some(&generation).await?;
            return Ok(true);
        }
        Ok(false)
    }

    /// Makes up for the exact difference of ids between the truth and the index.
    async fn heal(&self, generation: &Arc<Generation>) -> Result<(), IndexError> {
        let _filling = self.filling.lock().await;
        let had: HashSet<EntryId> = {
            let mut changes = self.changes.lock().await;
            changes.touched = Some(HashSet::new());
            generation.read().scan.ids().collect()
        };
        let outcome = self.heal_from(generation, &had).await;
        self.changes.lock().await.touched = None;
        outcome?;
        folder::sweep_damaged(&self.options.dir)?;
        self.set_state(IndexState::Ready);
        self.is_healed.send_replace(true);
        Ok(())
    }

    async fn heal_from(&self, generation: &Arc<Generation>, had: &HashSet<EntryId>) -> Result<(), IndexError> {
        let truth = self.all_ids().await?;
        let missing: Vec<EntryId> = truth.iter().filter(|id| !had.contains(*id)).copied().collect();
        self.take_in(generation, &missing, &|_| {}).await?;
        let truth: HashSet<EntryId> = truth.into_iter().collect();
        let foreign: Vec<EntryId> = had.iter().filter(|id| !truth.contains(*id)).copied().collect();
        if missing.len() + foreign.len() > 0 {
            tracing::info!(
                missing = missing.len(),
                foreign = foreign.len(),
                "the memory's index was made equal to the entries"
            );
        }
        let changes = self.changes.lock().await;
        let mut live = generation.write();
        for id in foreign.iter().filter(|id| !changes.was_touched(id)) {
            live.remove(id);
        }
        drop(live);
        self.wake.notify_one();
        Ok(())
    }

    /// Makes a generation anew by the wanted embedder and lets it serve.
    pub(super) async fn rebuild(&self, progress: &(impl Fn(Progress) + Sync)) -> Result<(), IndexError> {
        self.healed().await?;
        let _filling = self.filling.lock().await;
        let dimensions = self.dimensions().await?;
        let next = Arc::new(Box::pin(self.begin(self.wanted.clone(), dimensions)).await?);
        self.set_state(IndexState::Rebuilding);
        {
            let mut changes = self.changes.lock().await;
            changes.touched = Some(HashSet::new());
            changes.next = Some(next.clone());
        }
        let unfinished = Unfinished { shared: self, next: Some(next.clone()) };
        self.rebuild_as(unfinished, &next, progress).await
    }

    async fn rebuild_as(
        &self,
        mut unfinished: Unfinished<'_>,
        next: &Arc<Generation>,
        progress: &(impl Fn(Progress) + Sync),
    ) -> Result<(), IndexError> {
        let ids = self.all_ids().await?;
        self.take_in(next, &ids, progress).await?;
        next.flush().await?;
        Box::pin(next.tend(true, Duration::ZERO)).await?;
        let mut changes = self.changes.lock().await;
        let touched = changes.touched.clone().unwrap_or_default();
        let old = self.serving().await?;
        self.settle(next, &old, touched).await?;
        next.flush().await?;
        folder::set_current(&self.options.dir, &next.name)?;
        changes.next = None;
        changes.touched = None;
        unfinished.next = None;
        self.serving.send_replace(Some(next.clone()));
        // What was changed meanwhile may wait for a slow embedder; whoever asked for the rebuild need not be the filling task.
        self.fill.notify_one();
        drop(changes);
        self.wake.notify_one();
        old.retire().await
    }

    /// Brings what was changed during a rebuild to the state that it has in the generation that serves.
    async fn settle(&self, next: &Generation, old: &Generation, touched: HashSet<EntryId>) -> Result<(), IndexError> {
        let (there, gone): (Vec<EntryId>, Vec<EntryId>) = {
            let live = old.read();
            touched.into_iter().partition(|id| live.scan.slot(id).is_some())
        };
        for ids in there.chunks(ENTRIES_AT_A_TIME) {
            let entries = self.entries(ids).await?;
            // Those of a slow embedder get their vectors later: everybody who changes something waits for this.
            let codes = match next.embedder.as_ref().filter(|embedder| embedder.is_instant()) {
                Some(embedder) => self.codes(embedder.as_ref(), &entries, next.meta.dimensions).await?,
                None => vec![None; entries.len()],
            };
            let mut live = next.write();
            entries.into_iter().zip(codes).for_each(|(entry, code)| live.insert(entry, code));
        }
        let mut live = next.write();
        gone.iter().for_each(|id| live.remove(id));
        Ok(())
    }

    /// Takes entries of the truth into a generation, except those that were changed meanwhile.
    async fn take_in(
        &self,
        generation: &Arc<Generation>,
        ids: &[EntryId],
        progress: &(impl Fn(Progress) + Sync),
    ) -> Result<(), IndexError> {
        let total = ids.len();
        let embedder = generation.embedder.clone();
        let instantly = embedder.as_ref().is_some_and(|embedder| embedder.is_instant());
        // A serving generation is healed without waiting for a slow embedder: full text finds the entries at once.
        let is_serving = self.serving().await?.name == generation.name;
        let at_a_time = if instantly || is_serving { ENTRIES_AT_A_TIME } else { EMBEDDED_AT_A_TIME };
        let mut done = 0;
        progress(Progress { done, total });
        for ids in ids.chunks(at_a_time) {
            let entries = self.entries(ids).await?;
            let codes = match &embedder {
                Some(embedder) if instantly || !is_serving => {
                    self.codes(embedder.as_ref(), &entries, generation.meta.dimensions).await?
                }
                Some(_) | None => vec![None; entries.len()],
            };
            {
                let changes = self.changes.lock().await;
                let mut live = generation.write();
                for (entry, code) in entries.into_iter().zip(codes) {
                    if !changes.was_touched(&entry.id) {
                        live.insert(entry, code);
                    }
                }
            }
            if generation.pending() >= ENTRIES_AT_A_TIME * 8 {
                generation.flush().await?;
            }
            done += ids.len();
            progress(Progress { done, total });
        }
        Ok(())
    }

    /// The vectors of entries, asked for several times if need be.
    async fn codes(
        &self,
        embedder: &dyn Embedder,
        entries: &[Entry],
        dimensions: usize,
    ) -> Result<Vec<Option<Code>>, IndexError> {
        let texts: Vec<String> = entries.iter().map(|entry| entry.text.clone()).collect();
        let mut pause = self.options.retry.0;
        for _ in 1..TRIES {
            match embed(embedder, &texts, dimensions).await {
                Ok(codes) => return Ok(codes.into_iter().map(Some).collect()),
                Err(error) => tracing::debug!(%error, "the embedder is asked again"),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(self.options.retry.1);
        }
        embed(embedder, &texts, dimensions).await.map(|codes| codes.into_iter().map(Some).collect())
    }

    /// The length of the wanted embedder's vectors; it is asked for one, so that it is known to answer.
    async fn dimensions(&self) -> Result<usize, IndexError> {
        let vectors = self.wanted.embed(&["memory".to_owned()]).await.map_err(IndexError::Embed)?;
        let length = vectors.first().map_or(0, Vec::len);
        if (1..=MAX_DIMENSIONS).contains(&length) && self.wanted.dimensions().is_none_or(|known| known == length) {
            return Ok(length);
        }
        let why = format!("a vector of length {length}");
        Err(IndexError::Embed(EmbedError::Garbled { embedder: self.wanted.id(), why }))
    }

    /// Embeds some of the entries that wait for it.
    async fn embed_some(&self, generation: &Arc<Generation>) -> Result<(), IndexError> {
        let Some(embedder) = &generation.embedder else { return Ok(()) };
        let ids = generation.read().scan.some_waiting(EMBEDDED_AT_A_TIME);
        let entries = self.entries(&ids).await?;
        let texts: Vec<String> = entries.iter().map(|entry| entry.text.clone()).collect();
        let codes = embed(embedder.as_ref(), &texts, generation.meta.dimensions).await?;
        let found: HashSet<EntryId> = entries.iter().map(|entry| entry.id).collect();
        {
            let _order = self.changes.lock().await;
            let mut live = generation.write();
            entries.into_iter().zip(&codes).for_each(|(entry, code)| live.embed(entry, code));
            // The truth does not know them: whoever took them out of it has not told the index yet.
            ids.iter().filter(|id| !found.contains(*id)).for_each(|id| live.remove(id));
        }
        self.wake.notify_one();
        Ok(())
    }

    async fn all_ids(&self) -> Result<Vec<EntryId>, IndexError> {
        self.blocking(|source| {
            let (mut all, mut after) = (Vec::new(), i64::MIN);
            loop {
                let ids = source.ids(after, IDS_AT_A_TIME)?;
                all.extend(ids.iter().map(|(_, id)| *id));
                match ids.last() {
                    Some((row, _)) if ids.len() >= IDS_AT_A_TIME => after = *row,
                    Some(_) | None => return Ok(all),
                }
            }
        })
        .await
    }

    async fn entries(&self, ids: &[EntryId]) -> Result<Vec<Entry>, IndexError> {
        let ids = ids.to_vec();
        self.blocking(move |source| source.entries(&ids)).await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        read: impl FnOnce(&dyn Source) -> Result<T, super::SourceError> + Send + 'static,
    ) -> Result<T, IndexError> {
        let source = self.source.clone();
        let done = tokio::task::spawn_blocking(move || read(source.as_ref())).await;
        done.map_err(|error| IndexError::Task(error.to_string()))?.map_err(IndexError::Source)
    }
}

/// A rebuild under way. One that fails, or is given up by whoever waits for it, leaves nothing behind.
struct Unfinished<'a> {
    shared: &'a Shared,
    /// None once it serves.
    next: Option<Arc<Generation>>,
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        self.shared.set_state(IndexState::Ready);
        let Some(next) = self.next.take() else { return };
        // Somebody who is changing something just now leaves the list to the next filling, which begins it anew.
        if let Ok(mut changes) = self.shared.changes.try_lock() {
            changes.touched = None;
            changes.next = None;
        }
        next.abandon();
    }
}

impl super::driver::Changes {
    fn was_touched(&self, id: &EntryId) -> bool {
        self.touched.as_ref().is_some_and(|touched| touched.contains(id))
    }
}
