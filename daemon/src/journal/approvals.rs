//! Calls of tools that wait for a person's yes.

use bots::talk::{Approval, Means, Refusal, Reply};
use rusqlite::{OptionalExtension, params};

use super::{Journal, JournalError, now_ms};

/// An answer to a proposal.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The code of the proposal.
    pub code: String,
    /// Yes or no.
    pub reply: Reply,
    /// Who says so.
    pub person: String,
    /// The message that says so.
    pub order: String,
    /// By what.
    pub means: Means,
}

impl Journal {
    /// Keeps a proposal. One of the same message stands in the place of an earlier one, which nobody has seen.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn propose(&self, approval: Approval) -> Result<(), JournalError> {
        self.write("a proposal", move |db| {
            let now_s = now_ms() / 1000;
            let mut over = Vec::new();
            let mut select = db.prepare_cached("SELECT code, approval FROM approvals")?;
            let mut rows = select.query([])?;
            while let Some(row) = rows.next()? {
                let (code, json): (String, String) = (row.get(0)?, row.get(1)?);
                if serde_json::from_str::<Approval>(&json).map_or(true, |one| one.is_over(now_s)) {
                    over.push(code);
                }
            }
            for code in over {
                db.prepare_cached("DELETE FROM approvals WHERE code = ?1")?.execute([code])?;
            }
            let json = serde_json::to_string(&approval).unwrap_or_default();
            let mut insert = db.prepare_cached("INSERT OR REPLACE INTO approvals(code, approval) VALUES (?1, ?2)")?;
            insert.execute(params![approval.code, json]).map(drop)
        })
        .await
    }

    /// Notes in which message a proposal was made: a mark on it answers it.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn name_proposal(&self, code: String, message: String) -> Result<(), JournalError> {
        self.write("where a proposal stands", move |db| {
            db.execute("UPDATE approvals SET message = ?2 WHERE code = ?1", params![code, message]).map(drop)
        })
        .await
    }

    /// The code of the proposal that a message makes.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn proposal_in(&self, message: String) -> Result<Option<String>, JournalError> {
        self.write("reading a proposal", move |db| {
            let mut select = db.prepare_cached("SELECT code FROM approvals WHERE message = ?1")?;
            select.query_row([message], |row| row.get(0)).optional()
        })
        .await
    }

    /// Takes the answer to a proposal. A yes that is taken is on disk when this returns: the call is made after it, and by no other.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn answer_proposal(&self, answer: Answer) -> Result<Result<Approval, Refusal>, JournalError> {
        self.write("the answer to a proposal", move |db| {
            let mut select = db.prepare_cached("SELECT approval FROM approvals WHERE code = ?1")?;
            let json: Option<String> = select.query_row([&answer.code], |row| row.get(0)).optional()?;
            let Some(mut approval) = json.and_then(|json| serde_json::from_str::<Approval>(&json).ok()) else {
                return Ok(Err(Refusal::Unknown));
            };
            let Answer { reply, person, order, means, .. } = &answer;
            if let Err(refusal) = approval.answer(reply, person, order, *means, now_ms() / 1000) {
                return Ok(Err(refusal));
            }
            let json = serde_json::to_string(&approval).unwrap_or_default();
            db.prepare_cached("UPDATE approvals SET approval = ?2 WHERE code = ?1")?
                .execute(params![answer.code, json])?;
            Ok(Ok(approval))
        })
        .await
    }
}
