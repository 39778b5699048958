//! The life of a job: a total, pure function from inputs to effects.
//!
//! ```text
//!            Requested(Accept)              Resolved         Started           Said(Result)      Settled
//!  (new) ───────────────────────► Received ─────────► Assigned ─────► Executing ──────────► Delivered ────► Settled
//!    │                               │                   │  ▲ │           │ │                   ▲
//!    │ Requested(Refuse…)            │                   │  │ └ Called ─► Bidding ──────────────┘
//!    │                               │                   │  └─ Released ──┘ │ Failed, too many restarts
//!    ▼                               ▼                   ▼                  ▼
//!  Rejected · Cancelled · Expired   Yielded · Cancelled · Expired · Failed  Failed · Cancelled · Expired
//! ```
//!
//! *Received* waits for its inputs (a URL is the worker's business; an event or another job's result is looked up first), and
//! for this node's turn where several sister nodes may answer; *Assigned* waits for a free worker, *Executing* until the answer is
//! written, signed and journaled; *Bidding* the same with a sister node's worker, found by auction; *Delivered* until every
//! relay it goes to has said its last word. `Quoted` and `Funded` (payments) will come between.
//!
//! What the node owes the customer to *say* ([`Slot`]) is part of the state, so a crash between deciding and saying is
//! made good by [`Input::Restarted`]. Effects are named by (job, attempt or slot): carrying one out twice does no harm.

use std::collections::BTreeSet;

use nostr::PublicKey;
use serde::{Deserialize, Serialize};

use super::Verdict;

/// How often a job is started anew after the process died under it. A job that kills the node does not kill it for ever.
pub const MAX_ATTEMPTS: u32 = 5;

/// Where a job stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Nothing has happened.
    #[default]
    New,
    /// Accepted; its inputs are being looked up.
    Received,
    /// Waits for a worker.
    Assigned,
    /// A worker is on it, or its answer is being signed.
    Executing,
    /// The sister nodes have it: it is auctioned, or one of them is on it.
    Bidding,
    /// The signed answer is in the journal and on its way.
    Delivered,
    /// Every target has said its last word.
    Settled,
    /// Not taken.
    Rejected,
    /// Taken, and it could not be done.
    Failed,
    /// Taken back by the customer.
    Cancelled,
    /// Its time was over first.
    Expired,
    /// A sister node answers it.
    Yielded,
}

impl State {
    /// Every state, in the order of the picture.
    pub const ALL: [Self; 12] = [
        Self::New,
        Self::Received,
        Self::Assigned,
        Self::Executing,
        Self::Bidding,
        Self::Delivered,
        Self::Settled,
        Self::Rejected,
        Self::Failed,
        Self::Cancelled,
        Self::Expired,
        Self::Yielded,
    ];

    /// True when nothing can change any more.
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Settled | Self::Rejected | Self::Failed | Self::Cancelled | Self::Expired | Self::Yielded)
    }

    /// The word used in the journal and in `--json`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Received => "received",
            Self::Assigned => "assigned",
            Self::Executing => "executing",
            Self::Bidding => "bidding",
            Self::Delivered => "delivered",
            Self::Settled => "settled",
            Self::Rejected => "rejected",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
            Self::Yielded => "yielded",
        }
    }
}

/// Something that is said to the customer once, signed and journaled before it leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Slot {
    /// The answer.
    Result,
    /// The reason why there is none.
    Error,
}

/// What happened to a job, as the journal keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "input", rename_all = "snake_case")]
pub enum Input {
    /// The request came in and was judged.
    Requested {
        /// The judgement.
        verdict: Verdict,
        /// Inputs must be looked up before it can be worked on.
        needs_inputs: bool,
        /// When nobody wants it any more, Unix ms.
        expires_at_ms: Option<u64>,
    },
    /// Its inputs are at hand.
    Resolved,
    /// Its inputs are not to be had.
    Unresolvable {
        /// Words for the customer.
        reason: String,
    },
    /// A worker has begun.
    Started {
        /// Which attempt.
        attempt: u32,
    },
    /// The sister nodes are asked to do it.
    Called {
        /// Which attempt.
        attempt: u32,
    },
    /// A sister node answers it: this one says nothing.
    Yielded,
    /// The worker has an output; it is not signed yet.
    Produced {
        /// Which attempt.
        attempt: u32,
        /// The output.
        output: String,
        /// The model that made it, if one did.
        model: Option<String>,
        /// The sister node that made it; none when this one did.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        executed_by: Option<PublicKey>,
    },
    /// The worker gave up.
    WorkFailed {
        /// Which attempt.
        attempt: u32,
        /// Words for the customer.
        reason: String,
    },
    /// The node shuts down in order: the attempt does not count.
    Released {
        /// Which attempt.
        attempt: u32,
    },
    /// The words of a slot are signed and in the outbox (the events stand beside this input in the journal).
    Said {
        /// Which slot.
        slot: Slot,
    },
    /// Every target of the result has said its last word.
    Settled,
    /// The customer takes it back.
    Cancelled,
    /// The process starts again with this job unfinished.
    Restarted,
    /// Time has passed.
    Tick,
}

