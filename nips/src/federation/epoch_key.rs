//! The keys of an epoch (kind 9772), sealed to each member.
//!
//! | in a tag | |
//! |---|---|
//! | `f` | the federation |
//! | `epoch` | its number |
//! | `view` | [`ViewId`]: the removals that the maker knew |
//! | `guest`, `sibling` | names of the keys, so that nobody can be given another one than the others |
//!
//! The content says `from`, a key used once, and a list of `[to, NIP-44 text]`. A seal is made from that key to the member's install
//! key, or to its passport where no install is known; so making one takes no signer, and opening one seldom does.

use nostr::nips::nip44;
use nostr::{Event, Keys, Kind, PublicKey, Timestamp, UnsignedEvent};
use rand_core::{CryptoRng, RngCore};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::entry::{FederationId, Role};
use super::secret::{EpochSecrets, KeyId, Secret};
use super::{EnvelopeError, KIND_EPOCH_KEY, hex_id, key, one};
use crate::tags::tag;

/// The most members that one event seals to: each takes 320 bytes, and an envelope has 32 KiB.
pub const MAX_SEALED: usize = 80;
/// The longest sealed text, characters: NIP-44 of 128 digits has 220.
const MAX_TEXT: usize = 400;

hex_id!(
    /// Which removals were known: SHA-256 of their ids. Two epochs of one number that were begun apart have two views, and neither's
    /// key is the key of what follows when both meet.
    ViewId, 32, "view"
);

impl ViewId {
    /// The view in which these entries have removed somebody; `removals` ascending.
    pub fn of<'a>(removals: impl IntoIterator<Item = &'a nostr::EventId>) -> Self {
        let mut hash = Sha256::new().chain_update(b"timmy/view/1");
        for id in removals {
            hash.update(id.as_bytes());
        }
        Self(hash.finalize().into())
    }
}

/// Which epoch keys are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Terms {
    /// The federation.
    pub federation: FederationId,
    /// Counts from 1; each removal begins another.
    pub epoch: u64,
    /// The removals behind it.
    pub view: ViewId,
}

/// One sealed copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedKey(
    /// Whose: an install key or a passport.
    pub PublicKey,
    /// NIP-44 text.
    pub String,
);

/// The sealed keys of an epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EpochKey {
    /// Who made it: an admin's passport.
    pub author: PublicKey,
    /// Which epoch.
    pub terms: Terms,
    /// Name of the guests' key.
    pub guest: KeyId,
    /// Name of the siblings' key.
    pub sibling: KeyId,
    /// The key that sealed, used once.
    pub from: PublicKey,
    /// A copy for each member.
    pub sealed: Vec<SealedKey>,
}

/// Keys that were opened and are the ones that their names say.
#[derive(Clone)]
pub struct Opened {
    /// Which epoch.
    pub terms: Terms,
    /// The keys.
    pub secrets: EpochSecrets,
}

#[derive(Serialize, Deserialize)]
struct Content {
    from: PublicKey,
    sealed: Vec<SealedKey>,
}

impl EpochKey {
    /// Seals `secrets` to members, each under its role, and gives the event for the passport `author` to sign. `ephemeral` is used here
    /// and never again.
    ///
    /// # Errors
    /// With more than [`MAX_SEALED`] members, without the siblings' key, or with a key that cannot be sealed to.
    pub fn seal<R: RngCore + CryptoRng>(
        terms: &Terms,
        secrets: &EpochSecrets,
        members: &[(PublicKey, Role)],
        author: PublicKey,
        at: u64,
        ephemeral: &Keys,
        rng: &mut R,
    ) -> Result<UnsignedEvent, EnvelopeError> {
        if members.len() > MAX_SEALED {
            return Err(EnvelopeError::TooMany("members"));
        }
        let sibling = secrets.sibling.as_ref().ok_or(EnvelopeError::Missing("sibling"))?;
        let mut sealed = Vec::with_capacity(members.len());
        for (to, role) in members {
            let mut text = Zeroizing::new(hex::encode(secrets.guest.expose()));
            if *role == Role::Sibling {
                let digits = Zeroizing::new(hex::encode(sibling.expose()));
                text.push_str(&digits);
            }
            let text = nip44::encrypt_with_rng(rng, ephemeral.secret_key(), to, text.as_bytes(), nip44::Version::V2);
            sealed.push(SealedKey(*to, text.map_err(|_| EnvelopeError::Seal("seal"))?));
        }
        let tags = vec![
            tag(["f", &terms.federation.to_string()]),
            tag(["epoch", &terms.epoch.to_string()]),
            tag(["view", &terms.view.to_string()]),
            tag(["guest", &secrets.guest.id().to_string()]),
            tag(["sibling", &sibling.id().to_string()]),
        ];
        let content = Content { from: ephemeral.public_key(), sealed };
        let content = serde_json::to_string(&content).map_err(|_| EnvelopeError::Malformed("epoch key"))?;
        Ok(UnsignedEvent::new(author, Timestamp::from_secs(at), Kind::from_u16(KIND_EPOCH_KEY), tags, content))
    }

