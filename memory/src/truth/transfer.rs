//! Events in and out in bulk.

use std::path::Path;

use nips::memory::{DocumentId, PageName, Space};
use nostr::{Event, EventId};
use rusqlite::{OptionalExtension, params};

use crate::sync::Batch;

use super::event::{COLUMNS, Stored};
use super::{Forgotten, Outcome, Truth, TruthError};

impl Truth {
    /// Takes events of an export: by the owner's word, whoever wrote them and whatever their space; their signatures are checked.
    pub fn restore(&mut self, events: Vec<Event>, now: u64) -> Result<Vec<Outcome>, TruthError> {
        let vetted = crate::check::vetted(events);
        self.is_salvaging = true;
        let outcomes = self.take(&vetted, now);
        self.is_salvaging = false;
        outcomes
    }

    /// Changes with a number above `after`, in the order they came.
    pub fn events_after(&self, after: i64, limit: usize) -> Result<Vec<(i64, Event)>, TruthError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM changes c JOIN documents d ON d.number = c.document
             WHERE c.number > ?1 ORDER BY c.number LIMIT ?2"
        );
        let mut found = self.connection.prepare_cached(&sql)?;
        let mut rows = found.query(params![after, i64::try_from(limit).unwrap_or(i64::MAX)])?;
        let mut all = Vec::new();
        while let Some(row) = rows.next()? {
            let stored = Stored::read(row, &self.seal)?;
            all.push((stored.number, stored.event()?));
        }
        Ok(all)
    }

    /// Those of `ids` that are in the space, in the order in which they were taken, tombstones last: as many as fit a message.
    pub fn batch(&self, space: &Space, ids: &[EventId], max_bytes: usize) -> Result<Batch, TruthError> {
        let mut place = self.connection.prepare_cached(
            "SELECT c.number FROM changes c JOIN documents d ON d.number = c.document WHERE c.id = ?1 AND d.space = ?2",
        )?;
        let mut order: Vec<(i64, EventId)> = Vec::with_capacity(ids.len());
        for id in ids {
            let number = place.query_row(params![id.as_bytes(), space.as_str()], |row| row.get(0)).optional()?;
            let is_tombstone = number.is_none() && self.is_tombstone(space, id)?;
            order.extend(number.or(is_tombstone.then_some(i64::MAX)).map(|number| (number, *id)));
        }
        order.sort_unstable();
        order.dedup();
        // One by one: what does not fit is not read.
        let found = order.iter().flat_map(|(_, id)| match self.events(std::slice::from_ref(id)) {
            Ok(events) => events.into_iter().map(Ok).collect::<Vec<_>>(),
            Err(error) => vec![Err(error)],
        });
        Batch::fill(ids, found, max_bytes)
    }

    fn is_tombstone(&self, space: &Space, id: &EventId) -> Result<bool, TruthError> {
        let mut found = self.connection.prepare_cached("SELECT 1 FROM tombstones WHERE id = ?1 AND space = ?2")?;
        Ok(found.exists(params![id.as_bytes(), space.as_str()])?)
    }

    /// A number that rises with every commit that changed something.
    pub fn version(&self) -> u64 {
        self.connection.total_changes()
    }

    /// All tombstones.
    pub fn tombstone_events(&self) -> Result<Vec<Event>, TruthError> {
        super::event::tombstones(&self.connection)
    }

    /// Forgets the page of this name.
    pub fn forget_named(&mut self, space: &Space, name: &PageName, now: u64) -> Result<Forgotten, TruthError> {
        let id: DocumentId = self.live_page(space, name)?;
        if self.known_number(&id)?.is_none() {
            return Err(TruthError::Missing(format!("page {name} in {space}")));
        }
        self.forget_page(&id, now)
    }

    /// Copies the whole store into `target`, which must not exist.
    pub fn back_up_to(&self, target: &Path) -> Result<(), TruthError> {
        let mut copy = rusqlite::Connection::open(target)?;
        let backup = rusqlite::backup::Backup::new(&self.connection, &mut copy)?;
        // Within the writer's own transaction: nothing changes meanwhile.
        backup.run_to_completion(4096, std::time::Duration::ZERO, None)?;
        drop(backup);
        drop(copy);
        super::files::private(target)
    }
}
