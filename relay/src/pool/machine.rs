//! The conversation with one relay over one connection, free of I/O: frames, commands and the time go in, effects come out.
//!
//! NIP-01 (EVENT, REQ, CLOSE, OK, EOSE, CLOSED), NIP-42 (AUTH). A subscription that the relay closes is never forgotten: it
//! waits for the AUTH or for its time and is asked again.

mod auth;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use nostr::filter::MatchEventOptions;
use nostr::{Event, EventId, Filter, JsonUtil};

use super::backoff::exponential;
use super::leg::{Leg, Page, Phase};
use super::reply::{FetchError, PublishReply, classify};
use super::subscription::Subscription;
use super::wire::{self, FromRelay};

/// Names a waiting caller; the driver holds the other end.
pub(super) type Ticket = u64;

/// What the driver is to do.
#[derive(Debug)]
pub(super) enum Effect {
    Send(String),
    SignAuth {
        challenge: String,
    },
    /// Verified, asked for, and not known before.
    Deliver {
        sub: String,
        event: Box<Event>,
    },
    /// A copy of an event that was handed over before.
    Duplicate {
        id: EventId,
    },
    Bad(Badness),
    /// A subscription has just caught up.
    CaughtUp,
    Published {
        ticket: Ticket,
        reply: PublishReply,
    },
    Fetched {
        ticket: Ticket,
        result: Result<Vec<Event>, FetchError>,
    },
    HangUp {
        reason: String,
    },
}

/// What a relay can do wrong with an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Badness {
    Malformed,
    Oversized,
    Unasked,
    Forged,
}

/// The bounds of one conversation.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) event_bytes_max: usize,
    pub(super) pages_max: u32,
    pub(super) page_timeout: Duration,
    pub(super) auth_timeout: Duration,
    pub(super) closed_retry_first: Duration,
    pub(super) closed_retry_max: Duration,
    pub(super) bad_events_max: u64,
    pub(super) fetch_events_max: usize,
}

#[derive(Debug, PartialEq, Eq)]
enum Auth {
    /// The relay has not asked who we are.
    Unasked,
    Challenged(String),
    Signing(String),
    Sent {
        id: EventId,
        deadline_ms: u64,
    },
    Done,
    Failed {
        message: String,
        challenge: String,
        retry_at_ms: u64,
    },
}

#[derive(Debug)]
struct Publishing {
    ticket: Ticket,
    frame: String,
    deadline_ms: u64,
    tried_auth: bool,
    waits_for_auth: bool,
}

#[derive(Debug)]
struct Fetching {
    ticket: Ticket,
    filters: Vec<Filter>,
    deadline_ms: u64,
    events: BTreeMap<EventId, Event>,
    tried_auth: bool,
    waits_for_auth: bool,
}

/// Which question a wire id belongs to.
enum Owner {
    Leg(usize),
    Fetch,
    Nobody,
}

#[derive(Debug)]
pub(super) struct Machine {
    bounds: Bounds,
    /// Answers a challenge at once, not only when something needs it.
    eager_auth: bool,
    auth: Auth,
    legs: Vec<Leg>,
    known: BTreeMap<String, Arc<Subscription>>,
    publishing: HashMap<EventId, Vec<Publishing>>,
    fetching: HashMap<String, Fetching>,
    wires: u64,
    bad_events: u64,
    good_events: u64,
}

type Effects = Vec<Effect>;

impl Machine {
    pub(super) fn new(bounds: Bounds, eager_auth: bool) -> Self {
        Self {
            bounds,
            eager_auth,
            auth: Auth::Unasked,
            legs: Vec::new(),
            known: BTreeMap::new(),
            publishing: HashMap::new(),
            fetching: HashMap::new(),
            wires: 0,
            bad_events: 0,
            good_events: 0,
        }
    }

    /// Takes the wanted subscriptions; opens new ones, closes those that are gone or changed. `since` gives Unix seconds.
    pub(super) fn subscribe(
        &mut self,
        wanted: &BTreeMap<String, Arc<Subscription>>,
        since: &dyn Fn(&Subscription) -> u64,
        now_ms: u64,
        out: &mut Effects,
    ) {
        let gone: Vec<String> =
            self.known.keys().filter(|id| wanted.get(*id) != self.known.get(*id)).cloned().collect();
        for id in gone {
            self.known.remove(&id);
            self.legs.iter_mut().filter(|leg| leg.sub == id).for_each(|leg| close_leg(leg, out));
            self.legs.retain(|leg| leg.sub != id);
        }
        for (id, sub) in wanted {
            if self.known.contains_key(id) {
                continue;
            }
            let since_s = since(sub);
            self.known.insert(id.clone(), sub.clone());
            let new = sub.filters.iter().map(|f| Leg::new(id.clone(), f.clone(), since_s, self.bounds.pages_max));
            self.legs.extend(new);
        }
        self.tick(now_ms, out);
    }

