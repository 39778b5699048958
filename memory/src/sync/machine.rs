//! The initiator: one session over one space, free of I/O.
//!
//! ```text
//!  reconciling ──► fetching ──► taking ──► loading ⇄ pushing ──► ended
//!       └──────────────┴─ refused, misbehaved, gave up, store failed ─► ended
//! ```
//!
//! One request is under way at a time; while the replica takes what some have brought, the next one is: the peer reads while this side
//! writes. What comes quickly is taken many batches at a time, for a store writes a few thousand changes in one transaction with a fraction
//! of the work of ten. A request is sent again, with growing waits, until its answer comes or patience ends; an answer
//! with another number or session is none. What a peer can cost is bounded by [`Limits`]; a session that meets one of them works on
//! with what it knows and ends as [`End::Partial`], to be followed by another.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use negentropy::{Id, Negentropy};
use nips::memory::Space;
use nostr::{Event, EventId};

use super::message::{ErrorCode, Message, Reply, ReplyBody, Request, RequestBody, SessionId};
use super::responder::is_of;
use super::{Batch, MAX_GET_IDS, Outcome, RECONCILE_BYTES, Refusal, ReplicaError, Snapshot};

/// Events that are taken at a time, and the bytes of their contents: what is gathered beside what is being taken. A write of somebody
/// else waits for one such transaction.
const TAKE_EVENTS: usize = 2_000;
const TAKE_BYTES: usize = 4 << 20;
/// What has been on its way for so long is taken as it is, ms: where answers are slow, nothing of them is to be lost with the session.
const TAKE_AFTER_MS: u64 = 250;

/// The most that one session does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Reconciliation messages: 200. A hundred thousand ids from nothing take some forty; a peer can make them endless.
    pub rounds: u32,
    /// Ids found to be missing on either side: 100,000 (some 10 MB); the rest is for the next session.
    pub ids: usize,
    /// Requests in all: 4,000, a gigabyte of full batches.
    pub requests: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { rounds: 200, ids: 100_000, requests: 4_000 }
    }
}

/// When a request is sent again, and when no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// The first wait; each one after it is twice as long.
    pub first_ms: u64,
    /// The longest wait.
    pub longest_ms: u64,
    /// How often a request is sent in all.
    pub tries: u32,
}

impl Default for Patience {
    /// For carriers that lose messages: two minutes in all.
    fn default() -> Self {
        Self { first_ms: 2_000, longest_ms: 30_000, tries: 7 }
    }
}

impl Patience {
    fn wait_ms(&self, tries: u32) -> u64 {
        let factor = 1_u64.checked_shl(tries.saturating_sub(1)).unwrap_or(u64::MAX);
        self.first_ms.saturating_mul(factor).min(self.longest_ms)
    }
}

/// Events that need not be tried again with a peer, kept from one session to the next: refused for good, by one side or the other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Refusals {
    here: BTreeSet<EventId>,
    there: BTreeSet<EventId>,
}

impl Refusals {
    /// Ids remembered on each side. A liar can fill it; then its lies are looked at again, which costs what one session may.
    const MAX: usize = 10_000;

    fn remember(ids: &mut BTreeSet<EventId>, id: EventId) {
        if ids.len() < Self::MAX {
            ids.insert(id);
        }
    }

    /// How many are remembered, of both sides.
    pub fn len(&self) -> usize {
        self.here.len() + self.there.len()
    }

