//! Who may use the API: who has the token of the data folder, or the owner by NIP-98.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use nips::http_auth::{WINDOW_S, verify};

use super::Shared;
use crate::journal::now_ms;

/// The largest body of an API call.
const MAX_BODY: usize = 1 << 20;
/// Authorisations remembered against replay.
const MAX_USED: usize = 4096;

/// NIP-98 events that were used, and when: each opens the door once.
#[derive(Debug, Default)]
pub struct Used(Mutex<HashMap<nostr::EventId, u64>>);

impl Used {
    fn is_fresh(&self, id: nostr::EventId, now: u64) -> bool {
        let mut used = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        used.retain(|_, at| *at + 2 * WINDOW_S > now);
        used.len() < MAX_USED && used.insert(id, now).is_none()
    }
}

/// True when the request carries the token of the data folder.
pub(crate) fn has_token(shared: &Shared, headers: &HeaderMap) -> bool {
    let given =
        headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok()).and_then(|v| v.strip_prefix("Bearer "));
    given.is_some_and(|given| same(given.trim(), &shared.token))
}

/// Compares without telling by its time where the first difference is.
fn same(a: &str, b: &str) -> bool {
    a.len() == b.len() && a.bytes().zip(b.bytes()).fold(0, |all, (x, y)| all | (x ^ y)) == 0
}

/// Lets in who may use the API.
pub(crate) async fn gate(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    if has_token(&shared, request.headers()) {
        return next.run(request).await;
    }
    match signed_by_owner(&shared, request).await {
        Ok(request) => next.run(request).await,
        Err(reason) => {
            let body = axum::Json(serde_json::json!({ "error": reason }));
            (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Nostr")], body).into_response()
        }
    }
}

async fn signed_by_owner(shared: &Shared, request: Request) -> Result<Request, String> {
    let given = request.headers().get(header::AUTHORIZATION).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let Some(encoded) = given.strip_prefix("Nostr ") else {
        return Err("say who you are: the token of the data folder, or NIP-98 by the owner".to_owned());
    };
    let json = STANDARD
        .decode(encoded.trim())
        .ok()
        .and_then(|b| String::from_utf8(b).ok())
        .ok_or("the authorisation is not base64")?;
    let url = called_url(shared, &request);
    let method = request.method().to_string();
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, MAX_BODY).await.map_err(|_| "the body is too large")?;
    let now = now_ms() / 1000;
    let (key, id) = verify(&json, &url, &method, &body, now).map_err(|e| e.to_string())?;
    if shared.tools.owner() != Some(key) {
        return Err("this key is not the owner's".to_owned());
    }
    if !shared.used_auth.is_fresh(id, now) {
        return Err("this authorisation was used before".to_owned());
    }
    Ok(Request::from_parts(parts, Body::from(body)))
}

/// The absolute URL as the owner's client wrote it: under `public_url` where there is one, else under our own address.
fn called_url(shared: &Shared, request: &Request) -> String {
    let path =
        request.extensions().get::<axum::extract::OriginalUri>().map_or_else(|| request.uri().clone(), |u| u.0.clone());
    let path = path.path_and_query().map_or("/", |p| p.as_str());
    let base = shared
        .public_url
        .as_ref()
        .map_or_else(|| shared.ready.http.clone(), |url| url.as_str().trim_end_matches('/').replacen("ws", "http", 1));
    format!("{base}{path}")
}
