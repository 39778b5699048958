//! Keys that are open.

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use nips::federation::{EpochSecrets, FederationId, KeyId, Opened, Secret, Terms, ViewId};
use nostr::EventId;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::{MAX_KEPT, MAX_OF_EPOCH};

/// First byte of a sealed frame.
const VERSION: u8 = 1;
/// Bytes of XChaCha20's nonce.
const NONCE: usize = 24;
/// Bytes before the sealed ones: version, epoch, nonce.
const HEAD: usize = 1 + 8 + NONCE;
/// What a key file begins with.
const MAGIC: &[u8; 16] = b"timmy keyring 1\n";
/// Bytes of one set in a key file: federation, epoch, view, whether there is a siblings' key, two keys.
const RECORD: usize = 32 + 8 + 32 + 1 + 32 + 32;

/// Whom something is sealed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Circle {
    /// Siblings alone: memory.
    Siblings,
    /// Everybody, guests too: tasks.
    Everybody,
}

/// What a blind tag is: it says nothing to those without the key, and is another one each day.
pub type BlindTag = [u8; 16];

/// Why a keyring does not do it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyringError {
    /// No key of the present epoch, or not for this circle.
    #[error("there is no key of the present epoch yet: an admin has to be met")]
    NoKey,
    /// No sealed frame.
    #[error("not a sealed frame")]
    Frame,
    /// Sealed under an epoch that is over, or one that is still to come.
    #[error("sealed in epoch {0}, which is not spoken here now")]
    Epoch(u64),
    /// No key here opens it.
    #[error("sealed under another key")]
    Sealed,
    /// A key file is damaged.
    #[error("the file of the federation's keys is damaged; put it back from a backup, or join again with a new code")]
    Damaged,
}

/// The keys of one epoch as kept.
#[derive(Clone)]
struct Kept {
    terms: Terms,
    secrets: EpochSecrets,
    id: KeyId,
}

impl Kept {
    fn key(&self, circle: Circle) -> Option<&Secret> {
        match circle {
            Circle::Siblings => self.secrets.sibling.as_ref(),
            Circle::Everybody => Some(&self.secrets.guest),
        }
    }

    /// Newest first; of keys made at once, the one with the lower name.
    fn place(&self) -> (std::cmp::Reverse<u64>, ViewId, KeyId) {
        (std::cmp::Reverse(self.terms.epoch), self.terms.view, self.id)
    }
}

/// The keys of a federation's epochs, newest first. No `Debug`; wiped when dropped.
#[derive(Clone, Default)]
pub struct Keyring {
    kept: Vec<Kept>,
}

impl Keyring {
    /// Adds keys; true when they are new here, or bring the siblings' key that was missing.
    pub fn add(&mut self, opened: &Opened) -> bool {
        let Opened { terms, secrets } = opened;
        let id = secrets.guest.id();
        if let Some(kept) = self.kept.iter_mut().find(|kept| kept.terms == *terms && kept.id == id) {
            let is_more = kept.secrets.sibling.is_none() && secrets.sibling.is_some();
            if is_more {
                kept.secrets = secrets.clone();
            }
            return is_more;
        }
        self.kept.push(Kept { terms: *terms, secrets: secrets.clone(), id });
        self.kept.sort_by_key(Kept::place);
        let mut of_epoch = std::collections::BTreeMap::new();
        self.kept.retain(|kept| {
            let count: &mut usize = of_epoch.entry(kept.terms.epoch).or_default();
            *count += 1;
            *count <= MAX_OF_EPOCH
        });
        self.kept.truncate(MAX_KEPT);
        self.kept.iter().any(|kept| kept.id == id)
    }

    /// The keys that are current under `terms`; of several made at once, the same everywhere.
    fn current(&self, terms: &Terms) -> Option<&Kept> {
        self.kept.iter().find(|kept| kept.terms == *terms)
    }

