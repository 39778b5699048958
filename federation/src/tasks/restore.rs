//! Reading the records back after a restart.

use std::collections::BTreeMap;

use nips::task::TaskId;
use nostr::{Keys, PublicKey};

use super::order::Draft;
use super::types::{Effect, Now, Settings};
use super::{Record, Tasks, WorkId};

/// The last that is known of work for others.
#[derive(Debug)]
enum Left {
    Begun,
    Output { output: String, at: u64 },
}

impl Tasks {
    /// The machine as its records say, and what is to be done at once. `records` are in the order they were written.
    pub fn restore(
        install: Keys,
        passport: PublicKey,
        settings: Settings,
        records: &[Record],
        now: Now,
    ) -> (Self, Vec<Effect>) {
        let mut drafts: BTreeMap<TaskId, Draft> = BTreeMap::new();
        let mut works: BTreeMap<(PublicKey, TaskId), (WorkId, Left)> = BTreeMap::new();
        for record in records {
            match record {
                Record::Opened(submission) => {
                    drafts.insert(submission.task, Draft::new((**submission).clone()));
                }
                Record::Settled { task } => {
                    drafts.remove(task);
                }
                Record::Taken(work) => {
                    works.insert((work.requester, work.attempt.task), (*work, Left::Begun));
                }
                Record::Produced { work, output, at } => {
                    let left = Left::Output { output: output.clone(), at: *at };
                    works.insert((work.requester, work.attempt.task), (*work, left));
                }
                Record::Ended(work) => {
                    works.remove(&(work.requester, work.attempt.task));
                }
                Record::Called(_)
                | Record::Awarded(_)
                | Record::Marked { .. }
                | Record::OwnWork(_)
                | Record::Accepted { .. }
                | Record::Lapsed { .. } => {
                    if let Some(draft) = drafts.get_mut(&record.task()) {
                        draft.add(record);
                    }
                }
            }
        }
        let mut tasks = Self::new(install, passport, settings);
        let out = tasks.with_ctx(now, |tasks, ctx| {
            for (task, draft) in drafts {
                let order = draft.resume(ctx);
                tasks.orders.insert(task, order);
            }
            for (work, left) in works.into_values() {
                match left {
                    Left::Output { output, at } => tasks.works.redeliver(work, &output, at, ctx),
                    Left::Begun => {
                        ctx.journal(Record::Ended(work));
                        ctx.release(work.attempt, work.requester, "the worker's node was restarted", false);
                    }
                }
            }
        });
        let out = tasks.finish(out);
        (tasks, out)
    }
}
