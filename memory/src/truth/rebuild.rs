//! Opening the store, setting a damaged one aside, and checking that what is made from the changes fits them.

use std::path::{Path, PathBuf};

use automerge::ReadDoc;
use nips::memory::DocumentId;
use nostr::Event;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, params};

use super::event::{COLUMNS, Stored};
use super::{Seal, Truth, TruthError, files, schema};

/// What the key of the store must open.
const KEY_CHECK: &[u8] = b"timmy memory";
/// Fewest bytes that a change takes in the file; only bounds the search when the file no longer tells its last number.
const CHANGE_BYTES: u64 = 200;
/// Events that are taken over at once.
const BATCH: usize = 1_000;

/// What was done with a damaged store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Salvage {
    /// Where it lies now.
    pub aside: PathBuf,
    /// Events that could be read and were taken over.
    pub kept: usize,
    /// Events that could not.
    pub lost: usize,
}

/// Opens or makes the store; a damaged one is renamed, and a new one made in its place.
pub(super) fn open(path: &Path, seal: &Seal) -> Result<(Connection, Option<PathBuf>), TruthError> {
    match try_open(path, seal) {
        Ok(connection) => Ok((connection, None)),
        Err(TruthError::Database { source, .. }) if is_damage(&source) => {
            let aside = files::set_aside(path)?;
            tracing::warn!(file = %aside.display(), "the memory is damaged; it is set aside, and what can be read of it is taken over");
            Ok((try_open(path, seal)?, Some(aside)))
        }
        Err(error) => Err(error),
    }
}

fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

fn try_open(path: &Path, seal: &Seal) -> Result<Connection, TruthError> {
    let failed = |source| TruthError::Database { doing: "to open", source };
    let connection = connect(path).map_err(failed)?;
    files::private(path)?;
    let verdict: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(failed)?;
    if verdict != "ok" {
        return Err(failed(corrupt(&verdict)));
    }
    let fill = |connection: &Connection| {
        check_key(connection, seal, path)?;
        name_entries(connection, seal)
    };
    if let Some(upgraded) = schema::migrate(&connection, path, fill)? {
        tracing::info!(backup = %upgraded.backup.display(), "the memory was brought to a newer schema; the older one is kept");
    }
    check_key(&connection, seal, path)?;
    Ok(connection)
}

/// Notes which entry each change of a shard puts (schema 2).
fn name_entries(connection: &Connection, seal: &Seal) -> Result<(), TruthError> {
    let mut found = connection.prepare(&format!(
        "SELECT {COLUMNS} FROM changes c JOIN documents d ON d.number = c.document WHERE d.name LIKE '%/shard/%'"
    ))?;
    let mut note = connection.prepare("UPDATE changes SET entry = ?2 WHERE number = ?1")?;
    let mut rows = found.query([])?;
    while let Some(row) = rows.next()? {
        let stored = Stored::read(row, seal)?;
        if let Some(entry) = super::entry_in(&stored.change()?, stored.document.space()) {
            note.execute(params![stored.number, entry.id.as_bytes()])?;
        }
    }
    Ok(())
}

fn corrupt(why: &str) -> rusqlite::Error {
    let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
    rusqlite::Error::SqliteFailure(code, Some(why.to_owned()))
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    connection.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA cache_size = -8000;
         PRAGMA journal_size_limit = 16777216; PRAGMA secure_delete = ON; PRAGMA temp_store = MEMORY;",
    )?;
    connection.set_prepared_statement_cache_capacity(96);
    Ok(connection)
}

fn check_key(connection: &Connection, seal: &Seal, path: &Path) -> Result<(), TruthError> {
    match opens(connection, seal)? {
        Some(true) => Ok(()),
        Some(false) => Err(TruthError::Key { path: path.to_owned() }),
        None => {
            let sealed = seal.close(b"seal", KEY_CHECK);
            connection.execute("INSERT INTO meta(key, value) VALUES('seal', ?1)", params![sealed])?;
            Ok(())
        }
    }
}

/// True when the store is sealed under this key; none when nothing was sealed yet.
pub(super) fn opens(connection: &Connection, seal: &Seal) -> Result<Option<bool>, TruthError> {
    let found: Option<Vec<u8>> =
        connection.query_row("SELECT value FROM meta WHERE key = 'seal'", [], |row| row.get(0)).optional()?;
    Ok(found.map(|sealed| seal.open(b"seal", &sealed).as_deref() == Some(KEY_CHECK)))
}

/// What of the truth and what is made from it was compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Check {
    /// Documents that load.
    pub documents: usize,
    /// Entries that their documents hold.
    pub entries: usize,
    /// Documents that lack changes which others depend on: a damaged store had them, and peers may still.
    pub incomplete: usize,
}

