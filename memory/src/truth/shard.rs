//! Shards: one writer, one entry a change.

use automerge::transaction::{CommitOptions, Transactable};
use automerge::{ActorId as Actor, AutoCommit, ROOT};
use nips::memory::{ActorId, Change, DocumentId, EntryId, Month, Space};
use nostr::PublicKey;

use super::{Truth, TruthError};
use crate::entry::Entry;

/// Entries after which a new part begins.
const MAX_ENTRIES: usize = 5_000;
/// Bytes of changes after which a new part begins.
const MAX_BYTES: usize = 1_000_000;

/// The shard of a space that is being written, loaded. Others rest.
pub(super) struct OpenShard {
    pub id: DocumentId,
    pub number: i64,
    document: AutoCommit,
    month: Month,
    entries: usize,
    bytes: usize,
    /// Bytes of changes since it was last saved whole.
    unsaved: usize,
}

/// A change that was just made.
pub(super) struct Made {
    pub seq: u64,
    pub hash: [u8; 32],
    /// As it travels.
    pub frame: Vec<u8>,
}

impl OpenShard {
    pub fn new(id: DocumentId, number: i64, month: Month, document: AutoCommit, entries: usize, bytes: usize) -> Self {
        Self { id, number, document, month, entries, bytes, unsaved: bytes }
    }

    /// True when another part has to be begun for an entry of `month`.
    pub fn is_full_for(&self, month: Month) -> bool {
        self.month != month || self.entries >= MAX_ENTRIES || self.bytes >= MAX_BYTES
    }

    /// Puts an entry: one commit.
    pub fn put(&mut self, entry: &Entry) -> Result<Made, TruthError> {
        let why = |why: &dyn std::fmt::Display| TruthError::Change { document: self.id.clone(), why: why.to_string() };
        let json = serde_json::to_string(entry).map_err(|e| why(&e))?;
        self.document.put(ROOT, entry.id.to_string(), json).map_err(|e| why(&e))?;
        let made = committed(&mut self.document, entry.created_at, &self.id)?;
        self.entries += 1;
        self.bytes += made.frame.len();
        self.unsaved += made.frame.len();
        Ok(made)
    }

    /// The whole document, when enough came since the last time that it is worth saving.
    pub fn worth_saving(&mut self, after: usize) -> Option<Vec<u8>> {
        // It doubles before it is saved again: what saving costs stays in proportion to what is written.
        if self.unsaved < after.max(self.bytes / 2) {
            return None;
        }
        self.unsaved = 0;
        Some(self.document.save())
    }
}

/// Commits what was done to a document and gives the change.
pub(super) fn committed(document: &mut AutoCommit, now: u64, id: &DocumentId) -> Result<Made, TruthError> {
    let why = |why: &str| TruthError::Change { document: id.clone(), why: why.to_owned() };
    let time = i64::try_from(now).unwrap_or(i64::MAX);
    let hash = document.commit_with(CommitOptions::default().with_time(time)).ok_or_else(|| why("nothing changed"))?;
    let mut change = document.get_change_by_hash(&hash).ok_or_else(|| why("the change is not there"))?;
    Ok(Made { seq: change.seq(), hash: hash.0, frame: change.bytes().into_owned() })
}

/// Automerge's name of an actor.
pub(super) fn actor(id: &ActorId) -> Actor {
    Actor::from(&id.as_bytes()[..])
}

/// Why the bytes of a change are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadChange {
    #[error("the bytes are no change of automerge")]
    Bytes,
    #[error("actor or sequence number are others than the event says")]
    Name,
    #[error("a change of a shard puts one entry, once, and nothing else")]
    Shape,
    #[error("the entry breaks a bound")]
    Bounds,
    #[error("the entry is of another space")]
    Space,
}

/// Opens the bytes of a change and holds them against what its event says.
pub(super) fn parsed(change: &Change) -> Result<automerge::Change, BadChange> {
    let opened = super::guard::opened(change.bytes.clone()).map_err(|_| BadChange::Bytes)?;
    let is_named = opened.actor_id().to_bytes() == change.actor.as_bytes()
        && opened.seq() == change.seq
        && opened.hash().0 == change.hash;
    if is_named { Ok(opened) } else { Err(BadChange::Name) }
}

