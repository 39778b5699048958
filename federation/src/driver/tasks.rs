//! Tasks at work: the machine of [`crate::tasks`] between the carriers, the journal and the node's workers.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use nips::task::{Attempt, Envelope, Message, TaskId};
use nostr::{Event, Keys, PublicKey};
use zeroize::Zeroizing;

use super::clock::BootClock;
use super::core::{Back, Core, TASKS};
use super::host::{HostError, Shelf, TaskEnd, Write};
use super::view::Known;
use crate::auction::Ask;
use crate::keyring::Circle;
use crate::letters::{Item, Urgency};
use crate::membership::Standing;
use crate::reputation::Reputation;
use crate::tasks::{Effect, Input, Now, Party, Reach, Record, Settings, Submission, Tasks};

/// How long what belongs to a task is worth sending, seconds: the longest lease.
pub(super) const TASK_LIFE_S: u64 = 15 * 60;
/// Transcripts of this node's own auctions that are kept.
const MAX_TRANSCRIPTS: usize = 1_000;
/// No auction takes longer, ms.
const MAX_AUCTION_MS: u64 = 60_000;
/// Lists of effects that wait for the disk before nothing more is taken in.
const MAX_WAITING: usize = 256;

/// The rows of one task as requester (`None`), or of one run as worker.
type Rows = BTreeMap<(TaskId, Option<PublicKey>), Vec<(u64, bool)>>;

/// What the loop holds for tasks.
pub(super) struct TaskLoop {
    machine: Tasks,
    clock: BootClock,
    /// When auctions of this node that are under way were called, boottime ms.
    called: BTreeMap<Attempt, u64>,
    /// When the machine wants to be woken, boottime ms.
    wake_ms: Option<u64>,
    /// The number of the next record.
    next: u64,
    /// Records by what they belong to; true for those that hold a transcript.
    rows: Rows,
    /// Transcripts of tasks that are over, oldest first.
    transcripts: VecDeque<(TaskId, Vec<u64>)>,
    /// Effects in turn, with the records that must be written first.
    waiting: VecDeque<(Vec<Write>, Vec<Effect>)>,
}

impl TaskLoop {
    pub fn new(install: Keys, passport: PublicKey, settings: Settings) -> Self {
        Self {
            machine: Tasks::new(install, passport, settings),
            clock: BootClock::default(),
            called: BTreeMap::new(),
            wake_ms: None,
            next: 0,
            rows: BTreeMap::new(),
            transcripts: VecDeque::new(),
            waiting: VecDeque::new(),
        }
    }

    fn now(&self, unix_s: u64) -> Now {
        Now { boot_ms: self.clock.now_ms(), unix_s }
    }

    /// How long until the machine is to be woken.
    pub fn wait(&self) -> Option<std::time::Duration> {
        let wait_ms = self.wake_ms?.saturating_sub(self.clock.now_ms());
        Some(std::time::Duration::from_millis(wait_ms))
    }

    /// Puts effects in line, with what must be written before any of them.
    fn queue(&mut self, effects: Vec<Effect>) {
        let mut writes = Vec::new();
        for effect in &effects {
            if let Effect::Journal(record) = effect {
                writes.extend(self.row(record));
            }
        }
        self.waiting.push_back((writes, effects));
    }

    /// The row that keeps a record. What a record ends is deleted with it.
    fn row(&mut self, record: &Record) -> Vec<Write> {
        let of = (record.task(), record.requester());
        if matches!(record, Record::Settled { .. } | Record::Ended(_)) {
            return self.over(of);
        }
        let number = self.next;
        self.next += 1;
        self.rows.entry(of).or_default().push((number, matches!(record, Record::Awarded(_))));
        let json = serde_json::to_vec(record).unwrap_or_default();
        vec![Write::Put(Shelf::Tasks, number.to_be_bytes().to_vec(), Zeroizing::new(json))]
    }

    /// The rows of what is over are deleted, but for the transcripts; of those the oldest go when there are too many.
    fn over(&mut self, of: (TaskId, Option<PublicKey>)) -> Vec<Write> {
        let rows = self.rows.remove(&of).unwrap_or_default();
        let (kept, gone): (Vec<_>, Vec<_>) = rows.into_iter().partition(|(_, holds_transcript)| *holds_transcript);
        let mut gone: Vec<u64> = gone.into_iter().map(|(number, _)| number).collect();
        if !kept.is_empty() {
            self.transcripts.push_back((of.0, kept.into_iter().map(|(number, _)| number).collect()));
        }
        while self.transcripts.len() > MAX_TRANSCRIPTS {
            gone.extend(self.transcripts.pop_front().into_iter().flat_map(|(_, numbers)| numbers));
        }
        gone.into_iter().map(|number| Write::Delete(Shelf::Tasks, number.to_be_bytes().to_vec())).collect()
    }
}

