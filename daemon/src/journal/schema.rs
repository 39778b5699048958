//! The tables, and how an older file becomes a newer one.

use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::JournalError;

/// The schema this program writes.
pub const VERSION: i64 = 4;

/// Schema 1. Tables with long rows are kept in the order of writing, and only their small indices in the order of their random ids: a
/// round of the desk then writes few pages. Keyed by id themselves, each job rewrote pages all over the file.
const TABLES_1: &str = "
CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
-- A job: what is asked and where it stands. `done` = nothing more will happen.
CREATE TABLE jobs(
  id BLOB PRIMARY KEY NOT NULL, kind INTEGER NOT NULL, customer TEXT, order_json TEXT NOT NULL, state TEXT NOT NULL,
  done INTEGER NOT NULL, created_ms INTEGER NOT NULL, updated_ms INTEGER NOT NULL);
CREATE INDEX jobs_open ON jobs(created_ms) WHERE done = 0;
CREATE INDEX jobs_recent ON jobs(created_ms);
-- What happened to it, in order; replayed, it gives the same effects.
CREATE TABLE inputs(job BLOB NOT NULL, step INTEGER NOT NULL, at_ms INTEGER NOT NULL, input TEXT NOT NULL,
  PRIMARY KEY(job, step));
-- Events that must be opened (decrypted) before they mean anything, and those seen lately.
CREATE TABLE inbox(id BLOB PRIMARY KEY NOT NULL, event TEXT NOT NULL, came_by TEXT, at_ms INTEGER NOT NULL);
CREATE TABLE seen(id BLOB PRIMARY KEY, at_ms INTEGER NOT NULL) WITHOUT ROWID;
-- Requests taken back before they came.
CREATE TABLE withdrawn(request BLOB, author TEXT, at_ms INTEGER NOT NULL, PRIMARY KEY(request, author)) WITHOUT ROWID;
-- What is signed and still has to reach relays.
CREATE TABLE words(id BLOB PRIMARY KEY NOT NULL, job BLOB, event TEXT NOT NULL, created_ms INTEGER NOT NULL);
CREATE INDEX words_job ON words(job);
CREATE TABLE targets(
  seq INTEGER PRIMARY KEY AUTOINCREMENT, word BLOB NOT NULL, relay TEXT NOT NULL, state TEXT NOT NULL, attempts INTEGER NOT NULL,
  next_s INTEGER NOT NULL, deadline_s INTEGER NOT NULL, message TEXT, UNIQUE(word, relay));
CREATE INDEX targets_due ON targets(relay, next_s) WHERE state = 'pending';
CREATE TABLE cursors(relay TEXT, subscription TEXT, unix_s INTEGER NOT NULL, PRIMARY KEY(relay, subscription)) WITHOUT ROWID;
CREATE TABLE budget(day INTEGER, model TEXT, tokens INTEGER NOT NULL, PRIMARY KEY(day, model)) WITHOUT ROWID;
-- Strangers who got their one line of today.
CREATE TABLE greeted(person TEXT PRIMARY KEY, at_ms INTEGER NOT NULL) WITHOUT ROWID;
";

/// Schema 2: what the federation keeps, by shelf (membership entries, peer cards, keys, invitations, envelopes that wait), in the order in
/// which the keys first came. Secret values are sealed.
const TABLES_2: &str = "
CREATE TABLE shelves(number INTEGER PRIMARY KEY AUTOINCREMENT, shelf TEXT NOT NULL, key BLOB NOT NULL, value BLOB NOT NULL,
  UNIQUE(shelf, key));
";

/// Schema 3: a person's talk is found by its newest turns. 14 is the kind of talks.
const TABLES_3: &str = "CREATE INDEX jobs_talk ON jobs(customer, created_ms) WHERE kind = 14;";

/// Schema 4: calls of tools that wait for a yes, by their code.
const TABLES_4: &str =
    "CREATE TABLE approvals(code TEXT PRIMARY KEY, approval TEXT NOT NULL, message TEXT) WITHOUT ROWID;";

/// What each schema added to the one before it.
const STEPS: [&str; 4] = [TABLES_1, TABLES_2, TABLES_3, TABLES_4];

/// Brings an empty or older file to [`VERSION`]; an older one is copied beside itself first.
pub(super) fn migrate(connection: &Connection, path: &Path) -> Result<(), JournalError> {
    let failed = |source| JournalError::Database { doing: "to make its tables", source };
    let found: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(failed)?;
    let done = match usize::try_from(found) {
        Ok(done) if done <= STEPS.len() => done,
        Ok(_) | Err(_) => return Err(JournalError::Newer { found, path: path.to_owned() }),
    };
    if done == STEPS.len() {
        return Ok(());
    }
    if done > 0 {
        let copy = back_up(connection, path, found).map_err(failed)?;
        tracing::info!(backup = %copy.display(), "the journal is brought to a newer schema; the older one is kept");
    }
    let steps = STEPS.get(done..).unwrap_or_default().concat();
    connection.execute_batch(&format!("BEGIN; {steps} PRAGMA user_version = {VERSION}; COMMIT")).map_err(failed)
}

/// Copies the whole journal (also what still lies in the WAL) to `….schema-<n>.bak`, readable by its owner alone.
fn back_up(connection: &Connection, path: &Path, found: i64) -> rusqlite::Result<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let target = path.with_extension(format!("schema-{found}.bak"));
    let refused = |error: std::io::Error| rusqlite::Error::ToSqlConversionFailure(Box::new(error));
    if target.exists() {
        std::fs::remove_file(&target).map_err(refused)?;
    }
    connection.execute("VACUUM INTO ?1", [target.to_string_lossy()])?;
    std::fs::set_permissions(&target, std::fs::Permissions::from_mode(0o600)).map_err(refused)?;
    Ok(target)
}
