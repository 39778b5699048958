//! The memory, as a talk asks it.

use std::collections::BTreeSet;

use async_trait::async_trait;
use bots::{List, ListEdit, Memories, Recollection};
use memory::{Draft, EntryKind, Memory, MemoryError, Page, PageEdit, Query, Recall, person_space};
use nips::Audience;
use nips::memory::{EntryId, PageName, Space};
use nostr::{PublicKey, Timestamp};
use sha2::{Digest, Sha256};

/// From this cosine on a memory is quoted without having been asked for.
const CLOSE: f32 = 0.45;
/// The same, when words of the question are in it too.
const CLOSE_WITH_WORDS: f32 = 0.3;

/// Answers a talk out of the memory.
pub struct Recollections(pub Memory);

fn words(error: &MemoryError) -> String {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

/// Where what a person says goes: the owner's into the fleet, others' into the fleet too, but theirs.
///
/// # Errors
/// For those of whom nothing is remembered.
pub fn owner_of(audience: Audience) -> Result<Option<PublicKey>, String> {
    match audience {
        Audience::Owner => Ok(None),
        Audience::Person(person) => Ok(Some(person)),
        Audience::Member | Audience::Stranger => Err("I remember only for people whom my owner named".to_owned()),
    }
}

/// The entry of a message: worked on twice, it is kept once.
pub fn entry_id(key: &str) -> EntryId {
    let digest: [u8; 32] = Sha256::new().chain_update("timmy/remember/1").chain_update(key).finalize().into();
    let mut id = [0; 16];
    id.copy_from_slice(&digest[..16]);
    EntryId::from_bytes(id)
}

fn recollection(recall: Recall) -> Recollection {
    let cosine = recall.reasons.cosine.unwrap_or(0.0);
    let is_close = cosine >= CLOSE || (cosine >= CLOSE_WITH_WORDS && recall.reasons.text.is_some());
    let day: String = Timestamp::from(recall.entry.created_at).to_human_datetime().chars().take(10).collect();
    Recollection { id: recall.entry.id.to_string(), text: recall.entry.text, day, is_close }
}

fn list(page: Page) -> List {
    List { name: page.name.as_str().replace('-', " "), items: page.items, text: page.text }
}

impl Recollections {
    /// The spaces in which a list of this audience may be, the one for new lists last.
    async fn spaces(&self, audience: Audience) -> Result<Vec<Space>, String> {
        let Some(person) = owner_of(audience)? else { return Ok(vec![Space::fleet()]) };
        let mut spaces: Vec<Space> = self
            .0
            .shared_with(person)
            .await
            .map_err(|e| words(&e))?
            .into_iter()
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect();
        spaces.push(person_space(&person));
        Ok(spaces)
    }

    async fn found(&self, name: &PageName, audience: Audience) -> Result<(Option<Page>, Space), String> {
        let spaces = self.spaces(audience).await?;
        for space in &spaces {
            let page = self.0.page(space.clone(), name.clone(), audience).await.map_err(|e| words(&e))?;
            if page.is_some() {
                return Ok((page, space.clone()));
            }
        }
        Ok((None, spaces.last().cloned().unwrap_or_else(Space::fleet)))
    }
}

#[async_trait]
impl Memories for Recollections {
    async fn recall(&self, text: &str, audience: Audience, limit: usize) -> Result<Vec<Recollection>, String> {
        let query = Query { limit, ..Query::new(text) };
        let found = self.0.search(&query, audience).await.map_err(|e| words(&e))?;
        Ok(found.into_iter().map(recollection).collect())
    }

    async fn remember(&self, text: &str, audience: Audience, key: &str) -> Result<String, String> {
        let draft = Draft {
            kind: EntryKind::Semantic,
            person: owner_of(audience)?,
            id: Some(entry_id(key)),
            ..Draft::new(text)
        };
        Ok(self.0.add(draft).await.map_err(|e| words(&e))?.to_string())
    }

    async fn list(&self, name: &str, audience: Audience) -> Result<Option<List>, String> {
        let name = PageName::from_title(name).map_err(|e| e.to_string())?;
        Ok(self.found(&name, audience).await?.0.map(list))
    }

    async fn edit_list(&self, name: &str, edit: ListEdit, audience: Audience) -> Result<List, String> {
        let name = PageName::from_title(name).map_err(|e| e.to_string())?;
        let (_, space) = self.found(&name, audience).await?;
        let edits = match edit {
            ListEdit::Add(items) => items.into_iter().map(PageEdit::Add).collect(),
            ListEdit::Remove(items) => items.into_iter().map(PageEdit::Remove).collect(),
        };
        Ok(list(self.0.edit_page(space, name, edits).await.map_err(|e| words(&e))?))
    }
}