    /// True when there are keys of exactly these terms. If not, an admin has to make some, and others have to get them.
    pub fn is_current(&self, terms: &Terms) -> bool {
        self.current(terms).is_some()
    }

    /// The current keys, for an inviter to seal to a joiner.
    pub fn secrets(&self, terms: &Terms) -> Option<&EpochSecrets> {
        self.current(terms).map(|kept| &kept.secrets)
    }

    /// The number of the newest epoch that there are keys of.
    pub fn newest(&self) -> Option<u64> {
        self.kept.first().map(|kept| kept.terms.epoch)
    }

    /// How many sets of keys there are.
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    /// True without any keys.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// Every key, newest first and the siblings' before the guests': what a handshake tries.
    pub fn keys(&self) -> impl Iterator<Item = (&Terms, Circle, &Secret)> {
        self.kept.iter().flat_map(|kept| {
            [Circle::Siblings, Circle::Everybody]
                .into_iter()
                .filter_map(move |circle| kept.key(circle).map(|key| (&kept.terms, circle, key)))
        })
    }
}

/// Gossip.
impl Keyring {
    /// Seals what is said on `topic` to `circle`, under the keys of `terms`: version, epoch, nonce, then XChaCha20-Poly1305 bound to topic and
    /// epoch. `nonce` is random.
    ///
    /// # Errors
    /// [`KeyringError::NoKey`].
    pub fn seal(
        &self,
        terms: &Terms,
        circle: Circle,
        topic: &str,
        plain: &[u8],
        nonce: &[u8; NONCE],
    ) -> Result<Vec<u8>, KeyringError> {
        let key = self.current(terms).and_then(|kept| kept.key(circle)).ok_or(KeyringError::NoKey)?;
        let mut out = vec![VERSION];
        out.extend(terms.epoch.to_be_bytes());
        out.extend(nonce);
        let aad = aad(topic, terms.epoch);
        let payload = Payload { msg: plain, aad: &aad };
        let sealed = cipher(key).encrypt(XNonce::from_slice(nonce), payload).map_err(|_| KeyringError::NoKey)?;
        out.extend(sealed);
        Ok(out)
    }

    /// Opens a frame of `topic` sealed in the epoch of `terms` or the one before: those who have not heard of a removal yet are still
    /// understood, and who they are is told by the signature inside.
    ///
    /// # Errors
    /// When it is no frame, of another epoch, or not under a key that is here.
    pub fn open(&self, terms: &Terms, circle: Circle, topic: &str, frame: &[u8]) -> Result<Vec<u8>, KeyringError> {
        let (head, sealed) = frame.split_at_checked(HEAD).ok_or(KeyringError::Frame)?;
        let (&version, rest) = head.split_first().ok_or(KeyringError::Frame)?;
        let (epoch, nonce) = rest.split_at_checked(8).ok_or(KeyringError::Frame)?;
        if version != VERSION {
            return Err(KeyringError::Frame);
        }
        let epoch = u64::from_be_bytes(epoch.try_into().map_err(|_| KeyringError::Frame)?);
        if epoch > terms.epoch || epoch.saturating_add(1) < terms.epoch {
            return Err(KeyringError::Epoch(epoch));
        }
        let aad = aad(topic, epoch);
        let of_epoch = self.kept.iter().filter(|kept| kept.terms.epoch == epoch).filter_map(|kept| kept.key(circle));
        let mut opened = of_epoch
            .filter_map(|key| cipher(key).decrypt(XNonce::from_slice(nonce), Payload { msg: sealed, aad: &aad }).ok());
        opened.next().ok_or(KeyringError::Sealed)
    }
}

fn cipher(key: &Secret) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new(key.derive("gossip").expose().into())
}

fn aad(topic: &str, epoch: u64) -> Vec<u8> {
    [topic.as_bytes(), b"\n", &epoch.to_be_bytes()].concat()
}

