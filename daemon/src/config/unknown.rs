//! Finds keys that no section knows, and the known one that was probably meant.

use std::collections::BTreeMap;

use toml::{Table, Value};

/// Known keys by section, read from the reference: a `#key = …` line documents a key that has no default.
fn known() -> BTreeMap<String, Vec<String>> {
    let mut sections = BTreeMap::new();
    let mut section = String::new();
    for line in super::REFERENCE.lines() {
        let line = line.trim_start_matches('#').trim();
        if let Some(name) = line.strip_prefix('[').and_then(|l| l.split(']').next()) {
            section = name.trim_matches('[').to_owned();
            sections.entry(section.clone()).or_insert_with(Vec::new);
        } else if let Some((key, _)) = line.split_once(" = ")
            && key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
        {
            sections.entry(section.clone()).or_insert_with(Vec::new).push(key.to_owned());
        }
    }
    sections
}

/// Refuses a key that is not in the reference.
pub(super) fn refuse(table: &Table) -> Result<(), String> {
    let known = known();
    for (section, value) in table {
        let Some(keys) = known.get(section) else {
            return Err(unknown("section", &format!("[{section}]"), section, known.keys()));
        };
        // Free-form sections of later releases.
        if keys.is_empty() {
            continue;
        }
        let tables: Vec<&Table> = match value {
            Value::Table(t) => vec![t],
            Value::Array(list) => list.iter().filter_map(Value::as_table).collect(),
            Value::String(_) | Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Datetime(_) => {
                return Err(format!("`{section}` is a section; write [{section}]"));
            }
        };
        for key in tables.into_iter().flat_map(Table::keys) {
            if !keys.contains(key) {
                return Err(unknown("key", &format!("{section}.{key}"), key, keys.iter()));
            }
        }
    }
    Ok(())
}

fn unknown<'a>(what: &str, shown: &str, name: &str, known: impl Iterator<Item = &'a String>) -> String {
    let nearest = known.map(|k| (strsim::damerau_levenshtein(k, name), k)).min();
    let hint = match nearest {
        Some((distance, key)) if distance <= 3.max(name.len() / 3) => format!("; did you mean `{key}`?"),
        _ => "; `timmy man` lists them all".to_owned(),
    };
    format!("unknown {what} `{shown}`{hint}")
}
