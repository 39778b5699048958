//! One task of this node, from submission to result: auctions and leases in turn, an epoch each.

mod draft;
mod ending;

use std::collections::{BTreeMap, BTreeSet};

use nips::Msat;
use nips::task::{
    Added, Attempt, AudienceClass, Call, Cargo, Envelope, Epoch, Lease, Message, Outcome, Output, Parts, Reason,
    Refusal, SizeClass, TaskId, Work,
};
use nostr::{EventId, PublicKey};

use super::record::{Awarded, Mark, Proof, Record};
use super::types::{Done, Effect, Lapse, Notice, Now, Party, Reach, Settings, Signer, Submission, WorkId};
use crate::auction::{self, Auction, Ending, Won};
use crate::lease::{Grantor, Reply};

/// Epochs of a task that are given to workers: a task that breaks every worker does not go round for ever.
const MAX_AWARDS: u32 = 6;
/// Calls in a row that nobody answers, of a task that nobody ever had: about fifteen seconds.
const MAX_EMPTY: u32 = 5;
/// The same of a task that somebody had, who may come back: about a minute and a half.
const MAX_EMPTY_AFTER: u32 = 14;
/// Times a node begins a task itself: it may be the task that kills it.
const MAX_OWN: u32 = 3;
/// The first pause after a call that nobody answered, ms; it doubles, up to eight times this.
const PAUSE_MS: u64 = 1_000;

pub(in crate::tasks) use draft::Draft;

/// What every step needs, and where its effects go.
pub(super) struct Ctx<'a> {
    pub signer: &'a Signer,
    pub settings: &'a Settings,
    pub passport: PublicKey,
    pub now: Now,
    pub out: Vec<Effect>,
}

impl Ctx<'_> {
    pub fn journal(&mut self, record: Record) {
        self.out.push(Effect::Journal(record));
    }

    pub fn send(&mut self, to: PublicKey, message: Message) {
        let envelope = self.signer.sign(message, self.now);
        self.out.push(Effect::SendTo(to, envelope));
    }

    pub fn notice(&mut self, notice: Notice) {
        self.out.push(Effect::Notice(notice));
    }

    pub fn refuse(&mut self, attempt: Attempt, to: PublicKey, reason: Reason, newest: Epoch) {
        self.send(to, Message::Refusal(Refusal { attempt, to, reason, newest }));
    }

    pub fn release(&mut self, attempt: Attempt, to: PublicKey, word: &str, accepted: bool) {
        self.send(to, Message::Lease(Lease::release(attempt, to, word, accepted)));
    }
}

#[derive(Debug)]
struct Leased {
    grantor: Grantor,
    award: Envelope,
    call: EventId,
    price: Msat,
    parts: Parts,
    first_part: Option<EventId>,
    resend_ms: u64,
    backoff_ms: u64,
    /// Before this the input is not sent again, however often it is asked for.
    input_again_ms: u64,
}

#[derive(Debug)]
enum Stage {
    Calling(Box<Auction>),
    Pausing { until_ms: u64 },
    Leased(Box<Leased>),
    Own(Attempt),
    Accepted { done: Box<Done>, proof: Option<Proof>, winner: Option<PublicKey> },
    Lapsed { why: Lapse, at: u64 },
}

/// One task of this node.
#[derive(Debug)]
pub(super) struct Order {
    submission: Submission,
    epoch: Epoch,
    awards: u32,
    empties: u32,
    own: u32,
    marks: BTreeMap<PublicKey, Mark>,
    /// How often a passport broke a lease of this very task.
    breaks: BTreeMap<PublicKey, u32>,
    /// Passports that had it.
    had: BTreeSet<PublicKey>,
    word: String,
    end_ms: Option<u64>,
    stage: Stage,
}

impl Order {
    fn new(submission: Submission) -> Self {
        Self {
            submission,
            epoch: Epoch(0),
            awards: 0,
            empties: 0,
            own: 0,
            marks: BTreeMap::new(),
            breaks: BTreeMap::new(),
            had: BTreeSet::new(),
            word: String::new(),
            end_ms: None,
            stage: Stage::Pausing { until_ms: 0 },
        }
    }

