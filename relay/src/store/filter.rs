//! A filter in the form in which the store and live subscriptions use it (NIP-01, NIP-50).
//!
//! An empty list matches nothing, as NIP-01 reads; `since` and `until` are inclusive; unknown fields are ignored.

use std::collections::{BTreeMap, BTreeSet};

use nostr::{Event, Filter, PublicKey};
use serde_json::{Map, Value};

use super::keys::is_wrap;
use super::note::{Record, letter_and_value, letters};

/// How many values all lists of one filter may hold together.
pub(crate) const MAX_FILTER_VALUES: usize = 2_000;
/// How long a search text may be, in bytes.
pub(crate) const MAX_SEARCH_BYTES: usize = 512;

/// One filter.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query {
    pub(crate) ids: Option<BTreeSet<[u8; 32]>>,
    pub(crate) authors: Option<BTreeSet<[u8; 32]>>,
    pub(crate) kinds: Option<BTreeSet<u16>>,
    pub(crate) tags: BTreeMap<u8, BTreeSet<String>>,
    pub(crate) since: Option<u64>,
    pub(crate) until: Option<u64>,
    pub(crate) limit: Option<usize>,
    pub(crate) search: Option<String>,
}

/// Who asks: decides which gift wraps are seen.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Viewer<'a> {
    /// The node itself, or a relay without protection of gift wraps: sees everything.
    All,
    /// A connection that has shown these keys (NIP-42): sees the gift wraps to them.
    Keys(&'a BTreeSet<PublicKey>),
}

impl Viewer<'_> {
    /// Says whether an event with these `p` tags may be shown; `tags` is only asked for gift wraps.
    fn may_see<'t>(&self, kind: u16, mut tags: impl Iterator<Item = (u8, &'t str)>) -> bool {
        match self {
            Self::All => true,
            Self::Keys(_) if !is_wrap(kind) => true,
            Self::Keys(keys) => !keys.is_empty() && tags.any(|(letter, value)| letter == b'p' && holds(keys, value)),
        }
    }

    /// Says whether a live event may be shown.
    pub(crate) fn may_see_event(&self, event: &Event) -> bool {
        self.may_see(event.kind.as_u16(), letters(event))
    }

    /// Says whether a stored event may be shown.
    pub(crate) fn may_see_record(&self, record: &Record<'_>) -> bool {
        match self {
            Self::All => true,
            Self::Keys(_) if !is_wrap(record.kind()) => true,
            Self::Keys(_) => {
                let tags = record.tags();
                self.may_see(record.kind(), tags.iter().filter_map(|tag| letter_and_value(tag)))
            }
        }
    }
}

fn holds(keys: &BTreeSet<PublicKey>, hex: &str) -> bool {
    PublicKey::from_hex(hex).is_ok_and(|key| keys.contains(&key))
}

impl Query {
    /// Says whether nothing can match, whatever is stored.
    pub(crate) fn is_void(&self) -> bool {
        self.ids.as_ref().is_some_and(BTreeSet::is_empty)
            || self.authors.as_ref().is_some_and(BTreeSet::is_empty)
            || self.kinds.as_ref().is_some_and(BTreeSet::is_empty)
            || self.tags.values().any(BTreeSet::is_empty)
            || self.since.unwrap_or(0) > self.until.unwrap_or(u64::MAX)
    }

    /// Says whether it asks for gift wraps and nothing else.
    pub(crate) fn asks_only_for_wraps(&self) -> bool {
        self.kinds.as_ref().is_some_and(|kinds| !kinds.is_empty() && kinds.iter().all(|kind| is_wrap(*kind)))
    }

    fn matches_head(&self, id: &[u8], author: &[u8], kind: u16, created_at: u64) -> bool {
        let within = |set: &Option<BTreeSet<[u8; 32]>>, bytes: &[u8]| {
            set.as_ref().is_none_or(|set| <&[u8; 32]>::try_from(bytes).is_ok_and(|bytes| set.contains(bytes)))
        };
        self.since.is_none_or(|since| created_at >= since)
            && self.until.is_none_or(|until| created_at <= until)
            && self.kinds.as_ref().is_none_or(|kinds| kinds.contains(&kind))
            && within(&self.ids, id)
            && within(&self.authors, author)
    }

