//! Changes and documents in the database.

use automerge::{AutoCommit, ChangeHash};
use nips::memory::{ActorId, Change, DocumentId, EntryId};
use nostr::secp256k1::schnorr::Signature;
use nostr::{Event, EventId, Timestamp};
use rusqlite::{OptionalExtension, params};
use sha2::{Digest as _, Sha256};

use super::event::{COLUMNS, Stored, damaged};
use super::shard::Made;
use super::{Truth, TruthError};

/// A change that waits for what it depends on.
pub(super) const WAITS: i64 = 0;
/// A change that counts.
pub(super) const COUNTS: i64 = 1;
/// A change that does not count.
pub(super) const EXCLUDED: i64 = 2;

/// Bytes of changes that a document gathers before it is saved whole again; more when it is larger than that itself.
pub(super) const SNAPSHOT_AFTER: i64 = 64 * 1024;

/// A change to be kept.
pub(super) struct Kept<'a> {
    pub id: EventId,
    pub document: i64,
    pub actor: &'a ActorId,
    pub seq: u64,
    pub hash: &'a [u8; 32],
    pub created_at: Timestamp,
    pub signature: &'a Signature,
    pub frame: &'a [u8],
    pub state: i64,
    /// The entry that a change of a shard puts.
    pub entry: Option<EntryId>,
}

pub(super) fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// How much of a space is here: what two replicas hold against each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Census {
    /// Changes and tombstones.
    pub changes: u64,
    /// SHA-256 of their ids in ascending order.
    pub digest: [u8; 32],
    /// Changes of each document, by its name.
    pub shards: std::collections::BTreeMap<String, u64>,
}

impl Truth {
    /// The number of a document; a new one when it has none.
    pub(super) fn number(&self, id: &DocumentId) -> Result<i64, TruthError> {
        if let Some(number) = self.known_number(id)? {
            return Ok(number);
        }
        self.connection
            .prepare_cached("INSERT INTO documents(name, space) VALUES(?1, ?2)")?
            .execute(params![id.to_string(), id.space().as_str()])?;
        Ok(self.connection.last_insert_rowid())
    }

    pub(super) fn known_number(&self, id: &DocumentId) -> Result<Option<i64>, TruthError> {
        let mut found = self.connection.prepare_cached("SELECT number FROM documents WHERE name = ?1")?;
        Ok(found.query_row([id.to_string()], |row| row.get(0)).optional()?)
    }

    pub(super) fn name(&self, number: i64) -> Result<DocumentId, TruthError> {
        let mut found = self.connection.prepare_cached("SELECT name FROM documents WHERE number = ?1")?;
        let name: String = found.query_row([number], |row| row.get(0))?;
        Ok(name.parse()?)
    }

    pub(super) fn is_retired(&self, number: i64) -> Result<bool, TruthError> {
        let mut found = self.connection.prepare_cached("SELECT retired FROM documents WHERE number = ?1")?;
        Ok(found.query_row([number], |row| row.get::<_, i64>(0)).optional()?.is_some_and(|r| r != 0))
    }

    /// True when changes of the document do not count, or wait.
    pub(super) fn is_doubtful(&self, number: i64) -> Result<bool, TruthError> {
        let mut found =
            self.connection.prepare_cached("SELECT 1 FROM changes WHERE document = ?1 AND state <> 1 LIMIT 1")?;
        Ok(found.exists([number])?)
    }

    pub(super) fn is_known(&self, id: &EventId) -> Result<bool, TruthError> {
        let mut change = self.connection.prepare_cached("SELECT 1 FROM changes WHERE id = ?1")?;
        let mut tombstone = self.connection.prepare_cached("SELECT 1 FROM tombstones WHERE id = ?1")?;
        Ok(change.exists([id.as_bytes()])? || tombstone.exists([id.as_bytes()])?)
    }

    /// Keeps a change, sealed; returns its number.
    pub(super) fn keep(&self, kept: &Kept<'_>) -> Result<i64, TruthError> {
        let sealed = self.seal.close(kept.id.as_bytes(), kept.frame);
        self.connection
            .prepare_cached(
                "INSERT INTO changes(id, document, actor, seq, hash, created_at, signature, frame, state, entry)
                 VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
            )?
            .execute(params![
                kept.id.as_bytes(),
                kept.document,
                kept.actor.as_bytes(),
                int(kept.seq),
                kept.hash,
                int(kept.created_at.as_secs()),
                kept.signature.as_ref(),
                sealed,
                kept.state,
                kept.entry.as_ref().map(EntryId::as_bytes),
            ])?;
        Ok(self.connection.last_insert_rowid())
    }

