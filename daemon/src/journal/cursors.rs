//! How far each outside relay's subscriptions have been followed.

use rusqlite::params;

use super::{Journal, JournalError};

impl Journal {
    /// Every cursor: relay, subscription, Unix seconds.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn cursors(&self) -> Result<Vec<(String, String, u64)>, JournalError> {
        self.write("reading cursors", |db| {
            let mut select = db.prepare("SELECT relay, subscription, unix_s FROM cursors")?;
            select.query_map([], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)))?.collect()
        })
        .await
    }

    /// Keeps one cursor.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn set_cursor(&self, relay: String, subscription: String, unix_s: u64) -> Result<(), JournalError> {
        self.write("keeping a cursor", move |db| {
            db.prepare_cached("INSERT OR REPLACE INTO cursors VALUES (?1, ?2, ?3)")?
                .execute(params![relay, subscription, unix_s])
                .map(drop)
        })
        .await
    }
}
