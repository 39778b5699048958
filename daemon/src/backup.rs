//! Backups: one file that holds who the node is and what it knows, encrypted with a passphrase (the age format, so the stock
//! `age` tool opens it too: `age -d FILE | zstd -d | tar t`).
//!
//! In it: the passport key, the memory's key, the configuration, a snapshot of the journal, of the memory's truth and of the relay's
//! events. Not in it: the install and the transport key, because two machines must never share them; a restore makes new ones. Nor the
//! memory's index, which is made again from the truth.

use std::fs::{self, File, OpenOptions};
use std::io::{BufReader, BufWriter, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail};
use rusqlite::{Connection, OpenFlags};

use crate::home::{Home, write_private};
use crate::journal::now_ms;
use crate::keys::Passphrase;

/// What a restore takes out of an archive; anything else in it is refused.
const MEMBERS: [&str; 6] =
    ["keys/passport", "keys/memory", "config.toml", "journal.sqlite", "memory/changes.sqlite", "relay/events/data.mdb"];
/// Key files in a backup.
const KEYS: [&str; 2] = ["passport", "memory"];

/// Writes a backup of `home` to the new file `file`; gives its size. A node may run meanwhile.
///
/// # Errors
/// When the file exists, there is nothing to save, or the disk refuses.
pub(crate) fn write(home: &Home, file: &Path, passphrase: &Passphrase) -> Result<u64> {
    if !home.journal().exists() {
        bail!("there is no node in {} yet; nothing to back up", home.dir().display());
    }
    let partial = file.with_extension("partial");
    let out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file);
    out.with_context(|| format!("cannot write {}; choose a name that does not exist yet", file.display()))?;
    let staging = Staging::new(home)?;
    let written = stage(home, &staging.0).and_then(|()| seal(&staging.0, &partial, passphrase));
    if let Err(error) = written {
        let _ = fs::remove_file(file);
        let _ = fs::remove_file(&partial);
        return Err(error);
    }
    fs::rename(&partial, file)?;
    Ok(fs::metadata(file)?.len())
}

/// A folder inside the data folder that is gone afterwards.
struct Staging(PathBuf);