/// What the desk is to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "effect", rename_all = "snake_case")]
pub enum Effect {
    /// Look up the inputs.
    Resolve,
    /// Put it into the queue of the own workers.
    Enqueue {
        /// Which attempt.
        attempt: u32,
    },
    /// Stop the worker, and the model call with it.
    Abort {
        /// Which attempt.
        attempt: u32,
    },
    /// Sign and outbox the answer, dated `at_ms`.
    SayResult {
        /// The output.
        output: String,
        /// The model that made it.
        model: Option<String>,
        /// Unix ms.
        at_ms: u64,
    },
    /// Sign and outbox an error, dated `at_ms`: the same words and date give the same event id however often it is said.
    SayError {
        /// Words for the customer.
        reason: String,
        /// Unix ms.
        at_ms: u64,
    },
    /// Let the outbox go on with what it has for this job.
    Publish,
    /// Send [`Input::Tick`] at `at_ms`.
    WakeAt {
        /// Unix ms.
        at_ms: u64,
    },
    /// The job is over; drop it from memory.
    Finish,
}

/// What is still owed to the customer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Debt {
    Result { output: String, model: Option<String>, at_ms: u64 },
    Error { reason: String, at_ms: u64 },
}

impl Debt {
    fn slot(&self) -> Slot {
        match self {
            Self::Result { .. } => Slot::Result,
            Self::Error { .. } => Slot::Error,
        }
    }

    fn effect(&self) -> Effect {
        match self.clone() {
            Self::Result { output, model, at_ms } => Effect::SayResult { output, model, at_ms },
            Self::Error { reason, at_ms } => Effect::SayError { reason, at_ms },
        }
    }
}

/// The state of one job. `handle` never fails: an input that does not fit the state is ignored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    state: State,
    attempt: u32,
    crashes: u32,
    expires_at_ms: Option<u64>,
    debt: Option<Debt>,
    said: BTreeSet<Slot>,
}

impl Machine {
    /// A job that nothing has happened to.
    pub fn new() -> Self {
        Self::default()
    }

    /// Where the job stands.
    pub const fn state(&self) -> State {
        self.state
    }

    /// The attempt that runs, or ran last; 0 before the first.
    pub const fn attempt(&self) -> u32 {
        self.attempt
    }

    /// How often the process died while a worker was on it.
    pub const fn crashes(&self) -> u32 {
        self.crashes
    }

    /// What is owed to the customer.
    pub fn owes(&self) -> Option<Slot> {
        self.debt.as_ref().map(Debt::slot)
    }

    /// True when nothing can change any more and nothing is owed.
    pub const fn is_done(&self) -> bool {
        self.state.is_terminal() && self.debt.is_none()
    }

