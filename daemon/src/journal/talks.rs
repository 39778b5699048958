//! What was said before in a person's talk: read from the jobs themselves, so that what is forgotten there is forgotten here.

use bots::Turn;
use nips::job::{Input, JobId};
use rusqlite::params;

use super::{Journal, JournalError, now_ms};
use crate::desk::order::{Order, Work};

/// The kind of talks, as the index knows it.
const TALK_KIND: u16 = 14;

impl Journal {
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

fn turn(order: &str, input: &str) -> Option<Turn> {
    let Work::Talk { text, file } = serde_json::from_str::<Order>(order).ok()?.work else { return None };
    let read = file.and_then(|file| {
        let content = file.content?;
        Some(if file.is_voice { content } else { format!("[{}]\n{content}", file.name) })
    });
    let said =
        [Some(text), read].into_iter().flatten().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n\n");
    let Input::Produced { output: answered, model, .. } = serde_json::from_str(input).ok()? else { return None };
    Some(Turn { said, answered, model })
}