/// The entry that a change brings, if it is one of a shard and well formed.
pub(crate) fn entry_in(change: &Change, space: &Space) -> Option<Entry> {
    entry_of(&super::guard::decoded(&parsed(change).ok()?).ok()?, space).ok()
}

/// The entry that a change of a shard puts.
pub(super) fn entry_of(change: &automerge::ExpandedChange, space: &Space) -> Result<Entry, BadChange> {
    use automerge::legacy::{Key, ObjectId, OpType};
    let [operation] = change.operations.as_slice() else { return Err(BadChange::Shape) };
    let (Key::Map(key), ObjectId::Root, OpType::Put(automerge::ScalarValue::Str(json))) =
        (&operation.key, &operation.obj, &operation.action)
    else {
        return Err(BadChange::Shape);
    };
    if operation.insert || !operation.pred.is_empty() {
        return Err(BadChange::Shape);
    }
    let entry: Entry = serde_json::from_str(json).map_err(|_| BadChange::Shape)?;
    if key.parse::<EntryId>().ok() != Some(entry.id) {
        return Err(BadChange::Shape);
    }
    if entry.space != *space {
        return Err(BadChange::Space);
    }
    entry.check().map_err(|_| BadChange::Bounds)?;
    Ok(entry)
}

impl Truth {
    /// The shard that takes an entry of `space` in the month of `now`.
    pub(super) fn open_shard(&mut self, space: &Space, now: u64) -> Result<&mut OpenShard, TruthError> {
        let month = Month::of(now);
        let is_there = self.open.get(space).is_some_and(|shard| !shard.is_full_for(month));
        if !is_there {
            let shard = self.next_shard(space, month)?;
            self.open.insert(space.clone(), shard);
        }
        self.open.get_mut(space).ok_or_else(|| TruthError::Missing(format!("shard of {space}")))
    }

    /// The newest part of the month when it has room, else the next one.
    fn next_shard(&self, space: &Space, month: Month) -> Result<OpenShard, TruthError> {
        let writer: PublicKey = self.install.public_key();
        let mut part = self.parts(space, &writer, month)?;
        if part > 0 {
            let id = DocumentId::Shard { space: space.clone(), writer, month, part: part - 1 };
            let number = self.number(&id)?;
            let (entries, bytes): (i64, i64) = self.connection.query_row(
                "SELECT COUNT(*), COALESCE(SUM(LENGTH(frame)), 0) FROM changes WHERE document = ?1",
                [number],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )?;
            let is_full = usize::try_from(entries).unwrap_or(0) >= MAX_ENTRIES
                || usize::try_from(bytes).unwrap_or(0) >= MAX_BYTES;
            if !is_full && !self.is_retired(number)? && !self.is_doubtful(number)? {
                let mut document = self.load(number, &id)?.with_actor(actor(&self.actor));
                let count = |n| usize::try_from(n).unwrap_or(0);
                if document.get_missing_deps(&[]).is_empty() {
                    return Ok(OpenShard::new(id, number, month, document, count(entries), count(bytes)));
                }
            }
        } else {
            part = 0;
        }
        let id = DocumentId::Shard { space: space.clone(), writer, month, part };
        let number = self.number(&id)?;
        Ok(OpenShard::new(id, number, month, AutoCommit::new().with_actor(actor(&self.actor)), 0, 0))
    }

    /// How many parts of a shard are known, retired ones too.
    fn parts(&self, space: &Space, writer: &PublicKey, month: Month) -> Result<u32, TruthError> {
        let prefix = format!("{space}/shard/{}/{month}/", writer.to_hex());
        let mut names = self.connection.prepare_cached("SELECT name FROM documents WHERE name >= ?1 AND name < ?2")?;
        // `0` follows `/` in ASCII.
        let end = format!("{}0", prefix.trim_end_matches('/'));
        let rows = names.query_map([&prefix, &end], |row| row.get::<_, String>(0))?;
        let mut next = 0;
        for name in rows {
            let name = name?;
            if let Some(part) = name.strip_prefix(&prefix).and_then(|p| p.parse::<u32>().ok()) {
                next = next.max(part.saturating_add(1));
            }
        }
        Ok(next)
    }
}