/// Which party an install is, in this federation.
fn party(install: PublicKey, known: Known, reputation: &Reputation) -> Party {
    Party {
        install,
        passport: known.passport,
        guest: known.standing == Standing::Guest,
        factor: reputation.factor(&known.passport),
    }
}

impl Core {
    /// Takes the tasks up where the journal left them.
    pub async fn load_tasks(&mut self) -> Result<(), HostError> {
        let mut records = Vec::new();
        for (key, bytes) in self.host.load(Shelf::Tasks).await? {
            let number = u64::from_be_bytes(key.try_into().map_err(|_| HostError("a task's key is no number".into()))?);
            let record: Record =
                serde_json::from_slice(&bytes).map_err(|e| HostError(format!("a task cannot be read: {e}")))?;
            self.tasks.next = self.tasks.next.max(number + 1);
            let of = (record.task(), record.requester());
            self.tasks.rows.entry(of).or_default().push((number, matches!(record, Record::Awarded(_))));
            records.push(record);
        }
        // Without the record that opened it a task is over, and what is left of it is its transcript.
        let opened: BTreeSet<TaskId> =
            records.iter().filter(|r| matches!(r, Record::Opened(_))).map(Record::task).collect();
        let mut over: Vec<_> =
            self.tasks.rows.keys().filter(|(t, of)| of.is_none() && !opened.contains(t)).copied().collect();
        over.sort_by_key(|of| self.tasks.rows.get(of).and_then(|rows| rows.first()).map(|(number, _)| *number));
        for of in over {
            let writes = self.tasks.over(of);
            self.keep(writes).await?;
        }
        let now = self.tasks.now(self.now_s());
        let (machine, effects) = Tasks::restore(self.install.clone(), self.me.passport, self.settings, &records, now);
        self.tasks.machine = machine;
        self.tasks.queue(effects);
        Ok(())
    }

    pub async fn task_input(&mut self, input: Input) {
        let now = self.tasks.now(self.now_s());
        let effects = self.tasks.machine.handle(input, now);
        self.tasks.queue(effects);
        self.go_on_with_tasks().await;
    }

    /// The machine is woken when its time has come; what waited for the disk is tried again.
    pub async fn tasks_tick(&mut self) {
        if self.tasks.wake_ms.is_some_and(|at| at <= self.tasks.clock.now_ms()) {
            self.tasks.wake_ms = None;
            self.task_input(Input::Timer).await;
        } else {
            self.go_on_with_tasks().await;
        }
    }

    /// Records first, all of a list at once; only then what they stand for.
    async fn go_on_with_tasks(&mut self) {
        while let Some((writes, effects)) = self.tasks.waiting.pop_front() {
            if let Err(error) = self.keep(writes.clone()).await {
                tracing::warn!(%error, "tasks wait until the journal can be written");
                self.tasks.waiting.push_front((writes, effects));
                return;
            }
            for effect in effects {
                Box::pin(self.task_effect(effect)).await;
            }
        }
    }

    async fn task_effect(&mut self, effect: Effect) {
        match effect {
            Effect::Journal(record) => self.time_auction(&record),
            Effect::Broadcast(envelope) => self.broadcast(envelope.event()).await,
            Effect::SendTo(install, envelope) => self.send_to(&install, &envelope).await,
            Effect::WakeAt(at_ms) => self.tasks.wake_ms = Some(at_ms),
            Effect::AskFigures(ask) => self.ask_figures(ask),
            Effect::Execute(execution) => self.host.execute(execution),
            Effect::Extend(work, fence_ms) => self.host.extend(work, fence_ms),
            Effect::Stop(work, stop) => self.host.stop(work, stop),
            Effect::Finished(done) => self.host.ended(TaskEnd::Done(done)),
            Effect::Lapsed(task, why) => self.host.ended(TaskEnd::Lapsed(task, why)),
            Effect::Label { label, at, public } => self.sign_label(&label, at, public),
            Effect::Notice(notice) => self.host.notice(notice),
        }
    }

