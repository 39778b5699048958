//! Tokens that strangers have used of each model, by day.

use rusqlite::params;

use super::{Journal, JournalError};

impl Journal {
    /// Tokens used of `model` on `day` (days since 1970).
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn tokens_used(&self, day: u64) -> Result<Vec<(String, u64)>, JournalError> {
        self.write("reading budgets", move |db| {
            let mut select = db.prepare_cached("SELECT model, tokens FROM budget WHERE day = ?1")?;
            select.query_map([day], |r| Ok((r.get(0)?, r.get(1)?)))?.collect()
        })
        .await
    }

    /// Keeps that `tokens` in all were used of `model` on `day`.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn set_tokens_used(&self, day: u64, model: String, tokens: u64) -> Result<(), JournalError> {
        self.write("keeping a budget", move |db| {
            db.prepare_cached("INSERT OR REPLACE INTO budget VALUES (?1, ?2, ?3)")?
                .execute(params![day, model, tokens])
                .map(drop)
        })
        .await
    }
}
