//! Membership: who belongs to the federation, as a log of signed entries that every member folds alike.
//!
//! ```text
//! found (founder, owner?) ── join A ── admin A ──┬── join B ───────┬── …
//!                                                └── remove C (A) ─┘   made apart, met later
//! ```
//!
//! Each entry links the heads it was made on, so *before*, *after* and *beside* are facts and no clock is asked. The root is the owner's key;
//! where the federation was founded without an owner, the founder's passport, until it names one. Admins invite, remove and make
//! admins; whoever may not is refused when the entry arrives, since the entry's own past tells its author's right. What was done beside a
//! removal is settled in `fold`.
//!
//! Each removal begins an *epoch* with new keys. Its number is one more than the removals in the log (also those that were overruled: so it
//! never falls); its *view* names them, since two removals made apart begin two epochs of one number.
//!
//! Under a partition a removal binds those who know of it. Nobody can promise more.

mod fold;
mod graph;
mod log;
mod roster;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

pub use log::{Log, Member, Refused, Taken};
pub use roster::{Known, MAX_INSTALLS, MAX_PASSPORTS, Roster};

/// The most members, guests included: each removal seals keys to all of them, in one event.
pub const MAX_MEMBERS: usize = 64;
/// The most entries of a log. A home federation makes a few a year; a fold of this many takes milliseconds.
pub const MAX_ENTRIES: usize = 512;
/// The most bytes of a log as JSON: a newcomer gets all of it in one message.
pub const MAX_BYTES: usize = 256 * 1024;
/// The most entries by one admin, so that one that was taken over cannot fill the log.
pub const MAX_BY_ONE: usize = 256;
/// The most entries that wait for those they were made on.
pub const MAX_WAITING: usize = 128;

/// What a key is in the federation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// The owner's own key: a person, not a node.
    Owner,
    /// A sibling that may invite, remove and make admins.
    Admin,
    /// A node of the owner's: memory and tasks.
    Sibling,
    /// Tasks only.
    Guest,
    /// It belonged once.
    Removed {
        /// The epoch that its removal began.
        epoch: u64,
    },
    /// The log does not know it.
    Unknown,
}

impl Standing {
    /// True for nodes that belong now, and for the owner.
    pub fn is_member(&self) -> bool {
        matches!(self, Self::Owner | Self::Admin | Self::Sibling | Self::Guest)
    }

    /// True for those who act for the owner: they have the siblings' key, and memory.
    pub fn acts_for_owner(&self) -> bool {
        matches!(self, Self::Owner | Self::Admin | Self::Sibling)
    }

    /// True for those who may invite, remove and make admins.
    pub fn may_admit(&self) -> bool {
        matches!(self, Self::Owner | Self::Admin)
    }

    fn order(&self) -> u8 {
        match self {
            Self::Owner => 0,
            Self::Admin => 1,
            Self::Sibling => 2,
            Self::Guest => 3,
            Self::Removed { .. } => 4,
            Self::Unknown => 5,
        }
    }
}
