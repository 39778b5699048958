//! The loop of the door: syncs, joins whom it may, and hands on what is said.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use matrix_sdk::config::SyncSettings;
use matrix_sdk::deserialized_responses::{TimelineEvent, TimelineEventKind, VerificationLevel, VerificationState};
use matrix_sdk::encryption::recovery::RecoveryState;
use matrix_sdk::ruma::api::error::ErrorKind;
use matrix_sdk::ruma::events::room::encrypted::OriginalSyncRoomEncryptedEvent;
use matrix_sdk::ruma::serde::Raw;
use matrix_sdk::sync::{JoinedRoomUpdate, SyncResponse};
use matrix_sdk::{Client, Room, RoomMemberships, RoomState};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::account::{self, Session};
use super::judge::{Judged, Setting, judge, place};
use super::trust::is_signed;
use super::{Inbox, Incoming, Place, Store, What, Why, verification};

/// How long the homeserver holds a sync that has nothing to say.
const POLL: Duration = Duration::from_secs(30);
/// The same while a message waits for its key.
const POLL_FOR_KEYS: Duration = Duration::from_secs(2);
/// How long a message waits for its key before the person is told.
const KEY_WAIT: Duration = Duration::from_secs(30);
/// A room hears the same refusal once in this time.
const SAME_WORD: Duration = Duration::from_secs(600);
/// Waits between tries while the homeserver is away: the first, and the longest.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// Tries to join: the homeserver may tell of an invitation before it can be taken up.
const JOIN_TRIES: u32 = 4;

/// How the door stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Link {
    /// The last sync went well.
    pub is_connected: bool,
    /// The device is signed by its owner; none before that is known.
    pub is_signed: Option<bool>,
    /// Room keys are kept on the homeserver, encrypted; none before that is known.
    pub has_backup: Option<bool>,
    /// Rooms that it is in.
    pub rooms: usize,
    /// Messages whose keys are missing.
    pub unreadable: usize,
    /// What is wrong, in words for the owner.
    pub trouble: Option<String>,
    /// It has ended for good: the token was revoked, or the device is unsigned.
    pub is_over: bool,
}

/// Why the door does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The stores are gone: to go on with their device would break its encryption.
    #[error("the Matrix store {0} is gone, and with it the device; log in anew: `timmy matrix login`")]
    Lost(String),
    /// The stores.
    #[error("the Matrix store cannot be opened: {0}. If it was lost or copied, log in anew: `timmy matrix login`")]
    Store(String),
    /// The session.
    #[error("the Matrix session cannot be restored: {0}. Log in anew: `timmy matrix login`")]
    Session(String),
}

/// A message that cannot be read yet.
struct Waiting {
    incoming: Incoming,
    raw: Raw<OriginalSyncRoomEncryptedEvent>,
    until: Instant,
}

/// One account, open.
#[derive(Clone)]
pub struct Door {
    pub(super) client: Client,
    link: Arc<watch::Sender<Link>>,
    me: String,
}

impl std::fmt::Debug for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Door").field("me", &self.me).finish_non_exhaustive()
    }
}

impl Door {
    /// Opens the stores and restores the session; nothing is sent yet.
    ///
    /// # Errors
    /// When the store or the session is not what it was.
    pub async fn open(session: &Session, store: &Store) -> Result<Self, OpenError> {
        if !store.is_there() {
            return Err(OpenError::Lost(store.dir.display().to_string()));
        }
        let client = account::client(&session.homeserver, store).await.map_err(|e| OpenError::Store(e.to_string()))?;
        client.restore_session(session.session.clone()).await.map_err(|e| OpenError::Session(e.to_string()))?;
        Ok(Self { client, link: Arc::new(watch::Sender::new(Link::default())), me: session.user().to_owned() })
    }

    /// How it stands now.
    pub fn link(&self) -> Link {
        self.link.borrow().clone()
    }

