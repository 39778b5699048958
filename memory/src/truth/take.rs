//! Events from other nodes: each is kept, known already, or refused with a reason. Signatures are checked before they come here.

use std::collections::BTreeSet;

use automerge::ChangeHash;
use nips::memory::{ActorId, Change, DocumentId, EntryId, Message, Space, Tombstone};
use nostr::{Event, EventId, PublicKey};
use rusqlite::params;

use super::changes::{COUNTS, EXCLUDED, Kept, WAITS, int};
use super::copies::Uncopied;
use super::shard::{BadChange, entry_of, parsed};
use super::{Truth, TruthError, guard, page};

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

impl Truth {
    /// Takes events whose signatures were found good. Changes come first, then tombstones, then what the tombstones ask of this node.
    pub fn take(&mut self, events: &[(Event, Message)], now: u64) -> Result<Vec<Outcome>, TruthError> {
        let mut outcomes = vec![Outcome::Known; events.len()];
        // An actor's changes in their order: then few of them wait.
        let mut order: Vec<usize> = (0..events.len()).collect();
        order.sort_by_key(|at| match &events[*at].1 {
            Message::Change(change) => (false, change.seq),
            Message::Tombstone(_) => (true, 0),
        });
        for at in order {
            let (event, message) = &events[at];
            outcomes[at] = self.take_one(event, message, now)?;
        }
        if events.iter().any(|(_, message)| matches!(message, Message::Tombstone(_))) {
            self.mend_own(now)?;
            self.rescue_own(now)?;
        }
        Ok(outcomes)
    }

    fn take_one(&mut self, event: &Event, message: &Message, now: u64) -> Result<Outcome, TruthError> {
        if self.is_known(&event.id)? {
            return Ok(Outcome::Known);
        }
        let space = message.space();
        if !self.is_salvaging && self.writer(&event.pubkey).is_none() {
            return Ok(Outcome::Refused(Refusal::UnknownWriter));
        }
        let is_shared =
            !space.is_private() && (self.is_own(&event.pubkey) || self.directory.may_share(&event.pubkey, space));
        if !(is_shared || self.is_salvaging) {
            return Ok(Outcome::Refused(Refusal::Space));
        }
        let taken = match message {
            Message::Tombstone(tombstone) => self.take_tombstone(event, tombstone).map(Ok)?,
            Message::Change(change) => self.take_change(event, change, now)?,
        };
        Ok(taken.map_or_else(Outcome::Refused, |()| Outcome::New))
    }

    fn take_tombstone(&mut self, event: &Event, tombstone: &Tombstone) -> Result<(), TruthError> {
        self.apply_tombstone(event, tombstone)
    }

    fn take_change(&mut self, event: &Event, change: &Change, now: u64) -> Result<Result<(), Refusal>, TruthError> {
        if !super::event::is_canonical(event, change) {
            return Ok(Err(Refusal::Malformed));
        }
        let opened = match parsed(change) {
            Ok(opened) => opened,
            Err(bad) => return Ok(Err(bad.into())),
        };
        if !guard::is_canonical(&opened) {
            return Ok(Err(Refusal::Malformed));
        }
        let number = self.number(&change.document)?;
        if self.is_retired(number)? {
            return Ok(Err(Refusal::Forgotten));
        }
        let brought = match &change.document {
            DocumentId::Shard { space, .. } => entry_of(&opened, space).ok(),
            DocumentId::Page { .. } | DocumentId::Forgotten { .. } => None,
        };
        if let Some(entry) = &brought
            && self.is_forgotten(&entry.id, &entry.author)?
        {
            return Ok(Err(Refusal::Forgotten));
        }
        let brought = brought.map(|entry| entry.id);
        if self.is_other(number, change)? {
            self.quarantine(event, change, number, brought, now)?;
            return Ok(Ok(()));
        }
        if let Some(seq) = self.excluded_from(number, &change.actor)?
            && change.seq >= seq
        {
            self.keep_taken(event, change, number, EXCLUDED, brought)?;
            return Ok(Ok(()));
        }
        match &change.document {
            DocumentId::Shard { space, .. } => self.take_entry(event, change, &opened, space, number),
            DocumentId::Page { .. } => self.take_page(event, change, &opened, number),
            DocumentId::Forgotten { .. } => Ok(Err(Refusal::Malformed)),
        }
    }

    fn take_entry(
        &mut self,
        event: &Event,
        change: &Change,
        opened: &automerge::Change,
        space: &Space,
        number: i64,
    ) -> Result<Result<(), Refusal>, TruthError> {
        let entry = match entry_of(opened, space) {
            Ok(entry) => entry,
            Err(bad) => return Ok(Err(bad.into())),
        };
        let speaks =
            self.is_salvaging || self.writer(&event.pubkey).is_some_and(|w| w.acts_for_owner || w.npub == entry.author);
        if !speaks {
            return Ok(Err(Refusal::Author));
        }
        if change.seq > u64::try_from(MAX_SHARD_CHANGES).unwrap_or(u64::MAX) {
            return Ok(Err(Refusal::Full));
        }
        let kept = self.keep_taken(event, change, number, COUNTS, Some(entry.id))?;
        if self.copies(&entry.id)?.len() == 1 && !self.has_row(&entry.id)? {
            // The only copy: it need not be read again to know what it says.
            self.put_entry(&entry, kept, number)?;
        } else {
            self.recount(&entry.id, Uncopied::Waits)?;
        }
        Ok(Ok(()))
    }

    fn keep_taken(
        &mut self,
        event: &Event,
        change: &Change,
        number: i64,
        state: i64,
        entry: Option<EntryId>,
    ) -> Result<i64, TruthError> {
        // The frame as it came: the event is made again from it.
        let frame = frame_of(event)?;
        self.keep(&Kept {
            id: event.id,
            document: number,
            actor: &change.actor,
            seq: change.seq,
            hash: &change.hash,
            created_at: event.created_at,
            signature: &event.sig,
            frame: &frame,
            state,
            entry,
        })
    }

    fn take_page(
        &mut self,
        event: &Event,
        change: &Change,
        opened: &automerge::Change,
        number: i64,
    ) -> Result<Result<(), Refusal>, TruthError> {
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
            self.keep_taken(event, change, number, WAITS, None)?;
            return Ok(Ok(()));
        }
        if let Err(unfit) = guard::apply_next(&mut document, opened.clone()) {
            tracing::warn!(install = %event.pubkey, document = %change.document, %unfit, "a signed change that automerge cannot take");
            return Ok(Err(Refusal::Malformed));
        }
        self.keep_taken(event, change, number, COUNTS, None)?;
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
    fn quarantine(
        &mut self,
        event: &Event,
        change: &Change,
        number: i64,
        brought: Option<EntryId>,
        now: u64,
    ) -> Result<(), TruthError> {
        let first: [u8; 32] = self.connection.query_row(
            "SELECT id FROM changes WHERE document = ?1 AND actor = ?2 AND seq = ?3 LIMIT 1",
            params![number, change.actor.as_bytes(), int(change.seq)],
            |row| row.get(0),
        )?;
        self.keep_taken(event, change, number, EXCLUDED, brought)?;
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

fn frame_of(event: &Event) -> Result<Vec<u8>, TruthError> {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD
        .decode(&event.content)
        .map_err(|_| TruthError::Damaged("the bytes of a change".to_owned()))
}
