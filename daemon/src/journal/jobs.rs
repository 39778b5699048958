//! Jobs and what happened to them.

use std::collections::{BTreeMap, BTreeSet};

use nips::job::{Input, JobId};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{Journal, JournalError, OWNER_KEY};

/// A job as it is written down first.
#[derive(Debug, Clone)]
pub struct NewJob {
    /// Its id.
    pub id: JobId,
    /// Job kind; 14 for a conversation.
    pub kind: u16,
    /// Who asks, hex.
    pub customer: Option<String>,
    /// The order as JSON.
    pub order: String,
    /// Unix ms.
    pub at_ms: u64,
}

/// One input of a job's machine.
#[derive(Debug, Clone)]
pub struct Step {
    /// Whose.
    pub job: JobId,
    /// Counts from 0.
    pub step: u32,
    /// Unix ms.
    pub at_ms: u64,
    /// What happened.
    pub input: Input,
    /// Where the job stands afterwards.
    pub state: &'static str,
    /// Nothing more will happen.
    pub done: bool,
}

/// A signed event that has to reach relays.
#[derive(Debug, Clone)]
pub struct Word {
    /// Event id.
    pub id: [u8; 32],
    /// The job that says it; none for identity documents.
    pub job: Option<JobId>,
    /// The event's JSON.
    pub event: String,
    /// Relay and deadline (Unix seconds).
    pub targets: Vec<(String, u64)>,
}

/// An event that must be opened before it means anything.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// Event id.
    pub id: [u8; 32],
    /// The event's JSON.
    pub event: String,
    /// The outside relay it came by.
    pub came_by: Option<String>,
}

/// An arrival that has been opened, or dropped.
#[derive(Debug, Clone)]
pub struct Opened(pub [u8; 32]);

/// Everything that one round of the desk writes, in one transaction.
#[derive(Debug, Clone, Default)]
pub struct Stamp {
    /// Unix ms.
    pub at_ms: u64,
    /// New jobs.
    pub jobs: Vec<NewJob>,
    /// Inputs.
    pub steps: Vec<Step>,
    /// Signed events for the outbox.
    pub words: Vec<Word>,
    /// Events to be opened.
    pub arrivals: Vec<Arrival>,
    /// Events that were opened.
    pub opened: Vec<Opened>,
    /// Requests taken back before they came: request id, author.
    pub withdrawn: Vec<([u8; 32], String)>,
    /// Strangers greeted.
    pub greeted: Vec<String>,
    /// How far the embedded relay's events have been taken in.
    pub relay_sequence: Option<u64>,
    /// Who claimed the node, hex.
    pub owner: Option<String>,
}

impl Stamp {
    /// True when there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty()
            && self.steps.is_empty()
            && self.words.is_empty()
            && self.arrivals.is_empty()
            && self.opened.is_empty()
            && self.withdrawn.is_empty()
            && self.greeted.is_empty()
            && self.relay_sequence.is_none()
            && self.owner.is_none()
    }
}

/// A job as `job list` shows it.
#[derive(Debug, Clone)]
pub struct JobRow {
    /// Its id.
    pub id: JobId,
    /// Job kind.
    pub kind: u16,
    /// Who asks, hex.
    pub customer: Option<String>,
    /// The order as JSON.
    pub order: String,
    /// Where it stands.
    pub state: String,
    /// Unix ms.
    pub created_ms: u64,
    /// Unix ms.
    pub updated_ms: u64,
}

const COLUMNS: &str = "id, kind, customer, order_json, state, created_ms, updated_ms";

fn row(row: &Row<'_>) -> rusqlite::Result<JobRow> {
    Ok(JobRow {
        id: JobId::from_bytes(row.get(0)?),
        kind: row.get(1)?,
        customer: row.get(2)?,
        order: row.get(3)?,
        state: row.get(4)?,
        created_ms: row.get(5)?,
        updated_ms: row.get(6)?,
    })
}

