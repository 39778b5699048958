//! Following the store: every event in order, from disk while behind and live afterwards.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use nostr::Event;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio_util::sync::CancellationToken;

use super::StoreError;
use super::tables::Disk;
use super::writer::{Live, LiveBatch};

/// Events read from disk at one time.
const PAGE_EVENTS: usize = 256;
/// Bytes read from disk at one time.
const PAGE_BYTES: usize = 1 << 20;
/// How long to wait before reading again after the disk failed.
const RETRY: Duration = Duration::from_secs(1);

/// Streams the stored events after a sequence number, in order, without end and without a gap.
///
/// Ephemeral events pass by once, live, under the number of the event stored before them; one may be missed while the
/// reader is far behind.
pub struct Follower {
    disk: Arc<Disk>,
    live: broadcast::Receiver<LiveBatch>,
    closed: CancellationToken,
    after: u64,
    behind: bool,
    pending: VecDeque<(u64, Arc<Event>)>,
}

impl Follower {
    pub(crate) fn new(
        disk: Arc<Disk>,
        live: broadcast::Receiver<LiveBatch>,
        closed: CancellationToken,
        after: u64,
    ) -> Self {
        Self { disk, live, closed, after, behind: true, pending: VecDeque::new() }
    }

    /// Waits for the next event and its sequence number; `None` when the store has closed. May be cancelled and called
    /// again without losing anything.
    pub async fn next(&mut self) -> Option<(u64, Arc<Event>)> {
        loop {
            if let Some(next) = self.pending.pop_front() {
                return Some(next);
            }
            if self.behind {
                self.read().await;
                continue;
            }
            tokio::select! {
                biased;
                batch = self.live.recv() => match batch {
                    Ok(batch) => self.take(&batch),
                    Err(RecvError::Lagged(_)) => self.behind = true,
                    Err(RecvError::Closed) => return None,
                },
                () = self.closed.cancelled() => return None,
            }
        }
    }

    /// Waits for the next event and gives it with those that are at hand, at most `max` (at least one); empty when the
    /// store has closed.
    pub async fn next_batch(&mut self, max: usize) -> Vec<(u64, Arc<Event>)> {
        let Some(first) = self.next().await else { return Vec::new() };
        let more = self.pending.len().min(max.saturating_sub(1));
        std::iter::once(first).chain(self.pending.drain(..more)).collect()
    }

    async fn read(&mut self) {
        let (disk, after) = (Arc::clone(&self.disk), self.after);
        let page = tokio::task::spawn_blocking(move || read_after(&disk, after, PAGE_EVENTS, PAGE_BYTES)).await;
        match page {
            Ok(Ok(page)) if page.is_empty() => self.behind = false,
            Ok(Ok(page)) => self.take(&page),
            Ok(Err(error)) => {
                tracing::error!(%error, "a follower could not read the event store; it tries again");
                tokio::time::sleep(RETRY).await;
            }
            Err(_) => tokio::time::sleep(RETRY).await,
        }
    }

    fn take(&mut self, batch: &[Live]) {
        for live in batch {
            match live.sequence {
                Some(sequence) if sequence > self.after => {
                    self.after = sequence;
                    self.pending.push_back((sequence, Arc::clone(&live.event)));
                }
                Some(_) => {}
                None => self.pending.push_back((self.after, Arc::clone(&live.event))),
            }
        }
    }
}

/// Reads the events after a sequence number, in order, until `events` or `bytes` are reached.
pub(crate) fn read_after(disk: &Disk, after: u64, events: usize, bytes: usize) -> Result<Vec<Live>, StoreError> {
    let snapshot = disk.read().map_err(StoreError::read)?;
    let mut out = Vec::new();
    let mut size = 0;
    let read = snapshot.after(after, |sequence, record| {
        size += record.len();
        if let Some(event) = record.event() {
            out.push(Live { sequence: Some(sequence), event: Arc::new(event), json: record.json().into() });
        }
        out.len() < events && size < bytes
    });
    read.map_err(StoreError::read)?;
    Ok(out)
}
