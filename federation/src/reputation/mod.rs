//! Reputation: what the labels of finished tasks say, folded the same way on every node (`spec/federation-tasks.md`, Reputation).
//!
//! The fold is a function of the *set* of labels: order and repetition do not matter. A label counts once for its (requester, task,
//! subject); a requester that says two different things about one subject and task says nothing. Nobody starts with a good name:
//! a node without labels has none, and weighs less than one that has shown its work.
//!
//! The factor is the expected value of a Beta distribution (A. Jøsang, R. Ismail, "The Beta Reputation System", 2002) with the prior
//! [`PRIOR_GOOD`] : [`PRIOR_BAD`], in whole thousandths. One requester's labels weigh at most [`WEIGHT_PER_REQUESTER`] together, so no
//! single one makes or breaks a name.

use std::collections::{BTreeMap, BTreeSet};

use nips::task::{Factor, Label, LabelError, Outcome, TaskId};
use nostr::{Event, EventId, PublicKey, Timestamp};
use serde::{Deserialize, Serialize};

/// Good work that everybody is thought to have done. A node without labels has the factor 4 : 5.
pub const PRIOR_GOOD: u64 = 4;
/// Bad work that everybody is thought to have done.
pub const PRIOR_BAD: u64 = 1;
/// What one requester's labels about one subject weigh at most.
pub const WEIGHT_PER_REQUESTER: u64 = 50;
/// Labels kept of one requester: its newest, by date and id, which is a function of the set too.
pub const MAX_PER_REQUESTER: usize = 2_000;

/// What labels say about one passport.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Tasks whose result was accepted.
    pub done: u64,
    /// Leases that ran out.
    pub broken: u64,
    /// Bids that were not revealed.
    pub unrevealed: u64,
    /// Requesters that say so.
    pub requesters: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Said {
    at: Timestamp,
    id: EventId,
    task: TaskId,
    subject: PublicKey,
    outcome: Outcome,
}

/// The fold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reputation {
    said: BTreeMap<PublicKey, BTreeSet<Said>>,
}

impl Reputation {
    /// Without a label.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a label after checking its signature. Whether its author is one whose word counts (a member, now or once) is the
    /// caller's to know: others are not to be given here.
    ///
    /// Gives the label that is kept no more for it, which may be itself.
    ///
    /// # Errors
    /// When it is no label, badly signed, or about its own author.
    pub fn add(&mut self, event: &Event) -> Result<Option<EventId>, LabelError> {
        let (requester, label) = Label::verified(event)?;
        let said = self.said.entry(requester).or_default();
        let Label { task, subject, outcome, .. } = label;
        said.insert(Said { at: event.created_at, id: event.id, task, subject, outcome });
        let dropped = if said.len() > MAX_PER_REQUESTER { said.pop_first() } else { None };
        Ok(dropped.map(|label| label.id))
    }

    /// What is said about a passport; `None` when nothing is.
    pub fn record(&self, subject: &PublicKey) -> Option<Record> {
        let counts = self.said.values().map(|said| count(said, subject)).filter(|count| *count != Record::default());
        counts.reduce(|a, b| Record {
            done: a.done + b.done,
            broken: a.broken + b.broken,
            unrevealed: a.unrevealed + b.unrevealed,
            requesters: a.requesters + b.requesters,
        })
    }

    /// What a passport's prices are divided by.
    pub fn factor(&self, subject: &PublicKey) -> Factor {
        let (mut good, mut bad) = (0, 0);
        for said in self.said.values() {
            let Record { done, broken, unrevealed, .. } = count(said, subject);
            let (of_good, of_bad) = (done, broken + unrevealed);
            let all = of_good + of_bad;
            // In thousandths of a label, so that capping many does not round a few away.
            let weight = if all > WEIGHT_PER_REQUESTER { 1_000 * WEIGHT_PER_REQUESTER / all } else { 1_000 };
            good += of_good * weight;
            bad += of_bad * weight;
        }
        let (good, bad) = (good + 1_000 * PRIOR_GOOD, bad + 1_000 * PRIOR_BAD);
        let permille = u16::try_from(1_000 * good / (good + bad)).unwrap_or(1_000);
        Factor::from_permille(permille.max(1)).unwrap_or(Factor::MAX)
    }
}

/// What one requester says about a subject, contradictions left out.
fn count(said: &BTreeSet<Said>, subject: &PublicKey) -> Record {
    let mut tasks: BTreeMap<TaskId, Option<Outcome>> = BTreeMap::new();
    for label in said.iter().filter(|label| label.subject == *subject) {
        let outcome = tasks.entry(label.task).or_insert(Some(label.outcome));
        if *outcome != Some(label.outcome) {
            *outcome = None;
        }
    }
    let mut record = Record::default();
    for outcome in tasks.into_values().flatten() {
        match outcome {
            Outcome::Done => record.done += 1,
            Outcome::Broken => record.broken += 1,
            Outcome::Unrevealed => record.unrevealed += 1,
        }
    }
    record.requesters = u64::from(record != Record::default());
    record
}
