//! Secrets of an epoch. They are wiped when dropped, compared in constant time, and have no `Debug`.

use nostr::hashes::{Hash, HashEngine, Hmac, HmacEngine, sha256};
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::hex_id;

/// Thirty-two secret bytes.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Secret([u8; 32]);

hex_id!(
    /// The name of a secret: half of a hash of it. It says nothing of the secret, and two secrets never share it.
    KeyId, 16, "key id"
);

impl Secret {
    /// The secret of these bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes. Never log them.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// Its name.
    pub fn id(&self) -> KeyId {
        let digest: [u8; 32] = Sha256::new().chain_update(b"timmy/key-id/1").chain_update(self.0).finalize().into();
        let mut id = [0; 16];
        id.copy_from_slice(&digest[..16]);
        KeyId(id)
    }

    /// HMAC-SHA256 over parts, each after its length (eight bytes, big endian), so that no two lists of parts are one message.
    pub fn mac(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut engine = HmacEngine::<sha256::Hash>::new(&self.0);
        for part in parts {
            engine.input(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            engine.input(part);
        }
        Hmac::<sha256::Hash>::from_engine(engine).to_byte_array()
    }

    /// Another secret for one use, named by `label`.
    pub fn derive(&self, label: &str) -> Self {
        Self(self.mac(&[b"timmy/derive/1", label.as_bytes()]))
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        same(&self.0, &other.0)
    }
}

impl Eq for Secret {}

/// Compares without telling by its time where two byte strings differ. Different lengths are told at once.
pub fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && std::hint::black_box(a.iter().zip(b).fold(0, |all, (x, y)| all | (x ^ y))) == 0
}

/// The two keys of an epoch. A guest has one of them.
#[derive(Clone, PartialEq, Eq)]
pub struct EpochSecrets {
    /// For siblings: memory, the handshake, the blind tag. None for a guest.
    pub sibling: Option<Secret>,
    /// For everybody: tasks.
    pub guest: Secret,
}

impl EpochSecrets {
    /// From 64 random bytes.
    pub fn new(random: &[u8; 64]) -> Self {
        let half = |at: usize| {
            let mut bytes = [0; 32];
            bytes.copy_from_slice(&random[at..at + 32]);
            Secret::new(bytes)
        };
        Self { sibling: Some(half(0)), guest: half(32) }
    }

    /// What a guest gets.
    pub fn for_guest(&self) -> Self {
        Self { sibling: None, guest: self.guest.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_not_one_string() {
        let secret = Secret::new([7; 32]);
        assert_ne!(secret.mac(&[b"ab", b"c"]), secret.mac(&[b"a", b"bc"]));
        assert_ne!(secret.mac(&[b"abc"]), secret.mac(&[b"abc", b""]));
        assert!(secret.derive("a") != secret.derive("b"));
        assert_ne!(secret.id(), Secret::new([8; 32]).id());
    }

    #[test]
    fn comparison_is_equality() {
        assert!(same(b"", b"") && same(b"abc", b"abc"));
        assert!(!same(b"abc", b"abd") && !same(b"abc", b"ab"));
    }
}
