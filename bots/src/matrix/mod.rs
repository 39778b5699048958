//! The Matrix door: one account of the agent on a homeserver, encrypted always (DESIGN §7).
//!
//! ```text
//!            ┌ sync ──► timeline ──► judged ──► Inbox (writes it down) ──► place of the room moves on
//! homeserver ┤
//!            └ gaps, restarts: back to the place of the room, by event ids; never by a clock
//!          ◄── words, each with a transaction id that its job gives: sent twice, it stands there once
//! ```
//!
//! The SDK keeps its sync token before anybody has seen what the sync brought. So the token is no proof that a message was taken: the door
//! keeps a place of its own for each room, and at each start reads back to it.
//!
//! What is not obeyed: clear text in an encrypted room (the homeserver could have written it), devices that their owner has not signed,
//! people who are not allowed. A room without encryption gets one word that says so.

mod account;
mod catch_up;
mod door;
mod judge;
mod look;
mod speech;
mod trust;
mod verification;

use std::path::PathBuf;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

pub use account::{Login, LoginError, Session, login};
pub use door::{Door, Link, OpenError};
pub use look::{Seen, look};
pub use speech::{MAX_PART, SayError, Saying};

/// The SDK's file of device keys.
const CRYPTO_STORE: &str = "matrix-sdk-crypto.sqlite3";

/// Where the SDK's stores lie and what they rest under.
#[derive(Clone)]
pub struct Store {
    /// Its folder.
    pub dir: PathBuf,
    /// The key.
    pub key: [u8; 32],
}

impl Store {
    /// True while the device's keys are there.
    pub fn is_there(&self) -> bool {
        self.dir.join(CRYPTO_STORE).exists()
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("dir", &self.dir).finish_non_exhaustive()
    }
}

/// How far a room has been read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The newest event that was taken.
    pub event: String,
    /// When the homeserver got it, Unix ms.
    pub at_ms: u64,
}

/// Something that a person wrote to the agent, or that they must be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incoming {
    /// The room.
    pub room: String,
    /// The event.
    pub event: String,
    /// Who wrote it: an MXID.
    pub sender: String,
    /// When the homeserver got it, Unix ms.
    pub at_ms: u64,
    /// The root of the thread it stands in.
    pub thread: Option<String>,
    /// What it is.
    pub what: What,
}

/// What came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// Words to the agent.
    Text(String),
    /// A file, a picture, a sound.
    File(MatrixFile),
    /// A mark on a message: (event, mark). It is never encrypted: the homeserver could have written it.
    Reaction(String, String),
    /// Something that is not obeyed, or cannot be: the person hears why.
    Refused(Why),
}

/// A file in a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MatrixFile {
    /// Its name.
    pub name: String,
    /// MIME type, as its sender says.
    pub mime: Option<String>,
    /// Bytes, as its sender says.
    pub bytes: Option<u64>,
    /// What was written with it.
    pub caption: String,
    /// It was spoken into the phone.
    pub is_voice: bool,
    /// Where it is and how it is decrypted: `EncryptedFile` of the specification, as JSON.
    pub source: String,
}

/// Why a message is not obeyed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// The room is not encrypted.
    OpenRoom,
    /// Clear text in an encrypted room.
    ClearText,
    /// The device that wrote it is not signed by its owner.
    UnsignedDevice,
    /// It could not be decrypted, and no key came in time.
    Unreadable,
    /// A file that is not encrypted.
    OpenFile,
}

impl Why {
    /// For the person.
    pub fn words(self) -> &'static str {
        match self {
            Self::OpenRoom => {
                "This room is not encrypted, so I do not talk in it. Switch encryption on, or begin an encrypted chat with me."
            }
            Self::ClearText => "That message was not encrypted, so anybody could have written it. I do not act on it.",
            Self::UnsignedDevice => {
                "I cannot act on that: the device that wrote it is not verified by you. Verify it in your client (Settings, Sessions), then write again."
            }
            Self::Unreadable => {
                "I could not decrypt that message: your client has not given me the key. Please send it again."
            }
            Self::OpenFile => "That file is not encrypted, so anybody could have put it there. I do not read it.",
        }
    }
}

/// Who takes what comes in, and remembers how far each room was read.
#[async_trait]
pub trait Inbox: Send + Sync + 'static {
    /// True for a person whom the agent talks with.
    fn is_allowed(&self, mxid: &str) -> bool;
    /// Takes a message; when it returns it is written down. One that is known is taken and forgotten.
    async fn take(&self, incoming: Incoming);
    /// How far a room was read.
    async fn place(&self, room: &str) -> Option<Place>;
    /// A room was read up to here.
    async fn set_place(&self, room: &str, place: Place);
}
