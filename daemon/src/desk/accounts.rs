//! Two accounts become one person: what was said and kept under the one is then under the other.

use std::sync::{Arc, PoisonError};

use bots::WorkError;
use memory::{Draft, Query};
use nips::Audience;
use nostr::{PublicKey, ToBech32};

use super::Tools;
use super::links::{Account, Linked, Links};
use super::order::Origin;
use super::people::{OWNER, person_of};
use super::work::Bench;
use crate::journal::{JournalError, now_ms};

/// Under which name the journal keeps the links between accounts.
pub const LINKS: &str = "links";
/// Memories of one account that are moved when it is linked.
const KEPT_MAX: usize = 10_000;

impl Tools {
    /// Changes the links between accounts and writes them down.
    ///
    /// # Errors
    /// When the journal refuses; then nothing changes.
    async fn change_links<T>(&self, change: impl FnOnce(&mut Links) -> T) -> Result<T, JournalError> {
        let links = Arc::clone(&self.people.read().unwrap_or_else(PoisonError::into_inner).links);
        let _one_at_a_time = self.linking.lock().await;
        let mut changed = links.read().unwrap_or_else(PoisonError::into_inner).clone();
        let outcome = change(&mut changed);
        self.journal.set_meta(LINKS, serde_json::to_string(&changed).unwrap_or_default()).await?;
        *links.write().unwrap_or_else(PoisonError::into_inner) = changed;
        Ok(outcome)
    }

    /// What an MXID said and what was kept for it belongs to `npub` from now on.
    ///
    /// # Errors
    /// When the journal or the memory refuses; said again it goes on.
    async fn moved(&self, mxid: &str, npub: PublicKey) -> anyhow::Result<()> {
        let old = person_of(mxid);
        let new = match self.people.read().unwrap_or_else(PoisonError::into_inner).audience(&npub) {
            Audience::Owner => None,
            Audience::Person(_) | Audience::Member | Audience::Stranger => Some(npub),
        };
        self.journal.rename_person(old.to_hex(), new.map_or(OWNER.to_owned(), |key| key.to_hex())).await?;
        let kept = Query { person: Some(old), limit: KEPT_MAX, ..Query::new("") };
        let drafts = self.memory.search(&kept, Audience::Owner).await?.into_iter().map(|found| Draft {
            kind: found.entry.kind,
            person: new,
            tags: found.entry.tags,
            importance: found.entry.importance,
            created_at: Some(found.entry.created_at),
            supersedes: [found.entry.id].into(),
            ..Draft::new(found.entry.text)
        });
        self.memory.add_all(drafts.collect()).await?;
        Ok(())
    }
}

impl Bench {
    fn account(&self) -> Option<Account> {
        match &self.order.origin {
            Origin::Message { author, .. } => Some(Account::Nostr(*author)),
            Origin::Matrix { sender, .. } => Some(Account::Matrix(sender.clone())),
            Origin::Nostr { .. } | Origin::Local => None,
        }
    }

    /// Links two accounts of a person, once both have said so; what was said and kept under the one is then under the other.
    pub(super) async fn link(&self, what: &str) -> Result<String, WorkError> {
        let Some(account) = self.account() else {
            return Ok("Linking takes a word from each account: write `!link` to me by Nostr or in Matrix.".to_owned());
        };
        let order = self.order.id.to_string();
        let taken = self.tools.change_links(|links| links.take(&account, what, &order, now_ms() / 1000)).await;
        match taken.map_err(|e| WorkError::Failed(e.to_string()))? {
            Err(refusal) => Ok(refusal.to_string()),
            Ok(Linked::Asked { code, other }) => {
                Ok(format!("Now write to me as {other}, within ten minutes:\n\n`!link {code}`"))
            }
            Ok(Linked::Done { mxid, npub }) => {
                self.tools.moved(&mxid, npub).await.map_err(|e| WorkError::Failed(e.to_string()))?;
                let npub = npub.to_bech32().unwrap_or_default();
                Ok(format!(
                    "{mxid} and {npub} are one person to me now: one talk, one memory. `!unlink {mxid}` parts them."
                ))
            }
        }
    }

    pub(super) async fn unlink(&self, mxid: &str) -> Result<String, WorkError> {
        let Some(account) = self.account() else { return Ok("Write that to me by Nostr or in Matrix.".to_owned()) };
        let cut = self.tools.change_links(|links| links.cut(&account, mxid.trim_matches('`'))).await;
        let cut = cut.map_err(|e| WorkError::Failed(e.to_string()))?;
        Ok(if cut {
            "They are two again.".to_owned()
        } else {
            "No account of yours is linked under that name.".to_owned()
        })
    }
}
