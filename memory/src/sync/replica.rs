//! What a store of events must be able to do, to be synced.

use std::collections::HashMap;
use std::str::FromStr;
use std::sync::Arc;

use negentropy::{Bound, Id, Item, NegentropyStorageBase, NegentropyStorageVector};
use nips::memory::Space;
use nostr::{Event, EventId, JsonUtil, PublicKey};

use super::{MAX_BATCH_EVENTS, MAX_FRAME, MAX_SPACE_IDS, MessageError};

/// Bytes of a message around its events.
const AROUND: usize = 64 * 1024;

/// A replica failed.
#[derive(Debug, thiserror::Error)]
pub enum ReplicaError {
    /// The store did.
    #[error("the store could not {operation}")]
    Store {
        /// What it was asked to do.
        operation: &'static str,
        /// Why it could not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A space is too large to be reconciled.
    #[error("the space has {0} changes; sync takes {MAX_SPACE_IDS}")]
    TooMany(usize),
    /// The ids of a space cannot be put in order.
    #[error("the ids of the space cannot be reconciled")]
    Reconcile(#[source] negentropy::Error),
}

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is kept, durably, from now on.
    New,
    /// It was there.
    Known,
    /// It is not kept.
    Refused(Refusal),
}

/// Why an event is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// `invalid`: badly signed, malformed, too large, or of another space.
    Invalid,
    /// `forgotten`: a tombstone forbids it.
    Forgotten,
    /// `quarantined`: its writer contradicted itself.
    Quarantined,
    /// `not-allowed`: its writer has no place in this space.
    NotAllowed,
    /// `ahead`: dated too far ahead; later.
    Ahead,
    /// `full`: there is no room for it now (too many changes wait for their causes); later.
    Full,
}

impl Refusal {
    const ALL: [Self; 6] =
        [Self::Invalid, Self::Forgotten, Self::Quarantined, Self::NotAllowed, Self::Ahead, Self::Full];

    /// Its word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::Forgotten => "forgotten",
            Self::Quarantined => "quarantined",
            Self::NotAllowed => "not-allowed",
            Self::Ahead => "ahead",
            Self::Full => "full",
        }
    }

    /// True when the event will not be taken later either.
    pub fn is_final(self) -> bool {
        match self {
            Self::Invalid | Self::Forgotten | Self::Quarantined | Self::NotAllowed => true,
            Self::Ahead | Self::Full => false,
        }
    }
}

impl FromStr for Refusal {
    type Err = MessageError;

    fn from_str(word: &str) -> Result<Self, MessageError> {
        Self::ALL.into_iter().find(|why| why.as_str() == word).ok_or(MessageError::Malformed("refusal"))
    }
}

/// A store of the events of memory. Calls block; the driver makes them on threads that may.
pub trait Replica: Send + Sync {
    /// True when the peer, known by its install key, may have and bring events of the space. False for a quarantined peer, a
    /// space that is not shared with it and one that does not exist. `private` is refused before this is asked.
    ///
    /// # Errors
    /// When the store fails.
    fn may_sync(&self, peer: &PublicKey, space: &Space) -> Result<bool, ReplicaError>;

    /// The ids of a space as they are now. A session asks once, a responder for every message: a store that keeps the last one
    /// until the space changes saves both work.
    ///
    /// # Errors
    /// When the store fails or the space is too large.
    fn snapshot(&self, space: &Space) -> Result<Snapshot, ReplicaError>;

    /// Events of the space, **in the order in which they were taken**, so that a replica which takes them in this order meets
    /// causes before effects. [`Batch::fill`] keeps the bound.
    ///
    /// # Errors
    /// When the store fails.
    fn events(&self, space: &Space, ids: &[EventId], max_bytes: usize) -> Result<Batch, ReplicaError>;

    /// Checks (signature, space, everything) and keeps events; they are durable once this returns. One outcome for each event, in
    /// their order. An event may come any number of times.
    ///
    /// # Errors
    /// When the store fails; none, some or all may have been kept then.
    fn take(&self, from: &PublicKey, space: &Space, events: Vec<Event>) -> Result<Vec<Outcome>, ReplicaError>;
}

/// Events for one message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// What fitted.
    pub events: Vec<Event>,
    /// Ids of what is not there, or larger than a message may be. Ids in neither list did not fit.
    pub gone: Vec<EventId>,
}

impl Batch {
    /// Puts together what was asked for from what was found: events up to `max_bytes` of JSON and
    /// [`MAX_BATCH_EVENTS`](super::MAX_BATCH_EVENTS), but at least one. `found` is read no further than needed.
    ///
    /// # Errors
    /// The first error of `found`.
    pub fn fill<E>(
        ids: &[EventId],
        found: impl IntoIterator<Item = Result<Event, E>>,
        max_bytes: usize,
    ) -> Result<Self, E> {
        let mut batch = Self::default();
        let mut missing: HashMap<EventId, bool> = ids.iter().map(|id| (*id, true)).collect();
        let mut room = max_bytes;
        for event in found {
            let event = event?;
            let size = event.as_json().len() + 1;
            if size > MAX_FRAME - AROUND {
                continue;
            }
            if !batch.events.is_empty() && (size > room || batch.events.len() == MAX_BATCH_EVENTS) {
                // What follows is unknown: it did not fit.
                return Ok(batch);
            }
            room = room.saturating_sub(size);
            missing.insert(event.id, false);
            batch.events.push(event);
        }
        batch.gone = ids.iter().filter(|id| missing.get(id) == Some(&true)).copied().collect();
        batch.gone.sort_unstable();
        batch.gone.dedup();
        Ok(batch)
    }
}

/// The ids of a space at one moment. Clones share it.
#[derive(Debug, Clone)]
pub struct Snapshot(Arc<NegentropyStorageVector>);

impl Snapshot {
    /// Makes one from (created_at in seconds, id), in any order.
    ///
    /// # Errors
    /// When there are more than [`MAX_SPACE_IDS`].
    pub fn new(ids: impl IntoIterator<Item = (u64, EventId)>) -> Result<Self, ReplicaError> {
        let mut storage = NegentropyStorageVector::new();
        for (at, (created_at, id)) in ids.into_iter().enumerate() {
            if at >= MAX_SPACE_IDS {
                return Err(ReplicaError::TooMany(at + 1));
            }
            storage.insert(created_at, Id::from_byte_array(id.to_bytes())).map_err(ReplicaError::Reconcile)?;
        }
        storage.seal().map_err(ReplicaError::Reconcile)?;
        Ok(Self(Arc::new(storage)))
    }

    /// How many ids.
    pub fn len(&self) -> usize {
        self.0.size().unwrap_or(0)
    }

    /// True when the space has nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl NegentropyStorageBase for Snapshot {
    fn size(&self) -> Result<usize, negentropy::Error> {
        self.0.size()
    }

    fn get_item(&self, at: usize) -> Result<Option<Item>, negentropy::Error> {
        self.0.get_item(at)
    }

    fn iterate(
        &self,
        begin: usize,
        end: usize,
        each: &mut dyn FnMut(Item, usize) -> Result<bool, negentropy::Error>,
    ) -> Result<(), negentropy::Error> {
        self.0.iterate(begin, end, each)
    }

    fn find_lower_bound(&self, first: usize, last: usize, value: &Bound) -> usize {
        self.0.find_lower_bound(first, last, value)
    }
}
