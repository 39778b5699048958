//! Who is who, for those who must know at once: the network's gate and the memory's directory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{PoisonError, RwLock};

use nostr::PublicKey;

use crate::membership::Standing;
use crate::net::{self, Gate, PeerId};

/// An install as its card and the log tell of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// Its passport.
    pub passport: PublicKey,
    /// What it is.
    pub standing: Standing,
}

#[derive(Debug, Default)]
struct Inner {
    peers: BTreeMap<PeerId, Standing>,
    installs: BTreeMap<PublicKey, Known>,
    alive: BTreeMap<PublicKey, BTreeSet<u16>>,
    is_inviting: bool,
}

/// The present answers. Clones of the `Arc` around it see the same.
#[derive(Debug, Default)]
pub struct View(RwLock<Inner>);

impl View {
    fn read(&self) -> std::sync::RwLockReadGuard<'_, Inner> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who an install is; none for strangers and those who were removed.
    pub fn install(&self, install: &PublicKey) -> Option<Known> {
        self.read().installs.get(install).copied()
    }

    /// The passports of living members that can do jobs of this kind; this node is not among them.
    pub fn able(&self, kind: u16) -> BTreeSet<PublicKey> {
        self.read().alive.iter().filter(|(_, kinds)| kinds.contains(&kind)).map(|(passport, _)| *passport).collect()
    }

    /// The kinds of jobs that some living member can do.
    pub fn abilities(&self) -> BTreeSet<u16> {
        self.read().alive.values().flatten().copied().collect()
    }

    pub(super) fn set_alive(&self, alive: BTreeMap<PublicKey, BTreeSet<u16>>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).alive = alive;
    }

    /// Puts new answers in the place of the old; the peers whose answer changed.
    pub(super) fn set(&self, all: impl Iterator<Item = (PeerId, PublicKey, Known)>) -> Vec<PeerId> {
        let (mut peers, mut installs) = (BTreeMap::new(), BTreeMap::new());
        for (peer, install, known) in all {
            peers.insert(peer, known.standing);
            if known.standing.is_member() {
                installs.insert(install, known);
            }
        }
        let mut inner = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let of = |map: &BTreeMap<PeerId, Standing>, peer: &PeerId| map.get(peer).copied();
        let all: BTreeSet<PeerId> = peers.keys().chain(inner.peers.keys()).copied().collect();
        let changed = all.into_iter().filter(|peer| of(&peers, peer) != of(&inner.peers, peer)).collect();
        (inner.peers, inner.installs) = (peers, installs);
        changed
    }

    pub(super) fn set_inviting(&self, is_inviting: bool) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).is_inviting = is_inviting;
    }
}

impl Gate for View {
    fn standing(&self, peer: &PeerId) -> net::Standing {
        match self.read().peers.get(peer) {
            Some(standing) if standing.is_member() => net::Standing::Member,
            // One that was removed may come back by a new code; it is shown in by the invitation, as a stranger.
            Some(_) | None => net::Standing::Stranger,
        }
    }

    fn is_inviting(&self) -> bool {
        self.read().is_inviting
    }
}