    /// True when none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What happens to a session. Times are in milliseconds of any clock that never goes back.
#[derive(Debug)]
pub enum Input {
    /// Begin.
    Start,
    /// An answer came from the peer; or something that looks like one.
    Received(Reply),
    /// The time of [`Effect::WakeAt`] has come (or not: too early is harmless).
    Tick,
    /// [`Effect::Take`] is done: one outcome for each event.
    Taken(Result<Vec<Outcome>, ReplicaError>),
    /// [`Effect::Load`] is done.
    Loaded(Result<Batch, ReplicaError>),
}

/// What is to be done for a session, in this order.
#[derive(Debug)]
pub enum Effect {
    /// Send this message to the peer.
    Send(Arc<str>),
    /// Have the replica take these events; then [`Input::Taken`].
    Take(Vec<Event>),
    /// Have the replica give these events, at most [`BATCH_BYTES`](super::BATCH_BYTES); then [`Input::Loaded`].
    Load(Vec<EventId>),
    /// Give [`Input::Tick`] at this time; the latest one counts.
    WakeAt(u64),
    /// The session is over.
    Ended(Report),
}

/// How a session ended.
#[derive(Debug)]
pub enum End {
    /// Every difference of the moment was dealt with.
    Complete,
    /// A limit was met after some progress: begin another one.
    Partial,
    /// The peer answered with an error.
    Failed {
        /// Which.
        code: ErrorCode,
        /// Its words.
        text: String,
    },
    /// The peer did not answer.
    GaveUp,
    /// The peer broke the protocol.
    Misbehaved(&'static str),
    /// The own replica failed.
    Replica(ReplicaError),
    /// `private` is never synced.
    Private,
}

/// What a session did.
#[derive(Debug)]
pub struct Report {
    /// Over this space.
    pub space: Space,
    /// How it ended.
    pub end: End,
    /// Events that came and were new.
    pub fetched: usize,
    /// Events that the peer did not have before.
    pub pushed: usize,
    /// Events refused, by either side.
    pub refused: usize,
    /// Reconciliation messages sent.
    pub rounds: u32,
    /// Requests sent, each counted once.
    pub requests: u32,
    /// Messages that were no answer to anything, or brought what was not asked for.
    pub strays: u32,
    /// To be given to the next session with this peer.
    pub refusals: Refusals,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    New,
    Reconciling,
    Fetching,
    Taking,
    Loading,
    Pushing,
    Ended,
}

/// The request under way.
#[derive(Debug)]
struct Pending {
    text: Arc<str>,
    tries: u32,
    again_at_ms: u64,
}

/// Events that came.
#[derive(Debug, Default)]
struct Gathered {
    events: Vec<Event>,
    bytes: usize,
    /// When the first of them was asked for.
    since_ms: u64,
}

impl Gathered {
    fn add(&mut self, events: Vec<Event>, asked_ms: u64) {
        if self.events.is_empty() {
            self.since_ms = asked_ms;
        }
        self.bytes += events.iter().map(|event| event.content.len()).sum::<usize>();
        self.events.extend(events);
    }

    fn is_full(&self) -> bool {
        self.events.len() >= TAKE_EVENTS || self.bytes >= TAKE_BYTES
    }

    fn is_due(&self, now_ms: u64) -> bool {
        !self.events.is_empty() && (self.is_full() || self.since_ms.saturating_add(TAKE_AFTER_MS) <= now_ms)
    }
}

/// A session of the initiator.
#[derive(Debug)]
pub struct Session {
    id: SessionId,
    space: Space,
    limits: Limits,
    patience: Patience,
    phase: Phase,
    negentropy: Option<Negentropy<'static, Snapshot>>,
    pending: Option<Pending>,
    /// Ids that are lacking here, in the order of the set; and all that ever were, for a peer may name one twice.
    need: VecDeque<EventId>,
    needed: HashSet<EventId>,
    /// Ids that are lacking there, likewise.
    have: VecDeque<EventId>,
    had: HashSet<EventId>,
    /// What the GET or the PUT under way is about, and when it was sent first.
    asked: Vec<EventId>,
    asked_ms: u64,
    /// What came and is not given to the replica yet.
    gathered: Gathered,
    /// What the replica has been given and has not answered yet.
    taking: Option<Vec<EventId>>,
    is_cut: bool,
    report: Report,
}

impl Session {
    /// A session over what the own replica has now. `id` is random.
    pub fn new(
        id: SessionId,
        space: Space,
        snapshot: Snapshot,
        refusals: Refusals,
        (limits, patience): (Limits, Patience),
    ) -> Self {
        let report = Report {
            space: space.clone(),
            end: End::Complete,
            fetched: 0,
            pushed: 0,
            refused: 0,
            rounds: 0,
            requests: 0,
            strays: 0,
            refusals,
        };
        let negentropy = Negentropy::owned(snapshot, RECONCILE_BYTES).ok();
        let (need, have) = (VecDeque::new(), VecDeque::new());
        let (needed, had, asked) = (HashSet::new(), HashSet::new(), Vec::new());
        let (phase, pending, is_cut, taking) = (Phase::New, None, false, None);
        Self {
            id,
            space,
            limits,
            patience,
            phase,
            negentropy,
            pending,
            need,
            needed,
            have,
            had,
            asked,
            asked_ms: 0,
            gathered: Gathered::default(),
            taking,
            is_cut,
            report,
        }
    }

