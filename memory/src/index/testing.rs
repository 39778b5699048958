//! What the tests of the index share.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use nips::memory::{EntryId, Space};
use nostr::Keys;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::*;
use crate::embed::{EmbedError, StaticEmbedder};
use crate::entry::EntryKind;

pub(super) const NOW: u64 = 1_800_000_000;

/// The id of an entry by number.
pub(super) fn id(n: u64) -> EntryId {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&n.to_be_bytes());
    EntryId::from_bytes(bytes)
}

/// A plain entry by number.
pub(super) fn entry(n: u64, text: &str) -> Entry {
    Entry {
        id: id(n),
        text: text.to_owned(),
        kind: EntryKind::Semantic,
        space: Space::fleet(),
        author: key(1),
        created_at: NOW - 1_000,
        person: None,
        tags: std::collections::BTreeSet::new(),
        importance: 0.5,
        valid_from: None,
        valid_until: None,
        supersedes: std::collections::BTreeSet::new(),
    }
}

/// A key by number.
pub(super) fn key(n: u8) -> nostr::PublicKey {
    Keys::new(nostr::SecretKey::from_slice(&[n; 32]).unwrap()).public_key()
}

/// The truth, in memory.
#[derive(Default)]
pub(super) struct Truth {
    rows: Mutex<BTreeMap<i64, Entry>>,
    pub fails: AtomicBool,
}

impl Truth {
    pub(super) fn put(&self, entry: Entry) {
        let mut rows = self.rows.lock().unwrap();
        let next = rows.last_key_value().map_or(1, |(row, _)| row + 1);
        rows.insert(next, entry);
    }

    pub(super) fn take(&self, id: &EntryId) {
        self.rows.lock().unwrap().retain(|_, entry| entry.id != *id);
    }
}

impl Source for Truth {
    fn rows(&self, after: i64, limit: usize) -> Result<Vec<SourceRow>, SourceError> {
        if self.fails.load(Ordering::Acquire) {
            return Err(SourceError("told to".to_owned()));
        }
        let rows = self.rows.lock().unwrap();
        let rows = rows.iter().filter(|(row, _)| **row > after).take(limit);
        Ok(rows.map(|(row, entry)| SourceRow { row: *row, entry: entry.clone() }).collect())
    }

    fn entries(&self, ids: &[EntryId]) -> Result<Vec<Entry>, SourceError> {
        let rows = self.rows.lock().unwrap();
        Ok(rows.values().filter(|entry| ids.contains(&entry.id)).cloned().collect())
    }
}

/// An embedder outside this process, with vectors of another length; it can be out of reach.
pub(super) struct Far {
    pub is_up: AtomicBool,
    pub calls: AtomicUsize,
    pub length: usize,
}

impl Far {
    pub(super) fn new(is_up: bool, length: usize) -> Arc<Self> {
        Arc::new(Self { is_up: AtomicBool::new(is_up), calls: AtomicUsize::new(0), length })
    }
}

#[async_trait]
impl Embedder for Far {
    fn id(&self) -> String {
        format!("far:{}", self.length)
    }

    fn dimensions(&self) -> Option<usize> {
        None
    }

    async fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, EmbedError> {
        self.calls.fetch_add(1, Ordering::AcqRel);
        if !self.is_up.load(Ordering::Acquire) {
            return Err(EmbedError::Unreachable { embedder: self.id(), why: "told to".to_owned() });
        }
        let vectors = StaticEmbedder::new().embed(texts).await?;
        Ok(vectors.into_iter().map(|vector| vector.iter().cycle().take(self.length).copied().collect()).collect())
    }
}

/// An index over a truth in memory, and what stops it.
pub(super) struct Running {
    pub index: Index,
    pub truth: Arc<Truth>,
    tracker: TaskTracker,
    cancel: CancellationToken,
}

impl Running {
    pub(super) fn start(dir: &Path, truth: Arc<Truth>, embedder: Arc<dyn Embedder>) -> Self {
        let mut options = IndexOptions::new(dir, Arc::new(|| NOW));
        options.retry = (Duration::from_millis(5), Duration::from_millis(50));
        Self::start_with(options, truth, embedder)
    }

    pub(super) fn start_with(options: IndexOptions, truth: Arc<Truth>, embedder: Arc<dyn Embedder>) -> Self {
        let (tracker, cancel) = (TaskTracker::new(), CancellationToken::new());
        let index = Index::open(options, truth.clone(), embedder, &tracker, cancel.clone()).unwrap();
        Self { index, truth, tracker, cancel }
    }

    pub(super) fn plain(dir: &Path) -> Self {
        Self::start(dir, Arc::default(), Arc::new(StaticEmbedder::new()))
    }

    /// Puts an entry into the truth and the index.
    pub(super) async fn add(&self, entries: impl IntoIterator<Item = Entry>) {
        let entries: Vec<Entry> = entries.into_iter().collect();
        entries.iter().for_each(|entry| self.truth.put(entry.clone()));
        self.index.apply(entries.into_iter().map(IndexChange::Upsert).collect()).await.unwrap();
    }

    pub(super) async fn find(&self, text: &str, mode: Mode) -> Vec<EntryId> {
        let hits = self.index.search_by(&Query::new(text), &Sight::All, NOW, mode).await.unwrap();
        hits.into_iter().map(|hit| hit.id).collect()
    }

    /// Waits until the stats are as they should be.
    pub(super) async fn until(&self, is_so: impl Fn(&IndexStats) -> bool) -> IndexStats {
        let look = async {
            loop {
                let stats = self.index.stats().await;
                if is_so(&stats) {
                    return stats;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        match tokio::time::timeout(Duration::from_secs(60), look).await {
            Ok(stats) => stats,
            Err(_) => panic!("never so: {:?}", self.index.stats().await),
        }
    }

    pub(super) async fn stop(self) {
        self.cancel.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }
}
