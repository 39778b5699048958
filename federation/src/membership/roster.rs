//! Who is behind an install key or a PeerId: the log with the peer cards that were seen.
//!
//! Envelopes are signed by install keys, the log speaks of passports, connections of PeerIds; cards bind the three. A card that has ended, or that a newer
//! one revoked, still tells whose an install key *was*: memory changes of a restored node's former install stay that node's. Whether the install
//! may still speak is another question ([`Known::is_newest`]).

use std::collections::BTreeMap;

use libp2p::PeerId;
use nips::PeerCard;
use nostr::{Event, PublicKey};

use super::{Log, MAX_MEMBERS, Standing};
use crate::handshake::KnownCards;

/// How many installs of one passport are known: as often as a node is restored in its life. The oldest is forgotten.
pub const MAX_INSTALLS: usize = 16;
/// How many passports' cards are kept: members, and as many that were removed.
pub const MAX_PASSPORTS: usize = 2 * MAX_MEMBERS;

/// One install, as it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Its passport.
    pub npub: PublicKey,
    /// What the passport is in the federation.
    pub standing: Standing,
    /// True when no newer card of the passport is known: this install speaks for it.
    pub is_newest: bool,
    /// Its card. It may have ended.
    pub card: PeerCard,
}

/// The cards that were seen. Kept for passports that the log knows; to be journaled by whoever drives.
#[derive(Debug, Clone, Default)]
pub struct Roster {
    /// By passport, then by (sequence, install): the last is the newest.
    cards: BTreeMap<PublicKey, BTreeMap<(u64, PublicKey), PeerCard>>,
    by_install: BTreeMap<PublicKey, PublicKey>,
}

impl Roster {
    /// Takes a card that was signed by all three keys, at `now` (Unix seconds); true when it is news. Cards of passports that the log does not
    /// know are left out.
    pub fn saw(&mut self, event: &Event, log: &Log, now: u64) -> bool {
        if event.verify().is_err() {
            return false;
        }
        PeerCard::read(event, now).is_ok_and(|card| self.insert(card, log))
    }

    /// Takes a card that was checked when it came: from the journal.
    pub fn insert(&mut self, card: PeerCard, log: &Log) -> bool {
        let is_known = log.standing(&card.passport) != Standing::Unknown;
        let is_others = self.by_install.get(&card.install).is_some_and(|npub| *npub != card.passport);
        let is_full = self.cards.len() >= MAX_PASSPORTS && !self.cards.contains_key(&card.passport);
        if !is_known || is_others || is_full {
            return false;
        }
        let cards = self.cards.entry(card.passport).or_default();
        let of_install = cards.values().find(|kept| kept.install == card.install);
        if of_install.is_some_and(|kept| (kept.sequence, kept.not_after) >= (card.sequence, card.not_after)) {
            return false;
        }
        cards.retain(|_, kept| kept.install != card.install);
        self.by_install.insert(card.install, card.passport);
        cards.insert((card.sequence, card.install), card);
        if cards.len() > MAX_INSTALLS
            && let Some((_, oldest)) = cards.pop_first()
        {
            self.by_install.remove(&oldest.install);
        }
        true
    }

    /// Who is behind an install key.
    pub fn by_install(&self, log: &Log, install: &PublicKey) -> Option<Known> {
        let npub = self.by_install.get(install)?;
        let cards = self.cards.get(npub)?;
        let card = cards.values().find(|card| card.install == *install)?;
        let is_newest = cards.last_key_value().is_some_and(|(_, newest)| newest.install == *install);
        Some(Known { npub: *npub, standing: log.standing(npub), is_newest, card: card.clone() })
    }

    /// Who is behind a PeerId; only installs that speak for their passports now.
    pub fn by_peer(&self, log: &Log, peer_id: &PeerId) -> Option<Known> {
        let newest = self.cards.values().filter_map(|cards| cards.last_key_value());
        let (_, card) = newest.into_iter().find(|(_, card)| card.peer_id == *peer_id)?;
        self.by_install(log, &card.install)
    }

    /// The install that speaks for each member: whom new keys are sealed to.
    pub fn installs(&self, log: &Log) -> BTreeMap<PublicKey, PublicKey> {
        let newest = |npub: PublicKey| Some((npub, self.cards.get(&npub)?.last_key_value()?.1.install));
        log.members().into_iter().filter_map(|member| newest(member.npub)).collect()
    }
}

impl KnownCards for Roster {
    fn newest(&self, passport: &PublicKey) -> Option<PeerCard> {
        self.cards.get(passport)?.last_key_value().map(|(_, card)| card.clone())
    }
}
