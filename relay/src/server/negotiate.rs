//! Set reconciliation (NIP-77).

use std::sync::Arc;
use std::sync::atomic::Ordering;

use negentropy::{Id, Negentropy, NegentropyStorageVector};
use serde_json::{Value, json};

use super::Shared;
use super::requests::failure;
use super::session::{End, SLOW_DOWN, Session};
use crate::store::{Item, Query, StoreError};

/// Bytes of one message of ours; twice that in hex.
const FRAME_BYTES: u64 = 60_000;
/// Events in all reconciliations of all connections; 40 bytes each.
const EVENTS_IN_ALL: usize = 2_000_000;
/// Events from which on the work is left to another thread.
const LARGE: usize = 5_000;

/// An open reconciliation: the ids as they were when it began.
pub(crate) struct Reconciliation {
    machine: Negentropy<'static, NegentropyStorageVector>,
    held: Held,
}

/// Counts the events of a reconciliation against the bound for all, until dropped.
struct Held {
    shared: Arc<Shared>,
    events: usize,
}

impl Held {
    fn take(shared: &Arc<Shared>, events: usize) -> Option<Self> {
        let before = shared.reconciling.fetch_add(events, Ordering::Relaxed);
        let held = Self { shared: Arc::clone(shared), events };
        (before.saturating_add(events) <= EVENTS_IN_ALL).then_some(held)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.shared.reconciling.fetch_sub(self.events, Ordering::Relaxed);
    }
}

impl Session {
    /// Begins a reconciliation over what a filter matches now.
    pub(crate) async fn neg_open(&mut self, id: String, filter: Value, message: String) -> Result<(), End> {
        self.reconciliations.remove(&id);
        match self.open_reconciliation(&id, filter).await {
            Ok(open) => {
                self.reconciliations.insert(id.clone(), open);
                self.neg_step(id, message).await
            }
            Err(reason) => self.neg_err(&id, &reason).await,
        }
    }

    /// Continues one.
    pub(crate) async fn neg_msg(&mut self, id: String, message: String) -> Result<(), End> {
        if !self.may_ask() {
            return self.neg_err(&id, SLOW_DOWN).await;
        }
        self.neg_step(id, message).await
    }

    async fn open_reconciliation(&mut self, id: &str, filter: Value) -> Result<Reconciliation, String> {
        self.check_request(id)?;
        let limits = &self.shared.config.limits;
        if self.reconciliations.len() >= limits.reconciliations {
            return Err("blocked: too many reconciliations on this connection".to_owned());
        }
        let query = Query::parse(filter).map_err(|reason| format!("invalid: {reason}"))?;
        if query.search.is_some() {
            return Err("invalid: a reconciliation knows no search".to_owned());
        }
        self.check_wraps(std::slice::from_ref(&query))?;
        let (store, sight, max) = (self.shared.store.clone(), self.sight(), limits.reconciliation_events);
        let found = store.clone().long(move || store.collect_ids(&query, &sight, max)).await;
        let items = match found {
            Ok(items) => items,
            Err(StoreError::TooBroad) => return Err(format!("blocked: more than {max} events match")),
            Err(error) => return Err(failure(&error)),
        };
        let Some(held) = Held::take(&self.shared, items.len()) else {
            return Err("blocked: too many reconciliations at one time; try again later".to_owned());
        };
        let machine = machine(&items).map_err(|error| format!("error: {error}"))?;
        Ok(Reconciliation { machine, held })
    }

    async fn neg_step(&mut self, id: String, message: String) -> Result<(), End> {
        let Some(mut open) = self.reconciliations.remove(&id) else {
            return self.neg_err(&id, "closed: there is no such reconciliation").await;
        };
        let Ok(message) = hex::decode(&message) else {
            return self.neg_err(&id, "invalid: the message is not hex").await;
        };
        let large = open.held.events > LARGE;
        let work = move || {
            let answer = open.machine.reconcile(&message);
            (open, answer)
        };
        let (open, answer) = if large {
            match tokio::task::spawn_blocking(work).await {
                Ok(done) => done,
                Err(_) => return self.neg_err(&id, "error: the reconciliation failed").await,
            }
        } else {
            work()
        };
        match answer {
            Ok(answer) => {
                let text = json!(["NEG-MSG", id, hex::encode(answer)]).to_string();
                self.reconciliations.insert(id, open);
                self.send(text).await
            }
            Err(error) => self.neg_err(&id, &format!("invalid: {error}")).await,
        }
    }

    async fn neg_err(&mut self, id: &str, reason: &str) -> Result<(), End> {
        self.reconciliations.remove(id);
        let id = &id[..id.floor_char_boundary(256)];
        self.send(json!(["NEG-ERR", id, reason]).to_string()).await
    }
}

fn machine(items: &[Item]) -> Result<Negentropy<'static, NegentropyStorageVector>, negentropy::Error> {
    let mut storage = NegentropyStorageVector::with_capacity(items.len());
    for (created_at, id) in items {
        storage.insert(*created_at, Id::from_byte_array(*id))?;
    }
    storage.seal()?;
    Negentropy::owned(storage, FRAME_BYTES)
}
