//! What goes into the machine and what comes out.

use nips::task::{
    Ability, Attempt, Envelope, Epoch, Factor, Label, Message, Outcome, Reason, TaskId, Work, open, seal,
};
use nips::{Audience, Msat};
use nostr::{Keys, PublicKey};
use serde::{Deserialize, Serialize};

use super::Record;
use crate::auction::{Ask, Figures};
use crate::lease::Stop;

/// The time. Leases and windows count boottime alone; the wall clock only dates events and ends tasks that have an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// CLOCK_BOOTTIME, ms.
    pub boot_ms: u64,
    /// Unix seconds.
    pub unix_s: u64,
}

/// Signs and seals with the install key.
#[derive(Debug, Clone)]
pub struct Signer(Keys);

impl Signer {
    /// With this install key.
    pub fn new(install: Keys) -> Self {
        Self(install)
    }

    /// The install key.
    pub fn install(&self) -> PublicKey {
        self.0.public_key()
    }

    /// Signs a message, dated now.
    pub fn sign(&self, message: Message, now: Now) -> Envelope {
        Envelope::sign(message, &self.0, now.unix_s)
    }

    pub(crate) fn seal(&self, to: &PublicKey, attempt: &Attempt, text: &str) -> Option<String> {
        seal(&self.0, to, attempt, text).ok()
    }

    pub(crate) fn open(&self, from: &PublicKey, sealed: &str) -> Result<String, nips::task::SealError> {
        open(&self.0, from, sealed)
    }
}

/// A member, as the membership and its peer card say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Party {
    /// Install key.
    pub install: PublicKey,
    /// Passport.
    pub passport: PublicKey,
    /// True for a guest of the federation.
    pub guest: bool,
    /// What its price is divided by: `Reputation::factor` of the passport.
    pub factor: Factor,
}

/// How long things take. [`Settings::default`] is the configuration's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// How long commitments are taken when all bidders are on the LAN, ms; reveals the same (`auction_ms`).
    pub auction_ms: u64,
    /// The same when one is reached by relay only.
    pub relay_auction_ms: u64,
    /// Length of a lease, ms (`lease_s`).
    pub lease_ms: u64,
    /// How long one worker may be on a task in all, ms.
    pub work_ms: u64,
    /// First pause before something is sent again, ms.
    pub resend_ms: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { auction_ms: 400, relay_auction_ms: 4_000, lease_ms: 8_000, work_ms: 15 * 60_000, resend_ms: 500 }
    }
}

/// How bidders are reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reach {
    /// All of them on the LAN.
    Lan,
    /// One of them by relay only: windows are longer.
    Relay,
}

/// A task to be done by somebody. Only work free of outside effects is given here: it may be begun more than once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submission {
    /// Its name: random, and new for each task.
    pub task: TaskId,
    /// What is needed.
    pub ability: Ability,
    /// For whom.
    pub audience: Audience,
    /// With what.
    pub input: String,
    /// True when guests may do it.
    pub guests: bool,
    /// The one passport that is to do it; any member that can when there is none.
    #[serde(default)]
    pub only: Option<PublicKey>,
    /// How bidders are reached.
    pub reach: Reach,
    /// True when this node does it itself if nobody else will.
    pub may_self: bool,
    /// Unix seconds after which nobody wants it.
    pub expires_at: Option<u64>,
    /// False for encrypted jobs, and when the owner does not want labels published.
    pub publish: bool,
}

/// An epoch of a task of some requester: names a run of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct WorkId {
    /// Install key of the requester; this node's own when it works for itself.
    pub requester: PublicKey,
    /// What is run.
    pub attempt: Attempt,
}

