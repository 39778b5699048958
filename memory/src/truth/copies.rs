//! Copies of entries. An entry that was moved by several nodes at once lies in several shards; of the changes that count, the one with
//! the lowest event id is the copy that counts, on every node.

use nips::memory::{DocumentId, EntryId};
use nostr::PublicKey;
use rusqlite::{OptionalExtension, params};

use super::changes::COUNTS;
use super::event::{COLUMNS, Stored};
use super::{Changed, Truth, TruthError};
use crate::entry::Entry;

/// A change that puts an entry, and its document.
pub(super) struct Copy {
    pub change: i64,
    pub document: i64,
}

/// What becomes of an entry that has no copy any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Uncopied {
    /// Its shard was retired: it stays until somebody writes it anew.
    Waits,
    /// Its writer lied, or it was forgotten.
    Goes,
}

impl Truth {
    /// Every change that puts this entry, those that do not count too.
    pub(super) fn copies(&self, id: &EntryId) -> Result<Vec<Copy>, TruthError> {
        let mut found = self.connection.prepare_cached("SELECT number, document FROM changes WHERE entry = ?1")?;
        let rows = found.query_map([id.as_bytes()], |row| Ok(Copy { change: row.get(0)?, document: row.get(1)? }))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// True when a change that counts puts this entry.
    pub(super) fn has_copy(&self, id: &EntryId) -> Result<bool, TruthError> {
        let mut found = self.connection.prepare_cached("SELECT 1 FROM changes WHERE entry = ?1 AND state = ?2")?;
        Ok(found.exists(params![id.as_bytes(), COUNTS])?)
    }

    /// True when an entry of this id counts.
    pub(super) fn has_row(&self, id: &EntryId) -> Result<bool, TruthError> {
        Ok(self.connection.prepare_cached("SELECT 1 FROM entries WHERE id = ?1")?.exists([id.as_bytes()])?)
    }

    /// The entries that changes of a document put, in the order they came.
    pub(super) fn entries_of(&self, document: i64) -> Result<Vec<EntryId>, TruthError> {
        let mut found = self.connection.prepare_cached(
            "SELECT entry FROM changes WHERE document = ?1 AND entry IS NOT NULL GROUP BY entry ORDER BY MIN(number)",
        )?;
        let rows = found.query_map([document], |row| row.get::<_, [u8; 16]>(0))?;
        Ok(rows.map(|id| id.map(EntryId::from_bytes)).collect::<Result<_, _>>()?)
    }

    /// The entry that a kept change puts.
    pub(super) fn entry_at(&self, change: i64) -> Result<Option<Entry>, TruthError> {
        let sql =
            format!("SELECT {COLUMNS} FROM changes c JOIN documents d ON d.number = c.document WHERE c.number = ?1");
        let mut found = self.connection.prepare_cached(&sql)?;
        let mut rows = found.query([change])?;
        let Some(row) = rows.next()? else { return Ok(None) };
        let stored = Stored::read(row, &self.seal)?;
        Ok(super::entry_in(&stored.change()?, stored.document.space()))
    }

    /// Lets that copy of an entry count that has to.
    pub(super) fn recount(&mut self, id: &EntryId, uncopied: Uncopied) -> Result<(), TruthError> {
        let best: Option<(i64, i64)> = self
            .connection
            .prepare_cached(
                "SELECT number, document FROM changes WHERE entry = ?1 AND state = ?2 ORDER BY changes.id LIMIT 1",
            )?
            .query_row(params![id.as_bytes(), COUNTS], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let counting: Option<i64> = self
            .connection
            .prepare_cached("SELECT change FROM entries WHERE id = ?1")?
            .query_row([id.as_bytes()], |row| row.get(0))
            .optional()?;
        match best {
            Some((change, _)) if counting == Some(change) => Ok(()),
            Some((change, document)) => match self.entry_at(change)? {
                Some(entry) => self.put_entry(&entry, change, document),
                None => Err(super::event::damaged("a change")),
            },
            None if counting.is_some() && uncopied == Uncopied::Goes => self.remove_row(id),
            None => Ok(()),
        }
    }

    /// Destroys the copies of an entry whose author's words this signer may forget, wherever they lie.
    pub(super) fn forget_copies(&mut self, id: &EntryId, signer: &PublicKey) -> Result<(), TruthError> {
        for copy in self.copies(id)? {
            let entry = self.entry_at(copy.change)?;
            let Some(entry) = entry.filter(|entry| self.may_forget(signer, &entry.author)) else { continue };
            self.remember_mark(&entry)?;
            self.drop_change(&copy)?;
        }
        // One that waits to be written anew has a row alone.
        if let Some(entry) = self.entry(id)?.filter(|entry| self.may_forget(signer, &entry.author)) {
            self.remember_mark(&entry)?;
            self.remove_row(id)?;
        }
        self.recount(id, Uncopied::Goes)
    }

    /// Destroys a change. What its document has after it hangs in the air: a shard of this node is written anew ([`Truth::mend_own`]).
    fn drop_change(&mut self, copy: &Copy) -> Result<(), TruthError> {
        self.connection.prepare_cached("DELETE FROM changes WHERE number = ?1")?.execute([copy.change])?;
        self.connection.prepare_cached("DELETE FROM snapshots WHERE document = ?1")?.execute([copy.document])?;
        self.open.retain(|_, shard| shard.number != copy.document);
        let own = self.install.public_key();
        if matches!(self.name(copy.document)?, DocumentId::Shard { writer, .. } if writer == own) {
            self.gapped.insert(copy.document);
        }
        Ok(())
    }

    fn remove_row(&mut self, id: &EntryId) -> Result<(), TruthError> {
        self.connection.prepare_cached("DELETE FROM entries WHERE id = ?1")?.execute([id.as_bytes()])?;
        self.connection.prepare_cached("DELETE FROM recalls WHERE id = ?1")?.execute([id.as_bytes()])?;
        self.connection.prepare_cached("INSERT OR IGNORE INTO erasures(id) VALUES(?1)")?.execute([id.as_bytes()])?;
        self.changed.push(Changed::Remove(*id));
        Ok(())
    }
}
