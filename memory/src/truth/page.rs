//! Pages: a text, a list and named fields, written by many.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use automerge::transaction::{CommitOptions, Transactable};
use automerge::{ActorId as Actor, AutoCommit, AutomergeError, ObjId, ObjType, ROOT, ReadDoc};
use nips::memory::{DocumentId, PageName, Space};
use serde::Serialize;

/// Largest text of a page, in bytes.
pub const MAX_PAGE_TEXT: usize = 256 * 1024;
/// Most items and fields of a page.
pub const MAX_PAGE_ITEMS: usize = 5_000;
/// Longest item, name or value of a field, in bytes.
pub const MAX_PAGE_ITEM: usize = 4 * 1024;

/// What a page says now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Page {
    /// Its space.
    pub space: Space,
    /// Its name.
    pub name: PageName,
    /// Its text.
    pub text: String,
    /// Its list.
    pub items: Vec<String>,
    /// Its fields.
    pub fields: BTreeMap<String, String>,
}

/// One edit of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PageEdit {
    /// The whole text as it shall be; only the difference becomes a change.
    Text(String),
    /// A line after the last one.
    Append(String),
    /// An item at the end of the list; one that is there already is left alone.
    Add(String),
    /// An item gone, by its words (small and capital letters alike).
    Remove(String),
    /// A field as it shall be.
    Set(String, String),
    /// A field gone.
    Unset(String),
}

/// Every page begins with the same change of nobody, made by each node for itself: so that two nodes that begin one page apart from
/// each other write into the same text, list and map.
static BASE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut document = AutoCommit::new().with_actor(Actor::from(&[0_u8; 48][..]));
    for (key, kind) in [("text", ObjType::Text), ("items", ObjType::List), ("fields", ObjType::Map)] {
        // An empty document of our own takes a key.
        let _ = document.put_object(ROOT, key, kind);
    }
    document.commit_with(CommitOptions::default().with_time(0));
    document.save()
});

/// The document that changes are applied to.
pub(super) fn base(id: &DocumentId) -> AutoCommit {
    match id {
        DocumentId::Page { .. } => AutoCommit::load(&BASE).unwrap_or_default(),
        DocumentId::Shard { .. } | DocumentId::Forgotten { .. } => AutoCommit::new(),
    }
}

fn object(document: &AutoCommit, key: &str) -> Result<ObjId, AutomergeError> {
    let found = document.get(ROOT, key)?.filter(|(value, _)| value.is_object());
    found.map(|(_, id)| id).ok_or_else(|| AutomergeError::InvalidObjId(key.to_owned()))
}

fn string(document: &AutoCommit, value: Option<(automerge::Value<'_>, ObjId)>) -> Option<String> {
    let (value, id) = value?;
    match value {
        automerge::Value::Scalar(scalar) => scalar.as_str().map(str::to_owned),
        automerge::Value::Object(ObjType::Text) => document.text(&id).ok(),
        automerge::Value::Object(ObjType::Map | ObjType::List | ObjType::Table) => None,
    }
}

/// What a document says. Whatever others put there that is no text is left out.
pub(super) fn read(document: &AutoCommit, space: &Space, name: &PageName) -> Page {
    let mut page = Page {
        space: space.clone(),
        name: name.clone(),
        text: String::new(),
        items: Vec::new(),
        fields: BTreeMap::new(),
    };
    if let Ok(text) = object(document, "text") {
        page.text = document.text(&text).unwrap_or_default();
    }
    if let Ok(items) = object(document, "items") {
        let all =
            (0..document.length(&items)).filter_map(|at| string(document, document.get(&items, at).ok().flatten()));
        page.items = all.collect();
    }
    if let Ok(fields) = object(document, "fields") {
        for key in document.keys(&fields) {
            if let Some(value) = string(document, document.get(&fields, key.as_str()).ok().flatten()) {
                page.fields.insert(key, value);
            }
        }
    }
    page
}

fn position(document: &AutoCommit, items: &ObjId, wanted: &str) -> Option<usize> {
    let wanted = wanted.trim().to_lowercase();
    (0..document.length(items)).find(|at| {
        string(document, document.get(items, *at).ok().flatten()).is_some_and(|i| i.trim().to_lowercase() == wanted)
    })
}

/// Why an edit is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadEdit {
    #[error("the text of a page has at most {MAX_PAGE_TEXT} bytes")]
    Text,
    #[error(
        "a page has at most {MAX_PAGE_ITEMS} items and fields, each of at most {MAX_PAGE_ITEM} bytes and none of them empty"
    )]
    Items,
    #[error("there is no such item or field on the page")]
    Missing,
    #[error("the page does not take it")]
    Automerge,
}

impl From<AutomergeError> for BadEdit {
    fn from(_: AutomergeError) -> Self {
        Self::Automerge
    }
}

