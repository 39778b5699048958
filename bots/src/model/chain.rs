//! The chain: models in the owner's order, tried one after the other.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nips::Audience;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::types::is_loopback;
use super::window::{self, Ratio, WINDOW_AWAY, WINDOW_HERE, Window};
use super::{
    Breaker, BreakerState, Budget, ChainError, ChatRequest, Clock, Completion, Delta, Model, ModelConfig, ModelError,
    Reply, STRANGER_ANSWER_TOKENS_MAX, STRANGER_PROMPT_BYTES_MAX, Usage, client,
};

/// Pieces on their way from a model to the caller: enough for a burst, few enough that a slow caller slows the model.
const PIECES: usize = 32;
/// The whole of an answer may take so many times the wait for its first token.
const TOTAL_FACTOR: u32 = 5;
/// Offers to strangers are withdrawn when fewer tokens are left than a modest job takes.
const STRANGER_LEFT_MIN: u64 = 512;

/// One model of a chain: what the owner said about it, and the way to ask it.
pub struct Link {
    /// The owner's configuration.
    pub config: ModelConfig,
    /// The client.
    pub model: Arc<dyn Model>,
}

/// How one model is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelHealth {
    /// The owner's name of the model.
    pub name: String,
    /// What the last probe or call found; `None` before the first.
    pub reachable: Option<bool>,
    /// The circuit breaker.
    pub breaker: BreakerState,
    /// Why the last failed call failed.
    pub last_error: Option<String>,
    /// Tokens that strangers used today.
    pub stranger_tokens_today: u64,
    /// The tokens that it takes, as its owner or its server says; else what is supposed.
    pub context_tokens: u64,
    /// What its calls came to since the start.
    pub calls: Calls,
}

/// What the calls of one model came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Calls {
    /// That gave an answer.
    pub answered: u64,
    /// That gave none, by the model's own fault or the request's.
    pub failed: u64,
    /// Until the first word, ms; the newest answers weigh most. None before the first.
    pub first_word_ms: Option<u64>,
    /// Until the last word, ms, in the same way.
    pub last_word_ms: Option<u64>,
    /// Tokens together.
    pub usage: Usage,
}

impl Calls {
    fn answered(&mut self, first_word: Duration, last_word: Duration, usage: Usage) {
        self.answered += 1;
        self.first_word_ms = Some(smoothed(self.first_word_ms, first_word));
        self.last_word_ms = Some(smoothed(self.last_word_ms, last_word));
        self.usage.prompt_tokens = self.usage.prompt_tokens.saturating_add(usage.prompt_tokens);
        self.usage.completion_tokens = self.usage.completion_tokens.saturating_add(usage.completion_tokens);
    }
}

/// A mean in which each new value weighs a quarter.
fn smoothed(mean_ms: Option<u64>, new: Duration) -> u64 {
    let new = u64::try_from(new.as_millis()).unwrap_or(u64::MAX / 4);
    mean_ms.map_or(new, |mean| (mean.saturating_mul(3) + new) / 4)
}

#[derive(Default)]
struct State {
    breaker: Breaker,
    reachable: Option<bool>,
    last_error: Option<String>,
    calls: Calls,
    /// What the server says that the model takes.
    told_window: Option<u64>,
    ratio: Ratio,
}

struct Slot {
    link: Link,
    state: Mutex<State>,
}

/// Models tried in order.
pub struct Chain {
    slots: Vec<Slot>,
    budget: Arc<dyn Budget>,
    clock: Arc<dyn Clock>,
}

/// How one attempt went, seen from the chain.
enum Attempt {
    Done { reply: Reply, first_word: Duration, last_word: Duration },
    Failed { error: ModelError, received: usize },
    Cancelled { received: usize },
}

impl Chain {
    /// Makes a chain of models that are called over HTTP, in the order given.
    pub fn new(models: Vec<ModelConfig>, budget: Arc<dyn Budget>, clock: Arc<dyn Clock>) -> Result<Self, ModelError> {
        let link =
            |config: ModelConfig| -> Result<Link, ModelError> { Ok(Link { model: client(config.clone())?, config }) };
        let links = models.into_iter().map(link).collect::<Result<_, _>>()?;
        Ok(Self::from_links(links, budget, clock))
    }

    /// Makes a chain of any models.
    pub fn from_links(links: Vec<Link>, budget: Arc<dyn Budget>, clock: Arc<dyn Clock>) -> Self {
        let slots = links.into_iter().map(|link| Slot { link, state: Mutex::default() }).collect();
        Self { slots, budget, clock }
    }

    /// The clock that the chain goes by.
    pub fn clock(&self) -> &dyn Clock {
        self.clock.as_ref()
    }

