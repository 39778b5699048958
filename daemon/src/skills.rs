//! Skills in the procedural memory: each `SKILL.md` of the configured folder is indexed there by what it is for, and is read to the model
//! when it fits what a person asks.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bots::tools::{Skill, read_skills};
use memory::{Draft, EntryKind, Memory, Query, Selector};
use nips::Audience;
use nips::memory::{EntryId, Space};
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use crate::journal::Journal;

/// How often the folder is looked at.
const LOOK: Duration = Duration::from_secs(30);
/// Under which name the journal keeps what is indexed.
const INDEXED: &str = "skills";
const TAG: &str = "skill";
/// From this cosine on a skill fits; less when words of its description are in the question too.
const FITS: f32 = 0.4;
const FITS_WITH_WORDS: f32 = 0.25;

/// The skills of a node.
#[derive(Clone)]
pub struct Skills {
    folder: PathBuf,
    memory: Memory,
    journal: Journal,
    now: Arc<RwLock<BTreeMap<EntryId, Skill>>>,
}

impl Skills {
    /// The skills of a folder; see [`Skills::run`].
    pub fn new(folder: PathBuf, memory: Memory, journal: Journal) -> Self {
        Self { folder, memory, journal, now: Arc::default() }
    }

    /// Keeps the index like the folder until `cancel`.
    pub async fn run(self, cancel: CancellationToken) {
        let (mut told, mut is_first) = (String::new(), true);
        while !cancel.is_cancelled() {
            let looked = self.look(is_first).await;
            is_first &= looked.is_err();
            let trouble = match looked {
                Ok(trouble) => trouble,
                Err(error) => format!("{error:#}"),
            };
            if !trouble.is_empty() && trouble != told {
                tracing::warn!(trouble, "some skills are not used");
            }
            told = trouble;
            tokio::select! {
                () = cancel.cancelled() => return,
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    /// Reads the folder, and indexes what changed; gives what is wrong with the others. Ids are written down before they are used: what
    /// a crash left half done is done by the next look.
    async fn look(&self, is_first: bool) -> anyhow::Result<String> {
        let folder = self.folder.clone();
        let (skills, wrong) = tokio::task::spawn_blocking(move || read_skills(&folder)).await??;
        let skills: BTreeMap<String, Skill> = skills.into_iter().map(|skill| (key(&skill), skill)).collect();
        let known = self.journal.meta(INDEXED).await?.unwrap_or_default();
        let mut ids: BTreeMap<String, String> = serde_json::from_str(&known).unwrap_or_default();
        let is_same = skills.keys().eq(ids.keys());
        for key in skills.keys() {
            ids.entry(key.clone()).or_insert_with(|| EntryId::from_bytes(rand::random()).to_string());
        }
        let indexed: BTreeMap<EntryId, Skill> =
            skills.iter().filter_map(|(key, skill)| Some((ids.get(key)?.parse().ok()?, skill.clone()))).collect();
        if is_first || !is_same {
            self.journal.set_meta(INDEXED, serde_json::to_string(&ids)?).await?;
            self.memory.add_all(indexed.iter().map(|(id, skill)| draft(*id, skill)).collect()).await?;
            let gone: Vec<EntryId> = ids
                .iter()
                .filter(|(key, _)| !skills.contains_key(*key))
                .filter_map(|(_, id)| id.parse().ok())
                .collect();
            if !gone.is_empty() {
                self.memory.forget(Selector::Ids(gone)).await?;
                ids.retain(|key, _| skills.contains_key(key));
                self.journal.set_meta(INDEXED, serde_json::to_string(&ids)?).await?;
            }
            tracing::info!(skills = indexed.len(), "the skills are indexed");
        }
        *self.now.write().unwrap_or_else(PoisonError::into_inner) = indexed;
        Ok(wrong.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
    }

    /// The names of all skills, in their order.
    pub fn names(&self) -> Vec<String> {
        let now = self.now.read().unwrap_or_else(PoisonError::into_inner);
        let mut names: Vec<String> = now.values().map(|skill| skill.name.clone()).collect();
        names.sort();
        names
    }

    /// The skill that fits what a person says, as a model is told of it.
    pub async fn fitting(&self, said: &str) -> Option<String> {
        let query = Query {
            limit: 1,
            kinds: [EntryKind::Procedural].into(),
            tags: [TAG.to_owned()].into(),
            spaces: [Space::private()].into(),
            ..Query::new(said)
        };
        // Skills are the owner's files, and theirs to share: which one fits is looked up as the owner.
        let found = self.memory.search(&query, Audience::Owner).await.ok()?.into_iter().next()?;
        let cosine = found.reasons.cosine.unwrap_or(0.0);
        if cosine < FITS && (cosine < FITS_WITH_WORDS || found.reasons.text.is_none()) {
            return None;
        }
        let now = self.now.read().unwrap_or_else(PoisonError::into_inner);
        let skill = now.get(&found.entry.id)?;
        Some(format!("A skill of yours that may fit here, `{}` ({}):\n\n{}", skill.name, skill.description, skill.body))
    }
}

/// What is indexed of a skill.
fn key(skill: &Skill) -> String {
    hex::encode(Sha256::new().chain_update(&skill.name).chain_update([0]).chain_update(&skill.description).finalize())
}

fn draft(id: EntryId, skill: &Skill) -> Draft {
    Draft {
        kind: EntryKind::Procedural,
        space: Space::private(),
        tags: [TAG.to_owned(), skill.name.clone()].into(),
        id: Some(id),
        ..Draft::new(format!("{}: {}", skill.name.replace('-', " "), skill.description))
    }
}
