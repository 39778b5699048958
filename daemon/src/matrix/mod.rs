//! Matrix at the desk: what comes in by `bots::matrix` becomes orders like those of every other door, and what is said of them goes out
//! by a mouth of its own.
//!
//! | crashed | then |
//! |---|---|
//! | before a message is in the journal | its room's place has not moved: it is read again |
//! | while the answer is written | the worker begins anew; the half answer in the room is edited |
//! | after the answer is in the journal | the mouth says it again under the same transaction id: it stands there once |

mod inbox;
mod mouth;
mod writing;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use bots::matrix::{Door, Link, Login, OpenError, Session, Store, login};
use nips::job::JobId;
use sha2::{Digest, Sha256};
use tokio::sync::Notify;

use crate::config::Config;
use crate::desk::{DeskHandle, Tools};
use crate::home::{Home, write_private};
use crate::keys::NodeKeys;
pub use mouth::words;
use writing::Writing;

/// What the device is called in people's clients.
const DEVICE_NAME: &str = "timmy";
/// A login that failed is tried again after this: homeservers allow few.
const LOGIN_AGAIN: Duration = Duration::from_secs(300);

/// The order of a message.
pub fn job_of(event: &str) -> JobId {
    JobId::from_bytes(Sha256::new().chain_update("timmy/matrix/1").chain_update(event).finalize().into())
}

/// Where the account's files lie.
#[derive(Debug, Clone)]
pub struct Files {
    dir: PathBuf,
    store: Store,
}

impl Files {
    /// Of this install. The stores rest under a key that a restored backup does not have: two nodes on one device would break its
    /// encryption.
    pub fn new(home: &Home, keys: &NodeKeys) -> Self {
        let dir = home.matrix();
        let key = Sha256::new()
            .chain_update("timmy/matrix-store/1")
            .chain_update(keys.install.secret_key().as_secret_bytes());
        Self { store: Store { dir: dir.join("store"), key: key.finalize().into() }, dir }
    }

    fn session_file(&self) -> PathBuf {
        self.dir.join("session.json")
    }

    fn recovery_file(&self) -> PathBuf {
        self.dir.join("recovery-key")
    }

    /// The session; none before the first login.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn session(&self) -> Result<Option<Session>> {
        let path = self.session_file();
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        let session = serde_json::from_str(&text)
            .with_context(|| format!("{} is damaged; log in anew: `timmy matrix login`", path.display()))?;
        Ok(Some(session))
    }

    /// The recovery key that a login made, until it was handed over.
    pub fn recovery_key(&self) -> Option<String> {
        std::fs::read_to_string(self.recovery_file()).ok().map(|text| text.trim().to_owned())
    }

    /// True while the device's keys are there.
    pub fn has_store(&self) -> bool {
        self.store.is_there()
    }

    /// Forgets it.
    ///
    /// # Errors
    /// When the file cannot be removed.
    pub fn forget_recovery_key(&self) -> Result<()> {
        Ok(std::fs::remove_file(self.recovery_file())?)
    }

    /// Logs in and keeps what it gives.
    ///
    /// # Errors
    /// Says why not; then nothing has changed.
    pub async fn login(
        &self,
        homeserver: &str,
        user: &str,
        password: &str,
        recovery_key: Option<&str>,
    ) -> Result<Session> {
        std::fs::create_dir_all(&self.dir)?;
        let own = self.recovery_key();
        let recovery_key = recovery_key.or(own.as_deref());
        let asked = Login { homeserver, user, password, recovery_key, device_name: DEVICE_NAME };
        // Nothing of the old device is any use to the new one.
        let (session, made) = login(asked, &self.store).await?;
        if let Some(key) = made {
            write_private(&self.recovery_file(), key.as_bytes())?;
        }
        write_private(&self.session_file(), serde_json::to_string(&session)?.as_bytes())?;
        Ok(session)
    }
}

/// The account of a running node.
#[derive(Clone)]
pub struct Matrix(Arc<Inner>);

struct Inner {
    files: Files,
    /// From the configuration: homeserver, user, password.
    first: Option<(String, String, String)>,
    door: OnceLock<Door>,
    user: OnceLock<String>,
    trouble: Mutex<Option<String>>,
    writing: Mutex<BTreeMap<JobId, Arc<tokio::sync::Mutex<Writing>>>>,
    due: Notify,
}

/// How the account stands.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct MatrixStatus {
    /// `@timmy:example.org`; none before the first login.
    pub user: Option<String>,
    /// The last sync went well.
    pub connected: bool,
    /// The device is signed by the account's identity; none before that is known.
    pub cross_signed: Option<bool>,
    /// Room keys are backed up; none before that is known.
    pub backup: Option<bool>,
    /// Rooms that it is in.
    pub rooms: usize,
    /// Messages that wait for their keys.
    pub unreadable: usize,
    /// The recovery key waits to be handed over.
    pub recovery_key_waits: bool,
    /// What is wrong.
    pub trouble: Option<String>,
}

