//! Search in what people wrote (NIP-50): a derived SQLite FTS5 index beside the store.
//!
//! A background thread follows the store by sequence number; the row id is the sequence number, the text itself is not
//! kept twice. Before a question is answered the tail that is not indexed yet is taken in, so answers are complete. The
//! index belongs to one store (by its identity); a lost, damaged or foreign one is made anew.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nostr::Event;
use rusqlite::{Connection, OptionalExtension, params};

use super::StoreError;
use super::follow::read_after;
use super::note::letters;
use super::tables::{Disk, number};
use super::writer::Gauges;

/// Events taken into the index in one transaction.
const BATCH_EVENTS: usize = 500;
const BATCH_BYTES: usize = 4 << 20;
/// Bytes of one event's text that are indexed.
const MAX_TEXT_BYTES: usize = 64 << 10;
/// Words of a question that are looked for.
const MAX_WORDS: usize = 16;
/// Pause between transactions, so that taking in events has the cores first.
const PAUSE: Duration = Duration::from_millis(5);
/// New events are collected this long before the index wakes up.
const COLLECT: Duration = Duration::from_millis(100);
/// So many events within [`COLLECT`] mean that the relay is busy.
const BUSY_EVENTS: u64 = 200;
/// Events that may wait for the index; a question that comes then takes them in, in about half a second.
const MAX_BEHIND: u64 = 50_000;
/// How long a question waits for the index to catch up.
const CATCH_UP: Duration = Duration::from_secs(5);

/// The index.
pub(crate) struct SearchIndex {
    disk: Arc<Disk>,
    gauges: Arc<Gauges>,
    connection: Mutex<Connection>,
    path: PathBuf,
    /// SQLite has found the file damaged; it is made anew before it is used again.
    damaged: AtomicBool,
}

impl SearchIndex {
    /// Opens the index file, making it anew when it is missing, damaged or of another store.
    ///
    /// # Errors
    ///
    /// SQLite's, when even a new file cannot be made.
    pub(crate) fn open(path: &Path, disk: Arc<Disk>, gauges: Arc<Gauges>) -> Result<Self, StoreError> {
        let connection = match open_file(path, &disk)? {
            Ok(connection) => connection,
            Err(error) => {
                tracing::warn!(%error, "the search index is made anew");
                remove_files(path);
                open_file(path, &disk)?.map_err(StoreError::search)?
            }
        };
        let (connection, path) = (Mutex::new(connection), path.to_owned());
        Ok(Self { disk, gauges, connection, path, damaged: AtomicBool::new(false) })
    }

