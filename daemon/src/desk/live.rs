//! A job in memory: its machine and what belongs to it.

use std::collections::BTreeSet;
use std::sync::Arc;

use bots::TaskInput;
use nips::job::{Effect, Input, JobId, Machine, State};
use nostr::PublicKey;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::order::Order;
use super::round::Round;
use super::{Desk, Hand, Heard};
use crate::journal::Step;

/// Jobs that sister nodes have at once: more would wait in their queues.
const MAX_AWAY: usize = 128;

/// A job that is not finished.
pub struct Live {
    pub order: Arc<Order>,
    pub machine: Machine,
    pub steps: u32,
    /// Stops its worker.
    pub cancel: CancellationToken,
    /// Looked-up inputs.
    pub resolved: Option<Arc<Vec<TaskInput>>>,
    /// Who waits on this machine.
    pub listeners: Vec<mpsc::Sender<Heard>>,
    /// It was asked for a while ago: it waits in the backlog.
    pub late: bool,
    /// The sister nodes had it when the process ended.
    pub is_out: bool,
    /// When it is woken, Unix ms.
    pub timer: Option<u64>,
    /// Words still in the outbox: event id and target.
    pub targets: BTreeSet<([u8; 32], String)>,
    /// The answer or the reason, for listeners.
    pub answer: Option<(String, Option<String>)>,
    /// Ids of the memories in it.
    pub memories: Vec<String>,
    /// The sister node that made it.
    pub executed_by: Option<PublicKey>,
}

impl Live {
    /// A job that nothing has happened to.
    pub fn new(order: Order) -> Self {
        Self {
            order: Arc::new(order),
            machine: Machine::new(),
            steps: 0,
            cancel: CancellationToken::new(),
            resolved: None,
            listeners: vec![],
            late: false,
            is_out: false,
            timer: None,
            targets: BTreeSet::new(),
            answer: None,
            memories: vec![],
            executed_by: None,
        }
    }

    /// A job as the journal has it.
    pub fn replayed(order: Order, inputs: &[(u64, Input)]) -> Self {
        let machine = Machine::replay(inputs.iter().map(|(at, input)| (*at, input)));
        let is_out = machine.state() == State::Bidding;
        let steps = u32::try_from(inputs.len()).unwrap_or(u32::MAX);
        Self { machine, late: true, steps, is_out, ..Self::new(order) }
    }

    fn note_answer(&mut self, input: &Input) {
        if let Input::Produced { output, model, executed_by, .. } = input {
            self.answer = Some((output.clone(), model.clone()));
            self.executed_by = *executed_by;
        } else if let Input::WorkFailed { reason, .. } | Input::Unresolvable { reason } = input {
            self.answer = Some((reason.clone(), None));
        }
    }
}

impl Desk {
    /// Lets the machine of `id` handle `input`: the step and the effects go into the round.
    pub(super) fn apply(&mut self, round: &mut Round, id: JobId, input: Input) {
        let Some(live) = self.live.get_mut(&id) else { return };
        let before = live.machine.state();
        let effects = live.machine.handle(&input, round.now_ms);
        if effects.is_empty() && matches!(input, Input::Tick) {
            return;
        }
        live.note_answer(&input);
        let state = live.machine.state();
        if state != before {
            self.tools.metrics.job_state(state);
        }
        round.stamp.steps.push(Step {
            job: id,
            step: live.steps,
            at_ms: round.now_ms,
            input,
            state: state.as_str(),
            done: live.machine.is_done(),
        });
        live.steps += 1;
        for effect in effects {
            self.note_effect(round, id, effect);
        }
    }

    /// Effects on the desk's own memory happen at once; those that leave it wait for the commit.
    fn note_effect(&mut self, round: &mut Round, id: JobId, effect: Effect) {
        match effect {
            Effect::Enqueue { .. } if self.is_errand(id) => self.errands.push_back(id),
            Effect::Enqueue { .. } => {
                if let Some(live) = self.live.get(&id) {
                    self.waiting.push(id, live.machine.crashes(), live.late);
                }
            }
            Effect::Abort { .. } => {
                self.waiting.remove(id);
                self.errands.retain(|queued| *queued != id);
                if let Some(live) = self.live.get(&id) {
                    live.cancel.cancel();
                }
            }
            Effect::WakeAt { at_ms } => {
                self.timers.insert((at_ms, id));
                if let Some(live) = self.live.get_mut(&id) {
                    live.timer = Some(at_ms);
                }
            }
            Effect::Publish if self.nothing_to_send(id) => self.apply(round, id, Input::Settled),
            Effect::Resolve | Effect::SayResult { .. } | Effect::SayError { .. } | Effect::Publish | Effect::Finish => {
                round.effects.push((id, effect));
            }
        }
    }

    fn nothing_to_send(&self, id: JobId) -> bool {
        self.live.get(&id).is_some_and(|l| l.targets.is_empty() && l.machine.state() == State::Delivered)
    }

    /// Gives waiting jobs to free workers; their start is part of this round.
    pub(super) fn fill_slots(&mut self, round: &mut Round) {
        while self.running < self.rules.max_running {
            let suspect = if self.runs_a_suspect() { None } else { self.waiting.next_suspect() };
            let Some(id) = suspect.or_else(|| self.waiting.next()) else { return };
            let Some(live) = self.live.get(&id) else { continue };
            let attempt = live.machine.attempt();
            if live.machine.state() != State::Assigned {
                continue;
            }
            self.apply(round, id, Input::Started { attempt });
            round.starts.push((id, attempt, Hand::Own));
            self.running += 1;
            if suspect.is_some() {
                self.suspect = suspect;
            }
        }
    }

    fn runs_a_suspect(&self) -> bool {
        let suspect = self.suspect.and_then(|id| self.live.get(&id));
        suspect.is_some_and(|live| live.machine.state() == State::Executing)
    }

    /// Gives jobs to the sister nodes; that they are asked is part of this round.
    pub(super) fn send_errands(&mut self, round: &mut Round) {
        while self.away < MAX_AWAY {
            let Some(id) = self.errands.pop_front() else { return };
            let Some(live) = self.live.get(&id) else { continue };
            let attempt = live.machine.attempt();
            if live.machine.state() != State::Assigned {
                continue;
            }
            self.apply(round, id, Input::Called { attempt });
            round.starts.push((id, attempt, Hand::Sister));
            self.away += 1;
        }
    }
}