fn inputs(db: &Connection, id: &JobId) -> rusqlite::Result<Vec<(u64, Input)>> {
    let mut select = db.prepare_cached("SELECT at_ms, input FROM inputs WHERE job = ?1 ORDER BY step")?;
    let rows = select.query_map([id.as_bytes()], |r| Ok((r.get(0)?, r.get::<_, String>(1)?)))?;
    rows.map(|r| {
        let (at, json) = r?;
        let input = serde_json::from_str(&json)
            .map_err(|e| rusqlite::Error::FromSqlConversionFailure(1, rusqlite::types::Type::Text, Box::new(e)))?;
        Ok((at, input))
    })
    .collect()
}

/// Idempotent: a round whose outcome was not seen is written again.
fn stamp(db: &Connection, stamp: &Stamp) -> rusqlite::Result<()> {
    for job in &stamp.jobs {
        db.prepare_cached("INSERT OR IGNORE INTO jobs VALUES (?1, ?2, ?3, ?4, 'new', 0, ?5, ?5)")?.execute(params![
            job.id.as_bytes(),
            job.kind,
            job.customer,
            job.order,
            job.at_ms
        ])?;
    }
    for s in &stamp.steps {
        let json = serde_json::to_string(&s.input).unwrap_or_default();
        db.prepare_cached("INSERT OR REPLACE INTO inputs VALUES (?1, ?2, ?3, ?4)")?.execute(params![
            s.job.as_bytes(),
            s.step,
            s.at_ms,
            json
        ])?;
    }
    // One update a job and round, with the last state.
    let last: BTreeMap<&JobId, &Step> = stamp.steps.iter().map(|s| (&s.job, s)).collect();
    for (id, s) in last {
        db.prepare_cached("UPDATE jobs SET state = ?2, done = ?3, updated_ms = ?4 WHERE id = ?1")?.execute(params![
            id.as_bytes(),
            s.state,
            s.done,
            s.at_ms
        ])?;
        if s.done {
            super::told::forget(db, id)?;
        }
    }
    for word in &stamp.words {
        insert_word(db, word, stamp.at_ms)?;
    }
    stamp_inbox(db, stamp)?;
    if let Some(sequence) = stamp.relay_sequence {
        set_meta(db, "relay_sequence", &sequence.to_string())?;
    }
    if let Some(owner) = &stamp.owner {
        set_meta(db, OWNER_KEY, owner)?;
    }
    Ok(())
}

fn stamp_inbox(db: &Connection, stamp: &Stamp) -> rusqlite::Result<()> {
    for a in &stamp.arrivals {
        db.prepare_cached("INSERT OR IGNORE INTO inbox VALUES (?1, ?2, ?3, ?4)")?.execute(params![
            a.id,
            a.event,
            a.came_by,
            stamp.at_ms
        ])?;
        db.prepare_cached("INSERT OR IGNORE INTO seen VALUES (?1, ?2)")?.execute(params![a.id, stamp.at_ms])?;
    }
    for Opened(id) in &stamp.opened {
        db.prepare_cached("DELETE FROM inbox WHERE id = ?1")?.execute([id])?;
    }
    for (request, author) in &stamp.withdrawn {
        db.prepare_cached("INSERT OR IGNORE INTO withdrawn VALUES (?1, ?2, ?3)")?.execute(params![
            request,
            author,
            stamp.at_ms
        ])?;
    }
    for person in &stamp.greeted {
        db.prepare_cached("INSERT OR REPLACE INTO greeted VALUES (?1, ?2)")?.execute(params![person, stamp.at_ms])?;
    }
    Ok(())
}

pub(super) fn insert_word(db: &Connection, word: &Word, at_ms: u64) -> rusqlite::Result<()> {
    db.prepare_cached("INSERT OR IGNORE INTO words VALUES (?1, ?2, ?3, ?4)")?.execute(params![
        word.id,
        word.job.map(|j| *j.as_bytes()),
        word.event,
        at_ms
    ])?;
    for (relay, deadline_s) in &word.targets {
        db.prepare_cached("INSERT OR IGNORE INTO targets(word, relay, state, attempts, next_s, deadline_s) VALUES (?1, ?2, 'pending', 0, ?3, ?4)")?.execute(params![
            word.id,
            relay,
            at_ms / 1000,
            deadline_s
        ])?;
    }
    Ok(())
}

