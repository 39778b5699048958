//! Pages: shared texts, lists and fields.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use memory::{Page, PageEdit, TruthError};
use nips::Audience;
use nips::memory::{PageName, Space};
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::Shared;
use super::super::api::Failure;

pub(super) fn router() -> Router<Arc<Shared>> {
    Router::new()
        .route("/pages", get(list))
        .route("/pages/{name}", get(show).post(edit))
        .route("/pages/{name}/forget", post(forget))
}

#[derive(Deserialize)]
struct Within {
    space: Option<Space>,
}

impl Within {
    fn or_fleet(self) -> Space {
        self.space.unwrap_or_else(Space::fleet)
    }
}

/// One edit, as the command line says it.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Edit {
    Text(String),
    Append(String),
    Add(String),
    Remove(String),
    Set(String, String),
    Unset(String),
}

impl From<Edit> for PageEdit {
    fn from(edit: Edit) -> Self {
        match edit {
            Edit::Text(text) => Self::Text(text),
            Edit::Append(line) => Self::Append(line),
            Edit::Add(item) => Self::Add(item),
            Edit::Remove(item) => Self::Remove(item),
            Edit::Set(key, value) => Self::Set(key, value),
            Edit::Unset(key) => Self::Unset(key),
        }
    }
}

async fn list(State(shared): State<Arc<Shared>>, Query(within): Query<Within>) -> Result<Json<Value>, Failure> {
    let pages = shared.tools.memory.pages(within.space, Audience::Owner).await?;
    let listed = pages.iter().map(|page| {
        json!({
            "name": page.name,
            "space": page.space,
            "bytes": page.text.len(),
            "items": page.items.len(),
            "fields": page.fields.len(),
        })
    });
    Ok(Json(listed.collect()))
}

fn named(name: &str) -> Result<PageName, Failure> {
    Ok(PageName::from_title(name).map_err(|e| memory::MemoryError::from(TruthError::from(e)))?)
}

async fn show(
    State(shared): State<Arc<Shared>>,
    Path(name): Path<String>,
    Query(within): Query<Within>,
) -> Result<Json<Page>, Failure> {
    let (space, name) = (within.or_fleet(), named(&name)?);
    let found = shared.tools.memory.page(space.clone(), name.clone(), Audience::Owner).await?;
    let missing = || memory::MemoryError::from(TruthError::Missing(format!("page {name} in {space}")));
    Ok(Json(found.ok_or_else(missing)?))
}

async fn edit(
    State(shared): State<Arc<Shared>>,
    Path(name): Path<String>,
    Query(within): Query<Within>,
    Json(edits): Json<Vec<Edit>>,
) -> Result<Json<Page>, Failure> {
    let edits = edits.into_iter().map(PageEdit::from).collect();
    Ok(Json(shared.tools.memory.edit_page(within.or_fleet(), named(&name)?, edits).await?))
}

async fn forget(
    State(shared): State<Arc<Shared>>,
    Path(name): Path<String>,
    Query(within): Query<Within>,
) -> Result<Json<Value>, Failure> {
    let forgotten = shared.tools.memory.forget_page(within.or_fleet(), named(&name)?).await?;
    Ok(Json(json!({ "pages": forgotten.pages.len() })))
}
