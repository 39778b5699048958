//! What is asked of the node, whichever door it came by.

use nips::Audience;
use nips::dm::SealedFile;
use nips::job::{Cipher, JobId, Source, request};
use nostr::{Event, PublicKey, RelayUrl};
use serde::{Deserialize, Serialize};

/// The kind under which a conversation stands in the journal (NIP-17 chat).
pub const TALK_KIND: u16 = nips::dm::CHAT_KIND;

/// One order: what to do, for whom, and how to answer. The job machine never sees it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Order {
    /// Its id.
    pub id: JobId,
    /// What to do.
    pub work: Work,
    /// For whom.
    pub audience: Audience,
    /// The door, and how to answer.
    pub origin: Origin,
    /// The node that is to do it, where somebody named one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on: Option<PublicKey>,
}

/// What to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "work", rename_all = "snake_case")]
pub enum Work {
    /// A job of NIP-90.
    Job {
        /// 5000–5999.
        kind: u16,
        /// What to work on.
        inputs: Vec<Source>,
        /// Parameters.
        params: Vec<(String, String)>,
        /// Wanted MIME type.
        output: Option<String>,
    },
    /// A message to the agent.
    Talk {
        /// What was said.
        text: String,
        /// What was sent with it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        file: Option<Box<Attachment>>,
    },
    /// A mark on something that the agent said: yes or no.
    Mark {
        /// The message that it is on: a rumor's id, or a Matrix event.
        on: String,
        /// A yes.
        yes: bool,
    },
    /// The polite line to a stranger, at most one a day.
    Greet,
    /// The new owner is welcomed.
    Welcome,
    /// A word of the program: why something is not obeyed.
    Say {
        /// It.
        text: String,
    },
}

/// A file that a person sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// Its name.
    pub name: String,
    /// MIME type, as its sender says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mime: Option<String>,
    /// It was spoken.
    #[serde(default)]
    pub is_voice: bool,
    /// Where it is.
    pub place: FilePlace,
    /// Its text, once it was read; what was said, where it was spoken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
}

/// Where a file is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FilePlace {
    /// Named by a NIP-17 message.
    Nostr(SealedFile),
    /// On the homeserver: `EncryptedFile`, as JSON.
    Matrix(String),
}

impl Work {
    /// A message of words alone.
    pub const fn talk(text: String) -> Self {
        Self::Talk { text, file: None }
    }
}

/// Where an order came from.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "door", rename_all = "snake_case")]
pub enum Origin {
    /// A NIP-90 request.
    Nostr {
        /// The request as it came.
        request: Box<Event>,
        /// How it was encrypted.
        cipher: Option<Cipher>,
        /// Where the customer wants the answer.
        relays: Vec<RelayUrl>,
        /// The outside relay it came by.
        came_by: Option<RelayUrl>,
    },
    /// A NIP-17 message.
    Message {
        /// Who wrote it.
        author: PublicKey,
        /// The outside relay it came by.
        came_by: Option<RelayUrl>,
        /// How long its author wants it to last, seconds; the answer lasts as long.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lasts_s: Option<u64>,
    },
    /// A message in a Matrix room.
    Matrix {
        /// The room.
        room: String,
        /// The event.
        event: String,
        /// Who wrote it.
        sender: String,
        /// The thread it stands in.
        thread: Option<String>,
    },
    /// The command line or the HTTP API.
    Local,
}

impl Order {
    /// The kind under which it stands in the journal.
    pub const fn kind(&self) -> u16 {
        match self.work {
            Work::Job { kind, .. } => kind,
            Work::Talk { .. } | Work::Mark { .. } | Work::Greet | Work::Welcome | Work::Say { .. } => TALK_KIND,
        }
    }

    /// Who asks, where it is a Nostr key.
    pub fn customer(&self) -> Option<PublicKey> {
        match &self.origin {
            Origin::Nostr { request, .. } => Some(request.pubkey),
            Origin::Message { author, .. } => Some(*author),
            Origin::Matrix { .. } | Origin::Local => None,
        }
    }

    /// True when some input is an event or another job's result, which must be looked up first.
    pub fn needs_inputs(&self) -> bool {
        match &self.work {
            Work::Job { inputs, .. } => inputs.iter().any(|i| matches!(i, Source::Event { .. } | Source::Job { .. })),
            Work::Talk { .. } | Work::Mark { .. } | Work::Greet | Work::Welcome | Work::Say { .. } => false,
        }
    }

    /// True for a job that names no node: of several sisters one answers it.
    pub fn is_broadcast(&self) -> bool {
        match &self.origin {
            Origin::Nostr { request, .. } => request::providers(request).is_empty(),
            Origin::Message { .. } | Origin::Matrix { .. } | Origin::Local => false,
        }
    }

    /// True when nobody but its customer may read what it is about.
    pub const fn is_sealed(&self) -> bool {
        matches!(self.origin, Origin::Nostr { cipher: Some(_), .. })
    }

    /// When nobody wants it any more, Unix ms (NIP-40).
    pub fn expires_at_ms(&self) -> Option<u64> {
        match &self.origin {
            Origin::Nostr { request, .. } => request.tags.expiration().map(|t| t.as_secs().saturating_mul(1000)),
            Origin::Message { .. } | Origin::Matrix { .. } | Origin::Local => None,
        }
    }

    /// The words in it that a person may have written: what the conscience reads.
    pub fn words(&self) -> String {
        match &self.work {
            Work::Job { inputs, params, .. } => {
                let texts = inputs.iter().filter_map(|i| if let Source::Text(t) = i { Some(t.as_str()) } else { None });
                texts.chain(params.iter().map(|(_, v)| v.as_str())).collect::<Vec<_>>().join("\n")
            }
            Work::Talk { text, file } => {
                let read = file.as_ref().and_then(|file| file.content.as_deref());
                std::iter::once(text.as_str()).chain(read).collect::<Vec<_>>().join("\n")
            }
            Work::Mark { .. } | Work::Greet | Work::Welcome | Work::Say { .. } => String::new(),
        }
    }
}
