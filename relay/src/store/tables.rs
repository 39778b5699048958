//! The LMDB environment and its tables.
//!
//! The memory map grows on demand. LMDB allows that only while no transaction is open, so every read holds the shared side
//! of a lock whose exclusive side growing takes.

use std::path::Path;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use heed::types::{Bytes, Unit};
use heed::{Database, Env, EnvOpenOptions, RoTxn, RwTxn, WithoutTls};

use super::keys::Place;
use super::note::Record;

/// A time-ordered index: the key says all.
pub(crate) type Index = Database<Bytes, Unit>;
/// A table of bytes by bytes.
pub(crate) type Table = Database<Bytes, Bytes>;

/// The map is rounded up to this; more than any page size.
const MAP_UNIT: u64 = 1 << 20;
/// Readers at one time: a few for each worker thread, and blocking scans.
const MAX_READERS: u32 = 512;
const MAX_TABLES: u32 = 24;
/// Layout of the tables.
const SCHEMA: u64 = 1;

/// The open store on disk.
pub(crate) struct Disk {
    env: Env<WithoutTls>,
    growing: RwLock<()>,
    /// sequence → record
    pub(crate) events: Table,
    /// id → sequence
    pub(crate) ids: Table,
    pub(crate) by_time: Index,
    pub(crate) by_author: Index,
    pub(crate) by_author_kind: Index,
    pub(crate) by_kind: Index,
    pub(crate) by_tag: Index,
    /// coordinate → place, of replaceable and addressable events
    pub(crate) coordinates: Table,
    /// expires_at ‖ sequence
    pub(crate) expiry: Index,
    /// group ‖ sequence → bytes, of strangers' events; group 1 holds what keeps deletions remembered
    pub(crate) strangers: Table,
    /// recipient → bytes of their gift wraps
    pub(crate) mailboxes: Table,
    /// id ‖ author
    pub(crate) deleted: Index,
    /// coordinate → created_at of the deletion
    pub(crate) deleted_coordinates: Table,
    /// author → created_at of the request to vanish
    pub(crate) vanished: Table,
    /// removal number → sequence, for the search index
    pub(crate) gone: Table,
    meta: Table,
}

/// Counters that are kept with the events, in the same transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Meta {
    /// The newest sequence number ever given.
    pub(crate) last_sequence: u64,
    /// Events stored now.
    pub(crate) events: u64,
    /// Their bytes with index entries, estimated.
    pub(crate) bytes: u64,
    /// Of them, the strangers' bytes.
    pub(crate) stranger_bytes: u64,
    /// The newest removal number.
    pub(crate) last_gone: u64,
}

