//! Where a node keeps what it knows: one data folder, mode 0700, used by one process at a time.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

/// The data folder of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    dir: PathBuf,
}

/// What a running node says about itself to commands on the same machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    /// Always true; the line appears when the node serves.
    pub ready: bool,
    /// The passport, bech32.
    pub npub: String,
    /// The passport, hex.
    pub pubkey: String,
    /// libp2p name of the transport key.
    pub peer_id: String,
    /// `ws://…` of the embedded relay.
    pub relay: String,
    /// `http://…` of the same port.
    pub http: String,
    /// Process id.
    pub pid: u32,
}

/// Held by the one process that runs on a data folder.
#[derive(Debug)]
pub struct Lock {
    _file: File,
    ready: PathBuf,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // A stale file would only point at nothing; the lock itself ends with the process.
        let _ = fs::remove_file(&self.ready);
    }
}

impl Home {
    /// The folder from `--data-dir` or `TIMMY_HOME`, else `$XDG_DATA_HOME/timmy`, else `~/.local/share/timmy`.
    ///
    /// # Errors
    /// When none is given and there is no home folder.
    pub fn locate(given: Option<PathBuf>) -> Result<Self> {
        let from_env = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let dir = given
            .or_else(|| from_env("XDG_DATA_HOME").map(|d| d.join("timmy")))
            .or_else(|| from_env("HOME").map(|d| d.join(".local/share/timmy")))
            .context("no home folder; say where the data goes with --data-dir DIR or TIMMY_HOME")?;
        Ok(Self { dir: std::path::absolute(dir)? })
    }

    /// Makes the folder (0700) if it is not there.
    ///
    /// # Errors
    /// When it cannot be made or belongs to somebody else.
    pub fn create(&self) -> Result<()> {
        for dir in [self.dir.clone(), self.keys(), self.relay()] {
            fs::create_dir_all(&dir).with_context(|| {
                format!("cannot make the data folder {}; choose another with --data-dir DIR", dir.display())
            })?;
            let mode = fs::metadata(&dir)?.permissions().mode() & 0o777;
            if mode & 0o077 != 0 {
                fs::set_permissions(&dir, Permissions::from_mode(0o700))
                    .with_context(|| format!("{} is open to others and its mode cannot be changed", dir.display()))?;
            }
        }
        Ok(())
    }

    /// The folder itself.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The default configuration file.
    pub fn config(&self) -> PathBuf {
        self.dir.join("config.toml")
    }

    /// The folder of key files.
    pub fn keys(&self) -> PathBuf {
        self.dir.join("keys")
    }

    /// The journal database.
    pub fn journal(&self) -> PathBuf {
        self.dir.join("journal.sqlite")
    }

    /// The embedded relay's folder.
    pub fn relay(&self) -> PathBuf {
        self.dir.join("relay")
    }

    /// The memory's folder.
    pub fn memory(&self) -> PathBuf {
        self.dir.join("memory")
    }

    /// The truth of the memory; what else is in its folder is made from it.
    pub fn memory_file(&self) -> PathBuf {
        self.memory().join("changes.sqlite")
    }

    /// What the Matrix account needs: session, stores, a recovery key that waits.
    pub fn matrix(&self) -> PathBuf {
        self.dir.join("matrix")
    }

    /// The token that lets local commands use the API.
    pub fn token(&self) -> PathBuf {
        self.dir.join("api-token")
    }

    /// What the running node says about itself.
    pub fn ready_file(&self) -> PathBuf {
        self.dir.join("node.json")
    }

    fn lock_file(&self) -> PathBuf {
        self.dir.join("node.lock")
    }

    /// Takes the folder for this process.
    ///
    /// # Errors
    /// When another process has it (its pid is named).
    pub fn lock(&self) -> Result<Lock> {
        let path = self.lock_file();
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path)?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            let mut pid = String::new();
            file.read_to_string(&mut pid)?;
            bail!(
                "a node already runs on {} (pid {}); stop it with `kill {}`, or give this one its own --data-dir",
                self.dir.display(),
                pid.trim(),
                pid.trim()
            );
        }
        file.set_len(0)?;
        file.rewind()?;
        write!(file, "{}", std::process::id())?;
        Ok(Lock { _file: file, ready: self.ready_file() })
    }

    /// True when a process holds the folder.
    pub fn is_locked(&self) -> bool {
        let Ok(file) = File::open(self.lock_file()) else { return false };
        flock(&file, FlockOperation::NonBlockingLockShared).is_err()
    }

    /// The running node, if there is one.
    pub fn running(&self) -> Option<Ready> {
        if !self.is_locked() {
            return None;
        }
        serde_json::from_slice(&fs::read(self.ready_file()).ok()?).ok()
    }

    /// Bytes free on the data folder's disk for this user.
    ///
    /// # Errors
    /// When the file system does not answer.
    pub fn free_bytes(&self) -> Result<u64> {
        let stat = rustix::fs::statvfs(&self.dir)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

/// Writes a file that only this user reads, whole or not at all: a temporary file beside it, synced, then renamed.
///
/// # Errors
/// When the disk refuses.
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<()> {
    let dir = path.parent().context("a file needs a folder")?;
    let temporary = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    File::open(dir)?.sync_all()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_process_a_folder() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::locate(Some(dir.path().join("a"))).unwrap();
        home.create().unwrap();
        assert_eq!(fs::metadata(home.dir()).unwrap().permissions().mode() & 0o777, 0o700);
        let lock = home.lock().unwrap();
        assert!(home.is_locked());
        let refused = home.lock().unwrap_err().to_string();
        assert!(refused.contains(&format!("pid {}", std::process::id())), "{refused}");
        drop(lock);
        home.lock().unwrap();
    }

    #[test]
    fn private_files_are_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        write_private(&path, b"secret").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
