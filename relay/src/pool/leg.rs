//! One filter of one subscription on one connection: the live REQ and the backward paging of its catch-up.
//!
//! ```text
//!  open ──REQ since──► Opening ──EOSE──► Live ──(more may exist)──► page until=… ──EOSE──► page … ──► complete
//!    ▲                    │ CLOSED         │ CLOSED                   │ CLOSED / silence
//!    └──── Waiting ◄──────┴────────────────┘                          └─► the same page later
//! ```
//!
//! The live REQ stays open while pages are asked for beside it. A relay returns the newest events of an answer first and cuts
//! it at a limit that it does not tell, so older pages are asked for until one shows that nothing was cut off.

use std::collections::HashSet;

use nostr::filter::MatchEventOptions;
use nostr::{Event, EventId, Filter, Kind, Timestamp};

/// How many ids of one answer are remembered to tell new from old. Relays cut answers far below this.
const BATCH_IDS_MAX: usize = 20_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// The REQ is out, stored events are coming.
    Opening,
    /// Stored events have come; what comes now is new.
    Live,
    /// Closed by the relay, asked again at that time (or, when it wants to know who asks, after the AUTH).
    Waiting { retry_at_ms: u64, on_auth: bool },
}

/// A page that is asked for, or will be at `retry_at_ms`.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) wire: Option<String>,
    pub(super) until_s: u64,
    pub(super) retry_at_ms: u64,
    pub(super) heard_at_ms: u64,
}

#[derive(Debug)]
pub(super) struct Leg {
    pub(super) sub: String,
    pub(super) filter: Filter,
    pub(super) phase: Phase,
    pub(super) wire: Option<String>,
    pub(super) page: Option<Page>,
    /// Catch-up is done: nothing older than the live REQ is missing.
    pub(super) complete: bool,
    /// CLOSED replies in a row.
    pub(super) refusals: u32,
    pub(super) last_refusal: Option<String>,
    pages_left: u32,
    batch: Batch,
}

/// What one answer brought.
#[derive(Debug, Default)]
struct Batch {
    ids: HashSet<EventId>,
    previous: HashSet<EventId>,
    count: usize,
    fresh: usize,
    oldest_s: Option<u64>,
    count_max: usize,
}

impl Batch {
    fn add(&mut self, id: EventId, created_at_s: u64) {
        self.count += 1;
        if !self.previous.contains(&id) && (self.ids.len() >= BATCH_IDS_MAX || !self.ids.contains(&id)) {
            self.fresh += 1;
        }
        if self.ids.len() < BATCH_IDS_MAX {
            self.ids.insert(id);
        }
        self.oldest_s = Some(self.oldest_s.map_or(created_at_s, |oldest| oldest.min(created_at_s)));
    }

    /// Decides which `until` comes next, if any. `until_s` is that of the answer that just ended.
    fn next_until(&self, until_s: Option<u64>) -> Option<u64> {
        let oldest = self.oldest_s?;
        if self.fresh > 0 {
            // One second more than the oldest: some relays read `until` as exclusive, and the cut may fall inside a second.
            let next = oldest.saturating_add(1);
            return Some(until_s.map_or(next, |until| until.min(next)));
        }
        if self.count < self.count_max {
            return None; // shorter than an earlier answer, hence not cut
        }
        // A full answer with nothing new: one second holds as many events as an answer. Step over it.
        match until_s {
            Some(until) if until > oldest => Some(oldest),
            _ => oldest.checked_sub(1),
        }
    }

    fn turn(&mut self) {
        self.count_max = self.count_max.max(self.count);
        self.previous = std::mem::take(&mut self.ids);
        self.count = 0;
        self.fresh = 0;
        self.oldest_s = None;
    }
}

impl Leg {
    pub(super) fn new(sub: String, filter: Filter, since_s: u64, pages_max: u32) -> Self {
        let since = filter.since.map_or(since_s, |own| own.as_secs().max(since_s));
        Self {
            sub,
            filter: filter.since(Timestamp::from_secs(since)),
            phase: Phase::Waiting { retry_at_ms: 0, on_auth: false },
            wire: None,
            page: None,
            complete: false,
            refusals: 0,
            last_refusal: None,
            pages_left: pages_max,
            batch: Batch::default(),
        }
    }

    /// Starts anew under the name `wire`, with all pages still to come.
    pub(super) fn open(&mut self, wire: String, pages_max: u32) {
        self.phase = Phase::Opening;
        self.wire = Some(wire);
        self.page = None;
        self.complete = false;
        self.pages_left = pages_max;
        self.batch = Batch::default();
    }

    /// Says whether `event` was asked for. The search words (NIP-50) are the relay's business.
    pub(super) fn asked_for(&self, event: &Event) -> bool {
        self.filter.match_event(event, MatchEventOptions::new().nip50(false))
    }

    /// True when a relay may show less of it to somebody it does not know: direct messages, or anything.
    pub(super) fn is_private(&self) -> bool {
        let private = [Kind::GiftWrap, Kind::EncryptedDirectMessage, Kind::from_u16(21059)];
        self.filter.kinds.as_ref().is_none_or(|kinds| private.iter().any(|kind| kinds.contains(kind)))
    }

