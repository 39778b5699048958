//! The federation at work: one task that owns membership, keys, invitations and the carriers, and a cheap handle to it.
//!
//! ```text
//!   commands (peer …) ─┐                             ┌─► Host: journal, passport, relays, memory
//!   mDNS ──────────────┤                             │
//!   network, streams ──┼─► Core (one select! loop) ──┼─► Net: dials, streams, gossip
//!   liveness ──────────┤    log · keyring · inviter  │
//!   letters ───────────┘    · in- and outbox         └─► View: who is who, for gate and directory
//! ```
//!
//! What must survive is kept ([`Host::keep`]) before anything acts on it. A crash between the two is made good by the next handshake: entries,
//! keys and cards are sets that peers hand on to each other.

mod clock;
mod core;
mod hello;
mod host;
mod joining;
mod labels;
mod links;
mod members;
mod opening;
mod peers;
mod post;
mod presence;
mod tasks;
mod tunnel;
mod view;

use std::sync::Arc;

use nips::task::TaskId;
use nostr::{Event, Keys, PublicKey};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use clock::BootClock;
pub use host::{Duplex, Host, HostError, Linked, Post, Shelf, TaskEnd, Write};
pub use peers::{Peer, PeerState, Via};
pub use view::{Abilities, Known, View};

use crate::discovery::DiscoveryError;
use crate::invitation::{Ended, JoinError};
use crate::keyring::KeyringError;
use crate::membership::{Refused, Standing};
use crate::net::{Keypair, Multiaddr, NetError};
use crate::reputation::Record;
use crate::tasks::{Input as Task, Settings, Submission, WorkId};

/// Commands that wait: each comes of a person, or of the memory's own changes.
const COMMANDS: usize = 256;

/// What makes a federation.
pub struct FederationOptions {
    /// Signs envelopes.
    pub install: Keys,
    /// The node's passport.
    pub passport: PublicKey,
    /// The transport key.
    pub transport: Keypair,
    /// Where to listen.
    pub listen: Vec<Multiaddr>,
    /// Look for sister nodes on the LAN and be found.
    pub mdns: bool,
    /// Interfaces that containers use are left out unless this is set.
    pub all_interfaces: bool,
    /// Relays where this node reads.
    pub relays: Vec<nostr::RelayUrl>,
    /// A name for people, of a federation that is founded here.
    pub name: String,
    /// Who is who; shared with the memory's directory.
    pub view: Arc<View>,
    /// How long auctions and leases take.
    pub tasks: Settings,
}

/// What the federation cannot do. For people.
#[derive(Debug, thiserror::Error)]
pub enum FederationError {
    /// The network does not start.
    #[error(transparent)]
    Net(#[from] NetError),
    /// Discovery does not start.
    #[error(transparent)]
    Discovery(#[from] DiscoveryError),
    /// The node around it failed.
    #[error(transparent)]
    Host(#[from] HostError),
    /// What was kept cannot be read.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// No code is made.
    #[error(transparent)]
    Invite(#[from] Ended),
    /// Joining failed.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// The log does not take it.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// There is no federation here yet.
    #[error(
        "this node belongs to no federation yet; begin one with `timmy peer invite`, or join one with `timmy peer join CODE`"
    )]
    None,
    /// A join is under way.
    #[error("a join is under way already")]
    Busy,
    /// It has been shut down.
    #[error("the federation is shut down")]
    Stopped,
}

/// A code that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invitation {
    /// As it is handed over.
    pub code: String,
    /// Unix seconds.
    pub expires_at: u64,
    /// True for a guest.
    pub is_guest: bool,
}

pub(crate) enum Command {
    Invite(bool, Option<PublicKey>, oneshot::Sender<Result<Invitation, FederationError>>),
    Join(String, oneshot::Sender<Result<Standing, FederationError>>),
    Admin(PublicKey, oneshot::Sender<Result<(), FederationError>>),
    Remove(PublicKey, oneshot::Sender<Result<(), FederationError>>),
    Peers(oneshot::Sender<Vec<Peer>>),
    Gossip(Event),
    Letter(Event, String),
    Settled { to: PublicKey, id: nostr::EventId, is_taken: bool },
    Card,
    Tell(PublicKey, Event, u64),
    Tunnel(PublicKey),
    Submit(Box<Submission>, oneshot::Sender<()>),
    Task(Box<Task>),
    Transcript(TaskId, oneshot::Sender<Vec<Event>>),
    Reputation(PublicKey, oneshot::Sender<Option<Record>>),
}

/// Speaks with the running federation. Clones speak with the same one.
#[derive(Clone)]
pub struct Federation {
    commands: mpsc::Sender<Command>,
    view: Arc<View>,
}

impl Federation {
    /// Starts: listens, is found, and keeps what it had. Runs in `tracker` until `cancel`.
    ///
    /// # Errors
    /// When the network does not start or what was kept cannot be read.
    pub async fn start(
        options: FederationOptions,
        host: Arc<dyn Host>,
        tracker: &TaskTracker,
        cancel: CancellationToken,
    ) -> Result<Self, FederationError> {
        let (commands, asked) = mpsc::channel(COMMANDS);
        let view = Arc::clone(&options.view);
        let core = core::Core::open(options, host, commands.clone(), tracker, &cancel).await?;
        tracker.spawn(core.run(asked, cancel));
        Ok(Self { commands, view })
    }

