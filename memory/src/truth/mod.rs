//! The truth: signed changes in SQLite (WAL, synchronous = FULL), and what is made from them in the same transaction.
//!
//! | table | what | made from |
//! |---|---|---|
//! | `changes`, `tombstones` | signed events, the truth | |
//! | `entries` | what counts now, one row an entry | the changes of shards |
//! | `snapshots` | documents saved whole, so that they load fast | changes |
//! | `forgotten`, `erasures` | refused ids; ids whose bytes the index may still hold | tombstones |
//! | `quarantine` | writers with two changes for one (actor, sequence), with the proof | changes |
//!
//! A shard's change puts one entry under its id, and entries never change: so an entry counts as soon as its own change is there,
//! in whatever order they come. A page's change counts when all that it depends on is there.

mod changes;
mod copies;
mod entries;
mod event;
mod files;
mod forget;
mod guard;
mod inspect;
mod page;
mod pages;
mod rebuild;
mod schema;
mod seal;
mod shard;
mod take;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
mod transfer;
mod vet;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nips::memory::{ActorId, ChangeError, DocumentError, DocumentId, EntryId, Space};
use nostr::{Event, Keys, PublicKey};
use rusqlite::{Connection, OpenFlags};

use crate::entry::{Entry, EntryError};

pub use changes::Census;
pub use entries::Selector;
pub use forget::Forgotten;
pub use inspect::{Inspection, inspect};
pub use page::{Page, PageEdit};
pub use rebuild::Check;
pub(crate) use rebuild::Salvage;
pub(crate) use seal::Seal;
pub use seal::SealKey;
pub(crate) use shard::entry_in;
pub use take::{Outcome, Refusal};
pub(crate) use vet::Vetted;

pub use entries::Added;
pub(crate) use entries::{Reader, Twice};

