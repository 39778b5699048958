//! Memory on the wire (kind 9760, `spec/memory.md`): signed changes of documents, and tombstones.
//!
//! | in a tag | of a change | of a tombstone |
//! |---|---|---|
//! | `d` | the [`DocumentId`] | `<space>/forgotten` |
//! | `actor` | install key ‖ 16 bytes of this start, hex | |
//! | `seq` | the actor's sequence number in this document, from 1 | |
//! | `x` | the change's hash (automerge's, SHA-256), hex | |
//!
//! The content of a change is its chunk in base64; of a tombstone, JSON. Both are signed by the install key. What comes from outside
//! is measured before anything else is done with it: the *inflated* size of a chunk is capped here, and automerge is handed plain
//! chunks alone.

mod change;
mod chunk;
mod document;
mod tombstone;

pub use change::{ActorId, Change, ChangeError};
pub use chunk::{ChunkError, MAX_INFLATED};
pub use document::{DocumentError, DocumentId, Month, PageName, Space};
pub use tombstone::{EntryId, Tombstone};

use nostr::Event;

/// The kind of every event of memory. Never published bare to a relay (CONTRACT, "Kinds of our own").
pub const KIND_MEMORY: u16 = 9760;
/// The largest serialised content of one event, in bytes.
pub const MAX_CONTENT: usize = 256 * 1024;

/// One event of memory, parsed. The signature is not looked at here: [`verified`] does both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// A change of a document.
    Change(Change),
    /// What is forgotten.
    Tombstone(Tombstone),
}

impl Message {
    /// The space that this is about.
    pub fn space(&self) -> &Space {
        match self {
            Self::Change(change) => change.document.space(),
            Self::Tombstone(tombstone) => &tombstone.space,
        }
    }

    /// Reads an event without checking its signature.
    ///
    /// # Errors
    /// When it is of another kind, too large, incomplete, or says one thing in its tags and another in its bytes.
    pub fn parse(event: &Event) -> Result<Self, ChangeError> {
        if event.kind.as_u16() != KIND_MEMORY {
            return Err(ChangeError::Kind(event.kind.as_u16()));
        }
        if event.content.len() > MAX_CONTENT {
            return Err(ChangeError::TooLarge(event.content.len()));
        }
        let document: DocumentId = change::tag(event, "d")?.parse()?;
        match document {
            DocumentId::Forgotten { space } => Ok(Self::Tombstone(Tombstone::parse(space, &event.content)?)),
            DocumentId::Shard { .. } | DocumentId::Page { .. } => Ok(Self::Change(Change::parse(event, document)?)),
        }
    }
}

/// Reads an event whose id and signature are checked first.
///
/// # Errors
/// As [`Message::parse`], and [`ChangeError::Signature`].
pub fn verified(event: &Event) -> Result<Message, ChangeError> {
    event.verify().map_err(|_| ChangeError::Signature)?;
    Message::parse(event)
}