    /// Writes a new task down and calls it.
    pub fn open(submission: Submission, ctx: &mut Ctx<'_>) -> Self {
        ctx.journal(Record::Opened(Box::new(submission.clone())));
        let mut order = Self::new(submission);
        order.set_end(ctx.now);
        order.go_on(ctx);
        order
    }

    fn set_end(&mut self, now: Now) {
        let left_s = self.submission.expires_at.map(|at| at.saturating_sub(now.unix_s));
        self.end_ms = left_s.map(|left| now.boot_ms.saturating_add(left.saturating_mul(1_000)));
    }

    fn task(&self) -> TaskId {
        self.submission.task
    }

    /// Bytes of its input.
    pub fn input_bytes(&self) -> usize {
        self.submission.input.len()
    }

    fn window_ms(&self, settings: &Settings) -> u64 {
        match self.submission.reach {
            Reach::Lan => settings.auction_ms,
            Reach::Relay => settings.relay_auction_ms,
        }
    }

    /// When it wants [`Order::timer`].
    pub fn deadline_ms(&self) -> Option<u64> {
        let own = match &self.stage {
            Stage::Calling(auction) => auction.deadline_ms(),
            Stage::Pausing { until_ms } => Some(*until_ms),
            Stage::Leased(leased) if leased.grantor.is_held() => Some(leased.grantor.expires_ms()),
            Stage::Leased(leased) => Some(leased.grantor.expires_ms().min(leased.resend_ms)),
            Stage::Own(_) => None,
            Stage::Accepted { .. } | Stage::Lapsed { .. } => return None,
        };
        own.into_iter().chain(self.end_ms).min()
    }

    /// True while there is no result and there may be one.
    pub fn is_open(&self) -> bool {
        !matches!(self.stage, Stage::Accepted { .. } | Stage::Lapsed { .. })
    }

    /// Install key of whoever holds the task.
    pub fn held_by(&self) -> Option<PublicKey> {
        match &self.stage {
            Stage::Leased(leased) => Some(leased.grantor.winner().install),
            Stage::Calling(_)
            | Stage::Pausing { .. }
            | Stage::Own(_)
            | Stage::Accepted { .. }
            | Stage::Lapsed { .. } => None,
        }
    }

    /// Another epoch, or the end.
    fn go_on(&mut self, ctx: &mut Ctx<'_>) {
        if self.end_ms.is_some_and(|end| ctx.now.boot_ms >= end) {
            return self.lapse(Lapse::Expired, ctx);
        }
        if self.awards < MAX_AWARDS {
            return self.call(ctx);
        }
        if self.submission.may_self {
            return self.own_work(ctx);
        }
        self.lapse(Lapse::Attempts { word: self.word.clone() }, ctx);
    }

    fn call(&mut self, ctx: &mut Ctx<'_>) {
        self.epoch = self.epoch.next();
        let attempt = Attempt { task: self.task(), epoch: self.epoch };
        ctx.journal(Record::Called(attempt));
        let call = Call {
            attempt,
            ability: self.submission.ability,
            size: SizeClass::of(self.submission.input.len()),
            audience: AudienceClass::from(self.submission.audience),
            guests: self.submission.guests,
            window_ms: self.window_ms(ctx.settings),
        };
        let (auction, effects) = Auction::open(call, ctx.settings.lease_ms, ctx.signer, ctx.now);
        self.stage = Stage::Calling(Box::new(auction));
        self.auction_says(effects, ctx);
    }

    fn auction_says(&mut self, effects: Vec<auction::Effect>, ctx: &mut Ctx<'_>) {
        for effect in effects {
            match effect {
                auction::Effect::Broadcast(envelope) => ctx.out.push(Effect::Broadcast(envelope)),
                auction::Effect::Ended(Ending::Nobody { unrevealed }) => self.nobody(&unrevealed, ctx),
                auction::Effect::Ended(Ending::Won(won)) => self.won(*won, ctx),
            }
        }
    }