    /// Signs and keeps a change of our own.
    pub(super) fn keep_own(
        &mut self,
        id: &DocumentId,
        number: i64,
        made: &Made,
        entry: Option<EntryId>,
        now: u64,
    ) -> Result<i64, TruthError> {
        let event = Change::to_event(id, &self.actor, made.seq, &made.hash, &made.frame)
            .custom_created_at(Timestamp::from(now))
            .sign_with_keys(&self.install)
            .map_err(TruthError::Sign)?;
        let kept = self.keep(&Kept {
            id: event.id,
            document: number,
            actor: &self.actor,
            seq: made.seq,
            hash: &made.hash,
            created_at: event.created_at,
            signature: &event.sig,
            frame: &made.frame,
            state: COUNTS,
            entry,
        })?;
        self.made(id.space(), event);
        Ok(kept)
    }

    /// The changes of a document in the order they came, those with a number above `after`; `state`: only such.
    pub(super) fn stored(&self, document: i64, after: i64, state: Option<i64>) -> Result<Vec<Stored>, TruthError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM changes c JOIN documents d ON d.number = c.document
             WHERE c.document = ?1 AND c.number > ?2 AND (?3 IS NULL OR c.state = ?3) ORDER BY c.number"
        );
        let mut found = self.connection.prepare_cached(&sql)?;
        let mut rows = found.query(params![document, after, state])?;
        let mut all = Vec::new();
        while let Some(row) = rows.next()? {
            all.push(Stored::read(row, &self.seal)?);
        }
        Ok(all)
    }

    /// Loads a document: the newest whole one, and the changes since.
    pub(super) fn load(&self, number: i64, id: &DocumentId) -> Result<AutoCommit, TruthError> {
        let (mut document, upto) = match self.snapshot(number, id)? {
            Some((document, upto)) => (document, upto),
            None => (super::page::base(id), 0),
        };
        let why = |e: &dyn std::fmt::Display| TruthError::Change { document: id.clone(), why: e.to_string() };
        let mut changes = Vec::new();
        for stored in self.stored(number, upto, Some(COUNTS))? {
            let change = stored.change()?;
            changes.push(super::shard::parsed(&change).map_err(|e| why(&e))?);
        }
        super::guard::apply(&mut document, changes).map_err(|e| why(&e))?;
        Ok(document)
    }

    /// The document as it was last saved whole. One that does not open is only derived: it is thrown away and told.
    fn snapshot(&self, number: i64, id: &DocumentId) -> Result<Option<(AutoCommit, i64)>, TruthError> {
        let mut found = self.connection.prepare_cached("SELECT upto, body FROM snapshots WHERE document = ?1")?;
        let row: Option<(i64, Vec<u8>)> = found.query_row([number], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
        let Some((upto, body)) = row else { return Ok(None) };
        let name = id.to_string();
        let opened = self.seal.open(name.as_bytes(), &body).and_then(|bytes| AutoCommit::load(&bytes).ok());
        if opened.is_none() {
            tracing::warn!(document = %id, "a saved document is damaged; it is made again from its changes");
            self.connection.execute("DELETE FROM snapshots WHERE document = ?1", [number])?;
        }
        Ok(opened.map(|document| (document, upto)))
    }

    /// Saves a document whole when its changes since the last time are worth it: compaction by bytes.
    pub(super) fn compact(&self, number: i64, id: &DocumentId) -> Result<bool, TruthError> {
        let (upto, size): (i64, i64) = self
            .connection
            .prepare_cached("SELECT upto, bytes FROM snapshots WHERE document = ?1")?
            .query_row([number], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?
            .unwrap_or((0, 0));
        let since: i64 = self
            .connection
            .prepare_cached(
                "SELECT COALESCE(SUM(LENGTH(frame)), 0) FROM changes WHERE document = ?1 AND number > ?2 AND state = 1",
            )?
            .query_row(params![number, upto], |row| row.get(0))?;
        if since < SNAPSHOT_AFTER.max(size) {
            return Ok(false);
        }
        let bytes = self.load(number, id)?.save();
        self.save_snapshot(number, id, &bytes)?;
        Ok(true)
    }

    /// Keeps a document as it is after all changes that are here.
    pub(super) fn save_snapshot(&self, number: i64, id: &DocumentId, bytes: &[u8]) -> Result<(), TruthError> {
        let body = self.seal.close(id.to_string().as_bytes(), bytes);
        let upto: i64 = self.connection.query_row(
            "SELECT COALESCE(MAX(number), 0) FROM changes WHERE document = ?1 AND state = 1",
            [number],
            |row| row.get(0),
        )?;
        let size = i64::try_from(bytes.len()).unwrap_or(i64::MAX);
        self.connection
            .prepare_cached("INSERT OR REPLACE INTO snapshots(document, upto, bytes, body) VALUES(?1, ?2, ?3, ?4)")?
            .execute(params![number, upto, size, body])?;
        Ok(())
    }

    /// Ids and times of all events of a space, tombstones too: what is reconciled.
    pub fn event_ids(&self, space: &nips::memory::Space) -> Result<Vec<(u64, EventId)>, TruthError> {
        let mut found = self.connection.prepare_cached(
            "SELECT c.created_at, c.id FROM changes c JOIN documents d ON d.number = c.document WHERE d.space = ?1
             UNION ALL SELECT created_at, id FROM tombstones WHERE space = ?1",
        )?;
        let rows = found.query_map([space.as_str()], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, [u8; 32]>(1)?)))?;
        let mut all = Vec::new();
        for row in rows {
            let (at, id) = row?;
            all.push((u64::try_from(at).unwrap_or(0), EventId::from_byte_array(id)));
        }
        Ok(all)
    }

    /// How much of a space is here.
    pub fn census(&self, space: &nips::memory::Space) -> Result<Census, TruthError> {
        let mut ids: Vec<EventId> = self.event_ids(space)?.into_iter().map(|(_, id)| id).collect();
        ids.sort_unstable();
        let mut hash = Sha256::new();
        ids.iter().for_each(|id| hash.update(id.as_bytes()));
        let mut found = self.connection.prepare_cached(
            "SELECT d.name, COUNT(*) FROM changes c JOIN documents d ON d.number = c.document WHERE d.space = ?1 GROUP BY d.number",
        )?;
        let rows = found.query_map([space.as_str()], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?)))?;
        let shards = rows.map(|row| row.map(|(name, count)| (name, u64::try_from(count).unwrap_or(0))));
        Ok(Census {
            changes: ids.len() as u64,
            digest: hash.finalize().into(),
            shards: shards.collect::<Result<_, _>>()?,
        })
    }

    /// The events of these ids that are here.
    pub fn events(&self, ids: &[EventId]) -> Result<Vec<Event>, TruthError> {
        let sql = format!("SELECT {COLUMNS} FROM changes c JOIN documents d ON d.number = c.document WHERE c.id = ?1");
        let mut change = self.connection.prepare_cached(&sql)?;
        let mut tombstone = self
            .connection
            .prepare_cached("SELECT space, content, signer, created_at, signature FROM tombstones WHERE id = ?1")?;
        let mut events = Vec::new();
        for id in ids {
            let mut rows = change.query([id.as_bytes()])?;
            if let Some(row) = rows.next()? {
                events.push(Stored::read(row, &self.seal)?.event()?);
                continue;
            }
            let mut rows = tombstone.query([id.as_bytes()])?;
            if let Some(row) = rows.next()? {
                let space: String = row.get(0)?;
                let content: String = row.get(1)?;
                let at: i64 = row.get(3)?;
                let at = u64::try_from(at).map_err(|_| damaged("a time"))?;
                events.push(super::event::tombstone(&space.parse()?, &content, row.get(2)?, at, &row.get(4)?)?);
            }
        }
        Ok(events)
    }

    /// Heads of every document that is not retired, by name: two stores with equal heads hold the same.
    pub fn heads(&self) -> Result<std::collections::BTreeMap<String, Vec<String>>, TruthError> {
        let mut found =
            self.connection.prepare("SELECT number, name FROM documents WHERE retired = 0 ORDER BY name")?;
        let rows: Vec<(i64, String)> =
            found.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?;
        let mut all = std::collections::BTreeMap::new();
        for (number, name) in rows {
            let mut heads: Vec<ChangeHash> = self.load(number, &name.parse()?)?.get_heads();
            heads.sort_unstable();
            all.insert(name, heads.iter().map(ToString::to_string).collect());
        }
        Ok(all)
    }
}
