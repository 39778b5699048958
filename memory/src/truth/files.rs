//! Files of the store: modes, and setting a damaged one aside.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::TruthError;

/// Makes a file readable by its owner alone.
pub(super) fn private(path: &Path) -> Result<(), TruthError> {
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))
        .map_err(|source| TruthError::File { path: path.to_owned(), source })
}

/// Renames the store and what belongs to it to the first free `….damaged-<n>`.
pub(super) fn set_aside(path: &Path) -> Result<PathBuf, TruthError> {
    let free = (1..).map(|n| path.with_extension(format!("damaged-{n}"))).find(|p| !p.exists());
    let target = free.unwrap_or_else(|| path.with_extension("damaged"));
    let renamed = |from: &Path, to: &Path| {
        fs::rename(from, to).map_err(|source| TruthError::File { path: from.to_owned(), source })
    };
    renamed(path, &target)?;
    for suffix in ["-wal", "-shm"] {
        let beside = with_suffix(path, suffix);
        if beside.exists() {
            renamed(&beside, &with_suffix(&target, suffix))?;
        }
    }
    Ok(target)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
