//! The one thread that owns the truth. Work that waits at the same time shares one transaction and so one fsync; each piece runs in
//! its own savepoint. Work has happened when its future resolves; what the index must learn leaves in the order of the commits.

use std::sync::Arc;

use nostr::Event;
use rusqlite::Connection;
use tokio::sync::{broadcast, mpsc, oneshot};

use crate::truth::{Changed, Truth, TruthError};

/// Pieces of work that may wait; more wait in their callers.
const QUEUE: usize = 1024;
/// Pieces that share one transaction.
const GROUP: usize = 256;
/// Bundles of changes that the index may be behind; then the writer waits for it.
const FEED: usize = 64;
/// Signed events that one who follows may be behind: what a busy second brings. More are missed, and come by the next sync.
const MADE: usize = 1024;

type Finish = Box<dyn FnOnce(Result<(), TruthError>) + Send>;
type Write = Box<dyn FnOnce(Result<&mut Truth, TruthError>) -> Finish + Send>;

enum Job {
    Write(Write),
    /// Empties the write-ahead log: what was deleted is then in no file.
    Checkpoint(oneshot::Sender<Result<(), TruthError>>),
}

/// What goes to the index, in the order of the commits.
pub(crate) enum Feed {
    Changes(Vec<Changed>),
    /// Answered when everything before it was taken in.
    Fence(oneshot::Sender<()>),
}

/// A handle on the thread.
#[derive(Clone)]
pub(crate) struct Worker {
    queue: mpsc::Sender<Job>,
    feed: mpsc::Sender<Feed>,
    made: broadcast::Sender<Arc<Event>>,
}

/// Where the thread says what happened.
struct Out {
    feed: mpsc::Sender<Feed>,
    made: broadcast::Sender<Arc<Event>>,
}

impl Worker {
    /// Starts the thread.
    pub fn start(truth: Truth) -> Result<(Self, mpsc::Receiver<Feed>), TruthError> {
        let (queue, inbox) = mpsc::channel(QUEUE);
        let (feed, fed) = mpsc::channel(FEED);
        let (made, _) = broadcast::channel(MADE);
        let out = Out { feed: feed.clone(), made: made.clone() };
        std::thread::Builder::new()
            .name("memory".to_owned())
            .spawn(move || serve(truth, inbox, &out))
            .map_err(|_| TruthError::Closed)?;
        Ok((Self { queue, feed, made }, fed))
    }

    /// Events that this node signs from now on, after their commit. Who is slow misses some.
    pub fn made(&self) -> broadcast::Receiver<Arc<Event>> {
        self.made.subscribe()
    }

    /// Does `work` and resolves after the commit is on disk.
    pub async fn write<T, F>(&self, work: F) -> Result<T, TruthError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Truth) -> Result<T, TruthError> + Send + 'static,
    {
        let (job, answer) = piece(work);
        self.queue.send(job).await.map_err(|_| TruthError::Closed)?;
        answer.await.map_err(|_| TruthError::Closed)?
    }

    /// The same, from a thread that may block.
    pub fn write_blocking<T, F>(&self, work: F) -> Result<T, TruthError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Truth) -> Result<T, TruthError> + Send + 'static,
    {
        let (job, answer) = piece(work);
        self.queue.blocking_send(job).map_err(|_| TruthError::Closed)?;
        answer.blocking_recv().map_err(|_| TruthError::Closed)?
    }

    /// Empties the write-ahead log.
    pub async fn checkpoint(&self) -> Result<(), TruthError> {
        let (reply, answer) = oneshot::channel();
        self.queue.send(Job::Checkpoint(reply)).await.map_err(|_| TruthError::Closed)?;
        answer.await.map_err(|_| TruthError::Closed)?
    }

    /// Waits until the index was told of everything that was committed before.
    pub async fn fence(&self) -> Result<(), TruthError> {
        let (reply, answer) = oneshot::channel();
        self.feed.send(Feed::Fence(reply)).await.map_err(|_| TruthError::Closed)?;
        answer.await.map_err(|_| TruthError::Closed)
    }
}

fn piece<T, F>(work: F) -> (Job, oneshot::Receiver<Result<T, TruthError>>)
where
    T: Send + 'static,
    F: FnOnce(&mut Truth) -> Result<T, TruthError> + Send + 'static,
{
    let (reply, answer) = oneshot::channel();
    let write: Write = Box::new(move |truth| {
        let result = truth.and_then(|truth| truth.in_savepoint(work));
        Box::new(move |committed| {
            let _ = reply.send(committed.and(result));
        })
    });
    (Job::Write(write), answer)
}

fn serve(mut truth: Truth, mut inbox: mpsc::Receiver<Job>, out: &Out) {
    let mut group = Vec::with_capacity(GROUP);
    while inbox.blocking_recv_many(&mut group, GROUP) > 0 {
        let mut writes = Vec::new();
        for job in group.drain(..) {
            match job {
                Job::Write(write) => writes.push(write),
                Job::Checkpoint(reply) => {
                    transact(&mut truth, std::mem::take(&mut writes), out);
                    let _ = reply.send(checkpoint(truth.connection()));
                }
            }
        }
        transact(&mut truth, writes, out);
    }
    if let Err(error) = checkpoint(truth.connection()) {
        tracing::debug!(%error, "the log of the memory was not emptied at the end");
    }
}

fn checkpoint(connection: &Connection) -> Result<(), TruthError> {
    let busy: i64 = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
    if busy == 0 { Ok(()) } else { Err(TruthError::Database { doing: "to empty its log", source: busy_error() }) }
}

fn busy_error() -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY), None)
}

/// Runs a group in one transaction. A full disk may end the transaction in the middle: the rest is refused, not run outside of it.
fn transact(truth: &mut Truth, writes: Vec<Write>, out: &Out) {
    if writes.is_empty() {
        return;
    }
    let begun = truth.connection().execute_batch("BEGIN IMMEDIATE");
    let mut finishes = Vec::with_capacity(writes.len());
    for write in writes {
        finishes.push(match &begun {
            Ok(()) if truth.connection().is_autocommit() => write(Err(lost())),
            Ok(()) => write(Ok(truth)),
            Err(error) => write(Err(copy(error))),
        });
    }
    let committed = match begun {
        Err(error) => Err(error),
        Ok(()) if truth.connection().is_autocommit() => Err(full()),
        Ok(()) => truth.connection().execute_batch("COMMIT"),
    };
    if committed.is_err() {
        if !truth.connection().is_autocommit() {
            let _ = truth.connection().execute_batch("ROLLBACK");
        }
        truth.drop_caches();
    }
    let changed = truth.take_changed();
    for event in truth.take_made() {
        // Nobody listens: nobody is told.
        let _ = out.made.send(Arc::new(event));
    }
    if !changed.is_empty() && out.feed.blocking_send(Feed::Changes(changed)).is_err() {
        tracing::debug!("the index is closed; it makes up for this at the next start");
    }
    for finish in finishes {
        finish(committed.as_ref().map_or_else(|e| Err(copy(e)), |()| Ok(())));
    }
}

fn full() -> rusqlite::Error {
    let full = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_FULL);
    rusqlite::Error::SqliteFailure(full, Some("the transaction was rolled back".to_owned()))
}

fn lost() -> TruthError {
    TruthError::Database { doing: "to write", source: full() }
}

fn copy(error: &rusqlite::Error) -> TruthError {
    let unknown = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_ERROR);
    let source =
        rusqlite::Error::SqliteFailure(error.sqlite_error().copied().unwrap_or(unknown), Some(error.to_string()));
    TruthError::Database { doing: "to write", source }
}
