//! The tables, and how an older file becomes a newer one.

use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::TruthError;

/// The schema this program writes.
pub const VERSION: i64 = 2;

/// Schema 1: without the statistics of recall.
const TABLES_1: &str = "
CREATE TABLE meta(key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE documents(number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, space TEXT NOT NULL, retired INTEGER NOT NULL DEFAULT 0);
CREATE INDEX documents_space ON documents(space);
-- The truth. `frame` is the chunk as it came, sealed; the event is made again from the columns. `state`: 0 waits for what it
-- depends on, 1 counts, 2 does not count (two changes of one actor and sequence number).
CREATE TABLE changes(
  number INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, document INTEGER NOT NULL, actor BLOB NOT NULL, seq INTEGER NOT NULL,
  hash BLOB NOT NULL, created_at INTEGER NOT NULL, signature BLOB NOT NULL, frame BLOB NOT NULL, state INTEGER NOT NULL);
CREATE INDEX changes_place ON changes(document, actor, seq);
CREATE TABLE tombstones(id BLOB PRIMARY KEY NOT NULL, space TEXT NOT NULL, signer BLOB NOT NULL, created_at INTEGER NOT NULL,
  signature BLOB NOT NULL, content TEXT NOT NULL);
-- Ids and contents that are refused from now on.
CREATE TABLE forgotten(id BLOB NOT NULL, signer BLOB NOT NULL, PRIMARY KEY(id, signer)) WITHOUT ROWID;
CREATE TABLE forgotten_marks(mark BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE erasures(id BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE quarantine(install BLOB PRIMARY KEY, document TEXT NOT NULL, actor BLOB NOT NULL, seq INTEGER NOT NULL,
  first BLOB NOT NULL, second BLOB NOT NULL, at INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE shares(space TEXT, person BLOB, PRIMARY KEY(space, person)) WITHOUT ROWID;
-- Made from the changes: what counts of the entries, and documents saved whole so that they load fast.
CREATE TABLE entries(
  row INTEGER PRIMARY KEY AUTOINCREMENT, id BLOB NOT NULL UNIQUE, change INTEGER NOT NULL, document INTEGER NOT NULL,
  space TEXT NOT NULL, kind INTEGER NOT NULL, author BLOB NOT NULL, person BLOB, created_at INTEGER NOT NULL, mark BLOB NOT NULL,
  body BLOB NOT NULL);
CREATE INDEX entries_document ON entries(document);
CREATE INDEX entries_mark ON entries(mark);
CREATE INDEX entries_person ON entries(person) WHERE person IS NOT NULL;
CREATE TABLE snapshots(document INTEGER PRIMARY KEY, upto INTEGER NOT NULL, bytes INTEGER NOT NULL, body BLOB NOT NULL);
";

/// Schema 2: how often and when an entry was recalled here, never synced; and which entry a change puts, for an entry that was moved may
/// lie in several documents.
const TABLES_2: &str = "
ALTER TABLE changes ADD COLUMN entry BLOB;
CREATE INDEX changes_entry ON changes(entry) WHERE entry IS NOT NULL;
CREATE TABLE recalls(id BLOB PRIMARY KEY NOT NULL, times INTEGER NOT NULL, last INTEGER NOT NULL) WITHOUT ROWID;
";

/// An older file that was brought to [`VERSION`].
pub(super) struct Upgraded {
    /// The copy that was made before.
    pub backup: PathBuf,
}

/// Brings an empty or older file to [`VERSION`]; an older one is copied beside itself first. `fill` makes what newer columns hold of what
/// was there, in the same transaction.
pub(super) fn migrate(
    connection: &Connection,
    path: &Path,
    fill: impl FnOnce(&Connection) -> Result<(), TruthError>,
) -> Result<Option<Upgraded>, TruthError> {
    let failed = |source| TruthError::Database { doing: "to make its tables", source };
    let found: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(failed)?;
    let steps = match found {
        VERSION => return Ok(None),
        0 => format!("{TABLES_1}{TABLES_2}"),
        1 => TABLES_2.to_owned(),
        newer => return Err(TruthError::Newer { found: newer, path: path.to_owned() }),
    };
    let upgraded = if found == 0 { None } else { Some(Upgraded { backup: back_up(connection, path, found)? }) };
    connection.execute_batch(&format!("BEGIN; {steps} PRAGMA user_version = {VERSION};")).map_err(failed)?;
    let filled = if upgraded.is_some() { fill(connection) } else { Ok(()) };
    connection.execute_batch(if filled.is_ok() { "COMMIT" } else { "ROLLBACK" }).map_err(failed)?;
    filled.map(|()| upgraded)
}

/// Copies the whole store (also what still lies in the WAL) to `….schema-<n>.bak`, readable by its owner alone.
fn back_up(connection: &Connection, path: &Path, found: i64) -> Result<PathBuf, TruthError> {
    let target = path.with_extension(format!("schema-{found}.bak"));
    let failed = |source| TruthError::Database { doing: "to copy itself before the upgrade", source };
    if target.exists() {
        std::fs::remove_file(&target).map_err(|source| TruthError::File { path: target.clone(), source })?;
    }
    let name = target.to_string_lossy().into_owned();
    connection.execute("VACUUM INTO ?1", [name]).map_err(failed)?;
    super::files::private(&target)?;
    Ok(target)
}