/// Does an edit, without committing; false when nothing is to be done.
pub(super) fn edit(document: &mut AutoCommit, edit: &PageEdit) -> Result<bool, BadEdit> {
    match edit {
        PageEdit::Text(text) => set_text(document, text),
        PageEdit::Append(line) => {
            let text = document.text(object(document, "text")?)?;
            let between = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
            set_text(document, &format!("{text}{between}{line}"))
        }
        PageEdit::Add(item) => {
            let items = object(document, "items")?;
            let count = document.length(&items);
            if item.trim().is_empty() || item.len() > MAX_PAGE_ITEM || count >= MAX_PAGE_ITEMS {
                return Err(BadEdit::Items);
            }
            if position(document, &items, item).is_some() {
                return Ok(false);
            }
            document.insert(&items, count, item.trim())?;
            Ok(true)
        }
        PageEdit::Remove(item) => {
            let items = object(document, "items")?;
            let at = position(document, &items, item).ok_or(BadEdit::Missing)?;
            document.delete(&items, at)?;
            Ok(true)
        }
        PageEdit::Set(key, value) => {
            let fields = object(document, "fields")?;
            let is_small = !key.trim().is_empty() && key.len() <= MAX_PAGE_ITEM && value.len() <= MAX_PAGE_ITEM;
            if !is_small || document.length(&fields) >= MAX_PAGE_ITEMS {
                return Err(BadEdit::Items);
            }
            document.put(&fields, key.trim(), value.as_str())?;
            Ok(true)
        }
        PageEdit::Unset(key) => {
            let fields = object(document, "fields")?;
            document.get(&fields, key.as_str())?.ok_or(BadEdit::Missing)?;
            document.delete(&fields, key.as_str())?;
            Ok(true)
        }
    }
}

fn set_text(document: &mut AutoCommit, wanted: &str) -> Result<bool, BadEdit> {
    if wanted.len() > MAX_PAGE_TEXT {
        return Err(BadEdit::Text);
    }
    let text = object(document, "text")?;
    if document.text(&text)? == wanted {
        return Ok(false);
    }
    document.update_text(&text, wanted)?;
    Ok(true)
}

/// Edits that bring back what `before` says and `after` lacks.
pub(super) fn rescue(before: &Page, after: &Page) -> Vec<PageEdit> {
    let lines = before.text.lines().filter(|line| !after.text.lines().any(|other| other == *line));
    let items = before.items.iter().filter(|item| !after.items.contains(item));
    let fields = before.fields.iter().filter(|(key, _)| !after.fields.contains_key(*key));
    lines
        .map(|line| PageEdit::Append(line.to_owned()))
        .chain(items.map(|item| PageEdit::Add(item.clone())))
        .chain(fields.map(|(key, value)| PageEdit::Set(key.clone(), value.clone())))
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn id() -> DocumentId {
        "fleet/page/0/list".parse().unwrap()
    }

    /// Other releases must make the very same beginning, or pages of two releases no longer merge.
    #[test]
    fn every_page_begins_with_the_same_change() {
        let heads: Vec<String> = base(&id()).get_heads().iter().map(ToString::to_string).collect();
        assert_eq!(heads, ["acedc3b4f049f56bfd1a4e8920d0e382d21bf8ff1f2d3b5ac8ecc6a18964f7f3"]);
    }

    #[test]
    fn two_writers_who_begin_apart_merge() {
        let name = PageName::from_title("list").unwrap();
        let mut one = base(&id()).with_actor(Actor::from(&[1_u8; 48][..]));
        let mut two = base(&id()).with_actor(Actor::from(&[2_u8; 48][..]));
        for (document, item, line) in [(&mut one, "milk", "from one"), (&mut two, "bread", "from two")] {
            assert!(edit(document, &PageEdit::Add(item.to_owned())).unwrap());
            assert!(edit(document, &PageEdit::Append(line.to_owned())).unwrap());
            assert!(edit(document, &PageEdit::Set(item.to_owned(), "1".to_owned())).unwrap());
            document.commit();
        }
        one.merge(&mut two).unwrap();
        two.merge(&mut one).unwrap();
        let page = read(&one, &Space::fleet(), &name);
        assert_eq!(page, read(&two, &Space::fleet(), &name));
        assert_eq!((page.items.len(), page.fields.len()), (2, 2));
        assert!(page.text.contains("from one") && page.text.contains("from two"));
    }

    #[test]
    fn edits_that_change_nothing_or_break_a_bound_are_told() {
        let mut document = base(&id());
        assert!(edit(&mut document, &PageEdit::Add("Milk".into())).unwrap());
        assert!(!edit(&mut document, &PageEdit::Add(" milk ".into())).unwrap());
        assert_eq!(edit(&mut document, &PageEdit::Remove("eggs".into())).unwrap_err(), BadEdit::Missing);
        assert!(edit(&mut document, &PageEdit::Remove("MILK".into())).unwrap());
        assert_eq!(edit(&mut document, &PageEdit::Add(" ".into())).unwrap_err(), BadEdit::Items);
        assert_eq!(edit(&mut document, &PageEdit::Text("x".repeat(MAX_PAGE_TEXT + 1))).unwrap_err(), BadEdit::Text);
        assert_eq!(edit(&mut document, &PageEdit::Unset("x".into())).unwrap_err(), BadEdit::Missing);
    }
}
