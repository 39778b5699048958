//! The running node: plain wiring, from the data folder to the ready line and back down.

mod beginning;
mod parts;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use anyhow::{Result, anyhow};
use bots::Soul;
use nips::identity::Identity;
use nostr::NostrSigner;
use relay::outbox::OutboxConfig;
use relay::pool::PoolConfig;
use relay::{Outbox, Pool};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::adapters::{Ledger, OwnRelay};
use crate::config::Config;
use crate::desk::speaker::Speaker;
use crate::desk::{Desk, People, Tools};
use crate::home::{Home, Lock, Ready, write_private};
use crate::http::{self, Face};
use crate::installs::Installs;
use crate::journal::{Journal, now_ms};
use crate::keys::{NodeKeys, Passphrase};
use crate::matrix::Matrix;
use crate::metrics::Metrics;
use crate::passport::PassportWatch;
use crate::publish::Publisher;
use crate::recollect::Recollections;
use crate::toolbox::Shelf;
use beginning::{Beginning, Streams};

pub(crate) use parts::link;

/// How long the desk, the pool and the outbox may take to stop, and then the relay and the HTTP face.
const FAREWELL: Duration = Duration::from_secs(4);
/// How long the start waits to hear which models answer; the publisher looks again soon.
const PROBE: Duration = Duration::from_millis(150);
/// Sealed events opened at a time.
const OPENERS: usize = 8;
/// Bytes that must stay free for the journal and the keys.
pub const RESERVE_BYTES: u64 = 256 << 20;

/// How `timmy run` was called.
#[derive(Debug, Clone, Default)]
pub struct RunOptions {
    /// Overrides `node.listen`.
    pub listen: Option<SocketAddr>,
    /// Speak for the passport although another install does.
    pub take_over: bool,
    /// Look for model servers on this machine.
    pub find_models: bool,
}

/// A node that serves.
pub struct Node {
    /// What commands on this machine are told.
    pub ready: Ready,
    /// What is offered to strangers.
    pub kinds: BTreeSet<u16>,
    /// The code that makes its sender the owner; none when there is one.
    pub claim: Option<String>,
    inner: Circle,
    outer: Circle,
    _lock: Lock,
}

/// Tasks that end together.
#[derive(Clone, Default)]
struct Circle {
    tracker: TaskTracker,
    cancel: CancellationToken,
}

impl Circle {
    /// Tells the tasks to end and waits until they have.
    async fn end(&self, who: &str) {
        self.cancel.cancel();
        self.tracker.close();
        if tokio::time::timeout(FAREWELL, self.tracker.wait()).await.is_err() {
            tracing::warn!(who, "some tasks did not end in time; the journal has what they were doing");
        }
    }
}

/// What the wiring has at hand once the passport is known.
struct Found {
    keys: NodeKeys,
    journal: Journal,
    people: People,
    identity: Identity,
    ready: Ready,
    soul: Soul,
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
    let listeners = parts::bind(config, options.listen).await?;
    let listen = listeners.iter().map(TcpListener::local_addr).collect::<Result<Vec<_>, _>>()?;
    let keys = parts::open_keys(home, config, passphrase)?;
    let journal = Journal::open(&home.journal())?;
    let signer = parts::signer(config, &keys).await?;
    let node = signer.get_public_key().await.map_err(|e| anyhow!("the signer does not say who it is: {e}"))?;
    let people = parts::people(config, &journal).await?;
    let soul = parts::soul(config)?;
    let mut identity = parts::identity(config, node, &listen);
    identity.souls = parts::souls(&journal, &soul).await?;
    let ready = parts::ready(node, &keys, &listen)?;
    let found = Found { keys, journal, people, identity, ready, soul };
    let (inner, outer) = (Circle::default(), Circle::default());
    let mut config = config.clone();
    if options.find_models {
        config.models.extend(parts::found_models(&config.models).await);
    }
    let config = &config;
    let (tools, streams) = Box::pin(furnish(home, config, &found, signer, &listen, (&inner, &outer))).await?;
    let rules = parts::rules(config, &found.journal).await?;
    let kinds = parts::offered(&tools, &rules);
    let (desk, handle) = Desk::new(Arc::clone(&tools), rules.clone());
    let face =
        Face::new(home, config, Arc::clone(&tools), found.identity.clone(), handle.clone(), found.ready.clone())?;
    for listener in listeners {
        outer.tracker.spawn(http::serve(
            listener,
            face.router(),
            config.node.trusted_proxies.clone(),
            outer.cancel.clone(),
        ));
    }
    write_private(&home.ready_file(), serde_json::to_string(&found.ready)?.as_bytes())?;
    if let Some(sisters) = &tools.sisters {
        sisters.employ(&tools, rules.clone());
    }
    let Found { keys, identity, ready, people, .. } = found;
    let publisher =
        Publisher { tools: Arc::clone(&tools), keys, identity, kinds: rules.kinds.clone(), desk: handle.clone() };
    inner.tracker.spawn(beginning::keep_house(home.clone(), Arc::clone(&tools)));
    inner.tracker.spawn(crate::condense::run(Arc::clone(&tools)));
    let beginning = Beginning { tools, rules, take_over: options.take_over, publisher, desk, handle, streams };
    inner.tracker.spawn(beginning.run());
    Ok(Node { ready, kinds, claim: people.claim, inner, outer, _lock: lock })
}