impl Disk {
    /// Opens or makes the store in a folder.
    ///
    /// # Errors
    ///
    /// LMDB's own: the folder cannot be written, the file is no LMDB file, or it is open already.
    pub(crate) fn open(dir: &Path, map_bytes: u64) -> heed::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let used = std::fs::metadata(dir.join("data.mdb")).map_or(0, |file| file.len());
        let env = open_env(dir, round_up(map_bytes.max(used.saturating_mul(2))))?;
        let mut txn = env.write_txn()?;
        let disk = Self {
            growing: RwLock::new(()),
            events: env.create_database(&mut txn, Some("events"))?,
            ids: env.create_database(&mut txn, Some("ids"))?,
            by_time: env.create_database(&mut txn, Some("by_time"))?,
            by_author: env.create_database(&mut txn, Some("by_author"))?,
            by_author_kind: env.create_database(&mut txn, Some("by_author_kind"))?,
            by_kind: env.create_database(&mut txn, Some("by_kind"))?,
            by_tag: env.create_database(&mut txn, Some("by_tag"))?,
            coordinates: env.create_database(&mut txn, Some("coordinates"))?,
            expiry: env.create_database(&mut txn, Some("expiry"))?,
            strangers: env.create_database(&mut txn, Some("strangers"))?,
            mailboxes: env.create_database(&mut txn, Some("mailboxes"))?,
            deleted: env.create_database(&mut txn, Some("deleted"))?,
            deleted_coordinates: env.create_database(&mut txn, Some("deleted_coordinates"))?,
            vanished: env.create_database(&mut txn, Some("vanished"))?,
            gone: env.create_database(&mut txn, Some("gone"))?,
            meta: env.create_database(&mut txn, Some("meta"))?,
            env: env.clone(),
        };
        disk.check_schema(&mut txn)?;
        txn.commit()?;
        Ok(disk)
    }

    fn check_schema(&self, txn: &mut RwTxn<'_>) -> heed::Result<()> {
        match self.meta_number(txn, "schema")? {
            Some(SCHEMA) => Ok(()),
            Some(other) => {
                let reason = format!("the event store has layout {other}; this version reads layout {SCHEMA}");
                Err(std::io::Error::new(std::io::ErrorKind::InvalidData, reason).into())
            }
            None => {
                self.put_number(txn, "schema", SCHEMA)?;
                self.put_number(txn, "identity", rand::random())
            }
        }
    }

    /// Gives the store's random identity, which derived indexes carry.
    pub(crate) fn identity(&self, txn: &RoTxn<'_, WithoutTls>) -> heed::Result<u64> {
        Ok(self.meta_number(txn, "identity")?.unwrap_or_default())
    }

    /// Opens a view of what is committed now.
    pub(crate) fn read(&self) -> heed::Result<Snapshot<'_>> {
        let guard = self.growing.read().unwrap_or_else(PoisonError::into_inner);
        Ok(Snapshot { txn: self.env.read_txn()?, disk: self, _guard: guard })
    }

    /// Opens the write transaction. Only the writer thread calls this.
    pub(crate) fn write(&self) -> heed::Result<RwTxn<'_>> {
        self.env.write_txn()
    }

    /// Doubles the memory map. Only the writer thread calls this, outside of any transaction.
    ///
    /// # Errors
    ///
    /// LMDB's, when the address space does not allow it.
    #[allow(unsafe_code)]
    pub(crate) fn grow(&self) -> heed::Result<()> {
        let _alone = self.growing.write().unwrap_or_else(PoisonError::into_inner);
        let size = round_up((self.env.info().map_size as u64).saturating_mul(2));
        // SAFETY: no transaction is open: reads hold the lock, and the writer thread is here.
        unsafe { self.env.resize(usize::try_from(size).unwrap_or(usize::MAX)) }
    }

    fn meta_number(&self, txn: &RoTxn<'_, WithoutTls>, name: &str) -> heed::Result<Option<u64>> {
        Ok(self.meta.get(txn, name.as_bytes())?.map(number))
    }

    fn put_number(&self, txn: &mut RwTxn<'_>, name: &str, value: u64) -> heed::Result<()> {
        self.meta.put(txn, name.as_bytes(), &value.to_be_bytes())
    }

    /// Reads the counters.
    pub(crate) fn meta(&self, txn: &RoTxn<'_, WithoutTls>) -> heed::Result<Meta> {
        let get = |name| Ok::<_, heed::Error>(self.meta_number(txn, name)?.unwrap_or_default());
        Ok(Meta {
            last_sequence: get("last_sequence")?,
            events: get("events")?,
            bytes: get("bytes")?,
            stranger_bytes: get("stranger_bytes")?,
            last_gone: get("last_gone")?,
        })
    }

    /// Writes the counters.
    pub(crate) fn put_meta(&self, txn: &mut RwTxn<'_>, meta: &Meta) -> heed::Result<()> {
        self.put_number(txn, "last_sequence", meta.last_sequence)?;
        self.put_number(txn, "events", meta.events)?;
        self.put_number(txn, "bytes", meta.bytes)?;
        self.put_number(txn, "stranger_bytes", meta.stranger_bytes)?;
        self.put_number(txn, "last_gone", meta.last_gone)
    }
}

/// A view of the store at one commit.
pub(crate) struct Snapshot<'d> {
    pub(crate) txn: RoTxn<'d, WithoutTls>,
    pub(crate) disk: &'d Disk,
    _guard: RwLockReadGuard<'d, ()>,
}

impl Snapshot<'_> {
    /// The newest sequence number that this view contains.
    pub(crate) fn last_sequence(&self) -> heed::Result<u64> {
        Ok(self.disk.meta_number(&self.txn, "last_sequence")?.unwrap_or_default())
    }

    /// The record with a sequence number, if it is still there.
    pub(crate) fn record(&self, sequence: u64) -> heed::Result<Option<Record<'_>>> {
        Ok(self.disk.events.get(&self.txn, &sequence.to_be_bytes())?.and_then(Record::new))
    }

    /// Calls back for each record after a sequence number, in order, until told to stop with `false`.
    pub(crate) fn after(&self, sequence: u64, mut each: impl FnMut(u64, Record<'_>) -> bool) -> heed::Result<()> {
        let start = sequence.saturating_add(1).to_be_bytes();
        let from = (std::ops::Bound::Included(&start[..]), std::ops::Bound::Unbounded);
        for entry in self.disk.events.range(&self.txn, &from)? {
            let (key, value) = entry?;
            let Some(record) = Record::new(value) else { continue };
            if !each(number(key), record) {
                break;
            }
        }
        Ok(())
    }
}

#[allow(unsafe_code)]
fn open_env(dir: &Path, map_bytes: u64) -> heed::Result<Env<WithoutTls>> {
    let mut options = EnvOpenOptions::new().read_txn_without_tls();
    options.map_size(usize::try_from(map_bytes).unwrap_or(usize::MAX)).max_readers(MAX_READERS).max_dbs(MAX_TABLES);
    // SAFETY: the file lies in the node's own folder, which a second process is kept out of, and no flag is set.
    unsafe { options.open(dir) }
}

fn round_up(bytes: u64) -> u64 {
    bytes.div_ceil(MAP_UNIT).saturating_mul(MAP_UNIT)
}

/// Reads a big-endian number; shorter or longer bytes give 0.
pub(crate) fn number(bytes: &[u8]) -> u64 {
    bytes.try_into().map(u64::from_be_bytes).unwrap_or_default()
}

/// Reads the place at the end of an index key.
pub(crate) fn place_of(key: &[u8]) -> Place {
    let mut out = [0; 24];
    if let Some(tail) = key.len().checked_sub(24) {
        out.copy_from_slice(&key[tail..]);
    }
    out
}