impl Staging {
    fn new(home: &Home) -> Result<Self> {
        let dir = home.dir().join(format!("staging-{}", std::process::id()));
        fs::create_dir_all(dir.join("keys"))?;
        fs::create_dir_all(dir.join("memory"))?;
        fs::create_dir_all(dir.join("relay/events"))?;
        Ok(Self(dir))
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn stage(home: &Home, to: &Path) -> Result<()> {
    for key in KEYS {
        copy_if_there(&home.keys().join(key), &to.join("keys").join(key))?;
    }
    copy_if_there(&home.config(), &to.join("config.toml"))?;
    copy_database(&home.journal(), &to.join("journal.sqlite"))?;
    if home.memory_file().exists() {
        copy_database(&home.memory_file(), &to.join("memory/changes.sqlite")).context("the memory cannot be copied")?;
    }
    relay::copy_events(&home.relay(), &to.join("relay/events/data.mdb"))
        .context("the relay's events cannot be copied")?;
    Ok(())
}

fn copy_if_there(from: &Path, to: &Path) -> Result<()> {
    if from.exists() {
        fs::copy(from, to).with_context(|| format!("cannot read {}", from.display()))?;
    }
    Ok(())
}

/// Copies a database as it is at one moment, what still lies in its log too. All in one step: with several, each write of the node
/// that runs beside would begin it anew.
fn copy_database(from: &Path, to: &Path) -> Result<()> {
    let source = Connection::open_with_flags(from, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    source.busy_timeout(std::time::Duration::from_secs(10))?;
    let mut copy = Connection::open(to)?;
    rusqlite::backup::Backup::new(&source, &mut copy)?.run_to_completion(i32::MAX, std::time::Duration::ZERO, None)?;
    Ok(())
}

fn seal(from: &Path, to: &Path, passphrase: &Passphrase) -> Result<()> {
    let out = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(to)?;
    let secret = age::secrecy::SecretString::from(passphrase.expose().to_owned());
    let sealed = age::Encryptor::with_user_passphrase(secret).wrap_output(BufWriter::new(out))?;
    let mut archive = tar::Builder::new(zstd::Encoder::new(sealed, 3)?);
    for name in MEMBERS {
        let path = from.join(name);
        if path.exists() {
            archive.append_path_with_name(&path, name)?;
        }
    }
    let mut out = archive.into_inner()?.finish()?.finish()?;
    out.flush()?;
    out.get_ref().sync_all()?;
    Ok(())
}

/// Brings the backup `file` back into `home`, which must hold no node.
///
/// # Errors
/// When there is a node already, the passphrase is wrong, the file is damaged, or the disk refuses; then nothing was changed.
pub(crate) fn restore(home: &Home, file: &Path, passphrase: &Passphrase) -> Result<()> {
    let marks = [home.journal(), home.memory_file(), home.keys().join("passport"), home.keys().join("install")];
    if marks.iter().any(|path| path.exists()) {
        bail!("{} holds a node already; restore into an empty folder: --data-dir DIR", home.dir().display());
    }
    home.create()?;
    let _lock = home.lock()?;
    let staging = Staging::new(home)?;
    unseal(file, &staging.0, passphrase)?;
    let journal = staging.0.join("journal.sqlite");
    if !journal.exists() {
        bail!("{} is no complete backup: it holds no journal", file.display());
    }
    mark_restored(&journal, backup_time(file)?)?;
    restore_memory(home, &staging.0)?;
    if staging.0.join("relay/events/data.mdb").exists() {
        fs::create_dir_all(home.relay().join("events"))?;
        fs::rename(staging.0.join("relay/events/data.mdb"), home.relay().join("events/data.mdb"))?;
    }
    let keys = KEYS.map(|key| (format!("keys/{key}"), home.keys().join(key)));
    for (name, to) in keys.into_iter().chain([("config.toml".to_owned(), home.config())]) {
        let from = staging.0.join(name);
        if from.exists() {
            write_private(&to, &fs::read(from)?)?;
        }
    }
    // Last: a folder with a journal counts as a node.
    fs::rename(&journal, home.journal())?;
    Ok(())
}

/// Brings the truth back. An index that lies there is of another memory: it goes, and is made again.
fn restore_memory(home: &Home, staging: &Path) -> Result<()> {
    let truth = staging.join("memory/changes.sqlite");
    if !truth.exists() {
        return Ok(());
    }
    if !staging.join("keys/memory").exists() {
        bail!("the backup is damaged: it holds a memory and not its key");
    }
    check(&Connection::open(&truth).context("the memory in the backup is damaged")?, "memory")?;
    if home.memory().exists() {
        fs::remove_dir_all(home.memory())?;
    }
    fs::create_dir_all(home.memory())?;
    fs::set_permissions(home.memory(), fs::Permissions::from_mode(0o700))?;
    Ok(fs::rename(&truth, home.memory_file())?)
}

fn check(db: &Connection, what: &str) -> Result<()> {
    let verdict: String = db
        .query_row("PRAGMA integrity_check", [], |r| r.get(0))
        .with_context(|| format!("the {what} in the backup is damaged"))?;
    if verdict != "ok" {
        bail!("the {what} in the backup is damaged: {verdict}");
    }
    Ok(())
}

fn backup_time(file: &Path) -> Result<u64> {
    let modified = fs::metadata(file)?.modified()?;
    let since = modified.duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs();
    Ok(since.min(now_ms() / 1000))
}

/// The journal learns that it was restored: it will look for its own results, and take over the passport, at its first start.
fn mark_restored(journal: &Path, at_s: u64) -> Result<()> {
    let db = Connection::open(journal).context("the journal in the backup is damaged")?;
    check(&db, "journal")?;
    db.execute("DELETE FROM meta WHERE key IN ('restored_taken', 'published')", [])?;
    // Dated by the last thing it knows, not by the file's date, which a copy may have changed.
    let last: Option<u64> = db.query_row("SELECT max(updated_ms) / 1000 FROM jobs", [], |r| r.get(0))?;
    let at = last.map_or(at_s, |last| last.min(at_s));
    db.execute("INSERT OR REPLACE INTO meta VALUES ('restored_at_s', ?1)", [at.to_string()])?;
    Ok(())
}

fn unseal(file: &Path, to: &Path, passphrase: &Passphrase) -> Result<()> {
    let sealed = File::open(file).with_context(|| format!("cannot read {}", file.display()))?;
    let sealed = age::Decryptor::new(BufReader::new(sealed))
        .with_context(|| format!("{} is no backup of timmy", file.display()))?;
    let secret = age::secrecy::SecretString::from(passphrase.expose().to_owned());
    let identity = age::scrypt::Identity::new(secret);
    let plain = sealed
        .decrypt(std::iter::once(&identity as &dyn age::Identity))
        .context("the passphrase does not open this backup; nothing was changed")?;
    let mut archive = tar::Archive::new(zstd::Decoder::new(plain)?);
    for entry in archive.entries()? {
        let mut entry = entry.context("the backup is damaged")?;
        let name = entry.path()?.into_owned();
        let plain_path = name.components().all(|c| matches!(c, Component::Normal(_)));
        let Some(member) = MEMBERS.iter().find(|m| plain_path && Path::new(m) == name) else {
            bail!("the backup holds something that does not belong there: {}", name.display());
        };
        let mut out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to.join(member))?;
        std::io::copy(&mut entry.by_ref(), &mut out).context("the backup is damaged or the disk is full")?;
        out.sync_all()?;
    }
    Ok(())
}
