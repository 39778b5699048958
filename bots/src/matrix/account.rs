//! The first login, and the session that every later start restores. Homeservers allow few logins: never one a start.

use std::collections::BTreeMap;

use matrix_sdk::authentication::matrix::MatrixSession;
use matrix_sdk::config::SyncSettings;
use matrix_sdk::encryption::recovery::RecoveryState;
use matrix_sdk::encryption::{BackupDownloadStrategy, EncryptionSettings};
use matrix_sdk::{Client, SqliteStoreConfig};
use serde::{Deserialize, Serialize};

use super::trust::is_signed;
use super::{Place, Store};

/// What a start needs. Secret: it holds the access token.
#[derive(Clone, Serialize, Deserialize)]
pub struct Session {
    /// The homeserver's address.
    pub homeserver: String,
    /// User, device, token.
    pub session: MatrixSession,
    /// How far each room had been written at the login: what is older is not the agent's to answer.
    pub places: BTreeMap<String, Place>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("homeserver", &self.homeserver)
            .field("user", &self.user())
            .finish_non_exhaustive()
    }
}

impl Session {
    /// The account.
    pub fn user(&self) -> &str {
        self.session.meta.user_id.as_str()
    }

    /// Its device.
    pub fn device(&self) -> &str {
        self.session.meta.device_id.as_str()
    }
}

/// How to log in.
pub struct Login<'a> {
    /// `https://matrix.example.org`.
    pub homeserver: &'a str,
    /// `@timmy:example.org`.
    pub user: &'a str,
    /// The password.
    pub password: &'a str,
    /// The account's recovery key, where it has an identity from another client.
    pub recovery_key: Option<&'a str>,
    /// What the device is called in people's clients.
    pub device_name: &'a str,
}

impl std::fmt::Debug for Login<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login").field("homeserver", &self.homeserver).field("user", &self.user).finish_non_exhaustive()
    }
}

/// Why there is no session. For people.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// Nobody there.
    #[error("the homeserver {homeserver} does not answer: {why}")]
    Homeserver {
        /// Its address.
        homeserver: String,
        /// What happened.
        why: String,
    },
    /// It refused.
    #[error("the homeserver refuses the login of {user}: {why}")]
    Refused {
        /// Who.
        user: String,
        /// What it said.
        why: String,
    },
    /// The device stays unsigned.
    #[error(
        "the account {user} has a cross-signing identity from another client, and this device is not signed by it: people would see a red shield, and many clients would send it no keys. Give the account's recovery key (Element: Settings, Encryption): `timmy matrix login … --recovery-key-file FILE`"
    )]
    Unsigned {
        /// Who.
        user: String,
    },
    /// The recovery key does not fit.
    #[error("the recovery key is not the one of {user}: {why}")]
    RecoveryKey {
        /// Who.
        user: String,
        /// What happened.
        why: String,
    },
    /// Something else.
    #[error("{doing}: {why}")]
    Failed {
        /// What was done.
        doing: &'static str,
        /// What happened.
        why: String,
    },
}

fn failed<E: std::fmt::Display>(doing: &'static str) -> impl FnOnce(E) -> LoginError {
    move |error| LoginError::Failed { doing, why: error.to_string() }
}

pub(super) async fn client(homeserver: &str, store: &Store) -> Result<Client, matrix_sdk::ClientBuildError> {
    let settings = EncryptionSettings {
        auto_enable_cross_signing: true,
        auto_enable_backups: true,
        backup_download_strategy: BackupDownloadStrategy::AfterDecryptionFailure,
    };
    let sqlite = SqliteStoreConfig::new(&store.dir).key(Some(&store.key));
    Client::builder()
        .homeserver_url(homeserver)
        .sqlite_store_with_config_and_cache_path(sqlite, None::<&str>)
        .with_encryption_settings(settings)
        .build()
        .await
}

/// Logs in, sees that the device is signed, and hands over what a start needs; beside it a new recovery key, where one was made. On an error
/// nothing stays behind, on the homeserver or here.
///
/// # Errors
/// [`LoginError`], for people.
pub async fn login(login: Login<'_>, store: &Store) -> Result<(Session, Option<String>), LoginError> {
    // A store belongs to one device; this will be another one.
    let _ = tokio::fs::remove_dir_all(&store.dir).await;
    let nobody = |error: &dyn std::fmt::Display| LoginError::Homeserver {
        homeserver: login.homeserver.to_owned(),
        why: error.to_string(),
    };
    let client = client(login.homeserver, store).await.map_err(|e| nobody(&e))?;
    let auth = client.matrix_auth();
    auth.get_login_types().await.map_err(|e| nobody(&e))?;
    let refused = |e: matrix_sdk::Error| LoginError::Refused { user: login.user.to_owned(), why: e.to_string() };
    auth.login_username(login.user, login.password)
        .initial_device_display_name(login.device_name)
        .send()
        .await
        .map_err(refused)?;
    let made = settle(&client, &login).await;
    if made.is_err() {
        let _ = client.logout().await;
        drop(client);
        let _ = tokio::fs::remove_dir_all(&store.dir).await;
    }
    made
}

async fn settle(client: &Client, login: &Login<'_>) -> Result<(Session, Option<String>), LoginError> {
    client.encryption().wait_for_e2ee_initialization_tasks().await;
    let synced = client.sync_once(SyncSettings::default()).await.map_err(failed("the first sync"))?;
    let signed = || async { is_signed(client).await.map_err(failed("looking at the device's signature")) };
    if let Some(key) = login.recovery_key {
        client
            .encryption()
            .recovery()
            .recover(key.trim())
            .await
            .map_err(|e| LoginError::RecoveryKey { user: login.user.to_owned(), why: e.to_string() })?;
    }
    if !signed().await? {
        return Err(LoginError::Unsigned { user: login.user.to_owned() });
    }
    let recovery = client.encryption().recovery();
    let new_key = match recovery.state() {
        RecoveryState::Disabled => Some(recovery.enable().await.map_err(failed("making a recovery key"))?),
        RecoveryState::Enabled | RecoveryState::Incomplete | RecoveryState::Unknown => None,
    };
    let mut places = BTreeMap::new();
    for (room, update) in &synced.rooms.joined {
        let newest = update.timeline.events.iter().rev().find_map(super::judge::place);
        if let Some(place) = newest {
            places.insert(room.to_string(), place);
        }
    }
    let session = client.matrix_auth().session().ok_or_else(|| failed("reading the session")("there is none"))?;
    Ok((Session { homeserver: client.homeserver().to_string(), session, places }, new_key))
}
