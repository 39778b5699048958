//! What the agent says: Markdown, in threads and as replies, by edits while it is being written.

use matrix_sdk::Room;
use matrix_sdk::attachment::AttachmentConfig;
use matrix_sdk::media::{MediaFormat, MediaRequestParameters};
use matrix_sdk::ruma::api::client::receipt::create_receipt::v3::ReceiptType;
use matrix_sdk::ruma::api::error::ErrorKind;
use matrix_sdk::ruma::events::receipt::ReceiptThread;
use matrix_sdk::ruma::events::relation::{Reply, Thread};
use matrix_sdk::ruma::events::room::message::{Relation, ReplacementMetadata, RoomMessageEventContent};
use matrix_sdk::ruma::events::room::{EncryptedFile, MediaSource};
use matrix_sdk::ruma::{EventId, OwnedEventId, OwnedTransactionId, RoomId};

use super::Door;

/// The longest part, bytes: an edit holds its text four times, encrypted.
pub const MAX_PART: usize = 8_000;

/// Something to say.
#[derive(Debug, Clone, Copy)]
pub struct Saying<'a> {
    /// Where.
    pub room: &'a str,
    /// Names it: said twice, it stands there once.
    pub transaction: &'a str,
    /// Markdown.
    pub text: &'a str,
    /// The message that it answers.
    pub answers: &'a str,
    /// The thread that it belongs to.
    pub thread: Option<&'a str>,
    /// The event whose place it takes.
    pub replaces: Option<&'a str>,
    /// A word of the program, which bots and phones leave alone.
    pub is_notice: bool,
}

/// Why something was not said.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SayError {
    /// It never will be: the agent is no longer in the room, or may not speak there.
    #[error("it cannot be said: {0}")]
    Never(String),
    /// The homeserver is away, or wants to be asked more slowly.
    #[error("it cannot be said yet: {0}")]
    NotYet(String),
}

impl Door {
    fn room(&self, room: &str) -> Result<Room, SayError> {
        let id = RoomId::parse(room).map_err(|e| SayError::Never(e.to_string()))?;
        self.client.get_room(&id).ok_or_else(|| SayError::Never("the agent is not in that room".to_owned()))
    }

    /// Says it and gives the id of the event.
    ///
    /// # Errors
    /// [`SayError`].
    pub async fn say(&self, saying: Saying<'_>) -> Result<String, SayError> {
        let room = self.room(saying.room)?;
        let content = content(saying)?;
        let transaction = OwnedTransactionId::from(saying.transaction);
        match room.send(content).with_transaction_id(transaction).await {
            Ok(sent) => Ok(sent.response.event_id.to_string()),
            Err(matrix_sdk::Error::WrongRoomState(error)) => Err(SayError::Never(error.to_string())),
            Err(error) => Err(match error.client_api_error_kind() {
                Some(ErrorKind::Forbidden | ErrorKind::TooLarge | ErrorKind::NotFound) => {
                    SayError::Never(error.to_string())
                }
                _ => SayError::NotYet(error.to_string()),
            }),
        }
    }

    /// Fetches a file of a message and decrypts it; `source` is its `EncryptedFile` as JSON.
    ///
    /// # Errors
    /// In words.
    pub async fn download(&self, source: &str) -> Result<Vec<u8>, String> {
        let file: EncryptedFile = serde_json::from_str(source).map_err(|_| "its key is garbled".to_owned())?;
        let request =
            MediaRequestParameters { source: MediaSource::Encrypted(Box::new(file)), format: MediaFormat::File };
        let content = self.client.media().get_media_content(&request, false).await;
        content.map_err(|error| error.to_string())
    }

    /// Says a sound, Opus in Ogg; under the same transaction it stands there once.
    ///
    /// # Errors
    /// [`SayError`].
    pub async fn say_sound(&self, room: &str, transaction: &str, sound: Vec<u8>) -> Result<(), SayError> {
        let room = self.room(room)?;
        let config = AttachmentConfig::new().txn_id(OwnedTransactionId::from(transaction));
        let ogg = "audio/ogg".parse::<mime::Mime>().map_err(|error| SayError::Never(error.to_string()))?;
        let sent = room.send_attachment("answer.ogg", &ogg, sound, config).await;
        sent.map(drop).map_err(|error| SayError::NotYet(error.to_string()))
    }

    /// Shows that it writes, for four seconds; or no more.
    pub async fn typing(&self, room: &str, is_typing: bool) {
        if let Ok(room) = self.room(room)
            && let Err(error) = room.typing_notice(is_typing).await
        {
            tracing::debug!(%error, "typing is not shown");
        }
    }

    /// Tells the person that a message was read.
    pub async fn read(&self, room: &str, event: &str) {
        let (Ok(room), Ok(event)) = (self.room(room), EventId::parse(event)) else { return };
        if let Err(error) = room.send_single_receipt(ReceiptType::Read, ReceiptThread::Unthreaded, event).await {
            tracing::debug!(%error, "a receipt was not sent");
        }
    }
}

fn event_id(id: &str) -> Result<OwnedEventId, SayError> {
    EventId::parse(id).map_err(|e| SayError::Never(e.to_string()))
}

fn content(saying: Saying<'_>) -> Result<RoomMessageEventContent, SayError> {
    let mut content = if saying.is_notice {
        RoomMessageEventContent::notice_markdown(saying.text)
    } else {
        RoomMessageEventContent::text_markdown(saying.text)
    };
    if let Some(replaced) = saying.replaces {
        return Ok(content.make_replacement(ReplacementMetadata::new(event_id(replaced)?, None)));
    }
    let answers = event_id(saying.answers)?;
    content.relates_to = Some(match saying.thread {
        Some(root) => Relation::Thread(Thread::plain(event_id(root)?, answers)),
        None => Relation::Reply(Reply::with_event_id(answers)),
    });
    Ok(content)
}
