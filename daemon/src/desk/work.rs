//! What runs beside the desk for a job: looking up inputs, working, speaking. Each task ends by bringing the desk a message.

use std::sync::Arc;
use std::time::Duration;

use bots::conscience::Crisis;
use bots::{Talk, Task, TaskInput, WorkError, converse};
use nips::Audience;
use nips::job::reply::{Feedback, Status};
use nips::job::{Effect, Input, JobId, RESULT_KINDS, Slot, Source};
use nostr::{Event, EventId, Filter, Kind, PublicKey, RelayUrl};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::dictation::Dictation;
use super::lookup;
use super::order::{Order, Origin, Work};
use super::speaker::{Reply, SpeakError};
use super::{Desk, DeskHandle, Hand, Happened, Message, Tools, errand};
use crate::journal::{Word, now_ms};
use crate::sisters::{Errand, Payload, Sisters};

/// Work that is done sooner needs no word that it has begun.
const SAY_PROCESSING_AFTER: Duration = Duration::from_millis(700);
/// Partial results: at most one a second (DESIGN §4).
const PARTIAL_EVERY: Duration = Duration::from_secs(1);
/// How long a passing word is worth anything, seconds.
const PASSING_S: u64 = 600;
/// The longest that one job may take.
const WORK_MAX: Duration = Duration::from_secs(600);
/// How long another job's result is waited for.
const CHAIN_MAX: Duration = Duration::from_secs(600);
/// How often it is looked for.
const CHAIN_LOOK: Duration = Duration::from_secs(2);
/// How long one relay may take to find an event.
const FETCH: Duration = Duration::from_secs(5);
/// Waits between tries while the signer is silent.
const SIGN_RETRY: Duration = Duration::from_secs(5);

const GREETING: &str = "Hello. I am an agent that talks only with its owner and the people they named, so I cannot answer you here. \
     I do take jobs (NIP-90): my kind 31990 event lists them.";

/// One piece of work that runs beside the desk.
pub(super) struct Bench {
    pub(super) tools: Arc<Tools>,
    pub(super) handle: DeskHandle,
    pub(super) order: Arc<Order>,
    pub(super) cancel: CancellationToken,
    hand: Hand,
}

/// What came of a job.
struct Done {
    output: bots::Output,
    /// The sister node that did it.
    by: Option<PublicKey>,
}

impl From<bots::Output> for Done {
    fn from(output: bots::Output) -> Self {
        Self { output, by: None }
    }
}

impl Desk {
    fn bench(&self, id: JobId) -> Option<Bench> {
        let live = self.live.get(&id)?;
        Some(Bench {
            tools: Arc::clone(&self.tools),
            handle: self.handle.clone(),
            order: Arc::clone(&live.order),
            cancel: live.cancel.clone(),
            hand: Hand::Own,
        })
    }

    pub(super) fn start_worker(&mut self, id: JobId, attempt: u32, hand: Hand) {
        let Some(bench) = self.bench(id) else {
            match hand {
                Hand::Own => self.running = self.running.saturating_sub(1),
                Hand::Sister => self.away = self.away.saturating_sub(1),
            }
            return;
        };
        let bench = Bench { hand, ..bench };
        let resolved = self.live.get(&id).and_then(|l| l.resolved.clone());
        self.tools.tracker.spawn(async move {
            crate::crash_point!("worker.executing");
            let happened = bench.work(attempt, resolved).await;
            crate::crash_point!("worker.before-report");
            bench.handle.send(Message::Happened(happened)).await;
        });
    }

    pub(super) fn start_resolver(&self, id: JobId) {
        let Some(bench) = self.bench(id) else { return };
        self.tools.tracker.spawn(async move {
            let found = tokio::select! {
                () = bench.cancel.cancelled() => return,
                () = bench.tools.cancel.cancelled() => return,
                found = bench.resolve_in_turn() => found,
            };
            let happened = match found {
                Ok(None) => Happened::new(id, vec![Input::Yielded]),
                Ok(Some(inputs)) => Happened { resolved: Some(inputs), ..Happened::new(id, vec![Input::Resolved]) },
                Err(reason) => Happened::new(id, vec![Input::Unresolvable { reason }]),
            };
            bench.handle.send(Message::Happened(happened)).await;
        });
    }

    pub(super) fn start_speaker(&self, id: JobId, effect: Effect) {
        let Some(bench) = self.bench(id) else { return };
        self.tools.tracker.spawn(async move {
            loop {
                match bench.speak(&effect).await {
                    Ok((slot, words)) => {
                        let happened = Happened { words, ..Happened::new(id, vec![Input::Said { slot }]) };
                        bench.handle.send(Message::Happened(happened)).await;
                        return;
                    }
                    Err(error) => tracing::warn!(job = %id, %error, "an answer cannot be signed yet"),
                }
                tokio::select! {
                    () = bench.tools.cancel.cancelled() => return,
                    () = tokio::time::sleep(SIGN_RETRY) => {}
                }
            }
        });
    }
}