    fn matches_tags<'t>(&self, tags: &(impl Iterator<Item = (u8, &'t str)> + Clone)) -> bool {
        self.tags.iter().all(|(letter, values)| {
            let mut tags = tags.clone();
            tags.any(|(found, value)| found == *letter && values.contains(value))
        })
    }

    /// Checks a stored event against everything but `search`.
    pub(crate) fn matches_record(&self, record: &Record<'_>) -> bool {
        if !self.matches_head(record.id(), record.author(), record.kind(), record.created_at()) {
            return false;
        }
        if self.tags.is_empty() {
            return true;
        }
        let tags = record.tags();
        self.matches_tags(&tags.iter().filter_map(|tag| letter_and_value(tag)))
    }

    /// Checks a live event; of a `search` each word must occur in the content, in any case.
    pub(crate) fn matches_event(&self, event: &Event) -> bool {
        self.matches_head(event.id.as_bytes(), event.pubkey.as_bytes(), event.kind.as_u16(), event.created_at.as_secs())
            && (self.tags.is_empty() || self.matches_tags(&letters(event)))
            && self.search.as_ref().is_none_or(|search| super::search::contains_words(event, search))
    }

    /// Reads a filter that a client sent.
    ///
    /// # Errors
    ///
    /// Says in words for the client what is wrong with which field.
    pub(crate) fn parse(value: Value) -> Result<Self, String> {
        let Value::Object(fields) = value else { return Err("a filter is a JSON object".to_owned()) };
        let mut budget = MAX_FILTER_VALUES;
        let query = Self {
            ids: keys(&fields, "ids", &mut budget)?,
            authors: keys(&fields, "authors", &mut budget)?,
            kinds: kinds(&fields, &mut budget)?,
            tags: tags(&fields, &mut budget)?,
            since: number(&fields, "since")?,
            until: number(&fields, "until")?,
            limit: number(&fields, "limit")?.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX)),
            search: search(&fields)?,
        };
        Ok(query)
    }
}

impl From<&Filter> for Query {
    fn from(filter: &Filter) -> Self {
        let tags = filter.generic_tags.iter().map(|(tag, values)| (tag.as_char() as u8, values.clone())).collect();
        Self {
            ids: filter.ids.as_ref().map(|ids| ids.iter().map(|id| id.to_bytes()).collect()),
            authors: filter.authors.as_ref().map(|keys| keys.iter().map(|key| key.to_bytes()).collect()),
            kinds: filter.kinds.as_ref().map(|kinds| kinds.iter().map(|kind| kind.as_u16()).collect()),
            tags,
            since: filter.since.map(|time| time.as_secs()),
            until: filter.until.map(|time| time.as_secs()),
            limit: filter.limit,
            search: filter.search.clone().filter(|text| !text.trim().is_empty()),
        }
    }
}

fn list<'f>(fields: &'f Map<String, Value>, name: &str, budget: &mut usize) -> Result<Option<&'f [Value]>, String> {
    let Some(value) = fields.get(name) else { return Ok(None) };
    let Value::Array(values) = value else { return Err(format!("{name} is a list")) };
    *budget = budget.checked_sub(values.len()).ok_or_else(|| "too many values in a filter".to_owned())?;
    Ok(Some(values))
}

fn keys(fields: &Map<String, Value>, name: &str, budget: &mut usize) -> Result<Option<BTreeSet<[u8; 32]>>, String> {
    let Some(values) = list(fields, name, budget)? else { return Ok(None) };
    let parse = |value: &Value| value.as_str().and_then(hex32);
    let set = values.iter().map(parse).collect::<Option<_>>();
    set.map(Some).ok_or_else(|| format!("{name} are 64 lower-case hex digits each"))
}

fn kinds(fields: &Map<String, Value>, budget: &mut usize) -> Result<Option<BTreeSet<u16>>, String> {
    let Some(values) = list(fields, "kinds", budget)? else { return Ok(None) };
    let parse = |value: &Value| value.as_u64().and_then(|kind| u16::try_from(kind).ok());
    let set = values.iter().map(parse).collect::<Option<_>>();
    set.map(Some).ok_or_else(|| "kinds are numbers from 0 to 65535".to_owned())
}

fn tags(fields: &Map<String, Value>, budget: &mut usize) -> Result<BTreeMap<u8, BTreeSet<String>>, String> {
    let mut out = BTreeMap::new();
    for name in fields.keys() {
        let &[b'#', letter] = name.as_bytes() else { continue };
        if !letter.is_ascii_alphabetic() {
            continue;
        }
        let values = list(fields, name, budget)?.unwrap_or_default();
        let set: Option<BTreeSet<String>> = values.iter().map(|value| value.as_str().map(str::to_owned)).collect();
        out.insert(letter, set.ok_or_else(|| format!("values of {name} are strings"))?);
    }
    Ok(out)
}

fn number(fields: &Map<String, Value>, name: &str) -> Result<Option<u64>, String> {
    let Some(value) = fields.get(name) else { return Ok(None) };
    value.as_u64().map(Some).ok_or_else(|| format!("{name} is a whole number, zero or more"))
}

fn search(fields: &Map<String, Value>) -> Result<Option<String>, String> {
    match fields.get("search") {
        None => Ok(None),
        Some(Value::String(text)) if text.len() > MAX_SEARCH_BYTES => Err("the search text is too long".to_owned()),
        Some(Value::String(text)) => Ok(Some(text.clone()).filter(|text| !text.trim().is_empty())),
        Some(_) => Err("search is a string".to_owned()),
    }
}

/// Reads 32 bytes written as 64 lower-case hex digits.
pub(crate) fn hex32(text: &str) -> Option<[u8; 32]> {
    let mut out = [0; 32];
    (is_lower_hex(text) && hex::decode_to_slice(text, &mut out).is_ok()).then_some(out)
}

/// Says whether a text consists of lower-case hex digits only.
pub(crate) fn is_lower_hex(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}
