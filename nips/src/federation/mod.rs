//! The federation on the wire (kinds 9770 to 9775, `spec/federation.md`), the invitation code, and letters: how any envelope
//! travels over a relay.
//!
//! | kind | what | signed by |
//! |---|---|---|
//! | 9770 | [`Answer`]: what a joiner answers to an invitation, and what comes back | install key |
//! | 9771 | [`Entry`]: one entry of the membership log | passport, or the owner's key |
//! | 9772 | [`EpochKey`]: the keys of an epoch, sealed to each member | passport of an admin |
//! | 9773 | [`Presence`]: where a member is met now | install key |
//! | 9774 | [`MemoryDigest`]: how much of the shared memory is there | install key |
//! | 9775 | [`Piece`]: bytes of a sync that travels in letters | install key |
//!
//! Entries and epoch keys are signed by passports and not by install keys: they are verified years later, when the peer cards that
//! bound an install to its passport have long ended.

mod answer;
mod code;
mod digest;
mod entry;
mod epoch_key;
pub mod letter;
mod presence;
mod secret;

pub use answer::{Answer, Ask, Joiner, Refusal, Welcome};
pub use code::{Code, CodeError, InvitationId};
pub use digest::{KIND_DIGEST, KIND_PIECE, MAX_PIECE, MAX_SHARDS, MemoryDigest, Piece, SpaceDigest};
pub use entry::{Act, Entry, FederationId, MAX_HEADS, MAX_NAME, Role};
pub use epoch_key::{EpochKey, MAX_SEALED, Opened, SealedKey, Terms, ViewId};
pub use letter::{Letter, LetterError, Reassembly};
pub use presence::{KIND_PRESENCE, Presence};
pub use secret::{EpochSecrets, KeyId, Secret, same};

use nostr::{Event, Tag};

/// Kind of an invitation answer.
pub const KIND_ANSWER: u16 = 9770;
/// Kind of a membership entry.
pub const KIND_ENTRY: u16 = 9771;
/// Kind of an epoch key.
pub const KIND_EPOCH_KEY: u16 = 9772;
/// The first kind of our own that travels in envelopes.
pub const FIRST_KIND: u16 = 9760;
/// The last one.
pub const LAST_KIND: u16 = 9775;
/// The largest content of an envelope, bytes, where nothing else is said.
pub const MAX_CONTENT: usize = 32 * 1024;
/// The largest content of a welcome, bytes: it brings the whole membership log.
pub const MAX_WELCOME: usize = 320 * 1024;
/// The most tags of an envelope: the heads of an entry and a few more.
const MAX_TAGS: usize = MAX_HEADS + 8;

/// Why an event is no envelope of these kinds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// Of another kind.
    #[error("kind {0} is none of the federation's")]
    Kind(u16),
    /// The id or the signature is wrong.
    #[error("the id or the signature is wrong")]
    Signature,
    /// Too large, bytes.
    #[error("too large: {0} bytes")]
    TooLarge(usize),
    /// A tag is missing.
    #[error("the tag {0:?} is missing")]
    Missing(&'static str),
    /// A part does not parse.
    #[error("not a good {0}")]
    Malformed(&'static str),
    /// More of something than an envelope may have.
    #[error("too many {0}")]
    TooMany(&'static str),
    /// A key could not be sealed or opened.
    #[error("the key does not {0}")]
    Seal(&'static str),
}

/// One envelope of these kinds, parsed. The signature is not looked at here: [`verified`] does both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Kind 9770.
    Answer(Box<Answer>),
    /// Kind 9771.
    Entry(Box<Entry>),
    /// Kind 9772.
    EpochKey(Box<EpochKey>),
}

/// Reads an event without checking its signature.
///
/// # Errors
/// When it is of another kind, too large, incomplete or malformed.
pub fn parse(event: &Event) -> Result<Message, EnvelopeError> {
    let kind = event.kind.as_u16();
    let cap = if kind == KIND_ANSWER { MAX_WELCOME } else { MAX_CONTENT };
    if event.content.len() > cap {
        return Err(EnvelopeError::TooLarge(event.content.len()));
    }
    if event.tags.len() > MAX_TAGS {
        return Err(EnvelopeError::TooMany("tags"));
    }
    match kind {
        KIND_ANSWER => Ok(Message::Answer(Box::new(Answer::parse(event)?))),
        KIND_ENTRY => Ok(Message::Entry(Box::new(Entry::parse(event)?))),
        KIND_EPOCH_KEY => Ok(Message::EpochKey(Box::new(EpochKey::parse(event)?))),
        other => Err(EnvelopeError::Kind(other)),
    }
}

/// Reads an event whose id and signature are checked first.
///
/// # Errors
/// As [`parse`], and [`EnvelopeError::Signature`].
pub fn verified(event: &Event) -> Result<Message, EnvelopeError> {
    let message = parse(event)?;
    event.verify().map_err(|_| EnvelopeError::Signature)?;
    Ok(message)
}

/// True for the kinds that travel in envelopes. All of them but the label of a task are never published bare.
pub fn is_envelope(kind: u16) -> bool {
    (FIRST_KIND..=LAST_KIND).contains(&kind) || kind == crate::task::LABEL_KIND
}

/// The values of all tags called `name`.
fn all<'a>(event: &'a Event, name: &'a str) -> impl Iterator<Item = &'a str> + 'a {
    let named = event.tags.iter().map(Tag::as_slice).filter(move |tag| tag.first().is_some_and(|n| n == name));
    named.filter_map(|tag| tag.get(1)).map(String::as_str)
}

/// The value of the one tag called `name`.
fn one<'a>(event: &'a Event, name: &'static str) -> Result<&'a str, EnvelopeError> {
    optional(event, name)?.ok_or(EnvelopeError::Missing(name))
}

/// The value of the tag called `name`, which may be missing but not be there twice.
fn optional<'a>(event: &'a Event, name: &'static str) -> Result<Option<&'a str>, EnvelopeError> {
    let mut found = all(event, name);
    let value = found.next();
    if found.next().is_some() { Err(EnvelopeError::Malformed("tag that is there twice")) } else { Ok(value) }
}

/// Bytes from small hex digits of exactly this length.
fn bytes<const N: usize>(text: &str, what: &'static str) -> Result<[u8; N], EnvelopeError> {
    let mut bytes = [0; N];
    hex::decode_to_slice(text, &mut bytes).map_err(|_| EnvelopeError::Malformed(what))?;
    if hex::encode(bytes) == text { Ok(bytes) } else { Err(EnvelopeError::Malformed(what)) }
}

/// A public key from small hex digits.
fn key(text: &str) -> Result<nostr::PublicKey, EnvelopeError> {
    let bytes: [u8; 32] = bytes(text, "public key")?;
    let key = nostr::PublicKey::from_slice(&bytes).map_err(|_| EnvelopeError::Malformed("public key"))?;
    // Thirty-two bytes that are no point of the curve can neither sign nor be sealed to.
    key.xonly().map_err(|_| EnvelopeError::Malformed("public key"))?;
    Ok(key)
}

/// A type of N bytes whose text is small hex.
macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident, $len:literal, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(pub [u8; $len]);

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::federation::EnvelopeError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                $crate::federation::bytes(text, $what).map(Self)
            }
        }

        impl TryFrom<String> for $name {
            type Error = $crate::federation::EnvelopeError;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.to_string()
            }
        }
    };
}
pub(crate) use hex_id;
