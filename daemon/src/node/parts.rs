//! Each part of a node, made from the configuration.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use bots::conscience::Lines;
use bots::model::{Api, Link, Secret, SystemClock};
use bots::talk::letters;
use bots::voice::{Voice, VoiceConfig};
use bots::{Chain, Conscience, FetchLimits, Fetcher, ModelConfig, NodeFacts, Serves, Soul, Workshop};
use memory::{Memory, MemoryOptions};
use nips::Attestation;
use nips::identity::{Identity, SoulVersion, published_relays};
use nostr::{NostrSigner, PublicKey, RelayUrl, ToBech32};
use relay::signer::RemoteSignerError;
use relay::{AuthPolicy, Outbox, Pool, RemoteSigner, Server, ServerConfig, WritePolicy};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Found;
use crate::adapters::{Ledger, Metered, RelayLibrary};
use crate::config::{self, Config};
use crate::desk::{LINKS, Links, People, Rules, Tools};
use crate::home::{Home, Ready};
use crate::installs::Installs;
use crate::journal::{Journal, OWNER_KEY, now_ms};
use crate::keys::{NodeKeys, Passphrase, Passport};
use crate::metrics::Metrics;
use crate::passport::PassportWatch;
use crate::sisters;

/// Under which name the journal keeps the history of the soul.
const SOULS: &str = "souls";
/// Its newest entries that are kept, so that the event fits every relay.
const MAX_SOULS: usize = 200;
/// How long a remote signer may take to answer.
const SIGNER: Duration = Duration::from_secs(8);
/// NIP-46 travels in ephemeral events, which no relay keeps: one that is lost is sent again.
const SIGNER_TRIES: u32 = 3;

pub(super) async fn bind(config: &Config, listen: Option<SocketAddr>) -> Result<Vec<TcpListener>> {
    let addresses = listen.map_or_else(|| config.node.listen.clone(), |a| vec![a]);
    let mut listeners = Vec::new();
    for address in addresses {
        let listener = TcpListener::bind(address).await.map_err(|error| why_not(address, &error))?;
        listeners.push(listener);
    }
    Ok(listeners)
}

fn why_not(address: SocketAddr, error: &std::io::Error) -> anyhow::Error {
    if error.kind() == std::io::ErrorKind::AddrInUse {
        return anyhow!(
            "{address} is taken by another program; stop it, or choose another port: `timmy run --listen 127.0.0.1:0` takes a free one"
        );
    }
    if error.kind() == std::io::ErrorKind::PermissionDenied {
        return anyhow!("{address}: this user may not listen there; ports below 1024 need root");
    }
    anyhow!("cannot listen on {address}: {error}")
}

pub(super) fn open_keys(home: &Home, config: &Config, passphrase: Option<&Passphrase>) -> Result<NodeKeys> {
    let passport = if config.node.bunker_file.is_some() { Passport::Remote } else { Passport::File };
    NodeKeys::open(home, passport, passphrase)
}

pub(super) async fn signer(config: &Config, keys: &NodeKeys) -> Result<Arc<dyn NostrSigner>> {
    if let Some(file) = &config.node.bunker_file {
        let uri = std::fs::read_to_string(file)
            .with_context(|| format!("cannot read node.bunker_file {}", file.display()))?;
        return remote(uri.trim(), keys).await.context("the remote signer (node.bunker_file) cannot be used");
    }
    match &keys.passport {
        Some(passport) => Ok(Arc::new(passport.clone())),
        None => bail!("there is no passport key"),
    }
}

/// Connects to the signer. It knows this install by its install key, so a restart needs no new approval.
async fn remote(uri: &str, keys: &NodeKeys) -> Result<Arc<dyn NostrSigner>, RemoteSignerError> {
    let mut tries = 1;
    loop {
        match RemoteSigner::connect(uri, keys.install.clone(), SIGNER).await {
            Err(RemoteSignerError::TimedOut(_)) if tries < SIGNER_TRIES => tries += 1,
            outcome => return outcome,
        }
    }
}