    fn nobody(&mut self, unrevealed: &[Party], ctx: &mut Ctx<'_>) {
        self.mark_unrevealed(unrevealed, ctx);
        if self.submission.may_self {
            return self.own_work(ctx);
        }
        self.empties += 1;
        let (most, why) = match self.awards {
            0 => (MAX_EMPTY, Lapse::NoBidder),
            _ => (MAX_EMPTY_AFTER, Lapse::Attempts { word: self.word.clone() }),
        };
        if self.empties >= most {
            return self.lapse(why, ctx);
        }
        let pause_ms = PAUSE_MS << (self.empties - 1).min(3);
        self.stage = Stage::Pausing { until_ms: ctx.now.boot_ms.saturating_add(pause_ms) };
    }

    fn mark_unrevealed(&mut self, unrevealed: &[Party], ctx: &mut Ctx<'_>) {
        let Stage::Calling(auction) = &self.stage else { return };
        let call = auction.call();
        for party in unrevealed {
            self.say_mark(Mark { subject: party.passport, outcome: Outcome::Unrevealed, call }, ctx);
        }
    }

    fn say_mark(&mut self, mark: Mark, ctx: &mut Ctx<'_>) {
        ctx.journal(Record::Marked { task: self.task(), mark });
        let attempt = Attempt { task: self.task(), epoch: self.epoch };
        ctx.notice(Notice::Marked { subject: mark.subject, outcome: mark.outcome, attempt });
        self.mark(mark);
    }

    fn mark(&mut self, mark: Mark) {
        self.marks.insert(mark.subject, mark);
        if mark.outcome == Outcome::Broken {
            *self.breaks.entry(mark.subject).or_default() += 1;
        }
    }

    fn won(&mut self, won: Won, ctx: &mut Ctx<'_>) {
        self.mark_unrevealed(&won.unrevealed, ctx);
        let Stage::Calling(auction) = &self.stage else { return };
        let attempt = Attempt { task: self.task(), epoch: self.epoch };
        let (call, winner, price) = (auction.call(), won.winner, won.price);
        let awarded = Awarded { attempt, winner, price, call, transcript: won.transcript };
        self.awards += 1;
        self.had.insert(winner.passport);
        self.empties = 0;
        ctx.journal(Record::Awarded(Box::new(awarded.clone())));
        ctx.out.push(Effect::Broadcast(won.award));
        let wait_ms = (ctx.settings.lease_ms / 2).max(2 * self.window_ms(ctx.settings));
        self.lease(&awarded, wait_ms, ctx);
    }

    fn lease(&mut self, awarded: &Awarded, wait_ms: u64, ctx: &mut Ctx<'_>) {
        let Some(award) = awarded.award().cloned() else { return self.go_on(ctx) };
        let Settings { lease_ms, work_ms, .. } = *ctx.settings;
        let now_ms = ctx.now.boot_ms;
        let grantor = Grantor::offer(awarded.attempt, awarded.winner, lease_ms, wait_ms, work_ms, now_ms);
        let backoff_ms = ctx.settings.resend_ms;
        self.stage = Stage::Leased(Box::new(Leased {
            grantor,
            award,
            call: awarded.call,
            price: awarded.price,
            parts: Parts::default(),
            first_part: None,
            resend_ms: now_ms.saturating_add(backoff_ms),
            backoff_ms,
            input_again_ms: now_ms,
        }));
        self.send_award(ctx);
    }

    fn send_award(&mut self, ctx: &mut Ctx<'_>) {
        let Stage::Leased(leased) = &mut self.stage else { return };
        leased.resend_ms = ctx.now.boot_ms.saturating_add(leased.backoff_ms);
        leased.backoff_ms = leased.backoff_ms.saturating_mul(2);
        let to = leased.grantor.winner().install;
        ctx.out.push(Effect::SendTo(to, leased.award.clone()));
        self.send_input(ctx);
    }

    fn send_input(&mut self, ctx: &mut Ctx<'_>) {
        let Stage::Leased(leased) = &mut self.stage else { return };
        if ctx.now.boot_ms < leased.input_again_ms {
            return;
        }
        leased.input_again_ms = ctx.now.boot_ms.saturating_add(ctx.settings.resend_ms);
        let (attempt, to) = (leased.grantor.attempt(), leased.grantor.winner().install);
        let Some(text) = payload(&self.submission) else { return };
        for part in ctx.signer.pack(attempt, to, &text).unwrap_or_default() {
            ctx.send(to, Message::Input(part));
        }
    }

