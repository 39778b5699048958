//! A consistent copy of the event store for a backup, taken while a node may be running on it.

use std::path::Path;

use heed::{CompactionOption, EnvFlags, EnvOpenOptions};

use super::StoreError;

/// Writes a compacted copy of the event store under the relay's folder `dir` to the new file `to`; gives false when there is no
/// store. LMDB shows a reader one moment, whatever another process writes meanwhile.
///
/// # Errors
///
/// [`StoreError::Read`] when the store cannot be read or the copy not written.
#[allow(unsafe_code)]
pub fn copy_events(dir: &Path, to: &Path) -> Result<bool, StoreError> {
    let events = dir.join("events");
    if !events.join("data.mdb").exists() {
        return Ok(false);
    }
    let mut options = EnvOpenOptions::new().read_txn_without_tls();
    // SAFETY: LMDB's own lock file keeps readers and the writer of other processes apart; nothing here truncates the file.
    let env = unsafe { options.flags(EnvFlags::READ_ONLY).open(&events) }.map_err(StoreError::read)?;
    env.copy_to_path(to, CompactionOption::Enabled).map_err(StoreError::read)?;
    Ok(true)
}
