//! Keeping memory small: what happened long ago is condensed, and what nobody misses is pruned.
//!
//! Condensing takes this node's own episodic entries of one space, person and week, once they are old, and writes one semantic entry
//! that supersedes them: by a model where the caller has one, else by the sentences that say most of what all of them say. The
//! originals stay, superseded, until they are pruned. Pruning forgets (with a tombstone) what was superseded long ago, and what is old,
//! unimportant and was never recalled here.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use nips::memory::{EntryId, Space};
use nostr::PublicKey;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::entry::{Draft, Entry, EntryKind, MAX_SUPERSEDES};
use crate::memory::{Memory, MemoryError};
use crate::truth::Selector;

const DAY_S: u64 = 86_400;
/// Entries that are read at once.
const PAGE: usize = 1_000;
/// The most characters of a condensed entry made without a model.
const EXTRACT: usize = 1_200;
/// The most sentences of one.
const SENTENCES: usize = 8;
/// The tag of condensed entries.
pub const CONDENSED: &str = "condensed";

/// Which entries are condensed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Consolidation {
    /// Those older than this, seconds.
    pub older_than_s: u64,
    /// Groups of at least so many.
    pub fewest: usize,
}

impl Default for Consolidation {
    fn default() -> Self {
        Self { older_than_s: 30 * DAY_S, fewest: 5 }
    }
}

/// Which entries are pruned.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pruning {
    /// Superseded ones older than this, seconds.
    pub superseded_after_s: u64,
    /// Unimportant ones that were never recalled here and are older than this, seconds.
    pub unused_after_s: u64,
    /// Below this importance an entry is unimportant.
    pub importance_below: f32,
}

impl Default for Pruning {
    fn default() -> Self {
        Self { superseded_after_s: 90 * DAY_S, unused_after_s: 180 * DAY_S, importance_below: 0.4 }
    }
}

/// Writes one text in the place of many. The caller owns the model behind it.
#[async_trait]
pub trait Condenser: Send + Sync {
    /// One text that says what these say; none when it cannot now.
    async fn condense(&self, texts: &[String]) -> Option<String>;
}

/// Entries that were condensed into one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Group {
    /// The new entry.
    pub id: EntryId,
    /// Its text.
    pub text: String,
    /// What it stands for.
    pub originals: BTreeSet<EntryId>,
}

/// Why an entry is pruned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PruneReason {
    /// Another entry has stood in its place for long.
    Superseded,
    /// Old, unimportant, and never recalled here.
    Unused,
}

/// One entry that is pruned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Pruned {
    /// Which.
    pub id: EntryId,
    /// How it begins.
    pub text: String,
    /// Why.
    pub reason: PruneReason,
}

impl Memory {
    /// Condenses; with `dry_run` it only says what it would do.
    ///
    /// # Errors
    /// When the disk refuses.
    pub async fn consolidate(
        &self,
        policy: Consolidation,
        condenser: Option<&dyn Condenser>,
        dry_run: bool,
    ) -> Result<Vec<Group>, MemoryError> {
        let all = self.all_entries().await?;
        let groups = groups(&all, self.author(), self.time(), policy);
        let mut done = Vec::new();
        for ((space, person, _), entries) in groups {
            let texts: Vec<String> = entries.iter().map(|entry| entry.text.clone()).collect();
            let by_model = match condenser {
                Some(condenser) => condenser.condense(&texts).await.filter(|text| !text.trim().is_empty()),
                None => None,
            };
            let text = by_model.unwrap_or_else(|| extract(&texts));
            let originals: BTreeSet<EntryId> = entries.iter().map(|entry| entry.id).collect();
            let group = Group { id: group_id(&originals), text, originals };
            if !dry_run {
                self.add(condensed(&group, space, person, &entries)).await?;
            }
            done.push(group);
        }
        Ok(done)
    }

    /// Prunes; with `dry_run` it only says what it would do.
    ///
    /// # Errors
    /// When the disk refuses.
    pub async fn prune(&self, policy: Pruning, dry_run: bool) -> Result<Vec<Pruned>, MemoryError> {
        let all = self.all_entries().await?;
        let recalled = self.recalls().await?;
        let superseded: BTreeSet<(&Space, EntryId)> =
            all.iter().flat_map(|e| e.supersedes.iter().map(|id| (&e.space, *id))).collect();
        let now = self.time();
        let reason = |entry: &Entry| {
            let age = now.saturating_sub(entry.created_at);
            if age >= policy.superseded_after_s && superseded.contains(&(&entry.space, entry.id)) {
                return Some(PruneReason::Superseded);
            }
            let is_unused = entry.importance < policy.importance_below && !recalled.contains_key(&entry.id);
            (is_unused && age >= policy.unused_after_s).then_some(PruneReason::Unused)
        };
        let pruned: Vec<Pruned> = all
            .iter()
            .filter(|entry| entry.author == self.author())
            .filter_map(|entry| {
                let text = entry.text.chars().take(80).collect();
                reason(entry).map(|reason| Pruned { id: entry.id, text, reason })
            })
            .collect();
        if !dry_run && !pruned.is_empty() {
            self.forget(Selector::Ids(pruned.iter().map(|one| one.id).collect())).await?;
        }
        Ok(pruned)
    }

