//! One line.

use std::collections::BTreeSet;

use nips::memory::{DocumentId, EntryId, Message, Space};
use nostr::{Event, JsonUtil, PublicKey};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::entry::{DEFAULT_IMPORTANCE, Draft, EntryError, EntryKind, MAX_TEXT};
use crate::truth::entry_in;

/// The longest line, in bytes: the largest event and room for what is told beside it.
pub const MAX_LINE: usize = 1024 * 1024;

/// Why a line is not taken.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum BadLine {
    /// Too long.
    #[error("{0} bytes are too many for a line: at most {MAX_LINE}")]
    TooLong(usize),
    /// Not UTF-8.
    #[error("it is not UTF-8 text")]
    Encoding,
    /// Begins like JSON and is none.
    #[error("it begins with {{ and is not JSON: {0}")]
    Json(String),
    /// JSON of something else.
    #[error("it is no entry: {0}")]
    Shape(String),
    /// Its event is no event.
    #[error("its event is no event of memory: {0}")]
    Event(String),
    /// Its entry breaks a bound.
    #[error(transparent)]
    Entry(#[from] EntryError),
}

/// What a line brings.
#[derive(Debug, Clone, PartialEq)]
pub enum Item {
    /// A signed event of an export.
    Event(Box<Event>),
    /// An entry that this node is to write.
    Entry(Box<Draft>),
}

/// An entry as a line of JSON says it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct PlainEntry {
    /// The text.
    pub text: String,
    /// 32 hex digits, or a UUID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// What sort of memory it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<EntryKind>,
    /// Its space; else the one that the import names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub space: Option<Space>,
    /// Words to filter by.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub tags: BTreeSet<String>,
    /// Whom it belongs to: npub or hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub person: Option<PublicKey>,
    /// 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub importance: Option<f32>,
    /// When it was written; seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<u64>,
    /// From when it is so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_from: Option<u64>,
    /// Until when it is so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_until: Option<u64>,
    /// Ids of entries that it stands in the place of.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub supersedes: BTreeSet<EntryId>,
}

impl PlainEntry {
    fn into_draft(self, space: &Space) -> Result<Draft, BadLine> {
        if self.text.trim().is_empty() {
            return Err(EntryError::Empty.into());
        }
        if self.text.len() > MAX_TEXT {
            return Err(EntryError::TooLong(self.text.len()).into());
        }
        let id = self.id.map(|id| {
            let plain: String = id.trim().chars().filter(|c| *c != '-').collect::<String>().to_ascii_lowercase();
            plain
                .parse::<EntryId>()
                .map_err(|_| BadLine::Shape(format!("the id {id:?} is neither 32 hex digits nor a UUID")))
        });
        Ok(Draft {
            kind: self.kind.unwrap_or(EntryKind::Semantic),
            space: self.space.unwrap_or_else(|| space.clone()),
            person: self.person,
            tags: self.tags,
            importance: self.importance.unwrap_or(DEFAULT_IMPORTANCE),
            valid_from: self.valid_from,
            valid_until: self.valid_until,
            supersedes: self.supersedes,
            id: id.transpose()?,
            created_at: self.created_at,
            ..Draft::new(self.text)
        })
    }
}

/// Reads one line of an import, without its line break; none when it is empty. Entries without a space go to `space`.
///
/// # Errors
/// When it is neither a line of an export, nor an entry, nor text.
pub fn read_line(line: &[u8], space: &Space) -> Result<Option<Item>, BadLine> {
    if line.len() > MAX_LINE {
        return Err(BadLine::TooLong(line.len()));
    }
    let text = std::str::from_utf8(line).map_err(|_| BadLine::Encoding)?;
    let text = text.trim_start_matches('\u{feff}').trim();
    if text.is_empty() {
        return Ok(None);
    }
    if !text.starts_with('{') {
        let plain = PlainEntry { text: text.to_owned(), ..PlainEntry::default() };
        return Ok(Some(Item::Entry(Box::new(plain.into_draft(space)?))));
    }
    let value: Value = serde_json::from_str(text).map_err(|e| BadLine::Json(e.to_string()))?;
    if let Some(event) = value.get("event") {
        let event = Event::from_json(event.to_string()).map_err(|e| BadLine::Event(e.to_string()))?;
        // Its signature is checked where it is taken.
        Message::parse(&event).map_err(|e| BadLine::Event(e.to_string()))?;
        return Ok(Some(Item::Event(Box::new(event))));
    }
    let plain: PlainEntry = serde_json::from_value(value).map_err(|e| BadLine::Shape(e.to_string()))?;
    Ok(Some(Item::Entry(Box::new(plain.into_draft(space)?))))
}

