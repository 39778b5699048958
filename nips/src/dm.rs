//! Sealed direct messages: a rumor (kind 14, a file 15 or a reaction 7, unsigned), inside a seal (13, signed by the author), inside a gift wrap (1059,
//! signed by a key that is used once). NIP-17 over NIP-59 over NIP-44.
//!
//! The signer encrypts and signs the seal, since only it holds the author's key; everything else is here. On reading, the
//! seal's author must be the rumor's author: anything else is a forgery.

use nostr::nips::nip44;
use nostr::{Event, EventId, JsonUtil, Keys, Kind, PublicKey, RelayUrl, Tag, Timestamp, UnsignedEvent};
use rand_core::{CryptoRng, RngCore};
use serde::{Deserialize, Serialize};

use crate::tags::tag;

/// Kind of a chat message.
pub const CHAT_KIND: u16 = 14;
/// Kind of a reaction.
pub const REACTION_KIND: u16 = 7;
/// Kind of an encrypted file in a chat.
pub const FILE_KIND: u16 = 15;
/// Kind of a seal.
pub const SEAL_KIND: u16 = 13;
/// Kind of a gift wrap.
pub const WRAP_KIND: u16 = 1059;
/// How far back wraps and seals are dated, seconds (NIP-59: up to two days).
pub const BACKDATE_S: u64 = 2 * 24 * 3600;
/// The longest text of a message, bytes; longer answers are cut by the caller.
pub const MAX_TEXT_BYTES: usize = 32 * 1024;
/// How far ahead of our clock a message may be dated, seconds.
const MAX_FUTURE_S: u64 = 15 * 60;

/// A message that was opened and checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectMessage {
    /// Id of the rumor: the message's own name, the same in every copy.
    pub id: EventId,
    /// Who wrote it: author of rumor and seal.
    pub author: PublicKey,
    /// When, Unix seconds (the rumor's date; wraps lie on purpose).
    pub created_at: u64,
    /// The words.
    pub text: String,
    /// The message that it answers; of a reaction the one that it is put on.
    pub reply_to: Option<EventId>,
    /// What it is.
    pub content: Content,
    /// When it is to be gone, Unix seconds (NIP-40); the earlier one of rumor and wrap.
    pub expires_at: Option<u64>,
}

/// What a message is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Words (kind 14).
    Words,
    /// A reaction (kind 7); `text` is the mark.
    Reaction,
    /// An encrypted file (kind 15); `text` is its address.
    File(SealedFile),
}

/// How the file of a kind 15 is opened. NIP-17 knows one algorithm, `aes-gcm`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedFile {
    /// Where it is, encrypted.
    pub url: String,
    /// MIME type, as its sender says.
    pub mime: Option<String>,
    /// 16 or 32 bytes, hex.
    pub key: String,
    /// 12 or 16 bytes, hex.
    pub nonce: String,
    /// SHA-256 of what the address gives, hex.
    pub sha256: String,
}