    /// Takes note of an error; damage is repaired at the next use.
    fn failed(&self, error: rusqlite::Error) -> StoreError {
        let code = error.sqlite_error_code();
        if matches!(code, Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase)) {
            self.damaged.store(true, Ordering::Release);
        }
        StoreError::search(error)
    }

    fn repair(&self, connection: &mut Connection) -> Result<(), StoreError> {
        if !self.damaged.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        tracing::warn!("the search index is damaged; it is made anew");
        *connection = Connection::open_in_memory().map_err(StoreError::search)?;
        remove_files(&self.path);
        *connection = open_file(&self.path, &self.disk)?.map_err(StoreError::search)?;
        Ok(())
    }

    /// Works until the writer has ended: takes in new events whenever woken.
    pub(crate) fn run(&self, wake: &std::sync::mpsc::Receiver<()>) {
        let mut first = true;
        while first || wake.recv().is_ok() {
            if !std::mem::take(&mut first) {
                self.wait_for_quiet();
            }
            loop {
                match self.step() {
                    Ok(false) => break,
                    Ok(true) => {}
                    Err(error) => {
                        tracing::error!(%error, "the search index could not take in events");
                        break;
                    }
                }
                if let Err(std::sync::mpsc::TryRecvError::Disconnected) = wake.try_recv() {
                    return;
                }
                std::thread::sleep(PAUSE);
            }
        }
    }

    /// Waits while many events arrive, so that storing them has the cores, but not until too many wait for the index.
    fn wait_for_quiet(&self) {
        let start = self.gauges.last_sequence.load(Ordering::Acquire);
        let mut last = start;
        loop {
            std::thread::sleep(COLLECT);
            let now = self.gauges.last_sequence.load(Ordering::Acquire);
            if now - last < BUSY_EVENTS || now - start > MAX_BEHIND {
                return;
            }
            last = now;
        }
    }

    /// Takes in one batch; says whether more is waiting.
    fn step(&self) -> Result<bool, StoreError> {
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        self.step_with(&mut connection)
    }

    fn step_with(&self, connection: &mut Connection) -> Result<bool, StoreError> {
        self.repair(connection)?;
        let txn = connection.transaction().map_err(|error| self.failed(error))?;
        let from = state(&txn, "indexed").map_err(|error| self.failed(error))?;
        let events = read_after(&self.disk, from, BATCH_EVENTS, BATCH_BYTES)?;
        let gone_from = state(&txn, "gone").map_err(|error| self.failed(error))?;
        let gone = self.gone_after(gone_from)?;
        if events.is_empty() && gone.is_empty() {
            return Ok(false);
        }
        let indexed = events.last().and_then(|live| live.sequence).unwrap_or(from);
        let gone_to = gone.last().map_or(gone_from, |(removal, _)| *removal);
        let write = || {
            for live in &events {
                let (Some(sequence), Some(text)) = (live.sequence, text_of(&live.event)) else { continue };
                txn.prepare_cached("INSERT OR REPLACE INTO texts (rowid, text) VALUES (?1, ?2)")?
                    .execute(params![sequence as i64, text])?;
            }
            for (_, sequence) in &gone {
                txn.prepare_cached("DELETE FROM texts WHERE rowid = ?1")?.execute(params![*sequence as i64])?;
            }
            set_state(&txn, "indexed", indexed)?;
            set_state(&txn, "gone", gone_to)
        };
        write().map_err(|error| self.failed(error))?;
        txn.commit().map_err(|error| self.failed(error))?;
        self.gauges.gone_indexed.store(gone_to, Ordering::Release);
        Ok(true)
    }

    fn gone_after(&self, removal: u64) -> Result<Vec<(u64, u64)>, StoreError> {
        let snapshot = self.disk.read().map_err(StoreError::read)?;
        let start = removal.saturating_add(1).to_be_bytes();
        let range = (std::ops::Bound::Included(&start[..]), std::ops::Bound::Unbounded);
        let entries = self.disk.gone.range(&snapshot.txn, &range).map_err(StoreError::read)?;
        let pairs = entries.take(BATCH_EVENTS).map(|entry| entry.map(|(key, value)| (number(key), number(value))));
        pairs.collect::<heed::Result<_>>().map_err(StoreError::read)
    }

    /// Calls back with the sequence number of each event that contains all words of a question, best first (BM25), until
    /// told to stop with `false`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Search`], also when the index is being made anew and is far behind.
    pub(crate) fn ranked(
        &self,
        question: &str,
        mut each: impl FnMut(u64) -> Result<bool, StoreError>,
    ) -> Result<(), StoreError> {
        let expression = expression(question);
        if expression.is_empty() {
            return Ok(());
        }
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let start = Instant::now();
        while self.step_with(&mut connection)? {
            if start.elapsed() > CATCH_UP {
                return Err(StoreError::Search("the search index is being made; try again soon".to_owned()));
            }
        }
        let mut statement = connection
            .prepare_cached("SELECT rowid FROM texts WHERE texts MATCH ?1 ORDER BY rank, rowid DESC")
            .map_err(|error| self.failed(error))?;
        let mut rows = statement.query(params![expression]).map_err(|error| self.failed(error))?;
        while let Some(row) = rows.next().map_err(|error| self.failed(error))? {
            let sequence: i64 = row.get(0).map_err(|error| self.failed(error))?;
            if !each(sequence.unsigned_abs())? {
                break;
            }
        }
        Ok(())
    }
}

/// Opens the index of a store; the inner error says what is wrong with the file.
fn open_file(path: &Path, disk: &Disk) -> Result<rusqlite::Result<Connection>, StoreError> {
    let snapshot = disk.read().map_err(StoreError::read)?;
    let identity = disk.identity(&snapshot.txn).map_err(StoreError::read)?;
    let last = snapshot.last_sequence().map_err(StoreError::read)?;
    Ok(open_checked(path, identity, last))
}

fn open_checked(path: &Path, identity: u64, last: u64) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.execute_batch(
        "CREATE TABLE IF NOT EXISTS state (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT;
         CREATE VIRTUAL TABLE IF NOT EXISTS texts USING fts5(
             text, content = '', contentless_delete = 1, tokenize = 'unicode61 remove_diacritics 2');",
    )?;
    let damaged = |reason: &str| {
        rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT),
            Some(reason.to_owned()),
        )
    };
    let known = connection.query_row("SELECT value FROM state WHERE name = 'identity'", [], |row| row.get::<_, i64>(0));
    match known.optional()? {
        None => set_state(&connection, "identity", identity)?,
        Some(known) if known as u64 != identity => return Err(damaged("it is of another store")),
        Some(_) => {}
    }
    if state(&connection, "indexed")? > last {
        return Err(damaged("it is ahead of the store"));
    }
    Ok(connection)
}

