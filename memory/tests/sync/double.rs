//! A replica in memory, and authors who sign real automerge changes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use automerge::transaction::Transactable;
use automerge::{AutoCommit, ROOT};
use memory::sync::{Batch, Outcome, Refusal, Replica, ReplicaError, Snapshot};
use nips::memory::{ActorId, Change, DocumentId, Message, Month, Space, Tombstone, verified};
use nostr::{Event, EventId, Keys, PublicKey, SecretKey, Timestamp};

pub const START_S: u64 = 1_795_000_000;

pub fn fleet() -> Space {
    Space::fleet()
}

pub fn keys(number: u64) -> Keys {
    let mut bytes = [7; 32];
    bytes[..8].copy_from_slice(&(number + 1).to_be_bytes());
    Keys::new(SecretKey::from_slice(&bytes).unwrap())
}

/// Somebody who writes one document.
pub struct Author {
    keys: Keys,
    actor: ActorId,
    document: DocumentId,
    pub doc: AutoCommit,
}

impl Author {
    /// The writer of a shard of its own.
    pub fn of_shard(number: u64, space: Space) -> Self {
        let keys = keys(number);
        let document = DocumentId::Shard { space, writer: keys.public_key(), month: Month::of(START_S), part: 0 };
        Self::of(keys, document, 0)
    }

    /// A writer of a shared page, in its `start`-th life.
    pub fn of_page(number: u64, space: Space, name: &str, start: u8) -> Self {
        Self::of(keys(number), DocumentId::Page { space, name: name.parse().unwrap(), generation: 0 }, start)
    }

    fn of(keys: Keys, document: DocumentId, start: u8) -> Self {
        let actor = ActorId::new(&keys.public_key(), [start; 16]);
        let doc = AutoCommit::new().with_actor(automerge::ActorId::from(actor.as_bytes().as_slice()));
        Self { keys, actor, document, doc }
    }

    pub fn document(&self) -> &DocumentId {
        &self.document
    }

    /// One more change: what `key` says from now on.
    pub fn write(&mut self, key: &str, text: &str, created_at: u64) -> Event {
        self.doc.put(ROOT, key, text).unwrap();
        self.doc.commit().unwrap();
        let change = self.doc.get_last_local_change().unwrap();
        let (seq, hash) = (change.seq(), change.hash().0);
        let builder = Change::to_event(&self.document, &self.actor, seq, &hash, change.raw_bytes());
        builder.custom_created_at(Timestamp::from(created_at)).sign_with_keys(&self.keys).unwrap()
    }

    /// True when this very actor has written before.
    pub fn has_written(&mut self) -> bool {
        let actor = automerge::ActorId::from(self.actor.as_bytes().as_slice());
        self.doc.get_changes(&[]).iter().any(|change| *change.actor_id() == actor)
    }

    /// Learns what others wrote into the same document.
    pub fn learn(&mut self, events: &[Event]) {
        let changes = events.iter().filter_map(|event| match Message::parse(event).unwrap() {
            Message::Change(change) if change.document == self.document => Some(change.bytes),
            Message::Change(_) | Message::Tombstone(_) => None,
        });
        let changes: Vec<_> = changes.map(|bytes| automerge::Change::from_bytes(bytes).unwrap()).collect();
        self.doc.apply_changes(changes).unwrap();
    }
}

pub fn tombstone(number: u64, space: Space, retired: DocumentId, created_at: u64) -> Event {
    let tombstone = Tombstone { space, entries: BTreeSet::new(), retired: BTreeSet::from([retired]) };
    tombstone.to_event().custom_created_at(Timestamp::from(created_at)).sign_with_keys(&keys(number)).unwrap()
}

/// Small signed events of one shard, one a second.
pub fn events(author: u64, count: usize) -> Vec<Event> {
    let mut author = Author::of_shard(author, fleet());
    (START_S..).take(count).map(|at| author.write("text", &format!("entry {at}"), at)).collect()
}

#[derive(Default)]
struct State {
    /// In the order of arrival; what is forgotten leaves a hole.
    events: BTreeMap<u64, Event>,
    places: BTreeMap<EventId, u64>,
    retired: BTreeSet<DocumentId>,
    strangers: BTreeSet<PublicKey>,
    quarantined: BTreeSet<PublicKey>,
    full: bool,
    fails: u32,
    /// Every call of `take`: ids in their order.
    takes: Vec<Vec<EventId>>,
    refused: usize,
}

/// A replica in memory.
#[derive(Default)]
pub struct Double(Mutex<State>);

#[derive(Debug, thiserror::Error)]
#[error("the disk said no")]
struct Broken;

impl Double {
    pub fn with(events: impl IntoIterator<Item = Event>) -> Self {
        let double = Self::default();
        double.add(events);
        double
    }

