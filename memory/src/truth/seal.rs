//! What rests on disk is sealed: XChaCha20-Poly1305 under one local key, a random nonce each, bound to the name of what it is.

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use sha2::{Digest, Sha256};

/// Bytes that sealing adds.
const NONCE: usize = 24;

/// The local key that memory rests under. It never shows itself and is never synced.
#[derive(Clone)]
pub struct SealKey([u8; 32]);

impl std::fmt::Debug for SealKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SealKey(…)")
    }
}

impl SealKey {
    /// The key of these bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// A key of its own for something that rests beside the memory and comes back with it.
    pub fn derive(&self, purpose: &str) -> [u8; 32] {
        Sha256::new()
            .chain_update("timmy/beside-memory/1 ")
            .chain_update(purpose)
            .chain_update(self.0)
            .finalize()
            .into()
    }
}

/// Seals and opens.
pub(crate) struct Seal {
    cipher: XChaCha20Poly1305,
    /// For [`Seal::mark`].
    secret: [u8; 32],
}

impl Seal {
    pub fn new(key: &SealKey) -> Self {
        let derived =
            |label: &[u8]| -> [u8; 32] { Sha256::new().chain_update(label).chain_update(key.0).finalize().into() };
        Self {
            cipher: XChaCha20Poly1305::new(&derived(b"timmy/memory/seal/1").into()),
            secret: derived(b"timmy/memory/mark/1"),
        }
    }

    /// Seals `plain`; only the same `name` opens it.
    pub fn close(&self, name: &[u8], plain: &[u8]) -> Vec<u8> {
        let nonce: [u8; NONCE] = rand::random();
        let mut out = nonce.to_vec();
        let payload = Payload { msg: plain, aad: name };
        // Encryption fails only for messages longer than the cipher's 256 GiB.
        out.extend(self.cipher.encrypt(XNonce::from_slice(&nonce), payload).unwrap_or_default());
        out
    }

    /// Opens what was sealed under `name`; none when it is damaged or of another key.
    pub fn open(&self, name: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, body) = sealed.split_at_checked(NONCE)?;
        self.cipher.decrypt(XNonce::from_slice(nonce), Payload { msg: body, aad: name }).ok()
    }

    /// A mark by which equal texts are known without the text; nobody without the key can guess texts by it.
    pub fn mark(&self, parts: &[&[u8]]) -> [u8; 16] {
        let mut hash = Sha256::new().chain_update(self.secret);
        for part in parts {
            hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
            hash.update(part);
        }
        let digest: [u8; 32] = hash.finalize().into();
        let mut mark = [0; 16];
        mark.copy_from_slice(&digest[..16]);
        mark
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_by_its_name_and_key_alone() {
        let seal = Seal::new(&SealKey::new([7; 32]));
        let sealed = seal.close(b"a", b"hush");
        assert_eq!(seal.open(b"a", &sealed).unwrap(), b"hush");
        assert_ne!(sealed, seal.close(b"a", b"hush"));
        assert!(seal.open(b"b", &sealed).is_none());
        assert!(Seal::new(&SealKey::new([8; 32])).open(b"a", &sealed).is_none());
        for at in 0..sealed.len() {
            let mut bad = sealed.clone();
            bad[at] ^= 1;
            assert!(seal.open(b"a", &bad).is_none());
            assert!(seal.open(b"a", &sealed[..at]).is_none());
        }
    }
}
