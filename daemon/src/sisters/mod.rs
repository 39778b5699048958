//! The federation as this node has it: what it needs of the node, the memory's sync with each member, and how it is set up.

pub mod digests;
mod errands;
mod hands;
mod host;
mod pace;
mod payload;
mod sync;

use std::sync::Arc;

use anyhow::{Context, Result};
use federation::net::{Keypair, Multiaddr};
use federation::tasks::{Settings, Submission};
use federation::{Federation, FederationOptions, View};
use memory::Memory;
use nips::job::JobId;
use nips::memory::{Message, Space, verified};
use nips::task::TaskId;
use nostr::{NostrSigner, PublicKey};
use relay::{Outbox, Pool};
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Config;
use crate::desk::{Rules, Tools};
use crate::installs::Installs;
use crate::journal::Journal;
use crate::keys::NodeKeys;
use crate::passport::PassportWatch;

pub use errands::Errand;
use errands::Errands;
use hands::Hands;
use host::House;
pub use pace::Pace;
pub use payload::Payload;
pub use sync::Links;

/// What the federation is made of.
pub struct Parts<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// The keys.
    pub keys: &'a NodeKeys,
    /// The passport's public key.
    pub node: PublicKey,
    /// Its signer.
    pub signer: Arc<dyn NostrSigner>,
    /// Keeps what must survive.
    pub journal: Journal,
    /// What is synced.
    pub memory: Memory,
    /// Who may write into it.
    pub installs: Installs,
    /// Says which install speaks for the passport.
    pub passport: PassportWatch,
    /// Carries letters.
    pub pool: Pool,
    /// Publishes labels.
    pub outbox: Outbox,
    /// How busy this node is.
    pub pace: Pace,
    /// The owner, as far as known.
    pub owner: Option<PublicKey>,
}

/// Starts the federation; none when it is switched off.
///
/// # Errors
/// When it cannot listen, or what it kept cannot be read.
pub async fn start(parts: Parts<'_>, tracker: &TaskTracker, cancel: &CancellationToken) -> Result<Option<Sisters>> {
    let settings = &parts.config.federation;
    if !settings.enabled {
        return Ok(None);
    }
    let listen: Vec<Multiaddr> = settings
        .listen
        .iter()
        .map(|address| address.parse().with_context(|| format!("federation.listen: `{address}` is no multiaddress")))
        .collect::<Result<_>>()?;
    for (space, person) in parts.memory.shares().await? {
        parts.installs.share(space, person, true);
    }
    let links = Links::new(parts.memory.clone(), tracker.clone(), cancel.clone());
    let (unwanted, settle) = tokio::sync::mpsc::channel(errands::UNWANTED);
    let errands = Errands::new(&parts.keys.install, unwanted);
    let hands = Hands::new(parts.pace, cancel.clone());
    let digests = digests::Digests::default();
    let host = House {
        signer: parts.signer,
        keys: parts.keys.clone(),
        journal: parts.journal,
        passport: parts.passport,
        memory: parts.memory.clone(),
        pool: parts.pool,
        owner: parts.owner,
        links: links.clone(),
        digests: digests.clone(),
        hands: hands.clone(),
        errands: errands.clone(),
        outbox: parts.outbox,
        labels_to: settings.publish_labels.then(|| parts.config.nostr.relays.clone()),
        tracker: tracker.clone(),
    };
    let options = FederationOptions {
        install: parts.keys.install.clone(),
        passport: parts.node,
        transport: Keypair::clone(&parts.keys.transport),
        listen,
        mdns: settings.mdns,
        all_interfaces: false,
        relays: parts.config.nostr.relays.clone(),
        name: parts.config.node.name.clone(),
        view: Arc::clone(parts.installs.view()),
        tasks: Settings { auction_ms: settings.auction_ms, lease_ms: settings.lease_s * 1_000, ..Settings::default() },
    };
    let federation = Federation::start(options, Arc::new(host), tracker, cancel.clone())
        .await
        .context("the federation does not start; `[federation] enabled = false` switches it off")?;
    tracker.spawn(tell(parts.memory.clone(), federation.clone(), links.clone(), cancel.clone()));
    let install = parts.keys.install.clone();
    tracker.spawn(digests::tell(parts.memory, install, federation.clone(), digests.clone(), cancel.clone()));
    tracker.spawn(settle_unwanted(settle, federation.clone(), cancel.clone()));
    Ok(Some(Sisters { federation, links, digests, hands, errands, publish_labels: settings.publish_labels }))
}

/// Tasks whose job is not there any more are forgotten.
async fn settle_unwanted(
    mut settle: tokio::sync::mpsc::Receiver<TaskId>,
    federation: Federation,
    cancel: CancellationToken,
) {
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            Some(task) = settle.recv() => federation.settled(task).await,
        }
    }
}

/// Tells the siblings what this node writes, as it is written. What is missed, or too large, the next sync brings.
async fn tell(memory: Memory, federation: Federation, links: Links, cancel: CancellationToken) {
    let mut made = memory.follow();
    loop {
        let event = tokio::select! {
            () = cancel.cancelled() => return,
            event = made.recv() => event,
        };
        match event {
            Ok(event) => {
                let space = verified_space(&event);
                if space.as_ref() == Some(&Space::fleet()) {
                    federation.gossip((*event).clone()).await;
                } else if let Some(space) = space {
                    links.soon(space);
                }
            }
            Err(RecvError::Lagged(_)) => links.soon(Space::fleet()),
            Err(RecvError::Closed) => return,
        }
    }
}

fn verified_space(event: &nostr::Event) -> Option<Space> {
    match verified(event).ok()? {
        message @ (Message::Change(_) | Message::Tombstone(_)) => Some(message.space().clone()),
    }
}

/// The federation, and how equal the memories are.
#[derive(Clone)]
pub struct Sisters {
    /// Invites, joins, names the members.
    pub federation: Federation,
    /// The memory's links.
    pub links: Links,
    /// What the members say about how much they have.
    pub digests: digests::Digests,
    hands: Hands,
    errands: Errands,
    publish_labels: bool,
}

impl Sisters {
    /// From now on this node works for its sisters.
    pub fn employ(&self, tools: &Arc<Tools>, rules: Rules) {
        self.hands.employ(tools, self.federation.clone(), rules);
    }

    /// Who is there, and what they can do.
    pub fn view(&self) -> &View {
        self.federation.view()
    }

    /// These jobs are open; tasks of others are forgotten.
    pub fn open(&self, jobs: impl Iterator<Item = JobId>) {
        self.errands.open(jobs);
    }

    /// The task that a job of this node is, for its sisters.
    pub fn task_of(&self, job: &JobId) -> TaskId {
        self.errands.task(job)
    }

    /// Has a job done by a sister node; says how it went. Asked again after a restart it goes on where it was.
    pub async fn errand(&self, submission: Submission) -> Errand {
        let task = submission.task;
        self.errands.want(task);
        let publish = submission.publish && self.publish_labels;
        if let Err(error) = self.federation.submit(Submission { publish, ..submission }).await {
            return Errand::Failed(error.to_string());
        }
        self.errands.end_of(task).await
    }

    /// How a job went is in the journal: its task is forgotten.
    pub async fn settled(&self, job: &JobId) {
        let task = self.errands.task(job);
        self.errands.forget(&task);
        self.federation.settled(task).await;
    }

    /// A job is not wanted any more.
    pub async fn take_back(&self, job: &JobId) {
        let task = self.errands.task(job);
        self.errands.forget(&task);
        self.federation.cancel(task).await;
    }
}
