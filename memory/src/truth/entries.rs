//! Entries: what counts of the shards, one row each.

use std::collections::BTreeMap;
use std::sync::Arc;

use nips::memory::{EntryId, Space};
use nostr::PublicKey;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::changes::{SNAPSHOT_AFTER, int};
use super::event::damaged;
use super::{Changed, Seal, Truth, TruthError};
use crate::entry::{Draft, Entry, EntryKind};

/// Which entries are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selector {
    /// This one.
    Id(EntryId),
    /// These.
    Ids(Vec<EntryId>),
    /// All that this node wrote.
    Author(PublicKey),
    /// All that belong to this person.
    Person(PublicKey),
    /// All of a space, its pages too.
    Space(Space),
}

/// What became of a draft.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Added {
    /// Its name.
    pub id: EntryId,
    /// False when it was there already.
    pub is_new: bool,
}

/// How an entry with the same text is looked upon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Twice {
    /// A person says it again: it is another entry.
    Keep,
    /// An import runs again: it is the same.
    Skip,
}

/// The body of a row: what no query asks for.
fn sealed(seal: &Seal, entry: &Entry) -> Vec<u8> {
    seal.close(entry.id.as_bytes(), &serde_json::to_vec(entry).unwrap_or_default())
}

fn opened(seal: &Seal, id: [u8; 16], body: &[u8]) -> Result<Entry, TruthError> {
    let plain = seal.open(&id, body).ok_or_else(|| damaged("an entry"))?;
    serde_json::from_slice(&plain).map_err(|_| damaged("an entry"))
}

fn code(kind: EntryKind) -> i64 {
    match kind {
        EntryKind::Episodic => 0,
        EntryKind::Semantic => 1,
        EntryKind::Procedural => 2,
    }
}

/// Reads entries on a connection of its own.
pub(crate) struct Reader {
    connection: Connection,
    seal: Arc<Seal>,
}

impl Reader {
    pub fn new(connection: Connection, seal: Arc<Seal>) -> Self {
        Self { connection, seal }
    }

    /// Entries with a row number above `after`, in its order.
    pub fn rows(&self, after: i64, limit: usize) -> Result<Vec<(i64, Entry)>, TruthError> {
        let mut found =
            self.connection.prepare_cached("SELECT id, body, row FROM entries WHERE row > ?1 ORDER BY row LIMIT ?2")?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let mut rows = found.query(params![after, limit])?;
        let mut all = Vec::new();
        while let Some(row) = rows.next()? {
            all.push((row.get(2)?, self.entry(row)?));
        }
        Ok(all)
    }

