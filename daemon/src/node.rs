//! The running node: plain wiring, from the data folder to the ready line and back down.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use bots::conscience::Lines;
use bots::model::{Api, Link, OpenAiModel, Secret, SystemClock};
use bots::{Chain, Conscience, FetchLimits, Fetcher, ModelConfig, NodeFacts, Serves, Workshop};
use nips::identity::{Identity, published_relays};
use nostr::{Filter, Kind, NostrSigner, PublicKey, RelayUrl, ToBech32};
use relay::outbox::OutboxConfig;
use relay::pool::{LookBack, PoolConfig, Role, Subscription};
use relay::{AuthPolicy, Incoming, Outbox, Pool, RemoteSigner, Server, ServerConfig, WritePolicy};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::adapters::{Ledger, Metered, OwnRelay, RelayLibrary};
use crate::config::{self, Config};
use crate::desk::speaker::Speaker;
use crate::desk::{Desk, DeskHandle, OWNER_KEY, People, Rules, Tools, follow_pool, follow_relay};
use crate::home::{Home, Ready};
use crate::http::{self, Face};
use crate::journal::{Journal, now_ms};
use crate::keys::{NodeKeys, Passphrase, Passport};
use crate::metrics::Metrics;
use crate::passport::PassportWatch;
use crate::publish::Publisher;

/// How long everything may take to stop.
const FAREWELL: Duration = Duration::from_secs(8);
/// How long a remote signer may take to answer.
const SIGNER: Duration = Duration::from_secs(20);
/// How long outside relays are asked, before jobs are taken, whether another install speaks for the passport.
const CARD_LOOKUP: Duration = Duration::from_secs(4);
/// Sealed events opened at a time.
const OPENERS: usize = 8;
/// Bytes that must stay free for the journal and the keys.
pub const RESERVE_BYTES: u64 = 256 << 20;
/// How often the disk is looked at, and old rows are pruned.
const HOUSEKEEPING: Duration = Duration::from_secs(10);
/// Finished jobs are kept this long, ms.
const KEEP_MS: u64 = 30 * 24 * 3600 * 1000;

/// How `timmy run` was called.
#[derive(Debug, Clone, Default)]
pub struct RunOptions {
    /// Overrides `node.listen`.
    pub listen: Option<SocketAddr>,
    /// Speak for the passport although another install does.
    pub take_over: bool,
}

/// A node that serves.
pub struct Node {
    /// What commands on this machine are told.
    pub ready: Ready,
    /// What is offered to strangers.
    pub kinds: BTreeSet<u16>,
    /// The code that makes its sender the owner; none when there is one.
    pub claim: Option<String>,
    tracker: TaskTracker,
    cancel: CancellationToken,
    /// The relay and the HTTP face end after the desk has said its last words.
    outer: CancellationToken,
    _lock: crate::home::Lock,
}

