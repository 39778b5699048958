//! `/api/v1`: what the command line uses.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router, middleware};
use nips::Audience;
use nips::job::{Input, JobId, Machine, Source};
use nostr::{PublicKey, ToBech32};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use super::{Shared, auth, status};
use crate::desk::order::{Order, Origin, Work};
use crate::desk::{Heard, Message};
use crate::journal::JobRow;

/// Parts of an answer that may wait for a slow reader.
const PARTS: usize = 64;
/// How long an order may wait until it is in the journal.
const TAKEN: Duration = Duration::from_secs(5);
/// The longest question, bytes.
const MAX_TEXT: usize = 256 * 1024;

pub(crate) fn router(shared: Arc<Shared>) -> Router<Arc<Shared>> {
    Router::new()
        .route("/status", get(get_status))
        .route("/matrix", get(matrix))
        .route("/ask", post(ask))
        .route("/jobs", get(list).post(submit))
        .route("/jobs/{id}", get(show))
        .route("/jobs/{id}/replay", get(replay))
        .route("/jobs/{id}/cancel", post(cancel))
        .nest("/memory", super::memory::router())
        .nest("/peers", super::peers::router())
        .nest("/auctions", super::auctions::router())
        .layer(middleware::from_fn_with_state(shared, auth::gate))
}

/// An API error: a status and words.
pub(super) struct Failure(pub StatusCode, pub String);

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.0, Json(json!({ "error": self.1 }))).into_response()
    }
}

pub(super) fn broken(error: impl std::fmt::Display) -> Failure {
    Failure(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
}

async fn get_status(State(shared): State<Arc<Shared>>) -> Result<Json<status::Status>, Failure> {
    status::gather(&shared).await.map(Json).map_err(broken)
}

async fn matrix(State(shared): State<Arc<Shared>>) -> Result<Json<crate::matrix::MatrixStatus>, Failure> {
    let none = || {
        Failure(StatusCode::NOT_FOUND, "this node has no Matrix account; `timmy matrix login` logs one in".to_owned())
    };
    shared.tools.matrix.as_ref().map(|matrix| Json(matrix.status())).ok_or_else(none)
}

#[derive(Deserialize)]
struct Ask {
    text: String,
}

/// Answers with JSON lines: `{"partial":…}` while it is written, last `{"id","state","output","model"}`.
async fn ask(State(shared): State<Arc<Shared>>, Json(ask): Json<Ask>) -> Result<Response, Failure> {
    begin(&shared, Work::talk(limited(ask.text)?), None, true).await
}

#[derive(Deserialize)]
struct Submit {
    kind: u16,
    input: String,
    #[serde(default)]
    params: Vec<(String, String)>,
    /// The node that is to do it.
    on: Option<PublicKey>,
    #[serde(default = "yes")]
    wait: bool,
}

const fn yes() -> bool {
    true
}

async fn submit(State(shared): State<Arc<Shared>>, Json(asked): Json<Submit>) -> Result<Response, Failure> {
    let input = limited(asked.input)?;
    let is_url = ["http://", "https://"].iter().any(|s| input.starts_with(s)) && !input.contains(char::is_whitespace);
    let inputs = vec![if is_url { Source::Url(input) } else { Source::Text(input) }];
    let work = Work::Job { kind: asked.kind, inputs, params: asked.params, output: None };
    begin(&shared, work, asked.on, asked.wait).await
}

fn limited(text: String) -> Result<String, Failure> {
    if text.trim().is_empty() {
        return Err(Failure(StatusCode::BAD_REQUEST, "there is nothing to work on: the text is empty".to_owned()));
    }
    if text.len() > MAX_TEXT {
        return Err(Failure(StatusCode::PAYLOAD_TOO_LARGE, format!("the text is longer than {MAX_TEXT} bytes")));
    }
    Ok(text)
}

async fn begin(shared: &Shared, work: Work, on: Option<PublicKey>, wait: bool) -> Result<Response, Failure> {
    let id = JobId::from_bytes(rand::random());
    let (listener, heard) = mpsc::channel(PARTS);
    let order = Order { id, work, audience: Audience::Owner, origin: Origin::Local, on };
    let refused = |reason| Failure(StatusCode::SERVICE_UNAVAILABLE, reason);
    if !shared.tools.metrics.is_journal_ok() {
        return Err(refused("the journal cannot be written, so nothing is taken; `timmy status` says why".to_owned()));
    }
    let taken = tokio::time::timeout(TAKEN, shared.desk.submit(order, listener)).await;
    let late = "the journal does not take it now; it is taken when it can, and `timmy job list` shows it then";
    let id = taken.unwrap_or_else(|_| Err(late.to_owned())).map_err(refused)?;
    if !wait {
        return Ok((StatusCode::ACCEPTED, Json(json!({ "id": id, "state": "received" }))).into_response());
    }
    let own = shared.ready.npub.clone();
    let lines = futures_util::stream::unfold(heard, move |mut heard| {
        let own = own.clone();
        async move {
            let line = match heard.recv().await? {
                Heard::Partial(text) => json!({ "partial": text }),
                Heard::Done { state, output, model, memories, executed_by } => {
                    let by = executed_by.and_then(|key| key.to_bech32().ok()).unwrap_or(own);
                    json!({ "id": id, "state": state, "output": output, "model": model, "memories": memories, "executed_by": by })
                }
            };
            Some((Ok::<_, Infallible>(format!("{line}\n")), heard))
        }
    });
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response())
}

