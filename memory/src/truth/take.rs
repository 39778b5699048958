//! Events from other nodes: each is kept, known already, or refused with a reason. Signatures are checked before they come here.

use std::collections::BTreeSet;

use automerge::ChangeHash;
use nips::memory::{ActorId, Change, DocumentId, EntryId};
use nostr::{Event, EventId, PublicKey};
use rusqlite::params;

use super::changes::{COUNTS, EXCLUDED, Kept, WAITS, int};
use super::copies::Uncopied;
use super::shard::{BadChange, parsed};
use super::vet::{Found, Opened, Vetted};
use super::{Truth, TruthError, guard, page};
use crate::entry::Entry;

/// Changes of one page that may wait for what they depend on; more are refused and asked for again at the next sync.
const MAX_WAITING: i64 = 1_000;
/// Changes that one page may have.
const MAX_PAGE_CHANGES: i64 = 50_000;
/// Bytes of changes that one page may have.
const MAX_PAGE_BYTES: i64 = 16 * 1024 * 1024;
/// Changes that one shard may have: its writer begins a new part long before.
const MAX_SHARD_CHANGES: i64 = 10_000;

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is kept.
    New,
    /// It was here already.
    Known,
    /// It is not taken.
    Refused(Refusal),
}

/// Why an event is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Its signature, form or bytes are wrong.
    #[error("its signature, form or bytes are wrong")]
    Malformed,
    /// Nobody knows its writer.
    #[error("its writer is unknown here")]
    UnknownWriter,
    /// Its writer does not share the space, or the space is never shared.
    #[error("its writer does not share this space")]
    Space,
    /// What it changes, or the entry that it brings, was forgotten.
    #[error("it was forgotten")]
    Forgotten,
    /// Too much waits already, or the document is full.
    #[error("the document has no room for it")]
    Full,
    /// The entry is of an author for whom the writer does not speak.
    #[error("its writer does not speak for the author")]
    Author,
}

impl From<BadChange> for Refusal {
    fn from(bad: BadChange) -> Self {
        match bad {
            BadChange::Bytes | BadChange::Name | BadChange::Shape | BadChange::Bounds | BadChange::Space => {
                Self::Malformed
            }
        }
    }
}

/// A change on its way in.
#[derive(Clone, Copy)]
struct Taken<'a> {
    event: &'a Event,
    change: &'a Change,
    opened: &'a Opened,
    /// The number of its document.
    number: i64,
    /// The entry that it puts.
    entry: Option<EntryId>,
}

impl Truth {
    /// Takes events. Changes come first, then tombstones, then what the tombstones ask of this node.
    pub fn take(&mut self, events: &[Vetted], now: u64) -> Result<Vec<Outcome>, TruthError> {
        let mut outcomes = vec![Outcome::Refused(Refusal::Malformed); events.len()];
        let found = |at: usize| events[at].found.as_ref().map(|found| (at, &events[at].event, found));
        let mut order: Vec<(usize, &Event, &Found)> = (0..events.len()).filter_map(found).collect();
        // An actor's changes in their order: then few of them wait.
        order.sort_by_key(|(_, _, found)| match found {
            Found::Change(change, _) => (false, change.seq),
            Found::Tombstone(_) => (true, 0),
        });
        let has_tombstones = order.last().is_some_and(|(_, _, found)| matches!(found, Found::Tombstone(_)));
        for (at, event, found) in order {
            outcomes[at] = self.take_one(event, found, now)?;
        }
        if has_tombstones {
            self.mend_own(now)?;
            self.rescue_own(now)?;
        }
        Ok(outcomes)
    }

