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
use super::api::{Failure, broken};
use crate::sisters::Sisters;
use crate::sisters::digests::{Difference, Told, compare};

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
fn shown(peer: &Peer, difference: Option<&Difference>) -> Value {
    let state = match peer.state {
        PeerState::Seen => "seen",
        PeerState::Member => "member",
        PeerState::Lost => "lost",
    };
    let via = match peer.via {
        Via::Lan => "lan",
        Via::Relay => "relay",
    };
    json!({
        "npub": peer.passport.and_then(|key| key.to_bech32().ok()),
        "peer_id": peer.peer_id.map(|id| id.to_string()),
        "state": state,
        "role": standing(peer.standing),
        "via": via,
        "last_seen": peer.last_seen,
        "abilities": peer.abilities,
        "reputation": peer.reputation,
        "lag": difference.map(|difference| &difference.lag),
        "ahead": difference.map(|difference| &difference.ahead),
    })
}

/// What a peer said it has, held against what is here; none before it said anything.
async fn difference(shared: &Shared, peer: &Peer) -> Result<Option<(Told, Difference)>, Failure> {
    let Some(told) = peer.install.and_then(|install| sisters(shared).ok()?.digests.of(&install)) else {
        return Ok(None);
    };
    let digests = &sisters(shared)?.digests;
    let ours = digests.ours(&shared.tools.memory, told.event.pubkey).await.map_err(broken)?;
    let difference = compare(&ours, &told.digest);
    Ok(Some((told, difference)))
}

async fn list(State(shared): State<Arc<Shared>>) -> Result<Json<Value>, Failure> {
    let mut all = Vec::new();
    for peer in federation(&shared)?.peers().await? {
        let difference = difference(&shared, &peer).await?;
        all.push(shown(&peer, difference.as_ref().map(|(_, difference)| difference)));
    }
    Ok(Json(all.into()))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Invite {
    #[serde(default)]
    guest: bool,
    /// One that was removed and may come back.
    readmit: Option<PublicKey>,
}

async fn invite(State(shared): State<Arc<Shared>>, Json(asked): Json<Invite>) -> Result<Json<Value>, Failure> {
    let federation = federation(&shared)?;
    let made = match asked.readmit {
        Some(removed) => federation.readmit(asked.guest, removed).await?,
        None => federation.invite(asked.guest).await?,
    };
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

/// Who lacks what, and why; and the signed word of each that has the same.
async fn doctor(State(shared): State<Arc<Shared>>) -> Result<Json<Value>, Failure> {
    let sisters = sisters(&shared)?;
    let mut all = Vec::new();
    for peer in sisters.federation.peers().await?.iter().filter(|peer| peer.passport.is_some()) {
        let found = difference(&shared, peer).await?;
        let failures = peer.install.map(|install| sisters.links.failures(&install)).unwrap_or_default();
        let failed: Map<String, Value> = failures.iter().map(|(space, why)| (space.to_string(), json!(why))).collect();
        let is_equal = found.as_ref().is_some_and(|(_, difference)| difference.differing.is_empty());
        let why = match (peer.state, &found) {
            (PeerState::Lost, _) => "it is not reached; is it running, and on this network or on a relay of ours?",
            (_, None) => "it has not yet said what it has",
            (_, Some(_)) if is_equal => "equal",
            (_, Some(_)) if !failed.is_empty() => "the last sync did not end",
            (_, Some(_)) => "a sync is due within half a minute",
        };
        let difference = found.as_ref().map(|(_, difference)| difference);
        all.push(json!({
            "npub": peer.passport.and_then(|key| key.to_bech32().ok()),
            "ok": peer.state == PeerState::Member && is_equal,
            "message": why,
            "failed": failed,
            "lacks": difference.map(|difference| &difference.lag),
            "has_more": difference.map(|difference| &difference.ahead),
            "digest": found.as_ref().filter(|_| is_equal).map(|(told, _)| &told.event),
        }));
    }
    let is_ok = all.iter().all(|peer| peer["ok"] == true);
    Ok(Json(json!({ "ok": is_ok, "peers": all })))
}
