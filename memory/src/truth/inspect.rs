//! A look at a store from outside, without changing it: for checks while no node runs, or beside one that does.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use super::rebuild::opens;
use super::{Seal, SealKey, TruthError, schema};

/// What a look at a store tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspection {
    /// True when the next start brings it to a newer schema.
    pub is_older: bool,
    /// Entries that count.
    pub entries: u64,
    /// Writers with two changes under one number.
    pub quarantined: u64,
}

/// Looks at the store in `path` (`changes.sqlite` of a memory's folder).
///
/// # Errors
/// When it is damaged, newer than this program, or sealed under another key.
pub fn inspect(path: &Path, key: &SealKey) -> Result<Inspection, TruthError> {
    let failed = |source| TruthError::Database { doing: "to be looked at", source };
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(failed)?;
    connection.busy_timeout(std::time::Duration::from_secs(5)).map_err(failed)?;
    let verdict: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(failed)?;
    if verdict != "ok" {
        return Err(TruthError::Damaged(format!("{}: {verdict}", path.display())));
    }
    let found: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(failed)?;
    if found > schema::VERSION {
        return Err(TruthError::Newer { found, path: path.to_owned() });
    }
    if opens(&connection, &Seal::new(key))? == Some(false) {
        return Err(TruthError::Key { path: path.to_owned() });
    }
    let count = |sql: &str| -> Result<u64, TruthError> {
        let count: i64 = connection.query_row(sql, [], |row| row.get(0)).map_err(failed)?;
        Ok(u64::try_from(count).unwrap_or(0))
    };
    Ok(Inspection {
        is_older: found < schema::VERSION,
        entries: count("SELECT COUNT(*) FROM entries")?,
        quarantined: count("SELECT COUNT(*) FROM quarantine")?,
    })
}