    /// Works until `cancel`, or until the account is of no more use: [`Link::is_over`].
    pub async fn run(
        self,
        places: BTreeMap<String, Place>,
        inbox: Arc<dyn Inbox>,
        tracker: TaskTracker,
        cancel: CancellationToken,
    ) {
        for (room, place) in places {
            if inbox.place(&room).await.is_none() {
                inbox.set_place(&room, place).await;
            }
        }
        verification::answer(&self.client, &inbox, &tracker, &cancel);
        let looping = Loop {
            client: self.client.clone(),
            link: Arc::clone(&self.link),
            me: self.me,
            inbox,
            read: BTreeSet::new(),
            waiting: BTreeMap::new(),
            places: BTreeMap::new(),
            told: BTreeMap::new(),
        };
        tokio::select! {
            () = cancel.cancelled() => {}
            () = looping.run() => {}
        }
        self.link.send_modify(|link| link.is_connected = false);
    }
}

pub(super) struct Loop {
    pub client: Client,
    link: Arc<watch::Sender<Link>>,
    pub me: String,
    pub inbox: Arc<dyn Inbox>,
    /// Rooms that were read back to their place since the start.
    read: BTreeSet<String>,
    waiting: BTreeMap<String, Waiting>,
    /// Places that are not told yet, since something before them waits.
    places: BTreeMap<String, Place>,
    told: BTreeMap<(String, Why), Instant>,
}

impl Loop {
    async fn run(mut self) {
        let mut pause = RETRY.0;
        let mut is_checked = false;
        loop {
            let wait = match (is_checked, self.waiting.is_empty()) {
                (false, _) => Duration::ZERO,
                (true, true) => POLL,
                (true, false) => POLL_FOR_KEYS,
            };
            match self.client.sync_once(SyncSettings::default().timeout(wait)).await {
                Ok(response) => {
                    pause = RETRY.0;
                    if !is_checked {
                        match self.check().await {
                            Ok(true) => is_checked = true,
                            Ok(false) => return,
                            Err(error) => {
                                self.trouble(&error);
                                tokio::time::sleep(pause).await;
                            }
                        }
                    }
                    self.synced(response).await;
                }
                Err(error) if is_revoked(&error) => {
                    return self.over("the homeserver no longer knows this session; log in anew: `timmy matrix login`");
                }
                Err(error) => {
                    self.trouble(&error);
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(RETRY.1);
                }
            }
        }
    }

    /// An unsigned device is a door that people's clients shut: it stays closed until that is mended.
    async fn check(&self) -> matrix_sdk::Result<bool> {
        self.client.encryption().wait_for_e2ee_initialization_tasks().await;
        let signed = is_signed(&self.client).await?;
        let backup = self.client.encryption().recovery().state() == RecoveryState::Enabled;
        self.link.send_modify(|link| (link.is_signed, link.has_backup) = (Some(signed), Some(backup)));
        if !signed {
            self.over(
                "this device is not signed by the account's identity, so people would see a red shield and send it no keys; log in anew with the account's recovery key: `timmy matrix login … --recovery-key-file FILE`",
            );
        }
        Ok(signed)
    }

    fn over(&self, why: &str) {
        tracing::error!(user = self.me, why, "the Matrix door is shut");
        self.link.send_modify(|link| {
            (link.is_over, link.is_connected, link.trouble) = (true, false, Some(why.to_owned()));
        });
    }

    fn trouble(&self, error: &matrix_sdk::Error) {
        let was_connected = self.link.borrow().is_connected;
        if was_connected {
            tracing::warn!(%error, "the homeserver cannot be reached; tried again");
        }
        self.link.send_modify(|link| (link.is_connected, link.trouble) = (false, Some(error.to_string())));
    }

