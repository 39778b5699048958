//! What is remembered: entries.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use nips::memory::{EntryId, Space};
use nostr::PublicKey;
use serde::{Deserialize, Serialize};

/// Longest text of an entry, in bytes.
pub const MAX_TEXT: usize = 64 * 1024;
/// Most tags of an entry.
pub const MAX_TAGS: usize = 32;
/// Longest tag, in bytes.
pub const MAX_TAG: usize = 64;
/// Most entries that one supersedes.
pub const MAX_SUPERSEDES: usize = 1_000;
/// How far ahead an entry's time may be, in seconds; further, and it is set aside until then.
pub const MAX_AHEAD_S: u64 = 600;
/// The importance of an entry of which nobody said anything.
pub const DEFAULT_IMPORTANCE: f32 = 0.5;

/// What sort of memory it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryKind {
    /// Something that happened; fades in weeks.
    Episodic,
    /// Something that is so; fades in years.
    Semantic,
    /// How something is done; does not fade.
    Procedural,
}

impl EntryKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Episodic, Self::Semantic, Self::Procedural];

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Episodic => "episodic",
            Self::Semantic => "semantic",
            Self::Procedural => "procedural",
        }
    }
}

impl fmt::Display for EntryKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for EntryKind {
    type Err = EntryError;

    fn from_str(text: &str) -> Result<Self, EntryError> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or_else(|| EntryError::Kind(text.to_owned()))
    }
}

/// Why something cannot be remembered.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum EntryError {
    /// There are three kinds.
    #[error("{0:?} is no kind of memory: episodic, semantic or procedural")]
    Kind(String),
    /// No text.
    #[error("there is no text to remember")]
    Empty,
    /// Too much of it.
    #[error("{0} bytes are too many: at most {MAX_TEXT} in one entry")]
    TooLong(usize),
    /// Too many or too long tags.
    #[error("at most {MAX_TAGS} tags of at most {MAX_TAG} bytes each, none of them empty")]
    Tags,
    /// Not between 0 and 1.
    #[error("importance is between 0 and 1, not {0}")]
    Importance(f32),
    /// Supersedes too many.
    #[error("one entry supersedes at most {MAX_SUPERSEDES}")]
    Supersedes,
}

/// One memory. It never changes: what was learnt anew is a new entry that supersedes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Its name.
    pub id: EntryId,
    /// The text, at most [`MAX_TEXT`] bytes.
    pub text: String,
    /// What sort of memory it is.
    pub kind: EntryKind,
    /// Who shares it.
    pub space: Space,
    /// The node that wrote it (its passport).
    pub author: PublicKey,
    /// When it was written; seconds since 1970.
    pub created_at: u64,
    /// The person that it belongs to: they recall it, others only if its space was shared with them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub person: Option<PublicKey>,
    /// Words to filter by.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub tags: BTreeSet<String>,
    /// 0 (trifle) to 1 (never forget).
    #[serde(default = "default_importance")]
    pub importance: f32,
    /// From when it is so; seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_from: Option<u64>,
    /// Until when it is so, exclusive; seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_until: Option<u64>,
    /// Entries that it stands in the place of.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub supersedes: BTreeSet<EntryId>,
}

fn default_importance() -> f32 {
    DEFAULT_IMPORTANCE
}

impl Entry {
    /// Checks the bounds of everything in it.
    ///
    /// # Errors
    /// Names the first bound that is broken.
    pub fn check(&self) -> Result<(), EntryError> {
        if self.text.trim().is_empty() {
            return Err(EntryError::Empty);
        }
        if self.text.len() > MAX_TEXT {
            return Err(EntryError::TooLong(self.text.len()));
        }
        if self.tags.len() > MAX_TAGS || self.tags.iter().any(|t| t.is_empty() || t.len() > MAX_TAG) {
            return Err(EntryError::Tags);
        }
        if !(0.0..=1.0).contains(&self.importance) {
            return Err(EntryError::Importance(self.importance));
        }
        if self.supersedes.len() > MAX_SUPERSEDES {
            return Err(EntryError::Supersedes);
        }
        Ok(())
    }

    /// True when it holds at `now`: begun, not over, and not from the future.
    pub fn holds_at(&self, now: u64) -> bool {
        self.created_at <= now + MAX_AHEAD_S
            && self.valid_from.is_none_or(|from| from <= now)
            && self.valid_until.is_none_or(|until| now < until)
    }
}

/// An entry before it has a name, an author and a time.
#[derive(Debug, Clone, PartialEq)]
pub struct Draft {
    /// The text.
    pub text: String,
    /// What sort of memory it is.
    pub kind: EntryKind,
    /// Who shares it.
    pub space: Space,
    /// The person that it belongs to.
    pub person: Option<PublicKey>,
    /// Words to filter by.
    pub tags: BTreeSet<String>,
    /// 0 to 1.
    pub importance: f32,
    /// From when it is so.
    pub valid_from: Option<u64>,
    /// Until when it is so.
    pub valid_until: Option<u64>,
    /// Entries that it stands in the place of.
    pub supersedes: BTreeSet<EntryId>,
    /// Its name, when it has one already (import).
    pub id: Option<EntryId>,
    /// Its time, when it has one already (import).
    pub created_at: Option<u64>,
}

impl Draft {
    /// A semantic entry of the fleet with nothing but a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            kind: EntryKind::Semantic,
            space: Space::fleet(),
            person: None,
            tags: BTreeSet::new(),
            importance: DEFAULT_IMPORTANCE,
            valid_from: None,
            valid_until: None,
            supersedes: BTreeSet::new(),
            id: None,
            created_at: None,
        }
    }
}
