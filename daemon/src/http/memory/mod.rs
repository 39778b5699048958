//! `/api/v1/memory`: what `timmy memory …` uses. Who may call it at all is the owner (the token, or NIP-98), so everything is seen.

mod carry;
mod forget;
mod pages;
mod tend;

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use memory::{
    DEFAULT_IMPORTANCE, DEFAULT_LIMIT, Draft, Entry, EntryKind, MAX_LIMIT, MemoryError, Query, Recall, TruthError,
};
use nips::Audience;
use nips::memory::Space;
use nostr::{PublicKey, ToBech32};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::Shared;
use super::api::Failure;
use super::status::MemoryStatus;

/// Steps of a rebuild that may wait for a slow reader; what does not fit is not told.
const STEPS: usize = 64;

pub(super) fn router() -> Router<Arc<Shared>> {
    Router::new()
        .route("/", post(add))
        .route("/search", post(search))
        .route("/entries/{id}", get(show))
        .route("/forget", post(forget::forget))
        .route("/reindex", post(reindex))
        .route("/stats", get(stats))
        .route("/share", post(share))
        .route("/consolidate", post(tend::consolidate))
        .route("/prune", post(tend::prune))
        .merge(carry::router())
        .merge(pages::router())
}

/// What memory says, as a status and words.
impl From<MemoryError> for Failure {
    fn from(error: MemoryError) -> Self {
        let status = match &error {
            MemoryError::Truth(TruthError::Entry(_) | TruthError::Document(_) | TruthError::Change { .. }) => {
                StatusCode::BAD_REQUEST
            }
            MemoryError::Truth(TruthError::Missing(_)) => StatusCode::NOT_FOUND,
            MemoryError::Truth(TruthError::Ambiguous(_) | TruthError::Forgotten(_)) => StatusCode::CONFLICT,
            MemoryError::Truth(_) | MemoryError::Index(_) | MemoryError::Recall(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let mut words = error.to_string();
        let mut cause = std::error::Error::source(&error);
        while let Some(deeper) = cause {
            words = format!("{words}: {deeper}");
            cause = deeper.source();
        }
        Self(status, words)
    }
}

fn npub(key: &PublicKey) -> String {
    key.to_bech32().unwrap_or_else(|_| key.to_hex())
}

/// An entry as `memory show` prints it.
fn shown(entry: &Entry) -> Value {
    json!({
        "id": entry.id,
        "text": entry.text,
        "author": npub(&entry.author),
        "created_at": entry.created_at,
        "kind": entry.kind,
        "space": entry.space,
        "tags": entry.tags,
        "person": entry.person.as_ref().map(npub),
        "importance": entry.importance,
        "valid_from": entry.valid_from,
        "valid_until": entry.valid_until,
        "supersedes": entry.supersedes,
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Add {
    text: String,
    #[serde(default = "Space::fleet")]
    space: Space,
    #[serde(default = "semantic")]
    kind: EntryKind,
    #[serde(default)]
    tags: BTreeSet<String>,
    #[serde(default)]
    person: Option<PublicKey>,
    #[serde(default = "usual")]
    importance: f32,
    #[serde(default)]
    valid_until: Option<u64>,
    #[serde(default)]
    supersedes: BTreeSet<String>,
}

const fn semantic() -> EntryKind {
    EntryKind::Semantic
}

const fn usual() -> f32 {
    DEFAULT_IMPORTANCE
}

async fn add(State(shared): State<Arc<Shared>>, Json(add): Json<Add>) -> Result<Response, Failure> {
    let memory = &shared.tools.memory;
    let mut supersedes = BTreeSet::new();
    for prefix in &add.supersedes {
        supersedes.insert(memory.find(prefix).await?.id);
    }
    let draft = Draft {
        space: add.space,
        kind: add.kind,
        tags: add.tags,
        person: add.person,
        importance: add.importance,
        valid_until: add.valid_until,
        supersedes,
        ..Draft::new(add.text)
    };
    let id = memory.add(draft).await?;
    Ok((StatusCode::CREATED, Json(json!({ "id": id }))).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Search {
    query: String,
    #[serde(default)]
    limit: Option<usize>,
    #[serde(default)]
    spaces: BTreeSet<Space>,
    #[serde(default)]
    kinds: BTreeSet<EntryKind>,
    #[serde(default)]
    tags: BTreeSet<String>,
    #[serde(default)]
    author: Option<PublicKey>,
    #[serde(default)]
    person: Option<PublicKey>,
    #[serde(default)]
    since: Option<u64>,
    #[serde(default)]
    until: Option<u64>,
    #[serde(default)]
    explain: bool,
}

async fn search(State(shared): State<Arc<Shared>>, Json(asked): Json<Search>) -> Result<Json<Vec<Value>>, Failure> {
    let limit = asked.limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(Failure(StatusCode::BAD_REQUEST, format!("a search has 1 to {MAX_LIMIT} results, not {limit}")));
    }
    let query = Query {
        text: asked.query,
        limit,
        spaces: asked.spaces,
        kinds: asked.kinds,
        tags: asked.tags,
        author: asked.author,
        person: asked.person,
        since: asked.since,
        until: asked.until,
    };
    let found = shared.tools.memory.search(&query, Audience::Owner).await?;
    Ok(Json(found.iter().map(|recall| recalled(recall, asked.explain)).collect()))
}

fn recalled(recall: &Recall, explain: bool) -> Value {
    let entry = &recall.entry;
    let mut value = json!({
        "id": entry.id,
        "text": entry.text,
        "score": recall.score,
        "author": npub(&entry.author),
        "created_at": entry.created_at,
        "kind": entry.kind,
        "space": entry.space,
        "tags": entry.tags,
    });
    if explain {
        value["reasons"] = json!(recall.reasons);
    }
    value
}

async fn show(State(shared): State<Arc<Shared>>, Path(id): Path<String>) -> Result<Json<Value>, Failure> {
    Ok(Json(shown(&shared.tools.memory.find(id.trim()).await?)))
}

/// Answers with JSON lines: `{"done","total"}` as it goes on, last `{"reindexed":true}` or `{"error"}`.
async fn reindex(State(shared): State<Arc<Shared>>) -> Response {
    let (steps, told) = mpsc::channel::<Value>(STEPS);
    let (memory, cancel) = (shared.tools.memory.clone(), shared.tools.cancel.clone());
    // The rebuild goes on when the one who asked hangs up: half of it would be thrown away.
    shared.tools.tracker.spawn(async move {
        let told = steps.clone();
        let progress = move |p: memory::Progress| {
            let _ = told.try_send(json!({ "done": p.done, "total": p.total }));
        };
        let done = tokio::select! {
            done = memory.reindex(progress) => done,
            () = cancel.cancelled() => return,
        };
        let last = match done {
            Ok(()) => json!({ "reindexed": true }),
            Err(error) => json!({ "error": Failure::from(error).1 }),
        };
        let _ = steps.send(last).await;
    });
    lines(told)
}

/// JSON lines, as they come.
fn lines(heard: mpsc::Receiver<Value>) -> Response {
    let stream = futures_util::stream::unfold(heard, async |mut heard| {
        let line = heard.recv().await?;
        Some((Ok::<_, Infallible>(format!("{line}\n")), heard))
    });
    ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(stream)).into_response()
}

async fn stats(State(shared): State<Arc<Shared>>) -> Result<Json<Value>, Failure> {
    let stats = shared.tools.memory.stats().await?;
    let heads = shared.tools.memory.heads().await?;
    let mut value = json!(MemoryStatus::from(&stats));
    value["shards"] = stats.shards.into();
    value["state"] = json!(stats.index.state);
    value["digest"] = digest(&heads).into();
    Ok(Json(value))
}

/// One word for the heads of all documents: two memories with the same word hold the same.
fn digest(heads: &std::collections::BTreeMap<String, Vec<String>>) -> String {
    use sha2::{Digest, Sha256};
    let mut hash = Sha256::new();
    for (document, heads) in heads {
        hash.update(format!("{document} {}\n", heads.join(" ")));
    }
    hex::encode(hash.finalize())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Share {
    space: Space,
    person: PublicKey,
    #[serde(default)]
    revoke: bool,
}

async fn share(State(shared): State<Arc<Shared>>, Json(share): Json<Share>) -> Result<Json<Value>, Failure> {
    if share.space.is_private() {
        let words = "`private` never leaves this node, so it cannot be shared; choose another space".to_owned();
        return Err(Failure(StatusCode::BAD_REQUEST, words));
    }
    shared.tools.memory.share(share.space.clone(), share.person, !share.revoke).await?;
    shared.tools.installs.share(share.space.clone(), share.person, !share.revoke);
    Ok(Json(json!({ "space": share.space, "npub": npub(&share.person), "shared": !share.revoke })))
}
