//! The keys of the epochs: what gossip is sealed under, what a member proves itself by, and the blind tag in mDNS.
//!
//! Each epoch has two keys. The siblings' key is for memory, the tag and the handshake; the guests' key, which siblings have too, is for
//! tasks. So a guest, and whoever passes frames on, learns nothing of memory. From each key others are derived, one a use.
//!
//! Keys are current only for exactly the terms ([`Terms`]: number and view) that the membership log has now. A node that has learnt of a removal
//! and not yet got the keys that follow seals nothing: the keys it has are known to the removed one.

mod ring;
mod rotation;
mod sealed;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

pub use nips::federation::{EpochSecrets, KeyId, Secret, Terms};
pub use ring::{BlindTag, Circle, Keyring, KeyringError};
pub use rotation::{TURN_MS, make, seal_to, turn_ms};
pub use sealed::{SealedError, SealedKeys};

/// How many sets of keys are kept. Old ones open nothing; they let a member that was away prove that it belonged.
pub const MAX_KEPT: usize = 32;
/// How many sets of one epoch's number are kept: two admins may make keys at once, and two partitions.
pub const MAX_OF_EPOCH: usize = 4;
/// How many sealed sets are kept to be handed on.
pub const MAX_SEALED_KEPT: usize = 8;
