//! Tombstones: what is forgotten, by id.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use nostr::{EventBuilder, Kind, Tag};
use rand_core::RngCore;
use serde::{Deserialize, Serialize};

use super::change::ChangeError;
use super::document::{DocumentId, Space};

/// The most ids in one tombstone; more are several tombstones.
const MAX_ITEMS: usize = 1_000;

/// The name of an entry: 16 random bytes, hex. It says nothing of the text.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EntryId([u8; 16]);

impl EntryId {
    /// A new one.
    pub fn random(rng: &mut impl RngCore) -> Self {
        let mut bytes = [0; 16];
        rng.fill_bytes(&mut bytes);
        Self(bytes)
    }

    /// From its bytes.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EntryId({self})")
    }
}

impl FromStr for EntryId {
    type Err = ChangeError;

    fn from_str(text: &str) -> Result<Self, ChangeError> {
        let mut bytes = [0; 16];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| ChangeError::Malformed("entry id"))?;
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for EntryId {
    type Error = ChangeError;

    fn try_from(text: String) -> Result<Self, ChangeError> {
        text.parse()
    }
}

impl From<EntryId> for String {
    fn from(id: EntryId) -> Self {
        id.to_string()
    }
}

/// What is forgotten in a space. The documents that held it are retired: their changes are destroyed and never taken again,
/// and what was not forgotten in them is written anew, in other documents, under the ids that it had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tombstone {
    /// The space.
    pub space: Space,
    /// Ids of entries; refused from now on in sync, import and restore.
    pub entries: BTreeSet<EntryId>,
    /// Documents whose changes are refused from now on.
    pub retired: BTreeSet<DocumentId>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    entries: BTreeSet<EntryId>,
    retired: BTreeSet<DocumentId>,
}

impl Tombstone {
    /// The event, to be signed by the install key.
    pub fn to_event(&self) -> EventBuilder {
        let content = Content { entries: self.entries.clone(), retired: self.retired.clone() };
        let document = DocumentId::Forgotten { space: self.space.clone() }.to_string();
        let content = serde_json::to_string(&content).unwrap_or_default();
        EventBuilder::new(Kind::from_u16(super::KIND_MEMORY), content).tag(Tag::identifier(document))
    }

    /// The tombstones that say this in as many events as it takes.
    pub fn split(self) -> Vec<Self> {
        let Self { space, entries, retired } = self;
        let retired: Vec<DocumentId> = retired.into_iter().collect();
        let entries: Vec<EntryId> = entries.into_iter().collect();
        let of_entries = entries.chunks(MAX_ITEMS).map(|part| (part.iter().copied().collect(), BTreeSet::new()));
        let of_documents = retired.chunks(MAX_ITEMS).map(|part| (BTreeSet::new(), part.iter().cloned().collect()));
        if entries.len() + retired.len() <= MAX_ITEMS {
            return vec![Self {
                space,
                entries: entries.into_iter().collect(),
                retired: retired.into_iter().collect(),
            }];
        }
        let parts = of_entries.chain(of_documents);
        parts.map(|(entries, retired)| Self { space: space.clone(), entries, retired }).collect()
    }

    pub(super) fn parse(space: Space, content: &str) -> Result<Self, ChangeError> {
        let Content { entries, retired } =
            serde_json::from_str(content).map_err(|_| ChangeError::Malformed("tombstone"))?;
        if entries.len() + retired.len() > MAX_ITEMS {
            return Err(ChangeError::TooLarge(entries.len() + retired.len()));
        }
        if retired.iter().any(|document| *document.space() != space) {
            return Err(ChangeError::Malformed("tombstone of another space"));
        }
        if retired.iter().any(|document| matches!(document, DocumentId::Forgotten { .. })) {
            return Err(ChangeError::Malformed("tombstone of tombstones"));
        }
        Ok(Self { space, entries, retired })
    }
}
