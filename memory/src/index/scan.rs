//! Everything that a filter asks of an entry, and its vector, in memory: exact, and new entries are found at once.
//!
//! A row has a slot; a removed row's slot is used again. What every recall looks at of every row is kept close together (`Hot`), the
//! rest apart from it. Times are folded into one span in which an entry is shown: from when it begins, to when it ends or was
//! superseded.

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeSet, BinaryHeap, HashMap};
use std::ops::Range;

use nips::memory::EntryId;
use nostr::PublicKey;

use super::codes::{Code, Matrix, Question};
use super::filter::{Filter, Names};
use crate::entry::{Entry, EntryKind, MAX_AHEAD_S};
use crate::recall::fold;

/// Rows that are looked at to tell how many a filter lets through.
const SAMPLED: usize = 2_000;

/// Blocks of rows that one thread goes through: 32,768 rows take about a millisecond.
const BLOCKS_TOGETHER: usize = 8;

/// The number of a row.
pub(crate) type Slot = u32;

/// What is kept of an entry beside its text.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Row {
    pub id: EntryId,
    pub kind: EntryKind,
    pub space: nips::memory::Space,
    pub author: PublicKey,
    pub person: Option<PublicKey>,
    pub tags: BTreeSet<String>,
    pub created_at: u64,
    pub valid_from: Option<u64>,
    pub valid_until: Option<u64>,
    pub importance: f32,
    pub supersedes: BTreeSet<EntryId>,
    pub text_key: Option<u64>,
    pub numbers_key: u64,
    /// None until the embedder has answered.
    pub code: Option<Code>,
}

impl Row {
    /// What is kept of an entry.
    pub(crate) fn of(entry: &Entry, code: Option<Code>) -> Self {
        Self {
            id: entry.id,
            kind: entry.kind,
            space: entry.space.clone(),
            author: entry.author,
            person: entry.person,
            tags: entry.tags.clone(),
            created_at: entry.created_at,
            valid_from: entry.valid_from,
            valid_until: entry.valid_until,
            importance: entry.importance,
            supersedes: entry.supersedes.clone(),
            text_key: fold::text_key(&entry.text),
            numbers_key: fold::numbers_key(&entry.text),
            code,
        }
    }
}

/// What every recall looks at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hot {
    pub created_at: u64,
    /// Shown from this second on.
    pub from: u64,
    /// Shown until this one, exclusive; 0 for an empty slot.
    pub to: u64,
    pub space: u32,
    pub author: u32,
    pub person: u32,
    pub importance: f32,
    pub kind: EntryKind,
}

#[derive(Debug, Clone)]
struct Cold {
    id: EntryId,
    tags: Box<[u32]>,
    valid_until: u64,
    supersedes: Box<[EntryId]>,
    text_key: Option<u64>,
    numbers_key: u64,
    is_embedded: bool,
    is_stored: bool,
}

/// The rows.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    hot: Vec<Hot>,
    cold: Vec<Cold>,
    matrix: Matrix,
    slots: HashMap<EntryId, Slot>,
    free: Vec<Slot>,
    /// Who names an entry in `supersedes`.
    superseded_by: HashMap<EntryId, Vec<EntryId>>,
    pub(super) names: Names,
    waiting: BTreeSet<Slot>,
}