/// Starts a node on `home`; it serves when this returns.
///
/// # Errors
/// Says what failed, why, and what to do.
pub async fn start(
    home: &Home,
    config: &Config,
    options: &RunOptions,
    passphrase: Option<&Passphrase>,
) -> Result<Node> {
    home.create()?;
    let lock = home.lock()?;
    let listeners = bind(config, options.listen).await?;
    let listen = listeners.iter().map(TcpListener::local_addr).collect::<Result<Vec<_>, _>>()?;
    let keys = open_keys(home, config, passphrase)?;
    let journal = Journal::open(&home.journal())?;
    let signer = signer(config, &keys).await?;
    let node = signer.get_public_key().await.map_err(|e| anyhow!("the signer does not say who it is: {e}"))?;
    let (tracker, cancel, outer) = (TaskTracker::new(), CancellationToken::new(), CancellationToken::new());
    let people = people(config, &journal).await?;
    let server = open_relay(home, config, node, &people, &listen, &tracker, &outer)?;
    let metrics = Metrics::new();
    let (ledger, writing) = Ledger::open(journal.clone(), now_ms() / 86_400_000).await?;
    tracker.spawn(writing);
    let (pool, incoming) = Pool::new(PoolConfig::new(Arc::clone(&signer), ledger.clone()), &tracker, cancel.clone());
    let outbox_config =
        OutboxConfig::new(Arc::new(journal.clone()), pool.clone(), Some(Arc::new(OwnRelay(server.clone()))));
    let (outbox, settled) = Outbox::start(outbox_config, &tracker, cancel.clone());
    let identity = identity(config, node, &listen);
    let ready = ready(node, &keys, &listen)?;
    let passport = PassportWatch::new(node, &keys, sequence(&journal).await?);
    let workshop = Arc::new(workshop(config, &server, ledger, &metrics)?);
    workshop.chain().probe().await;
    let speaker = Speaker {
        node,
        signer,
        server: server.clone(),
        pool: pool.clone(),
        configured: config.nostr.relays.clone(),
        hint: identity.relays.first().cloned(),
    };
    let tools = Arc::new(Tools {
        journal: journal.clone(),
        server: server.clone(),
        pool,
        outbox,
        speaker,
        workshop,
        conscience: conscience(config)?,
        country: config.owner.country.clone(),
        tell_owner: config.safety.tell_owner,
        facts: NodeFacts {
            name: config.node.name.clone(),
            npub: ready.npub.clone(),
            kinds: BTreeSet::new(),
            relay_url: identity.relays.first().map(ToString::to_string).unwrap_or_default(),
        },
        metrics,
        tracker: tracker.clone(),
        cancel: cancel.clone(),
        passport,
        jobs_enabled: config.dvm.enabled,
        openers: Arc::new(Semaphore::new(OPENERS)),
        room: Arc::new(AtomicBool::new(true)),
        people: RwLock::new(people.clone()),
    });
    let rules = rules(config, &journal).await?;
    let (desk, handle) = Desk::new(Arc::clone(&tools), rules.clone());
    let face = Face::new(home, config, Arc::clone(&tools), identity.clone(), handle.clone(), ready.clone())?;
    for listener in listeners {
        tracker.spawn(http::serve(listener, face.router(), outer.clone()));
    }
    crate::home::write_private(&home.ready_file(), serde_json::to_string(&ready)?.as_bytes())?;
    let publisher =
        Publisher { tools: Arc::clone(&tools), keys, identity, kinds: rules.kinds.clone(), desk: handle.clone() };
    let kinds = offered(&tools, &rules);
    let streams = Streams { incoming, settled };
    let begin =
        Beginning { tools: Arc::clone(&tools), rules, take_over: options.take_over, publisher, desk, handle, streams };
    tracker.spawn(begin.run());
    tracker.spawn(keep_house(home.clone(), tools));
    tracker.close();
    Ok(Node { ready, kinds, claim: people.claim, tracker, cancel, outer, _lock: lock })
}

impl Node {
    /// Resolves when the node ends by itself.
    pub async fn failed(&self) {
        self.cancel.cancelled().await;
    }

    /// Lets the desk drain, then closes the doors. Everything has ended when this returns.
    pub async fn stop(self) {
        self.cancel.cancel();
        // The relay stays until the desk and the outbox have ended: what they say last is still stored.
        let grace = Duration::from_millis(300);
        tokio::time::sleep(grace).await;
        self.outer.cancel();
        if tokio::time::timeout(FAREWELL, self.tracker.wait()).await.is_err() {
            tracing::warn!("some tasks did not end in time; the journal has what they were doing");
        }
    }
}

async fn bind(config: &Config, listen: Option<SocketAddr>) -> Result<Vec<TcpListener>> {
    let addresses = listen.map_or_else(|| config.node.listen.clone(), |a| vec![a]);
    let mut listeners = Vec::new();
    for address in addresses {
        let listener = TcpListener::bind(address).await.map_err(|error| match error.kind() {
            std::io::ErrorKind::AddrInUse => anyhow!(
                "{address} is taken by another program; stop it, or choose another port: `timmy run --listen 127.0.0.1:0` takes a free one"
            ),
            std::io::ErrorKind::PermissionDenied => anyhow!("{address}: this user may not listen there; ports below 1024 need root"),
            _ => anyhow!("cannot listen on {address}: {error}"),
        })?;
        listeners.push(listener);
    }
    Ok(listeners)
}

