//! What the memory says about itself, to be held against another one.

use std::collections::BTreeMap;

use nips::memory::Space;

use crate::memory::{Memory, MemoryError};
use crate::truth::{Census, Check};

impl Memory {
    /// How much of a space is here.
    ///
    /// # Errors
    /// When the disk refuses.
    pub async fn census(&self, space: Space) -> Result<Census, MemoryError> {
        Ok(self.worker().write(move |truth| truth.census(&space)).await?)
    }

    /// A number that another one follows whenever a change or a tombstone is taken in.
    ///
    /// # Errors
    /// When the memory is closed.
    pub async fn version(&self) -> Result<u64, MemoryError> {
        Ok(self.worker().write(|truth| Ok(truth.version())).await?)
    }

    /// Heads of every document, by name: two memories with equal heads hold the same.
    ///
    /// # Errors
    /// When a document does not load.
    pub async fn heads(&self) -> Result<BTreeMap<String, Vec<String>>, MemoryError> {
        Ok(self.worker().write(|truth| truth.heads()).await?)
    }

    /// Loads every document and holds the entries against them.
    ///
    /// # Errors
    /// Names the first thing that does not fit.
    pub async fn check(&self) -> Result<Check, MemoryError> {
        Ok(self.worker().write(|truth| truth.check()).await?)
    }
}