impl Bench {
    async fn work(&self, attempt: u32, resolved: Option<Arc<Vec<TaskInput>>>) -> Happened {
        let timer = self.tools.metrics.start_task();
        let id = self.order.id;
        let mut happened = Happened { frees: Some(self.hand), ..Happened::new(id, vec![]) };
        let began = std::time::Instant::now();
        match self.carried_out(resolved).await {
            Ok(Done { output, by: executed_by }) => {
                timer.done("ok");
                if self.hand == Hand::Own {
                    self.tools.pace.took(self.order.kind(), began.elapsed());
                }
                let effect =
                    Effect::SayResult { output: output.content.clone(), model: output.model.clone(), at_ms: now_ms() };
                happened.memories = output.memories;
                happened.inputs.push(Input::Produced {
                    attempt,
                    output: output.content,
                    model: output.model,
                    executed_by,
                });
                self.try_speak(&mut happened, &effect).await;
            }
            Err(WorkError::Cancelled) => {
                timer.done("cancelled");
                if let Some(matrix) = &self.tools.matrix {
                    matrix.hush(&self.order).await;
                }
                if self.tools.cancel.is_cancelled() {
                    happened.inputs.push(Input::Released { attempt });
                } else if let (Hand::Sister, Some(sisters)) = (self.hand, &self.tools.sisters) {
                    sisters.take_back(&id).await;
                }
            }
            Err(error) => {
                timer.done("failed");
                let reason = error.to_string();
                let effect = Effect::SayError { reason: reason.clone(), at_ms: now_ms() };
                happened.inputs.push(Input::WorkFailed { attempt, reason });
                self.try_speak(&mut happened, &effect).await;
            }
        }
        happened
    }

    /// Signs at once, so that output and signature share one transaction; if the signer is silent the desk asks again.
    async fn try_speak(&self, happened: &mut Happened, effect: &Effect) {
        if let Ok((slot, words)) = self.speak(effect).await {
            happened.inputs.push(Input::Said { slot });
            happened.words = words;
        }
    }

    async fn speak(&self, effect: &Effect) -> Result<(Slot, Vec<Word>), SpeakError> {
        let speaker = &self.tools.speaker;
        if let Effect::SayResult { output, at_ms, .. } = effect {
            let spoken = speaker.result(&self.order, output, self.told().await, *at_ms).await?;
            if let Some(name) = spoken.name {
                self.name_proposal(output, name).await;
            }
            return Ok((Slot::Result, spoken.words));
        }
        let Effect::SayError { reason, at_ms } = effect else { return Ok((Slot::Error, vec![])) };
        Ok((Slot::Error, speaker.error(&self.order, reason, *at_ms).await?))
    }

