//! What comes in at the doors, and whether it becomes a job.

use bots::matrix::{Incoming, What};
use nips::card::CARD_KIND;
use nips::dm::{Content, WRAP_KIND};
use nips::job::request::{self, ParseError};
use nips::job::{Input, JobId, REQUEST_KINDS, Standing, Verdict, admit};
use nips::{Audience, DirectMessage, JobRequest};
use nostr::{Event, EventId, JsonUtil, RelayUrl};
use tokio::sync::mpsc;

use super::links::Account;
use super::order::{Attachment, FilePlace, Order, Origin, Work};
use super::rates::Purpose;
use super::round::Round;
use super::turn::crowd;
use super::{Arrived, Desk, Heard, Message, Opened};
use crate::journal::{Arrival, Opened as OpenedRow};
use crate::sisters::Sisters;

/// Unfinished jobs of one customer; a customer who names relays that never answer fills only this.
const MAX_LIVE_PER_CUSTOMER: usize = 256;
/// Unfinished jobs in all.
const MAX_LIVE: usize = 20_000;
/// Requests that one deletion event may take back.
const MAX_WITHDRAWN: usize = 16;
/// A stranger hears the polite line once in this time, ms.
const GREET_EVERY_MS: u64 = 24 * 3600 * 1000;
/// Messages are read this far back even where `catch_up_h` is shorter, seconds.
const MESSAGES_BACK_S: u64 = 7 * 24 * 3600;
/// Strangers remembered as greeted; the journal remembers them all.
const MAX_GREETED: usize = 10_000;

/// The id that the journal is asked about before the round.
pub(super) fn looked_up_id(message: &Message) -> Option<[u8; 32]> {
    if let Message::Opened { content: Opened::Message(message, _), .. } = message {
        return Some(message.id.to_bytes());
    }
    if let Message::Written(incoming, _) = message {
        return Some(*crate::matrix::job_of(&incoming.event).as_bytes());
    }
    if let Message::Arrived(a) = message
        && a.event.kind.as_u16() == WRAP_KIND
    {
        return Some(a.event.id.to_bytes());
    }
    asked(message).map(|event| event.id.to_bytes())
}

/// The request and author that may have been taken back before.
pub(super) fn withdrawable(message: &Message) -> Option<([u8; 32], String)> {
    asked(message).map(|event| (event.id.to_bytes(), event.pubkey.to_hex()))
}

/// The job request in a message.
fn asked(message: &Message) -> Option<&Event> {
    if let Message::Arrived(a) = message {
        return Some(a.event.as_ref()).filter(|event| is_request(event));
    }
    if let Message::Opened { content: Opened::Job(event, ..), .. } = message { Some(event) } else { None }
}

/// A request this old comes by a catch-up, seconds: it was sent while the node, or its relay, was away.
const LATE_S: u64 = 120;

fn is_request(event: &Event) -> bool {
    REQUEST_KINDS.contains(&event.kind.as_u16())
}

impl Desk {
    pub(super) fn arrived(&mut self, round: &mut Round, arrived: Arrived) {
        let event = arrived.event;
        match event.kind.as_u16() {
            5 => self.taken_back(round, &event),
            WRAP_KIND => self.sealed(round, &event, arrived.came_by),
            CARD_KIND => self.tools.metrics.dropped("card"),
            _ if is_request(&event) => self.request(round, &event, arrived.came_by),
            _ => {}
        }
    }

    fn request(&mut self, round: &mut Round, event: &Event, came_by: Option<RelayUrl>) {
        let id = event.id.to_bytes();
        if round.known.contains(&id) {
            return self.tools.metrics.dropped("duplicate");
        }
        if request::is_encrypted(event) {
            if request::providers(event).contains(&self.tools.speaker.node) {
                self.sealed(round, event, came_by);
            }
            return;
        }
        self.judge(round, event, JobRequest::parse(event), came_by);
    }

    /// Puts a sealed event into the inbox and has it opened.
    fn sealed(&mut self, round: &mut Round, event: &Event, came_by: Option<RelayUrl>) {
        let id = event.id.to_bytes();
        let names_us = event.tags.public_keys().any(|key| *key == self.tools.speaker.node);
        if !names_us || !round.is_new(id) {
            return self.tools.metrics.dropped("duplicate");
        }
        let arrival = Arrival { id, event: event.as_json(), came_by: came_by.map(|u| u.to_string()) };
        round.stamp.arrivals.push(arrival.clone());
        round.opens.push(arrival);
    }

