//! Blanking: words that were forgotten leave the journal too.
//!
//! The journal keeps orders, outputs and signed events as JSON. Every string in them that a person or a worker wrote and that
//! contains a forgotten text becomes [`BLANK`]; what the machines read (states, doors, kinds, keys) is never touched, so a job
//! can still be listed, shown and replayed.

use std::collections::BTreeSet;

use nips::job::Input;
use rusqlite::{Connection, params};
use serde_json::Value;

use super::{Journal, JournalError};
use crate::desk::order::Order;

/// What stands where a forgotten text stood.
pub const BLANK: &str = "(forgotten)";

/// Fields whose strings are free text. `data` is an input's, `content` an event's.
const FREE_TEXT: [&str; 5] = ["text", "data", "content", "output", "reason"];
/// A text of fewer bytes is only found between letters and digits of others, or as the whole: `4711` is not in `147110`.
const SUBSTRING_FROM: usize = 12;
/// A text of fewer bytes is only found as the whole: single words are everywhere.
const WORD_FROM: usize = 4;

impl Journal {
    /// Blanks everything in the journal that contains one of `texts`, and empties the log in which it stood. Gives how many rows
    /// were blanked.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn blank(&self, texts: BTreeSet<String>) -> Result<usize, JournalError> {
        if texts.is_empty() {
            return Ok(0);
        }
        let blanked = self.write("blanking", move |db| blank(db, &texts)).await?;
        self.checkpoint().await?;
        Ok(blanked)
    }
}

fn blank(db: &Connection, texts: &BTreeSet<String>) -> rusqlite::Result<usize> {
    let orders = rewrite(
        db,
        "SELECT rowid, order_json FROM jobs",
        "UPDATE jobs SET order_json = ?2 WHERE rowid = ?1",
        texts,
        |json| serde_json::from_str::<Order>(json).is_ok(),
    )?;
    let inputs = rewrite(
        db,
        "SELECT rowid, input FROM inputs",
        "UPDATE inputs SET input = ?2 WHERE rowid = ?1",
        texts,
        |json| serde_json::from_str::<Input>(json).is_ok(),
    )?;
    // A word without its text is no signed event any more: it is not sent again.
    let words =
        rewrite(db, "SELECT rowid, event FROM words", "UPDATE words SET event = ?2 WHERE rowid = ?1", texts, |_| true)?;
    // What waits for a yes may hold it too, in arguments of any form: all of it is asked again.
    db.execute("DELETE FROM approvals", [])?;
    db.execute(
        "UPDATE targets SET state = 'expired', message = ?1 WHERE state = 'pending'
         AND word IN (SELECT id FROM words WHERE instr(event, ?2) > 0)",
        params![BLANK, format!("\"{BLANK}\"")],
    )?;
    Ok(orders + inputs + words)
}

/// Rewrites the rows of one table whose JSON contains a text; one that would no longer be read is left as it is and told.
fn rewrite(
    db: &Connection,
    select: &str,
    update: &str,
    texts: &BTreeSet<String>,
    is_readable: impl Fn(&str) -> bool,
) -> rusqlite::Result<usize> {
    let mut found = Vec::new();
    let mut select = db.prepare(select)?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let json: String = row.get(1)?;
        if let Some(blanked) = without(&json, texts) {
            found.push((row.get::<_, i64>(0)?, json, blanked));
        }
    }
    let mut update = db.prepare(update)?;
    let mut count = 0;
    for (row, before, after) in found {
        if is_readable(&before) && !is_readable(&after) {
            tracing::warn!(row, "a row of the journal cannot be blanked; it is pruned after thirty days");
            continue;
        }
        count += update.execute(params![row, after])?;
    }
    Ok(count)
}

/// The JSON with every string blanked that contains a text; none when there is no such string.
fn without(json: &str, texts: &BTreeSet<String>) -> Option<String> {
    let mut value: Value = serde_json::from_str(json).ok()?;
    blank_in(&mut value, texts).then(|| value.to_string())
}

fn blank_in(value: &mut Value, texts: &BTreeSet<String>) -> bool {
    match value {
        Value::Object(fields) => {
            let mut is_blanked = false;
            for (key, value) in fields {
                is_blanked |= match value {
                    Value::String(text) => FREE_TEXT.contains(&key.as_str()) && blank_one(text, texts),
                    other @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
                        blank_in(other, texts)
                    }
                };
            }
            is_blanked
        }
        Value::Array(items) => {
            let mut is_blanked = false;
            for (at, item) in items.iter_mut().enumerate() {
                is_blanked |= match item {
                    // The first is the name of a tag or of a parameter.
                    Value::String(text) => at > 0 && blank_one(text, texts),
                    other @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
                        blank_in(other, texts)
                    }
                };
            }
            is_blanked
        }
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

fn blank_one(text: &mut String, texts: &BTreeSet<String>) -> bool {
    // An event or a document may stand inside a string, with its own escapes.
    let inner = without(text, texts).is_some();
    let is_hit = inner || texts.iter().any(|forgotten| contains(text, forgotten));
    if is_hit {
        BLANK.clone_into(text);
    }
    is_hit
}

fn contains(text: &str, forgotten: &str) -> bool {
    if text.trim() == forgotten {
        return true;
    }
    if forgotten.len() >= SUBSTRING_FROM {
        return text.contains(forgotten);
    }
    let is_apart = |c: Option<char>| c.is_none_or(|c| !c.is_alphanumeric());
    forgotten.len() >= WORD_FROM
        && text.match_indices(forgotten).any(|(at, found)| {
            is_apart(text[..at].chars().next_back()) && is_apart(text[at + found.len()..].chars().next())
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(all: &[&str]) -> BTreeSet<String> {
        all.iter().map(|t| (*t).to_owned()).collect()
    }

    #[test]
    fn free_text_is_blanked_and_what_machines_read_is_not() {
        let order = r#"{"id":"aa","work":{"work":"talk","text":"remember that my locker is 4711, please"},"origin":{"door":"local"}}"#;
        let blanked = without(order, &texts(&["my locker is 4711"])).unwrap();
        assert!(
            blanked.contains(BLANK) && !blanked.contains("4711") && blanked.contains(r#""work":"talk""#),
            "{blanked}"
        );
        assert_eq!(without(order, &texts(&["talk", "local", "aa", "door", "work"])), None);
        let event = r#"{"kind":5000,"content":"","tags":[["i","the blue door code","text"],["p","ff"]]}"#;
        let blanked = without(event, &texts(&["blue door code"])).unwrap();
        assert!(blanked.contains(r#"["i","(forgotten)","text"]"#), "{blanked}");
        let nested = r#"{"output":"{\"content\":\"caf\\u00e9 at the harbour\"}"}"#;
        assert!(without(nested, &texts(&["café at the harbour"])).unwrap().contains(BLANK));
    }

    #[test]
    fn short_texts_are_only_found_where_they_stand_alone() {
        let hit = |text: &str, forgotten: &str| contains(text, forgotten);
        assert!(hit("code 4711.", "4711") && !hit("147110", "4711"));
        assert!(hit("a", "a") && !hit("a cat", "a"));
        assert!(hit("xxthe blue door codexx", "the blue door code"));
        assert!(!hit("The Blue Door Code", "the blue door code"));
        assert!(hit("überall", "überall") && !hit("überallhin", "überall"));
    }
}
