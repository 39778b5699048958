//! The three keys of a node (DESIGN §3), the key that its memory rests under, and the files that hold them.
//!
//! A file holds one line: `nsec1…`, or `ncryptsec1…` (NIP-49) when a passphrase is given. The transport key, an Ed25519 seed, and the
//! memory's key are 32 bytes like the others and are kept in the same form. A file that is there and cannot be used is an error, never a reason
//! to make a new key in its place.

use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use libp2p_identity::Keypair;
use memory::SealKey;
use nostr::nips::nip49::{EncryptedSecretKey, KeySecurity};
use nostr::{FromBech32, Keys, PublicKey, SecretKey, ToBech32};

use crate::home::{Home, write_private};

/// NIP-49's work factor: 2^16 rounds, 64 MiB, about a tenth of a second.
const SCRYPT_LOG_N: u8 = 16;

/// A passphrase. It never shows itself.
#[derive(Clone)]
pub struct Passphrase(String);

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase(…)")
    }
}

impl Passphrase {
    /// The passphrase from words that somebody gave; one trailing line break is not part of it.
    pub fn new(words: &str) -> Self {
        Self(words.trim_end_matches(['\n', '\r']).to_owned())
    }

    /// The words, for the function that needs them.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Reads `passphrase_file`, else the systemd credential `timmy-passphrase`; none when neither is there.
    ///
    /// # Errors
    /// When a named file cannot be read or is empty.
    pub fn find(file: Option<&Path>) -> Result<Option<Self>> {
        let credential = std::env::var_os("CREDENTIALS_DIRECTORY").map(|d| PathBuf::from(d).join("timmy-passphrase"));
        let Some(path) = file.map(Path::to_owned).or_else(|| credential.filter(|p| p.exists())) else {
            return Ok(None);
        };
        let words =
            fs::read_to_string(&path).with_context(|| format!("cannot read the passphrase from {}", path.display()))?;
        let passphrase = Self::new(&words);
        if passphrase.0.is_empty() {
            bail!("the passphrase file {} is empty", path.display());
        }
        Ok(Some(passphrase))
    }
}

/// The keys of an install. Nothing in here shows itself in `Debug`.
#[derive(Clone)]
pub struct NodeKeys {
    /// The passport, unless a remote signer holds it.
    pub passport: Option<Keys>,
    /// Signs the changes of this install.
    pub install: Keys,
    /// libp2p's key.
    pub transport: Keypair,
    /// What memory rests under. It stays with the memory: a restore brings it back, no sync ever sends it.
    pub memory: SealKey,
}

impl fmt::Debug for NodeKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeKeys({})", self.transport.public().to_peer_id())
    }
}

/// How the passport is looked after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passport {
    /// In a file of this data folder.
    File,
    /// In a NIP-46 signer.
    Remote,
}