/// What happens.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// This node has a task for others.
    Submit(Box<Submission>),
    /// A message came whose signature is checked, from a member (others are dropped before).
    Received {
        /// The message.
        envelope: Envelope,
        /// Its author.
        from: Party,
    },
    /// Answers [`Effect::AskFigures`]; without figures it cannot be done here.
    Figures {
        /// Who asked.
        requester: PublicKey,
        /// For what.
        attempt: Attempt,
        /// What this node knows about itself.
        figures: Option<Figures>,
        /// 32 random bytes that hide the price; new ones each time.
        nonce: [u8; 32],
    },
    /// A worker of this node has an output.
    Done {
        /// Of which run.
        work: WorkId,
        /// It.
        output: String,
    },
    /// A worker of this node gave up.
    Failed {
        /// Which run.
        work: WorkId,
        /// For people.
        word: String,
    },
    /// Liveness thinks that a member is dead. Said on, and nothing is done about it: a lease runs until it expires.
    PeerDead(PublicKey),
    /// Nobody wants this node's task any more.
    Cancel(TaskId),
    /// The driver has dealt with [`Effect::Finished`] or [`Effect::Lapsed`]: the task may be forgotten.
    Settled(TaskId),
    /// Time has passed.
    Timer,
}

/// Why a task has no result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "why", rename_all = "snake_case")]
pub enum Lapse {
    /// Nobody bid, several times over.
    NoBidder,
    /// Several workers had it and none delivered; the last word of one that said why.
    Attempts {
        /// For people.
        word: String,
    },
    /// This node did it itself and failed.
    OwnFailure {
        /// For people.
        word: String,
    },
    /// Its time was over.
    Expired,
    /// It was taken back.
    Cancelled,
    /// Too many tasks are open here; nothing was tried.
    Full,
    /// The input is larger than a payload may be; nothing was tried.
    TooLarge,
}

/// A worker's run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Execution {
    /// Names it in [`Input::Done`] and [`Input::Failed`].
    pub work: WorkId,
    /// What is to be done. The audience of a guest's task is a stranger's.
    pub what: Box<Work>,
    /// Boottime ms at which the worker must have stopped, unless it is extended; `None` for this node's own task.
    pub fence_ms: Option<u64>,
}

/// An accepted result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// The task.
    pub task: TaskId,
    /// The epoch whose result it is.
    pub epoch: Epoch,
    /// The output.
    pub output: String,
    /// Passport of whoever did it.
    pub executed_by: PublicKey,
    /// What was agreed; `None` when the node did it itself.
    pub price: Option<Msat>,
    /// When it was accepted, Unix seconds.
    pub at: u64,
}

/// What is to be done, in this order. Records first: see the module.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Write it down, durably, before what follows.
    Journal(Record),
    /// Tell all members.
    Broadcast(Envelope),
    /// Tell one member, by install key.
    SendTo(PublicKey, Envelope),
    /// Send [`Input::Timer`] at this boottime, ms; replaces the one before.
    WakeAt(u64),
    /// Answer with [`Input::Figures`].
    AskFigures(Ask),
    /// Let a worker begin.
    Execute(Execution),
    /// A run's fence has moved to this boottime, ms.
    Extend(WorkId, u64),
    /// Stop a run at once.
    Stop(WorkId, Stop),
    /// A task of this node is done. Comes again after a restart until [`Input::Settled`].
    Finished(Box<Done>),
    /// A task of this node lapsed. Comes again after a restart until [`Input::Settled`].
    Lapsed(TaskId, Lapse),
    /// Sign this label with the passport, dated `at`; publish it to relays only when `public`. Comes again after a restart, the same.
    Label {
        /// What is said.
        label: Label,
        /// Unix seconds.
        at: u64,
        /// True when it goes to relays.
        public: bool,
    },
    /// Something that people may want to know; nothing depends on it.
    Notice(Notice),
}

/// What people may want to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// A result came that is not taken; its worker was told.
    LateResult {
        /// Of what.
        attempt: Attempt,
        /// Install key of the worker.
        from: PublicKey,
        /// Why.
        reason: Reason,
    },
    /// A member did not do what it had said.
    Marked {
        /// Passport.
        subject: PublicKey,
        /// What it did.
        outcome: Outcome,
        /// With what.
        attempt: Attempt,
    },
    /// A requester changed a set or made an award that does not fit.
    BrokenRules {
        /// Install key.
        requester: PublicKey,
        /// Of what.
        attempt: Attempt,
        /// What it did.
        reason: Reason,
    },
    /// This node's result was accepted.
    Accepted(WorkId),
    /// This node's result was not accepted; without a reason nobody ever answered.
    NotAccepted(WorkId, Option<Reason>),
    /// Liveness thinks that the worker of this task is dead; it has until its lease expires.
    Suspected(TaskId, PublicKey),
}
