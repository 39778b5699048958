//! Sealed direct messages: a rumor (kind 14, unsigned), inside a seal (13, signed by the author), inside a gift wrap (1059,
//! signed by a key that is used once). NIP-17 over NIP-59 over NIP-44.
//!
//! The signer encrypts and signs the seal, since only it holds the author's key; everything else is here. On reading, the
//! seal's author must be the rumor's author: anything else is a forgery.

use nostr::nips::nip44;
use nostr::{Event, EventId, JsonUtil, Keys, Kind, PublicKey, RelayUrl, Tag, Timestamp, UnsignedEvent};
use rand_core::{CryptoRng, RngCore};

use crate::tags::tag;

/// Kind of a chat message.
pub const CHAT_KIND: u16 = 14;
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
    /// The message that it answers.
    pub reply_to: Option<EventId>,
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
    /// Another kind than a chat message.
    #[error("kind {0} is not a chat message")]
    Kind(u16),
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
    let mut tags = vec![tag(["p", &recipient.to_hex()])];
    tags.extend(reply_to.map(|id| tag(["e", &id.to_hex()])));
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
    let content = nip44::encrypt_with_rng(rng, ephemeral.secret_key(), recipient, seal.as_json(), nip44::Version::V2)?;
    let tags = vec![tag(["p", &recipient.to_hex()])];
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
    if rumor.kind.as_u16() != CHAT_KIND {
        return Err(OpenError::Kind(rumor.kind.as_u16()));
    }
    let created_at = rumor.created_at.as_secs();
    if created_at > now + MAX_FUTURE_S || rumor.content.len() > MAX_TEXT_BYTES {
        return Err(OpenError::Limits);
    }
    let reply_to =
        rumor.tags.iter().map(Tag::as_slice).find(|t| t[0] == "e").and_then(|t| EventId::from_hex(t.get(1)?).ok());
    let id = rumor.id();
    Ok(DirectMessage { id, author: rumor.pubkey, created_at, text: rumor.content, reply_to })
}

/// Where a message to somebody goes: the relays of their 10050, else the relay that their own message came by.
pub fn reply_relays(listed: Vec<RelayUrl>, came_by: Option<RelayUrl>) -> Vec<RelayUrl> {
    if listed.is_empty() { came_by.into_iter().collect() } else { listed }
}
