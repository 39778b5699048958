//! Counts for `/metrics`, in Prometheus' text format. The registry is passed, never global.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Instant;

use memory::MemoryStats;
use nips::job::State;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// The one agent that works here; more personas come later.
const PERSONA: &str = "timmy";

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TaskLabels {
    status: String,
    persona: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PersonaLabels {
    persona: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ModelLabels {
    provider: String,
    model: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TokenLabels {
    provider: String,
    direction: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    state: String,
}

/// What is counted of the sister nodes.
struct SisterGauges {
    peers: Family<StateLabels, Gauge<i64, AtomicI64>>,
    auctions: Histogram,
}

impl SisterGauges {
    fn registered(registry: &mut Registry) -> Self {
        let all = Self { peers: Family::default(), auctions: durations() };
        registry.register("peers", "Sister nodes, and strangers seen", all.peers.clone());
        registry.register("auction_duration_seconds", "From a call to its award", all.auctions.clone());
        all
    }
}

#[derive(Default)]
struct MemoryGauges {
    count: Gauge<i64, AtomicI64>,
    pending: Gauge<i64, AtomicI64>,
    unembedded: Gauge<i64, AtomicI64>,
    bytes: Gauge<i64, AtomicI64>,
}

impl MemoryGauges {
    fn register(&self, registry: &mut Registry) {
        registry.register("memory_count", "Entries that are remembered", self.count.clone());
        registry.register("memory_index_pending", "Changes that wait for the index's table", self.pending.clone());
        registry.register("memory_unembedded", "Entries that wait for a vector", self.unembedded.clone());
        registry.register("memory_bytes", "Bytes of the memory's folder", self.bytes.clone());
    }
}

struct Inner {
    registry: Registry,
    tasks: Family<TaskLabels, Counter>,
    durations: Histogram,
    dropped: Family<ReasonLabels, Counter>,
    crises: Counter,
    connections: Gauge<i64, AtomicI64>,
    relay_events: Family<OutcomeLabels, Gauge<i64, AtomicI64>>,
    stored: Gauge<i64, AtomicI64>,
    health: Family<PersonaLabels, Gauge<i64, AtomicI64>>,
    llm_durations: Family<ModelLabels, Histogram>,
    llm_tokens: Family<TokenLabels, Counter>,
    memory: MemoryGauges,
    sisters: SisterGauges,
    journal_ok: AtomicBool,
    running: AtomicU64,
}

/// The node's counts. Clones share them.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

/// Measures one task.
pub struct TaskTimer {
    metrics: Metrics,
    started: Instant,
}

impl TaskTimer {
    /// The task has ended.
    pub fn done(self, _how: &str) {
        self.metrics.0.durations.observe(self.started.elapsed().as_secs_f64());
    }
}

impl Drop for TaskTimer {
    fn drop(&mut self) {
        self.metrics.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}

fn durations() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 4.0, 10))
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Fresh counts.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("timmy");
        let tasks = Family::default();
        registry.register("tasks", "Jobs by the state that they reached", tasks.clone());
        let task_durations = durations();
        registry.register("task_duration_seconds", "Time that workers took", task_durations.clone());
        let dropped = Family::default();
        registry.register("dropped", "Events that were not acted on", dropped.clone());
        let crises = Counter::default();
        registry.register("crises", "Messages met by the conscience", crises.clone());
        let connections = Gauge::default();
        registry.register("ws_connections", "Open WebSocket connections of the relay", connections.clone());
        let relay_events = Family::default();
        registry.register("relay_events_total", "Events offered to the relay since the start", relay_events.clone());
        let stored = Gauge::default();
        registry.register("relay_stored_events", "Events that the relay holds", stored.clone());
        let health = Family::default();
        registry.register("agent_health", "1 when the agent works", health.clone());
        let llm_durations = Family::<ModelLabels, Histogram>::new_with_constructor(durations);
        registry.register("llm_request_duration_seconds", "Time of model calls", llm_durations.clone());
        let llm_tokens = Family::default();
        registry.register("llm_tokens", "Tokens of model calls", llm_tokens.clone());
        let memory = MemoryGauges::default();
        let sisters = SisterGauges::registered(&mut registry);
        memory.register(&mut registry);
        Self(Arc::new(Inner {
            registry,
            tasks,
            durations: task_durations,
            dropped,
            crises,
            connections,
            relay_events,
            stored,
            health,
            llm_durations,
            llm_tokens,
            memory,
            sisters,
            journal_ok: AtomicBool::new(true),
            running: AtomicU64::new(0),
        }))
    }

    /// A job reached `state`.
    pub fn job_state(&self, state: State) {
        self.0
            .tasks
            .get_or_create(&TaskLabels { status: state.as_str().to_owned(), persona: PERSONA.to_owned() })
            .inc();
    }

    /// An event was not acted on.
    pub fn dropped(&self, reason: &str) {
        self.0.dropped.get_or_create(&ReasonLabels { reason: reason.to_owned() }).inc();
    }

    /// The conscience answered.
    pub fn crisis(&self) {
        self.0.crises.inc();
    }

    /// A worker begins.
    pub fn start_task(&self) -> TaskTimer {
        self.0.running.fetch_add(1, Ordering::Relaxed);
        TaskTimer { metrics: self.clone(), started: Instant::now() }
    }

    /// Workers at work.
    pub fn running(&self) -> u64 {
        self.0.running.load(Ordering::Relaxed)
    }

    /// A model was called.
    pub fn llm_call(&self, provider: &str, model: &str, seconds: f64, prompt: u64, completion: u64) {
        let labels = ModelLabels { provider: provider.to_owned(), model: model.to_owned() };
        self.0.llm_durations.get_or_create(&labels).observe(seconds);
        for (direction, tokens) in [("in", prompt), ("out", completion)] {
            let labels = TokenLabels { provider: provider.to_owned(), direction: direction.to_owned() };
            self.0.llm_tokens.get_or_create(&labels).inc_by(tokens);
        }
    }

    /// The journal took a write, or refused it.
    pub fn journal_ok(&self, ok: bool) {
        self.0.journal_ok.store(ok, Ordering::Relaxed);
    }

    /// True while the journal takes writes.
    pub fn is_journal_ok(&self) -> bool {
        self.0.journal_ok.load(Ordering::Relaxed)
    }

    /// So many sister nodes are in each state.
    pub fn peers<'a>(&self, counts: impl IntoIterator<Item = (&'a str, usize)>) {
        for (state, count) in counts {
            let labels = StateLabels { state: state.to_owned() };
            self.0.sisters.peers.get_or_create(&labels).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// An auction of this node took so long, from its call to its award.
    pub fn auctioned(&self, took: std::time::Duration) {
        self.0.sisters.auctions.observe(took.as_secs_f64());
    }

    /// What is remembered now.
    pub fn memory(&self, stats: &MemoryStats) {
        let signed = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        let gauges = &self.0.memory;
        gauges.count.set(signed(stats.entries));
        gauges.pending.set(count(stats.index.pending));
        gauges.unembedded.set(count(stats.index.unembedded));
        gauges.bytes.set(signed(stats.bytes_on_disk));
    }

    /// Everything as Prometheus text. `stats` are the relay's counts, `healthy` the agent's.
    pub fn text(&self, connections: usize, stored: u64, events: &[(&'static str, u64)], healthy: bool) -> String {
        let signed = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        self.0.connections.set(signed(connections as u64));
        self.0.stored.set(signed(stored));
        for (outcome, count) in events {
            self.0.relay_events.get_or_create(&OutcomeLabels { outcome: (*outcome).to_owned() }).set(signed(*count));
        }
        self.0.health.get_or_create(&PersonaLabels { persona: PERSONA.to_owned() }).set(i64::from(healthy));
        let mut text = String::new();
        if let Err(error) = encode(&mut text, &self.0.registry) {
            tracing::warn!(%error, "metrics cannot be written");
        }
        text
    }
}