    /// Counts a stored event of the answer that is under way.
    pub(super) fn count(&mut self, wire: &str, id: EventId, created_at_s: u64, now_ms: u64) {
        let on_page = self.on_page(wire);
        if let (true, Some(page)) = (on_page, self.page.as_mut()) {
            page.heard_at_ms = now_ms;
        }
        if on_page || (self.phase == Phase::Opening && self.page.is_none()) {
            self.batch.add(id, created_at_s);
        }
    }

    pub(super) fn on_page(&self, wire: &str) -> bool {
        self.page.as_ref().is_some_and(|page| page.wire.as_deref() == Some(wire))
    }

    /// Ends an answer and decides about the next page; the caller sends it. `finished`: the relay says nothing is older.
    pub(super) fn end_of_answer(&mut self, finished: bool) {
        let until = self.page.take().map(|page| page.until_s);
        self.phase = Phase::Live;
        self.refusals = 0;
        self.last_refusal = None;
        let pageable = self.filter.limit.is_none() && self.filter.search.is_none() && self.filter.ids.is_none();
        let since = self.filter.since.map_or(0, |since| since.as_secs());
        let next = self.batch.next_until(until).filter(|next| !finished && pageable && *next >= since);
        self.batch.turn();
        match next {
            Some(until_s) if self.pages_left > 0 => {
                self.pages_left -= 1;
                self.page = Some(Page { wire: None, until_s, retry_at_ms: 0, heard_at_ms: 0 });
            }
            Some(_) => {
                tracing::warn!(subscription = %self.sub, "gave up paging backwards: too many pages");
                self.finish();
            }
            None => self.finish(),
        }
    }

    fn finish(&mut self) {
        self.complete = true;
        self.batch = Batch::default();
    }

    /// The filter of the page that is due.
    pub(super) fn page_filter(&self) -> Option<Filter> {
        let page = self.page.as_ref()?;
        Some(self.filter.clone().until(Timestamp::from_secs(page.until_s)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(n: usize) -> EventId {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&(n as u64).to_be_bytes());
        EventId::from_byte_array(bytes)
    }

    /// Runs a catch-up against a relay that holds events at `times` and cuts each answer at `limit`; gives the missed ones.
    fn missed(times: &[u64], limit: usize, exclusive: bool) -> Vec<usize> {
        let mut leg = Leg::new("s".into(), Filter::new(), 0, 10_000);
        leg.open("w".into(), 10_000);
        let mut got = HashSet::new();
        let mut order: Vec<usize> = (0..times.len()).collect();
        order.sort_by_key(|n| std::cmp::Reverse(times[*n]));
        loop {
            let until = leg.page.as_ref().map(|page| page.until_s);
            if let Some(page) = leg.page.as_mut() {
                page.wire = Some("p".into());
            }
            let fits = |at: u64| until.is_none_or(|until| if exclusive { at < until } else { at <= until });
            for n in order.iter().copied().filter(|n| fits(times[*n])).take(limit) {
                got.insert(n);
                leg.count(if until.is_some() { "p" } else { "w" }, id(n), times[n], 0);
            }
            leg.end_of_answer(false);
            if leg.complete {
                break;
            }
        }
        (0..times.len()).filter(|n| !got.contains(n)).collect()
    }

    #[test]
    fn nothing_to_catch_up_takes_one_answer() {
        let mut leg = Leg::new("s".into(), Filter::new(), 0, 10);
        leg.open("w".into(), 10);
        leg.end_of_answer(false);
        assert!(leg.complete && leg.page.is_none());
    }

    #[test]
    fn pages_are_bounded() {
        let mut leg = Leg::new("s".into(), Filter::new(), 0, 3);
        leg.open("w".into(), 3);
        for n in 0..4 {
            leg.page.iter_mut().for_each(|page| page.wire = Some("p".into()));
            leg.count(if n == 0 { "w" } else { "p" }, id(n), 1_000 - n as u64 * 10, 0);
            leg.end_of_answer(false);
        }
        assert!(leg.complete);
    }

    proptest! {
        /// Complete as long as no two neighbouring seconds hold more events than one answer.
        #[test]
        fn catch_up_is_complete(mut gaps in prop::collection::vec(0u64..4, 0..200), limit in 9usize..40, exclusive: bool) {
            // At most four events a second.
            for chunk in gaps.chunks_mut(4) {
                chunk[0] = chunk[0].max(1);
            }
            let times: Vec<u64> = gaps.iter().scan(1_000, |at, gap| { *at += gap; Some(*at) }).collect();
            prop_assert_eq!(missed(&times, limit, exclusive), Vec::<usize>::new());
        }

        #[test]
        fn always_ends(times in prop::collection::vec(0u64..50, 0..200), limit in 1usize..20, exclusive: bool) {
            missed(&times, limit, exclusive);
        }
    }
}
