//! Answering filters from the indexes.
//!
//! A filter is answered from the most selective index that covers one of its fields: the ranges of that index (one for
//! each value) are merged by place, newest first and ties by lowest id, and each candidate's record is checked against
//! the whole filter. Work is counted against a budget, so that no question can occupy the relay.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::ops::Bound;

use heed::types::{Bytes, Unit};
use heed::{DefaultComparator, RoRange};

use super::StoreError;
use super::filter::{Query, Viewer};
use super::keys::{self, Place};
use super::note::Record;
use super::tables::{Index, Snapshot, place_of};

/// Ranges that one merge may have open: each is a cursor of about a kilobyte.
const MAX_RANGES: usize = 2_048;
/// Entries that are counted at most to find out which of several indexes is the most selective.
const PROBE: usize = 256;

/// What is left of the work that a question may cause, in index entries looked at.
pub(crate) struct Budget(pub(crate) usize);

impl Budget {
    fn spend(&mut self, steps: usize) -> Result<(), StoreError> {
        self.0 = self.0.checked_sub(steps).ok_or(StoreError::TooBroad)?;
        Ok(())
    }
}

/// What a question found.
#[derive(Debug, Default)]
pub(crate) struct Selection {
    /// The newest sequence number that was looked at.
    pub(crate) snapshot: u64,
    /// Sequence numbers: newest first, or best first when the question was a search.
    pub(crate) hits: Vec<u64>,
}

/// One way to answer a filter.
struct Plan {
    index: Index,
    prefixes: Vec<Vec<u8>>,
}

