//! One round: messages in, one transaction, effects out.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use nips::JobRequest;
use nips::job::{Effect, Input, JobId, Slot};
use relay::Incoming;
use tokio::sync::oneshot;

use super::order::{Order, Origin};
use super::{Desk, Hand, Happened, Heard, Live, Message, Opens, RETRY};
use crate::journal::{NewJob, Stamp, now_ms};

/// What one round gathers.
pub struct Round {
    pub now_ms: u64,
    pub stamp: Stamp,
    pub effects: Vec<(JobId, Effect)>,
    pub starts: Vec<(JobId, u32, Hand)>,
    pub opens: Opens,
    /// Ids that this round has taken in already.
    pub fresh: HashSet<[u8; 32]>,
    /// Ids that the journal knows.
    pub known: BTreeSet<[u8; 32]>,
    /// Requests that were taken back before they came.
    pub withdrawn: BTreeSet<[u8; 32]>,
    /// Jobs that sister nodes did, and that this round writes down.
    errands_over: Vec<JobId>,
    holds: Vec<Incoming>,
    replies: Vec<(oneshot::Sender<Result<JobId, String>>, JobId)>,
    /// Who hears that a message is written down.
    acknowledged: Vec<oneshot::Sender<()>>,
}

impl Round {
    pub fn new(now_ms: u64) -> Self {
        Self {
            now_ms,
            stamp: Stamp { at_ms: now_ms, ..Stamp::default() },
            effects: vec![],
            starts: vec![],
            opens: vec![],
            fresh: HashSet::new(),
            known: BTreeSet::new(),
            withdrawn: BTreeSet::new(),
            errands_over: vec![],
            holds: vec![],
            replies: vec![],
            acknowledged: vec![],
        }
    }

    /// True when the customer took `request` back before it came, in an earlier round or in this one.
    pub fn is_withdrawn(&self, request: &JobRequest) -> bool {
        let pair = (*request.id.as_bytes(), request.customer.to_hex());
        self.withdrawn.contains(&pair.0) || self.stamp.withdrawn.contains(&pair)
    }

    /// True the first time that `id` comes, in this round and ever.
    pub fn is_new(&mut self, id: [u8; 32]) -> bool {
        !self.known.contains(&id) && self.fresh.insert(id)
    }
}

impl Desk {
    /// Takes `messages`, writes down what follows and does it.
    pub(super) async fn round(&mut self, messages: Vec<Message>) {
        let mut round = Round::new(now_ms());
        self.look_up(&mut round, &messages).await;
        for message in messages {
            self.take(&mut round, message);
        }
        self.ring(&mut round);
        self.finish(round).await;
    }

    async fn look_up(&self, round: &mut Round, messages: &[Message]) {
        let ids: Vec<[u8; 32]> = messages.iter().filter_map(super::intake::looked_up_id).collect();
        let pairs: Vec<_> = messages.iter().filter_map(super::intake::withdrawable).collect();
        if !ids.is_empty() {
            round.known = self.patiently("looking up ids", || self.tools.journal.known(ids.clone())).await;
        }
        if !pairs.is_empty() {
            round.withdrawn =
                self.patiently("looking up requests taken back", || self.tools.journal.withdrawn(pairs.clone())).await;
        }
    }

