//! Health in a screen: `timmy status`.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use anyhow::Result;
use bots::model::BreakerState;
use memory::MemoryStats;
use relay::outbox::OutboxStore;
use relay::pool::{Link, Role};
use serde::{Deserialize, Serialize};

use super::Shared;
use crate::matrix::{Matrix, MatrixStatus};

/// Something that the owner should know, with its cure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warning {
    /// A stable word.
    pub code: String,
    /// `error` wakes the owner, `warning` is for the morning.
    pub severity: String,
    /// What is the matter.
    pub message: String,
    /// What to do.
    pub cure: String,
}

/// The state of a model.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ModelStatus {
    /// The owner's name of it.
    pub name: String,
    /// It answers; none before the first look.
    pub reachable: Option<bool>,
    /// Why the last call failed.
    pub last_error: Option<String>,
    /// Tokens of strangers today.
    pub stranger_tokens_today: u64,
    /// `closed`, `open` (it rests after failures) or `half_open` (one call tries it).
    pub breaker: String,
    /// Tokens that it takes, prompt and answer together.
    pub context_tokens: u64,
    /// Calls since the start that gave an answer.
    pub answered: u64,
    /// Calls that gave none.
    pub failed: u64,
    /// Until the first word, a mean in which the newest weigh most.
    pub first_word_ms: Option<u64>,
    /// Until the last word, in the same way.
    pub last_word_ms: Option<u64>,
    /// Tokens of all prompts.
    pub prompt_tokens: u64,
    /// Tokens of all answers.
    pub completion_tokens: u64,
}

/// The state of an outside relay.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RelayStatus {
    /// Its address.
    pub url: String,
    /// Named by the owner.
    pub configured: bool,
    /// `connected`, `connecting` or `waiting`.
    pub state: String,
    /// Why the last connection failed.
    pub last_error: Option<String>,
    /// Round trip of the last ping.
    pub rtt_ms: Option<u64>,
    /// Events it brought first.
    pub events: u64,
    /// Events of it that were dropped.
    pub bad_events: u64,
}

/// A writer with two changes under one number: a cloned machine, or a liar.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Quarantined {
    /// Its install key, hex.
    pub install: String,
    /// The two events that prove it, hex.
    pub proof: [String; 2],
}

/// The state of the memory.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MemoryStatus {
    /// What is remembered.
    pub entries: u64,
    /// Of these, how many can be found.
    pub indexed: u64,
    /// Changes that wait for the index's table.
    pub pending: u64,
    /// Entries that wait for a vector; full text finds them meanwhile.
    pub unembedded: u64,
    /// What makes the vectors.
    pub embedder: String,
    /// Everything in its folder.
    pub bytes_on_disk: u64,
    /// Times that the index's upkeep failed since the start.
    pub failures: u64,
    /// Writers that are no longer believed.
    pub quarantined: Vec<Quarantined>,
}

impl From<&MemoryStats> for MemoryStatus {
    fn from(stats: &MemoryStats) -> Self {
        let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        let named = |(install, first, second): &(nostr::PublicKey, nostr::EventId, nostr::EventId)| Quarantined {
            install: install.to_hex(),
            proof: [first.to_hex(), second.to_hex()],
        };
        Self {
            entries: stats.entries,
            indexed: count(stats.index.rows),
            pending: count(stats.index.pending),
            unembedded: count(stats.index.unembedded),
            embedder: stats.index.embedder.clone(),
            bytes_on_disk: stats.bytes_on_disk,
            failures: stats.index.failures,
            quarantined: stats.quarantined.iter().map(named).collect(),
        }
    }
}

/// What the outbox has for a relay.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct OutboxStatus {
    /// Still to be sent.
    pub pending: u64,
    /// Taken.
    pub done: u64,
    /// Finally refused.
    pub refused: u64,
    /// Given up.
    pub expired: u64,
}

/// Everything.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Status {
    /// The passport.
    pub npub: String,
    /// The install's libp2p name.
    pub peer_id: String,
    /// `name@domain`.
    pub nip05: Option<String>,
    /// This release.
    pub version: String,
    /// Seconds since the start.
    pub uptime_s: u64,
    /// The owner's key.
    pub owner: Option<String>,
    /// `ws://…`
    pub relay: String,
    /// Job kinds that strangers are offered.
    pub offered: Vec<u16>,
    /// Jobs by state.
    pub jobs: BTreeMap<String, u64>,
    /// Workers at work.
    pub running: u64,
    /// Models in order.
    pub models: Vec<ModelStatus>,
    /// What is remembered.
    pub memory: MemoryStatus,
    /// Outside relays.
    pub relays: Vec<RelayStatus>,
    /// The outbox by relay.
    pub outbox: BTreeMap<String, OutboxStatus>,
    /// Open connections of the embedded relay.
    pub connections: u64,
    /// Events that it has taken since the start.
    pub events_stored: u64,
    /// The Matrix account, where there is one.
    pub matrix: Option<MatrixStatus>,
    /// Last, each with its cure.
    pub warnings: Vec<Warning>,
}