    /// Sends an event and waits for its OK.
    pub(super) fn publish(&mut self, ticket: Ticket, id: EventId, frame: String, deadline_ms: u64, out: &mut Effects) {
        let same = self.publishing.entry(id).or_default();
        // The same event asked for twice goes out once.
        if same.is_empty() {
            out.push(Effect::Send(frame.clone()));
        }
        same.push(Publishing { ticket, frame, deadline_ms, tried_auth: false, waits_for_auth: false });
    }

    /// Asks once and collects until the end of stored events.
    pub(super) fn fetch(&mut self, ticket: Ticket, filters: Vec<Filter>, deadline_ms: u64, out: &mut Effects) {
        let fetch = Fetching {
            ticket,
            filters,
            deadline_ms,
            events: BTreeMap::new(),
            tried_auth: false,
            waits_for_auth: false,
        };
        self.open_fetch(fetch, out);
    }

    fn open_fetch(&mut self, fetch: Fetching, out: &mut Effects) {
        let wire = self.next_wire();
        out.push(Effect::Send(wire::req(&wire, &fetch.filters)));
        self.fetching.insert(wire, fetch);
    }

    /// Takes one text frame. `seen` tells whether an event was handed over before.
    pub(super) fn frame(&mut self, text: &str, seen: &dyn Fn(&EventId) -> bool, now_ms: u64, out: &mut Effects) {
        match wire::parse(text) {
            Some(FromRelay::Event { wire, raw }) => self.event(&wire, raw, seen, now_ms, out),
            Some(FromRelay::Ok { id, status, message }) => self.ok(id, status, &message, now_ms, out),
            Some(FromRelay::Eose { wire, finished }) => self.eose(&wire, finished, now_ms, out),
            Some(FromRelay::Closed { wire, message }) => self.closed(&wire, message, now_ms, out),
            Some(FromRelay::Auth { challenge }) => self.challenged(challenge, out),
            Some(FromRelay::Notice(message)) => tracing::debug!(%message, "the relay notes"),
            Some(FromRelay::Other) => {}
            None => self.bad(Badness::Malformed, out),
        }
    }

    fn event(&mut self, wire: &str, raw: &str, seen: &dyn Fn(&EventId) -> bool, now_ms: u64, out: &mut Effects) {
        let owner = self.owner(wire);
        if matches!(owner, Owner::Nobody) {
            // Not a lie yet: events may be under way when a REQ is closed. They cost a parse of the envelope and no more.
            return;
        }
        if raw.len() > self.bounds.event_bytes_max {
            return self.bad(Badness::Oversized, out);
        }
        let Ok(event) = Event::from_json(raw) else {
            return self.bad(Badness::Malformed, out);
        };
        match owner {
            Owner::Leg(at) => self.leg_event(at, wire, event, seen, now_ms, out),
            Owner::Fetch => self.fetch_event(wire, event, out),
            Owner::Nobody => {}
        }
    }

    fn leg_event(
        &mut self,
        at: usize,
        wire: &str,
        event: Event,
        seen: &dyn Fn(&EventId) -> bool,
        now_ms: u64,
        out: &mut Effects,
    ) {
        let Some(leg) = self.legs.get_mut(at) else { return };
        if !leg.asked_for(&event) {
            return self.bad(Badness::Unasked, out);
        }
        // An id gets among the seen only after its real event was verified, so whatever comes under it now is not needed.
        let duplicate = seen(&event.id);
        if !duplicate && event.verify().is_err() {
            return self.bad(Badness::Forged, out);
        }
        self.good_events += 1;
        leg.count(wire, event.id, event.created_at.as_secs(), now_ms);
        if duplicate {
            out.push(Effect::Duplicate { id: event.id });
        } else {
            out.push(Effect::Deliver { sub: leg.sub.clone(), event: Box::new(event) });
        }
    }

    fn fetch_event(&mut self, wire: &str, event: Event, out: &mut Effects) {
        let Some(fetch) = self.fetching.get_mut(wire) else { return };
        let options = MatchEventOptions::new().nip50(false);
        if !fetch.filters.iter().any(|filter| filter.match_event(&event, options)) {
            return self.bad(Badness::Unasked, out);
        }
        if event.verify().is_err() {
            return self.bad(Badness::Forged, out);
        }
        self.good_events += 1;
        fetch.events.insert(event.id, event);
        if fetch.events.len() > self.bounds.fetch_events_max {
            self.end_fetch(wire, Err(FetchError::TooLarge), out);
        }
    }

