//! What was said before in a person's talk: read from the jobs themselves, so that what is forgotten there is forgotten here.

use bots::Turn;
use bots::tools::fenced;
use nips::Audience;
use nips::job::{Input, JobId};
use rusqlite::params;

use super::{Journal, JournalError, now_ms};
use crate::desk::order::{Order, Origin, Work};

/// The kind of talks, as the index knows it.
const TALK_KIND: u16 = 14;

/// A turn of a talk, with what decides how long it is kept.
#[derive(Debug, Clone)]
pub struct PastTurn {
    /// What was said.
    pub turn: Turn,
    /// When, Unix ms.
    pub at_ms: u64,
    /// To whom the answer went.
    pub audience: Audience,
    /// It was sent to vanish after a time (NIP-40).
    pub vanishes: bool,
}

/// Turns of one person that are read at once.
const AT_ONCE: usize = 64;

impl Journal {
    /// How many messages of a person came after `after_ms`, and when the oldest of them did, Unix ms.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn talk_size(&self, person: String, after_ms: u64) -> Result<(usize, u64), JournalError> {
        self.write("counting a talk", move |db| {
            let mut select = db.prepare_cached(&format!(
                "SELECT COUNT(*), COALESCE(MIN(created_ms), 0) FROM jobs
                 WHERE kind = {TALK_KIND} AND customer = ?1 AND created_ms > ?2"
            ))?;
            select.query_row(params![person, after_ms], |row| Ok((row.get(0)?, row.get(1)?)))
        })
        .await
    }

    /// The oldest answered turns of a person's talk that came after `after_ms`, oldest first.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn turns_after(&self, person: String, after_ms: u64) -> Result<Vec<PastTurn>, JournalError> {
        let rows: Vec<(String, String, u64)> = self
            .write("reading a talk", move |db| {
                let mut select = db.prepare_cached(&format!(
                    "SELECT j.order_json, i.input, j.created_ms FROM jobs j JOIN inputs i ON i.job = j.id
                     WHERE j.kind = {TALK_KIND} AND j.customer = ?1 AND j.created_ms > ?2
                       AND i.input LIKE '%\"output\"%' ORDER BY j.created_ms, j.rowid LIMIT {AT_ONCE}"
                ))?;
                let rows = select.query_map(params![person, after_ms], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)))?;
                rows.collect()
            })
            .await?;
        Ok(rows.iter().filter_map(|(order, input, at_ms)| past(order, input, *at_ms)).collect())
    }

    /// The newest answered turns of a person's talk, oldest first: at most `limit`, none older than `within_ms`, and not `but`.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn turns(
        &self,
        person: String,
        but: JobId,
        within_ms: u64,
        limit: u32,
    ) -> Result<Vec<Turn>, JournalError> {
        let since_ms = now_ms().saturating_sub(within_ms);
        let rows: Vec<(String, String)> = self
            .write("reading a talk", move |db| {
                let mut select = db.prepare_cached(&format!(
                    "SELECT j.order_json, i.input FROM jobs j JOIN inputs i ON i.job = j.id
                     WHERE j.kind = {TALK_KIND} AND j.customer = ?1 AND j.created_ms >= ?2 AND j.id <> ?3
                       AND i.input LIKE '%\"output\"%' ORDER BY j.created_ms DESC, j.rowid DESC LIMIT ?4"
                ))?;
                let rows = select
                    .query_map(params![person, since_ms, but.as_bytes(), limit], |r| Ok((r.get(0)?, r.get(1)?)))?;
                rows.collect()
            })
            .await?;
        Ok(rows.iter().rev().filter_map(|(order, input)| turn(order, input)).collect())
    }

    /// What was said under one name was said by another.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn rename_person(&self, from: String, to: String) -> Result<(), JournalError> {
        self.write("linking two accounts", move |db| {
            db.execute("UPDATE jobs SET customer = ?2 WHERE kind = 14 AND customer = ?1", params![from, to]).map(drop)
        })
        .await
    }

    /// Writes an order anew: what was sent with it has been read.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn rewrite_order(&self, order: &Order) -> Result<(), JournalError> {
        let (id, json) = (order.id, serde_json::to_string(order).unwrap_or_default());
        self.write("what a file says", move |db| {
            db.execute("UPDATE jobs SET order_json = ?2 WHERE id = ?1", params![id.as_bytes(), json]).map(drop)
        })
        .await
    }
}

fn past(order: &str, input: &str, at_ms: u64) -> Option<PastTurn> {
    let turn = turn(order, input)?;
    let order: Order = serde_json::from_str(order).ok()?;
    let vanishes = matches!(order.origin, Origin::Message { lasts_s: Some(_), .. });
    Some(PastTurn { turn, at_ms, audience: order.audience, vanishes })
}

fn turn(order: &str, input: &str) -> Option<Turn> {
    let Work::Talk { text, file } = serde_json::from_str::<Order>(order).ok()?.work else { return None };
    // What is spoken is said; what a file holds is shown.
    let (said, shown) = match file.as_deref() {
        Some(file) if file.is_voice => (file.content.clone().unwrap_or(text), None),
        Some(file) => (text, file.content.as_deref().map(|content| fenced(&file.name, content))),
        None => (text, None),
    };
    let Input::Produced { output: answered, model, .. } = serde_json::from_str(input).ok()? else { return None };
    Some(Turn { said, shown, answered, model })
}
