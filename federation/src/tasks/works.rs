//! What this node does for others: leases that it holds, and results that it still owes.

use std::collections::BTreeMap;

use nips::Audience;
use nips::task::{Act, Attempt, Award, Cargo, Envelope, Reason, TaskId};
use nostr::PublicKey;

use super::Record;
use super::order::Ctx;
use super::types::{Effect, Execution, Notice, Party, WorkId};
use crate::lease::{self, Holder, MAX_LEASE_MS, MIN_LEASE_MS};

/// Leases and owed results at once. Whoever bids for more than its workers can do is slow, not wrong; beyond this it gives back.
const MAX_WORKS: usize = 64;
/// The same of one requester: what it sends is kept in memory, up to a megabyte each.
const MAX_WORKS_PER_REQUESTER: usize = 16;

#[derive(Debug)]
struct Held {
    holder: Holder,
    guest: bool,
}

/// All leases of a node, one a task of a requester: two epochs of one task never run together.
#[derive(Debug, Default)]
pub(super) struct Works(BTreeMap<(PublicKey, TaskId), Held>);

impl Works {
    /// Takes a lease that was won.
    pub fn take(&mut self, award: &Award, from: &Party, ctx: &mut Ctx<'_>) {
        let (attempt, requester) = (award.attempt, from.install);
        if !(MIN_LEASE_MS..=MAX_LEASE_MS).contains(&award.lease_ms) {
            ctx.refuse(attempt, requester, Reason::BadAward, attempt.epoch);
            return;
        }
        self.superseded(requester, attempt, ctx);
        let of_requester = self.0.keys().filter(|(of, _)| *of == requester).count();
        if self.0.len() >= MAX_WORKS || of_requester >= MAX_WORKS_PER_REQUESTER {
            ctx.release(attempt, requester, "no room", false);
            return;
        }
        let work = WorkId { requester, attempt };
        ctx.journal(Record::Taken(work));
        let resend_ms = ctx.settings.resend_ms;
        let (holder, effects) = Holder::take(attempt, requester, award.lease_ms, resend_ms, ctx.signer, ctx.now);
        self.0.insert((requester, attempt.task), Held { holder, guest: from.guest });
        self.carry_out(work, effects, ctx);
    }

    /// Goes on with the delivery of a journaled output.
    pub fn redeliver(&mut self, work: WorkId, output: &str, at: u64, ctx: &mut Ctx<'_>) {
        let WorkId { requester, attempt } = work;
        let resend_ms = ctx.settings.resend_ms;
        let made = Holder::redeliver(attempt, requester, output, at, resend_ms, ctx.signer, ctx.now);
        let Some((holder, effects)) = made else { return ctx.journal(Record::Ended(work)) };
        self.0.insert((requester, attempt.task), Held { holder, guest: true });
        self.carry_out(work, effects, ctx);
    }

    /// The award of a lease came again. False when there is no such lease.
    pub fn asked(&mut self, requester: PublicKey, attempt: Attempt, ctx: &mut Ctx<'_>) -> bool {
        self.step(requester, attempt, lease::Input::Asked, ctx)
    }

    pub fn act(&mut self, requester: PublicKey, attempt: Attempt, act: &Act, ctx: &mut Ctx<'_>) {
        self.step(requester, attempt, lease::Input::Act(act), ctx);
    }

    pub fn part(&mut self, requester: PublicKey, cargo: &Cargo, ctx: &mut Ctx<'_>) {
        self.step(requester, cargo.attempt, lease::Input::Part(cargo), ctx);
    }

    pub fn refused(&mut self, requester: PublicKey, attempt: Attempt, reason: Reason, ctx: &mut Ctx<'_>) {
        self.step(requester, attempt, lease::Input::Refused(reason), ctx);
    }

    pub fn done(&mut self, work: WorkId, output: &Result<String, String>, ctx: &mut Ctx<'_>) {
        let input = match output {
            Ok(output) => lease::Input::Done(output),
            Err(word) => lease::Input::Failed(word),
        };
        self.step(work.requester, work.attempt, input, ctx);
    }

    /// The requester has signed something about a newer epoch: nothing of an older one can be accepted any more.
    pub fn superseded(&mut self, requester: PublicKey, newer: Attempt, ctx: &mut Ctx<'_>) {
        let Some(held) = self.0.get(&(requester, newer.task)) else { return };
        let old = held.holder.attempt();
        if old.epoch < newer.epoch {
            self.step(requester, old, lease::Input::Superseded, ctx);
        }
    }

    pub fn timer(&mut self, ctx: &mut Ctx<'_>) {
        let due = |held: &&Held| held.holder.deadline_ms() <= ctx.now.boot_ms;
        let due: Vec<WorkId> = self.0.iter().filter(|(_, held)| due(held)).map(work_of).collect();
        for WorkId { requester, attempt } in due {
            self.step(requester, attempt, lease::Input::Timer, ctx);
        }
    }

    pub fn deadline_ms(&self) -> Option<u64> {
        self.0.values().map(|held| held.holder.deadline_ms()).min()
    }

    /// What a worker is on now.
    pub fn executing(&self) -> impl Iterator<Item = WorkId> {
        self.0.iter().filter(|(_, held)| held.holder.is_executing()).map(work_of)
    }

    /// Leases held and results owed.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    fn step(&mut self, requester: PublicKey, attempt: Attempt, input: lease::Input<'_>, ctx: &mut Ctx<'_>) -> bool {
        let Some(held) = self.0.get_mut(&(requester, attempt.task)) else { return false };
        if held.holder.attempt() != attempt {
            return false;
        }
        let effects = held.holder.handle(input, ctx.signer, ctx.now);
        self.carry_out(WorkId { requester, attempt }, effects, ctx);
        true
    }

    fn carry_out(&mut self, work: WorkId, effects: Vec<lease::Effect>, ctx: &mut Ctx<'_>) {
        let key = (work.requester, work.attempt.task);
        for effect in effects {
            match effect {
                lease::Effect::Send(envelope) => self.send(work, envelope, ctx),
                lease::Effect::Execute { work: mut what, fence_ms } => {
                    if self.0.get(&key).is_none_or(|held| held.guest) {
                        what.audience = Audience::Stranger;
                    }
                    ctx.out.push(Effect::Execute(Execution { work, what, fence_ms: Some(fence_ms) }));
                }
                lease::Effect::Extend { fence_ms } => ctx.out.push(Effect::Extend(work, fence_ms)),
                lease::Effect::Stop(stop) => ctx.out.push(Effect::Stop(work, stop)),
                lease::Effect::Produced { output, at } => ctx.journal(Record::Produced { work, output, at }),
                lease::Effect::Accepted => ctx.notice(Notice::Accepted(work)),
                lease::Effect::NotAccepted(reason) => ctx.notice(Notice::NotAccepted(work, reason)),
                lease::Effect::Ended => {
                    self.0.remove(&key);
                    ctx.journal(Record::Ended(work));
                }
            }
        }
    }

    fn send(&self, work: WorkId, envelope: Envelope, ctx: &mut Ctx<'_>) {
        ctx.out.push(Effect::SendTo(work.requester, envelope));
    }
}

fn work_of(((requester, _), held): (&(PublicKey, TaskId), &Held)) -> WorkId {
    WorkId { requester: *requester, attempt: held.holder.attempt() }
}