    /// True when at least one model is configured.
    pub fn has_models(&self) -> bool {
        !self.slots.is_empty()
    }

    /// True when a model that serves `audience` was found reachable, is not resting, and (for strangers) has tokens left.
    /// What is offered follows this.
    pub fn can_serve(&self, audience: Audience) -> bool {
        let now = self.clock.monotonic();
        self.slots.iter().filter(|s| s.link.config.serves.covers(audience)).any(|slot| {
            let state = slot.state();
            let half_open = state.breaker.state() == BreakerState::HalfOpen;
            let healthy = state.reachable == Some(true) && (half_open || state.breaker.would_pass(now));
            healthy && (audience.is_known() || self.stranger_tokens_left(slot) >= STRANGER_LEFT_MIN)
        })
    }

    fn stranger_tokens_left(&self, slot: &Slot) -> u64 {
        let used = self.budget.used(&slot.link.config.name, self.clock.unix_day());
        slot.link.config.stranger_tokens_per_day.saturating_sub(used)
    }

    /// True when the owner lets this model see what is remembered; false for one that is no longer there.
    pub fn sees_memory(&self, name: &str) -> bool {
        self.slots.iter().any(|slot| slot.link.config.name == name && slot.link.config.sees_memory)
    }

    /// The health of each model, in order.
    pub fn states(&self) -> Vec<ModelHealth> {
        let day = self.clock.unix_day();
        let health = |slot: &Slot| {
            let used = self.budget.used(&slot.link.config.name, day);
            let state = slot.state();
            ModelHealth {
                name: slot.link.config.name.clone(),
                reachable: state.reachable,
                breaker: state.breaker.state(),
                last_error: state.last_error.clone(),
                stranger_tokens_today: used,
                context_tokens: slot.window(&state).tokens,
                calls: state.calls,
            }
        };
        self.slots.iter().map(health).collect()
    }

    /// Asks each server whether it is there, all at once, and remembers the answers. Takes at most some seconds.
    pub async fn probe(&self) {
        let probes = self.slots.iter().map(|slot| async move {
            let result = slot.link.model.probe().await;
            let mut state = slot.state();
            state.reachable = Some(result.is_ok());
            match result {
                Ok(window) => state.told_window = window.or(state.told_window),
                Err(error) => state.last_error = Some(error.to_string()),
            }
        });
        futures_util::future::join_all(probes).await;
    }

    /// Completes `request` for `audience` by the first model that can. Text goes to `deltas` as it comes; the caller must
    /// keep reading (or drop its end). A stranger's request is capped, and paid from the strangers' budget *before* the call.
    pub async fn complete(
        &self,
        request: &ChatRequest,
        audience: Audience,
        deltas: Option<&mpsc::Sender<Delta>>,
        cancel: &CancellationToken,
    ) -> Result<Completion, ChainError> {
        let request = capped(request, audience)?;
        let mut trail = Trail::default();
        for slot in self.slots.iter().filter(|slot| may_ask(&slot.link.config, &request, audience)) {
            trail.eligible = true;
            if !slot.state().breaker.would_pass(self.clock.monotonic()) {
                continue;
            }
            let request = slot.fitted(&request);
            let Some(mut tab) = self.open_tab(slot, &request, audience) else {
                trail.budget_spent = true;
                continue;
            };
            if !slot.state().breaker.try_pass(self.clock.monotonic()) {
                tab.settle(0);
                continue;
            }
            let mut pass = Pass { slot, clock: self.clock.as_ref(), open: true };
            let attempt = self.attempt(slot, &request, deltas, cancel).await;
            pass.close(&attempt, &request);
            if let Some(result) = trail.take(slot, &request, &mut tab, attempt) {
                return result;
            }
            if trail.streamed
                && let Some(deltas) = deltas
            {
                trail.streamed = false;
                let _ = deltas.send(Delta::Restart).await;
            }
        }
        Err(trail.into_error())
    }

