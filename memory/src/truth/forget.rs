//! Forgetting: a signed tombstone of ids; the documents that held them are retired and their changes destroyed; what was not
//! forgotten in them is written anew under its own ids.

use std::collections::{BTreeMap, BTreeSet};

use nips::memory::{DocumentId, EntryId, Space, Tombstone};
use nostr::{Event, PublicKey, Timestamp};
use rusqlite::params;

use super::changes::int;
use super::copies::Uncopied;
use super::entries::Selector;
use super::{Truth, TruthError};
use crate::entry::Entry;

/// What was forgotten.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Forgotten {
    /// Entries, by id.
    pub entries: BTreeSet<EntryId>,
    /// Pages.
    pub pages: Vec<DocumentId>,
    /// Entries of others that were written anew elsewhere.
    pub moved: usize,
}

impl Truth {
    /// Forgets what `selector` means. The bytes in the index are the caller's: their ids rest in `erasures` until it says that they are gone.
    pub fn forget(&mut self, selector: &Selector, now: u64) -> Result<Forgotten, TruthError> {
        let selected = self.select(selector)?;
        let pages = match selector {
            Selector::Space(space) => self.live_pages(Some(space))?,
            Selector::Id(_) | Selector::Ids(_) | Selector::Author(_) | Selector::Person(_) => Vec::new(),
        };
        if selected.is_empty() && pages.is_empty() {
            return Err(TruthError::Missing(match selector {
                Selector::Id(id) => format!("entry {id}"),
                Selector::Ids(_) => "such entry".to_owned(),
                Selector::Author(_) | Selector::Person(_) | Selector::Space(_) => "entry of that kind".to_owned(),
            }));
        }
        self.bury(selected, pages, now)
    }

    /// Forgets a page: its changes are destroyed, and the name begins anew in the next generation.
    pub fn forget_page(&mut self, id: &DocumentId, now: u64) -> Result<Forgotten, TruthError> {
        self.bury(BTreeMap::new(), vec![id.clone()], now)
    }

    fn bury(
        &mut self,
        ids: BTreeMap<EntryId, Space>,
        pages: Vec<DocumentId>,
        now: u64,
    ) -> Result<Forgotten, TruthError> {
        let mut by_space: BTreeMap<Space, Tombstone> = BTreeMap::new();
        for (id, space) in &ids {
            tombstone(&mut by_space, space).entries.insert(*id);
            for copy in self.copies(id)? {
                let document = self.name(copy.document)?;
                let tombstone = tombstone(&mut by_space, document.space());
                tombstone.entries.insert(*id);
                tombstone.retired.insert(document);
            }
        }
        for page in &pages {
            tombstone(&mut by_space, page.space()).retired.insert(page.clone());
        }
        let moved = self.replace(by_space, now)? + self.mend_own(now)?;
        Ok(Forgotten { entries: ids.into_keys().collect(), pages, moved })
    }

    /// Signs and applies tombstones; what was in the retired shards and lies nowhere else is written anew. Returns how many were.
    fn replace(&mut self, by_space: BTreeMap<Space, Tombstone>, now: u64) -> Result<usize, TruthError> {
        let mut inside = Vec::new();
        for document in by_space.values().flat_map(|tombstone| &tombstone.retired) {
            if let Some(number) = self.known_number(document)? {
                inside.extend(self.entries_of(number)?);
            }
        }
        // Retired first: the survivors must go to other documents.
        for tombstone in by_space.into_values().flat_map(Tombstone::split) {
            let event = tombstone
                .to_event()
                .custom_created_at(Timestamp::from(now))
                .sign_with_keys(&self.install)
                .map_err(TruthError::Sign)?;
            self.apply_tombstone(&event, &tombstone)?;
            self.made(&tombstone.space, event);
        }
        let mut moved = 0;
        for id in inside {
            // What was forgotten has no row; what lies in another shard too is there already.
            if !self.has_copy(&id)?
                && let Some(entry) = self.entry(&id)?
            {
                self.write(&entry, now)?;
                moved += 1;
            }
        }
        Ok(moved)
    }

    /// Retires the shards of this node that lack a change, and writes what is left of them anew.
    pub(super) fn mend_own(&mut self, now: u64) -> Result<usize, TruthError> {
        let mut by_space = BTreeMap::new();
        for number in std::mem::take(&mut self.gapped) {
            if !self.is_retired(number)? {
                let document = self.name(number)?;
                tombstone(&mut by_space, document.space()).retired.insert(document);
            }
        }
        self.replace(by_space, now)
    }

    pub(super) fn ids_in(&self, document: i64) -> Result<Vec<EntryId>, TruthError> {
        let mut found = self.connection.prepare_cached("SELECT id FROM entries WHERE document = ?1 ORDER BY row")?;
        let rows = found.query_map([document], |row| row.get::<_, [u8; 16]>(0))?;
        Ok(rows.map(|id| id.map(EntryId::from_bytes)).collect::<Result<_, _>>()?)
    }

    /// An import of the same words later is refused also where it brings no ids.
    pub(super) fn remember_mark(&self, entry: &Entry) -> Result<(), TruthError> {
        self.connection
            .prepare_cached("INSERT OR IGNORE INTO forgotten_marks(mark) VALUES(?1)")?
            .execute([self.mark(entry)])?;
        Ok(())
    }