impl Scan {
    /// For vectors of this length.
    pub(crate) fn new(dimensions: usize) -> Self {
        Self { matrix: Matrix::new(dimensions), ..Self::default() }
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = EntryId> {
        self.slots.keys().copied()
    }

    pub(crate) fn slot(&self, id: &EntryId) -> Option<Slot> {
        self.slots.get(id).copied()
    }

    pub(crate) fn id(&self, slot: Slot) -> EntryId {
        self.cold[at(slot)].id
    }

    pub(crate) fn hot(&self, slot: Slot) -> &Hot {
        &self.hot[at(slot)]
    }

    pub(crate) fn text_key(&self, slot: Slot) -> Option<u64> {
        self.cold[at(slot)].text_key
    }

    /// Whether the table holds this row.
    pub(crate) fn is_stored(&self, id: &EntryId) -> bool {
        self.slot(id).is_some_and(|slot| self.cold[at(slot)].is_stored)
    }

    /// Says that the table holds this row, if it is still there.
    pub(crate) fn set_stored(&mut self, id: &EntryId) {
        if let Some(slot) = self.slot(id) {
            self.cold[at(slot)].is_stored = true;
        }
    }

    /// How many rows have no vector yet.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Some of the rows without a vector.
    pub(crate) fn some_waiting(&self, most: usize) -> Vec<EntryId> {
        self.waiting.iter().take(most).map(|slot| self.id(*slot)).collect()
    }

    /// The vector of a row; none until the embedder has answered.
    pub(crate) fn code(&self, id: &EntryId) -> Option<Code> {
        let slot = self.slot(id)?;
        self.cold[at(slot)].is_embedded.then(|| self.matrix.code(at(slot)))
    }

    /// Gives a row its vector.
    pub(crate) fn set_code(&mut self, id: &EntryId, code: &Code) -> bool {
        let Some(slot) = self.slot(id) else { return false };
        self.matrix.set(at(slot), Some(code));
        self.cold[at(slot)].is_embedded = true;
        self.waiting.remove(&slot);
        true
    }

    /// Takes in a row, in the place of one of the same id.
    pub(crate) fn insert(&mut self, row: &Row) {
        let was_stored = self.is_stored(&row.id);
        self.remove(&row.id);
        let hot = Hot {
            created_at: row.created_at,
            from: row.created_at.saturating_sub(MAX_AHEAD_S).max(row.valid_from.unwrap_or(0)),
            to: 0,
            space: self.names.space(&row.space),
            author: self.names.key(&row.author),
            person: row.person.as_ref().map_or(Names::NOBODY, |person| self.names.key(person)),
            importance: row.importance,
            kind: row.kind,
        };
        let cold = Cold {
            id: row.id,
            tags: row.tags.iter().map(|tag| self.names.tag(tag)).collect(),
            valid_until: row.valid_until.unwrap_or(u64::MAX),
            supersedes: row.supersedes.iter().copied().collect(),
            text_key: row.text_key,
            numbers_key: row.numbers_key,
            is_embedded: row.code.is_some(),
            is_stored: was_stored,
        };
        let slot = self.place(hot, cold);
        self.matrix.set(at(slot), row.code.as_ref());
        if row.code.is_none() {
            self.waiting.insert(slot);
        }
        self.slots.insert(row.id, slot);
        for old in &row.supersedes {
            self.superseded_by.entry(*old).or_default().push(row.id);
            self.set_end(old);
        }
        self.set_end(&row.id);
    }

    fn place(&mut self, hot: Hot, cold: Cold) -> Slot {
        if let Some(slot) = self.free.pop() {
            self.hot[at(slot)] = hot;
            self.cold[at(slot)] = cold;
            return slot;
        }
        self.hot.push(hot);
        self.cold.push(cold);
        self.matrix.push();
        Slot::try_from(self.hot.len() - 1).unwrap_or(Slot::MAX)
    }

    /// Removes a row; what it superseded is shown again.
    pub(crate) fn remove(&mut self, id: &EntryId) -> bool {
        let Some(slot) = self.slots.remove(id) else { return false };
        self.waiting.remove(&slot);
        self.matrix.set(at(slot), None);
        self.hot[at(slot)].to = 0;
        self.free.push(slot);
        let cold = &mut self.cold[at(slot)];
        cold.text_key = None;
        cold.tags = Box::default();
        for old in std::mem::take(&mut cold.supersedes) {
            if let Some(by) = self.superseded_by.get_mut(&old) {
                by.retain(|by| by != id);
                if by.is_empty() {
                    self.superseded_by.remove(&old);
                }
            }
            self.set_end(&old);
        }
        true
    }

    /// Works out until when a row is shown: its own end, or the beginning of what stands in its place in the same space.
    fn set_end(&mut self, id: &EntryId) {
        let Some(slot) = self.slot(id) else { return };
        let space = self.hot[at(slot)].space;
        let by = self.superseded_by.get(id).map_or(&[][..], Vec::as_slice);
        let begins = by.iter().filter(|by| *by != id).filter_map(|by| self.slot(by)).map(|by| self.hot[at(by)]);
        let superseded = begins.filter(|by| by.space == space).map(|by| by.from).min();
        let end = self.cold[at(slot)].valid_until;
        self.hot[at(slot)].to = superseded.map_or(end, |superseded| end.min(superseded)).max(1);
    }

    /// True when this row may be shown.
    pub(crate) fn allows(&self, slot: Slot, filter: &Filter) -> bool {
        let index = at(slot);
        filter.allows(&self.hot[index]) && (filter.tags.is_empty() || filter.allows_tags(&self.cold[index].tags))
    }

    /// About which part of the rows may be shown, 0 to 1, from some thousand of them.
    #[allow(clippy::cast_precision_loss)]
    pub(crate) fn share(&self, filter: &Filter) -> f32 {
        let rows = self.hot.len();
        // Scattered over all rows (Knuth's multiplier), so that a pattern in how they came is not mistaken for the whole.
        let scattered = (0..SAMPLED.min(rows)).map(|n| n.wrapping_mul(2_654_435_761) % rows);
        let sample = scattered.filter(|row| self.hot[*row].to > 0);
        let (all, allowed) = sample.fold((0_usize, 0_usize), |(all, allowed), row| {
            (all + 1, allowed + usize::from(self.allows(Slot::try_from(row).unwrap_or(Slot::MAX), filter)))
        });
        if all == 0 { 1.0 } else { allowed as f32 / all as f32 }
    }

    /// The rows nearest to a question, nearest first, with their cosines.
    pub(crate) fn nearest(&self, question: &Question, filter: &Filter, most: usize) -> Vec<(Slot, f32)> {
        let wants = |row: usize| {
            filter.allows(&self.hot[row]) && (filter.tags.is_empty() || filter.allows_tags(&self.cold[row].tags))
        };
        let best_of = |blocks: Range<usize>| {
            let mut best = Best::new(most);
            self.matrix.each(blocks, question, wants, |row, cosine| {
                // What is at right angles to the question, or beyond, is not near to it.
                if cosine > 0.0 {
                    best.offer(cosine, Slot::try_from(row).unwrap_or(Slot::MAX));
                }
            });
            best
        };
        self.halved(0..self.matrix.blocks(), &best_of).into_sorted()
    }

    /// Halves go to threads that have nothing to do: where there are none, this one does both.
    fn halved(&self, blocks: Range<usize>, best_of: &(impl Fn(Range<usize>) -> Best + Sync)) -> Best {
        if blocks.len() <= BLOCKS_TOGETHER {
            return best_of(blocks);
        }
        let middle = blocks.start + blocks.len() / 2;
        let (first, second) = (blocks.start..middle, middle..blocks.end);
        let (mut best, other) = rayon::join(|| self.halved(first, best_of), || self.halved(second, best_of));
        for (slot, cosine) in other.into_sorted() {
            best.offer(cosine, slot);
        }
        best
    }

    /// The rows with the highest `score`, highest first.
    pub(crate) fn highest(&self, filter: &Filter, most: usize, score: impl Fn(&Hot) -> f32) -> Vec<(Slot, f32)> {
        let mut best = Best::new(most);
        for slot in self.slots.values().copied().filter(|slot| self.allows(*slot, filter)) {
            best.offer(score(self.hot(slot)), slot);
        }
        best.into_sorted()
    }

    /// The cosine of a row and a question.
    pub(crate) fn cosine(&self, slot: Slot, question: &Question) -> Option<f32> {
        self.matrix.cosine(at(slot), question)
    }

    /// The cosine of two rows whose numbers are the same; others do not say the same.
    pub(crate) fn likeness(&self, a: Slot, b: Slot) -> Option<f32> {
        let same_numbers = self.cold[at(a)].numbers_key == self.cold[at(b)].numbers_key;
        if same_numbers { self.matrix.between(at(a), at(b)) } else { None }
    }
}

fn at(slot: Slot) -> usize {
    usize::try_from(slot).unwrap_or(usize::MAX)
}

/// Keeps the best of what it is offered; of equals, the lower slot.
struct Best {
    most: usize,
    heap: BinaryHeap<Reverse<Ranked>>,
}

#[derive(PartialEq)]
struct Ranked(f32, Slot);

impl Eq for Ranked {}

impl Ord for Ranked {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0).then(other.1.cmp(&self.1))
    }
}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Best {
    fn new(most: usize) -> Self {
        Self { most, heap: BinaryHeap::with_capacity(most.min(1_024) + 1) }
    }

    fn offer(&mut self, score: f32, slot: Slot) {
        let offered = Ranked(score, slot);
        if self.heap.len() >= self.most && self.heap.peek().is_none_or(|Reverse(least)| offered <= *least) {
            return;
        }
        self.heap.push(Reverse(offered));
        if self.heap.len() > self.most {
            self.heap.pop();
        }
    }

    fn into_sorted(self) -> Vec<(Slot, f32)> {
        self.heap.into_sorted_vec().into_iter().map(|Reverse(Ranked(score, slot))| (slot, score)).collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing::{NOW, entry, id};
    use super::*;
    use crate::recall::{Query, Sight};

    fn row(n: u64, space: &str, supersedes: Option<u64>, until: Option<u64>) -> Row {
        let mut entry = entry(n, &format!("text {n}"));
        entry.space = space.parse().unwrap();
        entry.supersedes = supersedes.map(id).into_iter().collect();
        entry.valid_until = until.map(|s| NOW - 2 + s);
        #[allow(clippy::cast_precision_loss)]
        Row::of(&entry, Some(Code::of(&[1.0, n as f32 / 10.0])))
    }

    /// What a scan shows, worked out from all rows anew.
    fn shown(rows: &HashMap<EntryId, Row>) -> BTreeSet<EntryId> {
        let is_superseded = |old: &Row| {
            rows.values().any(|new| new.id != old.id && new.space == old.space && new.supersedes.contains(&old.id))
        };
        let is_over = |row: &Row| row.valid_until.is_some_and(|until| until <= NOW);
        rows.values().filter(|row| !is_superseded(row) && !is_over(row)).map(|row| row.id).collect()
    }

    fn filter(scan: &Scan) -> Filter {
        Filter::new(&Query::new("x"), &Sight::All, NOW, &scan.names)
    }

    type Step = (u64, bool, bool, Option<u64>, Option<u64>);

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let other = || proptest::option::of(0_u64..12);
        let step = (0_u64..12, proptest::bool::weighted(0.7), any::<bool>(), other(), proptest::option::of(0_u64..5));
        proptest::collection::vec(step, 0..80)
    }

    proptest! {
        #[test]
        fn whatever_comes_and_goes_it_shows_what_it_should(steps in steps()) {
            let (mut scan, mut rows) = (Scan::new(2), HashMap::new());
            for (n, is_there, private, supersedes, until) in steps {
                if is_there {
                    let row = row(n, if private { "private" } else { "fleet" }, supersedes, until);
                    scan.insert(&row);
                    rows.insert(row.id, row);
                } else {
                    prop_assert_eq!(scan.remove(&id(n)), rows.remove(&id(n)).is_some());
                }
                let filter = filter(&scan);
                let near = scan.nearest(&Question::of(&[1.0, 0.3]).unwrap(), &filter, 100);
                let near: BTreeSet<EntryId> = near.into_iter().map(|(slot, _)| scan.id(slot)).collect();
                let unasked = scan.highest(&filter, 100, |hot| hot.importance);
                let unasked: BTreeSet<EntryId> = unasked.into_iter().map(|(slot, _)| scan.id(slot)).collect();
                prop_assert_eq!(&near, &shown(&rows));
                prop_assert_eq!(&unasked, &near);
                prop_assert_eq!(scan.len(), rows.len());
            }
            prop_assert!(scan.hot.len() <= 12, "slots are used again");
        }

        #[test]
        fn the_nearest_are_those_of_a_full_sort(numbers in proptest::collection::vec(0.0_f32..1.0, 1..200), most in 1_usize..30) {
            let mut best = Best::new(most);
            for (slot, number) in (0..).zip(&numbers) {
                best.offer(*number, slot);
            }
            let mut right: Vec<(Slot, f32)> = (0..).zip(numbers.iter().copied()).collect();
            right.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
            right.truncate(most);
            prop_assert_eq!(best.into_sorted(), right);
        }
    }

    #[test]
    fn the_share_of_a_filter_is_about_right() {
        let mut scan = Scan::new(2);
        for n in 0..10_000 {
            scan.insert(&row(n, if n % 10 == 0 { "private" } else { "fleet" }, None, None));
        }
        let query = Query { spaces: [nips::memory::Space::private()].into(), ..Query::new("x") };
        let share = scan.share(&Filter::new(&query, &Sight::All, NOW, &scan.names));
        assert!((share - 0.1).abs() < 0.02, "{share}");
        assert!((scan.share(&filter(&scan)) - 1.0).abs() < 1e-6);
        assert!((Scan::new(2).share(&filter(&scan)) - 1.0).abs() < 1e-6);
    }
}