    async fn synced(&mut self, response: SyncResponse) {
        for (room_id, update) in response.rooms.joined {
            if let Some(room) = self.client.get_room(&room_id) {
                self.room(&room, update).await;
            }
        }
        // Also rooms that were silent: something may have been written before the last end that nobody took.
        let unread: Vec<Room> = self
            .client
            .joined_rooms()
            .into_iter()
            .filter(|room| !self.read.contains(room.room_id().as_str()))
            .collect();
        for room in unread {
            self.room(&room, JoinedRoomUpdate::default()).await;
        }
        for room in self.client.invited_rooms() {
            self.invited(&room).await;
        }
        self.read_again().await;
        let (rooms, unreadable) = (self.client.joined_rooms().len(), self.waiting.len());
        self.link.send_modify(|link| {
            (link.is_connected, link.trouble, link.rooms, link.unreadable) = (true, None, rooms, unreadable);
        });
    }

    async fn room(&mut self, room: &Room, update: JoinedRoomUpdate) {
        let id = room.room_id().to_string();
        let is_first = self.read.insert(id.clone());
        let mut events = Vec::new();
        let mut fresh = update.timeline.events;
        if let Some(at) = self.place_in(&id, &fresh).await {
            fresh.drain(..=at);
        } else if is_first || update.timeline.limited {
            match self.since_place(room, update.timeline.prev_batch.clone()).await {
                Ok(missed) => events = missed,
                Err(error) => {
                    tracing::warn!(room = id, %error, "a gap in a room cannot be read yet");
                    self.read.remove(&id);
                    // The next sync reads back over this one too.
                    return;
                }
            }
        }
        events.extend(fresh);
        self.timeline(room, events).await;
    }

    /// Where a room's place stands among these events.
    async fn place_in(&self, room: &str, events: &[TimelineEvent]) -> Option<usize> {
        let place = self.inbox.place(room).await?;
        events.iter().position(|event| event.event_id().is_some_and(|id| id.as_str() == place.event))
    }

    /// Judges events in their order and takes what is for the agent.
    async fn timeline(&mut self, room: &Room, events: Vec<TimelineEvent>) {
        let Some(newest) = events.iter().rev().find_map(place) else { return };
        let id = room.room_id().to_string();
        let is_encrypted = room.latest_encryption_state().await.is_ok_and(|state| state.is_encrypted());
        let is_dm = is_for_two(room).await;
        let me = self.me.clone();
        let setting = Setting { room: &id, me: &me, is_encrypted, is_dm };
        for event in events {
            let event = self.with_newest_keys(room, event).await;
            match judge(&event, setting) {
                Judged::Nothing => {}
                Judged::Taken(incoming) => self.take(incoming).await,
                Judged::Unreadable(incoming) if self.inbox.is_allowed(&incoming.sender) => {
                    let raw = event.raw().clone().cast_unchecked();
                    let until = Instant::now() + KEY_WAIT;
                    self.waiting.insert(incoming.event.clone(), Waiting { incoming, raw, until });
                }
                Judged::Unreadable(_) => {}
            }
        }
        self.places.insert(id.clone(), newest);
        self.tell_place(&id).await;
    }

    /// A person's first message may be here before their keys are. What comes of a device that seems to be signed by nobody is looked at
    /// once more with the newest keys of its sender, before anything is said of it.
    async fn with_newest_keys(&self, room: &Room, mut event: TimelineEvent) -> TimelineEvent {
        let TimelineEventKind::Decrypted(decrypted) = &mut event.kind else { return event };
        let info = Arc::clone(&decrypted.encryption_info);
        let is_unsigned = matches!(
            info.verification_state,
            VerificationState::Unverified(VerificationLevel::UnsignedDevice | VerificationLevel::None(_))
        );
        if !is_unsigned || !self.inbox.is_allowed(info.sender.as_str()) {
            return event;
        }
        if let Err(error) = self.client.encryption().request_user_identity(&info.sender).await {
            tracing::debug!(%error, "the newest keys of a person cannot be had");
        }
        if let Some(session) = info.session_id()
            && let Some(newest) = room.get_encryption_info(session, &info.sender).await
        {
            decrypted.encryption_info = newest;
        }
        event
    }