    /// The session's id.
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// Goes one step.
    pub fn handle(&mut self, input: Input, now_ms: u64) -> Vec<Effect> {
        match (input, self.phase) {
            (Input::Start, Phase::New) => self.start(now_ms),
            (Input::Received(reply), _) => self.received(reply, now_ms),
            (Input::Tick, _) => self.tick(now_ms),
            (Input::Taken(outcomes), Phase::Fetching | Phase::Taking) => self.taken(outcomes, now_ms),
            (Input::Loaded(batch), Phase::Loading) => self.loaded(batch, now_ms),
            (Input::Start | Input::Taken(_) | Input::Loaded(_), _) => Vec::new(),
        }
    }

    fn start(&mut self, now_ms: u64) -> Vec<Effect> {
        if self.space.is_private() {
            return self.end(End::Private);
        }
        match self.negentropy.as_mut().map(Negentropy::initiate) {
            Some(Ok(message)) => self.reconcile(message, now_ms),
            Some(Err(error)) => self.end(End::Replica(ReplicaError::Reconcile(error))),
            None => self.end(End::Misbehaved("no set to reconcile")),
        }
    }

    fn received(&mut self, reply: Reply, now_ms: u64) -> Vec<Effect> {
        let is_answer = self.pending.is_some() && (reply.session, reply.number) == (self.id, self.report.requests);
        if !is_answer {
            self.report.strays = self.report.strays.saturating_add(1);
            return Vec::new();
        }
        match (reply.body, self.phase) {
            (ReplyBody::Failed { code, text }, _) => self.end(End::Failed { code, text }),
            (ReplyBody::Reconciled(message), Phase::Reconciling) => self.reconciled(&message, now_ms),
            (ReplyBody::Given { events, gone }, Phase::Fetching) => self.given(events, &gone, now_ms),
            (ReplyBody::Stored { new, refused, .. }, Phase::Pushing) => self.stored(new, &refused),
            (ReplyBody::Reconciled(_) | ReplyBody::Given { .. } | ReplyBody::Stored { .. }, _) => {
                self.end(End::Misbehaved("an answer of another kind"))
            }
        }
    }

    fn tick(&mut self, now_ms: u64) -> Vec<Effect> {
        let Some(pending) = &mut self.pending else { return Vec::new() };
        if now_ms < pending.again_at_ms {
            return vec![Effect::WakeAt(pending.again_at_ms)];
        }
        if pending.tries >= self.patience.tries {
            return self.end(End::GaveUp);
        }
        pending.tries += 1;
        pending.again_at_ms = now_ms.saturating_add(self.patience.wait_ms(pending.tries));
        vec![Effect::Send(Arc::clone(&pending.text)), Effect::WakeAt(pending.again_at_ms)]
    }

    /// Sends the next request.
    fn ask(&mut self, phase: Phase, body: RequestBody, now_ms: u64) -> Vec<Effect> {
        if self.report.requests >= self.limits.requests {
            return self.end(End::Partial);
        }
        self.report.requests += 1;
        self.phase = phase;
        let request = Request { session: self.id, number: self.report.requests, space: self.space.clone(), body };
        let text: Arc<str> = Message::Request(request).to_json().into();
        let again_at_ms = now_ms.saturating_add(self.patience.wait_ms(1));
        self.pending = Some(Pending { text: Arc::clone(&text), tries: 1, again_at_ms });
        vec![Effect::Send(text), Effect::WakeAt(again_at_ms)]
    }

    fn reconcile(&mut self, message: Vec<u8>, now_ms: u64) -> Vec<Effect> {
        self.report.rounds += 1;
        self.ask(Phase::Reconciling, RequestBody::Reconcile(message), now_ms)
    }

