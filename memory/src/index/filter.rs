//! A question's filters and somebody's sight, as numbers for the rows in memory. Both legs are filtered by these: the table's own
//! filters read whole columns, and know nothing of what is superseded.

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
    /// One flag a kind, in the order of [`EntryKind::ALL`].
    kinds: [bool; 3],
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
            kinds: EntryKind::ALL.map(|kind| query.kinds.is_empty() || query.kinds.contains(&kind)),
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
            && self.lets_kind(row.kind)
            && (self.spaces.is_empty() || flagged(&self.spaces))
            && self.author.is_none_or(|author| author == row.author)
            && self.person.is_none_or(|person| person == row.person)
            && self.sight.as_ref().is_none_or(|(spaces, own)| flagged(spaces) || *own == Some(row.person))
    }

    fn lets_kind(&self, kind: EntryKind) -> bool {
        let [episodic, semantic, procedural] = self.kinds;
        match kind {
            EntryKind::Episodic => episodic,
            EntryKind::Semantic => semantic,
            EntryKind::Procedural => procedural,
        }
    }

    pub(super) fn allows_tags(&self, tags: &[u32]) -> bool {
        self.tags.iter().all(|tag| tags.contains(tag))
    }
}