    fn open_tab(&self, slot: &Slot, request: &ChatRequest, audience: Audience) -> Option<Tab<'_>> {
        let mut tab = Tab { budget: self.budget.as_ref(), name: slot.link.config.name.clone(), day: 0, reserved: None };
        if !audience.is_known() {
            let tokens = request.prompt_tokens() + u64::from(request.max_tokens.unwrap_or(STRANGER_ANSWER_TOKENS_MAX));
            tab.day = self.clock.unix_day();
            if !self.budget.reserve(&tab.name, tab.day, tokens, slot.link.config.stranger_tokens_per_day) {
                return None;
            }
            tab.reserved = Some(tokens);
        }
        Some(tab)
    }

    async fn attempt(
        &self,
        slot: &Slot,
        request: &ChatRequest,
        deltas: Option<&mpsc::Sender<Delta>>,
        cancel: &CancellationToken,
    ) -> Attempt {
        let (sender, mut pieces) = mpsc::channel(PIECES);
        let mut call = slot.link.model.complete(request, sender);
        let mut watch = Watch::new(slot.link.config.timeout);
        let mut received = 0;
        loop {
            tokio::select! {
                biased;
                () = cancel.cancelled() => return Attempt::Cancelled { received },
                Some(piece) = pieces.recv() => {
                    received += piece.len();
                    if !forward(deltas, piece, watch.end, cancel).await {
                        return if cancel.is_cancelled() { Attempt::Cancelled { received } } else {
                            Attempt::Failed { error: ModelError::TimedOut("end of its answer"), received }
                        };
                    }
                    watch.heard();
                }
                reply = timeout_at(watch.next(), &mut call) => {
                    // What the model sent last may still be in the channel.
                    while let Ok(piece) = pieces.try_recv() {
                        received += piece.len();
                        forward(deltas, piece, watch.end, cancel).await;
                    }
                    return match reply {
                        Ok(Ok(reply)) => match asked_for(reply, request) {
                            Ok(reply) => Attempt::Done { reply, first_word: watch.first_word(), last_word: watch.began.elapsed() },
                            Err(error) => Attempt::Failed { error, received },
                        },
                        Ok(Err(error)) => Attempt::Failed { error, received },
                        Err(_) => Attempt::Failed { error: ModelError::TimedOut(watch.missed()), received },
                    };
                }
            }
        }
    }
}

impl Slot {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn window(&self, state: &State) -> Window {
        let config = &self.link.config;
        let supposed = if is_loopback(&config.base_url) { WINDOW_HERE } else { WINDOW_AWAY };
        let known = config.context_tokens.or(state.told_window);
        Window { tokens: known.unwrap_or(supposed), is_known: known.is_some() }
    }

    /// As much of `request` as the model takes.
    fn fitted(&self, request: &ChatRequest) -> ChatRequest {
        let (window, ratio) = {
            let state = self.state();
            (self.window(&state), state.ratio)
        };
        let mut request = request.clone();
        window::fit(&mut request, window, ratio);
        request
    }
}

/// The time limits of one attempt.
struct Watch {
    between: Duration,
    silence_ends: Instant,
    end: Instant,
    began: Instant,
    first_heard: Option<Instant>,
}

impl Watch {
    fn new(timeout: Duration) -> Self {
        let now = Instant::now();
        Self {
            between: timeout / 2,
            silence_ends: now + timeout,
            end: now + timeout * TOTAL_FACTOR,
            began: now,
            first_heard: None,
        }
    }

    fn heard(&mut self) {
        let now = Instant::now();
        self.silence_ends = now + self.between;
        self.first_heard.get_or_insert(now);
    }

    /// How long the first word took; all of it came at once where nothing was streamed.
    fn first_word(&self) -> Duration {
        self.first_heard.map_or_else(|| self.began.elapsed(), |heard| heard - self.began)
    }

    fn next(&self) -> Instant {
        self.silence_ends.min(self.end)
    }

    fn missed(&self) -> &'static str {
        match (self.end <= self.silence_ends, self.first_heard.is_some()) {
            (true, _) => "end of its answer",
            (false, true) => "next word",
            (false, false) => "first word",
        }
    }
}

/// The reply without calls that nobody asked for: a model may write one whatever it was offered.
fn asked_for(reply: Reply, request: &ChatRequest) -> Result<Reply, ModelError> {
    if !request.must_answer && !request.tools.is_empty() {
        return Ok(reply);
    }
    if reply.text.trim().is_empty() { Err(ModelError::Strayed) } else { Ok(Reply { calls: Vec::new(), ..reply }) }
}

/// Hands a piece on. False when the time is up or the caller cancelled; a caller that left is no failure.
async fn forward(
    deltas: Option<&mpsc::Sender<Delta>>,
    piece: String,
    end: Instant,
    cancel: &CancellationToken,
) -> bool {
    let Some(deltas) = deltas.filter(|_| !piece.is_empty()) else { return true };
    tokio::select! {
        () = cancel.cancelled() => false,
        sent = timeout_at(end, deltas.send(Delta::Text(piece))) => sent.is_ok(),
    }
}

/// The one gate between an audience and a model.
fn may_ask(config: &ModelConfig, request: &ChatRequest, audience: Audience) -> bool {
    config.serves.covers(audience)
        && (config.sees_memory || !request.carries_memory)
        && (config.sees_pictures || request.picture.is_none())
}

