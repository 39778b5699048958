//! How equal the memories are: each member says how much of what two share it has, and what the other says is held against it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use federation::{Federation, View};
use memory::{Census, Memory, MemoryError};
use nips::federation::{MemoryDigest, SpaceDigest};
use nips::memory::Space;
use nostr::{Event, Keys, PublicKey, Timestamp};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How often it is looked whether there is something to say.
const LOOK: Duration = Duration::from_secs(2);
/// A memory that changes all the time is counted this often.
const BUSY: Duration = Duration::from_secs(30);
/// What did not change is said again after this.
const AGAIN: Duration = Duration::from_secs(300);
/// How long it is worth anything to a member that is away, seconds.
const LIFE_S: u64 = 600;
/// A stream by letters for the same difference is not opened again before this.
const TUNNEL_AGAIN: Duration = Duration::from_secs(60);

/// What a member said it has, and when.
#[derive(Debug, Clone)]
pub struct Told {
    /// It.
    pub digest: MemoryDigest,
    /// The signed event.
    pub event: Event,
}

/// The newest words of each member, by install key, and what is here. Clones share them.
#[derive(Clone, Default)]
pub struct Digests {
    told: Arc<Mutex<BTreeMap<PublicKey, Told>>>,
    /// Counted once for all members, and anew when the memory has changed.
    counted: Arc<tokio::sync::Mutex<Counted>>,
}

/// What one member lacks, and this node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Difference {
    /// Changes of each shard that this node has beyond the other's; by the space where shards are not counted.
    pub lag: BTreeMap<String, u64>,
    /// The same the other way.
    pub ahead: BTreeMap<String, u64>,
    /// Spaces whose ids differ.
    pub differing: BTreeSet<String>,
}

impl Digests {
    /// A member said something; its signature and its membership are checked.
    pub fn heard(&self, event: &Event) {
        match MemoryDigest::read(event) {
            Ok(digest) => {
                let mut told = self.told();
                let is_newer = told.get(&event.pubkey).is_none_or(|old| old.event.created_at <= event.created_at);
                if is_newer {
                    told.insert(event.pubkey, Told { digest, event: event.clone() });
                }
            }
            Err(error) => tracing::debug!(%error, "a memory digest is not taken"),
        }
    }

    fn told(&self) -> std::sync::MutexGuard<'_, BTreeMap<PublicKey, Told>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What this node has of the spaces that it shares with an install.
    ///
    /// # Errors
    /// When the memory cannot be read.
    pub async fn ours(&self, memory: &Memory, install: PublicKey) -> Result<MemoryDigest, MemoryError> {
        self.counted.lock().await.digest(memory, install).await
    }

    /// What an install said last.
    pub fn of(&self, install: &PublicKey) -> Option<Told> {
        self.told().get(install).cloned()
    }
}

/// Holds what a member said against what is here.
pub fn compare(ours: &MemoryDigest, theirs: &MemoryDigest) -> Difference {
    let mut difference = Difference::default();
    for (name, here) in &ours.spaces {
        let empty = SpaceDigest { changes: 0, digest: String::new(), shards: BTreeMap::new() };
        let there = theirs.spaces.get(name).unwrap_or(&empty);
        if here.digest == there.digest || (here.changes == 0 && there.changes == 0) {
            continue;
        }
        difference.differing.insert(name.clone());
        let by_space = |of: &SpaceDigest| BTreeMap::from([(name.clone(), of.changes)]);
        let is_counted = |of: &SpaceDigest| of.changes == 0 || !of.shards.is_empty();
        let (a, b) = match is_counted(here) && is_counted(there) {
            true => (here.shards.clone(), there.shards.clone()),
            false => (by_space(here), by_space(there)),
        };
        for shard in a.keys().chain(b.keys()) {
            let (mine, its) = (a.get(shard).copied().unwrap_or(0), b.get(shard).copied().unwrap_or(0));
            if mine > its {
                difference.lag.insert(shard.clone(), mine - its);
            } else if its > mine {
                difference.ahead.insert(shard.clone(), its - mine);
            }
        }
    }
    difference
}

/// Counts of one version of the memory.
#[derive(Default)]
struct Counted {
    version: u64,
    spaces: BTreeMap<Space, Census>,
}