/// Opens everything that the desk works with.
async fn furnish(
    home: &Home,
    config: &Config,
    found: &Found,
    signer: Arc<dyn NostrSigner>,
    listen: &[SocketAddr],
    (inner, outer): (&Circle, &Circle),
) -> Result<(Arc<Tools>, Streams)> {
    let node = found.identity.node;
    let journal = found.journal.clone();
    let installs = Installs::open(&journal, node, found.keys.install_key()).await?;
    // It ends with the outer circle: what the desk says last is still remembered.
    let memory = parts::open_memory(home, config, found, &installs, (&outer.tracker, &outer.cancel)).await?;
    let server = parts::open_relay(home, config, node, &found.people, listen, (&outer.tracker, &outer.cancel))?;
    let metrics = Metrics::new();
    let (ledger, writing) = Ledger::open(journal.clone(), now_ms() / 86_400_000).await?;
    outer.tracker.spawn(writing);
    let pool_config = PoolConfig::new(Arc::clone(&signer), ledger.clone());
    let (pool, incoming) = Pool::new(pool_config, &inner.tracker, inner.cancel.clone());
    let local = Arc::new(OwnRelay(server.clone()));
    let outbox_config = OutboxConfig::new(Arc::new(journal.clone()), pool.clone(), Some(local));
    let (outbox, settled) = Outbox::start(outbox_config, &inner.tracker, inner.cancel.clone());
    let conscience = parts::conscience(config)?;
    let workshop = Arc::new(parts::workshop(config, &server, ledger, &metrics, conscience.clone())?);
    // A model server that is slow to answer must not hold up the start.
    let _ = tokio::time::timeout(PROBE, workshop.chain().probe()).await;
    let relay = found.identity.relays.first().cloned();
    let facts = parts::facts(config, found);
    let configured = config.nostr.relays.clone();
    let own = parts::own_relays(config, &found.ready);
    let passport = PassportWatch::new(node, &found.keys, parts::sequence(&journal).await?, installs.clone());
    let pace = crate::sisters::Pace::default();
    let around = (&memory, &installs, &passport, &pool, &outbox);
    let sisters = parts::sisters(config, found, Arc::clone(&signer), around, &pace);
    let sisters = crate::sisters::start(sisters, &inner.tracker, &inner.cancel).await?;
    let memories: Arc<dyn bots::Memories> = Arc::new(Recollections(memory.clone()));
    let shelf = Shelf {
        memories: Arc::clone(&memories),
        memory: memory.clone(),
        workshop: Arc::clone(&workshop),
        journal: journal.clone(),
        sisters: sisters.clone(),
    };
    let tools = Tools {
        toolbox: crate::toolbox::furnish(config, &shelf, &inner.tracker, &inner.cancel)?,
        speaker: Speaker { node, signer, server: server.clone(), pool: pool.clone(), configured, hint: relay, own },
        passport,
        installs,
        sisters,
        matrix: Matrix::of(home, config, &found.keys)?,
        conscience,
        journal,
        memories,
        memory,
        server,
        pool,
        outbox,
        workshop,
        country: config.owner.country.clone(),
        tell_owner: config.safety.tell_owner,
        facts,
        soul: found.soul.clone(),
        metrics,
        pace,
        tracker: inner.tracker.clone(),
        cancel: inner.cancel.clone(),
        jobs_enabled: config.dvm.enabled,
        openers: Arc::new(Semaphore::new(OPENERS)),
        room: Arc::new(AtomicBool::new(true)),
        people: RwLock::new(found.people.clone()),
        linking: tokio::sync::Mutex::new(()),
        talk_grew: tokio::sync::Notify::new(),
        voice: parts::voice(config)?,
    };
    Ok((Arc::new(tools), Streams { incoming, settled }))
}

impl Node {
    /// Resolves when the node ends by itself.
    pub async fn failed(&self) {
        self.inner.cancel.cancelled().await;
    }

    /// Lets the desk drain and the outbox end, then closes the relay and the HTTP face: what is said last is still stored.
    pub async fn stop(self) {
        self.inner.end("desk").await;
        self.outer.end("relay").await;
    }
}