fn remove_files(path: &Path) {
    for suffix in ["", "-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        // What cannot be removed shows when the file is opened again.
        let _ = std::fs::remove_file(PathBuf::from(name));
    }
}

fn state(connection: &Connection, name: &str) -> rusqlite::Result<u64> {
    let mut statement = connection.prepare_cached("SELECT value FROM state WHERE name = ?1")?;
    let value: Option<i64> = statement.query_row(params![name], |row| row.get(0)).optional()?;
    Ok(value.unwrap_or_default() as u64)
}

fn set_state(connection: &Connection, name: &str, value: u64) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached("INSERT OR REPLACE INTO state (name, value) VALUES (?1, ?2)")?;
    statement.execute(params![name, value as i64]).map(drop)
}

/// Turns a question into an FTS5 expression: every word as a quoted string, so that nothing in it is syntax. NIP-50's
/// `key:value` extensions are left out.
fn expression(question: &str) -> String {
    let quoted = words(question).map(|word| format!("\"{}\"", word.replace('"', "\"\"")));
    quoted.take(MAX_WORDS).collect::<Vec<_>>().join(" ")
}

fn words(question: &str) -> impl Iterator<Item = &str> {
    let plain = question.split_whitespace().filter(|word| !is_extension(word));
    plain.flat_map(|word| word.split(|c: char| !c.is_alphanumeric())).filter(|word| !word.is_empty())
}

/// Says whether a word is one of the extensions that NIP-50 names.
fn is_extension(word: &str) -> bool {
    let key = word.split_once(':').map(|(key, _)| key);
    matches!(key, Some("include" | "domain" | "language" | "sentiment" | "nsfw"))
}

/// Says whether a readable event contains all words of a question, in any case.
pub(crate) fn contains_words(event: &Event, question: &str) -> bool {
    let Some(text) = text_of(event) else { return false };
    let text = text.to_lowercase();
    let mut any = false;
    let all = words(question).all(|word| {
        any = true;
        text.contains(&word.to_lowercase())
    });
    any && all
}

/// Says whether an event is of a kind that people read and that is not encrypted.
pub(crate) fn is_searchable(event: &Event) -> bool {
    match event.kind.as_u16() {
        0 | 1 | 11 | 24 | 40..=42 | 1063 | 1111 | 1311 | 1621 | 9802 => true,
        6000..=6999 => !event.tags.iter().any(|tag| tag.as_slice()[0] == "encrypted"),
        30_023 | 30_311 | 30_402 | 30_617 | 30_818 | 31_922 | 31_923 | 31_990 | 34_550 => true,
        _ => false,
    }
}

/// Gives the text of a searchable event: its content (of JSON content the strings) and its titles.
fn text_of(event: &Event) -> Option<String> {
    if !is_searchable(event) {
        return None;
    }
    let mut text = match event.kind.as_u16() {
        0 | 40 | 41 | 31_990 => json_strings(&event.content),
        _ => event.content.clone(),
    };
    for tag in event.tags.iter().map(nostr::Tag::as_slice) {
        if let [name, value, ..] = tag
            && matches!(name.as_str(), "title" | "summary" | "subject" | "name" | "description" | "alt")
        {
            text.push('\n');
            text.push_str(value);
        }
    }
    for (_, topic) in letters(event).filter(|(letter, _)| *letter == b't') {
        text.push('\n');
        text.push_str(topic);
    }
    let end = text.floor_char_boundary(MAX_TEXT_BYTES);
    text.truncate(end);
    Some(text)
}

fn json_strings(content: &str) -> String {
    match serde_json::from_str(content) {
        Ok(serde_json::Value::Object(fields)) => {
            let strings = fields.values().filter_map(serde_json::Value::as_str);
            strings.filter(|text| !text.starts_with("http")).collect::<Vec<_>>().join("\n")
        }
        _ => content.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::expression;

    #[test]
    fn no_word_is_syntax() {
        assert_eq!(expression("a\" OR b* NEAR(c)"), r#""a" "OR" "b" "NEAR" "c""#);
        assert_eq!(expression("language:en \"; DROP"), r#""DROP""#);
        assert_eq!(expression("*:^{}"), "");
    }
}
