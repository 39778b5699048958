//! `/api/v1/auctions`: what `timmy auction …` uses.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use nips::job::JobId;
use nips::task::{TaskId, verify_transcript};
use nostr::{PublicKey, ToBech32};
use serde_json::{Value, json};

use super::Shared;
use super::api::Failure;
use crate::sisters::Sisters;

pub(super) fn router() -> Router<Arc<Shared>> {
    Router::new().route("/{id}/verify", get(verify))
}

/// Recomputes the newest auction of a task, or of a job of this node that became one, from the signed events alone.
async fn verify(State(shared): State<Arc<Shared>>, Path(id): Path<String>) -> Result<Json<Value>, Failure> {
    let bad = |_| Failure(StatusCode::BAD_REQUEST, format!("`{id}` is no id of a job or a task: 64 hex digits"));
    let task: TaskId = id.parse().map_err(bad)?;
    let job: JobId = JobId::from_bytes(*task.as_bytes());
    let sisters = super::peers::sisters(&shared)?;
    let mut events = sisters.federation.transcript(task).await?;
    let mut of = task;
    if events.is_empty() {
        of = sisters.task_of(&job);
        events = sisters.federation.transcript(of).await?;
    }
    if events.is_empty() {
        let words = "this node knows no auction of that id; each keeps its own, and the newest that it saw of others";
        return Err(Failure(StatusCode::NOT_FOUND, words.to_owned()));
    }
    let name = |install: &PublicKey| named(sisters, &shared, install);
    Ok(Json(match verify_transcript(&events) {
        Ok(found) => json!({
            "ok": true,
            "task": of.to_string(),
            "epoch": found.attempt.epoch,
            "requester": name(&found.requester),
            "winner": name(&found.winner),
            "price": found.price,
            "unrevealed": found.unrevealed.iter().map(name).collect::<Vec<_>>(),
            "left_out": found.left_out.iter().map(name).collect::<Vec<_>>(),
            "events": events,
        }),
        Err(error) => json!({
            "ok": false,
            "task": of.to_string(),
            "winner": null,
            "price": null,
            "message": error.to_string(),
            "events": events,
        }),
    }))
}

/// The npub of the node whose install this is; the install key in hex when it does not belong any more.
fn named(sisters: &Sisters, shared: &Shared, install: &PublicKey) -> String {
    let known = sisters.view().install(install).map(|known| known.passport);
    let own = || shared.tools.installs.is_own(install).then_some(shared.tools.speaker.node);
    known.or_else(own).and_then(|npub| npub.to_bech32().ok()).unwrap_or_else(|| install.to_hex())
}