    fn time_auction(&mut self, record: &Record) {
        let now_ms = self.tasks.clock.now_ms();
        if let Record::Called(attempt) = record {
            // Those that nobody won are never taken out otherwise.
            self.tasks.called.retain(|_, at| *at + MAX_AUCTION_MS > now_ms);
            self.tasks.called.insert(*attempt, now_ms);
        } else if let Record::Awarded(awarded) = record
            && let Some(at) = self.tasks.called.remove(&awarded.attempt)
        {
            self.host.auctioned(std::time::Duration::from_millis(now_ms.saturating_sub(at)));
        }
    }

    fn ask_figures(&self, ask: Ask) {
        let (host, back) = (self.host.clone(), self.back.clone());
        self.tracker.spawn(async move {
            let figures = host.figures(ask).await;
            let _ = back.send(Back::Figures(ask.requester, ask.attempt, figures)).await;
        });
    }

    pub async fn on_figures(
        &mut self,
        requester: PublicKey,
        attempt: Attempt,
        figures: Option<crate::auction::Figures>,
    ) {
        let nonce = rand::random();
        self.task_input(Input::Figures { requester, attempt, figures, nonce }).await;
    }

    /// To everybody: by gossip, and by letter to those who are reached by relay only.
    pub async fn broadcast(&mut self, event: &Event) {
        self.publish(TASKS, Circle::Everybody, event).await;
        for to in self.by_relay_only() {
            let expires_at = self.now_s() + TASK_LIFE_S;
            self.post(Item { to, envelope: event.clone(), urgency: Urgency::Usual, expires_at }).await;
        }
    }

    async fn send_to(&mut self, install: &PublicKey, envelope: &Envelope) {
        let Some(known) = self.view.install(install) else {
            return tracing::debug!("a message about a task is for nobody who belongs");
        };
        let urgency = match envelope.message() {
            Message::Award(_) | Message::Result(_) => Urgency::Sure,
            Message::Call(_)
            | Message::Commitment(_)
            | Message::Set(_)
            | Message::Reveal(_)
            | Message::Refusal(_)
            | Message::Lease(_)
            | Message::Input(_) => Urgency::Usual,
        };
        let expires_at = self.now_s() + TASK_LIFE_S;
        self.post(Item { to: known.passport, envelope: envelope.event().clone(), urgency, expires_at }).await;
    }

    /// A message about a task came, its signature checked once; it is checked again where it is read.
    pub async fn hear_task(&mut self, event: Event) {
        let Some(known) = self.view.install(&event.pubkey) else { return };
        // While the disk refuses nothing new is taken on; what was said is said again.
        if self.tasks.waiting.len() > MAX_WAITING {
            return;
        }
        let from = party(event.pubkey, known, self.labels.reputation());
        match Envelope::verified(event) {
            Ok(envelope) => self.task_input(Input::Received { envelope, from }).await,
            Err(error) => tracing::debug!(%error, "a message about a task is not taken"),
        }
    }

    /// A task of this node. How bidders are reached is known here.
    pub async fn submit(&mut self, mut submission: Submission) {
        let able = self.view.able(submission.ability.kind(), submission.audience.into());
        let far = self.by_relay_only();
        submission.reach = if able.iter().any(|passport| far.contains(passport)) { Reach::Relay } else { Reach::Lan };
        self.task_input(Input::Submit(Box::new(submission))).await;
    }

    /// Somebody is thought to be dead.
    pub async fn task_peer_dead(&mut self, install: PublicKey) {
        self.task_input(Input::PeerDead(install)).await;
    }

    /// The transcript of a task's newest auction, and whose word it is.
    pub async fn transcript(&mut self, task: TaskId) -> Vec<Event> {
        let seen = self.tasks.machine.transcript(task);
        if !seen.is_empty() {
            return seen;
        }
        let of_rows = self.tasks.rows.get(&(task, None)).into_iter().flatten();
        let kept = of_rows.filter(|(_, holds)| *holds).map(|(number, _)| *number).max();
        let over = self.tasks.transcripts.iter().rev().find(|(of, _)| *of == task);
        let Some(number) = kept.or_else(|| over.and_then(|(_, numbers)| numbers.iter().max().copied())) else {
            return vec![];
        };
        let rows = self.host.load(Shelf::Tasks).await.unwrap_or_default();
        let row = rows.iter().find(|(key, _)| key.as_slice() == number.to_be_bytes());
        match row.and_then(|(_, bytes)| serde_json::from_slice(bytes).ok()) {
            Some(Record::Awarded(awarded)) => awarded.transcript.iter().map(|e| e.event().clone()).collect(),
            _ => vec![],
        }
    }
}