impl Matrix {
    /// The account of this node; none where neither a session nor a configuration is there.
    ///
    /// # Errors
    /// When the password file cannot be read.
    pub fn of(home: &Home, config: &Config, keys: &NodeKeys) -> Result<Option<Self>> {
        let files = Files::new(home, keys);
        let settings = &config.matrix;
        let first = match (&settings.homeserver, &settings.user, &settings.password_file) {
            (Some(homeserver), Some(user), Some(file)) => {
                let password = std::fs::read_to_string(file)
                    .with_context(|| format!("cannot read matrix.password_file {}", file.display()))?;
                Some((homeserver.to_string(), user.clone(), password.trim_end_matches(['\r', '\n']).to_owned()))
            }
            _ => None,
        };
        if first.is_none() && settings.user.is_none() && !files.session_file().exists() {
            return Ok(None);
        }
        Ok(Some(Self(Arc::new(Inner {
            files,
            first,
            door: OnceLock::new(),
            user: OnceLock::new(),
            trouble: Mutex::new(None),
            writing: Mutex::default(),
            due: Notify::new(),
        }))))
    }

    /// Opens the door and works until the node ends.
    pub async fn run(self, tools: Arc<Tools>, desk: DeskHandle) {
        let cancel = tools.cancel.clone();
        tokio::select! {
            () = cancel.cancelled() => {}
            () = self.work(tools, desk) => {}
        }
    }

    async fn work(&self, tools: Arc<Tools>, desk: DeskHandle) {
        let (door, session) = loop {
            match self.open().await {
                Ok(opened) => break opened,
                Err(error) => {
                    let why = format!("{error:#}");
                    tracing::error!(why, "the Matrix door does not open");
                    self.trouble(Some(why));
                    tokio::time::sleep(LOGIN_AGAIN).await;
                }
            }
        };
        self.trouble(None);
        let _ = self.0.user.set(session.user().to_owned());
        let _ = self.0.door.set(door.clone());
        tools.tracker.spawn(self.clone().speak(Arc::clone(&tools), desk.clone()));
        let inbox = Arc::new(inbox::DeskInbox { tools: Arc::clone(&tools), desk });
        door.run(session.places, inbox, tools.tracker.clone(), tools.cancel.clone()).await;
    }

    async fn open(&self) -> Result<(Door, Session)> {
        let files = &self.0.files;
        let session = match (files.session()?, &self.0.first) {
            (Some(session), _) => session,
            (None, Some((homeserver, user, password))) => {
                let session = files.login(homeserver, user, password, None).await?;
                tracing::info!(user, "logged in; the recovery key waits for its owner: `timmy matrix recovery-key`");
                session
            }
            (None, None) => anyhow::bail!("there is no session; log in: `timmy matrix login`"),
        };
        match (Door::open(&session, &files.store).await, &self.0.first) {
            (Ok(door), _) => Ok((door, session)),
            // The device is lost: another one, signed by the recovery key if it is still here.
            (Err(error @ OpenError::Lost(_)), Some((homeserver, user, password))) => {
                tracing::warn!(%error, "logging in as a new device");
                let session = files.login(homeserver, user, password, None).await?;
                Ok((Door::open(&session, &files.store).await?, session))
            }
            (Err(error), _) => Err(error.into()),
        }
    }

    fn trouble(&self, why: Option<String>) {
        *self.0.trouble.lock().unwrap_or_else(PoisonError::into_inner) = why;
    }

    fn door(&self) -> Option<&Door> {
        self.0.door.get()
    }

    /// Fetches a file of a message and decrypts it.
    ///
    /// # Errors
    /// In words.
    pub async fn download(&self, source: &str) -> Result<Vec<u8>, String> {
        let door = self.door().ok_or_else(|| "the Matrix door is not open".to_owned())?;
        door.download(source).await
    }

    /// Something waits to be said.
    pub fn wake(&self) {
        self.0.due.notify_one();
    }

    /// How it stands.
    pub fn status(&self) -> MatrixStatus {
        let link = self.door().map(Door::link).unwrap_or_default();
        let Link { is_connected, is_signed, has_backup, rooms, unreadable, trouble, .. } = link;
        let own = self.0.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone();
        MatrixStatus {
            user: self.0.user.get().cloned(),
            connected: is_connected,
            cross_signed: is_signed,
            backup: has_backup,
            rooms,
            unreadable,
            recovery_key_waits: self.0.files.recovery_key().is_some(),
            trouble: trouble.or(own),
        }
    }
}