    fn reconciled(&mut self, message: &[u8], now_ms: u64) -> Vec<Effect> {
        self.pending = None;
        let (mut have, mut need) = (Vec::new(), Vec::new());
        let next = match &mut self.negentropy {
            Some(machine) => machine.reconcile_with_ids(message, &mut have, &mut need),
            None => Ok(None),
        };
        let Ok(next) = next else { return self.end(End::Misbehaved("a reconciliation that does not parse")) };
        for id in in_order_of(message, &need) {
            if !self.report.refusals.here.contains(&id) && !self.is_full() && self.needed.insert(id) {
                self.need.push_back(id);
            }
        }
        for id in have.into_iter().map(|id| EventId::from_byte_array(id.to_bytes())) {
            if !self.report.refusals.there.contains(&id) && !self.is_full() && self.had.insert(id) {
                self.have.push_back(id);
            }
        }
        match next {
            Some(message) if self.report.rounds < self.limits.rounds && !self.is_full() => {
                self.reconcile(message, now_ms)
            }
            next => {
                self.is_cut = next.is_some() || self.is_full();
                // Not needed any more, and it may be large.
                self.negentropy = None;
                self.fetch(now_ms)
            }
        }
    }

    fn is_full(&self) -> bool {
        self.needed.len() + self.had.len() >= self.limits.ids
    }

    /// Asks for what is lacking; waits for the replica when enough lies before it, or when nothing is lacking any more.
    fn fetch(&mut self, now_ms: u64) -> Vec<Effect> {
        let has_all = self.need.is_empty();
        let asks_no_more = has_all || self.report.requests >= self.limits.requests;
        let take = self.take(asks_no_more, now_ms);
        let mut effects = if self.taking.is_some() && (asks_no_more || self.gathered.is_full()) {
            self.phase = Phase::Taking;
            Vec::new()
        } else if has_all {
            self.load()
        } else {
            (self.asked, self.asked_ms) = (self.need.iter().take(MAX_GET_IDS).copied().collect(), now_ms);
            self.ask(Phase::Fetching, RequestBody::Get(self.asked.clone()), now_ms)
        };
        // After the request: the peer works meanwhile.
        effects.extend(take);
        effects
    }

    /// Gives the replica what was gathered, once that is worth it or all there is, and the replica is done with what it had.
    fn take(&mut self, is_all: bool, now_ms: u64) -> Option<Effect> {
        let is_due = self.gathered.is_due(now_ms) || (is_all && !self.gathered.events.is_empty());
        if self.taking.is_some() || !is_due {
            return None;
        }
        let events = std::mem::take(&mut self.gathered).events;
        self.taking = Some(events.iter().map(|event| event.id).collect());
        Some(Effect::Take(events))
    }

    fn given(&mut self, events: Vec<Event>, gone: &[EventId], now_ms: u64) -> Vec<Effect> {
        self.pending = None;
        let mut open: HashSet<EventId> = self.asked.drain(..).collect();
        let before = open.len();
        let mut wanted = Vec::with_capacity(events.len().min(before));
        for event in events {
            if !open.remove(&event.id) {
                self.report.strays = self.report.strays.saturating_add(1);
            } else if is_of(&event, &self.space) {
                wanted.push(event);
            } else {
                self.refused_here(event.id, Refusal::Invalid);
            }
        }
        for id in gone {
            open.remove(id);
        }
        if open.len() == before {
            return self.end(End::Misbehaved("none of the events that were asked for"));
        }
        // What did not fit is asked for first next time: it lies before the rest.
        let asked = before.min(self.need.len());
        let left: Vec<EventId> = self.need.drain(..asked).filter(|id| open.contains(id)).collect();
        for id in left.into_iter().rev() {
            self.need.push_front(id);
        }
        self.gathered.add(wanted, self.asked_ms);
        self.fetch(now_ms)
    }

