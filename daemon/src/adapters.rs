//! What the rooms ask of the daemon, over the journal and the embedded relay.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use async_trait::async_trait;
use bots::Library;
use bots::model::{Budget, ChatRequest, Model, ModelError, Reply};
use bots::worker::{EventSearch, LibraryError};
use nostr::util::BoxedFuture;
use nostr::{Event, Filter, Kind, RelayUrl};
use relay::outbox::LocalRelay;
use relay::pool::{Cursors, PublishReply};
use relay::{PublishOutcome, Server};
use tokio::sync::mpsc;

use crate::journal::Journal;
use crate::metrics::Metrics;

/// Small writes that may wait; the newest value of each name is what counts.
const NOTES: usize = 1024;

/// Kinds that are nobody's business but their reader's.
const PRIVATE_KINDS: [u16; 6] = [4, 13, 14, 1059, 1060, 21059];

/// The embedded relay as a target of the outbox.
pub struct OwnRelay(pub Server);

impl LocalRelay for OwnRelay {
    fn publish(&self, event: Arc<Event>) -> BoxedFuture<'_, PublishReply> {
        Box::pin(async move {
            crate::crash_point!("outbox.before-local-publish");
            let outcome = self.0.publish(event.as_ref().clone()).await;
            crate::crash_point!("outbox.after-local-publish");
            match outcome {
                Ok(
                    PublishOutcome::Stored(_)
                    | PublishOutcome::Broadcast
                    | PublishOutcome::Duplicate
                    | PublishOutcome::Replaced,
                ) => PublishReply::Accepted,
                Ok(other) => PublishReply::Refused { permanent: true, message: format!("{other:?}") },
                Err(error) => PublishReply::Refused { permanent: false, message: format!("error: {error}") },
            }
        })
    }
}

/// The events that the embedded relay shows to everybody, for searches.
pub struct RelayLibrary(pub Server);

impl RelayLibrary {
    async fn search(&self, filter: Filter) -> Result<Vec<Event>, LibraryError> {
        let found = self.0.query(vec![filter]).await.map_err(|e| LibraryError(e.to_string()))?;
        Ok(found.into_iter().filter(|e| !PRIVATE_KINDS.contains(&e.kind.as_u16())).collect())
    }
}

#[async_trait]
impl Library for RelayLibrary {
    async fn search_events(&self, search: &EventSearch) -> Result<Vec<Event>, LibraryError> {
        let mut filter = Filter::new().limit(search.limit).kinds(search.kinds.iter().map(|k| Kind::from_u16(*k)));
        if !search.text.trim().is_empty() {
            filter = filter.search(&search.text);
        }
        if !search.authors.is_empty() {
            filter = filter.authors(search.authors.iter().copied());
        }
        filter.since = search.since;
        filter.until = search.until;
        self.search(filter).await
    }

    async fn search_profiles(&self, text: &str, limit: usize) -> Result<Vec<Event>, LibraryError> {
        self.search(Filter::new().kind(Kind::Metadata).search(text).limit(limit)).await
    }
}

enum Note {
    Cursor { relay: String, subscription: String, unix_s: u64 },
    Tokens { day: u64, model: String, tokens: u64 },
}

/// Cursors and budgets: read at the start, kept in memory, written behind.
pub struct Ledger {
    cursors: Mutex<BTreeMap<(String, String), u64>>,
    tokens: Mutex<BTreeMap<String, (u64, u64)>>,
    notes: mpsc::Sender<Note>,
}

impl Ledger {
    /// Reads what the journal has. The returned future writes what changes, until the ledger is dropped.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub async fn open(
        journal: Journal,
        today: u64,
    ) -> Result<(Arc<Self>, impl Future<Output = ()> + Send + use<>), crate::journal::JournalError> {
        let cursors = journal.cursors().await?.into_iter().map(|(r, s, at)| ((r, s), at)).collect();
        let tokens =
            journal.tokens_used(today).await?.into_iter().map(|(model, used)| (model, (today, used))).collect();
        let (notes, inbox) = mpsc::channel(NOTES);
        let ledger = Self { cursors: Mutex::new(cursors), tokens: Mutex::new(tokens), notes };
        Ok((Arc::new(ledger), keep(journal, inbox)))
    }

    fn note_tokens(&self, model: &str, day: u64, tokens: u64) {
        let _ = self.notes.try_send(Note::Tokens { day, model: model.to_owned(), tokens });
    }

    fn with_tokens<T>(&self, model: &str, day: u64, act: impl FnOnce(&mut u64) -> T) -> T {
        let mut all = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = all.entry(model.to_owned()).or_insert((day, 0));
        if entry.0 < day {
            *entry = (day, 0);
        }
        // A clock that went back finds the budget of the later day: it is not given out twice.
        act(&mut entry.1)
    }
}

async fn keep(journal: Journal, mut inbox: mpsc::Receiver<Note>) {
    while let Some(note) = inbox.recv().await {
        let kept = match note {
            Note::Cursor { relay, subscription, unix_s } => journal.set_cursor(relay, subscription, unix_s).await,
            Note::Tokens { day, model, tokens } => journal.set_tokens_used(day, model, tokens).await,
        };
        if let Err(error) = kept {
            tracing::warn!(%error, "a cursor or a budget was not kept; more may be fetched again after a restart");
        }
    }
}

impl Cursors for Ledger {
    fn load(&self, relay: &RelayUrl, sub: &str) -> Option<u64> {
        self.cursors.lock().unwrap_or_else(PoisonError::into_inner).get(&(relay.to_string(), sub.to_owned())).copied()
    }

    fn save(&self, relay: &RelayUrl, sub: &str, unix_s: u64) {
        let key = (relay.to_string(), sub.to_owned());
        self.cursors.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone(), unix_s);
        let _ = self.notes.try_send(Note::Cursor { relay: key.0, subscription: key.1, unix_s });
    }
}

impl Budget for Ledger {
    fn reserve(&self, model: &str, day: u64, tokens: u64, limit: u64) -> bool {
        let after = self.with_tokens(model, day, |used| {
            let after = used.saturating_add(tokens);
            (after <= limit).then(|| {
                *used = after;
                after
            })
        });
        if let Some(after) = after {
            self.note_tokens(model, day, after);
        }
        after.is_some()
    }

    fn settle(&self, model: &str, day: u64, reserved: u64, used_now: u64) {
        let after = self.with_tokens(model, day, |used| {
            *used = used.saturating_sub(reserved).saturating_add(used_now);
            *used
        });
        self.note_tokens(model, day, after);
    }

    fn used(&self, model: &str, day: u64) -> u64 {
        self.with_tokens(model, day, |used| *used)
    }
}

/// A model whose calls are counted.
pub struct Metered {
    /// The client.
    pub model: Arc<dyn Model>,
    /// Host of its server.
    pub provider: String,
    /// The owner's name of it.
    pub name: String,
    /// Where it is counted.
    pub metrics: Metrics,
}

#[async_trait]
impl Model for Metered {
    async fn complete(&self, request: &ChatRequest, pieces: mpsc::Sender<String>) -> Result<Reply, ModelError> {
        let started = Instant::now();
        let reply = self.model.complete(request, pieces).await;
        let usage = reply.as_ref().ok().and_then(|r| r.usage).unwrap_or_default();
        self.metrics.llm_call(
            &self.provider,
            &self.name,
            started.elapsed().as_secs_f64(),
            usage.prompt_tokens,
            usage.completion_tokens,
        );
        reply
    }

    async fn probe(&self) -> Result<Option<u64>, ModelError> {
        self.model.probe().await
    }
}