fn open_keys(home: &Home, config: &Config, passphrase: Option<&Passphrase>) -> Result<NodeKeys> {
    let passport = if config.node.bunker_file.is_some() { Passport::Remote } else { Passport::File };
    NodeKeys::open(home, passport, passphrase)
}

async fn signer(config: &Config, keys: &NodeKeys) -> Result<Arc<dyn NostrSigner>> {
    if let Some(file) = &config.node.bunker_file {
        let uri = std::fs::read_to_string(file)
            .with_context(|| format!("cannot read node.bunker_file {}", file.display()))?;
        // The signer knows this install by its install key, so a restart needs no new approval.
        return RemoteSigner::connect(uri.trim(), keys.install.clone(), SIGNER)
            .await
            .context("the remote signer (node.bunker_file) cannot be used");
    }
    match &keys.passport {
        Some(passport) => Ok(Arc::new(passport.clone())),
        None => bail!("there is no passport key"),
    }
}

async fn people(config: &Config, journal: &Journal) -> Result<People> {
    let claimed = journal.meta(OWNER_KEY).await?.and_then(|hex| PublicKey::from_hex(&hex).ok());
    let owner = config.owner.npub.or(claimed);
    let claim = owner.is_none().then(claim_code);
    Ok(People { owner, allowed: config.nostr.allow.iter().copied().collect(), claim })
}

/// Twelve letters and digits that are not mistaken for each other: 60 bits, used once, new at each start.
fn claim_code() -> String {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";
    let letters: Vec<char> =
        rand::random::<[u8; 12]>().iter().map(|b| char::from(ALPHABET[usize::from(b & 31)])).collect();
    letters.chunks(4).map(|c| c.iter().collect::<String>()).collect::<Vec<_>>().join("-")
}

fn open_relay(
    home: &Home,
    config: &Config,
    node: PublicKey,
    people: &People,
    listen: &[SocketAddr],
    tracker: &TaskTracker,
    cancel: &CancellationToken,
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

fn identity(config: &Config, node: PublicKey, listen: &[SocketAddr]) -> Identity {
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
    }
}

/// An address that a program on this machine can dial: 0.0.0.0 and [::] are not.
fn reachable(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => SocketAddr::from(([127, 0, 0, 1], v4.port())),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, v6.port())),
        other => other,
    }
}

