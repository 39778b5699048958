//! Who may write into this node's memory: the installs that speak for its passport (this one, those that its data folder ran under before,
//! since a restore makes a new one, and those whose peer cards the passport signed), and the members of its federation.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};

use anyhow::Result;
use federation::View;
use memory::{Directory, Writer};
use nips::memory::Space;
use nostr::PublicKey;

use crate::journal::Journal;

/// Where the journal keeps the installs of its folder.
const INSTALLS: &str = "installs";

/// The installs of one passport, and those of its sisters. Clones share one.
#[derive(Clone)]
pub struct Installs {
    passport: PublicKey,
    known: Arc<RwLock<BTreeSet<PublicKey>>>,
    view: Arc<View>,
    /// Named spaces, by the passport that they were shared with.
    shares: Arc<RwLock<BTreeMap<PublicKey, BTreeSet<Space>>>>,
}

impl Installs {
    /// Reads which installs the folder had, and notes that `install` is one of them.
    ///
    /// # Errors
    /// When the journal refuses.
    pub async fn open(journal: &Journal, passport: PublicKey, install: PublicKey) -> Result<Self> {
        let kept = journal.meta(INSTALLS).await?.unwrap_or_default();
        let mut known: BTreeSet<PublicKey> =
            kept.split_whitespace().filter_map(|hex| PublicKey::from_hex(hex).ok()).collect();
        if known.insert(install) {
            let all: Vec<String> = known.iter().map(PublicKey::to_hex).collect();
            journal.set_meta(INSTALLS, all.join(" ")).await?;
        }
        Ok(Self { passport, known: Arc::new(RwLock::new(known)), view: Arc::default(), shares: Arc::default() })
    }

    /// The passport has signed a card for this install.
    pub fn saw(&self, install: PublicKey) {
        self.known.write().unwrap_or_else(PoisonError::into_inner).insert(install);
    }

    /// The federation's answers; they change as it learns.
    pub fn view(&self) -> &Arc<View> {
        &self.view
    }

    /// A space was shared with a passport, or is no longer.
    pub fn share(&self, space: Space, person: PublicKey, is_shared: bool) {
        let mut shares = self.shares.write().unwrap_or_else(PoisonError::into_inner);
        let of = shares.entry(person).or_default();
        if is_shared {
            of.insert(space);
        } else {
            of.remove(&space);
        }
    }

    /// True for the installs of this node's own passport.
    pub fn is_own(&self, install: &PublicKey) -> bool {
        self.known.read().unwrap_or_else(PoisonError::into_inner).contains(install)
    }

    fn is_shared(&self, person: &PublicKey, space: &Space) -> bool {
        let shares = self.shares.read().unwrap_or_else(PoisonError::into_inner);
        shares.get(person).is_some_and(|spaces| spaces.contains(space))
    }
}

impl Directory for Installs {
    fn writer(&self, install: &PublicKey) -> Option<Writer> {
        if self.is_own(install) {
            return Some(Writer { npub: self.passport, acts_for_owner: true });
        }
        let known = self.view.install(install)?;
        Some(Writer { npub: known.passport, acts_for_owner: known.standing.acts_for_owner() })
    }

    /// Siblings share the fleet's space; every other one is shared by name.
    fn may_share(&self, install: &PublicKey, space: &Space) -> bool {
        if self.is_own(install) {
            return true;
        }
        let Some(known) = self.view.install(install) else { return false };
        let is_fleet = *space == Space::fleet() && known.standing.acts_for_owner();
        is_fleet || self.is_shared(&known.passport, space)
    }
}
