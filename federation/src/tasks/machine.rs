//! The machine: who of the parts a message or an answer is for.

use std::collections::BTreeMap;

use nips::task::{Act, Attempt, Award, Envelope, Epoch, Lease, MAX_PAYLOAD, Message, Reason, Refusal, TaskId};
use nostr::{Event, Keys, PublicKey};

use super::Record;
use super::order::{Ctx, Order, payload};
use super::types::{Effect, Input, Lapse, Notice, Now, Party, Settings, Signer, Submission, WorkId};
use super::witness::Witness;
use super::works::Works;
use crate::auction::{Bidder, Figures, Verdict};

/// Tasks of this node that are open or not settled. More are refused with a word.
const MAX_ORDERS: usize = 256;
/// Bytes of their inputs together: they are kept in memory.
const MAX_INPUTS: usize = 32 * 1024 * 1024;

/// All tasks of a node, in both roles.
#[derive(Debug)]
pub struct Tasks {
    pub(super) signer: Signer,
    pub(super) passport: PublicKey,
    pub(super) settings: Settings,
    pub(super) orders: BTreeMap<TaskId, Order>,
    bidder: Bidder,
    pub(super) works: Works,
    witness: Witness,
    woken: Option<u64>,
}

impl Tasks {
    /// Without any task, for a node with this install key and passport.
    pub fn new(install: Keys, passport: PublicKey, settings: Settings) -> Self {
        let signer = Signer::new(install);
        Self {
            bidder: Bidder::new(signer.install()),
            signer,
            passport,
            settings,
            orders: BTreeMap::new(),
            works: Works::default(),
            witness: Witness::new(),
            woken: None,
        }
    }

    /// Takes one input and says what is to be done, in order. Never fails: what does not fit is ignored or refused.
    pub fn handle(&mut self, input: Input, now: Now) -> Vec<Effect> {
        if input == Input::Timer {
            self.woken = None;
        }
        let out = self.with_ctx(now, |tasks, ctx| tasks.dispatch(input, ctx));
        self.finish(out)
    }

    /// Tasks of this node without an end.
    pub fn open(&self) -> usize {
        self.orders.values().filter(|order| order.is_open()).count()
    }

    /// Leases held and results owed.
    pub fn working(&self) -> usize {
        self.works.len()
    }

    /// What workers of this node are on for others now.
    pub fn executing(&self) -> Vec<WorkId> {
        self.works.executing().collect()
    }

    /// The events seen of a task's newest auction, for `verify_transcript`.
    pub fn transcript(&mut self, task: TaskId) -> Vec<Event> {
        self.witness.transcript(task)
    }