pub(super) async fn people(config: &Config, journal: &Journal) -> Result<People> {
    let claimed = journal.meta(OWNER_KEY).await?.and_then(|hex| PublicKey::from_hex(&hex).ok());
    let owner = config.owner.npub.or(claimed);
    let claim = owner.is_none().then(claim_code);
    let links =
        journal.meta(LINKS).await?.and_then(|text| serde_json::from_str::<Links>(&text).ok()).unwrap_or_default();
    Ok(People {
        owner,
        allowed: config.nostr.allow.iter().copied().collect(),
        claim,
        owner_mxid: config.owner.mxid.clone(),
        allowed_mxids: config.matrix.allow.iter().cloned().collect(),
        links: Arc::new(RwLock::new(links)),
    })
}

/// Twelve letters and digits that are not mistaken for each other: 60 bits, used once, new at each start.
fn claim_code() -> String {
    let code: Vec<char> = letters(&rand::random::<[u8; 12]>()).chars().collect();
    code.chunks(4).map(|part| part.iter().collect::<String>()).collect::<Vec<_>>().join("-")
}

pub(super) fn open_relay(
    home: &Home,
    config: &Config,
    node: PublicKey,
    people: &People,
    listen: &[SocketAddr],
    (tracker, cancel): (&TaskTracker, &CancellationToken),
) -> Result<Server> {
    let settings = ServerConfig {
        name: config.node.name.clone(),
        description: config.node.about.clone(),
        owner: people.owner,
        public_url: config.node.public_url.clone(),
        listen: listen.to_vec(),
        max_bytes: config.relay.max_bytes,
        max_connections: config.relay.max_connections,
        auth: match config.relay.auth {
            config::Auth::None => AuthPolicy::None,
            config::Auth::Dm => AuthPolicy::Dm,
            config::Auth::All => AuthPolicy::All,
        },
        write: match config.relay.write {
            config::Write::Open => WritePolicy::Open,
            config::Write::Members => WritePolicy::Members,
        },
        retention_days: config.relay.retention_days,
        ..ServerConfig::new(home.relay(), node)
    };
    Server::open(settings, people.known(), tracker, cancel.clone()).context("the embedded relay does not open")
}

pub(super) async fn open_memory(
    home: &Home,
    config: &Config,
    found: &Found,
    installs: &Installs,
    (tracker, cancel): (&TaskTracker, &CancellationToken),
) -> Result<Memory> {
    let options = MemoryOptions {
        dir: home.memory(),
        install: found.keys.install.clone(),
        author: found.identity.node,
        key: found.keys.memory.clone(),
        directory: Arc::new(installs.clone()),
        embedder: crate::embedder::open(&config.embedder)?,
        clock: Arc::new(|| now_ms() / 1000),
    };
    Memory::open(options, tracker, cancel.clone()).await.context("the memory does not open")
}

/// What the federation is made of.
pub(super) fn sisters<'a>(
    config: &'a Config,
    found: &'a Found,
    signer: Arc<dyn NostrSigner>,
    (memory, installs, passport, pool, outbox): (&Memory, &Installs, &PassportWatch, &Pool, &Outbox),
    pace: &sisters::Pace,
) -> sisters::Parts<'a> {
    sisters::Parts {
        config,
        keys: &found.keys,
        node: found.identity.node,
        signer,
        journal: found.journal.clone(),
        memory: memory.clone(),
        installs: installs.clone(),
        passport: passport.clone(),
        pool: pool.clone(),
        outbox: outbox.clone(),
        pace: pace.clone(),
        owner: found.people.owner,
    }
}

pub(super) fn identity(config: &Config, node: PublicKey, listen: &[SocketAddr]) -> Identity {
    let local = listen.first().map_or_else(|| "ws://127.0.0.1:7777".to_owned(), |a| format!("ws://{}", reachable(*a)));
    let relays = RelayUrl::parse(&local)
        .map(|local| published_relays(config.node.public_url.as_ref(), &config.nostr.relays, &local))
        .unwrap_or_default();
    Identity {
        node,
        name: config.node.name.clone(),
        about: config.node.about.clone(),
        domain: config.node.domain.clone(),
        relays,
        external: config.external_identities(),
        attestation: attestation(config, node),
        souls: vec![],
    }
}