impl NodeKeys {
    /// Opens the keys, making those that are missing. A folder that has an install key and no passport has lost it: an error.
    ///
    /// # Errors
    /// When a file is damaged, unreadable or needs another passphrase, or the passport is missing beside other keys.
    pub fn open(home: &Home, passport: Passport, passphrase: Option<&Passphrase>) -> Result<Self> {
        let dir = home.keys();
        let is_new = !dir.join("install").exists() && !home.journal().exists();
        if passport == Passport::File && !is_new && !dir.join("passport").exists() {
            bail!(
                "the passport key {} is gone although this node has run before; put it back from a backup (`timmy restore FILE`). A new key would be another node",
                dir.join("passport").display()
            );
        }
        if home.memory_file().exists() && !dir.join("memory").exists() {
            bail!(
                "the key of the memory {} is gone although there is a memory; put it back from a backup (`timmy restore FILE`). A new key could not open what is there",
                dir.join("memory").display()
            );
        }
        // Four scrypt runs at once: each costs a tenth of a second.
        std::thread::scope(|scope| {
            let install = scope.spawn(|| open_or_make(&dir.join("install"), passphrase));
            let transport = scope.spawn(|| open_or_make(&dir.join("transport"), passphrase));
            let memory = scope.spawn(|| open_or_make(&dir.join("memory"), passphrase));
            let passport = match passport {
                Passport::File => Some(Keys::new(open_or_make(&dir.join("passport"), passphrase)?)),
                Passport::Remote => None,
            };
            let joined = |key: std::thread::ScopedJoinHandle<'_, Result<SecretKey>>| {
                key.join().map_err(|_| anyhow!("reading a key file failed"))?
            };
            let install = Keys::new(joined(install)?);
            let transport = Keypair::ed25519_from_bytes(joined(transport)?.to_secret_bytes())?;
            let memory = SealKey::new(joined(memory)?.to_secret_bytes());
            Ok(Self { passport, install, transport, memory })
        })
    }

    /// Reads the public halves without changing anything.
    ///
    /// # Errors
    /// When there are no keys yet, or they cannot be opened.
    pub fn peek(home: &Home, passport: Passport, passphrase: Option<&Passphrase>) -> Result<Self> {
        if !home.keys().join("install").exists() {
            bail!("there are no keys in {} yet; `timmy run` or `timmy init` makes them", home.dir().display());
        }
        Self::open(home, passport, passphrase)
    }

    /// libp2p's name of the transport key.
    pub fn peer_id(&self) -> String {
        self.transport.public().to_peer_id().to_string()
    }

    /// The install key.
    pub fn install_key(&self) -> PublicKey {
        self.install.public_key()
    }
}

fn open_or_make(path: &Path, passphrase: Option<&Passphrase>) -> Result<SecretKey> {
    match fs::read_to_string(path) {
        Ok(text) => read(path, text.trim(), passphrase),
        Err(e) if e.kind() == ErrorKind::NotFound => make(path, passphrase),
        Err(e) => Err(e).with_context(|| {
            format!(
                "cannot read the key file {}; check its owner and mode, or put it back from a backup",
                path.display()
            )
        }),
    }
}

fn make(path: &Path, passphrase: Option<&Passphrase>) -> Result<SecretKey> {
    let key = SecretKey::generate();
    store(path, &key, passphrase)?;
    Ok(key)
}

/// Writes `key` to `path`, encrypted when there is a passphrase.
///
/// # Errors
/// When the disk refuses.
pub fn store(path: &Path, key: &SecretKey, passphrase: Option<&Passphrase>) -> Result<()> {
    let line = match passphrase {
        Some(words) => EncryptedSecretKey::new(key, words.expose(), SCRYPT_LOG_N, KeySecurity::Unknown)?.to_bech32()?,
        None => key.to_bech32()?,
    };
    write_private(path, format!("{line}\n").as_bytes())
        .with_context(|| format!("cannot write the key file {}", path.display()))
}

fn read(path: &Path, line: &str, passphrase: Option<&Passphrase>) -> Result<SecretKey> {
    let shown = path.display();
    let mode = fs::metadata(path)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        bail!("the key file {shown} can be read by others (mode {mode:o}); mend it with `chmod 600 {shown}`");
    }
    if line.starts_with("ncryptsec1") {
        let Some(words) = passphrase else {
            bail!(
                "the key file {shown} is encrypted; name its passphrase in node.passphrase_file, or start from a terminal"
            );
        };
        let sealed = EncryptedSecretKey::from_bech32(line).map_err(|_| damaged(path))?;
        return sealed
            .decrypt(words.expose())
            .map_err(|_| anyhow!("the passphrase does not open the key file {shown}; nothing was changed"));
    }
    let key = SecretKey::from_bech32(line).map_err(|_| damaged(path))?;
    if passphrase.is_some() {
        // A passphrase was set later: the file is encrypted from now on.
        store(path, &key, passphrase)?;
    }
    Ok(key)
}

/// True when the key file at `path` needs a passphrase.
pub fn is_encrypted(path: &Path) -> bool {
    fs::read_to_string(path).is_ok_and(|text| text.starts_with("ncryptsec1"))
}