    fn take_one(&mut self, event: &Event, found: &Found, now: u64) -> Result<Outcome, TruthError> {
        if self.is_known(&event.id)? {
            return Ok(Outcome::Known);
        }
        let space = found.space();
        if !self.is_salvaging && self.writer(&event.pubkey).is_none() {
            return Ok(Outcome::Refused(Refusal::UnknownWriter));
        }
        let is_shared =
            !space.is_private() && (self.is_own(&event.pubkey) || self.directory.may_share(&event.pubkey, space));
        if !(is_shared || self.is_salvaging) {
            return Ok(Outcome::Refused(Refusal::Space));
        }
        let taken = match found {
            Found::Tombstone(tombstone) => self.apply_tombstone(event, tombstone).map(Ok)?,
            Found::Change(change, Ok(opened)) => self.take_change(event, change, opened, now)?,
            Found::Change(_, Err(refusal)) => Err(*refusal),
        };
        Ok(taken.map_or_else(Outcome::Refused, |()| Outcome::New))
    }

    fn take_change(
        &mut self,
        event: &Event,
        change: &Change,
        opened: &Opened,
        now: u64,
    ) -> Result<Result<(), Refusal>, TruthError> {
        let number = self.number(&change.document)?;
        if self.is_retired(number)? {
            return Ok(Err(Refusal::Forgotten));
        }
        let entry = opened.entry.as_ref().and_then(|entry| entry.as_ref().ok());
        if let Some(entry) = entry
            && self.is_forgotten(&entry.id, &entry.author)?
        {
            return Ok(Err(Refusal::Forgotten));
        }
        let taken = Taken { event, change, opened, number, entry: entry.map(|entry| entry.id) };
        if self.is_other(number, change)? {
            self.quarantine(&taken, now)?;
            return Ok(Ok(()));
        }
        if let Some(seq) = self.excluded_from(number, &change.actor)?
            && change.seq >= seq
        {
            self.keep_taken(&taken, EXCLUDED)?;
            return Ok(Ok(()));
        }
        match (&change.document, &opened.entry) {
            (DocumentId::Shard { .. }, Some(Ok(entry))) => self.take_entry(&taken, entry),
            (DocumentId::Shard { .. }, Some(Err(bad))) => Ok(Err((*bad).into())),
            (DocumentId::Page { .. }, _) => self.take_page(&taken),
            (DocumentId::Shard { .. } | DocumentId::Forgotten { .. }, _) => Ok(Err(Refusal::Malformed)),
        }
    }

    fn take_entry(&mut self, taken: &Taken<'_>, entry: &Entry) -> Result<Result<(), Refusal>, TruthError> {
        let Taken { event, change, number, .. } = *taken;
        let speaks =
            self.is_salvaging || self.writer(&event.pubkey).is_some_and(|w| w.acts_for_owner || w.npub == entry.author);
        if !speaks {
            return Ok(Err(Refusal::Author));
        }
        if change.seq > u64::try_from(MAX_SHARD_CHANGES).unwrap_or(u64::MAX) {
            return Ok(Err(Refusal::Full));
        }
        let kept = self.keep_taken(taken, COUNTS)?;
        if self.copies(&entry.id)?.len() == 1 && !self.has_row(&entry.id)? {
            // The only copy: it need not be read again to know what it says.
            self.put_entry(entry, kept, number)?;
        } else {
            self.recount(&entry.id, Uncopied::Waits)?;
        }
        Ok(Ok(()))
    }

    fn keep_taken(&mut self, taken: &Taken<'_>, state: i64) -> Result<i64, TruthError> {
        let Taken { event, change, opened, number, entry } = *taken;
        self.keep(&Kept {
            id: event.id,
            document: number,
            actor: &change.actor,
            seq: change.seq,
            hash: &change.hash,
            created_at: event.created_at,
            signature: &event.sig,
            frame: &opened.frame,
            state,
            entry,
        })
    }