pub(super) fn set_meta(db: &Connection, key: &str, value: &str) -> rusqlite::Result<()> {
    db.prepare_cached("INSERT OR REPLACE INTO meta VALUES (?1, ?2)")?.execute([key, value]).map(drop)
}

impl Journal {
    /// Writes one round of the desk.
    ///
    /// # Errors
    /// When the disk refuses; then nothing of the round has happened and it may be tried again.
    pub async fn stamp(&self, round: Stamp) -> Result<(), JournalError> {
        self.write("a round of the desk", move |db| stamp(db, &round)).await
    }

    /// Which of `ids` are jobs, or events that were taken in before.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn known(&self, ids: Vec<[u8; 32]>) -> Result<BTreeSet<[u8; 32]>, JournalError> {
        self.write("a look-up", move |db| {
            let mut select = db.prepare_cached(
                "SELECT EXISTS(SELECT 1 FROM jobs WHERE id = ?1) OR EXISTS(SELECT 1 FROM seen WHERE id = ?1)",
            )?;
            let mut known = BTreeSet::new();
            for id in ids {
                if select.query_row([id], |r| r.get::<_, bool>(0))? {
                    known.insert(id);
                }
            }
            Ok(known)
        })
        .await
    }

    /// Which of these (request, author) pairs were taken back before they came.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn withdrawn(&self, pairs: Vec<([u8; 32], String)>) -> Result<BTreeSet<[u8; 32]>, JournalError> {
        self.write("a look-up", move |db| {
            let mut select =
                db.prepare_cached("SELECT EXISTS(SELECT 1 FROM withdrawn WHERE request = ?1 AND author = ?2)")?;
            let mut found = BTreeSet::new();
            for (id, author) in pairs {
                if select.query_row(params![id, author], |r| r.get::<_, bool>(0))? {
                    found.insert(id);
                }
            }
            Ok(found)
        })
        .await
    }

    /// Unfinished jobs, oldest first, each with its inputs.
    ///
    /// # Errors
    /// When the database refuses or an input cannot be read.
    pub async fn open_jobs(&self) -> Result<Vec<(JobRow, Vec<(u64, Input)>)>, JournalError> {
        self.write("reading open jobs", |db| {
            let mut select = db.prepare(&format!("SELECT {COLUMNS} FROM jobs WHERE done = 0 ORDER BY created_ms"))?;
            let rows: Vec<JobRow> = select.query_map([], row)?.collect::<Result<_, _>>()?;
            rows.into_iter().map(|r| inputs(db, &r.id).map(|i| (r, i))).collect()
        })
        .await
    }

    /// The newest `limit` jobs, newest first.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn jobs(&self, limit: u32) -> Result<Vec<JobRow>, JournalError> {
        self.write("reading jobs", move |db| {
            let mut select = db.prepare(&format!("SELECT {COLUMNS} FROM jobs ORDER BY created_ms DESC LIMIT ?1"))?;
            select.query_map([limit], row)?.collect()
        })
        .await
    }

    /// One job with its inputs.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn job(&self, id: JobId) -> Result<Option<(JobRow, Vec<(u64, Input)>)>, JournalError> {
        self.write("reading a job", move |db| {
            let found =
                db.query_row(&format!("SELECT {COLUMNS} FROM jobs WHERE id = ?1"), [id.as_bytes()], row).optional()?;
            found.map(|r| inputs(db, &id).map(|i| (r, i))).transpose()
        })
        .await
    }

    /// Events that still have to be opened, oldest first.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn inbox(&self) -> Result<Vec<Arrival>, JournalError> {
        self.write("reading the inbox", |db| {
            let mut select = db.prepare("SELECT id, event, came_by FROM inbox ORDER BY at_ms")?;
            select.query_map([], |r| Ok(Arrival { id: r.get(0)?, event: r.get(1)?, came_by: r.get(2)? }))?.collect()
        })
        .await
    }

    /// Strangers who were greeted, hex, and when, Unix ms.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn greeted(&self) -> Result<Vec<(nostr::PublicKey, u64)>, JournalError> {
        self.write("reading who was greeted", |db| {
            let mut select = db.prepare("SELECT person, at_ms FROM greeted")?;
            let rows = select.query_map([], |r| Ok((r.get::<_, String>(0)?, r.get(1)?)))?;
            let rows: Vec<(String, u64)> = rows.collect::<Result<_, _>>()?;
            Ok(rows.into_iter().filter_map(|(key, at)| Some((nostr::PublicKey::from_hex(&key).ok()?, at))).collect())
        })
        .await
    }

    /// How many jobs stand where.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn job_counts(&self) -> Result<BTreeMap<String, u64>, JournalError> {
        self.write("counting jobs", |db| {
            let mut select = db.prepare_cached("SELECT state, count(*) FROM jobs GROUP BY state")?;
            select.query_map([], |r| Ok((r.get(0)?, r.get(1)?)))?.collect()
        })
        .await
    }

    /// Remembers that these requests are answered already: a restored journal learns it from its own results.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn mark_answered(&self, ids: Vec<[u8; 32]>, at_ms: u64) -> Result<(), JournalError> {
        self.write("noting answers", move |db| {
            let mut insert = db.prepare_cached("INSERT OR IGNORE INTO seen VALUES (?1, ?2)")?;
            ids.iter().try_for_each(|id| insert.execute(params![id, at_ms]).map(drop))
        })
        .await
    }

    /// A value kept under a name.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn meta(&self, key: &str) -> Result<Option<String>, JournalError> {
        let key = key.to_owned();
        self.write("a look-up", move |db| {
            db.query_row("SELECT value FROM meta WHERE key = ?1", [key], |r| r.get(0)).optional()
        })
        .await
    }

    /// Keeps a value under a name.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn set_meta(&self, key: &str, value: String) -> Result<(), JournalError> {
        let key = key.to_owned();
        self.write("keeping a value", move |db| set_meta(db, &key, &value)).await
    }

    /// Drops what nobody asks for any more: finished jobs, sent words and memories of events from before `before_ms`.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn prune(&self, before_ms: u64) -> Result<usize, JournalError> {
        self.write("pruning", move |db| {
            db.execute("DELETE FROM inputs WHERE job IN (SELECT id FROM jobs WHERE done = 1 AND created_ms < ?1)", [before_ms])?;
            let jobs = db.execute("DELETE FROM jobs WHERE done = 1 AND created_ms < ?1", [before_ms])?;
            let spoken = "SELECT w.id FROM words w WHERE w.created_ms < ?1 AND NOT EXISTS(SELECT 1 FROM targets t WHERE t.word = w.id AND t.state = 'pending')";
            db.execute(&format!("DELETE FROM targets WHERE word IN ({spoken})"), [before_ms])?;
            db.execute("DELETE FROM words WHERE created_ms < ?1 AND id NOT IN (SELECT word FROM targets)", [before_ms])?;
            db.execute("DELETE FROM seen WHERE at_ms < ?1", [before_ms])?;
            db.execute("DELETE FROM withdrawn WHERE at_ms < ?1", [before_ms])?;
            db.execute("DELETE FROM greeted WHERE at_ms < ?1", [before_ms])?;
            Ok(jobs)
        })
        .await
    }

    /// Drops talks that were to vanish and whose time is over (NIP-40), with what was answered. That they were there stays known, so that
    /// a relay that brings one again gets no second answer.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn prune_vanished(&self, at_ms: u64) -> Result<usize, JournalError> {
        self.write("dropping what was to vanish", move |db| {
            let mut select = db.prepare_cached(
                "SELECT id FROM jobs WHERE kind = 14 AND done = 1
                 AND created_ms + 1000 * json_extract(order_json, '$.origin.lasts_s') <= ?1",
            )?;
            let over: Vec<Vec<u8>> = select.query_map([at_ms], |row| row.get(0))?.collect::<Result<_, _>>()?;
            for id in &over {
                db.execute("INSERT OR IGNORE INTO seen VALUES (?1, ?2)", params![id, at_ms])?;
                db.execute("DELETE FROM targets WHERE word IN (SELECT id FROM words WHERE job = ?1)", [id])?;
                db.execute("DELETE FROM words WHERE job = ?1", [id])?;
                db.execute("DELETE FROM inputs WHERE job = ?1", [id])?;
                db.execute("DELETE FROM jobs WHERE id = ?1", [id])?;
            }
            Ok(over.len())
        })
        .await
    }
}
