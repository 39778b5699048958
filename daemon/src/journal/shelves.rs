//! What the federation keeps.

use rusqlite::{Connection, params};

use super::{Journal, JournalError};

/// One change of a shelf.
pub enum ShelfWrite {
    /// Puts a value in the place of what was under the key.
    Put(&'static str, Vec<u8>, Vec<u8>),
    /// Takes a key away.
    Delete(&'static str, Vec<u8>),
    /// Empties a shelf.
    Clear(&'static str),
}

impl Journal {
    /// Everything on a shelf, in the order in which the keys first came.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub async fn shelf(&self, shelf: &'static str) -> Result<Vec<(Vec<u8>, Vec<u8>)>, JournalError> {
        self.write("to read a shelf", move |db| {
            let mut found = db.prepare_cached("SELECT key, value FROM shelves WHERE shelf = ?1 ORDER BY number")?;
            let rows = found.query_map([shelf], |row| Ok((row.get(0)?, row.get(1)?)))?;
            rows.collect()
        })
        .await
    }

    /// Makes changes, all or none.
    ///
    /// # Errors
    /// When the disk refuses.
    pub async fn shelve(&self, writes: Vec<ShelfWrite>) -> Result<(), JournalError> {
        self.write("what the federation keeps", move |db| writes.iter().try_for_each(|write| shelve(db, write))).await
    }
}

fn shelve(db: &Connection, write: &ShelfWrite) -> rusqlite::Result<()> {
    match write {
        ShelfWrite::Put(shelf, key, value) => db
            .prepare_cached(
                "INSERT INTO shelves(shelf, key, value) VALUES(?1, ?2, ?3) ON CONFLICT(shelf, key) DO UPDATE SET value = ?3",
            )?
            .execute(params![shelf, key, value]),
        ShelfWrite::Delete(shelf, key) => {
            db.prepare_cached("DELETE FROM shelves WHERE shelf = ?1 AND key = ?2")?.execute(params![shelf, key])
        }
        ShelfWrite::Clear(shelf) => db.prepare_cached("DELETE FROM shelves WHERE shelf = ?1")?.execute([shelf]),
    }
    .map(|_| ())
}