    /// Takes a message about this task that is meant for its requester.
    pub fn received(&mut self, envelope: &Envelope, from: &Party, ctx: &mut Ctx<'_>) {
        match envelope.message() {
            Message::Commitment(_) => self.commitment(envelope, from, ctx),
            Message::Reveal(_) => {
                if let Stage::Calling(auction) = &mut self.stage {
                    let effects = auction.handle(auction::Input::Reveal { envelope }, ctx.signer, ctx.now);
                    self.auction_says(effects, ctx);
                }
            }
            Message::Lease(lease) => self.lease_act(lease, from, ctx),
            Message::Result(cargo) => self.result(envelope, cargo, from, ctx),
            Message::Refusal(refusal) if self.is_holder(refusal.attempt, from) => {
                "the winner refused the award".clone_into(&mut self.word);
                self.go_on(ctx);
            }
            Message::Refusal(_) | Message::Call(_) | Message::Set(_) | Message::Award(_) | Message::Input(_) => {}
        }
    }

    fn commitment(&mut self, envelope: &Envelope, from: &Party, ctx: &mut Ctx<'_>) {
        let Stage::Calling(auction) = &mut self.stage else { return };
        if from.guest && !self.submission.guests || self.submission.only.is_some_and(|only| only != from.passport) {
            return;
        }
        let broken = self.breaks.get(&from.passport).copied().unwrap_or_default();
        let factor = from.factor.halved(broken);
        let had_it = self.had.contains(&from.passport);
        auction.handle(auction::Input::Commitment { envelope, from, factor, had_it }, ctx.signer, ctx.now);
    }

    fn is_holder(&self, attempt: Attempt, from: &Party) -> bool {
        matches!(&self.stage, Stage::Leased(leased)
            if leased.grantor.attempt() == attempt && leased.grantor.winner().install == from.install)
    }

    fn lease_act(&mut self, lease: &Lease, from: &Party, ctx: &mut Ctx<'_>) {
        use nips::task::Act;
        if !self.is_holder(lease.attempt, from) {
            if matches!(lease.act, Act::Accept | Act::Renew { .. }) {
                let reason = self.why_not(lease.attempt);
                ctx.refuse(lease.attempt, from.install, reason, self.epoch);
            }
            return;
        }
        let Stage::Leased(leased) = &mut self.stage else { return };
        match leased.grantor.act(&lease.act, ctx.now.boot_ms) {
            Reply::Grant { turn, again } => {
                let grant = Lease { attempt: lease.attempt, to: from.install, act: Act::Grant { turn } };
                ctx.send(from.install, Message::Lease(grant));
                if again && turn == 0 {
                    self.send_input(ctx);
                }
            }
            Reply::OverTime => ctx.refuse(lease.attempt, from.install, Reason::OverTime, self.epoch),
            Reply::Released => {
                if let Act::Release { word, .. } = &lease.act {
                    self.word.clone_from(word);
                }
                self.go_on(ctx);
            }
            Reply::Nothing => {}
        }
    }

    /// Why something about this attempt is not taken.
    fn why_not(&self, attempt: Attempt) -> Reason {
        if !self.is_open() {
            Reason::Finished
        } else if attempt.epoch == self.epoch {
            Reason::NotWinner
        } else if attempt.epoch < self.epoch {
            Reason::OldEpoch
        } else {
            Reason::UnknownTask
        }
    }

    fn result(&mut self, envelope: &Envelope, cargo: &Cargo, from: &Party, ctx: &mut Ctx<'_>) {
        if !self.is_holder(cargo.attempt, from) {
            return self.late(cargo, from, ctx);
        }
        let Stage::Leased(leased) = &mut self.stage else { return };
        if !leased.parts.wants(cargo) {
            return;
        }
        if cargo.index == 0 {
            leased.first_part = Some(envelope.id());
        }
        leased.grantor.prolong(ctx.now.boot_ms);
        let added = ctx.signer.open(&from.install, &cargo.sealed).map(|text| leased.parts.add(cargo, text));
        let read = match added {
            Ok(Added::More) => return,
            Ok(Added::Whole(text)) => serde_json::from_str::<Output>(&text).ok(),
            Ok(Added::Bad) | Err(_) => None,
        };
        match (read, leased.first_part) {
            (Some(Output { output }), Some(result)) => {
                let (call, winner, price) = (leased.call, *leased.grantor.winner(), leased.price);
                self.accept(output, winner, price, Proof { call, result }, ctx);
            }
            (None, _) | (_, None) => self.bad_result(cargo.attempt, from, ctx),
        }
    }