    /// Keeps a tombstone and does what it says, as far as its signer may.
    pub(super) fn apply_tombstone(&mut self, event: &Event, tombstone: &Tombstone) -> Result<(), TruthError> {
        self.connection.prepare_cached(
            "INSERT OR IGNORE INTO tombstones(id, space, signer, created_at, signature, content) VALUES(?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![
            event.id.as_bytes(),
            tombstone.space.as_str(),
            event.pubkey.to_bytes(),
            int(event.created_at.as_secs()),
            event.sig.as_ref(),
            event.content,
        ])?;
        for id in &tombstone.entries {
            self.connection
                .prepare_cached("INSERT OR IGNORE INTO forgotten(id, signer) VALUES(?1, ?2)")?
                .execute(params![id.as_bytes(), event.pubkey.to_bytes()])?;
            self.forget_copies(id, &event.pubkey)?;
        }
        for document in &tombstone.retired {
            if self.may_retire(&event.pubkey, document) {
                self.retire(document)?;
            }
        }
        Ok(())
    }

    /// The author of an entry forgets it, and the owner's nodes forget everything.
    pub(super) fn may_forget(&self, signer: &PublicKey, author: &PublicKey) -> bool {
        self.writer(signer).is_some_and(|w| w.acts_for_owner || w.npub == *author)
    }

    fn may_retire(&self, signer: &PublicKey, document: &DocumentId) -> bool {
        let Some(by) = self.writer(signer) else { return false };
        match document {
            DocumentId::Shard { writer, .. } => {
                by.acts_for_owner || writer == signer || self.writer(writer).is_some_and(|w| w.npub == by.npub)
            }
            DocumentId::Page { .. } => by.acts_for_owner,
            DocumentId::Forgotten { .. } => false,
        }
    }

    /// Destroys what is kept of a document. Entries that were not forgotten stay until their new change comes.
    fn retire(&mut self, id: &DocumentId) -> Result<(), TruthError> {
        let number = self.number(id)?;
        let inside = self.entries_of(number)?;
        self.connection.execute("UPDATE documents SET retired = 1 WHERE number = ?1", [number])?;
        self.connection.execute("DELETE FROM changes WHERE document = ?1", [number])?;
        self.connection.execute("DELETE FROM snapshots WHERE document = ?1", [number])?;
        self.pages.remove(number);
        self.open.retain(|_, shard| shard.number != number);
        self.gapped.remove(&number);
        for id in inside {
            self.recount(&id, Uncopied::Waits)?;
        }
        Ok(())
    }

    /// Entries of this install that were in a shard which somebody else retired, and that nobody wrote anew: its writer does.
    pub(super) fn rescue_own(&mut self, now: u64) -> Result<usize, TruthError> {
        let mut found = self.connection.prepare(
            "SELECT e.id, d.name FROM entries e JOIN documents d ON d.number = e.document WHERE d.retired = 1 ORDER BY e.row",
        )?;
        let rows: Vec<([u8; 16], String)> =
            found.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?;
        drop(found);
        let own = self.install.public_key();
        let mut rescued = 0;
        for (id, name) in rows {
            let is_own = matches!(name.parse()?, DocumentId::Shard { writer, .. } if writer == own);
            let entry = if is_own { self.entry(&EntryId::from_bytes(id))? } else { None };
            if let Some(entry) = entry {
                self.write(&entry, now)?;
                rescued += 1;
            }
        }
        Ok(rescued)
    }

    /// True when somebody who may has forgotten this entry of `author`.
    pub(super) fn is_forgotten(&self, id: &EntryId, author: &PublicKey) -> Result<bool, TruthError> {
        let mut found = self.connection.prepare_cached("SELECT signer FROM forgotten WHERE id = ?1")?;
        let signers = found.query_map([id.as_bytes()], |row| row.get::<_, [u8; 32]>(0))?;
        for signer in signers {
            if self.may_forget(&PublicKey::from_byte_array(signer?), author) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    pub(super) fn is_forgotten_mark(&self, mark: &[u8; 16]) -> Result<bool, TruthError> {
        Ok(self.connection.prepare_cached("SELECT 1 FROM forgotten_marks WHERE mark = ?1")?.exists([mark])?)
    }

    /// Ids whose bytes the index may still hold.
    pub fn erasures(&self) -> Result<Vec<EntryId>, TruthError> {
        let mut found = self.connection.prepare_cached("SELECT id FROM erasures")?;
        let rows = found.query_map([], |row| row.get::<_, [u8; 16]>(0))?;
        Ok(rows.map(|id| id.map(EntryId::from_bytes)).collect::<Result<_, _>>()?)
    }

    /// The index holds nothing of these any more.
    pub fn erased(&self, ids: &[EntryId]) -> Result<(), TruthError> {
        let mut done = self.connection.prepare_cached("DELETE FROM erasures WHERE id = ?1")?;
        for id in ids {
            done.execute([id.as_bytes()])?;
        }
        Ok(())
    }
}

fn tombstone<'a>(all: &'a mut BTreeMap<Space, Tombstone>, space: &Space) -> &'a mut Tombstone {
    all.entry(space.clone()).or_insert_with(|| Tombstone {
        space: space.clone(),
        entries: BTreeSet::new(),
        retired: BTreeSet::new(),
    })
}