/// What memory cannot do.
#[derive(Debug, thiserror::Error)]
pub enum TruthError {
    /// The database refused.
    #[error("the memory refused {doing}")]
    Database {
        /// What was tried.
        doing: &'static str,
        /// Why.
        source: rusqlite::Error,
    },
    /// A file cannot be handled.
    #[error("cannot handle {path}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file was written by a newer release.
    #[error("{path} was written by a newer timmy (schema {found}, this one knows {}); upgrade timmy, or restore an older backup", schema::VERSION, path = path.display())]
    Newer {
        /// Schema found.
        found: i64,
        /// The file.
        path: PathBuf,
    },
    /// The key is not the one that the memory was sealed with.
    #[error("{path} is sealed under another key; put the key file `memory` back from a backup (`timmy restore FILE`). Nothing was changed", path = path.display())]
    Key {
        /// The file.
        path: PathBuf,
    },
    /// An entry breaks a bound.
    #[error(transparent)]
    Entry(#[from] EntryError),
    /// A name is no name.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// Something that rests here does not open or does not parse.
    #[error("{0} is damaged")]
    Damaged(String),
    /// A change could not be made.
    #[error("cannot change {document}: {why}")]
    Change {
        /// What was to be changed.
        document: DocumentId,
        /// In automerge's words.
        why: String,
    },
    /// No such entry or page.
    #[error("there is no {0} in memory")]
    Missing(String),
    /// Several entries begin so.
    #[error("several entries begin with {0}; give more of the id")]
    Ambiguous(String),
    /// It was forgotten.
    #[error("entry {0} was forgotten; it is not taken again")]
    Forgotten(EntryId),
    /// An event is no event of memory.
    #[error(transparent)]
    Event(#[from] ChangeError),
    /// The signer refused.
    #[error("the change cannot be signed")]
    Sign(#[source] nostr::event::builder::Error),
    /// The thread is gone: the node is shutting down.
    #[error("the memory is closed")]
    Closed,
}

impl From<rusqlite::Error> for TruthError {
    fn from(source: rusqlite::Error) -> Self {
        Self::Database { doing: "a query", source }
    }
}

/// Who a writer is, as the node knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Writer {
    /// The passport that its install key speaks for.
    pub npub: PublicKey,
    /// True for the owner's own nodes: they may forget anything and move other authors' entries.
    pub acts_for_owner: bool,
}

/// Who may write where. The driver answers from peer cards and the membership log.
pub trait Directory: Send + Sync {
    /// The node behind an install key; none for strangers.
    fn writer(&self, install: &PublicKey) -> Option<Writer>;
    /// True when the install may read and write this space. Never asked for `private`.
    fn may_share(&self, install: &PublicKey, space: &Space) -> bool;
}

/// What makes a truth.
#[derive(Clone)]
pub(crate) struct TruthOptions {
    /// The database.
    pub path: PathBuf,
    /// Signs changes.
    pub install: Keys,
    /// The node's passport: the author of its entries.
    pub author: PublicKey,
    /// What rests is sealed under this.
    pub key: SealKey,
    /// Who may write where.
    pub directory: Arc<dyn Directory>,
}

/// What changed for the index.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Changed {
    Upsert(Box<Entry>),
    Remove(EntryId),
}

/// The truth, owned by one thread. Every method runs inside a savepoint of a transaction that its thread commits.
pub(crate) struct Truth {
    connection: Connection,
    seal: Arc<Seal>,
    install: Keys,
    author: PublicKey,
    /// New at each start.
    actor: ActorId,
    directory: Arc<dyn Directory>,
    /// The shard of each space that is being written.
    open: BTreeMap<Space, shard::OpenShard>,
    /// Pages that were used lately.
    pages: pages::Cache,
    /// What the index has to learn of the work that is being done.
    changed: Vec<Changed>,
    /// What this node signed in the work that is being done; none of it private.
    made: Vec<Event>,
    /// Shards of this node that lack a change since a tombstone destroyed it; they are written anew before the work is done.
    gapped: BTreeSet<i64>,
    /// What is taken over from a damaged store was taken before: only its signature counts.
    is_salvaging: bool,
}

impl Truth {
    /// Opens or makes the store. A damaged one is set aside, and what can be read of it is taken over.
    pub fn open(options: &TruthOptions) -> Result<(Self, Option<Salvage>), TruthError> {
        let seal = Arc::new(Seal::new(&options.key));
        let (connection, salvage) = rebuild::open(&options.path, &seal)?;
        let actor = ActorId::new(&options.install.public_key(), rand::random());
        let mut truth = Self {
            connection,
            seal,
            install: options.install.clone(),
            author: options.author,
            actor,
            directory: Arc::clone(&options.directory),
            open: BTreeMap::new(),
            pages: pages::Cache::default(),
            changed: Vec::new(),
            made: Vec::new(),
            gapped: BTreeSet::new(),
            is_salvaging: false,
        };
        let salvage = match salvage {
            Some(aside) => Some(truth.salvage(aside)?),
            None => None,
        };
        Ok((truth, salvage))
    }

