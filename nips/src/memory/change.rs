//! A change: one automerge change, named and signed.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use nostr::{Event, EventBuilder, Kind, PublicKey, Tag, TagKind};

use super::chunk::{self, ChunkError};
use super::document::{DocumentError, DocumentId};

/// Why an event is no event of memory.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// Of another kind.
    #[error("kind {0} is no memory")]
    Kind(u16),
    /// The id or the signature is wrong.
    #[error("the id or the signature is wrong")]
    Signature,
    /// Too large; bytes, or ids of a tombstone.
    #[error("too large: {0}")]
    TooLarge(usize),
    /// A tag is missing.
    #[error("the tag {0:?} is missing")]
    Missing(&'static str),
    /// A part does not parse.
    #[error("not a good {0}")]
    Malformed(&'static str),
    /// It changes no document that could be.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// Its bytes are no change.
    #[error(transparent)]
    Chunk(#[from] ChunkError),
    /// The tag says another hash than the bytes have.
    #[error("the hash is of other bytes")]
    Hash,
    /// The actor is not of the key that signed.
    #[error("the actor belongs to another key")]
    Actor,
    /// The document belongs to another key.
    #[error("the shard belongs to another writer")]
    ForeignWriter,
}

/// Who changes a document: the install key and 16 random bytes of one start, so that a restored copy of a machine is
/// never the same actor.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ActorId([u8; 48]);

impl ActorId {
    /// The actor of one start of an install.
    pub fn new(install: &PublicKey, start: [u8; 16]) -> Self {
        let mut bytes = [0; 48];
        bytes[..32].copy_from_slice(&install.to_bytes());
        bytes[32..].copy_from_slice(&start);
        Self(bytes)
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; 48] {
        &self.0
    }

    /// True when it is of this install.
    pub fn is_of(&self, install: &PublicKey) -> bool {
        self.0[..32] == install.to_bytes()
    }
}

impl fmt::Display for ActorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for ActorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ActorId({self})")
    }
}

impl FromStr for ActorId {
    type Err = ChangeError;

    fn from_str(text: &str) -> Result<Self, ChangeError> {
        let mut bytes = [0; 48];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| ChangeError::Malformed("actor"))?;
        Ok(Self(bytes))
    }
}

/// One change of one document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What it changes.
    pub document: DocumentId,
    /// Who made it.
    pub actor: ActorId,
    /// The actor's sequence number in this document, from 1.
    pub seq: u64,
    /// SHA-256 of the plain chunk from its type on: automerge's name of the change.
    pub hash: [u8; 32],
    /// The plain chunk.
    pub bytes: Vec<u8>,
}

impl Change {
    /// The event, to be signed by the install key of the actor. `frame` is the chunk as it travels, plain or compressed.
    pub fn to_event(document: &DocumentId, actor: &ActorId, seq: u64, hash: &[u8; 32], frame: &[u8]) -> EventBuilder {
        let tag = |name: &str, value: String| Tag::custom(TagKind::custom(name), [value]);
        EventBuilder::new(Kind::from_u16(super::KIND_MEMORY), STANDARD.encode(frame)).tags([
            Tag::identifier(document.to_string()),
            tag("actor", actor.to_string()),
            tag("seq", seq.to_string()),
            tag("x", hex::encode(hash)),
        ])
    }

    pub(super) fn parse(event: &Event, document: DocumentId) -> Result<Self, ChangeError> {
        let actor: ActorId = tag(event, "actor")?.parse()?;
        if !actor.is_of(&event.pubkey) {
            return Err(ChangeError::Actor);
        }
        if let DocumentId::Shard { writer, .. } = &document
            && *writer != event.pubkey
        {
            return Err(ChangeError::ForeignWriter);
        }
        let seq: u64 = tag(event, "seq")?.parse().map_err(|_| ChangeError::Malformed("sequence number"))?;
        let mut hash = [0; 32];
        hex::decode_to_slice(tag(event, "x")?, &mut hash).map_err(|_| ChangeError::Malformed("hash"))?;
        let frame = STANDARD.decode(&event.content).map_err(|_| ChangeError::Malformed("content"))?;
        let plain = chunk::open(&frame)?;
        if plain.hash != hash {
            return Err(ChangeError::Hash);
        }
        Ok(Self { document, actor, seq, hash, bytes: plain.bytes })
    }
}

pub(super) fn tag<'a>(event: &'a Event, name: &'static str) -> Result<&'a str, ChangeError> {
    let mut found = event.tags.iter().filter(|tag| tag.as_slice().first().is_some_and(|n| n == name));
    let value = found.next().and_then(|tag| tag.as_slice().get(1)).ok_or(ChangeError::Missing(name))?;
    if found.next().is_some() { Err(ChangeError::Malformed("tag that is there twice")) } else { Ok(value) }
}