    fn bad(&mut self, badness: Badness, out: &mut Effects) {
        self.bad_events += 1;
        out.push(Effect::Bad(badness));
        if self.bad_events >= self.bounds.bad_events_max && self.bad_events > self.good_events {
            out.push(Effect::HangUp { reason: format!("it sent {} bad events", self.bad_events) });
        }
    }

    fn owner(&self, wire: &str) -> Owner {
        let ours = |leg: &Leg| leg.wire.as_deref() == Some(wire) || leg.on_page(wire);
        match self.legs.iter().position(ours) {
            Some(at) => Owner::Leg(at),
            None if self.fetching.contains_key(wire) => Owner::Fetch,
            None => Owner::Nobody,
        }
    }

    fn eose(&mut self, wire: &str, finished: bool, now_ms: u64, out: &mut Effects) {
        match self.owner(wire) {
            Owner::Leg(at) => {
                let Some(leg) = self.legs.get_mut(at) else { return };
                let on_page = leg.on_page(wire);
                if on_page {
                    out.push(Effect::Send(wire::close(wire)));
                } else if leg.phase != Phase::Opening {
                    return; // a second EOSE says nothing
                }
                leg.end_of_answer(finished);
                if leg.complete {
                    out.push(Effect::CaughtUp);
                }
                self.tick(now_ms, out);
            }
            Owner::Fetch => {
                let events = self.fetching.get_mut(wire).map(|f| std::mem::take(&mut f.events)).unwrap_or_default();
                let mut events: Vec<Event> = events.into_values().collect();
                events.sort_by(|a, b| b.created_at.cmp(&a.created_at).then(a.id.cmp(&b.id)));
                self.end_fetch(wire, Ok(events), out);
            }
            Owner::Nobody => {}
        }
    }

    fn end_fetch(&mut self, wire: &str, result: Result<Vec<Event>, FetchError>, out: &mut Effects) {
        if let Some(fetch) = self.fetching.remove(wire) {
            out.push(Effect::Send(wire::close(wire)));
            out.push(Effect::Fetched { ticket: fetch.ticket, result });
        }
    }

    fn closed(&mut self, wire: &str, message: String, now_ms: u64, out: &mut Effects) {
        let wants_auth = message.starts_with("auth-required:") && self.auth_can_help();
        match self.owner(wire) {
            Owner::Leg(at) => self.closed_leg(at, wire, message, wants_auth, now_ms),
            Owner::Fetch => {
                let Some(mut fetch) = self.fetching.remove(wire) else { return };
                if wants_auth && !fetch.tried_auth {
                    fetch.tried_auth = true;
                    fetch.waits_for_auth = true;
                    self.fetching.insert(wire.to_owned(), fetch);
                } else {
                    out.push(Effect::Fetched { ticket: fetch.ticket, result: Err(FetchError::Closed(message)) });
                }
            }
            Owner::Nobody => {}
        }
        if wants_auth {
            self.begin_auth(out);
        }
    }

    fn closed_leg(&mut self, at: usize, wire: &str, message: String, wants_auth: bool, now_ms: u64) {
        let bounds = self.bounds;
        let Some(leg) = self.legs.get_mut(at) else { return };
        leg.refusals = leg.refusals.saturating_add(1);
        let passing = message.starts_with("rate-limited:") || message.starts_with("error:");
        let wait = if passing {
            exponential(bounds.closed_retry_first, bounds.closed_retry_max, leg.refusals, 1.0)
        } else {
            bounds.closed_retry_max
        };
        let retry_at_ms = now_ms.saturating_add(millis(wait));
        tracing::debug!(subscription = %leg.sub, %message, "the relay closed a subscription");
        leg.last_refusal = Some(message);
        if leg.on_page(wire) {
            if let Some(page) = leg.page.as_mut() {
                page.wire = None;
                page.retry_at_ms = retry_at_ms;
            }
            return;
        }
        leg.wire = None;
        leg.complete = false;
        leg.phase = Phase::Waiting { retry_at_ms, on_auth: wants_auth };
    }

    fn ok(&mut self, id: EventId, status: bool, message: &str, now_ms: u64, out: &mut Effects) {
        if matches!(self.auth, Auth::Sent { id: sent, .. } if sent == id) {
            return self.auth_answered(status, message, now_ms, out);
        }
        let Some(mut waiting) = self.publishing.remove(&id) else { return };
        let reply = classify(status, message);
        if !status && message.starts_with("auth-required:") && self.auth_can_help() {
            let first_time = waiting.iter().all(|p| !p.tried_auth);
            if first_time {
                waiting.iter_mut().for_each(|p| (p.tried_auth, p.waits_for_auth) = (true, true));
                self.publishing.insert(id, waiting);
                return self.begin_auth(out);
            }
        }
        out.extend(waiting.into_iter().map(|p| Effect::Published { ticket: p.ticket, reply: reply.clone() }));
    }