    /// Tries until the journal answers: nothing may happen that is not written down.
    async fn patiently<T, F>(&self, doing: &str, mut attempt: impl FnMut() -> F) -> T
    where
        F: Future<Output = Result<T, crate::journal::JournalError>>,
    {
        loop {
            match attempt().await {
                Ok(value) => {
                    self.tools.metrics.journal_ok(true);
                    return value;
                }
                Err(crate::journal::JournalError::Closed) => {
                    tracing::error!("the journal has ended; the node stops");
                    self.tools.cancel.cancel();
                    std::future::pending::<()>().await;
                }
                Err(error) => {
                    self.tools.metrics.journal_ok(false);
                    tracing::error!(%error, source = ?std::error::Error::source(&error), doing, "the journal cannot be written; nothing goes on until it can");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    fn take(&mut self, round: &mut Round, message: Message) {
        match message {
            Message::Arrived(mut arrived) => {
                round.holds.extend(arrived.hold.take());
                self.arrived(round, arrived);
            }
            Message::Followed(sequence) => self.followed = self.followed.max(sequence),
            Message::Opened { id, content } => self.opened(round, id, content),
            Message::Submitted { order, listener, reply } => match self.submitted(round, *order, listener) {
                Ok(id) => round.replies.push((reply, id)),
                Err(reason) => drop(reply.send(Err(reason))),
            },
            Message::Happened(happened) => self.happened(round, happened),
            Message::Progress(id, text) => {
                for listener in self.live.get(&id).into_iter().flat_map(|l| &l.listeners) {
                    // A listener that does not keep up misses a part; one place is kept for the end, which brings the whole.
                    if listener.capacity() > 1 {
                        let _ = listener.try_send(Heard::Partial(text.clone()));
                    }
                }
            }
            Message::Written(incoming, written) => {
                self.written(round, *incoming);
                round.acknowledged.push(written);
            }
            Message::Settled(settled) => self.settled(round, settled.event_id.to_bytes(), &settled.target.to_string()),
            Message::Delivered(word, target) => self.settled(round, word, &target),
            Message::Cancel(id, reply) => {
                let before = self.live.get(&id).map(|l| l.machine.state());
                self.apply(round, id, Input::Cancelled);
                let _ = reply.send(before.is_some() && before != self.live.get(&id).map(|l| l.machine.state()));
            }
            Message::Stop { person, but, reply } => {
                let is_theirs =
                    |live: &&Live| person.is_some() && live.order.person() == person && live.order.id != but;
                let theirs: Vec<JobId> = self.live.values().filter(is_theirs).map(|live| live.order.id).collect();
                let mut count = 0;
                for id in theirs {
                    let before = self.live.get(&id).map(|live| live.machine.state());
                    self.apply(round, id, Input::Cancelled);
                    count += usize::from(before != self.live.get(&id).map(|live| live.machine.state()));
                }
                let _ = reply.send(count);
            }
            Message::Offered(kinds) => self.offered = kinds,
        }
    }

    fn happened(&mut self, round: &mut Round, happened: Happened) {
        let id = happened.job;
        match happened.frees {
            Some(Hand::Own) => self.running = self.running.saturating_sub(1),
            Some(Hand::Sister) => self.away = self.away.saturating_sub(1),
            None => {}
        }
        let is_over = |input: &Input| matches!(input, Input::Produced { .. } | Input::WorkFailed { .. });
        if happened.frees == Some(Hand::Sister) && happened.inputs.iter().any(is_over) {
            round.errands_over.push(id);
        }
        let Some(live) = self.live.get_mut(&id) else { return };
        if !happened.memories.is_empty() {
            live.memories = happened.memories;
        }
        if let Some(inputs) = happened.resolved {
            live.resolved = Some(Arc::new(inputs));
        }
        let said = happened.inputs.iter().any(|i| matches!(i, Input::Said { .. }));
        for input in happened.inputs {
            if let Input::Said { slot } = &input {
                // Words count only if they are owed: a job cancelled meanwhile says nothing.
                if self.live.get(&id).and_then(|l| l.machine.owes()) != Some(*slot) {
                    return;
                }
                self.note_words(id, &happened.words, *slot);
                round.stamp.words.extend(happened.words.iter().cloned());
            }
            self.apply(round, id, input);
        }
        if said {
            round.effects.retain(|(job, effect)| {
                *job != id || !matches!(effect, Effect::SayResult { .. } | Effect::SayError { .. })
            });
        }
    }

    fn note_words(&mut self, id: JobId, words: &[crate::journal::Word], slot: Slot) {
        let Some(live) = self.live.get_mut(&id) else { return };
        for word in words {
            if slot == Slot::Result {
                self.spoken.insert(word.id, id);
                live.targets.extend(word.targets.iter().map(|(target, _)| (word.id, target.clone())));
            }
        }
    }

    fn settled(&mut self, round: &mut Round, event: [u8; 32], target: &str) {
        let Some(id) = self.spoken.get(&event).copied() else { return };
        let Some(live) = self.live.get_mut(&id) else { return };
        live.targets.remove(&(event, target.to_owned()));
        if !live.targets.iter().any(|(e, _)| *e == event) {
            self.spoken.remove(&event);
        }
        if live.targets.is_empty() {
            self.apply(round, id, Input::Settled);
        }
    }

    /// Timers that are due.
    fn ring(&mut self, round: &mut Round) {
        while let Some((at, id)) = self.timers.first().copied() {
            if at > round.now_ms {
                return;
            }
            self.timers.pop_first();
            self.apply(round, id, Input::Tick);
        }
    }

    /// Adds a job to the round.
    pub(super) fn begin(&mut self, round: &mut Round, order: Order, requested: Input) -> JobId {
        let id = order.id;
        round.stamp.jobs.push(NewJob {
            id,
            kind: order.kind(),
            customer: order.person().or_else(|| order.customer().map(|k| k.to_hex())),
            order: serde_json::to_string(&order).unwrap_or_default(),
            at_ms: round.now_ms,
        });
        let late = match &order.origin {
            Origin::Nostr { request, .. } => self.is_late(request.created_at.as_secs(), round.now_ms / 1000),
            Origin::Message { .. } | Origin::Matrix { .. } | Origin::Local => false,
        };
        self.admit(Live { late, ..Live::new(order) });
        self.apply(round, id, requested);
        id
    }

    /// Takes a job into memory.
    pub(super) fn admit(&mut self, live: Live) {
        if let Some(customer) = live.order.customer() {
            *self.crowd.entry(customer).or_default() += 1;
        }
        self.live.insert(live.order.id, live);
    }

    /// Writes the round down, then acts.
    pub(super) async fn finish(&mut self, mut round: Round) {
        self.fill_slots(&mut round);
        self.send_errands(&mut round);
        self.note_sequence(&mut round);
        if !round.stamp.is_empty() {
            crate::crash_point!("desk.before-journal");
            let stamp = std::mem::take(&mut round.stamp);
            self.patiently("a round", || self.tools.journal.stamp(stamp.clone())).await;
            crate::crash_point!("desk.after-journal");
        }
        drop(round.holds);
        for (reply, id) in round.replies {
            let _ = reply.send(Ok(id));
        }
        for written in round.acknowledged {
            let _ = written.send(());
        }
        if let (Some(sisters), false) = (&self.tools.sisters, round.errands_over.is_empty()) {
            let sisters = sisters.clone();
            self.tools.tracker.spawn(async move {
                for id in round.errands_over {
                    sisters.settled(&id).await;
                }
            });
        }
        self.tools.pace.set_desk(self.running + self.waiting.len());
        for arrival in round.opens {
            self.open(arrival);
        }
        for (id, attempt, hand) in round.starts {
            self.start_worker(id, attempt, hand);
        }
        for (id, effect) in round.effects {
            self.carry_out(id, effect);
        }
    }

    /// The relay's sequence is written with what it brought; alone, not more than for each thousand events.
    fn note_sequence(&mut self, round: &mut Round) {
        let behind = self.followed.saturating_sub(self.written_sequence);
        if behind > 0 && (!round.stamp.is_empty() || behind >= 1000) {
            round.stamp.relay_sequence = Some(self.followed);
            self.written_sequence = self.followed;
        }
    }

    fn carry_out(&mut self, id: JobId, effect: Effect) {
        match effect {
            Effect::Resolve => self.start_resolver(id),
            Effect::SayResult { .. } | Effect::SayError { .. } => self.start_speaker(id, effect),
            Effect::Publish => {
                crate::crash_point!("desk.before-publish");
                self.tools.outbox.wake();
                if let Some(matrix) = &self.tools.matrix {
                    matrix.wake();
                }
            }
            Effect::Finish => self.forget(id),
            Effect::Enqueue { .. } | Effect::Abort { .. } | Effect::WakeAt { .. } => {}
        }
    }

    fn forget(&mut self, id: JobId) {
        let Some(live) = self.live.remove(&id) else { return };
        if let Some(at) = live.timer {
            self.timers.remove(&(at, id));
        }
        if let Some(customer) = live.order.customer()
            && let Some(count) = self.crowd.get_mut(&customer)
        {
            *count -= 1;
            if *count == 0 {
                self.crowd.remove(&customer);
            }
        }
        // Its answer is in the journal: whoever reads there finds it.
        if live.order.person().is_some() {
            self.tools.talk_grew.notify_one();
        }
        let (output, model) = live.answer.unwrap_or_default();
        for listener in live.listeners {
            let _ = listener.try_send(Heard::Done {
                state: live.machine.state(),
                output: output.clone(),
                model: model.clone(),
                memories: live.memories.clone(),
                executed_by: live.executed_by,
            });
        }
    }
}
