//! A question's filters and somebody's sight, made ready: once as numbers for the rows in memory, once as SQL for the table.

use std::collections::{BTreeSet, HashMap};

use nips::memory::Space;
use nostr::PublicKey;

use super::scan::Hot;
use crate::entry::EntryKind;
use crate::recall::{Query, Sight};

/// Short numbers for what many rows share.
#[derive(Debug, Default)]
pub(crate) struct Names {
    spaces: HashMap<Space, u32>,
    keys: HashMap<PublicKey, u32>,
    tags: HashMap<String, u32>,
}

impl Names {
    /// The person of an entry that belongs to none.
    pub(super) const NOBODY: u32 = u32::MAX;
    /// What no row has.
    const UNKNOWN: u32 = u32::MAX - 1;

    pub(super) fn space(&mut self, space: &Space) -> u32 {
        let next = number(self.spaces.len());
        *self.spaces.entry(space.clone()).or_insert(next)
    }

    pub(super) fn key(&mut self, key: &PublicKey) -> u32 {
        let next = number(self.keys.len());
        *self.keys.entry(*key).or_insert(next)
    }

    pub(super) fn tag(&mut self, tag: &str) -> u32 {
        let next = number(self.tags.len());
        *self.tags.entry(tag.to_owned()).or_insert(next)
    }
}

fn number(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(Names::UNKNOWN)
}

/// Which rows a recall may show.
#[derive(Debug, Clone)]
pub(crate) struct Filter {
    now: u64,
    since: u64,
    until: u64,
    kinds: BTreeSet<EntryKind>,
    /// One flag a space of the query; empty lets every space through.
    spaces: Vec<bool>,
    author: Option<u32>,
    person: Option<u32>,
    pub(super) tags: Vec<u32>,
    sight: Option<(Vec<bool>, Option<u32>)>,
}

impl Filter {
    pub(crate) fn new(query: &Query, sight: &Sight, now: u64, names: &Names) -> Self {
        let key = |key: &PublicKey| names.keys.get(key).copied().unwrap_or(Names::UNKNOWN);
        let flags = |spaces: &BTreeSet<Space>| {
            let mut flags = vec![false; names.spaces.len()];
            for at in spaces.iter().filter_map(|space| names.spaces.get(space)) {
                if let Some(flag) = usize::try_from(*at).ok().and_then(|at| flags.get_mut(at)) {
                    *flag = true;
                }
            }
            flags
        };
        let tags = query.tags.iter().map(|tag| names.tags.get(tag).copied().unwrap_or(Names::UNKNOWN));
        Self {
            now,
            since: query.since.unwrap_or(0),
            until: query.until.unwrap_or(u64::MAX),
            kinds: query.kinds.clone(),
            // A flag more than there are spaces, so that "only spaces that no row has" is not "all spaces".
            spaces: if query.spaces.is_empty() { Vec::new() } else { [flags(&query.spaces), vec![false]].concat() },
            author: query.author.as_ref().map(key),
            person: query.person.as_ref().map(key),
            tags: tags.collect(),
            sight: match sight {
                Sight::All => None,
                Sight::Some { spaces, person } => Some((flags(spaces), person.as_ref().map(key))),
            },
        }
    }

    /// Everything but tags.
    pub(super) fn allows(&self, row: &Hot) -> bool {
        let flagged = |flags: &[bool]| usize::try_from(row.space).ok().and_then(|at| flags.get(at)) == Some(&true);
        (row.from <= self.now && self.now < row.to)
            && (self.since <= row.created_at && row.created_at <= self.until)
            && (self.kinds.is_empty() || self.kinds.contains(&row.kind))
            && (self.spaces.is_empty() || flagged(&self.spaces))
            && self.author.is_none_or(|author| author == row.author)
            && self.person.is_none_or(|person| person == row.person)
            && self.sight.as_ref().is_none_or(|(spaces, own)| flagged(spaces) || *own == Some(row.person))
    }

    pub(super) fn allows_tags(&self, tags: &[u32]) -> bool {
        self.tags.iter().all(|tag| tags.contains(tag))
    }
}

/// The filters of a question and a sight in the table's SQL; none when everything may be shown. Validity and what is superseded
/// are left to the rows in memory, which know them exactly.
pub(crate) fn sql(query: &Query, sight: &Sight) -> Option<String> {
    let mut all = Vec::new();
    if !query.spaces.is_empty() {
        all.push(in_spaces(&query.spaces));
    }
    if !query.kinds.is_empty() {
        all.push(format!("kind IN ({})", list(query.kinds.iter().map(|kind| kind.as_str()))));
    }
    all.extend(query.tags.iter().map(|tag| format!("array_has(tags, {})", quoted(tag))));
    all.extend(query.author.map(|author| format!("author = {}", quoted(&author.to_hex()))));
    all.extend(query.person.map(|person| format!("person = {}", quoted(&person.to_hex()))));
    all.extend(query.since.map(|since| format!("created_at >= {}", since.min(LARGEST))));
    all.extend(query.until.map(|until| format!("created_at <= {}", until.min(LARGEST))));
    if let Sight::Some { spaces, person } = sight {
        let own = person.map(|person| format!("person = {}", quoted(&person.to_hex())));
        let shared = (!spaces.is_empty()).then(|| in_spaces(spaces));
        let either: Vec<String> = shared.into_iter().chain(own).collect();
        all.push(if either.is_empty() { "false".to_owned() } else { format!("({})", either.join(" OR ")) });
    }
    (!all.is_empty()).then(|| all.join(" AND "))
}

/// The largest number that SQL reads as a whole one.
const LARGEST: u64 = i64::MAX.unsigned_abs();

fn in_spaces(spaces: &BTreeSet<Space>) -> String {
    format!("space IN ({})", list(spaces.iter().map(Space::as_str)))
}

fn list<'a>(items: impl Iterator<Item = &'a str>) -> String {
    items.map(quoted).collect::<Vec<_>>().join(", ")
}

/// A string of SQL.
pub(super) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
