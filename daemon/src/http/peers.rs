//! `/api/v1/peers`: what `timmy peer …` uses.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use federation::membership::Standing;
use federation::{Federation, FederationError, Peer, PeerState, Via};
use nostr::{PublicKey, ToBech32};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::Shared;
use super::api::Failure;
use crate::sisters::{Lag, Sisters};

pub(super) fn router() -> Router<Arc<Shared>> {
    Router::new()
        .route("/", get(list))
        .route("/invite", post(invite))
        .route("/join", post(join))
        .route("/admin", post(admin))
        .route("/remove", post(remove))
        .route("/doctor", get(doctor))
}

impl From<FederationError> for Failure {
    fn from(error: FederationError) -> Self {
        let status = match &error {
            FederationError::Net(_)
            | FederationError::Discovery(_)
            | FederationError::Keyring(_)
            | FederationError::Stopped => StatusCode::INTERNAL_SERVER_ERROR,
            FederationError::Host(_)
            | FederationError::Invite(_)
            | FederationError::Join(_)
            | FederationError::Refused(_)
            | FederationError::None
            | FederationError::Busy => StatusCode::CONFLICT,
        };
        Self(status, error.to_string())
    }
}

fn federation(shared: &Shared) -> Result<&Federation, Failure> {
    sisters(shared).map(|sisters| &sisters.federation)
}

pub(super) fn sisters(shared: &Shared) -> Result<&Sisters, Failure> {
    let off = || {
        let words =
            "the federation is switched off; put `[federation] enabled = true` into the configuration and restart";
        Failure(StatusCode::CONFLICT, words.to_owned())
    };
    shared.tools.sisters.as_ref().ok_or_else(off)
}

fn standing(standing: Standing) -> &'static str {
    match standing {
        Standing::Owner => "owner",
        Standing::Admin => "admin",
        Standing::Sibling => "sibling",
        Standing::Guest => "guest",
        Standing::Removed { .. } => "removed",
        Standing::Unknown => "unknown",
    }
}

/// A peer as `peer list` prints it.
fn shown(peer: &Peer, lag: Option<&Lag>) -> Value {
    let state = match peer.state {
        PeerState::Seen => "seen",
        PeerState::Member => "member",
        PeerState::Lost => "lost",
    };
    let via = match peer.via {
        Via::Lan => "lan",
        Via::Relay => "relay",
    };
    let lag: Map<String, Value> =
        lag.iter().flat_map(|lag| &lag.by_space).map(|(space, changes)| (space.to_string(), json!(changes))).collect();
    json!({
        "npub": peer.passport.and_then(|key| key.to_bech32().ok()),
        "peer_id": peer.peer_id.map(|id| id.to_string()),
        "state": state,
        "role": standing(peer.standing),
        "via": via,
        "last_seen": peer.last_seen,
        "abilities": peer.abilities,
        "reputation": peer.reputation,
        "lag": lag,
    })
}

async fn list(State(shared): State<Arc<Shared>>) -> Result<Json<Value>, Failure> {
    let peers = federation(&shared)?.peers().await?;
    let lags = shared.tools.sisters.as_ref().map(|sisters| sisters.links.lags()).unwrap_or_default();
    let of = |peer: &Peer| peer.install.and_then(|install| lags.get(&install));
    Ok(Json(peers.iter().map(|peer| shown(peer, of(peer))).collect()))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Invite {
    #[serde(default)]
    guest: bool,
}

async fn invite(State(shared): State<Arc<Shared>>, Json(asked): Json<Invite>) -> Result<Json<Value>, Failure> {
    let made = federation(&shared)?.invite(asked.guest).await?;
    Ok(Json(json!({ "code": made.code, "expires_at": made.expires_at, "guest": made.is_guest })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Join {
    code: String,
}

async fn join(State(shared): State<Arc<Shared>>, Json(asked): Json<Join>) -> Result<Json<Value>, Failure> {
    let joined = federation(&shared)?.join(&asked.code).await?;
    Ok(Json(json!({ "joined": true, "role": standing(joined) })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Whom {
    npub: PublicKey,
}

async fn admin(State(shared): State<Arc<Shared>>, Json(whom): Json<Whom>) -> Result<Json<Value>, Failure> {
    federation(&shared)?.admin(whom.npub).await?;
    Ok(Json(json!({ "npub": whom.npub.to_bech32().ok(), "role": "admin" })))
}

async fn remove(State(shared): State<Arc<Shared>>, Json(whom): Json<Whom>) -> Result<Json<Value>, Failure> {
    federation(&shared)?.remove(whom.npub).await?;
    Ok(Json(json!({ "npub": whom.npub.to_bech32().ok(), "role": "removed" })))
}

/// Who lacks what, and why.
async fn doctor(State(shared): State<Arc<Shared>>) -> Result<Json<Value>, Failure> {
    let peers = federation(&shared)?.peers().await?;
    let lags = shared.tools.sisters.as_ref().map(|sisters| sisters.links.lags()).unwrap_or_default();
    let members = peers.iter().filter(|peer| peer.passport.is_some());
    let all: Vec<Value> = members
        .map(|peer| {
            let lag = peer.install.and_then(|install| lags.get(&install));
            let failed: Map<String, Value> =
                lag.iter().flat_map(|lag| &lag.failed).map(|(space, why)| (space.to_string(), json!(why))).collect();
            let is_ok = peer.state == PeerState::Member && lag.is_some() && failed.is_empty();
            let why = match (peer.state, lag) {
                (PeerState::Lost, _) => "it is not reached; is it running, and on this network?",
                (_, None) => "its memory was not compared yet",
                (_, Some(_)) if !failed.is_empty() => "the last comparison did not end",
                (_, Some(_)) => "equal",
            };
            json!({ "npub": peer.passport.and_then(|key| key.to_bech32().ok()), "ok": is_ok, "message": why, "failed": failed })
        })
        .collect();
    let is_ok = all.iter().all(|peer| peer["ok"] == true);
    Ok(Json(json!({ "ok": is_ok, "peers": all })))
}