    async fn all_entries(&self) -> Result<Vec<Entry>, MemoryError> {
        let (mut all, mut after) = (Vec::new(), 0);
        loop {
            let rows = self.rows(after, PAGE).await?;
            let Some((last, _)) = rows.last() else { return Ok(all) };
            after = *last;
            all.extend(rows.into_iter().map(|(_, entry)| entry));
        }
    }
}

type Place = (Space, Option<PublicKey>, u64);

/// What can be condensed, by space, person and week, in the order of time.
fn groups(all: &[Entry], author: PublicKey, now: u64, policy: Consolidation) -> BTreeMap<Place, Vec<&Entry>> {
    let superseded: BTreeSet<EntryId> = all.iter().flat_map(|e| e.supersedes.iter().copied()).collect();
    let mut groups: BTreeMap<Place, Vec<&Entry>> = BTreeMap::new();
    for entry in all {
        let is_old = now.saturating_sub(entry.created_at) >= policy.older_than_s;
        let is_ours = entry.kind == EntryKind::Episodic && entry.author == author && entry.valid_until.is_none();
        if is_old && is_ours && !superseded.contains(&entry.id) {
            let place = (entry.space.clone(), entry.person, entry.created_at / (7 * DAY_S));
            groups.entry(place).or_default().push(entry);
        }
    }
    groups.retain(|_, entries| entries.len() >= policy.fewest.max(2));
    for entries in groups.values_mut() {
        entries.sort_by_key(|entry| (entry.created_at, entry.id));
        entries.truncate(MAX_SUPERSEDES);
    }
    groups
}

/// The same originals are condensed into the same entry, however often.
fn group_id(originals: &BTreeSet<EntryId>) -> EntryId {
    let mut hash = Sha256::new().chain_update("timmy/condensed/1");
    for id in originals {
        hash.update(id.as_bytes());
    }
    let digest: [u8; 32] = hash.finalize().into();
    let mut id = [0; 16];
    id.copy_from_slice(&digest[..16]);
    EntryId::from_bytes(id)
}

fn condensed(group: &Group, space: Space, person: Option<PublicKey>, entries: &[&Entry]) -> Draft {
    let importance = entries.iter().map(|entry| entry.importance).fold(0.0, f32::max);
    Draft {
        id: Some(group.id),
        space,
        person,
        importance,
        tags: BTreeSet::from([CONDENSED.to_owned()]),
        supersedes: group.originals.clone(),
        created_at: entries.last().map(|entry| entry.created_at),
        ..Draft::new(&group.text)
    }
}

/// The sentences whose words are most common among all of them, each once, in their order.
pub fn extract(texts: &[String]) -> String {
    let sentences: Vec<&str> = texts.iter().flat_map(|text| sentences(text)).collect();
    let mut common: BTreeMap<String, usize> = BTreeMap::new();
    for sentence in &sentences {
        for word in words(sentence) {
            *common.entry(word).or_default() += 1;
        }
    }
    let weight = |sentence: &str| {
        let words = words(sentence);
        let sum: usize = words.iter().filter_map(|word| common.get(word)).sum();
        // Long sentences must not win by their length alone; hundredths keep the order total.
        if words.is_empty() { 0 } else { sum * 100 / (words.len() + 3) }
    };
    let mut order: Vec<usize> = (0..sentences.len()).collect();
    order.sort_by_key(|at| (std::cmp::Reverse(weight(sentences[*at])), *at));
    let (mut chosen, mut said, mut length) = (BTreeSet::new(), BTreeSet::new(), 0);
    for at in order {
        let sentence = sentences[at];
        let is_new = said.insert(sentence.to_lowercase());
        if is_new && (chosen.is_empty() || length + sentence.len() <= EXTRACT) && chosen.len() < SENTENCES {
            length += sentence.len();
            chosen.insert(at);
        }
    }
    let text: Vec<&str> = chosen.into_iter().map(|at| sentences[at]).collect();
    text.join(" ").chars().take(EXTRACT).collect()
}

fn sentences(text: &str) -> Vec<&str> {
    let ends = |c: char| matches!(c, '.' | '!' | '?' | '。' | '\n');
    text.split_inclusive(ends).map(str::trim).filter(|s| s.chars().any(char::is_alphanumeric)).collect()
}

fn words(sentence: &str) -> BTreeSet<String> {
    let words = sentence.split(|c: char| !c.is_alphanumeric());
    words.filter(|word| word.chars().count() > 3).map(str::to_lowercase).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_extract_says_what_is_said_most_and_nothing_twice() {
        let texts: Vec<String> = [
            "The heating failed in the night. Breakfast was late.",
            "The heating was repaired by the plumber.",
            "Somebody rang. The heating failed in the night.",
        ]
        .map(str::to_owned)
        .into();
        let text = extract(&texts);
        assert!(text.contains("heating failed") && text.contains("plumber"), "{text}");
        assert_eq!(text.matches("The heating failed in the night.").count(), 1);
    }

    proptest! {
        #[test]
        fn any_texts_give_a_bounded_extract(texts in proptest::collection::vec("\\PC{0,400}", 0..8)) {
            prop_assert!(extract(&texts).chars().count() <= EXTRACT);
        }
    }
}
