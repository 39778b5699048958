//! How much of an answer went out before it was whole.

use nips::job::JobId;
use rusqlite::Connection;

use super::{Journal, JournalError, Word, jobs};
use crate::desk::Told;

fn key(job: &JobId) -> String {
    format!("told:{job}")
}

/// The job is over.
pub(super) fn forget(db: &Connection, job: &JobId) -> rusqlite::Result<()> {
    db.prepare_cached("DELETE FROM meta WHERE key = ?1")?.execute([key(job)]).map(drop)
}

impl Journal {
    /// Puts a part of an answer into the outbox, and notes how much of the answer that makes. `after` is dropped once that is
    /// done, also where nobody waits for it any more: an answer that is whole ends what is still telling parts of it.
    ///
    /// # Errors
    /// When the database refuses; then neither has happened.
    pub async fn tell(
        &self,
        job: JobId,
        (words, told): (Vec<Word>, Told),
        at_ms: u64,
        after: impl Send + 'static,
    ) -> Result<(), JournalError> {
        let told = serde_json::to_string(&told).unwrap_or_default();
        let done = self.write("a part of an answer", move |db| {
            words.iter().try_for_each(|word| jobs::insert_word(db, word, at_ms))?;
            jobs::set_meta(db, &key(&job), &told)?;
            Ok(after)
        });
        done.await.map(drop)
    }

    /// How much of a job's answer went out, in this life of the process or an earlier one. Comes after all that was told before.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn told(&self, job: JobId) -> Result<Option<Told>, JournalError> {
        let found = self.meta(&key(&job)).await?;
        Ok(found.and_then(|json| serde_json::from_str(&json).ok()))
    }
}