/// The soul of the configuration, else the one that every agent begins with.
pub(super) fn soul(config: &Config) -> Result<Soul> {
    let Some(path) = &config.node.soul else { return Ok(Soul::default()) };
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read node.soul {}", path.display()))?;
    Soul::new(&text).with_context(|| format!("node.soul {} cannot be used", path.display()))
}

/// The souls that this node had; one that is new is written down with the time.
pub(super) async fn souls(journal: &Journal, soul: &Soul) -> Result<Vec<SoulVersion>> {
    let known = journal.meta(SOULS).await?.unwrap_or_default();
    let mut souls: Vec<SoulVersion> = serde_json::from_str(&known).unwrap_or_default();
    let sha256 = soul.sha256();
    if souls.last().is_none_or(|last| last.sha256 != sha256) {
        souls.push(SoulVersion { sha256, since: now_ms() / 1000 });
        let from = souls.len().saturating_sub(MAX_SOULS);
        souls.drain(..from);
        journal.set_meta(SOULS, serde_json::to_string(&souls)?).await?;
    }
    Ok(souls)
}

/// The owner's attestation, if it is good for this node's profile now. A bad one is a word in the log: the node is no worse without it.
fn attestation(config: &Config, node: PublicKey) -> Option<Attestation> {
    let attestation = Attestation::parse(&config.owner.attestation).ok()?;
    match attestation.verify(&node, 0, now_ms() / 1000) {
        Ok(()) => Some(attestation),
        Err(error) => {
            tracing::warn!(%error, "owner.attestation is not published; `timmy attest` makes a new one");
            None
        }
    }
}

/// The embedded relay's own addresses: an answer for one of them is for our own relay.
pub(super) fn own_relays(config: &Config, ready: &Ready) -> Vec<RelayUrl> {
    let public = config.node.public_url.as_ref().map(url::Url::as_str);
    public.into_iter().chain([ready.relay.as_str()]).filter_map(|url| RelayUrl::parse(url).ok()).collect()
}

/// An address that a program on this machine can dial: 0.0.0.0 and [::] are not.
fn reachable(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => SocketAddr::from(([127, 0, 0, 1], v4.port())),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, v6.port())),
        SocketAddr::V4(_) | SocketAddr::V6(_) => address,
    }
}

pub(super) fn ready(node: PublicKey, keys: &NodeKeys, listen: &[SocketAddr]) -> Result<Ready> {
    let address = reachable(*listen.first().context("no address to listen on")?);
    Ok(Ready {
        ready: true,
        npub: node.to_bech32()?,
        pubkey: node.to_hex(),
        peer_id: keys.peer_id(),
        relay: format!("ws://{address}"),
        http: format!("http://{address}"),
        pid: std::process::id(),
    })
}

pub(super) async fn sequence(journal: &Journal) -> Result<u64> {
    Ok(journal.meta("card_sequence").await?.and_then(|s| s.parse().ok()).unwrap_or(1))
}

pub(super) fn conscience(config: &Config) -> Result<Conscience> {
    let lines = match &config.safety.lines_file {
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("cannot read safety.lines_file {}", path.display()))?;
            Lines::parse(&text).with_context(|| format!("safety.lines_file {}", path.display()))?
        }
        None => Lines::default(),
    };
    Conscience::new(lines).context("the rules of the conscience do not load")
}

pub(super) fn workshop(
    config: &Config,
    server: &Server,
    ledger: Arc<Ledger>,
    metrics: &Metrics,
    conscience: Conscience,
) -> Result<Workshop> {
    let clock = Arc::new(SystemClock::default());
    let links = config.models.iter().map(|m| link(m, metrics)).collect::<Result<Vec<_>>>()?;
    let chain = Chain::from_links(links, ledger, clock.clone());
    let fetcher = Fetcher::new(Arc::new(bots::fetch::SystemResolver), FetchLimits::default(), config.private_hosts());
    Ok(Workshop::new(Arc::new(chain), fetcher, Arc::new(RelayLibrary(server.clone())), conscience, clock))
}

