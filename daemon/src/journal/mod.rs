//! The journal: what came in, what was decided and what has been said, in SQLite (WAL, synchronous = FULL).
//!
//! One thread owns the connection. Writes that wait at the same time share one transaction and so one fsync; each runs in
//! its own savepoint, so that one that fails spoils nothing for the others. A write has happened when its future resolves.

mod approvals;
mod blank;
mod budget;
mod cursors;
mod jobs;
mod matrix;
mod outbox;
mod schema;
mod shelves;
mod talks;
mod told;

use std::path::{Path, PathBuf};
use std::thread;

use rusqlite::{Connection, OpenFlags};
use tokio::sync::{mpsc, oneshot};

pub use approvals::Answer;
pub use jobs::{Arrival, JobRow, NewJob, Opened, Stamp, Step, Word};
pub use matrix::{DueWord, WordState};
pub use outbox::OutboxCount;
pub use schema::VERSION;
pub use shelves::ShelfWrite;
pub use talks::PastTurn;

/// Under which name the journal keeps an owner who claimed the node.
pub const OWNER_KEY: &str = "owner";

/// Writes that may wait; more wait in their callers.
const QUEUE: usize = 1024;
/// Writes that share one transaction.
const GROUP: usize = 256;

/// What the journal cannot do.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The database refused.
    #[error("the journal refused {doing}")]
    Database {
        /// What was tried.
        doing: &'static str,
        /// Why.
        source: rusqlite::Error,
    },
    /// The file was written by a newer release.
    #[error("{path} was written by a newer timmy (schema {found}, this one knows {VERSION}); upgrade timmy, or restore an older backup", path = path.display())]
    Newer {
        /// Schema found.
        found: i64,
        /// The file.
        path: PathBuf,
    },
    /// The thread is gone: the node is shutting down.
    #[error("the journal is closed")]
    Closed,
}

type Finish = Box<dyn FnOnce(Result<(), rusqlite::Error>) + Send>;
/// Given the connection, or why there is none now; what it returns is called after the commit.
type Work = Box<dyn FnOnce(Result<&Connection, rusqlite::Error>) -> Finish + Send>;

enum Job {
    Write(Work),
    /// Empties the write-ahead log: what was deleted is then in no file.
    Checkpoint(oneshot::Sender<Result<(), rusqlite::Error>>),
}

/// A handle on the journal.
#[derive(Debug, Clone)]
pub struct Journal {
    queue: mpsc::Sender<Job>,
}

impl Journal {
    /// Opens or makes the journal at `path`.
    ///
    /// # Errors
    /// When the file is no journal, is newer than this program, or the disk refuses.
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        let connection = connect(path).map_err(|source| JournalError::Database { doing: "to open", source })?;
        schema::migrate(&connection, path)?;
        let (queue, inbox) = mpsc::channel(QUEUE);
        thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || serve(&connection, inbox))
            .map_err(|_| JournalError::Closed)?;
        Ok(Self { queue })
    }

    /// The schema found in the file at `path`, without touching it; none when there is no file.
    pub fn version_of(path: &Path) -> Option<i64> {
        let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).ok()?;
        connection.query_row("PRAGMA user_version", [], |row| row.get(0)).ok()
    }

    /// Runs `work` in a transaction and resolves after the commit is on disk. `doing` names it in an error.
    ///
    /// # Errors
    /// When `work` or the commit fails; then nothing of it has happened.
    pub async fn write<T, F>(&self, doing: &'static str, work: F) -> Result<T, JournalError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let work: Work = Box::new(move |connection| {
            let result = connection.and_then(|connection| in_savepoint(connection, work));
            Box::new(move |committed| {
                let _ = reply.send(committed.and(result));
            })
        });
        self.queue.send(Job::Write(work)).await.map_err(|_| JournalError::Closed)?;
        let result = answer.await.map_err(|_| JournalError::Closed)?;
        result.map_err(|source| JournalError::Database { doing, source })
    }

    /// Empties the write-ahead log, so that what was deleted before is in no file any more.
    ///
    /// # Errors
    /// When somebody reads the journal for too long.
    pub async fn checkpoint(&self) -> Result<(), JournalError> {
        let (reply, answer) = oneshot::channel();
        self.queue.send(Job::Checkpoint(reply)).await.map_err(|_| JournalError::Closed)?;
        let result = answer.await.map_err(|_| JournalError::Closed)?;
        result.map_err(|source| JournalError::Database { doing: "to empty its log", source })
    }
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    connection.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA cache_size = -8000;
         PRAGMA journal_size_limit = 16777216; PRAGMA secure_delete = ON; PRAGMA temp_store = MEMORY;",
    )?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

fn in_savepoint<T>(
    connection: &Connection,
    work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    connection.execute_batch("SAVEPOINT one")?;
    match work(connection) {
        Ok(value) => connection.execute_batch("RELEASE one").map(|()| value),
        Err(error) => {
            connection.execute_batch("ROLLBACK TO one; RELEASE one")?;
            Err(error)
        }
    }
}

fn serve(connection: &Connection, mut inbox: mpsc::Receiver<Job>) {
    let mut group = Vec::with_capacity(GROUP);
    while inbox.blocking_recv_many(&mut group, GROUP) > 0 {
        let mut writes = Vec::with_capacity(group.len());
        for job in group.drain(..) {
            match job {
                Job::Write(work) => writes.push(work),
                Job::Checkpoint(reply) => {
                    commit(connection, std::mem::take(&mut writes));
                    let _ = reply.send(checkpoint(connection));
                }
            }
        }
        commit(connection, writes);
    }
    if let Err(error) = checkpoint(connection) {
        tracing::debug!(%error, "the journal's log was not emptied at the end");
    }
}

fn checkpoint(connection: &Connection) -> rusqlite::Result<()> {
    let busy: i64 = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
    let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY);
    if busy == 0 { Ok(()) } else { Err(rusqlite::Error::SqliteFailure(code, None)) }
}

fn commit(connection: &Connection, group: Vec<Work>) {
    if group.is_empty() {
        return;
    }
    let finishes = transact(connection, group);
    crate::crash_point!("journal.before-commit");
    let committed = if connection.is_autocommit() { Err(lost()) } else { connection.execute_batch("COMMIT") };
    crate::crash_point!("journal.after-commit");
    if committed.is_err() && !connection.is_autocommit() {
        let _ = connection.execute_batch("ROLLBACK");
    }
    for finish in finishes {
        finish(committed.as_ref().map_or_else(|e| Err(copy(e)), |()| Ok(())));
    }
}

/// Runs a group in one transaction. A full disk may end the transaction in the middle: the rest is refused, not run outside of it.
fn transact(connection: &Connection, group: Vec<Work>) -> Vec<Finish> {
    let begun = connection.execute_batch("BEGIN IMMEDIATE");
    let run = |work: Work| match &begun {
        Ok(()) if connection.is_autocommit() => work(Err(lost())),
        Ok(()) => work(Ok(connection)),
        Err(error) => work(Err(copy(error))),
    };
    group.into_iter().map(run).collect()
}

/// The transaction is gone.
fn lost() -> rusqlite::Error {
    let full = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_FULL);
    rusqlite::Error::SqliteFailure(full, Some("the transaction was rolled back".to_owned()))
}

fn copy(error: &rusqlite::Error) -> rusqlite::Error {
    let unknown = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_ERROR);
    rusqlite::Error::SqliteFailure(error.sqlite_error().copied().unwrap_or(unknown), Some(error.to_string()))
}

/// Unix milliseconds by the wall clock.
pub fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
