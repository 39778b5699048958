//! The truth, as the index reads it.

use nips::memory::EntryId;

use crate::entry::Entry;

/// Why the truth could not be read.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the truth cannot be read: {0}")]
pub struct SourceError(pub String);

/// An entry and its place in the truth.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceRow {
    /// Rises with every entry; never used twice.
    pub row: i64,
    /// The entry.
    pub entry: Entry,
}

/// Where the entries are. Reads block; the index calls them on threads of their own.
///
/// An entry that the index was told to remove or to erase is no longer given: whoever changes both changes the truth first.
pub trait Source: Send + Sync + 'static {
    /// The entries after this place, in rising order, at most `limit`. Fewer than `limit` are the last ones.
    ///
    /// # Errors
    /// When the truth cannot be read.
    fn rows(&self, after: i64, limit: usize) -> Result<Vec<SourceRow>, SourceError>;

    /// Those of these entries that there are, in any order.
    ///
    /// # Errors
    /// When the truth cannot be read.
    fn entries(&self, ids: &[EntryId]) -> Result<Vec<Entry>, SourceError>;

    /// Places and ids alone, as [`Source::rows`]. A truth that can read ids without texts answers this itself: every start compares
    /// all of them.
    ///
    /// # Errors
    /// When the truth cannot be read.
    fn ids(&self, after: i64, limit: usize) -> Result<Vec<(i64, EntryId)>, SourceError> {
        Ok(self.rows(after, limit)?.into_iter().map(|row| (row.row, row.entry.id)).collect())
    }
}