fn capped(request: &ChatRequest, audience: Audience) -> Result<ChatRequest, ChainError> {
    let mut request = request.clone();
    if !audience.is_known() {
        if request.prompt_bytes() > STRANGER_PROMPT_BYTES_MAX {
            return Err(ChainError::TooLong);
        }
        let asked = request.max_tokens.unwrap_or(STRANGER_ANSWER_TOKENS_MAX);
        request.max_tokens = Some(asked.clamp(16, STRANGER_ANSWER_TOKENS_MAX));
    }
    Ok(request)
}

/// A stranger's reservation. Dropped without a settlement (the caller gave up) it stays spent.
struct Tab<'a> {
    budget: &'a dyn Budget,
    name: String,
    day: u64,
    reserved: Option<u64>,
}

impl Tab<'_> {
    fn settle(&mut self, used: u64) {
        if let Some(reserved) = self.reserved.take() {
            self.budget.settle(&self.name, self.day, reserved, used);
        }
    }
}

/// A call that the breaker let pass. Dropped in the middle it says nothing about the model.
struct Pass<'a> {
    slot: &'a Slot,
    clock: &'a dyn Clock,
    open: bool,
}

impl Pass<'_> {
    fn close(&mut self, attempt: &Attempt, request: &ChatRequest) {
        self.open = false;
        let now = self.clock.monotonic();
        let mut state = self.slot.state();
        match attempt {
            Attempt::Done { reply, first_word, last_word } => {
                if let Some(told) = reply.usage {
                    state.ratio.learn(window::total(request), told.prompt_tokens);
                }
                state.calls.answered(*first_word, *last_word, cost(request, reply));
                state.breaker.on_success();
                state.reachable = Some(true);
                state.last_error = None;
            }
            Attempt::Failed { error, .. } => {
                state.calls.failed += 1;
                state.last_error = Some(error.to_string());
                if error.blames_model() {
                    state.breaker.on_failure(now);
                } else {
                    state.breaker.on_nothing(now);
                }
                if matches!(error, ModelError::Unreachable(_) | ModelError::Unauthorised(_)) {
                    state.reachable = Some(false);
                }
            }
            Attempt::Cancelled { .. } => state.breaker.on_nothing(now),
        }
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if self.open {
            self.slot.state().breaker.on_nothing(self.clock.monotonic());
        }
    }
}

/// What an answer of `bytes` cost, where nobody says so.
fn guess(request: &ChatRequest, bytes: usize) -> Usage {
    Usage { prompt_tokens: request.prompt_tokens(), completion_tokens: (bytes as u64).div_ceil(3) }
}

fn cost(request: &ChatRequest, reply: &Reply) -> Usage {
    reply.usage.filter(|usage| usage.total() > 0).unwrap_or_else(|| guess(request, reply.text.len()))
}

/// What has been tried for one request.
#[derive(Default)]
struct Trail {
    eligible: bool,
    budget_spent: bool,
    streamed: bool,
    failures: Vec<(String, ModelError)>,
}

impl Trail {
    /// Books an attempt; gives the result when it is the last.
    fn take(
        &mut self,
        slot: &Slot,
        request: &ChatRequest,
        tab: &mut Tab<'_>,
        attempt: Attempt,
    ) -> Option<Result<Completion, ChainError>> {
        match attempt {
            Attempt::Done { reply, .. } => {
                let usage = cost(request, &reply);
                tab.settle(usage.total());
                let model_name = slot.link.config.name.clone();
                Some(Ok(Completion { text: reply.text, calls: reply.calls, model_name, usage }))
            }
            Attempt::Failed { error, received } => {
                let free = received == 0
                    && matches!(
                        error,
                        ModelError::Unreachable(_) | ModelError::Unauthorised(_) | ModelError::Rejected { .. }
                    );
                tab.settle(if free { 0 } else { guess(request, received).total() });
                tracing::debug!(model = %slot.link.config.name, %error, "model failed");
                self.streamed = received > 0;
                self.failures.push((slot.link.config.name.clone(), error));
                None
            }
            Attempt::Cancelled { received } => {
                tab.settle(guess(request, received).total());
                Some(Err(ChainError::Cancelled))
            }
        }
    }

    fn into_error(self) -> ChainError {
        match (self.eligible, self.failures.is_empty(), self.budget_spent) {
            (_, false, _) => ChainError::AllFailed(self.failures),
            (_, true, true) => ChainError::BudgetSpent,
            (true, true, false) => ChainError::AllResting,
            (false, true, false) => ChainError::NoModel,
        }
    }
}