    /// Rebuilds a machine from its journal. Effects are dropped: they were carried out, or [`Input::Restarted`] brings them back.
    pub fn replay<'a>(inputs: impl IntoIterator<Item = (u64, &'a Input)>) -> Self {
        let mut machine = Self::new();
        for (at_ms, input) in inputs {
            machine.handle(input, at_ms);
        }
        machine
    }

    /// Takes one input at `now_ms` (Unix ms) and says what is to be done.
    pub fn handle(&mut self, input: &Input, now_ms: u64) -> Vec<Effect> {
        let was_done = self.is_done();
        let mut effects = match input {
            Input::Requested { verdict, needs_inputs, expires_at_ms } => {
                self.requested(verdict, *needs_inputs, *expires_at_ms, now_ms)
            }
            Input::Resolved => self.resolved(),
            Input::Unresolvable { reason } if self.state == State::Received => self.fail(reason, now_ms),
            Input::Started { attempt } => self.started(*attempt, State::Executing),
            Input::Called { attempt } => self.started(*attempt, State::Bidding),
            Input::Yielded if self.state == State::Received => self.enter(State::Yielded),
            Input::Produced { attempt, output, model, .. } => self.produced(*attempt, output, model.as_ref(), now_ms),
            Input::WorkFailed { attempt, reason } if self.is_running(*attempt) => self.fail(reason, now_ms),
            Input::Released { attempt } => self.released(*attempt),
            Input::Said { slot } => self.said(*slot),
            Input::Settled if self.state == State::Delivered => self.enter(State::Settled),
            Input::Cancelled => self.give_up(State::Cancelled),
            Input::Restarted => self.restarted(now_ms),
            Input::Tick => self.tick(now_ms),
            Input::Unresolvable { .. } | Input::WorkFailed { .. } | Input::Settled | Input::Yielded => Vec::new(),
        };
        if self.is_done() && !was_done {
            effects.push(Effect::Finish);
        }
        effects
    }

    fn requested(
        &mut self,
        verdict: &Verdict,
        needs_inputs: bool,
        expires_at_ms: Option<u64>,
        now_ms: u64,
    ) -> Vec<Effect> {
        if self.state != State::New {
            return Vec::new();
        }
        match verdict {
            Verdict::Accept => {
                self.expires_at_ms = expires_at_ms;
                self.state = State::Received;
                let mut effects: Vec<_> = expires_at_ms.map(|at_ms| Effect::WakeAt { at_ms }).into_iter().collect();
                effects.extend(if needs_inputs { vec![Effect::Resolve] } else { self.resolved() });
                effects
            }
            Verdict::Refuse { reason } => {
                self.state = State::Rejected;
                self.owe(Debt::Error { reason: reason.clone(), at_ms: now_ms })
            }
            Verdict::Cancelled => self.enter(State::Cancelled),
            Verdict::Expired => self.enter(State::Expired),
            Verdict::Ignore => self.enter(State::Rejected),
        }
    }

    fn resolved(&mut self) -> Vec<Effect> {
        if self.state != State::Received {
            return Vec::new();
        }
        self.state = State::Assigned;
        self.attempt += 1;
        vec![Effect::Enqueue { attempt: self.attempt }]
    }

    fn started(&mut self, attempt: u32, then: State) -> Vec<Effect> {
        if self.state == State::Assigned && attempt == self.attempt {
            self.state = then;
        }
        Vec::new()
    }

    fn is_running(&self, attempt: u32) -> bool {
        matches!(self.state, State::Executing | State::Bidding) && attempt == self.attempt && self.debt.is_none()
    }

    fn produced(&mut self, attempt: u32, output: &str, model: Option<&String>, now_ms: u64) -> Vec<Effect> {
        if !self.is_running(attempt) {
            return Vec::new();
        }
        self.owe(Debt::Result { output: output.to_owned(), model: model.cloned(), at_ms: now_ms })
    }

    fn released(&mut self, attempt: u32) -> Vec<Effect> {
        if self.is_running(attempt) {
            self.state = State::Assigned;
        }
        Vec::new()
    }

    fn said(&mut self, slot: Slot) -> Vec<Effect> {
        if self.debt.as_ref().map(Debt::slot) != Some(slot) {
            return Vec::new();
        }
        self.debt = None;
        self.said.insert(slot);
        if slot == Slot::Result {
            self.state = State::Delivered;
        }
        vec![Effect::Publish]
    }

    fn restarted(&mut self, now_ms: u64) -> Vec<Effect> {
        if self.state.is_terminal() {
            return self.debt.iter().map(Debt::effect).collect();
        }
        if let Some(debt) = &self.debt {
            return vec![debt.effect()];
        }
        if self.is_over(now_ms) && self.state != State::Delivered {
            return self.give_up(State::Expired);
        }
        let wake = self.expires_at_ms.map(|at_ms| Effect::WakeAt { at_ms });
        let mut effects = match self.state {
            State::Received => vec![Effect::Resolve],
            State::Assigned => vec![Effect::Enqueue { attempt: self.attempt }],
            State::Executing => self.begin_again(now_ms),
            State::Bidding => self.ask_again(),
            State::Delivered => vec![Effect::Publish],
            State::New
            | State::Settled
            | State::Rejected
            | State::Failed
            | State::Cancelled
            | State::Expired
            | State::Yielded => Vec::new(),
        };
        if matches!(self.state, State::Received | State::Assigned) {
            effects.extend(wake);
        }
        effects
    }

    /// The process died while a worker was on it.
    fn begin_again(&mut self, now_ms: u64) -> Vec<Effect> {
        self.crashes += 1;
        if self.crashes >= MAX_ATTEMPTS {
            return self.fail("the node stopped several times while it worked on this job; it was given up", now_ms);
        }
        self.state = State::Assigned;
        self.attempt += 1;
        vec![Effect::Enqueue { attempt: self.attempt }]
    }

    /// The process died while the sister nodes had it: what they do goes on, and is asked for again.
    fn ask_again(&mut self) -> Vec<Effect> {
        self.state = State::Assigned;
        vec![Effect::Enqueue { attempt: self.attempt }]
    }

    fn tick(&mut self, now_ms: u64) -> Vec<Effect> {
        if self.is_over(now_ms) { self.give_up(State::Expired) } else { Vec::new() }
    }

    fn is_over(&self, now_ms: u64) -> bool {
        self.expires_at_ms.is_some_and(|at| at <= now_ms)
    }

    /// Ends a job that is not answered yet, silently; once the answer is owed or on its way it is too late.
    fn give_up(&mut self, end: State) -> Vec<Effect> {
        if self.debt.is_some() {
            return Vec::new();
        }
        match self.state {
            State::Received | State::Assigned | State::Executing | State::Bidding => {
                self.state = end;
                vec![Effect::Abort { attempt: self.attempt }]
            }
            State::New => self.enter(end),
            State::Delivered
            | State::Settled
            | State::Rejected
            | State::Failed
            | State::Cancelled
            | State::Expired
            | State::Yielded => Vec::new(),
        }
    }

    fn fail(&mut self, reason: &str, now_ms: u64) -> Vec<Effect> {
        self.state = State::Failed;
        self.owe(Debt::Error { reason: reason.to_owned(), at_ms: now_ms })
    }

    fn owe(&mut self, debt: Debt) -> Vec<Effect> {
        let effect = debt.effect();
        self.debt = Some(debt);
        vec![effect]
    }

    fn enter(&mut self, state: State) -> Vec<Effect> {
        self.state = state;
        Vec::new()
    }
}
