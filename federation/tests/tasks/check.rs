//! What must hold at every moment of every run.

use std::collections::{BTreeMap, BTreeSet};

use federation::tasks::{Done, Execution, Input, Lapse, Record, WorkId};
use nips::task::{Attempt, Label, Outcome, TaskId, verify_transcript};
use nostr::{Event, PublicKey};

use crate::world::{Node, World};

#[derive(Debug, Default)]
pub struct Checks {
    finished: BTreeMap<TaskId, Done>,
    lapsed: BTreeMap<TaskId, Lapse>,
    accepted: BTreeSet<TaskId>,
    called: BTreeSet<(PublicKey, Attempt)>,
    pub awards: u32,
    pub executions: u32,
    /// Runs whose fence had passed when their output came.
    too_late: BTreeSet<WorkId>,
}

impl Checks {
    pub fn before(&mut self, node: &Node, input: &Input, boot_ms: u64) {
        // The world drops a run at its fence; an output that comes at the very moment of it is the machine's to refuse.
        if let Input::Done { work, .. } = input
            && node.runs.get(work).is_some_and(|run| run.fence_ms.is_some_and(|fence| boot_ms >= fence))
        {
            self.too_late.insert(*work);
        }
    }

    pub fn record(&mut self, at: usize, node: &Node, record: &Record) {
        match record {
            Record::Called(attempt) | Record::OwnWork(attempt) => {
                assert!(self.called.insert((node.install(), *attempt)), "node {at}: epoch used twice: {attempt:?}");
            }
            Record::Accepted { done, .. } => {
                assert!(self.accepted.insert(done.task), "node {at}: two results accepted for {}", done.task);
                assert!(!self.lapsed.contains_key(&done.task), "node {at}: accepted after it lapsed");
                let newest = self.called.iter().filter(|(who, a)| *who == node.install() && a.task == done.task);
                let newest = newest.map(|(_, attempt)| attempt.epoch).max();
                assert_eq!(newest, Some(done.epoch), "node {at}: a result of an old epoch was accepted");
            }
            Record::Lapsed { task, .. } => {
                assert!(!self.accepted.contains(task), "node {at}: lapsed after it was accepted");
            }
            Record::Awarded(awarded) => {
                self.awards += 1;
                if node.liar.is_none() {
                    let events: Vec<Event> = awarded.transcript.iter().map(|e| e.event().clone()).collect();
                    let verified = verify_transcript(&events).unwrap();
                    assert_eq!((verified.winner, verified.price), (awarded.winner.install, awarded.price));
                    assert_eq!(verified.attempt, awarded.attempt);
                    assert!(verified.left_out.is_empty());
                }
            }
            Record::Produced { work, .. } => {
                assert!(!self.too_late.contains(work), "node {at}: an output was taken after the fence");
            }
            Record::Opened(_)
            | Record::Marked { .. }
            | Record::Settled { .. }
            | Record::Taken(_)
            | Record::Ended(_) => {}
        }
    }

    pub fn finished(&mut self, node: &Node, done: &Done) {
        let first = self.finished.entry(done.task).or_insert_with(|| done.clone());
        assert_eq!(first, done, "two results");
        assert!(self.accepted.contains(&done.task), "said before it was written");
        assert!(node.submitted.contains_key(&done.task));
    }

    pub fn lapsed(&mut self, node: &Node, task: TaskId, why: &Lapse) {
        let first = self.lapsed.entry(task).or_insert_with(|| why.clone());
        assert_eq!(first, why, "lapsed for two reasons");
        assert!(!self.finished.contains_key(&task));
        assert!(node.submitted.contains_key(&task));
    }

    pub fn label(&mut self, node: &Node, label: &Label) {
        assert_ne!(label.subject, node.passport, "a node praises itself");
        assert_eq!(label.outcome == Outcome::Done, label.result.is_some());
        let known = node.labels.get(&(label.task, label.subject));
        assert!(known.is_none_or(|known| known == label), "two labels about one subject and task");
    }
}

/// When a requester goes on to another epoch nobody has a lease of an older one: the next could begin at any moment.
pub fn free(world: &World, node: usize, next: Attempt) {
    if world.nodes[node].liar.is_some() {
        return;
    }
    let requester = world.nodes[node].install();
    for (other, peer) in world.nodes.iter().enumerate().filter(|(_, peer)| peer.liar.is_none()) {
        let boot_ms = peer.boot_ms(world.now);
        for (work, run) in &peer.runs {
            let same = work.requester == requester && work.attempt.task == next.task;
            let live = run.fence_ms.is_none_or(|fence| boot_ms < fence);
            assert!(!(same && live), "node {node} goes on to {next:?} while node {other} is on {:?}", work.attempt);
        }
    }
}

/// What a worker's output looks like in this world.
pub fn output(input: &str, node: usize, attempt: Attempt) -> String {
    format!("{input} by {node} in {}", attempt.epoch)
}

/// The accepted output is the one that the named worker made in the named epoch; liars may make what they like.
pub fn genuine(world: &World, node: usize, done: &Done) {
    let attempt = Attempt { task: done.task, epoch: done.epoch };
    let input = &world.nodes[node].submitted[&done.task].input;
    let mut workers = (0..world.nodes.len()).filter(|at| world.nodes[*at].passport == done.executed_by);
    let made = |at: usize| world.nodes[at].liar.is_some() || done.output == output(input, at, attempt);
    assert!(workers.any(made), "node {node}: {done:?} is nobody's work");
}

/// One worker at a time, as long as clocks drift less than the margin.
pub fn alone(world: &World, node: usize, execution: &Execution) {
    let work = execution.work;
    let honest = world.index(work.requester).is_some_and(|requester| world.nodes[requester].liar.is_none());
    for (other, peer) in world.nodes.iter().enumerate() {
        let boot_ms = peer.boot_ms(world.now);
        let live = peer.runs.iter().filter(|(_, run)| run.fence_ms.is_none_or(|fence| boot_ms < fence));
        for (running, _) in live {
            let same = running.requester == work.requester && running.attempt.task == work.attempt.task;
            let (task, old, new) = (work.attempt.task, running.attempt.epoch, work.attempt.epoch);
            assert!(!(same && other == node), "node {node} runs two epochs of {task}: {old} and {new}");
            assert!(!(same && honest), "nodes {other} and {node} are both on {task}: epochs {old} and {new}");
        }
    }
}
