//! Words for Matrix, and the marks of answers that are shown or told while they are written.

use nips::job::JobId;
use rusqlite::params;

use super::{Journal, JournalError, now_ms};

/// A word that is to be said.
#[derive(Debug, Clone)]
pub struct DueWord {
    /// Its number.
    pub id: [u8; 32],
    /// The job that says it.
    pub job: Option<JobId>,
    /// What it is, in the form of its target.
    pub event: String,
    /// Tries so far.
    pub attempts: u32,
    /// Not before, Unix seconds.
    pub next_s: u64,
    /// Given up after, Unix seconds.
    pub deadline_s: u64,
}

/// What became of a word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WordState {
    /// It stands there.
    Done,
    /// It never will.
    Refused(String),
    /// It was tried for too long.
    Expired(String),
    /// It is tried again.
    Pending {
        /// Not before, Unix seconds.
        next_s: u64,
        /// Why not yet.
        why: String,
    },
}

fn mark(job: JobId) -> String {
    format!("matrix-shown:{job}")
}

impl Journal {
    /// What a target still has to hear, in the order in which it was said.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn due_words(&self, target: &'static str, limit: usize) -> Result<Vec<DueWord>, JournalError> {
        self.write("reading the outbox", move |db| {
            let mut select = db.prepare_cached(
                "SELECT w.id, w.job, w.event, t.attempts, t.next_s, t.deadline_s FROM targets t JOIN words w ON w.id = t.word
                 WHERE t.relay = ?1 AND t.state = 'pending' ORDER BY t.seq LIMIT ?2",
            )?;
            let row = |r: &rusqlite::Row<'_>| {
                Ok(DueWord {
                    id: r.get(0)?,
                    job: r.get::<_, Option<[u8; 32]>>(1)?.map(JobId::from_bytes),
                    event: r.get(2)?,
                    attempts: r.get(3)?,
                    next_s: r.get(4)?,
                    deadline_s: r.get(5)?,
                })
            };
            select.query_map(params![target, limit], row)?.collect()
        })
        .await
    }

    /// Writes down what became of a word.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn record_word(&self, id: [u8; 32], target: &'static str, state: WordState) -> Result<(), JournalError> {
        let (state, next_s, message) = match state {
            WordState::Done => ("done", None, None),
            WordState::Refused(why) => ("refused", None, Some(why)),
            WordState::Expired(why) => ("expired", None, Some(why)),
            WordState::Pending { next_s, why } => ("pending", Some(next_s), Some(why)),
        };
        self.write("the outbox's outcome", move |db| {
            let mut set = db.prepare_cached(
                "UPDATE targets SET state = ?3, attempts = attempts + 1, next_s = coalesce(?4, next_s), message = ?5
                 WHERE word = ?1 AND relay = ?2",
            )?;
            set.execute(params![id, target, state, next_s, message]).map(drop)
        })
        .await
    }

    /// Notes that an answer is about to be shown before it is whole.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn mark_shown(&self, job: JobId) -> Result<(), JournalError> {
        self.set_meta(&mark(job), now_ms().to_string()).await
    }

    /// True when an answer was shown before it was whole, in this life of the process or an earlier one.
    pub async fn is_shown(&self, job: JobId) -> bool {
        self.meta(&mark(job)).await.is_ok_and(|found| found.is_some())
    }

    /// The answer is whole.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn forget_shown(&self, job: JobId) -> Result<(), JournalError> {
        let key = mark(job);
        self.write("forgetting a mark", move |db| {
            db.prepare_cached("DELETE FROM meta WHERE key = ?1")?.execute([key]).map(drop)
        })
        .await
    }
}
