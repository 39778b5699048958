//! What can go wrong with the index.

use std::path::PathBuf;

use super::source::SourceError;
use crate::embed::EmbedError;

/// Why the index could not do something. Nothing is lost by it: the truth holds every entry.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// A folder or file of it cannot be used.
    #[error("the index cannot use {path}")]
    Folder {
        /// Which.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The table does not open.
    #[error("the table of the index does not open")]
    Open(#[source] Box<lancedb::Error>),
    /// The table cannot be read.
    #[error("the table of the index cannot be read")]
    Read(#[source] Box<lancedb::Error>),
    /// Rows cannot be written.
    #[error("the table of the index cannot be written")]
    Write(#[source] Box<lancedb::Error>),
    /// The text search failed.
    #[error("the text search failed")]
    Text(#[source] Box<lancedb::Error>),
    /// New rows cannot be taken into the full-text index.
    #[error("the full-text index cannot be brought up to date")]
    Refresh(#[source] Box<lancedb::Error>),
    /// Files cannot be joined.
    #[error("the table of the index cannot be compacted")]
    Compact(#[source] Box<lancedb::Error>),
    /// Old versions cannot be deleted.
    #[error("old versions of the index cannot be deleted")]
    Prune(#[source] Box<lancedb::Error>),
    /// The truth cannot be read.
    #[error("the index cannot be compared with the truth")]
    Source(#[source] SourceError),
    /// The embedder does not answer.
    #[error("entries cannot be embedded")]
    Embed(#[source] EmbedError),
    /// A task of it has ended before its time.
    #[error("a task of the index ended early: {0}")]
    Task(String),
    /// It is shut down.
    #[error("the index is closed")]
    Closed,
}

/// Why nothing could be recalled.
#[derive(Debug, thiserror::Error)]
pub enum RecallError {
    /// The index cannot be asked.
    #[error("memory cannot be searched")]
    Index(#[from] IndexError),
}