    fn take_page(&mut self, taken: &Taken<'_>) -> Result<Result<(), Refusal>, TruthError> {
        let Taken { event, change, opened, number, .. } = *taken;
        let opened = &opened.change;
        let (count, bytes, waiting): (i64, i64, i64) = self
            .connection
            .prepare_cached(
                "SELECT COUNT(*), COALESCE(SUM(LENGTH(frame)), 0), COALESCE(SUM(state = 0), 0) FROM changes WHERE document = ?1",
            )?
            .query_row([number], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        if count >= MAX_PAGE_CHANGES || bytes >= MAX_PAGE_BYTES {
            return Ok(Err(Refusal::Full));
        }
        let mut document = self.loaded(number, &change.document)?;
        let is_ready = opened.deps().iter().all(|dep| document.get_change_meta_by_hash(dep).is_some());
        if !is_ready {
            self.keep_loaded(number, document);
            if waiting >= MAX_WAITING {
                return Ok(Err(Refusal::Full));
            }
            self.keep_taken(taken, WAITS)?;
            return Ok(Ok(()));
        }
        if let Err(unfit) = guard::apply_next(&mut document, opened.clone()) {
            tracing::warn!(install = %event.pubkey, document = %change.document, %unfit, "a signed change that automerge cannot take");
            return Ok(Err(Refusal::Malformed));
        }
        self.keep_taken(taken, COUNTS)?;
        if waiting > 0 {
            self.wake(number, &change.document, &mut document)?;
        }
        self.keep_loaded(number, document);
        self.compact(number, &change.document)?;
        Ok(Ok(()))
    }

    /// Applies changes that waited, as long as there are such that can be.
    fn wake(&mut self, number: i64, id: &DocumentId, document: &mut automerge::AutoCommit) -> Result<(), TruthError> {
        let mut waiting = Vec::new();
        for stored in self.stored(number, 0, Some(WAITS))? {
            let change = stored.change()?;
            if let Ok(opened) = parsed(&change) {
                waiting.push((stored.number, opened));
            }
        }
        loop {
            let has = |document: &mut automerge::AutoCommit, deps: &[ChangeHash]| {
                deps.iter().all(|dep| document.get_change_meta_by_hash(dep).is_some())
            };
            let Some(at) = waiting.iter().position(|(_, opened)| has(document, opened.deps())) else { return Ok(()) };
            let (row, opened) = waiting.swap_remove(at);
            let applied = guard::apply_next(document, opened);
            let state = if applied.is_ok() { COUNTS } else { EXCLUDED };
            self.connection
                .prepare_cached("UPDATE changes SET state = ?2 WHERE number = ?1")?
                .execute(params![row, state])?;
            if applied.is_err() {
                // What is half changed is of no use.
                *document = self.loaded(number, id)?;
            }
        }
    }

    /// True when another change of the same actor and sequence number is here.
    fn is_other(&self, number: i64, change: &Change) -> Result<bool, TruthError> {
        let mut found = self
            .connection
            .prepare_cached("SELECT 1 FROM changes WHERE document = ?1 AND actor = ?2 AND seq = ?3 AND hash <> ?4")?;
        Ok(found.exists(params![number, change.actor.as_bytes(), int(change.seq), change.hash])?)
    }

    /// From which sequence number on the changes of an actor do not count in a document.
    fn excluded_from(&self, number: i64, actor: &ActorId) -> Result<Option<u64>, TruthError> {
        // Counting is for writers that contradicted themselves: hardly ever is there one.
        if !self.connection.prepare_cached("SELECT 1 FROM quarantine LIMIT 1")?.exists([])? {
            return Ok(None);
        }
        let mut found = self.connection.prepare_cached(
            "SELECT MIN(seq) FROM (SELECT seq FROM changes WHERE document = ?1 AND actor = ?2
             GROUP BY seq HAVING COUNT(DISTINCT hash) > 1)",
        )?;
        let seq: Option<i64> = found.query_row(params![number, actor.as_bytes()], |row| row.get(0))?;
        Ok(seq.and_then(|seq| u64::try_from(seq).ok()))
    }

