//! Generations on disk.
//!
//! ```text
//! index/current        the name of the generation that serves
//! index/g7/meta.json   what it was made by
//! index/g7/entries.lance/…
//! index/g6.damaged-1/  did not open; deleted once its successor is whole
//! ```

use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::IndexError;

/// The layout of a generation that this code writes and reads.
pub(super) const SCHEMA: u32 = 1;
const CURRENT: &str = "current";
const META: &str = "meta.json";

/// What a generation was made by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Meta {
    pub schema: u32,
    pub embedder: String,
    pub dimensions: usize,
    pub made_at: u64,
}

/// The name of the generation that serves; none when there is none.
pub(super) fn current(dir: &Path) -> Option<String> {
    let name = std::fs::read_to_string(dir.join(CURRENT)).ok()?;
    let name = name.trim();
    number(name).map(|_| name.to_owned())
}

/// Names the generation that serves, all or nothing.
pub(super) fn set_current(dir: &Path, name: &str) -> Result<(), IndexError> {
    replace(&dir.join(CURRENT), name.as_bytes())
}

/// A name that no generation has had.
pub(super) fn next_name(dir: &Path) -> Result<String, IndexError> {
    let last = names(dir)?.iter().filter_map(|name| number(name.split('.').next()?)).max();
    Ok(format!("g{}", last.unwrap_or(0) + 1))
}

fn number(name: &str) -> Option<u64> {
    name.strip_prefix('g')?.parse().ok()
}

/// What a generation was made by.
pub(super) fn meta(generation: &Path) -> Result<Meta, IndexError> {
    let path = generation.join(META);
    let bytes = std::fs::read(&path).map_err(|source| IndexError::Folder { path: path.clone(), source })?;
    serde_json::from_slice(&bytes).map_err(|error| IndexError::Folder { path, source: error.into() })
}

/// Makes the folder of a generation.
pub(super) fn make(generation: &Path, meta: &Meta) -> Result<(), IndexError> {
    let path = || generation.to_owned();
    std::fs::create_dir_all(generation).map_err(|source| IndexError::Folder { path: path(), source })?;
    let json = serde_json::to_vec(meta).map_err(|error| IndexError::Folder { path: path(), source: error.into() })?;
    replace(&generation.join(META), &json)
}

fn replace(path: &Path, bytes: &[u8]) -> Result<(), IndexError> {
    let write = || {
        let new = path.with_extension("new");
        let mut file = std::fs::File::create(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&new, path)?;
        path.parent().map_or(Ok(()), |dir| std::fs::File::open(dir)?.sync_all())
    };
    write().map_err(|source| IndexError::Folder { path: path.to_owned(), source })
}

/// Sets a generation aside that cannot be used.
pub(super) fn set_aside(dir: &Path, name: &str) -> Result<(), IndexError> {
    let from = dir.join(name);
    let free = (1_u32..).map(|n| dir.join(format!("{name}.damaged-{n}"))).find(|path| !path.exists());
    let to = free.unwrap_or_else(|| dir.join(format!("{name}.damaged")));
    match std::fs::rename(&from, &to) {
        Err(source) if source.kind() != ErrorKind::NotFound => Err(IndexError::Folder { path: from, source }),
        _ => Ok(()),
    }
}

/// Deletes everything of the index that is not one of these generations, or set aside.
pub(super) fn sweep(dir: &Path, keep: &[&str]) -> Result<(), IndexError> {
    sweep_if(dir, |name| number(name).is_some() && !keep.contains(&name))
}

/// Deletes what was set aside.
pub(super) fn sweep_damaged(dir: &Path) -> Result<(), IndexError> {
    sweep_if(dir, |name| name.contains(".damaged"))
}

fn sweep_if(dir: &Path, wants: impl Fn(&str) -> bool) -> Result<(), IndexError> {
    names(dir)?.iter().filter(|name| wants(name)).try_for_each(|name| delete(&dir.join(name)))
}

/// Deletes a folder that may be gone already.
pub(super) fn delete(path: &Path) -> Result<(), IndexError> {
    match std::fs::remove_dir_all(path) {
        Err(source) if source.kind() != ErrorKind::NotFound => {
            Err(IndexError::Folder { path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

fn names(dir: &Path) -> Result<Vec<String>, IndexError> {
    let failed = |source| IndexError::Folder { path: PathBuf::from(dir), source };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.path().is_dir() {
            names.extend(entry.file_name().into_string().ok());
        }
    }
    Ok(names)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn names_rise_and_the_sweep_leaves_what_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        assert_eq!((current(dir), next_name(dir).unwrap()), (None, "g1".to_owned()));
        let meta_of = |n| Meta { schema: SCHEMA, embedder: format!("e{n}"), dimensions: 4, made_at: n };
        for n in [1, 2, 9] {
            make(&dir.join(format!("g{n}")), &meta_of(n)).unwrap();
        }
        std::fs::create_dir(dir.join("other")).unwrap();
        set_current(dir, "g2").unwrap();
        assert_eq!((current(dir).as_deref(), meta(&dir.join("g2")).unwrap()), (Some("g2"), meta_of(2)));
        set_aside(dir, "g9").unwrap();
        assert_eq!(next_name(dir).unwrap(), "g10", "a name is not used again while its damaged folder stands");
        sweep(dir, &["g2"]).unwrap();
        let mut left = names(dir).unwrap();
        left.sort();
        assert_eq!(left, ["g2", "g9.damaged-1", "other"]);
        sweep_damaged(dir).unwrap();
        assert!(!dir.join("g9.damaged-1").exists());
        std::fs::write(dir.join(CURRENT), "../../etc").unwrap();
        assert_eq!(current(dir), None);
    }
}