    pub fn add(&self, events: impl IntoIterator<Item = Event>) {
        let mut state = self.0.lock().unwrap();
        for event in events {
            assert_eq!(state.keep(event), Outcome::New);
        }
    }

    pub fn ids(&self) -> BTreeSet<EventId> {
        self.0.lock().unwrap().places.keys().copied().collect()
    }

    pub fn events_of(&self, space: &Space) -> Vec<Event> {
        let state = self.0.lock().unwrap();
        state.events.values().filter(|event| space_of(event) == *space).cloned().collect()
    }

    pub fn has_retired(&self, document: &DocumentId) -> bool {
        self.0.lock().unwrap().retired.contains(document)
    }

    pub fn shuts_out(&self, peer: PublicKey) {
        self.0.lock().unwrap().strangers.insert(peer);
    }

    pub fn quarantines(&self, writer: PublicKey) {
        self.0.lock().unwrap().quarantined.insert(writer);
    }

    pub fn is_full(&self, full: bool) {
        self.0.lock().unwrap().full = full;
    }

    /// Its next `times` calls of `take` keep half and fail.
    pub fn fails(&self, times: u32) {
        self.0.lock().unwrap().fails = times;
    }

    pub fn takes(&self) -> Vec<Vec<EventId>> {
        self.0.lock().unwrap().takes.clone()
    }

    pub fn refused(&self) -> usize {
        self.0.lock().unwrap().refused
    }
}

fn space_of(event: &Event) -> Space {
    Message::parse(event).unwrap().space().clone()
}

impl State {
    fn keep(&mut self, event: Event) -> Outcome {
        if self.places.contains_key(&event.id) {
            return Outcome::Known;
        }
        let refusal = match verified(&event) {
            Err(_) => Some(Refusal::Invalid),
            Ok(_) if self.quarantined.contains(&event.pubkey) => Some(Refusal::Quarantined),
            Ok(_) if self.full => Some(Refusal::Full),
            Ok(Message::Change(change)) if self.retired.contains(&change.document) => Some(Refusal::Forgotten),
            Ok(Message::Change(_)) => None,
            Ok(Message::Tombstone(tombstone)) => {
                self.retire(tombstone);
                None
            }
        };
        if let Some(why) = refusal {
            self.refused += 1;
            return Outcome::Refused(why);
        }
        let place = self.events.last_key_value().map_or(0, |(place, _)| place + 1);
        self.places.insert(event.id, place);
        self.events.insert(place, event);
        Outcome::New
    }

    fn retire(&mut self, tombstone: Tombstone) {
        self.retired.extend(tombstone.retired);
        let retired = &self.retired;
        self.events.retain(|_, event| match Message::parse(event).unwrap() {
            Message::Change(change) => !retired.contains(&change.document),
            Message::Tombstone(_) => true,
        });
        self.places = self.events.iter().map(|(place, event)| (event.id, *place)).collect();
    }
}

impl Replica for Double {
    fn may_sync(&self, peer: &PublicKey, space: &Space) -> Result<bool, ReplicaError> {
        let state = self.0.lock().unwrap();
        Ok(!state.strangers.contains(peer) && !state.quarantined.contains(peer) && *space == fleet())
    }

    fn snapshot(&self, space: &Space) -> Result<Snapshot, ReplicaError> {
        Snapshot::new(self.events_of(space).iter().map(|event| (event.created_at.as_secs(), event.id)))
    }

    fn events(&self, space: &Space, ids: &[EventId], max_bytes: usize) -> Result<Batch, ReplicaError> {
        let state = self.0.lock().unwrap();
        let places: BTreeSet<u64> = ids.iter().filter_map(|id| state.places.get(id)).copied().collect();
        let found = places.iter().map(|place| state.events[place].clone()).filter(|event| space_of(event) == *space);
        Batch::fill(ids, found.map(Ok), max_bytes)
    }

    fn take(&self, _from: &PublicKey, space: &Space, events: Vec<Event>) -> Result<Vec<Outcome>, ReplicaError> {
        let mut state = self.0.lock().unwrap();
        state.takes.push(events.iter().map(|event| event.id).collect());
        let failing = state.fails > 0;
        let kept = if failing { events.len() / 2 } else { events.len() };
        let mut outcomes = Vec::new();
        for event in events.into_iter().take(kept) {
            let is_here = Message::parse(&event).is_ok_and(|message| message.space() == space);
            outcomes.push(if is_here { state.keep(event) } else { Outcome::Refused(Refusal::Invalid) });
        }
        if failing {
            state.fails -= 1;
            return Err(ReplicaError::Store { operation: "keep events", source: Box::new(Broken) });
        }
        Ok(outcomes)
    }
}
