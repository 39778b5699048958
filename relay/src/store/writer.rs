//! The writer thread: it alone changes the store.
//!
//! It takes what has queued up into one transaction, commits (one fsync), publishes the batch to live readers and only
//! then answers. When the map is full it grows and the batch is tried again; when a command breaks the transaction, each
//! is tried alone, so that only the bad one fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nostr::{Event, EventId, Timestamp};
use tokio::sync::{broadcast, mpsc, oneshot};

use super::StoreError;
use super::note::{Class, Note};
use super::tables::{Disk, Meta};
use super::write::{PublishOutcome, Rules, Writing};

/// Commands in one transaction: more does not make the fsync cheaper for each.
const BATCH_COMMANDS: usize = 1_000;
/// Bytes of events in one transaction: bounds what slow live readers can keep in memory.
const BATCH_BYTES: usize = 1 << 20;
/// Events that one command or batch may evict or purge, so that writers are not kept waiting.
const PURGE_AT_ONCE: usize = 1_000;

/// What became of one event, or why it could not be stored.
pub(crate) type PutResult = Result<PublishOutcome, StoreError>;

/// Where the answer to a put goes.
pub(crate) enum Reply {
    /// To one caller.
    Caller(oneshot::Sender<PutResult>),
    /// Into a session's queue of answers, in which a place is held.
    Session(mpsc::OwnedPermit<(EventId, PutResult)>, EventId),
}

impl Reply {
    fn send(self, result: PutResult) {
        match self {
            Self::Caller(sender) => drop(sender.send(result)),
            Self::Session(permit, id) => drop(permit.send((id, result))),
        }
    }
}

/// What the writer thread is asked to do.
pub(crate) enum Command {
    /// Store (or pass on) a verified event.
    Put { note: Note, class: Class, trusted: bool, reply: Reply },
    /// Remove what is due; answers whether more is left.
    Purge(oneshot::Sender<bool>),
    /// Finish what was asked before, and end.
    Close,
}

/// An event as live readers get it.
#[derive(Clone, Debug)]
pub(crate) struct Live {
    /// Its sequence number; none when it is ephemeral.
    pub(crate) sequence: Option<u64>,
    pub(crate) event: Arc<Event>,
    pub(crate) json: Arc<str>,
}

/// The events of one commit, in order.
pub(crate) type LiveBatch = Arc<Vec<Live>>;

/// Numbers that everybody may read at any time.
#[derive(Debug, Default)]
pub(crate) struct Gauges {
    pub(crate) last_sequence: AtomicU64,
    pub(crate) events: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) stranger_bytes: AtomicU64,
    /// Up to which removal number the search index is done.
    pub(crate) gone_indexed: AtomicU64,
}

impl Gauges {
    /// Shows the counters of the last commit.
    pub(crate) fn show(&self, meta: &Meta) {
        self.events.store(meta.events, Ordering::Relaxed);
        self.bytes.store(meta.bytes, Ordering::Relaxed);
        self.stranger_bytes.store(meta.stranger_bytes, Ordering::Relaxed);
        self.last_sequence.store(meta.last_sequence, Ordering::Release);
    }
}

/// The writer thread's belongings.
pub(crate) struct Writer {
    pub(crate) disk: Arc<Disk>,
    pub(crate) rules: Rules,
    pub(crate) meta: Meta,
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) live: broadcast::Sender<LiveBatch>,
    pub(crate) gauges: Arc<Gauges>,
    /// Wakes the search index.
    pub(crate) indexer: std::sync::mpsc::SyncSender<()>,
}

/// The answers of a tried transaction, one for each command.
enum Answer {
    Put(PublishOutcome),
    Purged(bool),
}

impl Writer {
    /// Works until told to close or until nobody is left to ask.
    pub(crate) fn run(mut self) {
        while let Some(first) = self.commands.blocking_recv() {
            let mut open = true;
            let mut batch = Vec::new();
            let mut bytes = 0;
            let mut next = Some(first);
            while let Some(command) = next.take() {
                if let Command::Close = command {
                    open = false;
                    break;
                }
                if let Command::Put { note, .. } = &command {
                    bytes += note.json.len();
                }
                batch.push(command);
                if batch.len() < BATCH_COMMANDS && bytes < BATCH_BYTES {
                    next = self.commands.try_recv().ok();
                }
            }
            self.process(batch);
            if !open {
                self.finish();
                break;
            }
        }
    }

    /// Answers what was queued behind the order to close.
    fn finish(&mut self) {
        self.commands.close();
        let mut rest = Vec::new();
        while let Ok(command) = self.commands.try_recv() {
            rest.push(command);
        }
        self.process(rest);
    }

