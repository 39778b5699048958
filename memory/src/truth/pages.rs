//! Pages in the store: those used lately stay loaded.

use automerge::AutoCommit;
use nips::memory::{DocumentId, PageName, Space};

use super::page::{self, Page, PageEdit};
use super::shard::{actor, committed};
use super::{Truth, TruthError};

/// Pages that stay loaded.
const LOADED: usize = 32;

/// Loaded pages, the latest last.
#[derive(Default)]
pub(super) struct Cache(Vec<(i64, AutoCommit)>);

impl Cache {
    pub fn remove(&mut self, number: i64) {
        self.0.retain(|(n, _)| *n != number);
    }

    fn take(&mut self, number: i64) -> Option<AutoCommit> {
        let at = self.0.iter().position(|(n, _)| *n == number)?;
        Some(self.0.remove(at).1)
    }

    fn put(&mut self, number: i64, document: AutoCommit) {
        self.remove(number);
        if self.0.len() >= LOADED {
            self.0.remove(0);
        }
        self.0.push((number, document));
    }
}

impl Truth {
    /// What a page says; none when nobody began it.
    pub fn page(&mut self, space: &Space, name: &PageName) -> Result<Option<Page>, TruthError> {
        let id = self.live_page(space, name)?;
        let Some(number) = self.known_number(&id)? else { return Ok(None) };
        let document = self.loaded(number, &id)?;
        let page = page::read(&document, space, name);
        self.pages.put(number, document);
        Ok(Some(page))
    }

    /// All pages, of one space or of all.
    pub fn pages(&mut self, space: Option<&Space>) -> Result<Vec<Page>, TruthError> {
        let mut all = Vec::new();
        for id in self.live_pages(space)? {
            if let DocumentId::Page { space, name, .. } = &id {
                all.extend(self.page(space, name)?);
            }
        }
        Ok(all)
    }

    /// Edits a page, which begins with its first edit: one change for all edits. `now`: seconds.
    pub fn edit_page(
        &mut self,
        space: &Space,
        name: &PageName,
        edits: &[PageEdit],
        now: u64,
    ) -> Result<Page, TruthError> {
        let id = self.live_page(space, name)?;
        let number = self.number(&id)?;
        let mut document = self.loaded(number, &id)?;
        let mut is_changed = false;
        for edit in edits {
            let refused = |e: page::BadEdit| TruthError::Change { document: id.clone(), why: e.to_string() };
            // What is refused leaves nothing behind: the document is not put back into the cache.
            is_changed |= page::edit(&mut document, edit).map_err(refused)?;
        }
        if is_changed {
            let made = committed(&mut document, now, &id)?;
            self.keep_own(&id, number, &made, None, now)?;
            self.compact(number, &id)?;
        }
        let page = page::read(&document, space, name);
        self.pages.put(number, document);
        Ok(page)
    }

    pub(super) fn loaded(&mut self, number: i64, id: &DocumentId) -> Result<AutoCommit, TruthError> {
        match self.pages.take(number) {
            Some(document) => Ok(document),
            None => Ok(self.load(number, id)?.with_actor(actor(&self.actor))),
        }
    }

    pub(super) fn keep_loaded(&mut self, number: i64, document: AutoCommit) {
        self.pages.put(number, document);
    }

    /// The generation of a page that is written now: the first that is not retired.
    pub(super) fn live_page(&self, space: &Space, name: &PageName) -> Result<DocumentId, TruthError> {
        let mut generation = 0;
        loop {
            let id = DocumentId::Page { space: space.clone(), name: name.clone(), generation };
            match self.known_number(&id)? {
                Some(number) if self.is_retired(number)? => generation += 1,
                Some(_) | None => return Ok(id),
            }
        }
    }

    /// Pages that are there, not retired.
    pub(super) fn live_pages(&self, space: Option<&Space>) -> Result<Vec<DocumentId>, TruthError> {
        let mut found = self.connection.prepare_cached(
            "SELECT d.name FROM documents d WHERE d.retired = 0 AND (?1 IS NULL OR d.space = ?1) AND d.name LIKE '%/page/%'
             AND EXISTS (SELECT 1 FROM changes c WHERE c.document = d.number AND c.state = 1) ORDER BY d.name",
        )?;
        let rows = found.query_map([space.map(Space::as_str)], |row| row.get::<_, String>(0))?;
        let mut all = Vec::new();
        for name in rows {
            let id: DocumentId = name?.parse()?;
            if matches!(id, DocumentId::Page { .. }) {
                all.push(id);
            }
        }
        Ok(all)
    }
}
