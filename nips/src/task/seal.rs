//! Sealing a part to its reader: NIP-44 between install keys.

use nostr::Keys;
use nostr::PublicKey;
use nostr::hashes::hmac::{Hmac, HmacEngine};
use nostr::hashes::{Hash, HashEngine, sha256};
use nostr::nips::nip44;
use rand_core::RngCore;

use super::id::Attempt;

/// Why a part is not sealed or not opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// It is empty or too long, or the reader's key is no point.
    #[error("the part cannot be sealed")]
    Seal,
    /// It was sealed by or for another key, was changed, or is no text.
    #[error("the part does not open")]
    Open,
}

/// Seals `text` for `to`. NIP-44 wants a nonce that is never used for two texts; it is made from the secret key, what the part
/// belongs to and the text itself (as in SIV), so no random source is needed and sealing twice gives the same bytes.
///
/// # Errors
/// When the text is empty or longer than 65,535 bytes.
pub fn seal(keys: &Keys, to: &PublicKey, attempt: &Attempt, text: &str) -> Result<String, SealError> {
    let mut engine = HmacEngine::<sha256::Hash>::new(&keys.secret_key().to_secret_bytes());
    engine.input(b"timmy/task-seal/1");
    engine.input(&attempt.bytes());
    engine.input(&to.to_bytes());
    engine.input(text.as_bytes());
    let mut nonce = Nonce(Hmac::from_engine(engine).to_byte_array());
    nip44::encrypt_with_rng(&mut nonce, keys.secret_key(), to, text, nip44::Version::V2).map_err(|_| SealError::Seal)
}

/// Opens what `from` sealed for us.
///
/// # Errors
/// When it was sealed by or for another key, or is no text.
pub fn open(keys: &Keys, from: &PublicKey, sealed: &str) -> Result<String, SealError> {
    nip44::decrypt(keys.secret_key(), from, sealed).map_err(|_| SealError::Open)
}

/// Gives the nonce to NIP-44, which asks a random source for 32 bytes.
struct Nonce([u8; 32]);

impl RngCore for Nonce {
    fn next_u32(&mut self) -> u32 {
        let mut bytes = [0; 4];
        self.fill_bytes(&mut bytes);
        u32::from_le_bytes(bytes)
    }

    fn next_u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.fill_bytes(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    fn fill_bytes(&mut self, to: &mut [u8]) {
        // Whoever asks again gets other bytes.
        for chunk in to.chunks_mut(32) {
            chunk.copy_from_slice(&self.0[..chunk.len()]);
            self.0 = sha256::Hash::hash(&self.0).to_byte_array();
        }
    }

    fn try_fill_bytes(&mut self, to: &mut [u8]) -> Result<(), rand_core::Error> {
        self.fill_bytes(to);
        Ok(())
    }
}