    // --- Time

    /// Does what is due: questions to ask (again), pages, time-outs.
    pub(super) fn tick(&mut self, now_ms: u64, out: &mut Effects) {
        self.tick_auth(now_ms, out);
        for at in 0..self.legs.len() {
            self.tick_leg(at, now_ms, out);
        }
        for waiting in self.publishing.values_mut() {
            for p in waiting.extract_if(.., |p| p.deadline_ms <= now_ms) {
                let reply = PublishReply::Unreachable { message: "the relay gave no answer in time".to_owned() };
                out.push(Effect::Published { ticket: p.ticket, reply });
            }
        }
        self.publishing.retain(|_, waiting| !waiting.is_empty());
        let late: Vec<String> =
            self.fetching.iter().filter(|(_, f)| f.deadline_ms <= now_ms).map(|(wire, _)| wire.clone()).collect();
        for wire in late {
            self.end_fetch(&wire, Err(FetchError::TimedOut), out);
        }
    }

    fn tick_leg(&mut self, at: usize, now_ms: u64, out: &mut Effects) {
        let pages_max = self.bounds.pages_max;
        let page_timeout_ms = millis(self.bounds.page_timeout);
        let wire = self.next_wire();
        let Some(leg) = self.legs.get_mut(at) else { return };
        if matches!(leg.phase, Phase::Waiting { retry_at_ms, .. } if retry_at_ms <= now_ms) {
            leg.open(wire.clone(), pages_max);
            out.push(Effect::Send(wire::req(&wire, std::slice::from_ref(&leg.filter))));
            return;
        }
        let filter = leg.page_filter();
        let (Some(page), Some(filter)) = (leg.page.as_mut(), filter) else { return };
        match &page.wire {
            None if page.retry_at_ms <= now_ms => {
                out.push(Effect::Send(wire::req(&wire, &[filter])));
                *page = Page { wire: Some(wire), heard_at_ms: now_ms, ..*page };
            }
            Some(silent) if page.heard_at_ms.saturating_add(page_timeout_ms) <= now_ms => {
                out.push(Effect::Send(wire::close(silent)));
                page.wire = None;
                page.retry_at_ms = now_ms.saturating_add(page_timeout_ms);
            }
            None | Some(_) => {}
        }
    }

    fn next_wire(&mut self) -> String {
        self.wires += 1;
        format!("t{}", self.wires)
    }

    // --- For the driver

    /// Ids of the subscriptions whose catch-up is complete and whose live REQs stand.
    pub(super) fn live(&self) -> Vec<String> {
        let auth_settled = match self.auth {
            Auth::Unasked | Auth::Done | Auth::Failed { .. } => true,
            Auth::Challenged(_) => !self.eager_auth,
            Auth::Signing(_) | Auth::Sent { .. } => false,
        };
        let stands = |leg: &Leg| leg.complete && leg.phase == Phase::Live && (auth_settled || !leg.is_private());
        let all_stand = |id: &&String| self.legs.iter().filter(|leg| leg.sub == **id).all(stands);
        self.known.keys().filter(all_stand).cloned().collect()
    }

    /// The relay's words about each subscription that it keeps closed.
    pub(super) fn refused(&self) -> BTreeMap<String, String> {
        let words = |leg: &Leg| leg.last_refusal.clone().map(|words| (leg.sub.clone(), words));
        self.legs.iter().filter_map(words).collect()
    }

    /// How many callers wait.
    pub(super) fn waiting(&self) -> usize {
        self.publishing.values().map(Vec::len).sum::<usize>() + self.fetching.len()
    }

    /// Answers every caller: the connection is gone.
    pub(super) fn lost(&mut self, reason: &str, out: &mut Effects) {
        for p in self.publishing.drain().flat_map(|(_, waiting)| waiting) {
            let reply = PublishReply::Unreachable { message: reason.to_owned() };
            out.push(Effect::Published { ticket: p.ticket, reply });
        }
        let fetches = self.fetching.drain();
        out.extend(fetches.map(|(_, f)| Effect::Fetched {
            ticket: f.ticket,
            result: Err(FetchError::Unreachable(reason.to_owned())),
        }));
    }
}

fn close_leg(leg: &mut Leg, out: &mut Effects) {
    let page = leg.page.take().and_then(|page| page.wire);
    out.extend(leg.wire.take().into_iter().chain(page).map(|wire| Effect::Send(wire::close(&wire))));
    leg.complete = false;
}

fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}
