//! What the federation asks of the node around it.

use async_trait::async_trait;
use nips::PeerCard;
use nips::task::TaskId;
use nostr::{Event, PublicKey, UnsignedEvent};
use zeroize::Zeroizing;

use crate::auction::{Ask, Figures};
use crate::lease::Stop;
use crate::membership::Standing;
use crate::tasks::{Done, Execution, Lapse, Notice, WorkId};

/// Why the node could not do something. In words, for the log and for people.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct HostError(pub String);

/// Where things of one sort are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shelf {
    /// Entries of the membership log, by id.
    Entries,
    /// The epochs' keys; one value, secret.
    Keyring,
    /// Sealed keys to be handed on, by id.
    Sealed,
    /// Peer cards and where their nodes were met, by passport.
    Cards,
    /// Invitations, by id; secret.
    Invitations,
    /// Envelopes that wait for a peer.
    Outbox,
    /// Records of tasks, by number.
    Tasks,
    /// Labels of tasks, by id.
    Labels,
}

impl Shelf {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Entries => "entries",
            Self::Keyring => "keyring",
            Self::Sealed => "sealed",
            Self::Cards => "cards",
            Self::Invitations => "invitations",
            Self::Outbox => "outbox",
            Self::Tasks => "tasks",
            Self::Labels => "labels",
        }
    }

    /// True when what lies there must not rest in the clear.
    pub fn is_secret(self) -> bool {
        matches!(self, Self::Keyring | Self::Invitations)
    }
}

/// One change to what is kept.
#[derive(Clone)]
pub enum Write {
    /// Puts a value in the place of what was under the key.
    Put(Shelf, Vec<u8>, Zeroizing<Vec<u8>>),
    /// Takes a key away.
    Delete(Shelf, Vec<u8>),
    /// Empties a shelf.
    Clear(Shelf),
}

/// A letter for a relay: the rumors of one envelope, to be sealed by the passport and wrapped.
#[derive(Debug, Clone)]
pub struct Post {
    /// To which passport.
    pub to: PublicKey,
    /// Relays where it reads.
    pub relays: Vec<nostr::RelayUrl>,
    /// One a part.
    pub rumors: Vec<UnsignedEvent>,
    /// Unix seconds.
    pub expires_at: u64,
}

/// A member that both sides have admitted, and its stream for the memory.
pub struct Linked {
    /// Its passport.
    pub passport: PublicKey,
    /// Its install key.
    pub install: PublicKey,
    /// What it is.
    pub standing: Standing,
    /// A stream of [`crate::net::Protocol::SYNC`], or one that travels in letters.
    pub stream: Box<dyn Duplex>,
    /// True when it travels in letters: slow, and for one sync.
    pub is_far: bool,
}

/// Bytes in both directions.
pub trait Duplex: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin {}

impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin> Duplex for T {}

/// How a task of this node ended. Comes again after a restart until [`super::Federation::settled`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TaskEnd {
    /// There is a result.
    Done(Box<Done>),
    /// There is none.
    Lapsed(TaskId, Lapse),
}

/// The node around the federation.
#[async_trait]
pub trait Host: Send + Sync + 'static {
    /// Signs with the passport.
    ///
    /// # Errors
    /// When the signer refuses or cannot be reached.
    async fn sign(&self, unsigned: UnsignedEvent) -> Result<Event, HostError>;

    /// The peer card of this install, good now.
    ///
    /// # Errors
    /// When it cannot be signed.
    async fn card(&self) -> Result<Event, HostError>;

    /// The owner, if there is one.
    fn owner(&self) -> Option<PublicKey>;

    /// Everything on a shelf, in the order in which the keys first came.
    ///
    /// # Errors
    /// When the store fails.
    async fn load(&self, shelf: Shelf) -> Result<Vec<(Vec<u8>, Zeroizing<Vec<u8>>)>, HostError>;

    /// Makes changes, all or none; durable when it returns.
    ///
    /// # Errors
    /// When the store fails.
    async fn keep(&self, writes: Vec<Write>) -> Result<(), HostError>;

    /// Sends a letter; true when a relay has all of it.
    async fn post(&self, letter: Post) -> bool;

    /// A member's stream for the memory.
    fn linked(&self, linked: Linked);

    /// A memory change, or what a member says about how much of the memory it has, came; its signature is checked.
    fn heard(&self, said: Event);

    /// Another install speaks for this passport.
    fn twin(&self, card: &PeerCard);

    /// What this node knows about itself and such work; none when it cannot or may not do it.
    async fn figures(&self, ask: Ask) -> Option<Figures>;

    /// Lets a worker begin; it ends with [`super::Federation::worked`].
    fn execute(&self, execution: Execution);

    /// A worker has until this boottime, ms.
    fn extend(&self, work: WorkId, fence_ms: u64);

    /// A worker is to stop at once.
    fn stop(&self, work: WorkId, why: Stop);

    /// A task of this node is over.
    fn ended(&self, ended: TaskEnd);

    /// Sends a label to the node's relays.
    fn publish(&self, label: Event);

    /// An auction of this node took so long, from its call to its award.
    fn auctioned(&self, took: std::time::Duration);

    /// Something that people may want to know.
    fn notice(&self, notice: Notice);
}