impl Snapshot<'_> {
    /// Collects the places that match any of the filters, each filter with its own limit, newest first.
    ///
    /// # Errors
    ///
    /// [`StoreError::TooBroad`] when the budget is used up; [`StoreError::Read`].
    pub(crate) fn select(
        &self,
        queries: &[Query],
        viewer: Viewer<'_>,
        now: u64,
        budget: &mut Budget,
    ) -> Result<Vec<Place>, StoreError> {
        let mut places = Vec::new();
        for query in queries {
            self.scan(query, viewer, now, budget, &mut |place, _| places.push(*place))?;
        }
        if queries.len() > 1 {
            places.sort_unstable();
            places.dedup();
        }
        Ok(places)
    }

    /// Calls back for each event that one filter matches, newest first, up to its limit. `search` is not looked at.
    ///
    /// # Errors
    ///
    /// As [`Snapshot::select`].
    pub(crate) fn scan(
        &self,
        query: &Query,
        viewer: Viewer<'_>,
        now: u64,
        budget: &mut Budget,
        each: &mut dyn FnMut(&Place, &Record<'_>),
    ) -> Result<(), StoreError> {
        let mut left = query.limit.unwrap_or(usize::MAX);
        if query.is_void() || left == 0 {
            return Ok(());
        }
        if let Some(ids) = &query.ids {
            return self.scan_ids(ids, query, viewer, now, budget, each);
        }
        let plan = self.plan(query, budget)?;
        let mut merge = Merge::new(self, &plan, query, budget)?;
        while left > 0
            && let Some(place) = merge.next()?
        {
            budget.spend(1)?;
            let Some(record) = self.record(keys::sequence_of(&place)).map_err(StoreError::read)? else { continue };
            if shown(&record, query, viewer, now) {
                each(&place, &record);
                left -= 1;
            }
        }
        Ok(())
    }

    fn scan_ids(
        &self,
        ids: &BTreeSet<[u8; 32]>,
        query: &Query,
        viewer: Viewer<'_>,
        now: u64,
        budget: &mut Budget,
        each: &mut dyn FnMut(&Place, &Record<'_>),
    ) -> Result<(), StoreError> {
        let mut found = Vec::new();
        for id in ids {
            budget.spend(1)?;
            let Some(sequence) = self.disk.ids.get(&self.txn, id).map_err(StoreError::read)? else { continue };
            let sequence = super::tables::number(sequence);
            let Some(record) = self.record(sequence).map_err(StoreError::read)? else { continue };
            if shown(&record, query, viewer, now) {
                found.push((keys::place(record.created_at(), record.id(), sequence), record));
            }
        }
        found.sort_unstable_by_key(|(place, _)| *place);
        for (place, record) in found.iter().take(query.limit.unwrap_or(usize::MAX)) {
            each(place, record);
        }
        Ok(())
    }

    /// Chooses the index: among several that would do, the one with the fewest entries in the time range.
    fn plan(&self, query: &Query, budget: &mut Budget) -> Result<Plan, StoreError> {
        let mut plans = self.candidates(query);
        if plans.len() == 1 {
            return Ok(plans.remove(0));
        }
        let mut best = (usize::MAX, 0);
        for (i, plan) in plans.iter().enumerate() {
            let size = self.probe(plan, query, best.0.min(PROBE))?;
            budget.spend(size)?;
            if size < best.0 {
                best = (size, i);
            }
        }
        Ok(plans.swap_remove(best.1))
    }

    /// Lists the indexes that can answer a filter, the usually most selective first.
    fn candidates(&self, query: &Query) -> Vec<Plan> {
        let disk = self.disk;
        let mut plans = Vec::new();
        for (letter, values) in &query.tags {
            let prefixes = values.iter().map(|value| keys::tag_prefix(*letter, value)).collect();
            plans.push(Plan { index: disk.by_tag, prefixes });
        }
        if let Some(authors) = &query.authors {
            let kinds = query.kinds.as_ref().filter(|kinds| kinds.len() * authors.len() <= MAX_RANGES);
            plans.push(match kinds {
                Some(kinds) => {
                    let pairs = authors.iter().flat_map(|author| kinds.iter().map(move |kind| (author, *kind)));
                    let prefixes = pairs.map(|(author, kind)| keys::author_kind_prefix(author, kind)).collect();
                    Plan { index: disk.by_author_kind, prefixes }
                }
                None => {
                    let prefixes = authors.iter().map(|author| keys::author_prefix(author)).collect();
                    Plan { index: disk.by_author, prefixes }
                }
            });
        }
        if plans.is_empty()
            && let Some(kinds) = &query.kinds
        {
            let prefixes = kinds.iter().map(|kind| keys::kind_prefix(*kind)).collect();
            plans.push(Plan { index: disk.by_kind, prefixes });
        }
        plans.retain(|plan| plan.prefixes.len() <= MAX_RANGES);
        if plans.is_empty() {
            plans.push(Plan { index: disk.by_time, prefixes: vec![Vec::new()] });
        }
        plans
    }

    /// Counts a plan's entries in the filter's time range, up to `cap`.
    fn probe(&self, plan: &Plan, query: &Query, cap: usize) -> Result<usize, StoreError> {
        let mut size = 0;
        for prefix in &plan.prefixes {
            for entry in range(self, plan.index, prefix, query)? {
                entry.map_err(StoreError::read)?;
                size += 1;
                if size >= cap {
                    return Ok(size);
                }
            }
        }
        Ok(size)
    }
}

fn shown(record: &Record<'_>, query: &Query, viewer: Viewer<'_>, now: u64) -> bool {
    record.expires_at() > now && query.matches_record(record) && viewer.may_see_record(record)
}

type Range<'t> = RoRange<'t, Bytes, Unit, DefaultComparator>;

fn range<'t>(snapshot: &'t Snapshot<'_>, index: Index, prefix: &[u8], query: &Query) -> Result<Range<'t>, StoreError> {
    let newest = !query.until.unwrap_or(u64::MAX);
    let start = keys::key(prefix, &newest.to_be_bytes());
    let oldest = !query.since.unwrap_or(0);
    let mut end = keys::key(prefix, &oldest.to_be_bytes());
    end.extend([0xff; 16]);
    let bounds = (Bound::Included(&start[..]), Bound::Included(&end[..]));
    index.range(&snapshot.txn, &bounds).map_err(StoreError::read)
}

/// Merges index ranges by place and leaves out repetitions.
struct Merge<'t> {
    ranges: Vec<Range<'t>>,
    heads: BinaryHeap<Reverse<(Place, usize)>>,
    last: Option<Place>,
}

impl<'t> Merge<'t> {
    fn new(snap: &'t Snapshot<'_>, plan: &Plan, query: &Query, budget: &mut Budget) -> Result<Self, StoreError> {
        budget.spend(plan.prefixes.len())?;
        let mut merge = Self { ranges: Vec::new(), heads: BinaryHeap::new(), last: None };
        for prefix in &plan.prefixes {
            merge.ranges.push(range(snap, plan.index, prefix, query)?);
            merge.advance(merge.ranges.len() - 1)?;
        }
        Ok(merge)
    }

    fn advance(&mut self, i: usize) -> Result<(), StoreError> {
        if let Some(entry) = self.ranges[i].next() {
            let (key, ()) = entry.map_err(StoreError::read)?;
            self.heads.push(Reverse((place_of(key), i)));
        }
        Ok(())
    }

    fn next(&mut self) -> Result<Option<Place>, StoreError> {
        while let Some(Reverse((place, i))) = self.heads.pop() {
            self.advance(i)?;
            if self.last.replace(place) != Some(place) {
                return Ok(Some(place));
            }
        }
        Ok(None)
    }
}
