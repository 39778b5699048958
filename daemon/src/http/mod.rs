//! The HTTP face, on the relay's port: NIP-11, NIP-05, health, metrics, the local API and a page for people.

mod api;
mod auctions;
mod auth;
mod client;
mod listen;
mod memory;
mod page;
mod peers;
mod status;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::Result;
use axum::Router;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{FromRequestParts, Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use federation::PeerState;
use nips::identity::{Identity, Nip05Document};
use serde::Deserialize;

use crate::config::{Config, Network};
use crate::desk::{DeskHandle, Tools};
use crate::home::{Home, Ready};

pub use client::{Client, NotRunning};
pub use listen::serve;
pub use status::Status;

/// Addresses of one TCP connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ends {
    pub local: Option<SocketAddr>,
    pub remote: SocketAddr,
}

/// Everything that handlers need.
pub(crate) struct Shared {
    pub tools: Arc<Tools>,
    pub identity: Identity,
    pub desk: DeskHandle,
    pub ready: Ready,
    pub token: String,
    pub public_url: Option<url::Url>,
    pub trusted_proxies: Vec<Network>,
    pub started: std::time::Instant,
    pub used_auth: auth::Used,
    /// The host of an embedding server elsewhere that the owner did not say yes to.
    pub embeds_elsewhere: Option<String>,
}

/// The HTTP face.
pub struct Face(Arc<Shared>);

impl Face {
    /// Makes the face and the token that lets local commands in.
    ///
    /// # Errors
    /// When the token cannot be written.
    pub fn new(
        home: &Home,
        config: &Config,
        tools: Arc<Tools>,
        identity: Identity,
        desk: DeskHandle,
        ready: Ready,
    ) -> Result<Self> {
        let token = hex::encode(rand::random::<[u8; 32]>());
        crate::home::write_private(&home.token(), token.as_bytes())?;
        Ok(Self(Arc::new(Shared {
            tools,
            identity,
            desk,
            ready,
            token,
            public_url: config.node.public_url.clone(),
            trusted_proxies: config.node.trusted_proxies.clone(),
            started: std::time::Instant::now(),
            used_auth: auth::Used::default(),
            embeds_elsewhere: config.embedder.unasked().map(str::to_owned),
        })))
    }

    /// All paths.
    pub fn router(&self) -> Router {
        Router::new()
            .route("/", get(root))
            .route("/.well-known/nostr.json", get(nip05))
            .route("/healthz", get(healthz))
            .route("/metrics", get(metrics))
            .nest("/api/v1", api::router(Arc::clone(&self.0)))
            .with_state(Arc::clone(&self.0))
    }
}

impl Shared {
    /// The client behind a connection: what a trusted proxy names, else the other end.
    pub(crate) fn client(&self, ends: Ends, headers: &HeaderMap) -> relay::ClientAddr {
        let peer = ends.remote.ip();
        let trusted = |ip| self.trusted_proxies.iter().any(|n| n.contains(ip));
        if !trusted(peer) {
            return relay::ClientAddr { ip: peer, proxied: false };
        }
        // The last address that no trusted proxy added is the client: what stands before it anybody may have written.
        let named =
            headers.get_all("x-forwarded-for").iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(','));
        let named: Vec<std::net::IpAddr> = named.filter_map(|a| a.trim().parse().ok()).collect();
        let client = named.iter().rev().find(|ip| !trusted(**ip)).copied();
        client.map_or(relay::ClientAddr { ip: peer, proxied: false }, |ip| relay::ClientAddr { ip, proxied: true })
    }

    /// True when the request comes from this machine and not through a proxy.
    pub(crate) fn is_local(&self, ends: Ends, headers: &HeaderMap) -> bool {
        let forwarded = headers.contains_key("x-forwarded-for") || headers.contains_key("forwarded");
        ends.remote.ip().to_canonical().is_loopback() && !forwarded
    }
}

fn ends(request: &Request) -> Ends {
    let nowhere = Ends { local: None, remote: SocketAddr::from(([0, 0, 0, 0], 0)) };
    request.extensions().get::<Ends>().copied().unwrap_or(nowhere)
}

async fn root(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let ends = ends(&request);
    let wants_nip11 = request
        .headers()
        .get(header::ACCEPT)
        .and_then(|v| v.to_str().ok())
        .is_some_and(|a| a.contains("application/nostr+json"));
    if request.headers().get(header::UPGRADE).is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(b"websocket")) {
        let client = shared.client(ends, request.headers());
        let (mut parts, _) = request.into_parts();
        return match WebSocketUpgrade::from_request_parts(&mut parts, &()).await {
            Ok(upgrade) => shared.tools.server.websocket(upgrade, client, ends.local).await,
            Err(refused) => refused.into_response(),
        };
    }
    if wants_nip11 {
        let body = shared.tools.server.information().to_string();
        return open_to_all(([(header::CONTENT_TYPE, "application/nostr+json")], body).into_response());
    }
    Html(page::page(&shared).await).into_response()
}

#[derive(Deserialize)]
struct Named {
    name: Option<String>,
}

async fn nip05(State(shared): State<Arc<Shared>>, Query(asked): Query<Named>) -> Response {
    open_to_all(axum::Json(Nip05Document::answer(&shared.identity, asked.name.as_deref())).into_response())
}

/// CORS for documents that any web page may read (NIP-05, NIP-11).
fn open_to_all(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("*"));
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET"));
    response
}

async fn healthz(State(shared): State<Arc<Shared>>) -> Response {
    let mut reasons = Vec::new();
    if !shared.tools.metrics.is_journal_ok() {
        reasons.push("the journal cannot be written");
    }
    if !shared.tools.room.load(Ordering::Relaxed) {
        reasons.push("the disk is nearly full");
    }
    if shared.tools.passport.is_superseded() {
        reasons.push("another install speaks for this passport");
    }
    let code = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, axum::Json(serde_json::json!({ "ok": reasons.is_empty(), "reasons": reasons }))).into_response()
}

async fn metrics(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    if !shared.is_local(ends(&request), request.headers()) && !auth::has_token(&shared, request.headers()) {
        return (StatusCode::FORBIDDEN, "metrics are for this machine, or for who has the API token\n").into_response();
    }
    let stats = shared.tools.server.stats();
    let events = [
        ("stored", stats.stored),
        ("broadcast", stats.broadcast),
        ("duplicate", stats.duplicate),
        ("replaced", stats.replaced),
        ("invalid", stats.invalid),
        ("refused", stats.refused),
        ("rate_limited", stats.rate_limited),
        ("failed", stats.failed),
    ];
    match shared.tools.memory.stats().await {
        Ok(stats) => shared.tools.metrics.memory(&stats),
        Err(error) => tracing::warn!(%error, "the memory cannot be counted"),
    }
    if let Some(sisters) = &shared.tools.sisters
        && let Ok(peers) = sisters.federation.peers().await
    {
        let count = |state| peers.iter().filter(|peer| peer.state == state).count();
        let states = [("seen", PeerState::Seen), ("member", PeerState::Member), ("lost", PeerState::Lost)];
        shared.tools.metrics.peers(states.map(|(name, state)| (name, count(state))));
    }
    let healthy = shared.tools.metrics.is_journal_ok() && !shared.tools.passport.is_superseded();
    let text = shared.tools.metrics.text(
        usize::try_from(stats.connections).unwrap_or(usize::MAX),
        shared.tools.server.last_sequence(),
        &events,
        healthy,
    );
    ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text).into_response()
}