    /// Keeps the second change of an (actor, sequence): both are the proof. From that number on nothing of the actor counts in the
    /// document, here and on every node that has both.
    fn quarantine(&mut self, taken: &Taken<'_>, now: u64) -> Result<(), TruthError> {
        let Taken { event, change, number, .. } = *taken;
        let first: [u8; 32] = self.connection.query_row(
            "SELECT id FROM changes WHERE document = ?1 AND actor = ?2 AND seq = ?3 LIMIT 1",
            params![number, change.actor.as_bytes(), int(change.seq)],
            |row| row.get(0),
        )?;
        self.keep_taken(taken, EXCLUDED)?;
        self.connection.execute(
            "INSERT OR IGNORE INTO quarantine(install, document, actor, seq, first, second, at) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![
                event.pubkey.to_bytes(),
                change.document.to_string(),
                change.actor.as_bytes(),
                int(change.seq),
                first,
                event.id.as_bytes(),
                int(now),
            ],
        )?;
        tracing::warn!(install = %event.pubkey, document = %change.document, "two changes under one number: a cloned machine or a liar; quarantined");
        match &change.document {
            DocumentId::Shard { .. } => self.recount_shard(number, &change.actor),
            DocumentId::Page { .. } => self.recount_page(&change.document, number, now),
            DocumentId::Forgotten { .. } => Ok(()),
        }
    }

    fn recount_shard(&mut self, number: i64, actor: &ActorId) -> Result<(), TruthError> {
        let Some(seq) = self.excluded_from(number, actor)? else { return Ok(()) };
        self.connection.execute("DELETE FROM snapshots WHERE document = ?1", [number])?;
        self.open.retain(|_, shard| shard.number != number);
        let place = params![number, actor.as_bytes(), int(seq)];
        let mut found = self.connection.prepare(
            "SELECT DISTINCT entry FROM changes WHERE document = ?1 AND actor = ?2 AND seq >= ?3 AND entry IS NOT NULL",
        )?;
        let ids: BTreeSet<[u8; 16]> = found.query_map(place, |row| row.get(0))?.collect::<Result<_, _>>()?;
        drop(found);
        self.connection
            .execute("UPDATE changes SET state = 2 WHERE document = ?1 AND actor = ?2 AND seq >= ?3", place)?;
        for id in ids {
            self.recount(&EntryId::from_bytes(id), Uncopied::Goes)?;
        }
        Ok(())
    }

    /// Counts a page anew. What this node wrote on top of what no longer counts is written again.
    pub(super) fn recount_page(&mut self, id: &DocumentId, number: i64, now: u64) -> Result<(), TruthError> {
        let DocumentId::Page { space, name, .. } = id else { return Ok(()) };
        let before = self.loaded(number, id)?;
        let before = page::read(&before, space, name);
        self.pages.remove(number);
        self.connection.execute("DELETE FROM snapshots WHERE document = ?1", [number])?;
        self.connection.execute("UPDATE changes SET state = 0 WHERE document = ?1", [number])?;
        self.connection.execute(
            "UPDATE changes SET state = 2 WHERE document = ?1 AND EXISTS (
               SELECT 1 FROM changes o, changes p WHERE o.document = ?1 AND p.document = ?1 AND o.actor = changes.actor
               AND p.actor = o.actor AND p.seq = o.seq AND p.hash <> o.hash AND o.seq <= changes.seq)",
            [number],
        )?;
        let mut document = page::base(id).with_actor(super::shard::actor(&self.actor));
        self.wake(number, id, &mut document)?;
        self.keep_loaded(number, document);
        let lost: bool = self
            .connection
            .prepare_cached("SELECT 1 FROM changes WHERE document = ?1 AND state = 0 AND substr(actor, 1, 32) = ?2")?
            .exists(params![number, self.install.public_key().to_bytes()])?;
        if lost {
            let after = self.loaded(number, id)?;
            let edits = page::rescue(&before, &page::read(&after, space, name));
            // The actor of this start has numbers that no longer count: a new one writes on.
            self.actor = ActorId::new(&self.install.public_key(), rand::random());
            self.pages.remove(number);
            self.open.clear();
            self.edit_page(space, name, &edits, now)?;
        }
        Ok(())
    }

    /// Writers with two changes under one number: install key and the two events that prove it.
    pub fn quarantined(&self) -> Result<Vec<(PublicKey, EventId, EventId)>, TruthError> {
        let mut found = self.connection.prepare_cached("SELECT install, first, second FROM quarantine ORDER BY at")?;
        let rows = found.query_map([], |row| {
            let key = PublicKey::from_byte_array(row.get(0)?);
            Ok((key, EventId::from_byte_array(row.get(1)?), EventId::from_byte_array(row.get(2)?)))
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}
