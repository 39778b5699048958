//! A bounded memory: what is oldest goes first, and nobody can push out what belongs to others while having much of their own.

use std::collections::BTreeMap;

use nips::task::TaskId;
use nostr::PublicKey;

type Key = (TaskId, PublicKey);

/// Values by task and owner, so many an owner and so many in all.
#[derive(Debug)]
pub(crate) struct Shelf<V> {
    items: BTreeMap<Key, (u64, V)>,
    order: BTreeMap<u64, Key>,
    next: u64,
    per_owner: usize,
    total: usize,
}

impl<V> Shelf<V> {
    pub(crate) fn new(per_owner: usize, total: usize) -> Self {
        Self { items: BTreeMap::new(), order: BTreeMap::new(), next: 0, per_owner, total }
    }

    pub(crate) fn get(&self, task: TaskId, owner: PublicKey) -> Option<&V> {
        self.items.get(&(task, owner)).map(|(_, value)| value)
    }

    pub(crate) fn get_mut(&mut self, task: TaskId, owner: PublicKey) -> Option<&mut V> {
        self.items.get_mut(&(task, owner)).map(|(_, value)| value)
    }

    /// All values about a task, whoever they belong to.
    pub(crate) fn of_task(&mut self, task: TaskId) -> impl Iterator<Item = &mut V> {
        let at_least = self.items.range_mut((task, PublicKey::from_byte_array([0; 32]))..);
        at_least.take_while(move |((of, _), _)| *of == task).map(|(_, (_, value))| value)
    }

    /// Puts a value in; it is the newest now. The oldest of its owner goes when the owner has too many, else the oldest of all.
    pub(crate) fn insert(&mut self, task: TaskId, owner: PublicKey, value: V) {
        let key = (task, owner);
        self.next += 1;
        if let Some((old, _)) = self.items.insert(key, (self.next, value)) {
            self.order.remove(&old);
        }
        self.order.insert(self.next, key);
        let of_owner = self.order.values().filter(|(_, of)| *of == owner).count();
        let oldest = if of_owner > self.per_owner {
            self.order.iter().find(|(_, (_, of))| *of == owner)
        } else if self.order.len() > self.total {
            self.order.first_key_value()
        } else {
            None
        };
        if let Some((at, key)) = oldest.map(|(at, key)| (*at, *key)) {
            self.order.remove(&at);
            self.items.remove(&key);
        }
    }
}