#[derive(Deserialize)]
struct Page {
    limit: Option<u32>,
}

/// One job as `job list` shows it.
#[derive(Serialize)]
struct Listed {
    id: JobId,
    kind: u16,
    state: String,
    customer: Option<String>,
    audience: Value,
    door: Value,
    created_at: u64,
    updated_at: u64,
}

fn listed(row: &JobRow) -> Listed {
    let order: Value = serde_json::from_str(&row.order).unwrap_or_default();
    Listed {
        id: row.id,
        kind: row.kind,
        state: row.state.clone(),
        customer: row.customer.clone(),
        audience: order["audience"].clone(),
        door: order["origin"]["door"].clone(),
        created_at: row.created_ms / 1000,
        updated_at: row.updated_ms / 1000,
    }
}

async fn list(State(shared): State<Arc<Shared>>, Query(page): Query<Page>) -> Result<Response, Failure> {
    let rows = shared.tools.journal.jobs(page.limit.unwrap_or(50).min(10_000)).await.map_err(broken)?;
    Ok(Json(rows.iter().map(listed).collect::<Vec<_>>()).into_response())
}

async fn find(shared: &Shared, id: &str) -> Result<(JobRow, Vec<(u64, Input)>), Failure> {
    let id: JobId = id.parse().map_err(|e| Failure(StatusCode::BAD_REQUEST, format!("{e}")))?;
    let found = shared.tools.journal.job(id).await.map_err(broken)?;
    found.ok_or_else(|| {
        Failure(StatusCode::NOT_FOUND, "no such job; `timmy job list` shows those that are known".to_owned())
    })
}

/// The answer, or the reason why there is none, where an input holds it.
fn answer_in(input: &Input) -> Option<&str> {
    if let Input::Produced { output, .. } = input {
        return Some(output);
    }
    if let Input::WorkFailed { reason, .. } | Input::Unresolvable { reason } = input { Some(reason) } else { None }
}

/// The sister node that did it, where an input says so.
fn worker_in(input: &Input) -> Option<PublicKey> {
    if let Input::Produced { executed_by, .. } = input { *executed_by } else { None }
}

async fn show(State(shared): State<Arc<Shared>>, Path(id): Path<String>) -> Result<Response, Failure> {
    let (row, inputs) = find(&shared, &id).await?;
    let words = shared.tools.journal.words_of(row.id).await.map_err(broken)?;
    let output = inputs.iter().rev().find_map(|(_, input)| answer_in(input));
    let published: Vec<Value> = words
        .into_iter()
        .map(|(event, relay, state, message)| {
            let event: Value = serde_json::from_str(&event).unwrap_or_default();
            json!({ "event": event["id"], "kind": event["kind"], "relay": relay, "state": state, "message": message })
        })
        .collect();
    let order: Value = serde_json::from_str(&row.order).unwrap_or_default();
    let mut shown = serde_json::to_value(listed(&row)).map_err(broken)?;
    shown["work"] = order["work"].clone();
    shown["output"] = output.into();
    let by = inputs.iter().rev().find_map(|(_, input)| worker_in(input));
    shown["executed_by"] = by.map(|key| key.to_bech32().ok().unwrap_or_default()).into();
    // The name of the task that sister nodes know: `timmy auction verify` takes either.
    let was_called = inputs.iter().any(|(_, input)| matches!(input, Input::Called { .. }));
    let task = shared.tools.sisters.as_ref().filter(|_| was_called).map(|sisters| sisters.task_of(&row.id).to_string());
    shown["task"] = task.into();
    shown["published"] = published.into();
    Ok(Json(shown).into_response())
}

/// The run, replayed: each input with the effects that it had and the state after it.
async fn replay(State(shared): State<Arc<Shared>>, Path(id): Path<String>) -> Result<Response, Failure> {
    let (row, inputs) = find(&shared, &id).await?;
    let mut machine = Machine::new();
    let steps: Vec<Value> = inputs
        .iter()
        .map(|(at_ms, input)| {
            let effects = machine.handle(input, *at_ms);
            json!({ "at_ms": at_ms, "input": input, "effects": effects, "state": machine.state() })
        })
        .collect();
    Ok(Json(json!({ "id": row.id, "steps": steps, "state": machine.state(), "same_as_journal": machine.state().as_str() == row.state })).into_response())
}

async fn cancel(State(shared): State<Arc<Shared>>, Path(id): Path<String>) -> Result<Response, Failure> {
    let (row, _) = find(&shared, &id).await?;
    let (reply, answer) = oneshot::channel();
    shared.desk.send(Message::Cancel(row.id, reply)).await;
    let cancelled = answer.await.unwrap_or(false);
    if cancelled {
        return Ok(Json(json!({ "id": row.id, "state": "cancelled" })).into_response());
    }
    Err(Failure(StatusCode::CONFLICT, format!("the job is {} already; it cannot be cancelled", row.state)))
}
