//! Who is who.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock};

use nips::Audience;
use nostr::PublicKey;

use super::links::{Account, Links};
use crate::journal::now_ms;

/// Who is who, as the owner said.
#[derive(Debug, Clone, Default)]
pub struct People {
    /// The owner.
    pub owner: Option<PublicKey>,
    /// Others who may talk.
    pub allowed: BTreeSet<PublicKey>,
    /// Makes its sender the owner, once.
    pub claim: Option<String>,
    /// The owner's MXID.
    pub owner_mxid: Option<String>,
    /// MXIDs of others who may talk.
    pub allowed_mxids: BTreeSet<String>,
    /// Accounts that belong together; every copy sees the same.
    pub links: Arc<RwLock<Links>>,
}

impl People {
    /// Who `key` is.
    pub fn audience(&self, key: &PublicKey) -> Audience {
        if self.owner.as_ref() == Some(key) {
            Audience::Owner
        } else if self.allowed.contains(key) {
            Audience::Person(*key)
        } else {
            Audience::Stranger
        }
    }

    /// Who an MXID is.
    pub fn audience_of(&self, mxid: &str) -> Audience {
        let linked = self.links.read().unwrap_or_else(PoisonError::into_inner).key_of(mxid);
        if self.owner_mxid.as_deref() == Some(mxid) {
            return Audience::Owner;
        }
        if let Some(audience) = linked.map(|key| self.audience(&key)).filter(|audience| audience.is_known()) {
            return audience;
        }
        if self.allowed_mxids.contains(mxid) { Audience::Person(person_of(mxid)) } else { Audience::Stranger }
    }

    /// True for an account that may say the code that links it, though it is not known.
    pub(super) fn awaits_link(&self, account: &Account, text: &str) -> bool {
        let is_link = matches!(bots::talk::Command::parse(text), Some(bots::talk::Command::Link(_)));
        is_link && self.links.read().unwrap_or_else(PoisonError::into_inner).awaits(account, now_ms() / 1000)
    }

    /// True for an MXID that is let in: it may talk, or say the code that links it.
    pub fn lets_in(&self, mxid: &str) -> bool {
        let account = Account::Matrix(mxid.to_owned());
        let awaited = self.links.read().unwrap_or_else(PoisonError::into_inner).awaits(&account, now_ms() / 1000);
        awaited || self.audience_of(mxid).is_known()
    }

    /// Everybody who is known.
    pub fn known(&self) -> BTreeSet<PublicKey> {
        self.allowed.iter().copied().chain(self.owner).collect()
    }

    /// Those with whom the node talks, as the journal names them.
    pub fn persons(&self) -> BTreeSet<String> {
        let keys = self.allowed.iter().copied().chain(self.allowed_mxids.iter().map(|mxid| person_of(mxid)));
        let others = keys.filter(|key| self.owner != Some(*key)).map(|key| key.to_hex());
        others.chain([OWNER.to_owned()]).collect()
    }
}

/// How the journal names the owner in talks; others by their keys.
pub const OWNER: &str = "owner";

/// Under which key a person stands in the memory who has an MXID and no npub: the same on every node. Nobody holds its secret.
pub fn person_of(mxid: &str) -> PublicKey {
    use sha2::{Digest, Sha256};
    PublicKey::from_byte_array(Sha256::new().chain_update("timmy/mxid/1").chain_update(mxid).finalize().into())
}