/// The blind tag.
impl Keyring {
    /// What this node shows in mDNS on `day` (days since 1970): one tag for each key it has of `terms`, or of the newest epoch that it knows.
    pub fn tags(&self, terms: &Terms, day: u64) -> Vec<BlindTag> {
        let Some(kept) = self.current(terms).or_else(|| self.kept.first()) else { return vec![] };
        let circles = [Circle::Siblings, Circle::Everybody];
        circles.iter().filter_map(|circle| kept.key(*circle)).map(|key| tag(key, kept.terms.epoch, day)).collect()
    }

    /// Whether a tag is of this federation, and by which key: of this epoch or the one before, of this day or the one beside it, since clocks
    /// and midnights differ.
    pub fn knows(&self, tag_seen: &BlindTag, day: u64) -> Option<Circle> {
        let newest = self.newest()?;
        let days = [day, day.saturating_sub(1), day.saturating_add(1)];
        let mut found = None;
        for (terms, circle, key) in self.keys().filter(|(terms, ..)| terms.epoch.saturating_add(1) >= newest) {
            let is_it = days.iter().any(|day| nips::federation::same(&tag(key, terms.epoch, *day), tag_seen));
            found = found.or(is_it.then_some(circle));
        }
        found
    }
}

fn tag(key: &Secret, epoch: u64, day: u64) -> BlindTag {
    let mac = key.derive("mdns").mac(&[&epoch.to_be_bytes(), &day.to_be_bytes()]);
    let mut tag = [0; 16];
    tag.copy_from_slice(&mac[..16]);
    tag
}

/// Storage.
impl Keyring {
    /// The bytes for a file of mode 0600: magic, the sets, SHA-256 of both.
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut out = Zeroizing::new(Vec::with_capacity(MAGIC.len() + self.kept.len() * RECORD + 32));
        out.extend_from_slice(MAGIC);
        for Kept { terms, secrets, .. } in &self.kept {
            out.extend_from_slice(terms.federation.0.as_bytes());
            out.extend_from_slice(&terms.epoch.to_be_bytes());
            out.extend_from_slice(&terms.view.0);
            out.push(u8::from(secrets.sibling.is_some()));
            let none = Secret::new([0; 32]);
            out.extend_from_slice(secrets.sibling.as_ref().unwrap_or(&none).expose());
            out.extend_from_slice(secrets.guest.expose());
        }
        let sum: [u8; 32] = Sha256::digest(out.as_slice()).into();
        out.extend_from_slice(&sum);
        out
    }

    /// Reads such bytes.
    ///
    /// # Errors
    /// [`KeyringError::Damaged`]: never a reason to make new keys.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, KeyringError> {
        let end = bytes.len().checked_sub(32).ok_or(KeyringError::Damaged)?;
        let (body, sum) = bytes.split_at(end);
        let digest: [u8; 32] = Sha256::digest(body).into();
        let records = body.strip_prefix(MAGIC).filter(|_| digest == sum).ok_or(KeyringError::Damaged)?;
        if !records.len().is_multiple_of(RECORD) || records.len() / RECORD > MAX_KEPT {
            return Err(KeyringError::Damaged);
        }
        let mut ring = Self::default();
        for record in records.chunks_exact(RECORD) {
            ring.add(&read(record).ok_or(KeyringError::Damaged)?);
        }
        Ok(ring)
    }
}

fn read(record: &[u8]) -> Option<Opened> {
    let part = |at: usize| -> Option<[u8; 32]> { record.get(at..at + 32)?.try_into().ok() };
    let federation = FederationId(EventId::from_byte_array(part(0)?));
    let epoch = u64::from_be_bytes(record.get(32..40)?.try_into().ok()?);
    let terms = Terms { federation, epoch, view: ViewId(part(40)?) };
    let sibling = match record.get(72)? {
        0 => None,
        1 => Some(Secret::new(part(73)?)),
        _ => return None,
    };
    Some(Opened { terms, secrets: EpochSecrets { sibling, guest: Secret::new(part(105)?) } })
}