pub(crate) async fn gather(shared: &Shared) -> Result<Status> {
    let tools = &shared.tools;
    let stats = tools.server.stats();
    let counts = tools.journal.counts().await?;
    let outbox = counts.into_iter().map(|(target, c)| {
        (target.to_string(), OutboxStatus { pending: c.pending, done: c.done, refused: c.refused, expired: c.expired })
    });
    let mut status = Status {
        npub: shared.ready.npub.clone(),
        peer_id: shared.ready.peer_id.clone(),
        nip05: shared.identity.nip05(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        uptime_s: shared.started.elapsed().as_secs(),
        owner: tools.owner().and_then(|k| nostr::ToBech32::to_bech32(&k).ok()),
        relay: shared.ready.relay.clone(),
        offered: if tools.jobs_enabled { tools.workshop.offered_kinds().into_iter().collect() } else { vec![] },
        jobs: tools.journal.job_counts().await?,
        running: tools.metrics.running(),
        models: models(shared),
        memory: MemoryStatus::from(&tools.memory.stats().await?),
        relays: relays(shared),
        outbox: outbox.collect(),
        connections: stats.connections,
        events_stored: stats.stored,
        matrix: tools.matrix.as_ref().map(Matrix::status),
        warnings: vec![],
    };
    status.warnings = warnings(shared, &status);
    Ok(status)
}

fn models(shared: &Shared) -> Vec<ModelStatus> {
    let states = shared.tools.workshop.chain().states();
    states
        .into_iter()
        .map(|m| ModelStatus {
            name: m.name,
            reachable: m.reachable,
            last_error: m.last_error,
            stranger_tokens_today: m.stranger_tokens_today,
            breaker: match m.breaker {
                BreakerState::Closed => "closed",
                BreakerState::Open { .. } => "open",
                BreakerState::HalfOpen => "half_open",
            }
            .to_owned(),
            context_tokens: m.context_tokens,
            answered: m.calls.answered,
            failed: m.calls.failed,
            first_word_ms: m.calls.first_word_ms,
            last_word_ms: m.calls.last_word_ms,
            prompt_tokens: m.calls.usage.prompt_tokens,
            completion_tokens: m.calls.usage.completion_tokens,
        })
        .collect()
}

fn relays(shared: &Shared) -> Vec<RelayStatus> {
    let states = shared.tools.pool.states();
    states
        .into_iter()
        .map(|r| RelayStatus {
            url: r.url.to_string(),
            configured: r.role == Role::Configured,
            state: match r.link {
                Link::Connected => "connected",
                Link::Connecting => "connecting",
                Link::Waiting { .. } => "waiting",
            }
            .to_owned(),
            last_error: r.last_error,
            rtt_ms: r.rtt_ms,
            events: r.events,
            bad_events: r.bad_events,
        })
        .collect()
}

fn warning(severity: &str, code: &str, message: impl Into<String>, cure: impl Into<String>) -> Warning {
    Warning { code: code.to_owned(), severity: severity.to_owned(), message: message.into(), cure: cure.into() }
}

fn warnings(shared: &Shared, status: &Status) -> Vec<Warning> {
    let tools = &shared.tools;
    let mut all = Vec::new();
    if tools.passport.is_superseded() {
        all.push(warning(
            "error",
            "passport_elsewhere",
            "another install of this node speaks for its passport (a restored backup that runs as well?); jobs and messages are left to it",
            "stop one of the two; to make this one speak again: `timmy run --take-over`",
        ));
    }
    if !tools.metrics.is_journal_ok() {
        all.push(warning(
            "error",
            "journal_blocked",
            "the journal cannot be written; nothing is taken in",
            "free space on the data folder's disk",
        ));
    }
    if !tools.room.load(Ordering::Relaxed) {
        all.push(warning(
            "error",
            "disk_nearly_full",
            "strangers are refused so that the journal has room",
            "free space on the data folder's disk",
        ));
    }
    all.extend(status.models.iter().filter_map(about_model));
    all.extend(about_memory(shared, &status.memory));
    all.extend(status.matrix.iter().flat_map(about_matrix));
    for server in tools.toolbox.servers.iter().map(|server| server.state()) {
        if let Some(why) = server.error {
            all.push(warning(
                "warning",
                "tools_away",
                format!("the tools of `{}` are away: {why}", server.name),
                "it is begun again by itself; correct [[tools.mcp]] if it stays",
            ));
        }
    }
    for relay in status.relays.iter().filter(|r| r.configured && r.state == "waiting") {
        let why = relay.last_error.clone().unwrap_or_default();
        all.push(warning(
            "warning",
            "relay_down",
            format!("{} cannot be reached: {why}", relay.url),
            "it is tried again by itself; take it out of nostr.relays if it is gone",
        ));
    }
    for (relay, o) in status.outbox.iter().filter(|(_, o)| o.refused > 0) {
        all.push(warning(
            "warning",
            "outbox_refused",
            format!("{relay} refused {} events for good", o.refused),
            "`timmy job show ID` tells what it said",
        ));
    }
    if status.owner.is_none() {
        all.push(warning(
            "warning",
            "no_owner",
            "this node has no owner yet",
            "send it the claim code that it printed at its start, or set owner.npub",
        ));
    }
    all
}

fn about_model(model: &ModelStatus) -> Option<Warning> {
    let (name, why) = (&model.name, model.last_error.as_deref().unwrap_or_default());
    if model.reachable == Some(false) {
        return Some(warning(
            "warning",
            "model_down",
            format!("model `{name}` does not answer: {why}"),
            "start its server, or correct [[models]] base_url",
        ));
    }
    (model.breaker == "open").then(|| {
        warning(
            "warning",
            "model_resting",
            format!("model `{name}` rests after three failures in a row: {why}"),
            "it is tried again by itself, at the latest after ten minutes; see to its server",
        )
    })
}

fn about_matrix(matrix: &MatrixStatus) -> Vec<Warning> {
    let mut all = Vec::new();
    if matrix.cross_signed == Some(false) {
        all.push(warning(
            "error",
            "matrix_unsigned",
            "the Matrix device is not signed by its account: people see a red shield, and many clients send it no keys",
            "`timmy matrix login … --recovery-key-file FILE` with the account's recovery key",
        ));
    } else if let Some(why) = &matrix.trouble {
        all.push(warning(
            "error",
            "matrix_down",
            format!("Matrix: {why}"),
            "it is tried again by itself; if the session is gone: stop the node, then `timmy matrix login`",
        ));
    }
    if matrix.backup == Some(false) {
        all.push(warning(
            "warning",
            "matrix_no_backup",
            "the account's room keys are not backed up: with this machine its past conversations are lost",
            "log in anew with the recovery key: `timmy matrix login … --recovery-key-file FILE`",
        ));
    }
    if matrix.recovery_key_waits {
        all.push(warning(
            "warning",
            "matrix_recovery_key",
            "the Matrix account's recovery key lies here and nowhere else",
            "write it down: `timmy matrix recovery-key`",
        ));
    }
    if matrix.unreadable > 0 {
        all.push(warning(
            "warning",
            "matrix_unreadable",
            format!("{} messages wait for their keys", matrix.unreadable),
            "the sender's client gives them; ask the person to verify their session, or to write again",
        ));
    }
    all
}

fn about_memory(shared: &Shared, memory: &MemoryStatus) -> Vec<Warning> {
    let quarantined = memory.quarantined.iter().map(|q| {
        warning(
            "warning",
            "memory_quarantined",
            format!(
                "the install {} has written two different changes under one number; it is no longer believed",
                q.install
            ),
            "a copied data folder? Stop the copy; give each machine its own by `timmy restore`",
        )
    });
    let mut all: Vec<Warning> = quarantined.collect();
    if memory.unembedded > 0 && memory.failures > 0 {
        all.push(warning(
            "warning",
            "memory_embedder",
            format!("{} entries have no vector yet: {} does not answer well", memory.unembedded, memory.embedder),
            "start the server of [embedder] (or mend its model_dir), or set kind = \"static\"; words find these entries meanwhile",
        ));
    } else if memory.failures > 0 {
        all.push(warning(
            "warning",
            "memory_index",
            format!("the memory's index had trouble {} times since the start; the log says which", memory.failures),
            "nothing is lost; if recall suffers: `timmy memory reindex`",
        ));
    }
    if let Some(url) = &shared.embeds_elsewhere {
        all.push(warning(
            "warning",
            "memory_leaves",
            format!("what is remembered goes to {url} for its vectors"),
            "set embedder.sees_memory = true if this is meant, or kind = \"static\"",
        ));
    }
    all
}