fn ready(node: PublicKey, keys: &NodeKeys, listen: &[SocketAddr]) -> Result<Ready> {
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

async fn sequence(journal: &Journal) -> Result<u64> {
    Ok(journal.meta("card_sequence").await?.and_then(|s| s.parse().ok()).unwrap_or(1))
}

fn conscience(config: &Config) -> Result<Conscience> {
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

fn workshop(config: &Config, server: &Server, ledger: Arc<Ledger>, metrics: &Metrics) -> Result<Workshop> {
    let clock = Arc::new(SystemClock::default());
    let links = config.models.iter().map(|m| link(m, metrics)).collect::<Result<Vec<_>>>()?;
    let chain = Chain::from_links(links, ledger, clock.clone());
    let fetcher = Fetcher::new(Arc::new(bots::fetch::SystemResolver), FetchLimits::default(), config.private_hosts());
    Ok(Workshop::new(Arc::new(chain), fetcher, Arc::new(RelayLibrary(server.clone())), conscience(config)?, clock))
}

pub(crate) fn link(model: &config::Model, metrics: &Metrics) -> Result<Link> {
    let settings = ModelConfig {
        name: model.name.clone(),
        api: Api::OpenAi,
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
        stranger_tokens_per_day: model.stranger_tokens_per_day,
    };
    let client = OpenAiModel::new(settings.clone()).map_err(|e| anyhow!("model `{}`: {e}", model.name))?;
    let provider = model.base_url.host_str().unwrap_or("unknown").to_owned();
    let metered = Metered { model: Arc::new(client), provider, name: model.name.clone(), metrics: metrics.clone() };
    Ok(Link { config: settings, model: Arc::new(metered) })
}

async fn rules(config: &Config, journal: &Journal) -> Result<Rules> {
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

fn offered(tools: &Tools, rules: &Rules) -> BTreeSet<u16> {
    if !tools.jobs_enabled {
        return BTreeSet::new();
    }
    tools.workshop.offered_kinds().into_iter().filter(|k| rules.kinds.is_empty() || rules.kinds.contains(k)).collect()
}

struct Streams {
    incoming: mpsc::Receiver<Incoming>,
    settled: mpsc::Receiver<relay::Settled>,
}

/// What happens between serving and working: whose passport is it, what was left undone, what came meanwhile.
struct Beginning {
    tools: Arc<Tools>,
    rules: Rules,
    take_over: bool,
    publisher: Publisher,
    desk: Desk,
    handle: DeskHandle,
    streams: Streams,
}

impl Beginning {
    async fn run(self) {
        let cancel = self.tools.cancel.clone();
        if let Err(error) = self.begin().await {
            tracing::error!(error = format!("{error:#}"), "the node cannot work; it stops");
            cancel.cancel();
        }
    }

    async fn begin(mut self) -> Result<()> {
        let Self { tools, .. } = &self;
        for url in &tools.speaker.configured {
            tools.pool.add_relay(url, Role::Configured);
        }
        let restored = tools.journal.meta("restored_at_s").await?;
        self.check_passport(restored.is_some()).await?;
        if let Some(at) = restored {
            self.fetch_own_results(at.parse().unwrap_or_default()).await?;
        }
        let count = self.desk.recover().await?;
        if count > 0 {
            tracing::info!(count, "taking up unfinished jobs");
        }
        self.subscribe();
        let tools = Arc::clone(&self.tools);
        let after = tools.journal.meta("relay_sequence").await?.and_then(|s| s.parse().ok());
        let after = after.unwrap_or(0).min(tools.server.last_sequence());
        let (watch, cancel) = (tools.passport.clone(), tools.cancel.clone());
        tools.tracker.spawn(follow_relay(
            tools.server.follow(after),
            self.handle.clone(),
            watch.clone(),
            cancel.clone(),
        ));
        tools.tracker.spawn(follow_pool(self.streams.incoming, self.handle.clone(), watch, cancel));
        tools.tracker.spawn(forward_settled(self.streams.settled, self.handle));
        tools.tracker.spawn(self.publisher.run());
        self.desk.run().await;
        Ok(())
    }

    /// Asks our own and the owner's relays whether a newer card speaks for the passport. A restored node takes a higher number.
    async fn check_passport(&self, restored: bool) -> Result<()> {
        let tools = &self.tools;
        let filter = PassportWatch::filter(tools.speaker.node);
        let own = tools.server.query(vec![filter.clone()]).await.unwrap_or_default();
        let asked = tools.speaker.configured.iter().map(|url| tools.pool.fetch(url, vec![filter.clone()], CARD_LOOKUP));
        let found = futures_util::future::join_all(asked).await;
        own.iter().chain(found.iter().flatten().flatten()).for_each(|card| tools.passport.saw(card));
        let highest = tools.passport.highest_seen();
        let first = restored && tools.journal.meta("restored_taken").await?.is_none();
        if self.take_over || (first && highest >= tools.passport.sequence()) || first {
            let sequence = highest.max(tools.passport.sequence()) + 1;
            tools.passport.take_over(sequence);
            tools.journal.set_meta("card_sequence", sequence.to_string()).await?;
            tools.journal.set_meta("restored_taken", "1".to_owned()).await?;
            tracing::info!(sequence, "this install speaks for the passport now");
        }
        Ok(())
    }

    /// A restored journal does not know what was answered after the backup: its own results say so.
    async fn fetch_own_results(&self, since_s: u64) -> Result<()> {
        let tools = &self.tools;
        let kinds = tools.workshop.kinds_for(nips::Audience::Owner).into_iter().map(|k| Kind::from_u16(k + 1000));
        let since = since_s.saturating_sub(self.rules.catch_up_s);
        let filter = Filter::new().author(tools.speaker.node).kinds(kinds).since(nostr::Timestamp::from_secs(since));
        let own = tools.server.query(vec![filter.clone()]).await.unwrap_or_default();
        let asked = tools
            .speaker
            .configured
            .iter()
            .map(|url| tools.pool.fetch(url, vec![filter.clone()], Duration::from_secs(15)));
        let found = futures_util::future::join_all(asked).await;
        for (url, reply) in tools.speaker.configured.iter().zip(&found) {
            if let Err(error) = reply {
                tracing::warn!(relay = %url, %error, "own results could not be fetched after the restore; a job may be answered twice");
            }
        }
        let results = own.iter().chain(found.iter().flatten().flatten());
        let answered: Vec<[u8; 32]> =
            results.filter_map(nips::job::reply::answered_job).map(|id| *id.as_bytes()).collect();
        tracing::info!(count = answered.len(), "found own results after the restore");
        tools.journal.mark_answered(answered, now_ms()).await?;
        Ok(())
    }

    fn subscribe(&self) {
        let tools = &self.tools;
        let node = tools.speaker.node;
        let since = self.rules.first_start_s.max((now_ms() / 1000).saturating_sub(self.rules.catch_up_s));
        let wanted = |id: &str, filters: Vec<Filter>, lookback| Subscription {
            id: id.to_owned(),
            filters,
            lookback,
            first_since_s: since,
        };
        if tools.jobs_enabled {
            let kinds: Vec<Kind> = self.watched_kinds().into_iter().map(Kind::from_u16).collect();
            let jobs = vec![
                Filter::new().kinds(kinds),
                Filter::new().kind(Kind::EventDeletion).custom_tags(
                    nostr::SingleLetterTag::lowercase(nostr::Alphabet::K),
                    self.watched_kinds().iter().map(u16::to_string),
                ),
            ];
            tools.pool.subscribe(wanted("jobs", jobs, LookBack::Minutes));
        }
        let wraps = vec![Filter::new().kind(Kind::GiftWrap).pubkey(node)];
        tools.pool.subscribe(wanted("messages", wraps, LookBack::GiftWraps));
        tools.pool.subscribe(wanted("passport", vec![PassportWatch::filter(node)], LookBack::Minutes));
    }

    /// Every kind that this node could do, whatever the health of its models now.
    fn watched_kinds(&self) -> BTreeSet<u16> {
        let all: BTreeSet<u16> = [5000, 5001, 5002, 5050, 5302, 5303].into();
        if self.rules.kinds.is_empty() { all } else { all.intersection(&self.rules.kinds).copied().collect() }
    }
}

async fn forward_settled(mut settled: mpsc::Receiver<relay::Settled>, desk: DeskHandle) {
    while let Some(one) = settled.recv().await {
        if !desk.send(crate::desk::Message::Settled(one)).await {
            return;
        }
    }
}

/// Looks at the disk and prunes what nobody asks for any more.
async fn keep_house(home: Home, tools: Arc<Tools>) {
    let mut tick = tokio::time::interval(HOUSEKEEPING);
    let mut rounds = 0u64;
    loop {
        tokio::select! {
            () = tools.cancel.cancelled() => return,
            _ = tick.tick() => {}
        }
        let room = home.free_bytes().is_ok_and(|free| free > RESERVE_BYTES);
        if tools.room.swap(room, Ordering::Relaxed) != room {
            tools.server.set_accepting_strangers(room);
            if room {
                tracing::info!("there is room on the disk again; strangers are served");
            } else {
                tracing::error!(
                    "the disk is nearly full: strangers are refused so that the journal has room; free some space"
                );
            }
        }
        rounds += 1;
        if rounds % 360 == 1
            && let Err(error) = tools.journal.prune(now_ms().saturating_sub(KEEP_MS)).await
        {
            tracing::warn!(%error, "old rows were not pruned");
        }
    }
}