    pub(super) fn parse(event: &Event) -> Result<Self, EnvelopeError> {
        let content: Content =
            serde_json::from_str(&event.content).map_err(|_| EnvelopeError::Malformed("epoch key"))?;
        if content.sealed.len() > MAX_SEALED {
            return Err(EnvelopeError::TooMany("members"));
        }
        if content.sealed.iter().any(|sealed| sealed.1.len() > MAX_TEXT) {
            return Err(EnvelopeError::Malformed("sealed text"));
        }
        let epoch = one(event, "epoch")?;
        let number: u64 = epoch.parse().map_err(|_| EnvelopeError::Malformed("epoch"))?;
        if number == 0 || number.to_string() != epoch {
            return Err(EnvelopeError::Malformed("epoch"));
        }
        key(&content.from.to_hex())?;
        Ok(Self {
            author: event.pubkey,
            terms: Terms { federation: one(event, "f")?.parse()?, epoch: number, view: one(event, "view")?.parse()? },
            guest: one(event, "guest")?.parse()?,
            sibling: one(event, "sibling")?.parse()?,
            from: content.from,
            sealed: content.sealed,
        })
    }

    /// The copy sealed to `to`, an install key or a passport: NIP-44 text from [`EpochKey::from`].
    pub fn copy_for(&self, to: &PublicKey) -> Option<&str> {
        self.sealed.iter().find(|sealed| sealed.0 == *to).map(|sealed| sealed.1.as_str())
    }

    /// Opens the copy for these keys; none when there is no copy for them.
    ///
    /// # Errors
    /// When the copy does not open, or holds other keys than the event names.
    pub fn open(&self, keys: &Keys) -> Result<Option<Opened>, EnvelopeError> {
        let Some(text) = self.copy_for(&keys.public_key()) else { return Ok(None) };
        let plain = nip44::decrypt(keys.secret_key(), &self.from, text).map_err(|_| EnvelopeError::Seal("open"))?;
        self.read(&Zeroizing::new(plain)).map(Some)
    }

    /// Reads what a signer decrypted of a copy to the passport.
    ///
    /// # Errors
    /// When it holds other keys than the event names.
    pub fn read(&self, plain: &str) -> Result<Opened, EnvelopeError> {
        let mut all = Zeroizing::new([0_u8; 64]);
        let is_guest = plain.len() == 64;
        let room = if is_guest { &mut all[..32] } else { &mut all[..] };
        hex::decode_to_slice(plain, room).map_err(|_| EnvelopeError::Seal("open"))?;
        let half = |at: usize| {
            let mut bytes = [0; 32];
            bytes.copy_from_slice(&all[at..at + 32]);
            Secret::new(bytes)
        };
        let secrets = EpochSecrets { guest: half(0), sibling: (!is_guest).then(|| half(32)) };
        let is_named = secrets.guest.id() == self.guest
            && secrets.sibling.as_ref().is_none_or(|sibling| sibling.id() == self.sibling);
        if is_named { Ok(Opened { terms: self.terms, secrets }) } else { Err(EnvelopeError::Seal("match its name")) }
    }
}
