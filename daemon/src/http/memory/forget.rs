//! Forgetting: in the memory, and what the journal keeps of the same words.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use memory::{Entry, Forgotten, Memory, MemoryError, Page, Selector, person_space};
use nips::Audience;
use nips::memory::Space;
use nostr::PublicKey;
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::Shared;
use super::super::api::{Failure, broken};

/// Entries read at a time while what is meant is sought.
const ROWS: usize = 1_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Forget {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    author: Option<PublicKey>,
    #[serde(default)]
    person: Option<PublicKey>,
    #[serde(default)]
    space: Option<Space>,
    /// Only say what would be forgotten.
    #[serde(default)]
    dry_run: bool,
}

/// What is meant, and the words that go with it.
struct Meant {
    selector: Selector,
    entries: Vec<Entry>,
    pages: Vec<Page>,
    texts: BTreeSet<String>,
}

pub(super) async fn forget(
    State(shared): State<Arc<Shared>>,
    Json(asked): Json<Forget>,
) -> Result<Json<Value>, Failure> {
    let memory = &shared.tools.memory;
    let dry_run = asked.dry_run;
    let meant = meant(memory, asked).await?;
    if dry_run {
        let first = meant.entries.first().map(|e| e.text.clone());
        return Ok(Json(json!({ "entries": meant.entries.len(), "pages": meant.pages.len(), "first": first })));
    }
    // The journal first: after a crash between the two, the same command finds the entry again and does the rest.
    let blanked = shared.tools.journal.blank(meant.texts).await.map_err(broken)?;
    let has_pages_alone = meant.entries.is_empty() && !meant.pages.is_empty();
    let is_space = matches!(meant.selector, Selector::Space(_));
    let mut forgotten = Forgotten::default();
    if is_space || !has_pages_alone {
        forgotten = memory.forget(meant.selector).await?;
    }
    let mut pages = forgotten.pages.len();
    // A space takes its pages with it; a person's are forgotten one by one.
    for page in meant.pages.into_iter().filter(|_| !is_space) {
        pages += memory.forget_page(page.space, page.name).await?.pages.len();
    }
    Ok(Json(json!({
        "forgotten": forgotten.entries,
        "pages": pages,
        "moved": forgotten.moved,
        "journal": blanked,
    })))
}

async fn meant(memory: &Memory, asked: Forget) -> Result<Meant, Failure> {
    let (selector, entries, pages) = match (asked.id, asked.author, asked.person, asked.space) {
        (Some(id), None, None, None) => {
            let entry = memory.find(id.trim()).await?;
            (Selector::Id(entry.id), vec![entry], vec![])
        }
        (None, Some(author), None, None) => {
            (Selector::Author(author), those(memory, |e| e.author == author).await?, vec![])
        }
        (None, None, Some(person), None) => {
            let pages = memory.pages(Some(person_space(&person)), Audience::Owner).await?;
            (Selector::Person(person), those(memory, |e| e.person == Some(person)).await?, pages)
        }
        (None, None, None, Some(space)) => {
            let entries = those(memory, |e| e.space == space).await?;
            let pages = memory.pages(Some(space.clone()), Audience::Owner).await?;
            (Selector::Space(space), entries, pages)
        }
        _ => {
            let words = "say what to forget: one of id, author, person, space".to_owned();
            return Err(Failure(StatusCode::BAD_REQUEST, words));
        }
    };
    let mut texts: BTreeSet<String> = entries.iter().map(|e| e.text.trim().to_owned()).collect();
    for page in &pages {
        texts.extend(page.text.lines().map(|line| line.trim().to_owned()));
        texts.extend(page.items.iter().chain(page.fields.values()).cloned());
    }
    texts.retain(|text| !text.is_empty());
    Ok(Meant { selector, entries, pages, texts })
}

async fn those(memory: &Memory, is_meant: impl Fn(&Entry) -> bool) -> Result<Vec<Entry>, MemoryError> {
    let (mut found, mut after) = (Vec::new(), 0);
    loop {
        let rows = memory.rows(after, ROWS).await?;
        let Some((last, _)) = rows.last() else { return Ok(found) };
        after = *last;
        found.extend(rows.into_iter().map(|(_, entry)| entry).filter(|entry| is_meant(entry)));
    }
}
