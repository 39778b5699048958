//! What is asked of memory, and what is recalled.

use std::collections::BTreeSet;

use nips::memory::{EntryId, Space};
use nostr::PublicKey;
use serde::Serialize;

use crate::entry::{Entry, EntryKind};

/// How many results there are unless said otherwise.
pub const DEFAULT_LIMIT: usize = 10;
/// The most results of one recall.
pub const MAX_LIMIT: usize = 1_000;

/// A question to memory. Empty filters let everything through; several are all obeyed.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    /// What is sought, in any language; what is empty recalls the newest and most important.
    pub text: String,
    /// How many results.
    pub limit: usize,
    /// Only in these spaces.
    pub spaces: BTreeSet<Space>,
    /// Only of these kinds.
    pub kinds: BTreeSet<EntryKind>,
    /// Only with all of these tags.
    pub tags: BTreeSet<String>,
    /// Only of this author.
    pub author: Option<PublicKey>,
    /// Only of this person.
    pub person: Option<PublicKey>,
    /// Only written at or after this time, seconds since 1970.
    pub since: Option<u64>,
    /// Only written at or before this time.
    pub until: Option<u64>,
}

impl Query {
    /// A question without filters.
    pub fn new(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            limit: DEFAULT_LIMIT,
            spaces: BTreeSet::new(),
            kinds: BTreeSet::new(),
            tags: BTreeSet::new(),
            author: None,
            person: None,
            since: None,
            until: None,
        }
    }
}

/// What somebody may recall, decided from their `Audience` and what was shared with them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sight {
    /// Everything (the owner).
    All,
    /// Entries of these spaces whosever they are, and those of this person in any space.
    Some {
        /// Spaces that were shared.
        spaces: BTreeSet<Space>,
        /// Whose own entries.
        person: Option<PublicKey>,
    },
}

impl Sight {
    /// What a stranger sees.
    pub fn nothing() -> Self {
        Self::Some { spaces: BTreeSet::new(), person: None }
    }

    /// True when this entry may be shown.
    pub fn sees(&self, space: &Space, person: Option<&PublicKey>) -> bool {
        match self {
            Self::All => true,
            Self::Some { spaces, person: own } => spaces.contains(space) || (own.is_some() && person == own.as_ref()),
        }
    }
}

/// Which of the two places a result was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// By the fused score.
    Fused,
    /// One of those kept for what only the vectors found.
    Dense,
    /// By time and importance: the question was empty.
    Newest,
}

/// Why something was recalled, part by part.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Reasons {
    /// Full text: BM25 over the best one's, 0 to 1; none when no word was found.
    pub text: Option<f32>,
    /// What the full text counts for with this question, 0.4 to 1.5: by how much of it the best texts say. None when no word of
    /// this entry was found.
    pub trust: Option<f32>,
    /// Vectors: cosine, -1 to 1; none when it or the question has no vector.
    pub cosine: Option<f32>,
    /// The cosine over the span of all that was found, 0 to 1.
    pub nearness: Option<f32>,
    /// Both together, before the weights: trust · text² + nearness.
    pub fused: f32,
    /// The weight of its age, 0 to 1.
    pub recency: f32,
    /// The weight of its importance.
    pub importance: f32,
    /// Which place it was given.
    pub place: Place,
    /// Near duplicates that it stands for.
    pub folded: Vec<EntryId>,
}

/// One result.
#[derive(Debug, Clone, PartialEq)]
pub struct Recall {
    /// What was recalled.
    pub entry: Entry,
    /// How well it fits; comparable within one recall alone.
    pub score: f32,
    /// Why.
    pub reasons: Reasons,
}
