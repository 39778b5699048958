//! Backups: one file that holds who the node is and what it knows, encrypted with a passphrase (the age format, so the stock
//! `age` tool opens it too: `age -d FILE | zstd -d | tar t`).
//!
//! In it: the passport key, the configuration, a snapshot of the journal and of the relay's events. Not in it: the install and the
//! transport key, because two machines must never share them; a restore makes new ones.

use std::fs::{self, File, OpenOptions};
use std::io::{BufReader, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail};
use rusqlite::{Connection, OpenFlags};

use crate::home::{Home, write_private};
use crate::journal::now_ms;
use crate::keys::Passphrase;

/// What a restore takes out of an archive; anything else in it is refused.
const MEMBERS: [&str; 4] = ["keys/passport", "config.toml", "journal.sqlite", "relay/events/data.mdb"];

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
    for (from, name) in [(home.keys().join("passport"), "keys/passport"), (home.config(), "config.toml")] {
        if from.exists() {
            fs::copy(&from, to.join(name)).with_context(|| format!("cannot read {}", from.display()))?;
        }
    }
    let source = Connection::open_with_flags(home.journal(), OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let mut copy = Connection::open(to.join("journal.sqlite"))?;
    rusqlite::backup::Backup::new(&source, &mut copy)?.run_to_completion(1000, std::time::Duration::ZERO, None)?;
    drop(copy);
    relay::copy_events(&home.relay(), &to.join("relay/events/data.mdb"))
        .context("the relay's events cannot be copied")?;
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
    if home.journal().exists() || home.keys().join("passport").exists() || home.keys().join("install").exists() {
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
    if staging.0.join("relay/events/data.mdb").exists() {
        fs::create_dir_all(home.relay().join("events"))?;
        fs::rename(staging.0.join("relay/events/data.mdb"), home.relay().join("events/data.mdb"))?;
    }
    for (name, to) in [("config.toml", home.config()), ("keys/passport", home.keys().join("passport"))] {
        let from = staging.0.join(name);
        if from.exists() {
            write_private(&to, &fs::read(from)?)?;
        }
    }
    // Last: a folder with a journal counts as a node.
    fs::rename(&journal, home.journal())?;
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
    let check: String =
        db.query_row("PRAGMA integrity_check", [], |r| r.get(0)).context("the journal in the backup is damaged")?;
    if check != "ok" {
        bail!("the journal in the backup is damaged: {check}");
    }
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