    /// Row numbers and ids alone, as [`Reader::rows`].
    pub fn ids(&self, after: i64, limit: usize) -> Result<Vec<(i64, EntryId)>, TruthError> {
        let mut found =
            self.connection.prepare_cached("SELECT row, id FROM entries WHERE row > ?1 ORDER BY row LIMIT ?2")?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = found.query_map(params![after, limit], |row| {
            Ok((row.get(0)?, EntryId::from_bytes(row.get::<_, [u8; 16]>(1)?)))
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Those of `ids` that are there, in the order asked for.
    pub fn entries(&self, ids: &[EntryId]) -> Result<Vec<Entry>, TruthError> {
        let mut found = self.connection.prepare_cached("SELECT id, body FROM entries WHERE id = ?1")?;
        let mut all = Vec::with_capacity(ids.len());
        for id in ids {
            let mut rows = found.query([id.as_bytes()])?;
            if let Some(row) = rows.next()? {
                all.push(self.entry(row)?);
            }
        }
        Ok(all)
    }

    /// The one entry whose id begins with these hex digits.
    pub fn find(&self, prefix: &str) -> Result<Entry, TruthError> {
        let missing = || TruthError::Missing(format!("entry {prefix}"));
        let is_hex = !prefix.is_empty() && prefix.len() <= 32 && prefix.bytes().all(|b| b.is_ascii_hexdigit());
        if !is_hex {
            return Err(missing());
        }
        let low = hex::decode(format!("{prefix:0<32}")).unwrap_or_default();
        let high = hex::decode(format!("{prefix:f<32}")).unwrap_or_default();
        let mut found =
            self.connection.prepare_cached("SELECT id, body FROM entries WHERE id >= ?1 AND id <= ?2 LIMIT 2")?;
        let mut rows = found.query([low, high])?;
        let first = match rows.next()? {
            Some(row) => self.entry(row)?,
            None => return Err(missing()),
        };
        if rows.next()?.is_some() { Err(TruthError::Ambiguous(prefix.to_owned())) } else { Ok(first) }
    }

    /// How many entries count.
    pub fn count(&self) -> Result<u64, TruthError> {
        let count: i64 = self.connection.query_row("SELECT COUNT(*) FROM entries", [], |row| row.get(0))?;
        Ok(u64::try_from(count).unwrap_or(0))
    }

    /// How often and when (seconds) each entry was recalled here.
    pub fn recalls(&self) -> Result<BTreeMap<EntryId, (u64, u64)>, TruthError> {
        let mut found = self.connection.prepare_cached("SELECT id, times, last FROM recalls")?;
        let rows = found
            .query_map([], |row| Ok((row.get::<_, [u8; 16]>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?)))?;
        let mut all = BTreeMap::new();
        for row in rows {
            let (id, times, last) = row?;
            let number = |n: i64| u64::try_from(n).unwrap_or(0);
            all.insert(EntryId::from_bytes(id), (number(times), number(last)));
        }
        Ok(all)
    }

    fn entry(&self, row: &Row<'_>) -> Result<Entry, TruthError> {
        let body: Vec<u8> = row.get(1)?;
        opened(&self.seal, row.get(0)?, &body)
    }
}

impl Truth {
    /// Writes entries of this node. `now`: seconds since 1970.
    pub fn add(&mut self, drafts: Vec<Draft>, twice: Twice, now: u64) -> Result<Vec<Added>, TruthError> {
        drafts.into_iter().map(|draft| self.add_one(draft, twice, now)).collect()
    }

    fn add_one(&mut self, draft: Draft, twice: Twice, now: u64) -> Result<Added, TruthError> {
        let id = draft.id.unwrap_or_else(|| EntryId::from_bytes(rand::random()));
        let entry = Entry {
            id,
            text: draft.text,
            kind: draft.kind,
            space: draft.space,
            author: self.author,
            created_at: draft.created_at.unwrap_or(now),
            person: draft.person,
            tags: draft.tags,
            importance: draft.importance,
            valid_from: draft.valid_from,
            valid_until: draft.valid_until,
            supersedes: draft.supersedes,
        };
        entry.check()?;
        if self.entry(&id)?.is_some() {
            return Ok(Added { id, is_new: false });
        }
        let mark = self.mark(&entry);
        if twice == Twice::Skip {
            if let Some(id) = self.marked(&mark)? {
                return Ok(Added { id, is_new: false });
            }
            if self.is_forgotten_mark(&mark)? {
                return Err(TruthError::Forgotten(id));
            }
        }
        if draft.id.is_some() && self.is_forgotten(&id, &self.author)? {
            return Err(TruthError::Forgotten(id));
        }
        self.write(&entry, now)?;
        Ok(Added { id, is_new: true })
    }

    /// Makes, signs and keeps the change that puts `entry`.
    pub(super) fn write(&mut self, entry: &Entry, now: u64) -> Result<(), TruthError> {
        let space = entry.space.clone();
        let shard = self.open_shard(&space, now)?;
        let (id, number) = (shard.id.clone(), shard.number);
        let made = shard.put(entry)?;
        let whole = shard.worth_saving(usize::try_from(SNAPSHOT_AFTER).unwrap_or(usize::MAX));
        let change = self.keep_own(&id, number, &made, Some(entry.id), now)?;
        if let Some(bytes) = whole {
            self.save_snapshot(number, &id, &bytes)?;
        }
        self.put_entry(entry, change, number)
    }

    /// Makes an entry count.
    pub(super) fn put_entry(&mut self, entry: &Entry, change: i64, document: i64) -> Result<(), TruthError> {
        self.connection
            .prepare_cached(
                "INSERT OR REPLACE INTO entries(id, change, document, space, kind, author, person, created_at, mark, body)
                 VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
            )?
            .execute(params![
                entry.id.as_bytes(),
                change,
                document,
                entry.space.as_str(),
                code(entry.kind),
                entry.author.to_bytes(),
                entry.person.map(|p| p.to_bytes()),
                int(entry.created_at),
                self.mark(entry),
                sealed(&self.seal, entry),
            ])?;
        self.changed.push(Changed::Upsert(Box::new(entry.clone())));
        Ok(())
    }

    /// The entry of this id that counts.
    pub fn entry(&self, id: &EntryId) -> Result<Option<Entry>, TruthError> {
        let mut found = self.connection.prepare_cached("SELECT body FROM entries WHERE id = ?1")?;
        let body: Option<Vec<u8>> = found.query_row([id.as_bytes()], |row| row.get(0)).optional()?;
        body.map(|body| opened(&self.seal, *id.as_bytes(), &body)).transpose()
    }

    /// Takes note that entries were recalled.
    pub fn note_recalls(&self, ids: &[EntryId], now: u64) -> Result<(), TruthError> {
        let mut note = self.connection.prepare_cached(
            "INSERT INTO recalls(id, times, last) VALUES(?1, 1, ?2)
             ON CONFLICT(id) DO UPDATE SET times = times + 1, last = MAX(last, ?2)",
        )?;
        for id in ids {
            note.execute(params![id.as_bytes(), int(now)])?;
        }
        Ok(())
    }

    /// What a selector means: ids and their spaces.
    pub(super) fn select(&self, selector: &Selector) -> Result<BTreeMap<EntryId, Space>, TruthError> {
        let all = |sql: &str, value: &dyn rusqlite::ToSql| -> Result<BTreeMap<EntryId, Space>, TruthError> {
            let mut found = self.connection.prepare_cached(&format!("SELECT id, space FROM entries WHERE {sql}"))?;
            let mut rows = found.query([value])?;
            let mut all = BTreeMap::new();
            while let Some(row) = rows.next()? {
                all.insert(EntryId::from_bytes(row.get(0)?), row.get::<_, String>(1)?.parse()?);
            }
            Ok(all)
        };
        match selector {
            Selector::Id(id) => all("id = ?1", &id.as_bytes()),
            Selector::Ids(ids) => {
                let mut found = BTreeMap::new();
                for id in ids {
                    found.extend(all("id = ?1", &id.as_bytes())?);
                }
                Ok(found)
            }
            Selector::Author(author) => all("author = ?1", &author.to_bytes()),
            Selector::Person(person) => all("person = ?1", &person.to_bytes()),
            Selector::Space(space) => all("space = ?1", &space.as_str()),
        }
    }

    /// A mark of what an entry says, for knowing it again.
    pub(super) fn mark(&self, entry: &Entry) -> [u8; 16] {
        let person = entry.person.map(|p| p.to_bytes());
        let person = person.as_ref().map_or(&[][..], |p| &p[..]);
        self.seal.mark(&[entry.space.as_str().as_bytes(), person, entry.text.trim().as_bytes()])
    }

    fn marked(&self, mark: &[u8; 16]) -> Result<Option<EntryId>, TruthError> {
        let mut found = self.connection.prepare_cached("SELECT id FROM entries WHERE mark = ?1 LIMIT 1")?;
        Ok(found.query_row([mark], |row| row.get::<_, [u8; 16]>(0)).optional()?.map(EntryId::from_bytes))
    }
}