    fn process(&mut self, batch: Vec<Command>) {
        if batch.is_empty() {
            return;
        }
        match self.attempt(&batch) {
            Ok(answers) => self.conclude(batch, answers),
            Err(error) if batch.len() == 1 => {
                tracing::error!(%error, "the event store could not write");
                refuse(batch, &error);
            }
            Err(error) if is_disk_error(&error) => {
                tracing::error!(%error, "the disk does not take events; the relay goes on reading");
                refuse(batch, &error);
            }
            Err(error) => {
                tracing::warn!(%error, "a batch of events failed; each is tried alone");
                for command in batch {
                    self.process(vec![command]);
                }
            }
        }
    }

    /// Tries a batch in one transaction, growing the map as often as needed.
    fn attempt(&mut self, batch: &[Command]) -> heed::Result<Vec<Answer>> {
        loop {
            match self.transact(batch) {
                Err(heed::Error::Mdb(heed::MdbError::MapFull)) => {
                    tracing::info!("the event store's map is full; it grows");
                    self.disk.grow()?;
                }
                other => return other,
            }
        }
    }

    fn transact(&mut self, batch: &[Command]) -> heed::Result<Vec<Answer>> {
        let mut txn = self.disk.write()?;
        let meta = self.meta.clone();
        let mut writing =
            Writing { disk: &self.disk, rules: &self.rules, txn: &mut txn, meta, now: Timestamp::now().as_secs() };
        let mut changed = false;
        let mut answers = Vec::with_capacity(batch.len());
        for command in batch {
            match command {
                Command::Put { note, class, trusted, .. } => {
                    let outcome = writing.put(note, *class, *trusted)?;
                    changed |= matches!(outcome, PublishOutcome::Stored(_));
                    answers.push(Answer::Put(outcome));
                }
                Command::Purge(_) => {
                    let forgotten = writing.forget_gone(self.gauges.gone_indexed.load(Ordering::Acquire))?;
                    let removed = writing.purge(PURGE_AT_ONCE)?;
                    changed |= removed + forgotten > 0;
                    answers.push(Answer::Purged(removed >= PURGE_AT_ONCE));
                }
                Command::Close => {}
            }
        }
        if writing.meta.stranger_bytes > self.rules.stranger_bytes {
            changed |= writing.evict(batch.len() + PURGE_AT_ONCE)? > 0;
        }
        let meta = writing.meta;
        if changed {
            self.disk.put_meta(&mut txn, &meta)?;
            txn.commit()?;
            self.gauges.show(&meta);
            self.meta = meta;
        }
        Ok(answers)
    }

    /// Publishes and answers a committed batch.
    fn conclude(&mut self, batch: Vec<Command>, answers: Vec<Answer>) {
        let mut live = Vec::new();
        for (command, answer) in batch.iter().zip(&answers) {
            let (Command::Put { note, .. }, Answer::Put(outcome)) = (command, answer) else { continue };
            let sequence = match outcome {
                PublishOutcome::Stored(sequence) => Some(*sequence),
                PublishOutcome::Broadcast => None,
                PublishOutcome::Duplicate
                | PublishOutcome::Replaced
                | PublishOutcome::Deleted
                | PublishOutcome::Vanished
                | PublishOutcome::Expired
                | PublishOutcome::MailboxFull
                | PublishOutcome::OtherRelays => continue,
            };
            live.push(Live { sequence, event: Arc::clone(&note.event), json: Arc::clone(&note.json) });
        }
        if !live.is_empty() {
            // Nobody listening is no error; a full wake-up queue means that the index is awake.
            let _ = self.live.send(Arc::new(live));
            let _ = self.indexer.try_send(());
        }
        for (command, answer) in batch.into_iter().zip(answers) {
            match (command, answer) {
                (Command::Put { reply, .. }, Answer::Put(outcome)) => reply.send(Ok(outcome)),
                (Command::Purge(reply), Answer::Purged(more)) => drop(reply.send(more)),
                _ => {}
            }
        }
    }
}

fn refuse(batch: Vec<Command>, error: &heed::Error) {
    for command in batch {
        match command {
            Command::Put { reply, .. } => reply.send(Err(StoreError::Write(error.to_string()))),
            Command::Purge(reply) => drop(reply.send(false)),
            Command::Close => {}
        }
    }
}

/// Says whether the disk is at fault, so that trying the commands one by one would not help.
fn is_disk_error(error: &heed::Error) -> bool {
    match error {
        heed::Error::Io(_) => true,
        heed::Error::Mdb(heed::MdbError::Other(_) | heed::MdbError::Panic | heed::MdbError::Corrupted) => true,
        heed::Error::Mdb(_) | heed::Error::Encoding(_) | heed::Error::Decoding(_) | heed::Error::EnvAlreadyOpened => {
            false
        }
    }
}