/// Model servers on this machine that nobody configured, behind those that somebody did.
pub(super) async fn found_models(configured: &[config::Model]) -> Vec<config::Model> {
    let known: Vec<url::Url> = configured.iter().map(|model| model.base_url.clone()).collect();
    let found = bots::model::find(&bots::model::USUAL, &known).await;
    let model = |found: bots::model::Found| {
        tracing::info!(name = found.name, model = found.model, "a model server was found on this machine");
        config::Model::found(found.name, found.base_url, found.model)
    };
    found.into_iter().map(model).collect()
}

pub(crate) fn link(model: &config::Model, metrics: &Metrics) -> Result<Link> {
    let settings = ModelConfig {
        name: model.name.clone(),
        api: match model.api {
            config::Api::Openai => Api::OpenAi,
            config::Api::Anthropic => Api::Anthropic,
        },
        base_url: model.base_url.clone(),
        model: model.model.clone(),
        api_key: Config::api_key(model)?.as_deref().map(Secret::new),
        timeout: Duration::from_secs(model.timeout_s),
        serves: match model.serves() {
            config::Serves::Anyone => Serves::Anyone,
            config::Serves::People => Serves::People,
            config::Serves::Owner => Serves::Owner,
        },
        sees_memory: model.sees_memory(),
        sees_pictures: model.sees_pictures,
        stranger_tokens_per_day: model.stranger_tokens_per_day,
        context_tokens: model.context_tokens,
    };
    let client = bots::model::client(settings.clone()).map_err(|e| anyhow!("model `{}`: {e}", model.name))?;
    let provider = model.base_url.host_str().unwrap_or("unknown").to_owned();
    let metered = Metered { model: client, provider, name: model.name.clone(), metrics: metrics.clone() };
    Ok(Link { config: settings, model: Arc::new(metered) })
}

/// What the node says of itself.
pub(super) fn facts(config: &Config, found: &Found) -> NodeFacts {
    NodeFacts {
        name: config.node.name.clone(),
        npub: found.ready.npub.clone(),
        kinds: BTreeSet::new(),
        relay_url: found.identity.relays.first().map(ToString::to_string).unwrap_or_default(),
    }
}

/// The speech server, if there is one.
pub(super) fn voice(config: &Config) -> Result<Option<Voice>> {
    let speech = &config.voice;
    let Some(base_url) = speech.base_url.clone() else { return Ok(None) };
    let read = |path: &std::path::PathBuf| {
        std::fs::read_to_string(path).with_context(|| format!("cannot read voice.api_key_file {}", path.display()))
    };
    let settings = VoiceConfig {
        base_url,
        api_key: speech.api_key_file.as_ref().map(read).transpose()?.as_deref().map(Secret::new),
        hears: speech.hears.clone(),
        speaks: speech.speaks.clone().map(|model| (model, speech.voice.clone())),
    };
    Ok(Some(Voice::new(settings)?))
}

pub(super) async fn rules(config: &Config, journal: &Journal) -> Result<Rules> {
    let known = journal.meta("first_start_s").await?.and_then(|s| s.parse().ok());
    let first_start_s = match known {
        Some(at) => at,
        None => {
            let now = now_ms() / 1000;
            journal.set_meta("first_start_s", now.to_string()).await?;
            now
        }
    };
    Ok(Rules {
        max_running: config.dvm.max_running,
        max_queued: config.dvm.max_queued,
        jobs_per_author_per_min: config.dvm.jobs_per_author_per_min,
        catch_up_s: config.dvm.catch_up_h.saturating_mul(3600),
        first_start_s,
        kinds: config.dvm.kinds.iter().copied().collect(),
    })
}

pub(super) fn offered(tools: &Tools, rules: &Rules) -> BTreeSet<u16> {
    if !tools.jobs_enabled {
        return BTreeSet::new();
    }
    tools.workshop.offered_kinds().into_iter().filter(|k| rules.kinds.is_empty() || rules.kinds.contains(k)).collect()
}