    pub(super) fn opened(&mut self, round: &mut Round, id: [u8; 32], content: Opened) {
        round.stamp.opened.push(OpenedRow(id));
        match content {
            Opened::Dropped => self.tools.metrics.dropped("unreadable"),
            Opened::Message(message, came_by) => self.message(round, &message, came_by),
            Opened::Job(event, parsed, came_by) => {
                // The event itself is in `seen` since it arrived; only a job of that id means that it was answered.
                round.known.remove(&event.id.to_bytes());
                if !self.live.contains_key(&JobId::from(event.id)) {
                    self.judge(round, &event, parsed.map(|r| *r), came_by);
                }
            }
        }
    }

    /// Decides on a request and begins a job if there is something to do or to say.
    fn judge(
        &mut self,
        round: &mut Round,
        event: &Event,
        parsed: Result<JobRequest, ParseError>,
        came_by: Option<RelayUrl>,
    ) {
        if !round.is_new(event.id.to_bytes()) {
            return self.tools.metrics.dropped("duplicate");
        }
        let verdict = match &parsed {
            Ok(request) => self.verdict(round, request),
            Err(error) => self.malformed(event, error),
        };
        let verdict = self.within_refusals(round, event, verdict);
        if matches!(verdict, Verdict::Ignore | Verdict::Expired) {
            return self.tools.metrics.dropped("not_taken");
        }
        let order = self.order(event, parsed, came_by);
        if verdict == Verdict::Accept {
            self.count_job(event, round.now_ms);
        }
        let needs_inputs = order.needs_inputs() || self.waits_for_its_turn(&order);
        let requested = Input::Requested { verdict, needs_inputs, expires_at_ms: order.expires_at_ms() };
        self.begin(round, order, requested);
    }

    fn verdict(&mut self, round: &Round, request: &JobRequest) -> Verdict {
        let now = round.now_ms / 1000;
        let theirs = self.crowd.get(&request.customer).copied().unwrap_or_default();
        let late = self.is_late(request.created_at, now);
        let crowded = self.live.len() >= MAX_LIVE || theirs >= MAX_LIVE_PER_CUSTOMER;
        admit(
            request,
            &Standing {
                node: &self.tools.speaker.node,
                now,
                not_before: self.rules.first_start_s.max(now.saturating_sub(self.rules.catch_up_s)),
                offered: self.can_do(request),
                open: self.is_open(),
                queue_full: crowded
                    || (!late && self.waiting.fresh() + self.errands.len() >= self.rules.max_queued)
                    || !self.has_room(),
                over_rate: if late {
                    self.rates.past_is_over(&request.customer, request.created_at)
                } else {
                    self.rates.is_over(&request.customer, Purpose::Job, round.now_ms)
                },
                cancelled: round.is_withdrawn(request),
            },
        )
    }

    /// True for a request that was sent before this start, or a while ago.
    pub(super) fn is_late(&self, asked_s: u64, now_s: u64) -> bool {
        asked_s < self.started_s || asked_s + LATE_S < now_s
    }

    fn count_job(&mut self, event: &Event, now_ms: u64) {
        if self.is_late(event.created_at.as_secs(), now_ms / 1000) {
            self.rates.count_past(&event.pubkey, event.created_at.as_secs(), now_ms / 1000, self.rules.catch_up_s);
        } else {
            self.rates.count(&event.pubkey, Purpose::Job, now_ms);
        }
    }

    /// Strangers are held to what was published; a model that serves only known people still serves those. What names this node may be
    /// done by a sister; of what names nobody each node does what it can itself.
    fn can_do(&self, request: &JobRequest) -> bool {
        let (kind, audience) = (request.kind, self.people.audience(&request.customer));
        let possible = self.offered.contains(&kind)
            || (audience.is_known() && self.can_here(kind, audience))
            || (!request.providers.is_empty() && self.can_elsewhere(kind, audience));
        possible && (self.rules.kinds.is_empty() || self.rules.kinds.contains(&kind))
    }

    /// True when a sister node may be the one to answer.
    fn waits_for_its_turn(&self, order: &Order) -> bool {
        let able = |sisters: &Sisters| !sisters.view().able(order.kind(), crowd(order.audience)).is_empty();
        order.is_broadcast() && self.tools.sisters.as_ref().is_some_and(able)
    }