    fn taken(&mut self, outcomes: Result<Vec<Outcome>, ReplicaError>, now_ms: u64) -> Vec<Effect> {
        let outcomes = match outcomes {
            Ok(outcomes) => outcomes,
            Err(error) => return self.end(End::Replica(error)),
        };
        let taken = self.taking.take().unwrap_or_default();
        for (id, outcome) in taken.into_iter().zip(outcomes) {
            match outcome {
                Outcome::New => self.report.fetched += 1,
                Outcome::Known => {}
                Outcome::Refused(why) => self.refused_here(id, why),
            }
        }
        match self.phase {
            // The request that is under way brings the session on.
            Phase::Fetching => self.take(false, now_ms).into_iter().collect(),
            Phase::New | Phase::Reconciling | Phase::Taking | Phase::Loading | Phase::Pushing | Phase::Ended => {
                self.fetch(now_ms)
            }
        }
    }

    fn refused_here(&mut self, id: EventId, why: Refusal) {
        self.report.refused += 1;
        if why.is_final() {
            Refusals::remember(&mut self.report.refusals.here, id);
        }
    }

    fn load(&mut self) -> Vec<Effect> {
        if self.have.is_empty() {
            return self.end(if self.is_cut { End::Partial } else { End::Complete });
        }
        self.asked = self.have.iter().take(MAX_GET_IDS).copied().collect();
        self.phase = Phase::Loading;
        vec![Effect::Load(self.asked.clone())]
    }

    fn loaded(&mut self, batch: Result<Batch, ReplicaError>, now_ms: u64) -> Vec<Effect> {
        let Batch { events, gone } = match batch {
            Ok(batch) => batch,
            Err(error) => return self.end(End::Replica(error)),
        };
        let mut open: HashSet<EventId> = self.asked.drain(..).collect();
        let before = open.len();
        for id in events.iter().map(|event| &event.id).chain(&gone) {
            open.remove(id);
        }
        let left: Vec<EventId> = self.have.drain(..before).filter(|id| open.contains(id)).collect();
        for id in left.into_iter().rev() {
            self.have.push_front(id);
        }
        if open.len() == before {
            // A replica that gives nothing and says nothing: nothing to wait for.
            self.have.clear();
        }
        if events.is_empty() {
            return self.load();
        }
        self.asked = events.iter().map(|event| event.id).collect();
        self.ask(Phase::Pushing, RequestBody::Put(events), now_ms)
    }

    fn stored(&mut self, new: u32, refused: &[(EventId, Refusal)]) -> Vec<Effect> {
        self.pending = None;
        let sent: HashSet<EventId> = self.asked.drain(..).collect();
        let new = usize::try_from(new).unwrap_or(usize::MAX);
        if new.saturating_add(refused.len()) > sent.len() {
            return self.end(End::Misbehaved("it stored more than was sent"));
        }
        self.report.pushed += new;
        for (id, why) in refused.iter().filter(|(id, _)| sent.contains(id)) {
            self.report.refused += 1;
            if why.is_final() {
                Refusals::remember(&mut self.report.refusals.there, *id);
            }
        }
        self.load()
    }

    fn end(&mut self, end: End) -> Vec<Effect> {
        if self.phase == Phase::Ended {
            return Vec::new();
        }
        self.phase = Phase::Ended;
        self.pending = None;
        self.negentropy = None;
        (self.need, self.have) = (VecDeque::new(), VecDeque::new());
        (self.needed, self.had) = (HashSet::new(), HashSet::new());
        (self.gathered, self.taking) = (Gathered::default(), None);
        let nothing =
            Report { space: self.space.clone(), end: End::Complete, refusals: Refusals::default(), ..self.report };
        let report = std::mem::replace(&mut self.report, nothing);
        vec![Effect::Ended(Report { end, ..report })]
    }
}

/// Ids in the order in which a message names them, which is the set's: (created_at, id). Negentropy hands the ids of one range out
/// in no order, and a cold replica would meet effects before their causes, thousands at a time.
fn in_order_of(message: &[u8], ids: &[Id]) -> Vec<EventId> {
    let mut places: HashMap<[u8; 32], Option<usize>> = ids.iter().map(|id| (id.to_bytes(), None)).collect();
    for (at, window) in message.windows(32).enumerate() {
        if let Some(place) = places.get_mut(window)
            && place.is_none()
        {
            *place = Some(at);
        }
    }
    let mut ordered: Vec<_> = places.into_iter().map(|(id, place)| (place, EventId::from_byte_array(id))).collect();
    ordered.sort_unstable();
    ordered.into_iter().map(|(_, id)| id).collect()
}