fn damaged(path: &Path) -> anyhow::Error {
    anyhow!(
        "the key file {} is damaged; put it back from a backup (`timmy restore FILE`). Nothing was changed",
        path.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home() -> (tempfile::TempDir, Home) {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::locate(Some(dir.path().to_owned())).unwrap();
        home.create().unwrap();
        (dir, home)
    }

    fn open(home: &Home, words: Option<&str>) -> Result<NodeKeys> {
        NodeKeys::open(home, Passport::File, words.map(Passphrase::new).as_ref())
    }

    #[test]
    fn keys_are_made_once_and_kept() {
        let (_dir, home) = home();
        let first = open(&home, None).unwrap();
        let again = open(&home, None).unwrap();
        assert_eq!((first.install_key(), first.peer_id()), (again.install_key(), again.peer_id()));
        assert!(again.peer_id().starts_with("12D3Koo"));
        assert_eq!(first.passport.unwrap().public_key(), again.passport.unwrap().public_key());
    }

    #[test]
    fn a_passphrase_encrypts_and_a_wrong_one_is_an_error() {
        let (_dir, home) = home();
        let plain = open(&home, None).unwrap().passport.unwrap();
        let sealed = open(&home, Some("correct horse")).unwrap().passport.unwrap();
        assert_eq!(plain.public_key(), sealed.public_key());
        let file = home.keys().join("passport");
        let before = fs::read_to_string(&file).unwrap();
        assert!(before.starts_with("ncryptsec1"));
        let wrong = open(&home, Some("wrong")).unwrap_err().to_string();
        assert!(wrong.contains("does not open") && !wrong.contains("wrong\""), "{wrong}");
        let none = open(&home, None).unwrap_err().to_string();
        assert!(none.contains("passphrase_file"), "{none}");
        assert_eq!(fs::read_to_string(&file).unwrap(), before);
    }

    #[test]
    fn a_damaged_missing_or_open_file_never_becomes_a_new_key() {
        let (_dir, home) = home();
        open(&home, None).unwrap();
        let file = home.keys().join("passport");
        let good = fs::read_to_string(&file).unwrap();
        for damage in ["", "nsec1qqqq", "\u{0}\u{0}\u{0}", &good[..20]] {
            write_private(&file, damage.as_bytes()).unwrap();
            assert!(open(&home, None).unwrap_err().to_string().contains("damaged"), "{damage:?}");
            assert_eq!(fs::read_to_string(&file).unwrap(), damage);
        }
        fs::remove_file(&file).unwrap();
        assert!(open(&home, None).unwrap_err().to_string().contains("is gone"));
        assert!(!file.exists());
        write_private(&file, good.as_bytes()).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(open(&home, None).unwrap_err().to_string().contains("chmod 600"));
    }

    #[test]
    fn the_memorys_key_is_made_for_an_older_folder_and_never_replaced_beside_a_memory() {
        let (_dir, home) = home();
        open(&home, None).unwrap();
        let file = home.keys().join("memory");
        fs::remove_file(&file).unwrap();
        open(&home, None).unwrap();
        let made = fs::read_to_string(&file).unwrap();
        assert!(made.starts_with("nsec1"), "a folder from before there was a memory gets a key");
        fs::create_dir_all(home.memory()).unwrap();
        fs::write(home.memory_file(), b"").unwrap();
        open(&home, None).unwrap();
        fs::remove_file(&file).unwrap();
        let gone = open(&home, None).unwrap_err().to_string();
        assert!(gone.contains("keys/memory") && gone.contains("restore"), "{gone}");
        assert!(!file.exists());
        write_private(&file, b"damaged").unwrap();
        assert!(open(&home, None).unwrap_err().to_string().contains("damaged"));
        assert_eq!(fs::read(&file).unwrap(), b"damaged");
    }

    #[test]
    fn nothing_secret_shows_itself() {
        let (_dir, home) = home();
        let keys = open(&home, Some("hush hush")).unwrap();
        let shown = format!("{keys:?} {:?}", Passphrase::new("hush hush"));
        let secret = keys.passport.unwrap().secret_key().to_secret_hex();
        assert!(!shown.contains("hush") && !shown.contains(&secret), "{shown}");
    }
}