impl Truth {
    /// Takes over what can be read of a store that was set aside. Each event proves itself by its signature.
    pub(super) fn salvage(&mut self, aside: PathBuf) -> Result<Salvage, TruthError> {
        let mut salvage = Salvage { aside, kept: 0, lost: 0 };
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let Ok(old) = Connection::open_with_flags(&salvage.aside, flags) else { return Ok(salvage) };
        let size = std::fs::metadata(&salvage.aside).map_or(0, |m| m.len());
        let last: i64 = old
            .query_row("SELECT MAX(number) FROM changes", [], |row| row.get(0))
            .unwrap_or_else(|_| i64::try_from(size / CHANGE_BYTES).unwrap_or(0));
        self.is_salvaging = true;
        let mut batch = Vec::new();
        let sql =
            format!("SELECT {COLUMNS} FROM changes c JOIN documents d ON d.number = c.document WHERE c.number = ?1");
        for number in 1..=last {
            match read_one(&old, &sql, number, &self.seal) {
                Ok(Some(event)) => batch.push(event),
                Ok(None) => {}
                Err(_) => salvage.lost += 1,
            }
            if batch.len() >= BATCH {
                salvage.kept += self.take_over(&mut batch)?;
            }
        }
        match super::event::tombstones(&old) {
            Ok(tombstones) => batch.extend(tombstones),
            Err(error) => tracing::warn!(%error, "the tombstones of the damaged memory could not be read"),
        }
        salvage.kept += self.take_over(&mut batch)?;
        self.is_salvaging = false;
        self.take_over_rest(&old);
        tracing::warn!(
            kept = salvage.kept,
            lost = salvage.lost,
            "the memory was made again from what could be read; the rest comes from sister nodes, or from a backup"
        );
        Ok(salvage)
    }

    fn take_over(&mut self, events: &mut Vec<Event>) -> Result<usize, TruthError> {
        let vetted = crate::check::vetted(std::mem::take(events));
        self.connection.execute_batch("BEGIN IMMEDIATE")?;
        let good = vetted.iter().filter(|one| one.space().is_some());
        let now = good.map(|one| one.event.created_at.as_secs()).max().unwrap_or(0);
        let outcomes = self.take(&vetted, now);
        self.connection.execute_batch(if outcomes.is_ok() { "COMMIT" } else { "ROLLBACK" })?;
        Ok(outcomes?.iter().filter(|o| **o == super::Outcome::New).count())
    }

    /// Tables of this node alone, as far as they can be read; none of them is worth a failure.
    fn take_over_rest(&self, old: &Connection) {
        let copy = |select: &str, insert: &str| -> rusqlite::Result<()> {
            let mut rows = old.prepare(select)?;
            let columns = rows.column_count();
            let mut rows = rows.query([])?;
            while let Some(row) = rows.next()? {
                let values: Vec<rusqlite::types::Value> = (0..columns).map(|c| row.get(c)).collect::<Result<_, _>>()?;
                self.connection.execute(insert, rusqlite::params_from_iter(values))?;
            }
            Ok(())
        };
        for (select, insert) in [
            ("SELECT space, person FROM shares", "INSERT OR IGNORE INTO shares(space, person) VALUES(?1, ?2)"),
            ("SELECT mark FROM forgotten_marks", "INSERT OR IGNORE INTO forgotten_marks(mark) VALUES(?1)"),
            (
                "SELECT id, times, last FROM recalls",
                "INSERT OR IGNORE INTO recalls(id, times, last) VALUES(?1, ?2, ?3)",
            ),
        ] {
            if let Err(error) = copy(select, insert) {
                tracing::warn!(%error, "a part of the damaged memory could not be read");
            }
        }
    }

    /// Loads every document and holds the entries against them.
    pub fn check(&self) -> Result<Check, TruthError> {
        let mut found =
            self.connection.prepare("SELECT number, name FROM documents WHERE retired = 0 ORDER BY number")?;
        let all: Vec<(i64, String)> =
            found.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?;
        let mut check = Check { documents: 0, entries: 0, incomplete: 0 };
        for (number, name) in all {
            let id: DocumentId = name.parse()?;
            let document = self.load(number, &id)?;
            let is_whole = document.get_missing_deps(&[]).is_empty();
            check.documents += 1;
            check.incomplete += usize::from(!is_whole);
            if matches!(id, DocumentId::Shard { .. }) {
                for entry in self.ids_in(number)? {
                    let is_there = document.get(automerge::ROOT, entry.to_string()).ok().flatten().is_some();
                    if (is_whole && !is_there) || self.entry(&entry)?.is_none() {
                        return Err(TruthError::Damaged(format!("entry {entry} of {id}")));
                    }
                    check.entries += 1;
                }
            }
        }
        Ok(check)
    }
}

fn read_one(old: &Connection, sql: &str, number: i64, seal: &Seal) -> Result<Option<Event>, TruthError> {
    let mut found = old.prepare_cached(sql)?;
    let mut rows = found.query([number])?;
    match rows.next()? {
        Some(row) => Ok(Some(Stored::read(row, seal)?.event()?)),
        None => Ok(None),
    }
}