impl Counted {
    async fn digest(&mut self, memory: &Memory, install: PublicKey) -> Result<MemoryDigest, MemoryError> {
        let version = memory.version().await?;
        if version != self.version {
            self.spaces.clear();
            self.version = version;
        }
        let mut digest = MemoryDigest::default();
        for space in memory.spaces_with(install).await? {
            if !self.spaces.contains_key(&space) {
                self.spaces.insert(space.clone(), memory.census(space.clone()).await?);
            }
            let Some(census) = self.spaces.get(&space) else { continue };
            let counted = SpaceDigest {
                changes: census.changes,
                digest: hex::encode(census.digest),
                shards: census.shards.clone(),
            };
            digest.spaces.insert(space.to_string(), counted);
        }
        Ok(digest)
    }
}

/// Says to each member what is here, when that changed and from time to time; syncs with those that only letters reach when they
/// have something else.
pub async fn tell(memory: Memory, install: Keys, federation: Federation, digests: Digests, cancel: CancellationToken) {
    let mut said: BTreeMap<PublicKey, (MemoryDigest, Instant)> = BTreeMap::new();
    let mut dug: BTreeMap<PublicKey, ((MemoryDigest, MemoryDigest), Instant)> = BTreeMap::new();
    let (mut last, mut looked) = (0, Instant::now());
    let mut tick = tokio::time::interval(LOOK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            _ = tick.tick() => {}
        }
        // While much comes in, counting it again and again would be most of the work.
        let version = memory.version().await.unwrap_or(last);
        let is_calm = std::mem::replace(&mut last, version) == version;
        if !is_calm && looked.elapsed() < BUSY {
            continue;
        }
        looked = Instant::now();
        let members = installs(federation.view(), &install.public_key());
        said.retain(|member, _| members.contains(member));
        for member in members {
            let digest = match digests.ours(&memory, member).await {
                Ok(digest) => digest,
                Err(error) => {
                    tracing::debug!(%error, "the memory cannot be counted now");
                    break;
                }
            };
            let is_said = said.get(&member).is_some_and(|(last, at)| *last == digest && at.elapsed() < AGAIN);
            if !is_said {
                let event = digest.to_event().custom_created_at(Timestamp::now()).sign_with_keys(&install);
                if let Ok(event) = event {
                    federation.send(member, event, LIFE_S).await;
                    said.insert(member, (digest.clone(), Instant::now()));
                }
            }
            let Some(told) = digests.of(&member) else { continue };
            let difference = (digest, told.digest);
            let is_new = dug.get(&member).is_none_or(|(of, at)| *of != difference || at.elapsed() >= TUNNEL_AGAIN);
            let differs = !compare(&difference.0, &difference.1).differing.is_empty();
            // One side is enough: the one with the lower key.
            if differs && is_new && install.public_key() < member {
                dug.insert(member, (difference, Instant::now()));
                federation.open_tunnel(member).await;
            }
        }
    }
}

/// The members' installs, without this node's own.
fn installs(view: &View, own: &PublicKey) -> BTreeSet<PublicKey> {
    let mut all = view.installs();
    all.remove(own);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(changes: u64, digest: &str, shards: &[(&str, u64)]) -> MemoryDigest {
        let shards = shards.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
        let space = SpaceDigest { changes, digest: digest.repeat(64), shards };
        MemoryDigest { spaces: [("fleet".to_owned(), space)].into() }
    }

    #[test]
    fn who_lacks_what_is_told_by_shard_and_by_space_where_shards_are_not_counted() {
        let ours = digest(5, "a", &[("mine", 3), ("yours", 2)]);
        assert_eq!(compare(&ours, &ours), Difference::default());
        let theirs = digest(5, "b", &[("mine", 1), ("yours", 4)]);
        let found = compare(&ours, &theirs);
        assert_eq!((found.lag, found.ahead), ([("mine".to_owned(), 2)].into(), [("yours".to_owned(), 2)].into()));
        assert!(found.differing.contains("fleet"));
        let uncounted = compare(&ours, &digest(900, "c", &[]));
        assert_eq!(uncounted.ahead, [("fleet".to_owned(), 895)].into());
        let nothing = compare(&ours, &MemoryDigest::default());
        assert_eq!(nothing.lag, [("mine".to_owned(), 3), ("yours".to_owned(), 2)].into());
        // The same number of other changes is a difference too.
        let other = compare(&ours, &digest(5, "d", &[("mine", 3), ("yours", 2)]));
        assert!(other.lag.is_empty() && other.differing.contains("fleet"));
    }
}
