//! A task read back from its records.

use nips::task::Outcome;
use nostr::PublicKey;

use super::super::record::{Awarded, Proof, Record};
use super::super::types::{Done, Lapse, Submission};
use super::{Ctx, Order, Stage};

/// Where a journaled task stood.
#[derive(Debug)]
enum Stood {
    Between,
    Awarded(Box<Awarded>),
    Own,
    Accepted(Box<Done>, Option<Proof>),
    Lapsed(Lapse, u64),
}

/// A task as it is read back from its records.
#[derive(Debug)]
pub(in crate::tasks) struct Draft {
    order: Order,
    stood: Stood,
    winner: Option<PublicKey>,
}

impl Draft {
    pub fn new(submission: Submission) -> Self {
        Self { order: Order::new(submission), stood: Stood::Between, winner: None }
    }

    pub fn add(&mut self, record: &Record) {
        let order = &mut self.order;
        match record {
            Record::Called(attempt) => {
                order.epoch = attempt.epoch;
                self.stood = Stood::Between;
            }
            Record::Awarded(awarded) => {
                order.awards += 1;
                order.had.insert(awarded.winner.passport);
                self.winner = Some(awarded.winner.install);
                self.stood = Stood::Awarded(awarded.clone());
            }
            Record::Marked { mark, .. } => {
                order.mark(*mark);
                if mark.outcome == Outcome::Broken {
                    self.stood = Stood::Between;
                }
            }
            Record::OwnWork(attempt) => {
                order.epoch = attempt.epoch;
                order.own += 1;
                self.stood = Stood::Own;
            }
            Record::Accepted { done, proof } => self.stood = Stood::Accepted(done.clone(), *proof),
            Record::Lapsed { why, at, .. } => self.stood = Stood::Lapsed(why.clone(), *at),
            Record::Opened(_)
            | Record::Settled { .. }
            | Record::Taken(_)
            | Record::Produced { .. }
            | Record::Ended(_) => {}
        }
    }

    /// Goes on where the task stood.
    pub fn resume(self, ctx: &mut Ctx<'_>) -> Order {
        let Self { mut order, stood, winner } = self;
        order.set_end(ctx.now);
        match stood {
            Stood::Between => order.go_on(ctx),
            // Grants of before the restart last at most one lease from now.
            Stood::Awarded(awarded) => order.lease(&awarded, ctx.settings.lease_ms, ctx),
            Stood::Own => order.own_work(ctx),
            Stood::Accepted(done, proof) => {
                let winner = proof.and(winner);
                order.stage = Stage::Accepted { done, proof, winner };
                order.say_end(ctx);
            }
            Stood::Lapsed(why, at) => {
                order.stage = Stage::Lapsed { why, at };
                order.say_end(ctx);
            }
        }
        order
    }
}
