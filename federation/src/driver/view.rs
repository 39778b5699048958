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

/// The jobs that a member can do, by kind and for whom, as its card says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Abilities {
    /// For whoever asks.
    pub anyone: BTreeSet<u16>,
    /// For the owner, the people they named, and members.
    pub people: BTreeSet<u16>,
    /// For the owner.
    pub owner: BTreeSet<u16>,
}

/// What the ability to do a kind for people alone ends with in a card.
const FOR_PEOPLE: &str = "/people";
/// The same for the owner alone.
const FOR_OWNER: &str = "/owner";

impl Abilities {
    /// Reads a card's words; what is no job kind is left out.
    pub fn read(words: &[String]) -> Self {
        let mut all = Self::default();
        for word in words {
            let ends = |end: &'static str| word.strip_suffix(end).map(|kind| (kind, end));
            let (kind, end) = ends(FOR_PEOPLE).or_else(|| ends(FOR_OWNER)).unwrap_or((word, ""));
            let Some(kind) = kind.parse().ok().and_then(Ability::of_kind).map(Ability::kind) else { continue };
            all.owner.insert(kind);
            if end != FOR_OWNER {
                all.people.insert(kind);
            }
            if end.is_empty() {
                all.anyone.insert(kind);
            }
        }
        all
    }

    /// The words for a card.
    pub fn words(&self) -> Vec<String> {
        let people = self.people.difference(&self.anyone).map(|kind| format!("{kind}{FOR_PEOPLE}"));
        let owner = self.owner.difference(&self.people).map(|kind| format!("{kind}{FOR_OWNER}"));
        self.anyone.iter().map(u16::to_string).chain(people).chain(owner).collect()
    }

    /// The kinds that are done for this audience.
    pub fn of(&self, audience: AudienceClass) -> &BTreeSet<u16> {
        match audience {
            AudienceClass::Owner => &self.owner,
            AudienceClass::Person | AudienceClass::Member => &self.people,
            AudienceClass::Stranger => &self.anyone,
        }
    }
}

/// A member whose card is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    pub abilities: Abilities,
    /// Reached by a connection, or heard over a relay lately.
    pub is_alive: bool,
    /// A guest works for strangers' open jobs alone.
    pub is_guest: bool,
}

#[derive(Debug, Default)]
struct Inner {
    peers: BTreeMap<PeerId, Standing>,
    installs: BTreeMap<PublicKey, Known>,
    members: BTreeMap<PublicKey, Member>,
    is_inviting: bool,
}

impl Member {
    fn does(&self, audience: AudienceClass) -> Option<&BTreeSet<u16>> {
        (audience == AudienceClass::Stranger || !self.is_guest).then(|| self.abilities.of(audience))
    }
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

    fn able_of(&self, kind: u16, audience: AudienceClass, counts: impl Fn(&Member) -> bool) -> BTreeSet<PublicKey> {
        let inner = self.read();
        let is_able = |member: &Member| member.does(audience).is_some_and(|does| does.contains(&kind));
        let able = inner.members.iter().filter(|(_, member)| counts(member) && is_able(member));
        able.map(|(passport, _)| *passport).collect()
    }

    /// The passports of living members that can do jobs of this kind for such people; this node is not among them.
    pub fn able(&self, kind: u16, audience: AudienceClass) -> BTreeSet<PublicKey> {
        self.able_of(kind, audience, |member| member.is_alive)
    }

    /// The same with those that are thought dead.
    pub fn able_dead_or_alive(&self, kind: u16, audience: AudienceClass) -> BTreeSet<PublicKey> {
        self.able_of(kind, audience, |_| true)
    }

    /// The kinds of jobs that some living member can do for such people.
    pub fn abilities(&self, audience: AudienceClass) -> BTreeSet<u16> {
        let inner = self.read();
        let alive = inner.members.values().filter(|member| member.is_alive);
        alive.filter_map(|member| member.does(audience)).flatten().copied().collect()
    }

    /// The install keys of all members whose cards are known.
    pub fn installs(&self) -> BTreeSet<PublicKey> {
        self.read().installs.keys().copied().collect()
    }

    /// The passports of all members whose cards are known, this node's own too when it has one here.
    pub fn members(&self) -> BTreeSet<PublicKey> {
        self.read().installs.values().map(|known| known.passport).collect()
    }

    pub(super) fn set_members(&self, members: BTreeMap<PublicKey, Member>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).members = members;
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
        let (anyone, people) = (BTreeSet::from([5000, 5001]), BTreeSet::from([5000, 5001, 5002]));
        let all = Abilities { anyone, people, owner: BTreeSet::from([5000, 5001, 5002, 5050]) };
        assert_eq!(all.words(), ["5000", "5001", "5002/people", "5050/owner"]);
        assert_eq!(Abilities::read(&all.words()), all);
        let odd = ["4999", "6000", "x", "", "5050/people/owner", "/owner", "5002"].map(str::to_owned);
        assert_eq!(Abilities::read(&odd).owner, BTreeSet::from([5002]));
        let of = |audience| all.of(audience).contains(&5050);
        assert!(of(AudienceClass::Owner) && !of(AudienceClass::Person) && !of(AudienceClass::Stranger));
    }
}
