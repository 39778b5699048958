//! The installs that speak for this node's passport: this one, those that its data folder ran under before (a restore makes a new
//! one), and those whose peer cards the passport signed. Nobody else writes into its memory until there is a federation.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock};

use anyhow::Result;
use memory::{Directory, Writer};
use nips::memory::Space;
use nostr::PublicKey;

use crate::journal::Journal;

/// Where the journal keeps the installs of its folder.
const INSTALLS: &str = "installs";

/// The installs of one passport. Clones share one.
#[derive(Clone)]
pub struct Installs {
    passport: PublicKey,
    known: Arc<RwLock<BTreeSet<PublicKey>>>,
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
        Ok(Self { passport, known: Arc::new(RwLock::new(known)) })
    }

    /// The passport has signed a card for this install.
    pub fn saw(&self, install: PublicKey) {
        self.known.write().unwrap_or_else(PoisonError::into_inner).insert(install);
    }

    fn is_known(&self, install: &PublicKey) -> bool {
        self.known.read().unwrap_or_else(PoisonError::into_inner).contains(install)
    }
}

impl Directory for Installs {
    fn writer(&self, install: &PublicKey) -> Option<Writer> {
        self.is_known(install).then_some(Writer { npub: self.passport, acts_for_owner: true })
    }

    fn may_share(&self, install: &PublicKey, _space: &Space) -> bool {
        self.is_known(install)
    }
}