    async fn carried_out(&self, resolved: Option<Arc<Vec<TaskInput>>>) -> Result<Done, WorkError> {
        // Conscience first: before any worker or model, whatever the door (DESIGN §7).
        if let Some(crisis) = self.tools.conscience.check(&self.order.words()) {
            return Ok(self.met(&crisis).await.into());
        }
        if let (Hand::Sister, Some(sisters)) = (self.hand, &self.tools.sisters) {
            return self.errand(sisters, resolved).await;
        }
        let (progress, parts) = mpsc::channel(1);
        let work = self.labour(resolved, &progress);
        let watch = self.report(parts);
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => Err(WorkError::Cancelled),
            () = self.tools.cancel.cancelled() => Err(WorkError::Cancelled),
            done = tokio::time::timeout(WORK_MAX, work) => done
                .unwrap_or_else(|_| Err(WorkError::Failed("it took longer than ten minutes".to_owned())))
                .map(Done::from),
            never = watch => match never {},
        }
    }

    /// A sister node does it. How long that may take is the federation's business: it ends by itself.
    async fn errand(&self, sisters: &Sisters, resolved: Option<Arc<Vec<TaskInput>>>) -> Result<Done, WorkError> {
        let Work::Job { kind, params, output, .. } = &self.order.work else { return Err(WorkError::Cancelled) };
        let (_progress, parts) = mpsc::channel(1);
        let work = async {
            let inputs = match resolved {
                Some(inputs) => inputs.as_ref().clone(),
                None => self.resolve().await.map_err(WorkError::BadInput)?,
            };
            let payload = Payload { inputs, params: params.clone(), output: output.clone() };
            let may_self = self.tools.workshop.kinds_for(self.order.audience).contains(kind);
            let submission =
                errand::submission(sisters.task_of(&self.order.id), &self.order, *kind, payload.to_json(), may_self)
                    .ok_or_else(|| WorkError::BadInput(format!("kind {kind} is no job")))?;
            match sisters.errand(submission).await {
                Errand::Done { output, executed_by } => {
                    let by = (executed_by != self.tools.speaker.node).then_some(executed_by);
                    Ok(Done { output: bots::Output::plain(output), by })
                }
                Errand::Failed(why) => Err(WorkError::Failed(why)),
            }
        };
        let watch = self.report(parts);
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => Err(WorkError::Cancelled),
            () = self.tools.cancel.cancelled() => Err(WorkError::Cancelled),
            done = work => done,
            never = watch => match never {},
        }
    }

    async fn labour(
        &self,
        resolved: Option<Arc<Vec<TaskInput>>>,
        progress: &mpsc::Sender<String>,
    ) -> Result<bots::Output, WorkError> {
        match &self.order.work {
            Work::Job { kind, params, output, .. } => {
                let inputs = match resolved {
                    Some(inputs) => inputs.as_ref().clone(),
                    None => self.resolve().await.map_err(WorkError::BadInput)?,
                };
                let task = Task {
                    id: self.order.id.to_string(),
                    kind: *kind,
                    inputs,
                    params: params.clone(),
                    output: output.clone(),
                    audience: self.order.audience,
                };
                self.tools.workshop.run(&task, progress, &self.cancel).await
            }
            Work::Talk { text, file } => self.message(text, file.as_deref(), progress).await,
            Work::Mark { on, yes } => self.marked(on, *yes, progress).await,
            Work::Greet => Ok(bots::Output::plain(GREETING.to_owned())),
            Work::Say { text } => Ok(bots::Output::plain(text.clone())),
            Work::Welcome => Ok(bots::Output::plain(format!(
                "Welcome. You are my owner now; I obey this key. {}",
                bots::Answerer.answer("", &self.facts(), Audience::Owner)
            ))),
        }
    }

    /// Somebody in a crisis is met by rule.
    pub(super) async fn met(&self, crisis: &Crisis) -> bots::Output {
        self.tools.metrics.crisis();
        self.note_crisis().await;
        self.tell_owner().await;
        bots::Output::plain(crisis.answer(self.tools.country.as_deref(), None))
    }

    fn facts(&self) -> bots::NodeFacts {
        bots::NodeFacts { kinds: self.tools.workshop.kinds_for(self.order.audience), ..self.tools.facts.clone() }
    }

    pub(super) async fn talk(
        &self,
        talk: Talk<'_>,
        progress: &mpsc::Sender<String>,
    ) -> Result<bots::Output, WorkError> {
        let (deltas, mut written) = mpsc::channel(16);
        let facts = self.facts();
        let answer = converse(&self.tools.workshop, talk, &facts, Some(&deltas), &self.cancel);
        tokio::pin!(answer);
        let mut so_far = String::new();
        loop {
            tokio::select! {
                done = &mut answer => return self.propose(done?).await,
                Some(delta) = written.recv() => {
                    match delta {
                        bots::Delta::Text(text) => so_far.push_str(&text),
                        bots::Delta::Restart => so_far.clear(),
                    }
                    let _ = progress.try_send(so_far.clone());
                }
            }
        }
    }

    /// Tells the customer that work has begun and, from time to time, how far it is. Never ends.
    async fn report(&self, mut parts: mpsc::Receiver<String>) -> std::convert::Infallible {
        let started = tokio::time::Instant::now();
        let mut next_partial = started + PARTIAL_EVERY;
        let mut dictation = self.dictation().await;
        if matches!(self.order.origin, Origin::Matrix { .. }) {
            // A person sees that it was read, and that somebody types.
            self.pass(Status::Processing, String::new());
        }
        tokio::select! {
            () = tokio::time::sleep(SAY_PROCESSING_AFTER) => self.pass(Status::Processing, String::new()),
            Some(part) = parts.recv() => self.hand_on(part, &mut next_partial, &mut dictation).await,
        }
        while let Some(part) = parts.recv().await {
            self.hand_on(part, &mut next_partial, &mut dictation).await;
        }
        std::future::pending().await
    }

    async fn hand_on(&self, part: String, next_partial: &mut tokio::time::Instant, dictation: &mut Option<Dictation>) {
        self.handle.send(Message::Progress(self.order.id, part.clone())).await;
        if let Some(dictation) = dictation {
            return self.dictate(&part, dictation).await;
        }
        if tokio::time::Instant::now() >= *next_partial {
            *next_partial = tokio::time::Instant::now() + PARTIAL_EVERY;
            self.pass(Status::Partial, part);
        }
    }

    /// Says a passing word beside the work: a slow relay must not hold it up.
    pub(super) fn pass(&self, status: Status, content: String) {
        let (tools, order) = (Arc::clone(&self.tools), Arc::clone(&self.order));
        self.tools.tracker.spawn(async move { say(&tools, &order, status, content).await });
    }

    /// The owner hears of a crisis met in another known person's talk.
    async fn tell_owner(&self) {
        let who = match &self.order.origin {
            Origin::Message { author, .. } => author.to_hex(),
            Origin::Matrix { sender, .. } => sender.clone(),
            Origin::Nostr { .. } | Origin::Local => return,
        };
        if !matches!(self.order.audience, Audience::Person(_)) {
            return;
        }
        let Some(owner) = self.tools.owner() else { return };
        if !self.tools.tell_owner {
            return;
        }
        let text = format!("Somebody who talks with me seems to be in a crisis and was told where to find help: {who}");
        let said = self.tools.speaker.message(&owner, &text, Reply::default(), now_ms()).await;
        let Ok(spoken) = said else { return };
        if self.tools.journal.add_words(spoken.words, now_ms()).await.is_ok() {
            self.tools.outbox.wake();
        }
    }

    /// The inputs; none when a sister node has answered the job.
    async fn resolve_in_turn(&self) -> Result<Option<Vec<TaskInput>>, String> {
        if !self.has_turn().await {
            return Ok(None);
        }
        self.say_at_once();
        self.resolve().await.map(Some)
    }

    async fn resolve(&self) -> Result<Vec<TaskInput>, String> {
        let Work::Job { inputs, .. } = &self.order.work else { return Ok(vec![]) };
        let mut found = Vec::with_capacity(inputs.len());
        for input in inputs {
            found.push(match input {
                Source::Text(text) => TaskInput::Text(text.clone()),
                Source::Url(url) => TaskInput::Url(url.clone()),
                Source::Event { id, relay } => TaskInput::Event(Box::new(self.event(id, relay.as_deref()).await?)),
                Source::Job { id, relay } => TaskInput::Job(Box::new(self.result_of(id, relay.as_deref()).await?)),
            });
        }
        Ok(found)
    }

    async fn event(&self, id: &str, relay: Option<&str>) -> Result<Event, String> {
        let id = EventId::from_hex(id).map_err(|e| e.to_string())?;
        let found = self.find(Filter::new().id(id).limit(1), relay).await;
        found
            .into_iter()
            .find(may_be_shown)
            .ok_or_else(|| format!("the event {id} was not found; add a relay that has it to the `i` tag"))
    }

    /// The result of another job (chaining): it may still be in the making.
    async fn result_of(&self, id: &str, relay: Option<&str>) -> Result<Event, String> {
        let id = EventId::from_hex(id).map_err(|e| e.to_string())?;
        let kinds = RESULT_KINDS.map(Kind::from_u16);
        let filter = Filter::new().event(id).kinds(kinds).limit(5);
        let deadline = tokio::time::Instant::now() + CHAIN_MAX;
        while tokio::time::Instant::now() < deadline {
            let results = self.find(filter.clone(), relay).await;
            let clear = results
                .into_iter()
                .find(|e| nips::job::reply::answered_job(e) == Some(id.into()) && !nips::job::request::is_encrypted(e));
            if let Some(result) = clear {
                return Ok(result);
            }
            tokio::time::sleep(CHAIN_LOOK).await;
        }
        Err(format!("no result of the job {id} was found"))
    }

    /// Looks in our own relay, then at the relay that was hinted at and the owner's.
    async fn find(&self, filter: Filter, relay: Option<&str>) -> Vec<Event> {
        let own = self.tools.server.query(vec![filter.clone()]).await.unwrap_or_default();
        if !own.is_empty() {
            return own;
        }
        let mut relays = lookup::connected(&self.tools.pool, &self.tools.speaker.configured);
        relays.extend(relay.and_then(|url| RelayUrl::parse(url).ok()));
        lookup::ask(&self.tools.pool, &relays, &filter, FETCH).await
    }
}

/// Says a passing word: once, and to nobody later.
async fn say(tools: &Tools, order: &Order, status: Status, content: String) {
    if let (Some(matrix), Origin::Matrix { .. }) = (&tools.matrix, &order.origin) {
        return matrix.pass(tools, order, status, &content).await;
    }
    let now = now_ms();
    let word = Feedback { status, message: None, content, expires_at: Some(now / 1000 + PASSING_S) };
    if let Err(error) = tools.speaker.passing_word(order, &word, now).await {
        tracing::debug!(%error, "a passing word was not said");
    }
}

/// Private events never become a stranger's input, though our relay has them.
fn may_be_shown(event: &Event) -> bool {
    !matches!(event.kind.as_u16(), 4 | 13 | 14 | 1059 | 1060 | 21059)
}