    pub(super) fn with_ctx(&mut self, now: Now, run: impl FnOnce(&mut Self, &mut Ctx<'_>)) -> Vec<Effect> {
        let (signer, settings) = (self.signer.clone(), self.settings);
        let mut ctx = Ctx { signer: &signer, settings: &settings, passport: self.passport, now, out: Vec::new() };
        run(self, &mut ctx);
        ctx.out
    }

    /// Sees what is broadcast, and says when to come back.
    pub(super) fn finish(&mut self, mut out: Vec<Effect>) -> Vec<Effect> {
        for effect in &out {
            if let Effect::Broadcast(envelope) = effect {
                self.witness.see(envelope);
            }
        }
        let of_orders = self.orders.values().filter_map(Order::deadline_ms).min();
        let wake = of_orders.into_iter().chain(self.works.deadline_ms()).min();
        if let Some(at_ms) = wake
            && self.woken != wake
        {
            out.push(Effect::WakeAt(at_ms));
        }
        self.woken = wake;
        out
    }

    fn dispatch(&mut self, input: Input, ctx: &mut Ctx<'_>) {
        match input {
            Input::Submit(submission) => self.submit(*submission, ctx),
            Input::Received { envelope, from } => self.received(&envelope, &from, ctx),
            Input::Figures { requester, attempt, figures, nonce } => {
                self.figures(requester, attempt, figures, nonce, ctx);
            }
            Input::Done { work, output } => self.worked(work, Ok(output), ctx),
            Input::Failed { work, word } => self.worked(work, Err(word), ctx),
            Input::PeerDead(install) => {
                for (task, _) in self.orders.iter().filter(|(_, order)| order.held_by() == Some(install)) {
                    ctx.notice(Notice::Suspected(*task, install));
                }
            }
            Input::Cancel(task) => {
                if let Some(order) = self.orders.get_mut(&task) {
                    order.give_up(Lapse::Cancelled, ctx);
                }
            }
            Input::Settled(task) => {
                if self.orders.get(&task).is_some_and(|order| !order.is_open()) {
                    self.orders.remove(&task);
                    ctx.journal(Record::Settled { task });
                }
            }
            Input::Timer => self.timer(ctx),
        }
    }

    fn submit(&mut self, submission: Submission, ctx: &mut Ctx<'_>) {
        let task = submission.task;
        if self.orders.contains_key(&task) {
            return;
        }
        let inputs: usize = self.orders.values().map(Order::input_bytes).sum();
        if self.orders.len() >= MAX_ORDERS || inputs + submission.input.len() > MAX_INPUTS {
            return ctx.out.push(Effect::Lapsed(task, Lapse::Full));
        }
        if payload(&submission).is_none_or(|text| text.len() > MAX_PAYLOAD) {
            return ctx.out.push(Effect::Lapsed(task, Lapse::TooLarge));
        }
        let order = Order::open(submission, ctx);
        self.orders.insert(task, order);
    }

    fn timer(&mut self, ctx: &mut Ctx<'_>) {
        let now_ms = ctx.now.boot_ms;
        for order in self.orders.values_mut() {
            if order.deadline_ms().is_some_and(|at| at <= now_ms) {
                order.timer(ctx);
            }
        }
        self.works.timer(ctx);
    }

    fn worked(&mut self, work: WorkId, output: Result<String, String>, ctx: &mut Ctx<'_>) {
        if work.requester != self.signer.install() {
            self.works.done(work, &output, ctx);
        } else if let Some(order) = self.orders.get_mut(&work.attempt.task) {
            order.own_done(work.attempt, output, ctx);
        }
    }

    fn figures(
        &mut self,
        requester: PublicKey,
        attempt: Attempt,
        figures: Option<Figures>,
        nonce: [u8; 32],
        ctx: &mut Ctx<'_>,
    ) {
        let offer = figures.map(|figures| (figures.price(), nonce));
        let Some(commitment) = self.bidder.figures(requester, attempt, offer) else { return };
        let Some((price, nonce)) = offer else { return };
        let envelope = ctx.signer.sign(Message::Commitment(commitment), ctx.now);
        self.bidder.committed(requester, attempt, envelope.id(), price, nonce);
        ctx.out.push(Effect::Broadcast(envelope));
    }

    fn received(&mut self, envelope: &Envelope, from: &Party, ctx: &mut Ctx<'_>) {
        let author = envelope.author();
        let me = self.signer.install();
        if author != from.install || author == me {
            return;
        }
        self.witness.see(envelope);
        match envelope.message() {
            Message::Call(call) => {
                self.works.superseded(author, call.attempt, ctx);
                let ask = self.bidder.call(envelope, call, from);
                ctx.out.extend(ask.map(Effect::AskFigures));
            }
            Message::Commitment(_) | Message::Reveal(_) => {
                if let Some(order) = self.orders.get_mut(&envelope.message().attempt().task) {
                    order.received(envelope, from, ctx);
                }
            }
            Message::Set(set) => {
                let answer = self.bidder.set(envelope, set);
                self.answer_set(answer, ctx);
            }
            Message::Award(award) => self.award(envelope, award, from, ctx),
            Message::Refusal(refusal) if refusal.to == me => self.refused(refusal, envelope, from, ctx),
            Message::Lease(lease) if lease.to == me => self.lease(lease, envelope, from, ctx),
            Message::Input(cargo) if cargo.to == me => self.works.part(author, cargo, ctx),
            Message::Result(cargo) if cargo.to == me => match self.orders.get_mut(&cargo.attempt.task) {
                Some(order) => order.received(envelope, from, ctx),
                None if cargo.index == 0 => unknown(cargo.attempt, from, true, ctx),
                None => {}
            },
            Message::Refusal(_) | Message::Lease(_) | Message::Input(_) | Message::Result(_) => {}
        }
    }

    fn answer_set(&mut self, answer: Option<Message>, ctx: &mut Ctx<'_>) {
        match answer {
            Some(Message::Refusal(refusal)) => {
                let (requester, attempt, reason) = (refusal.to, refusal.attempt, refusal.reason);
                ctx.send(requester, Message::Refusal(refusal));
                ctx.notice(Notice::BrokenRules { requester, attempt, reason });
            }
            Some(reveal) => {
                let envelope = ctx.signer.sign(reveal, ctx.now);
                ctx.out.push(Effect::Broadcast(envelope));
            }
            None => {}
        }
    }

    fn award(&mut self, envelope: &Envelope, award: &Award, from: &Party, ctx: &mut Ctx<'_>) {
        let (attempt, requester) = (award.attempt, from.install);
        match self.bidder.award(envelope, award) {
            Verdict::Won => self.works.take(award, from, ctx),
            Verdict::NotMine => self.works.superseded(requester, attempt, ctx),
            // Whoever holds the lease says so, whatever became of the bid in the meantime.
            Verdict::NoBid | Verdict::Bad if self.works.asked(requester, attempt, ctx) => {}
            Verdict::NoBid => ctx.release(attempt, requester, "no such bid (any more)", false),
            Verdict::Bad => {
                let reason = Reason::BadAward;
                ctx.refuse(attempt, requester, reason, attempt.epoch);
                ctx.notice(Notice::BrokenRules { requester, attempt, reason });
            }
        }
    }

    fn refused(&mut self, refusal: &Refusal, envelope: &Envelope, from: &Party, ctx: &mut Ctx<'_>) {
        self.works.refused(from.install, refusal.attempt, refusal.reason, ctx);
        if let Some(order) = self.orders.get_mut(&refusal.attempt.task) {
            order.received(envelope, from, ctx);
        }
    }

    fn lease(&mut self, lease: &Lease, envelope: &Envelope, from: &Party, ctx: &mut Ctx<'_>) {
        if matches!(lease.act, Act::Grant { .. } | Act::Release { .. }) {
            self.works.act(from.install, lease.attempt, &lease.act, ctx);
        }
        match self.orders.get_mut(&lease.attempt.task) {
            Some(order) => order.received(envelope, from, ctx),
            None if matches!(lease.act, Act::Accept | Act::Renew { .. }) => unknown(lease.attempt, from, false, ctx),
            None => {}
        }
    }
}

/// Somebody works for a task that is not (any more) known here.
fn unknown(attempt: Attempt, from: &Party, result: bool, ctx: &mut Ctx<'_>) {
    let reason = Reason::UnknownTask;
    ctx.refuse(attempt, from.install, reason, Epoch(0));
    if result {
        ctx.notice(Notice::LateResult { attempt, from: from.install, reason });
    }
}
