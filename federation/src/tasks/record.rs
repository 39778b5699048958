//! What must survive the process.

use nips::Msat;
use nips::task::{Attempt, Envelope, Epoch, Outcome, TaskId};
use nostr::{EventId, PublicKey};
use serde::{Deserialize, Serialize};

use super::{Done, Lapse, Party, Submission, WorkId};

/// One line of the journal. Records are kept in the order they were written; those of a task may be deleted after its `Settled` (as
/// requester) or `Ended` (as worker).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "snake_case")]
pub enum Record {
    /// A task of this node.
    Opened(Box<Submission>),
    /// An epoch begins: the number is never used again.
    Called(Attempt),
    /// An epoch was won. Holds the transcript.
    Awarded(Box<Awarded>),
    /// Something that will be said about a member when the task is over.
    Marked {
        /// The task.
        task: TaskId,
        /// About whom and what.
        mark: Mark,
    },
    /// This node does it itself.
    OwnWork(Attempt),
    /// The one result, and to which event it answers.
    Accepted {
        /// It.
        done: Box<Done>,
        /// The call and the result; `None` when the node did it itself.
        proof: Option<Proof>,
    },
    /// There will be no result.
    Lapsed {
        /// The task.
        task: TaskId,
        /// Why.
        why: Lapse,
        /// Unix seconds.
        at: u64,
    },
    /// The task is dealt with.
    Settled {
        /// It.
        task: TaskId,
    },
    /// Worker: a lease was taken.
    Taken(WorkId),
    /// Worker: there is an output, not accepted yet.
    Produced {
        /// Of what.
        work: WorkId,
        /// It.
        output: String,
        /// Date of the result's events, Unix seconds.
        at: u64,
    },
    /// Worker: over, whatever became of it.
    Ended(WorkId),
}

impl Record {
    /// The task that it is about.
    pub fn task(&self) -> TaskId {
        match self {
            Self::Opened(submission) => submission.task,
            Self::Called(attempt) | Self::OwnWork(attempt) => attempt.task,
            Self::Awarded(awarded) => awarded.attempt.task,
            Self::Marked { task, .. } | Self::Lapsed { task, .. } | Self::Settled { task } => *task,
            Self::Accepted { done, .. } => done.task,
            Self::Taken(work) | Self::Produced { work, .. } | Self::Ended(work) => work.attempt.task,
        }
    }

    /// For whom this node works; `None` when the record is about its own task.
    pub fn requester(&self) -> Option<PublicKey> {
        match self {
            Self::Taken(work) | Self::Produced { work, .. } | Self::Ended(work) => Some(work.requester),
            Self::Opened(_)
            | Self::Called(_)
            | Self::Awarded(_)
            | Self::Marked { .. }
            | Self::OwnWork(_)
            | Self::Accepted { .. }
            | Self::Lapsed { .. }
            | Self::Settled { .. } => None,
        }
    }
}

/// A won epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Awarded {
    /// Which.
    pub attempt: Attempt,
    /// By whom.
    pub winner: Party,
    /// For how much.
    pub price: Msat,
    /// The call.
    pub call: EventId,
    /// Call, commitments, set, reveals, and the award last.
    pub transcript: Vec<Envelope>,
}

impl Awarded {
    /// The signed award.
    pub fn award(&self) -> Option<&Envelope> {
        self.transcript.last()
    }

    /// The epoch.
    pub fn epoch(&self) -> Epoch {
        self.attempt.epoch
    }
}

/// Something about a member, for a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Passport.
    pub subject: PublicKey,
    /// What it did.
    pub outcome: Outcome,
    /// The call of the epoch.
    pub call: EventId,
}

/// What binds a result to its task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// The call of the accepted epoch.
    pub call: EventId,
    /// The first part of the result.
    pub result: EventId,
}
