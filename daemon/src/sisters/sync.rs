//! The memory's sync with each member: at once when it comes, again every half minute, and soon after this node wrote something that
//! gossip does not carry.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use federation::Linked;
use memory::Memory;
use memory::sync::{End, Link, LinkConfig};
use nips::memory::Space;
use nostr::PublicKey;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The usual pause between two syncs.
const PAUSE: Duration = Duration::from_secs(30);
/// It differs by up to this much, so that ten nodes do not sync at once.
const JITTER_MS: u64 = 6_000;
/// Spaces that wait to be synced soon; more are synced at the usual time.
const SOON: usize = 64;
/// How long a stream of letters is left open for the other side's sync.
const FAR_REST: Duration = Duration::from_secs(30);
/// Several writes within this time are one reason to sync.
const GATHER: Duration = Duration::from_millis(50);

/// Why the last sync of a space did not end, by space.
pub type Failures = BTreeMap<Space, String>;

/// The links to the members. Clones share them.
#[derive(Clone)]
pub struct Links {
    memory: Memory,
    tracker: TaskTracker,
    cancel: CancellationToken,
    soon: broadcast::Sender<Space>,
    open: Arc<Mutex<BTreeMap<PublicKey, Link>>>,
    failures: Arc<Mutex<BTreeMap<PublicKey, Failures>>>,
}

impl Links {
    /// None yet.
    pub fn new(memory: Memory, tracker: TaskTracker, cancel: CancellationToken) -> Self {
        let (soon, _) = broadcast::channel(SOON);
        Self { memory, tracker, cancel, soon, open: Arc::default(), failures: Arc::default() }
    }

    /// Syncs this space soon with whoever shares it.
    pub fn soon(&self, space: Space) {
        // Without links nobody has to be told.
        let _ = self.soon.send(space);
    }

    /// What did not end the last time that it was synced with an install.
    pub fn failures(&self, install: &PublicKey) -> Failures {
        let all = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(install).cloned().unwrap_or_default()
    }

    /// A member's stream: both sides sync over it from now on.
    pub fn add(&self, linked: Linked) {
        let replica = Arc::new(self.memory.clone());
        let config = LinkConfig::new(rand::random());
        let link = Link::start(linked.stream, linked.install, replica, config, (&self.tracker, &self.cancel));
        let old = self.open.lock().unwrap_or_else(PoisonError::into_inner).insert(linked.install, link.clone());
        if let Some(old) = old {
            old.close();
        }
        if linked.is_far {
            self.tracker.spawn(self.clone().sync_once(linked.install, link));
        } else {
            let soon = self.soon.subscribe();
            self.tracker.spawn(self.clone().keep_equal(linked.install, link, soon));
        }
    }

    /// By letters: once, and then the stream ends. The side that answers waits until the other has done.
    async fn sync_once(self, install: PublicKey, link: Link) {
        let spaces = self.memory.spaces_with(install).await.unwrap_or_default();
        for space in spaces {
            self.sync(&install, &link, space).await;
        }
        let rest = tokio::time::timeout(FAR_REST, link.closed());
        tokio::select! {
            () = self.cancel.cancelled() => {}
            _ = rest => {}
        }
        link.close();
    }

    async fn keep_equal(self, install: PublicKey, link: Link, mut soon: broadcast::Receiver<Space>) {
        loop {
            match self.memory.spaces_with(install).await {
                Ok(spaces) => {
                    for space in spaces {
                        self.sync(&install, &link, space).await;
                    }
                }
                Err(error) => tracing::warn!(%error, "the memory does not say what is shared"),
            }
            let pause = PAUSE + Duration::from_millis(rand::random::<u64>() % JITTER_MS);
            let next = tokio::time::sleep(pause);
            tokio::pin!(next);
            loop {
                tokio::select! {
                    () = self.cancel.cancelled() => return,
                    () = link.closed() => return,
                    () = &mut next => break,
                    space = soon.recv() => match space {
                        Ok(space) => {
                            tokio::time::sleep(GATHER).await;
                            soon = soon.resubscribe();
                            self.sync(&install, &link, space).await;
                        }
                        // More than fit: all of them.
                        Err(_) => break,
                    },
                }
            }
        }
    }

    async fn sync(&self, install: &PublicKey, link: &Link, space: Space) {
        let report = match link.sync(space.clone()).await {
            Ok(report) => report,
            Err(error) => return tracing::debug!(%error, %space, "no sync"),
        };
        let mut all = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let failures = all.entry(*install).or_default();
        if matches!(report.end, End::Complete) {
            failures.remove(&space);
        } else {
            failures.insert(space, format!("{:?}", report.end));
        }
    }
}