/// Why a wrap is dropped. Counted, never answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Not kind 1059.
    #[error("not a gift wrap")]
    NotAWrap,
    /// A layer is not what its JSON should be.
    #[error("the {0} is not a valid event")]
    Layer(&'static str),
    /// The seal's id or signature is wrong.
    #[error("the seal's signature is wrong")]
    Signature,
    /// The seal is by somebody else than the rumor.
    #[error("the seal's author is not the message's author")]
    Author,
    /// The rumor's id is not its hash.
    #[error("the message's id is wrong")]
    RumorId,
    /// Another kind than a message of a chat.
    #[error("kind {0} is no message of a chat")]
    Kind(u16),
    /// A file or a reaction that lacks what it needs.
    #[error("the {0} is not complete")]
    Incomplete(&'static str),
    /// Dated ahead, or too long.
    #[error("the message is dated in the future or too long")]
    Limits,
}

/// The rumor of a chat message from `author` to `recipient`, with its id.
pub fn rumor(
    author: PublicKey,
    recipient: &PublicKey,
    text: &str,
    reply_to: Option<EventId>,
    at: u64,
) -> UnsignedEvent {
    rumor_until(author, recipient, text, reply_to, at, None)
}

/// The same, to be gone at `expires_at`, Unix seconds (NIP-40).
pub fn rumor_until(
    author: PublicKey,
    recipient: &PublicKey,
    text: &str,
    reply_to: Option<EventId>,
    at: u64,
    expires_at: Option<u64>,
) -> UnsignedEvent {
    let mut tags = vec![tag(["p", &recipient.to_hex()])];
    tags.extend(reply_to.map(|id| tag(["e", &id.to_hex()])));
    tags.extend(expires_at.map(|at| tag(["expiration", &at.to_string()])));
    let mut rumor = UnsignedEvent::new(author, Timestamp::from_secs(at), Kind::from_u16(CHAT_KIND), tags, text);
    rumor.ensure_id();
    rumor
}

/// The seal to be signed by `author`; `ciphertext` is the rumor's JSON under NIP-44 from author to recipient. Its tags are empty.
pub fn seal(author: PublicKey, ciphertext: &str, at: u64) -> UnsignedEvent {
    UnsignedEvent::new(author, Timestamp::from_secs(at), Kind::from_u16(SEAL_KIND), Vec::<Tag>::new(), ciphertext)
}

/// A date up to two days before `now`, as NIP-59 asks for seals and wraps.
pub fn backdated(now: u64, rng: &mut impl RngCore) -> u64 {
    now.saturating_sub(u64::from(rng.next_u32()) % BACKDATE_S)
}

/// Wraps a signed seal for `recipient` with the single-use key `ephemeral`, dated `at`.
///
/// # Errors
/// When the seal is larger than NIP-44 takes.
pub fn wrap<R: RngCore + CryptoRng>(
    seal: &Event,
    recipient: &PublicKey,
    ephemeral: &Keys,
    at: u64,
    rng: &mut R,
) -> Result<Event, nip44::Error> {
    wrap_until(seal, recipient, ephemeral, at, None, rng)
}

/// The same, to be gone at `expires_at`, Unix seconds: relays drop the wrap then.
///
/// # Errors
/// When the seal is larger than NIP-44 takes.
pub fn wrap_until<R: RngCore + CryptoRng>(
    seal: &Event,
    recipient: &PublicKey,
    ephemeral: &Keys,
    at: u64,
    expires_at: Option<u64>,
    rng: &mut R,
) -> Result<Event, nip44::Error> {
    let content = nip44::encrypt_with_rng(rng, ephemeral.secret_key(), recipient, seal.as_json(), nip44::Version::V2)?;
    let mut tags = vec![tag(["p", &recipient.to_hex()])];
    tags.extend(expires_at.map(|at| tag(["expiration", &at.to_string()])));
    let wrap =
        UnsignedEvent::new(ephemeral.public_key(), Timestamp::from_secs(at), Kind::from_u16(WRAP_KIND), tags, content);
    Ok(sign(wrap, ephemeral, rng))
}

pub(crate) fn sign<R: RngCore + CryptoRng>(mut event: UnsignedEvent, keys: &Keys, rng: &mut R) -> Event {
    let id = event.id();
    let message = nostr::secp256k1::Message::from_digest(id.to_bytes());
    let mut aux = [0; 32];
    rng.fill_bytes(&mut aux);
    let pair = nostr::secp256k1::Keypair::from_secret_key(nostr::SECP256K1, keys.secret_key());
    let signature = nostr::SECP256K1.sign_schnorr_with_aux_rand(&message, &pair, &aux);
    Event::new(id, event.pubkey, event.created_at, event.kind, event.tags, event.content, signature)
}

/// The seal inside a wrap, from the wrap's decrypted content; id and signature checked.
///
/// # Errors
/// When it is no event, no seal, or badly signed.
pub fn read_seal(wrap: &Event, plaintext: &str) -> Result<Event, OpenError> {
    if wrap.kind.as_u16() != WRAP_KIND {
        return Err(OpenError::NotAWrap);
    }
    let seal = Event::from_json(plaintext).map_err(|_| OpenError::Layer("seal"))?;
    if seal.kind.as_u16() != SEAL_KIND {
        return Err(OpenError::Layer("seal"));
    }
    seal.verify().map_err(|_| OpenError::Signature)?;
    Ok(seal)
}

/// The message inside a seal, from the seal's decrypted content, at `now` (Unix seconds).
///
/// # Errors
/// When the rumor is not by the seal's author, its id is wrong, it is no chat message, is dated ahead, or is too long.
pub fn read_rumor(seal: &Event, plaintext: &str, now: u64) -> Result<DirectMessage, OpenError> {
    let mut rumor = UnsignedEvent::from_json(plaintext).map_err(|_| OpenError::Layer("message"))?;
    if rumor.pubkey != seal.pubkey {
        return Err(OpenError::Author);
    }
    rumor.verify_id().map_err(|_| OpenError::RumorId)?;
    let created_at = rumor.created_at.as_secs();
    if created_at > now + MAX_FUTURE_S || rumor.content.len() > MAX_TEXT_BYTES {
        return Err(OpenError::Limits);
    }
    let reply_to =
        rumor.tags.iter().map(Tag::as_slice).find(|t| t[0] == "e").and_then(|t| EventId::from_hex(t.get(1)?).ok());
    let content = match rumor.kind.as_u16() {
        CHAT_KIND => Content::Words,
        REACTION_KIND if reply_to.is_some() => Content::Reaction,
        REACTION_KIND => return Err(OpenError::Incomplete("reaction")),
        FILE_KIND => Content::File(sealed_file(&rumor).ok_or(OpenError::Incomplete("file"))?),
        other => return Err(OpenError::Kind(other)),
    };
    let expires_at = rumor.tags.expiration().map(|at| at.as_secs());
    let id = rumor.id();
    Ok(DirectMessage { id, author: rumor.pubkey, created_at, text: rumor.content, reply_to, content, expires_at })
}

/// The tags of a kind 15.
fn sealed_file(rumor: &UnsignedEvent) -> Option<SealedFile> {
    let value = |name: &str| {
        let tag = rumor.tags.iter().map(Tag::as_slice).find(|tag| tag[0] == name)?;
        tag.get(1).cloned()
    };
    let hex = |name: &str, bytes: &[usize]| {
        let text = value(name)?.to_ascii_lowercase();
        let is_hex = text.bytes().all(|b| b.is_ascii_hexdigit()) && bytes.iter().any(|n| text.len() == n * 2);
        is_hex.then_some(text)
    };
    let (key, nonce) = (hex("decryption-key", &[16, 32])?, hex("decryption-nonce", &[12, 16])?);
    let is_known = value("encryption-algorithm")?.eq_ignore_ascii_case("aes-gcm");
    let url = rumor.content.trim().to_owned();
    let file = SealedFile { url, mime: value("file-type"), key, nonce, sha256: hex("x", &[32])? };
    (is_known && !file.url.is_empty()).then_some(file)
}

/// Where a message to somebody goes: the relays of their 10050, else the relay that their own message came by.
pub fn reply_relays(listed: Vec<RelayUrl>, came_by: Option<RelayUrl>) -> Vec<RelayUrl> {
    if listed.is_empty() { came_by.into_iter().collect() } else { listed }
}
