//! A memory of the product, opened as a node opens it.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use memory::{Directory, Memory, MemoryOptions, SealKey, StaticEmbedder, Writer};
use nips::memory::Space;
use nostr::{Keys, PublicKey, SecretKey};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Upkeep that did nothing for so long has nothing to do.
const QUIET: Duration = Duration::from_secs(2);
/// Rows that the full-text index may lack by design.
const TAIL: usize = 1_000;

/// Nodes of one owner.
struct Sisters;

impl Directory for Sisters {
    fn writer(&self, install: &PublicKey) -> Option<Writer> {
        Some(Writer { npub: *install, acts_for_owner: true })
    }

    fn may_share(&self, _install: &PublicKey, _space: &Space) -> bool {
        true
    }
}

/// The keys of one of them.
pub fn keys(number: u8) -> Keys {
    Keys::new(SecretKey::from_slice(&[number; 32]).unwrap())
}

/// A memory that runs.
pub struct House {
    pub memory: Memory,
    tracker: TaskTracker,
    cancel: CancellationToken,
}

impl House {
    /// Opens the memory of a node in `dir`.
    pub async fn open(dir: &Path, number: u8) -> Self {
        let (tracker, cancel) = (TaskTracker::new(), CancellationToken::new());
        let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let options = MemoryOptions {
            dir: dir.to_owned(),
            install: keys(number),
            author: keys(number).public_key(),
            key: SealKey::new([5; 32]),
            directory: Arc::new(Sisters),
            embedder: Arc::new(StaticEmbedder::new()),
            clock: Arc::new(now),
        };
        let memory = Memory::open(options, &tracker, cancel.clone()).await.unwrap();
        Self { memory, tracker, cancel }
    }

    /// Waits until the index holds everything and its upkeep has nothing to do.
    pub async fn quiet(&self) {
        self.memory.settled().await.unwrap();
        let mut last = None;
        loop {
            let stats = self.memory.stats().await.unwrap().index;
            let seen = (stats.flushes, stats.refreshes, stats.compactions, stats.prunes, stats.pending);
            if last == Some(seen) && stats.pending == 0 && stats.tail < TAIL {
                return;
            }
            last = Some(seen);
            tokio::time::sleep(QUIET).await;
        }
    }

    /// Ends it in order.
    pub async fn close(self) {
        self.cancel.cancel();
        self.tracker.close();
        drop(self.memory);
        self.tracker.wait().await;
    }
}
