//! The durable side of the outbox: words and their targets.

use std::collections::BTreeMap;
use std::sync::Arc;

use nips::job::JobId;
use nostr::util::BoxedFuture;
use nostr::{Event, JsonUtil};
use relay::{Counts, Entry, Next, OutboxError, OutboxStore, Outcome, Target, Update};
use rusqlite::{Connection, params};

use super::{Journal, JournalError, Word, jobs};

/// How many words of a target stand where.
pub type OutboxCount = (String, Counts);

impl Journal {
    /// Puts signed events that belong to no job into the outbox: identity documents, offers.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn add_words(&self, words: Vec<Word>, at_ms: u64) -> Result<(), JournalError> {
        self.write("words for the outbox", move |db| words.iter().try_for_each(|w| jobs::insert_word(db, w, at_ms)))
            .await
    }

    /// What a job has said and to whom it still has to go: event id and target.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn pending_targets(&self, job: JobId) -> Result<Vec<([u8; 32], String)>, JournalError> {
        self.write("reading the outbox", move |db| {
            let mut select = db.prepare_cached(
                "SELECT w.id, t.relay FROM words w JOIN targets t ON t.word = w.id WHERE w.job = ?1 AND t.state = 'pending'",
            )?;
            select.query_map([job.as_bytes()], |r| Ok((r.get(0)?, r.get(1)?)))?.collect()
        })
        .await
    }

    /// The newest pending or failed words for `job show`: event JSON, relay, state, last message.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn words_of(&self, job: JobId) -> Result<Vec<(String, String, String, Option<String>)>, JournalError> {
        self.write("reading the outbox", move |db| {
            let mut select = db.prepare_cached(
                "SELECT w.event, t.relay, t.state, t.message FROM words w JOIN targets t ON t.word = w.id WHERE w.job = ?1 ORDER BY t.seq",
            )?;
            select.query_map([job.as_bytes()], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?)))?.collect()
        })
        .await
    }
}

fn record(db: &Connection, update: &Update) -> rusqlite::Result<()> {
    let (state, attempts, next_s, message) = match &update.next {
        Next::Retry { at_s, attempts, message } => ("pending", Some(*attempts), Some(*at_s), Some(message.as_str())),
        Next::Settled(Outcome::Done) => ("done", None, None, None),
        Next::Settled(Outcome::Refused { message }) => ("refused", None, None, Some(message.as_str())),
        Next::Settled(Outcome::Expired) => ("expired", None, None, None),
    };
    let mut set = db.prepare_cached(
        "UPDATE targets SET state = ?3, attempts = coalesce(?4, attempts + 1), next_s = coalesce(?5, next_s), message = ?6
         WHERE word = ?1 AND relay = ?2",
    )?;
    set.execute(params![update.event_id.as_bytes(), update.target.to_string(), state, attempts, next_s, message])
        .map(drop)
}

fn due(db: &Connection, target: &str, now_s: u64, limit: usize) -> rusqlite::Result<Vec<(String, u32, u64)>> {
    let mut select = db.prepare_cached(
        "SELECT w.event, t.attempts, t.deadline_s FROM targets t JOIN words w ON w.id = t.word
         WHERE t.relay = ?1 AND t.state = 'pending' AND t.next_s <= ?2 ORDER BY t.next_s, t.seq LIMIT ?3",
    )?;
    select.query_map(params![target, now_s, limit], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)))?.collect()
}

fn counts(db: &Connection) -> rusqlite::Result<BTreeMap<String, Counts>> {
    let mut select = db.prepare_cached("SELECT relay, state, count(*) FROM targets GROUP BY relay, state")?;
    let mut rows = select.query([])?;
    let mut all: BTreeMap<String, Counts> = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let counts = all.entry(row.get(0)?).or_default();
        let count = row.get(2)?;
        match row.get::<_, String>(1)?.as_str() {
            "pending" => counts.pending = count,
            "done" => counts.done = count,
            "refused" => counts.refused = count,
            _ => counts.expired = count,
        }
    }
    Ok(all)
}

fn failed(error: &JournalError) -> OutboxError {
    OutboxError(error.to_string())
}

fn parsed<T>(rows: impl IntoIterator<Item = (String, T)>) -> Vec<(Target, T)> {
    rows.into_iter().filter_map(|(target, value)| Some((target.parse().ok()?, value))).collect()
}

impl OutboxStore for Journal {
    fn schedule(&self) -> BoxedFuture<'_, Result<Vec<(Target, u64)>, OutboxError>> {
        Box::pin(async {
            let rows = self.write("reading the outbox", |db| {
                let mut select =
                    db.prepare_cached("SELECT relay, min(next_s) FROM targets WHERE state = 'pending' GROUP BY relay")?;
                select.query_map([], |r| Ok((r.get::<_, String>(0)?, r.get(1)?)))?.collect::<Result<Vec<_>, _>>()
            });
            rows.await.map(parsed).map_err(|e| failed(&e))
        })
    }

    fn due<'a>(
        &'a self,
        target: &'a Target,
        now_s: u64,
        limit: usize,
    ) -> BoxedFuture<'a, Result<Vec<Entry>, OutboxError>> {
        Box::pin(async move {
            let name = target.to_string();
            let rows = self
                .write("reading the outbox", move |db| due(db, &name, now_s, limit))
                .await
                .map_err(|e| failed(&e))?;
            let entry = |(json, attempts, deadline_s): (String, u32, u64)| {
                let event =
                    Event::from_json(json).map_err(|e| OutboxError(format!("a stored event is damaged: {e}")))?;
                Ok(Entry { event: Arc::new(event), target: target.clone(), attempts, deadline_s })
            };
            rows.into_iter().map(entry).collect()
        })
    }

    fn record(&self, updates: Vec<Update>) -> BoxedFuture<'_, Result<(), OutboxError>> {
        Box::pin(async move {
            self.write("the outbox's outcome", move |db| updates.iter().try_for_each(|u| record(db, u)))
                .await
                .map_err(|e| failed(&e))
        })
    }

    fn counts(&self) -> BoxedFuture<'_, Result<Vec<OutboxCountRow>, OutboxError>> {
        Box::pin(async { self.write("counting the outbox", counts).await.map(parsed).map_err(|e| failed(&e)) })
    }
}

type OutboxCountRow = (Target, Counts);