    /// Not the result of the epoch that counts: its worker is told, once a result.
    fn late(&mut self, cargo: &Cargo, from: &Party, ctx: &mut Ctx<'_>) {
        if cargo.index != 0 {
            return;
        }
        if let Stage::Accepted { done, winner: Some(winner), .. } = &self.stage
            && *winner == from.install
            && done.epoch == cargo.attempt.epoch
        {
            // The word that it was accepted was lost.
            return ctx.release(cargo.attempt, from.install, "accepted", true);
        }
        let reason = self.why_not(cargo.attempt);
        ctx.refuse(cargo.attempt, from.install, reason, self.epoch);
        ctx.notice(Notice::LateResult { attempt: cargo.attempt, from: from.install, reason });
    }

    /// The winner's own signature shows that it does not keep its word.
    fn bad_result(&mut self, attempt: Attempt, from: &Party, ctx: &mut Ctx<'_>) {
        ctx.refuse(attempt, from.install, Reason::BadResult, self.epoch);
        "the result could not be read".clone_into(&mut self.word);
        self.broken(ctx);
        self.go_on(ctx);
    }

    fn broken(&mut self, ctx: &mut Ctx<'_>) {
        let Stage::Leased(leased) = &self.stage else { return };
        let (subject, call) = (leased.grantor.winner().passport, leased.call);
        self.say_mark(Mark { subject, outcome: Outcome::Broken, call }, ctx);
    }

    /// Ends a task that has no result yet.
    pub fn give_up(&mut self, why: Lapse, ctx: &mut Ctx<'_>) {
        match &self.stage {
            Stage::Accepted { .. } | Stage::Lapsed { .. } => return,
            Stage::Leased(leased) => {
                let (attempt, to) = (leased.grantor.attempt(), leased.grantor.winner().install);
                ctx.release(attempt, to, "nobody wants it any more", false);
            }
            Stage::Own(attempt) => {
                let work = WorkId { requester: ctx.signer.install(), attempt: *attempt };
                ctx.out.push(Effect::Stop(work, crate::lease::Stop::Released));
            }
            Stage::Calling(_) | Stage::Pausing { .. } => {}
        }
        self.lapse(why, ctx);
    }

    /// Time has passed.
    pub fn timer(&mut self, ctx: &mut Ctx<'_>) {
        let now_ms = ctx.now.boot_ms;
        if self.is_open() && self.end_ms.is_some_and(|end| now_ms >= end) {
            return self.give_up(Lapse::Expired, ctx);
        }
        match &mut self.stage {
            Stage::Calling(auction) => {
                let effects = auction.handle(auction::Input::Timer, ctx.signer, ctx.now);
                self.auction_says(effects, ctx);
            }
            Stage::Pausing { until_ms } if now_ms >= *until_ms => self.go_on(ctx),
            Stage::Leased(leased) if now_ms >= leased.grantor.expires_ms() => {
                "the worker's lease ran out".clone_into(&mut self.word);
                self.broken(ctx);
                self.go_on(ctx);
            }
            Stage::Leased(leased) if !leased.grantor.is_held() && now_ms >= leased.resend_ms => self.send_award(ctx),
            Stage::Pausing { .. }
            | Stage::Leased(_)
            | Stage::Own(_)
            | Stage::Accepted { .. }
            | Stage::Lapsed { .. } => {}
        }
    }
}

fn work_of(submission: &Submission) -> Work {
    Work { ability: submission.ability, audience: submission.audience, input: submission.input.clone() }
}

/// The text that the winner gets.
pub(super) fn payload(submission: &Submission) -> Option<String> {
    serde_json::to_string(&work_of(submission)).ok()
}
