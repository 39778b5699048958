//! The entries of a log as a graph: who was made on whom.

use std::collections::BTreeMap;

use nips::federation::{Act, Entry};
use nostr::{Event, EventId, PublicKey};

/// A set of entries, by their number in the graph.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Bits(Vec<u64>);

impl Bits {
    pub fn insert(&mut self, number: usize) {
        let word = number / 64;
        if word >= self.0.len() {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << (number % 64);
    }

    pub fn remove(&mut self, number: usize) {
        if let Some(word) = self.0.get_mut(number / 64) {
            *word &= !(1 << (number % 64));
        }
    }

    pub fn contains(&self, number: usize) -> bool {
        self.0.get(number / 64).is_some_and(|word| word & (1 << (number % 64)) != 0)
    }

    pub fn add_all(&mut self, other: &Self) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        self.0.iter_mut().zip(&other.0).for_each(|(word, more)| *word |= more);
    }

    /// What is in both.
    pub fn and(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(a, b)| a & b).collect())
    }

    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        let bits = |word: u64| (0..64).filter(move |bit| word & (1 << bit) != 0);
        self.0.iter().enumerate().flat_map(move |(at, word)| bits(*word).map(move |bit| at * 64 + bit))
    }
}

/// How strong an author is: lower is stronger. The owner's key is 0; an admin, by how deep in the log the entry lies that made it one.
/// It is a fact of the author's own past, so it is the same everywhere.
pub(super) type Rank = (u32, EventId);

/// An entry that was admitted.
#[derive(Clone)]
pub(super) struct Node {
    pub entry: Entry,
    pub event: Event,
    /// The longest way down to the founding entry.
    pub depth: u32,
    /// Everything that it was made on, itself left out.
    pub past: Bits,
    pub rank: Rank,
}

impl Node {
    /// An order in which causes come before effects, and that does not hang on the order of arrival.
    pub fn place(&self) -> (u32, EventId) {
        (self.depth, self.entry.id)
    }
}

/// All admitted entries. Numbers are the order of arrival: nothing may be decided by them.
#[derive(Clone, Default)]
pub(super) struct Graph {
    nodes: Vec<Node>,
    by_id: BTreeMap<EventId, usize>,
    by_subject: BTreeMap<PublicKey, Vec<usize>>,
}

impl Graph {
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    pub fn node(&self, number: usize) -> &Node {
        &self.nodes[number]
    }

    pub fn number(&self, id: &EventId) -> Option<usize> {
        self.by_id.get(id).copied()
    }

    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter()
    }

    /// The entries about a node, and the founding entry for its founder.
    pub fn about(&self, who: &PublicKey) -> &[usize] {
        self.by_subject.get(who).map_or(&[], Vec::as_slice)
    }

    /// Everybody whom some entry is about.
    pub fn subjects(&self) -> impl Iterator<Item = &PublicKey> {
        self.by_subject.keys()
    }

    pub fn all(&self) -> Bits {
        let mut all = Bits::default();
        (0..self.nodes.len()).for_each(|number| all.insert(number));
        all
    }

    /// The past of something made on `heads`, and its depth; none when one of them is not here.
    pub fn past_of(&self, heads: &[EventId]) -> Option<(Bits, u32)> {
        let mut past = Bits::default();
        let mut depth = 0;
        for head in heads {
            let number = self.number(head)?;
            let node = self.node(number);
            past.add_all(&node.past);
            past.insert(number);
            depth = depth.max(node.depth + 1);
        }
        Some((past, depth))
    }

    pub fn add(&mut self, node: Node) {
        let number = self.nodes.len();
        self.by_id.insert(node.entry.id, number);
        let subject = match &node.entry.act {
            Act::Found { .. } => Some(node.entry.author),
            act @ (Act::Owner { .. } | Act::Join { .. } | Act::Admin { .. } | Act::Remove { .. }) => {
                act.node().copied()
            }
        };
        if let Some(subject) = subject {
            self.by_subject.entry(subject).or_default().push(number);
        }
        self.nodes.push(node);
    }

    /// True when neither was made on the other.
    pub fn is_concurrent(&self, a: usize, b: usize) -> bool {
        a != b && !self.node(a).past.contains(b) && !self.node(b).past.contains(a)
    }

    /// The numbers in causal order, the same everywhere.
    pub fn in_order(&self, set: &Bits) -> Vec<usize> {
        let mut all: Vec<usize> = set.iter().collect();
        all.sort_unstable_by_key(|number| self.node(*number).place());
        all
    }

    /// Entries that none of the others was made on, ascending.
    pub fn heads(&self) -> Vec<EventId> {
        let mut inner = Bits::default();
        self.nodes.iter().for_each(|node| inner.add_all(&node.past));
        let mut heads: Vec<EventId> =
            (0..self.nodes.len()).filter(|n| !inner.contains(*n)).map(|n| self.node(n).entry.id).collect();
        heads.sort_unstable();
        heads
    }
}