    /// A second connection, for reading.
    pub fn reader(&self, path: &Path) -> Result<Reader, TruthError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)
            .map_err(|source| TruthError::Database { doing: "to open for reading", source })?;
        connection.busy_timeout(std::time::Duration::from_secs(5))?;
        connection.set_prepared_statement_cache_capacity(128);
        Ok(Reader::new(connection, Arc::clone(&self.seal)))
    }

    /// The connection, for the thread that begins and commits.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Drops what is kept of documents: the transaction that they belonged to is gone.
    pub fn drop_caches(&mut self) {
        self.open.clear();
        self.pages = pages::Cache::default();
        self.changed.clear();
        self.made.clear();
        self.gapped.clear();
    }

    /// Runs `work`; what it did is undone when it fails, and nothing of it stays in what is kept of documents.
    pub fn in_savepoint<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T, TruthError>) -> Result<T, TruthError> {
        self.connection.execute_batch("SAVEPOINT one")?;
        let before = (self.changed.len(), self.made.len());
        match work(self) {
            Ok(value) => {
                self.connection.execute_batch("RELEASE one")?;
                Ok(value)
            }
            Err(error) => {
                self.changed.truncate(before.0);
                self.made.truncate(before.1);
                self.gapped.clear();
                self.open.clear();
                self.pages = pages::Cache::default();
                if !self.connection.is_autocommit() {
                    self.connection.execute_batch("ROLLBACK TO one; RELEASE one")?;
                }
                Err(error)
            }
        }
    }

    /// What the index has to learn, once.
    pub fn take_changed(&mut self) -> Vec<Changed> {
        std::mem::take(&mut self.changed)
    }

    /// What this node signed, once.
    pub fn take_made(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.made)
    }

    fn made(&mut self, space: &Space, event: Event) {
        if !space.is_private() && !self.is_salvaging {
            self.made.push(event);
        }
    }

    fn is_own(&self, install: &PublicKey) -> bool {
        *install == self.install.public_key()
    }

    /// Who an install is; this one needs no directory.
    fn writer(&self, install: &PublicKey) -> Option<Writer> {
        if self.is_own(install) {
            return Some(Writer { npub: self.author, acts_for_owner: true });
        }
        self.directory.writer(install)
    }
}

impl Truth {
    /// Shares a space with a person, or takes it back. `private` is never shared.
    pub fn share(&self, space: &Space, person: &PublicKey, is_shared: bool) -> Result<(), TruthError> {
        if space.is_private() {
            return Err(TruthError::Missing("space that could be shared: private never leaves this node".to_owned()));
        }
        let sql = if is_shared {
            "INSERT OR IGNORE INTO shares(space, person) VALUES(?1, ?2)"
        } else {
            "DELETE FROM shares WHERE space = ?1 AND person = ?2"
        };
        self.connection.execute(sql, rusqlite::params![space.as_str(), person.to_bytes()])?;
        Ok(())
    }

    /// The spaces that were shared with a person.
    pub fn shared_with(&self, person: &PublicKey) -> Result<BTreeSet<Space>, TruthError> {
        let mut found = self.connection.prepare_cached("SELECT space FROM shares WHERE person = ?1")?;
        let rows = found.query_map([person.to_bytes()], |row| row.get::<_, String>(0))?;
        let mut all = BTreeSet::new();
        for name in rows {
            all.insert(name?.parse()?);
        }
        Ok(all)
    }

    /// Every share: space and person.
    pub fn shares(&self) -> Result<Vec<(Space, PublicKey)>, TruthError> {
        let mut found = self.connection.prepare_cached("SELECT space, person FROM shares")?;
        let rows = found.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, [u8; 32]>(1)?)))?;
        let mut all = Vec::new();
        for row in rows {
            let (space, person) = row?;
            all.push((space.parse()?, PublicKey::from_byte_array(person)));
        }
        Ok(all)
    }

    /// The spaces that there are documents of, tombstones included.
    pub fn spaces(&self) -> Result<BTreeSet<Space>, TruthError> {
        let mut found = self
            .connection
            .prepare_cached("SELECT DISTINCT space FROM documents UNION SELECT space FROM tombstones")?;
        let rows = found.query_map([], |row| row.get::<_, String>(0))?;
        let mut all = BTreeSet::new();
        for name in rows {
            all.insert(name?.parse()?);
        }
        Ok(all)
    }

    /// Documents that hold something.
    pub fn shards(&self) -> Result<u64, TruthError> {
        let count: i64 = self.connection.query_row(
            "SELECT COUNT(*) FROM documents d WHERE d.retired = 0 AND d.name LIKE '%/shard/%'
             AND EXISTS (SELECT 1 FROM changes c WHERE c.document = d.number)",
            [],
            |row| row.get(0),
        )?;
        Ok(u64::try_from(count).unwrap_or(0))
    }
}
