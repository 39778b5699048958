//! What comes in: once, whatever carrier brought it first.

use std::collections::BTreeMap;

use nips::federation::{KIND_ENTRY, KIND_EPOCH_KEY, is_envelope};
use nips::memory::KIND_MEMORY;
use nips::task::LABEL_KIND;
use nostr::{Event, EventId};

use super::{MAX_AGE_S, MAX_AHEAD_S, MAX_REMEMBERED, REMEMBER_S};

/// Why an envelope is not let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Dropped {
    /// It came before.
    #[error("known")]
    Known,
    /// No kind of ours.
    #[error("kind {0} is no envelope")]
    Kind(u16),
    /// The id or the signature is wrong. Nothing is remembered of it: the real one may still come.
    #[error("the id or the signature is wrong")]
    Signature,
    /// Older than is remembered, or dated ahead.
    #[error("its date is too far from now")]
    Date,
}

/// Remembers envelopes by id, after their signatures were checked: a copy with a bad signature has the same id, and one that comes first must not
/// keep out the real one. The oldest are forgotten when there are too many; what takes part in tasks is idempotent by its own ids.
#[derive(Debug, Default)]
pub struct Inbox {
    by_id: BTreeMap<EventId, u64>,
    by_order: BTreeMap<u64, (u64, EventId)>,
    next: u64,
}

impl Inbox {
    /// Lets an envelope through the first time, at `now` (Unix seconds).
    ///
    /// # Errors
    /// Says why it is dropped.
    pub fn take(&mut self, event: &Event, now: u64) -> Result<(), Dropped> {
        self.forget(now);
        let kind = event.kind.as_u16();
        if !is_envelope(kind) {
            return Err(Dropped::Kind(kind));
        }
        if self.by_id.contains_key(&event.id) {
            return Err(Dropped::Known);
        }
        let at = event.created_at.as_secs();
        // Memory changes, entries, keys and labels are sets: they may be as old as they like, and coming twice changes nothing.
        let is_of_a_set = [KIND_MEMORY, KIND_ENTRY, KIND_EPOCH_KEY, LABEL_KIND].contains(&kind);
        let is_old = at.saturating_add(MAX_AGE_S) < now && !is_of_a_set;
        if is_old || at > now.saturating_add(MAX_AHEAD_S) {
            return Err(Dropped::Date);
        }
        event.verify().map_err(|_| Dropped::Signature)?;
        self.remember(event.id, now);
        Ok(())
    }

    /// Remembers what this node has sent itself, so that it does not come back.
    pub fn sent(&mut self, id: EventId, now: u64) {
        if !self.by_id.contains_key(&id) {
            self.remember(id, now);
        }
    }

    fn remember(&mut self, id: EventId, now: u64) {
        self.by_id.insert(id, self.next);
        self.by_order.insert(self.next, (now, id));
        self.next += 1;
        if self.by_id.len() > MAX_REMEMBERED {
            self.drop_oldest();
        }
    }

    fn forget(&mut self, now: u64) {
        while self.by_order.first_key_value().is_some_and(|(_, (at, _))| at.saturating_add(REMEMBER_S) <= now) {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some((_, (_, id))) = self.by_order.pop_first() {
            self.by_id.remove(&id);
        }
    }

    /// How many are remembered.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// True when nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }
}