    fn has_room(&self) -> bool {
        self.tools.room.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// A request that cannot be read is answered only where it names this node.
    fn malformed(&self, event: &Event, error: &ParseError) -> Verdict {
        let named = request::providers(event).contains(&self.tools.speaker.node);
        if named && self.is_open() { Verdict::Refuse { reason: error.to_string() } } else { Verdict::Ignore }
    }

    /// Even refusals have a limit: beyond it there is silence.
    fn within_refusals(&mut self, round: &Round, event: &Event, verdict: Verdict) -> Verdict {
        if !matches!(verdict, Verdict::Refuse { .. }) {
            return verdict;
        }
        if self.rates.is_over(&event.pubkey, Purpose::Refusal, round.now_ms) || !self.has_room() {
            return Verdict::Ignore;
        }
        self.rates.count(&event.pubkey, Purpose::Refusal, round.now_ms);
        verdict
    }

    fn order(&self, event: &Event, parsed: Result<JobRequest, ParseError>, came_by: Option<RelayUrl>) -> Order {
        let kind = event.kind.as_u16();
        let audience = self.people.audience(&event.pubkey);
        let sealed = request::is_encrypted(event).then(|| request::cipher_of(&event.content));
        let (work, relays) = match parsed {
            Ok(r) => (Work::Job { kind, inputs: r.inputs, params: r.params, output: r.output }, r.relays),
            Err(_) => (Work::Job { kind, inputs: vec![], params: vec![], output: None }, vec![]),
        };
        Order {
            id: event.id.into(),
            work,
            audience,
            origin: Origin::Nostr { request: Box::new(event.clone()), cipher: sealed, relays, came_by },
            on: None,
        }
    }

    /// Kind 5: stops the customer's own job, or is remembered until it comes.
    fn taken_back(&mut self, round: &mut Round, event: &Event) {
        let over_rate = self.rates.is_over(&event.pubkey, Purpose::Message, round.now_ms);
        self.rates.count(&event.pubkey, Purpose::Message, round.now_ms);
        let ids: Vec<EventId> = event.tags.event_ids().take(MAX_WITHDRAWN).copied().collect();
        for id in ids {
            let job = JobId::from(id);
            let theirs = self.live.get(&job).map(|l| l.order.customer() == Some(event.pubkey));
            match theirs {
                Some(true) => self.apply(round, job, Input::Cancelled),
                Some(false) => {}
                None if over_rate => self.tools.metrics.dropped("over_rate"),
                None => round.stamp.withdrawn.push((id.to_bytes(), event.pubkey.to_hex())),
            }
        }
    }

    fn message(&mut self, round: &mut Round, message: &DirectMessage, came_by: Option<RelayUrl>) {
        let now = round.now_ms / 1000;
        let back_s = self.rules.catch_up_s.max(MESSAGES_BACK_S);
        let is_gone = message.expires_at.is_some_and(|at| at <= now);
        let too_old = is_gone || message.created_at < self.rules.first_start_s.max(now.saturating_sub(back_s));
        let own = message.author == self.tools.speaker.node;
        if own || too_old || !round.is_new(message.id.to_bytes()) || !self.is_open_for_talk() {
            return self.tools.metrics.dropped("duplicate");
        }
        // Known people may have written much while the node was away; nothing of it is dropped.
        let known = self.people.audience(&message.author).is_known();
        if !known && self.rates.is_over(&message.author, Purpose::Message, round.now_ms) {
            return self.tools.metrics.dropped("over_rate");
        }
        self.rates.count(&message.author, Purpose::Message, round.now_ms);
        let claimed = self.claim(round, message);
        let audience = self.people.audience(&message.author);
        let Some(work) = self.work_for(round, message, audience, claimed) else {
            return self.tools.metrics.dropped("stranger");
        };
        let order = Order {
            id: message.id.into(),
            work,
            audience,
            origin: Origin::Message {
                author: message.author,
                came_by,
                lasts_s: message.expires_at.map(|at| at.saturating_sub(message.created_at)),
            },
            on: None,
        };
        self.begin(
            round,
            order,
            Input::Requested { verdict: Verdict::Accept, needs_inputs: false, expires_at_ms: None },
        );
    }

    /// A message in a Matrix room. The door has looked at who wrote it, and how; here it becomes an order, once.
    pub(super) fn written(&mut self, round: &mut Round, incoming: Incoming) {
        let Incoming { room, event, sender, thread, what, .. } = incoming;
        let id = crate::matrix::job_of(&event);
        let audience = self.people.audience_of(&sender);
        let links =
            matches!(&what, What::Text(text) if self.people.awaits_link(&Account::Matrix(sender.clone()), text));
        if !(audience.is_known() || links) || !round.is_new(*id.as_bytes()) || !self.is_open_for_talk() {
            return self.tools.metrics.dropped("duplicate");
        }
        let work = match what {
            What::Text(text) => Work::talk(text),
            What::File(file) => Work::Talk {
                text: file.caption,
                file: Some(Box::new(Attachment {
                    name: file.name,
                    mime: file.mime,
                    is_voice: file.is_voice,
                    place: FilePlace::Matrix(file.source),
                    content: None,
                })),
            },
            What::Reaction(on, mark) => {
                let Some(yes) = consent(&mark) else { return };
                Work::Mark { on, yes }
            }
            What::Refused(why) => Work::Say { text: why.words().to_owned() },
        };
        let order = Order { id, work, audience, origin: Origin::Matrix { room, event, sender, thread }, on: None };
        let requested = Input::Requested { verdict: Verdict::Accept, needs_inputs: false, expires_at_ms: None };
        self.begin(round, order, requested);
    }

    fn is_open_for_talk(&self) -> bool {
        // A superseded install leaves the talk to the one that speaks for the passport now.
        !self.tools.passport.is_superseded()
    }

    fn work_for(
        &mut self,
        round: &mut Round,
        message: &DirectMessage,
        audience: Audience,
        claimed: bool,
    ) -> Option<Work> {
        if claimed {
            return Some(Work::Welcome);
        }
        if audience.is_known() || self.people.awaits_link(&Account::Nostr(message.author), &message.text) {
            return talk(message);
        }
        if message.content != Content::Words {
            return None;
        }
        // Somebody in a crisis is heard whoever they are, and however often they write.
        if self.tools.conscience.check(&message.text).is_some() {
            return Some(Work::talk(message.text.clone()));
        }
        let greeted = self.greeted.get(&message.author).is_some_and(|at| at + GREET_EVERY_MS > round.now_ms);
        if self.greeted.len() >= MAX_GREETED {
            self.greeted.retain(|_, at| *at + GREET_EVERY_MS > round.now_ms);
        }
        if greeted || self.greeted.len() >= MAX_GREETED || !self.has_room() {
            return None;
        }
        self.greeted.insert(message.author, round.now_ms);
        round.stamp.greeted.push(message.author.to_hex());
        Some(Work::Greet)
    }

    /// The first message that carries the claim code makes its sender the owner.
    fn claim(&mut self, round: &mut Round, message: &DirectMessage) -> bool {
        let Some(code) = self.people.claim.clone() else { return false };
        let letters =
            |text: &str| text.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_uppercase();
        if self.people.owner.is_some() || !letters(&message.text).contains(&letters(&code)) {
            return false;
        }
        self.people.claim = None;
        self.people.owner = Some(message.author);
        round.stamp.owner = Some(message.author.to_hex());
        self.tools.new_owner(&self.people);
        true
    }

    /// Says why an order of somebody on this machine cannot be done.
    fn is_possible(&self, order: &Order) -> Result<(), String> {
        let Work::Job { kind, .. } = &order.work else { return Ok(()) };
        let Some(on) = order.on.filter(|on| *on != self.tools.speaker.node) else {
            let is_here = self.can_here(*kind, order.audience);
            if is_here || (order.on.is_none() && self.can_elsewhere(*kind, order.audience)) {
                return Ok(());
            }
            return Err(format!("kind {kind} cannot be done here now; `timmy status` lists what can"));
        };
        let Some(sisters) = &self.tools.sisters else {
            return Err("the federation is switched off, so there is no other node; leave --on out".to_owned());
        };
        if sisters.view().able(*kind, order.audience.into()).contains(&on) {
            return Ok(());
        }
        Err(format!("that node is not there, or cannot do kind {kind}; `timmy peer list` shows who can do what"))
    }

    pub(super) fn submitted(
        &mut self,
        round: &mut Round,
        order: Order,
        listener: mpsc::Sender<Heard>,
    ) -> Result<JobId, String> {
        self.is_possible(&order)?;
        if self.waiting.fresh() + self.errands.len() >= self.rules.max_queued {
            return Err("the queue is full; try again when `timmy job list` is shorter".to_owned());
        }
        let requested =
            Input::Requested { verdict: Verdict::Accept, needs_inputs: order.needs_inputs(), expires_at_ms: None };
        let id = self.begin(round, order, requested);
        if let Some(live) = self.live.get_mut(&id) {
            live.listeners.push(listener);
        }
        Ok(id)
    }
}

/// What a known person's message asks for.
fn talk(message: &DirectMessage) -> Option<Work> {
    Some(match &message.content {
        Content::Words => Work::talk(message.text.clone()),
        Content::Reaction => Work::Mark { on: message.reply_to?.to_hex(), yes: consent(&message.text)? },
        Content::File(file) => {
            let name = file.url.rsplit('/').next().unwrap_or_default();
            let name = name.split(['?', '#']).next().unwrap_or_default().chars().take(120).collect();
            let is_voice = file.mime.as_deref().is_some_and(|mime| mime.starts_with("audio/"));
            let place = FilePlace::Nostr(file.clone());
            let attachment = Attachment { name, mime: file.mime.clone(), is_voice, place, content: None };
            Work::Talk { text: String::new(), file: Some(Box::new(attachment)) }
        }
    })
}

/// What a mark says to a question; most say nothing.
fn consent(mark: &str) -> Option<bool> {
    let mark = mark.trim().trim_end_matches('\u{fe0f}');
    let plain: String = mark.chars().filter(|c| !('\u{1f3fb}'..='\u{1f3ff}').contains(c)).collect();
    match plain.as_str() {
        "+" | "👍" | "✅" | "✔" => Some(true),
        "-" | "👎" | "❌" | "✖" => Some(false),
        _ => None,
    }
}