    /// Who is who.
    pub fn view(&self) -> &Arc<View> {
        &self.view
    }

    /// Makes a code; the first one founds the federation.
    ///
    /// # Errors
    /// When this node may not invite, or the passport cannot sign.
    pub async fn invite(&self, is_guest: bool) -> Result<Invitation, FederationError> {
        self.ask(|reply| Command::Invite(is_guest, None, reply)).await?
    }

    /// Makes a code by which a passport that was removed may come back; no other one that was.
    ///
    /// # Errors
    /// As [`Federation::invite`].
    pub async fn readmit(&self, is_guest: bool, removed: PublicKey) -> Result<Invitation, FederationError> {
        self.ask(|reply| Command::Invite(is_guest, Some(removed), reply)).await?
    }

    /// Joins by a code; resolves when this node belongs, or does not.
    ///
    /// # Errors
    /// Says why not, for people.
    pub async fn join(&self, code: &str) -> Result<Standing, FederationError> {
        let code = code.to_owned();
        self.ask(|reply| Command::Join(code, reply)).await?
    }

    /// Makes a sibling an admin.
    ///
    /// # Errors
    /// When this node may not, or it is no sibling.
    pub async fn admin(&self, npub: PublicKey) -> Result<(), FederationError> {
        self.ask(|reply| Command::Admin(npub, reply)).await?
    }

    /// Removes a node; the keys change.
    ///
    /// # Errors
    /// When this node may not, or it does not belong.
    pub async fn remove(&self, npub: PublicKey) -> Result<(), FederationError> {
        self.ask(|reply| Command::Remove(npub, reply)).await?
    }

    /// Everybody who belongs or is seen.
    ///
    /// # Errors
    /// [`FederationError::Stopped`].
    pub async fn peers(&self) -> Result<Vec<Peer>, FederationError> {
        self.ask(Command::Peers).await
    }

    /// Gossips a change of the fleet's memory to the siblings. What is too large for gossip is found by sync.
    pub async fn gossip(&self, change: Event) {
        self.tell(Command::Gossip(change)).await;
    }

    /// A letter came by a relay: the seal, and what was in it.
    pub async fn letter(&self, seal: Event, plaintext: String) {
        self.tell(Command::Letter(seal, plaintext)).await;
    }

    /// Sends an envelope to one install by whatever carrier reaches it, for so many seconds.
    pub async fn send(&self, install: PublicKey, envelope: Event, life_s: u64) {
        self.tell(Command::Tell(install, envelope, life_s)).await;
    }

    /// Opens a stream for the memory to an install that only relays reach; [`Host::linked`] gets it.
    pub async fn open_tunnel(&self, install: PublicKey) {
        self.tell(Command::Tunnel(install)).await;
    }

    /// Has a task done by a member, or by this node for want of one; [`Host::ended`] tells how it went. One that is known already goes on.
    ///
    /// # Errors
    /// [`FederationError::Stopped`]; the task is in the journal otherwise.
    pub async fn submit(&self, submission: Submission) -> Result<(), FederationError> {
        self.ask(|reply| Command::Submit(Box::new(submission), reply)).await
    }

    /// Nobody wants a task of this node any more.
    pub async fn cancel(&self, task: TaskId) {
        self.tell(Command::Task(Box::new(Task::Cancel(task)))).await;
    }

    /// What became of a task is written down elsewhere: it may be forgotten.
    pub async fn settled(&self, task: TaskId) {
        self.tell(Command::Task(Box::new(Task::Settled(task)))).await;
    }

    /// A worker of this node has an output, or gave up with a word for people.
    pub async fn worked(&self, work: WorkId, output: Result<String, String>) {
        let input = match output {
            Ok(output) => Task::Done { work, output },
            Err(word) => Task::Failed { work, word },
        };
        self.tell(Command::Task(Box::new(input))).await;
    }

    /// The signed events of a task's newest auction; none when this node saw none.
    ///
    /// # Errors
    /// [`FederationError::Stopped`].
    pub async fn transcript(&self, task: TaskId) -> Result<Vec<Event>, FederationError> {
        self.ask(|reply| Command::Transcript(task, reply)).await
    }

    /// What requesters say about a passport's work, this node's own included; none when nobody said anything.
    ///
    /// # Errors
    /// [`FederationError::Stopped`].
    pub async fn reputation(&self, passport: PublicKey) -> Result<Option<Record>, FederationError> {
        self.ask(|reply| Command::Reputation(passport, reply)).await
    }

    /// This install has a new peer card.
    pub async fn card_changed(&self) {
        self.tell(Command::Card).await;
    }

    async fn tell(&self, command: Command) {
        // A federation that has stopped needs to know nothing.
        let _ = self.commands.send(command).await;
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, FederationError> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| FederationError::Stopped)?;
        answer.await.map_err(|_| FederationError::Stopped)
    }
}