    /// A place is told once nothing before it waits.
    async fn tell_place(&mut self, room: &str) {
        if self.waiting.values().any(|one| one.incoming.room == room) {
            return;
        }
        if let Some(place) = self.places.remove(room) {
            self.inbox.set_place(room, place).await;
        }
    }

    async fn take(&mut self, incoming: Incoming) {
        if !self.inbox.is_allowed(&incoming.sender) {
            return;
        }
        if let What::Refused(why) = incoming.what {
            let key = (incoming.room.clone(), why);
            if self.told.get(&key).is_some_and(|at| at.elapsed() < SAME_WORD) {
                return;
            }
            self.told.retain(|_, at| at.elapsed() < SAME_WORD);
            self.told.insert(key, Instant::now());
        } else {
            self.told.retain(|(room, _), _| *room != incoming.room);
        }
        self.inbox.take(incoming).await;
    }

    /// Tries what could not be decrypted once more; after a while the person is told.
    async fn read_again(&mut self) {
        let ids: Vec<String> = self.waiting.keys().cloned().collect();
        let mut rooms = BTreeSet::new();
        for id in ids {
            let Some(one) = self.waiting.get(&id) else { continue };
            let room = self.client.joined_rooms().into_iter().find(|room| room.room_id().as_str() == one.incoming.room);
            let Some(room) = room else {
                self.waiting.remove(&id);
                continue;
            };
            let is_late = one.until <= Instant::now();
            match room.decrypt_event(&one.raw, None).await {
                Ok(event) if event.encryption_info().is_some() => {
                    self.waiting.remove(&id);
                    self.read_late(&room, event).await;
                }
                _ if is_late => {
                    if let Some(one) = self.waiting.remove(&id) {
                        self.take(one.incoming).await;
                    }
                }
                _ => continue,
            }
            rooms.insert(room.room_id().to_string());
        }
        for room in rooms {
            self.tell_place(&room).await;
        }
    }

    async fn read_late(&mut self, room: &Room, event: TimelineEvent) {
        let is_dm = is_for_two(room).await;
        let (id, me) = (room.room_id().to_string(), self.me.clone());
        let setting = Setting { room: &id, me: &me, is_encrypted: true, is_dm };
        let event = self.with_newest_keys(room, event).await;
        if let Judged::Taken(incoming) = judge(&event, setting) {
            self.take(incoming).await;
        }
    }

    /// Joins whoever is allowed, declines the others.
    async fn invited(&self, room: &Room) {
        let inviter =
            room.invite_details().await.ok().and_then(|invite| invite.inviter).map(|who| who.user_id().to_string());
        let Some(inviter) = inviter.filter(|who| self.inbox.is_allowed(who)) else {
            tracing::info!("an invitation from somebody who is not allowed is declined");
            if let Err(error) = room.leave().await {
                tracing::debug!(%error, "an invitation cannot be declined yet");
            }
            return;
        };
        let is_direct = room.is_direct().await.unwrap_or(false);
        let mut pause = RETRY.0;
        for _ in 0..JOIN_TRIES {
            match room.join().await {
                Ok(()) => break,
                Err(_) if room.state() == RoomState::Joined => break,
                Err(error) => {
                    tracing::debug!(%error, "not joined yet");
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
            }
        }
        if is_direct && let Err(error) = room.set_is_direct(true).await {
            tracing::debug!(%error, "the room is not marked as a direct chat");
        }
        tracing::info!(inviter, "joined a room");
    }
}

/// True for a chat in which everything is meant for the agent. The counts that a sync brings may be missing yet: who is there is asked.
async fn is_for_two(room: &Room) -> bool {
    if room.is_direct().await.unwrap_or(false) {
        return true;
    }
    room.members(RoomMemberships::ACTIVE).await.is_ok_and(|members| members.len() <= 2)
}

fn is_revoked(error: &matrix_sdk::Error) -> bool {
    matches!(error.client_api_error_kind(), Some(ErrorKind::UnknownToken { .. } | ErrorKind::UserDeactivated))
}
