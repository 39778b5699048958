//! The federation as this node has it: what it needs of the node, the memory's sync with each member, and how it is set up.

mod host;
mod sync;

use std::sync::Arc;

use anyhow::{Context, Result};
use federation::net::{Keypair, Multiaddr};
use federation::{Federation, FederationOptions};
use memory::Memory;
use nips::memory::{Message, Space, verified};
use nostr::{NostrSigner, PublicKey};
use relay::Pool;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Config;
use crate::installs::Installs;
use crate::journal::Journal;
use crate::keys::NodeKeys;
use crate::passport::PassportWatch;

use host::House;
pub use sync::{Lag, Links};

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
    let host = House {
        signer: parts.signer,
        keys: parts.keys.clone(),
        journal: parts.journal,
        passport: parts.passport,
        memory: parts.memory.clone(),
        pool: parts.pool,
        owner: parts.owner,
        links: links.clone(),
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
    };
    let federation = Federation::start(options, Arc::new(host), tracker, cancel.clone())
        .await
        .context("the federation does not start; `[federation] enabled = false` switches it off")?;
    tracker.spawn(tell(parts.memory, federation.clone(), links.clone(), cancel.clone()));
    Ok(Some(Sisters { federation, links }))
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
}