/// The line of an export that brings this event back, without a line break.
///
/// # Errors
/// When the event is none of memory.
pub fn exported(event: &Event) -> Result<String, BadLine> {
    let message = Message::parse(event).map_err(|e| BadLine::Event(e.to_string()))?;
    let mut fields = match &message {
        Message::Tombstone(tombstone) => object(json!({ "space": tombstone.space, "forgotten": tombstone.entries })),
        Message::Change(change) => match &change.document {
            DocumentId::Page { space, name, .. } => object(json!({ "space": space, "page": name })),
            DocumentId::Shard { space, .. } => match entry_in(change, space) {
                Some(entry) => object(serde_json::to_value(entry).unwrap_or_default()),
                None => object(json!({ "space": space })),
            },
            DocumentId::Forgotten { space } => object(json!({ "space": space })),
        },
    };
    let signed = serde_json::from_str(&event.as_json()).map_err(|e| BadLine::Event(e.to_string()))?;
    fields.insert("event".to_owned(), signed);
    Ok(Value::Object(fields).to_string())
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => Map::new(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(line: &str) -> Result<Option<Item>, BadLine> {
        read_line(line.as_bytes(), &Space::private())
    }

    fn draft(line: &str) -> Draft {
        match read(line).unwrap().unwrap() {
            Item::Entry(draft) => *draft,
            Item::Event(event) => panic!("{event:?}"),
        }
    }

    #[test]
    fn plain_lines_and_entries_of_json_are_read() {
        assert_eq!(read("  \r").unwrap(), None);
        let plain = draft("\u{feff} The tide is high at noon.\r");
        assert_eq!((plain.text.as_str(), plain.space), ("The tide is high at noon.", Space::private()));
        let full = draft(
            r#"{"text":"t","id":"67E55044-10B1-426F-9247-BB680E5FE0C8","kind":"episodic","space":"fleet","tags":["b","a","a"],
                "created_at":7,"importance":0.9,"valid_until":9,"unknown":{"deep":[1]},
                "person":"npub10xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqpkge6d"}"#,
        );
        assert_eq!(full.id.unwrap().to_string(), "67e5504410b1426f9247bb680e5fe0c8");
        assert_eq!((full.kind, full.space, full.created_at), (EntryKind::Episodic, Space::fleet(), Some(7)));
        assert_eq!(full.tags.into_iter().collect::<Vec<_>>(), ["a", "b"]);
        assert!(full.person.is_some() && full.valid_until == Some(9) && full.importance > 0.8);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let deep = format!("{{\"a\":{}", "[".repeat(100_000));
        for (line, words) in [
            ("{\"text\":", "not JSON"),
            (deep.as_str(), "recursion limit"),
            ("{\"words\":\"x\"}", "text"),
            ("{\"text\":\" \"}", "no text"),
            ("{\"text\":\"x\",\"id\":\"mem_12\"}", "UUID"),
            ("{\"text\":\"x\",\"kind\":\"vague\"}", "vague"),
            ("{\"text\":\"x\",\"space\":\"No Such\"}", "space"),
            ("{\"text\":\"x\",\"person\":\"npub1x\"}", "no entry"),
            ("{\"text\":\"x\",\"event\":{}}", "no event"),
            ("{\"event\":{\"kind\":1}}", "no event"),
        ] {
            let error = read(line).unwrap_err().to_string();
            assert!(error.contains(words), "{}: {error}", &line[..line.len().min(80)]);
        }
        assert_eq!(read_line(b"\xff\xfe", &Space::fleet()), Err(BadLine::Encoding));
        assert_eq!(read(&"x".repeat(MAX_TEXT + 1)), Err(EntryError::TooLong(MAX_TEXT + 1).into()));
        assert_eq!(read(&"x".repeat(MAX_LINE + 1)), Err(BadLine::TooLong(MAX_LINE + 1)));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = read_line(&bytes, &Space::fleet());
            let mut json = br#"{"text":"#.to_vec();
            json.extend(&bytes);
            let _ = read_line(&json, &Space::fleet());
        }

        #[test]
        fn an_entry_comes_back_as_it_was_written(text in "\\PC{1,80}", kind in 0usize..3, at in any::<u32>()) {
            prop_assume!(!text.trim().is_empty());
            let plain = PlainEntry {
                text: text.clone(), kind: Some(EntryKind::ALL[kind]), created_at: Some(at.into()), ..PlainEntry::default()
            };
            let line = serde_json::to_string(&plain).unwrap();
            let draft = draft(&line);
            prop_assert_eq!((draft.text, draft.kind, draft.created_at), (text, EntryKind::ALL[kind], Some(at.into())));
        }
    }
}
