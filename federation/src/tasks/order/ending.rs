//! How a task ends: a result that is accepted, the node's own work, or a word why there is none.

use nips::Msat;
use nips::task::{Attempt, Label, Outcome};

use super::super::record::{Proof, Record};
use super::super::types::{Done, Effect, Execution, Lapse, Party, WorkId};
use super::{Ctx, MAX_OWN, Order, Stage, work_of};

impl Order {
    pub(super) fn accept(&mut self, output: String, winner: Party, price: Msat, proof: Proof, ctx: &mut Ctx<'_>) {
        let attempt = Attempt { task: self.task(), epoch: self.epoch };
        let (executed_by, price, at) = (winner.passport, Some(price), ctx.now.unix_s);
        let done = Box::new(Done { task: self.task(), epoch: self.epoch, output, executed_by, price, at });
        ctx.journal(Record::Accepted { done: done.clone(), proof: Some(proof) });
        ctx.release(attempt, winner.install, "accepted", true);
        self.stage = Stage::Accepted { done, proof: Some(proof), winner: Some(winner.install) };
        self.say_end(ctx);
    }

    pub(super) fn lapse(&mut self, why: Lapse, ctx: &mut Ctx<'_>) {
        let at = ctx.now.unix_s;
        ctx.journal(Record::Lapsed { task: self.task(), why: why.clone(), at });
        self.stage = Stage::Lapsed { why, at };
        self.say_end(ctx);
    }

    /// Says how the task ended, and about whom what; again after each restart.
    pub(super) fn say_end(&mut self, ctx: &mut Ctx<'_>) {
        let (at, proof, worker) = match &self.stage {
            Stage::Accepted { done, proof, .. } => {
                ctx.out.push(Effect::Finished(done.clone()));
                (done.at, *proof, Some(done.executed_by))
            }
            Stage::Lapsed { why, at } => {
                ctx.out.push(Effect::Lapsed(self.task(), why.clone()));
                (*at, None, None)
            }
            Stage::Calling(_) | Stage::Pausing { .. } | Stage::Leased(_) | Stage::Own(_) => return,
        };
        let done = worker.zip(proof).map(|(subject, proof)| Label {
            task: self.task(),
            subject,
            outcome: Outcome::Done,
            request: proof.call,
            result: Some(proof.result),
        });
        let marks = self.marks.values().filter(|mark| Some(mark.subject) != worker).map(|mark| Label {
            task: self.task(),
            subject: mark.subject,
            outcome: mark.outcome,
            request: mark.call,
            result: None,
        });
        // Nobody labels themselves: an own install may have worked for another one of the same passport.
        let labels = done.into_iter().chain(marks).filter(|label| label.subject != ctx.passport);
        let public = self.submission.publish;
        let labels: Vec<Effect> = labels.map(|label| Effect::Label { label, at, public }).collect();
        ctx.out.extend(labels);
    }

    pub(super) fn own_work(&mut self, ctx: &mut Ctx<'_>) {
        if self.own >= MAX_OWN {
            let word = "the node stopped several times while it worked on this".to_owned();
            return self.lapse(Lapse::OwnFailure { word }, ctx);
        }
        self.own += 1;
        self.epoch = self.epoch.next();
        let attempt = Attempt { task: self.task(), epoch: self.epoch };
        ctx.journal(Record::OwnWork(attempt));
        self.stage = Stage::Own(attempt);
        let work = WorkId { requester: ctx.signer.install(), attempt };
        let what = Box::new(work_of(&self.submission));
        ctx.out.push(Effect::Execute(Execution { work, what, fence_ms: None }));
    }

    /// The own worker has an output or gave up.
    pub fn own_done(&mut self, attempt: Attempt, output: Result<String, String>, ctx: &mut Ctx<'_>) {
        if !matches!(self.stage, Stage::Own(own) if own == attempt) {
            return;
        }
        match output {
            Ok(output) => {
                let (executed_by, at) = (ctx.passport, ctx.now.unix_s);
                let done = Done { task: self.task(), epoch: self.epoch, output, executed_by, price: None, at };
                let done = Box::new(done);
                ctx.journal(Record::Accepted { done: done.clone(), proof: None });
                self.stage = Stage::Accepted { done, proof: None, winner: None };
                self.say_end(ctx);
            }
            Err(word) => self.lapse(Lapse::OwnFailure { word }, ctx),
        }
    }
}
