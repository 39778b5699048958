//! Who is who, for those who must know at once: the network's gate and the memory's directory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{PoisonError, RwLock};

use nips::task::{Ability, AudienceClass};
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

/// The jobs that a member can do, by kind, as its card says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Abilities {
    /// For whoever asks.
    pub anyone: BTreeSet<u16>,
    /// For the owner and the people they named.
    pub known: BTreeSet<u16>,
}

/// What the ability to do a kind for known people alone ends with in a card.
const FOR_KNOWN: &str = "/known";

impl Abilities {
    /// Reads a card's words; what is no job kind is left out.
    pub fn read(words: &[String]) -> Self {
        let mut all = Self::default();
        for word in words {
            let (kind, is_known) = word.strip_suffix(FOR_KNOWN).map_or((word.as_str(), false), |kind| (kind, true));
            let Some(kind) = kind.parse().ok().and_then(Ability::of_kind).map(Ability::kind) else { continue };
            all.known.insert(kind);
            if !is_known {
                all.anyone.insert(kind);
            }
        }
        all
    }

    /// The words for a card.
    pub fn words(&self) -> Vec<String> {
        let known = self.known.difference(&self.anyone).map(|kind| format!("{kind}{FOR_KNOWN}"));
        self.anyone.iter().map(u16::to_string).chain(known).collect()
    }

    /// The kinds that are done for this audience.
    pub fn of(&self, audience: AudienceClass) -> &BTreeSet<u16> {
        if audience == AudienceClass::Stranger { &self.anyone } else { &self.known }
    }
}

#[derive(Debug, Default)]
struct Inner {
    peers: BTreeMap<PeerId, Standing>,
    installs: BTreeMap<PublicKey, Known>,
    alive: BTreeMap<PublicKey, Abilities>,
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

    /// The passports of living members that can do jobs of this kind for such people; this node is not among them.
    pub fn able(&self, kind: u16, audience: AudienceClass) -> BTreeSet<PublicKey> {
        let inner = self.read();
        let able = inner.alive.iter().filter(|(_, abilities)| abilities.of(audience).contains(&kind));
        able.map(|(passport, _)| *passport).collect()
    }

    /// The kinds of jobs that some living member can do for such people.
    pub fn abilities(&self, audience: AudienceClass) -> BTreeSet<u16> {
        self.read().alive.values().flat_map(|abilities| abilities.of(audience)).copied().collect()
    }

    /// The install keys of all members whose cards are known.
    pub fn installs(&self) -> BTreeSet<PublicKey> {
        self.read().installs.keys().copied().collect()
    }

    /// The passports of all members whose cards are known, this node's own too when it has one here.
    pub fn members(&self) -> BTreeSet<PublicKey> {
        self.read().installs.values().map(|known| known.passport).collect()
    }

    pub(super) fn set_alive(&self, alive: BTreeMap<PublicKey, Abilities>) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn abilities_are_written_and_read_and_nonsense_is_left_out() {
        let all = Abilities { anyone: BTreeSet::from([5000, 5001]), known: BTreeSet::from([5000, 5001, 5050]) };
        assert_eq!(all.words(), ["5000", "5001", "5050/known"]);
        assert_eq!(Abilities::read(&all.words()), all);
        let odd = ["4999", "6000", "x", "", "5050/known/known", "/known", "5002"].map(str::to_owned);
        assert_eq!(Abilities::read(&odd).anyone, BTreeSet::from([5002]));
        assert!(!Abilities::read(&all.words()).of(AudienceClass::Stranger).contains(&5050));
    }
}
