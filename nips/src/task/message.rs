//! One message, parsed; and the envelope, whose signature was checked.

use std::sync::Arc;

use nostr::secp256k1::{Keypair, Message as Digest};
use nostr::{Event, EventId, Keys, Kind, PublicKey, Tag, Timestamp, UnsignedEvent};
use serde::{Deserialize, Serialize};

use super::{
    Attempt, Award, Call, Cargo, Commitment, CommitmentSet, KIND_AWARD, KIND_CALL, KIND_COMMITMENT,
    KIND_COMMITMENT_SET, KIND_INPUT, KIND_LEASE, KIND_REFUSAL, KIND_RESULT, KIND_REVEAL, Lease, MAX_MESSAGE, Refusal,
    Reveal,
};

/// Why an event is no message about a task.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// Of another kind.
    #[error("kind {0} is not about tasks")]
    Kind(u16),
    /// The id or the signature is wrong.
    #[error("the id or the signature is wrong")]
    Signature,
    /// More bytes than [`MAX_MESSAGE`].
    #[error("too large: {0} bytes")]
    TooLarge(usize),
    /// A tag is missing.
    #[error("the tag {0:?} is missing")]
    Missing(&'static str),
    /// A tag that may be there once.
    #[error("the tag {0:?} is there twice")]
    Twice(&'static str),
    /// A part does not parse.
    #[error("not a good {0}")]
    Malformed(&'static str),
    /// More of something than one message may hold.
    #[error("too many {0}")]
    TooMany(&'static str),
}

/// A message about a task. Each variant is one kind (`spec/federation-tasks.md`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Kind 9761.
    Call(Call),
    /// Kind 9762.
    Commitment(Commitment),
    /// Kind 9763.
    Set(CommitmentSet),
    /// Kind 9764.
    Reveal(Reveal),
    /// Kind 9765.
    Award(Award),
    /// Kind 9766.
    Refusal(Refusal),
    /// Kind 9767.
    Lease(Lease),
    /// Kind 9768.
    Input(Cargo),
    /// Kind 9769.
    Result(Cargo),
}

impl Message {
    /// Reads an event. The signature is not looked at: [`Envelope::verified`] does both.
    ///
    /// # Errors
    /// When it is of another kind, too large, incomplete or malformed. Unknown tags and fields are ignored.
    pub fn parse(event: &Event) -> Result<Self, MessageError> {
        let size = size(event);
        if size > MAX_MESSAGE {
            return Err(MessageError::TooLarge(size));
        }
        match event.kind.as_u16() {
            KIND_CALL => Call::parse(event).map(Self::Call),
            KIND_COMMITMENT => Commitment::parse(event).map(Self::Commitment),
            KIND_COMMITMENT_SET => CommitmentSet::parse(event).map(Self::Set),
            KIND_REVEAL => Reveal::parse(event).map(Self::Reveal),
            KIND_AWARD => Award::parse(event).map(Self::Award),
            KIND_REFUSAL => Refusal::parse(event).map(Self::Refusal),
            KIND_LEASE => Lease::parse(event).map(Self::Lease),
            KIND_INPUT => Cargo::parse(event).map(Self::Input),
            KIND_RESULT => Cargo::parse(event).map(Self::Result),
            kind => Err(MessageError::Kind(kind)),
        }
    }

    /// Its kind.
    pub const fn kind(&self) -> u16 {
        match self {
            Self::Call(_) => KIND_CALL,
            Self::Commitment(_) => KIND_COMMITMENT,
            Self::Set(_) => KIND_COMMITMENT_SET,
            Self::Reveal(_) => KIND_REVEAL,
            Self::Award(_) => KIND_AWARD,
            Self::Refusal(_) => KIND_REFUSAL,
            Self::Lease(_) => KIND_LEASE,
            Self::Input(_) => KIND_INPUT,
            Self::Result(_) => KIND_RESULT,
        }
    }

    /// What it is about.
    pub const fn attempt(&self) -> Attempt {
        match self {
            Self::Call(m) => m.attempt,
            Self::Commitment(m) => m.attempt,
            Self::Set(m) => m.attempt,
            Self::Reveal(m) => m.attempt,
            Self::Award(m) => m.attempt,
            Self::Refusal(m) => m.attempt,
            Self::Lease(m) => m.attempt,
            Self::Input(m) | Self::Result(m) => m.attempt,
        }
    }

    /// The event that `author` has to sign, dated `at` (Unix seconds).
    pub fn to_event(&self, author: PublicKey, at: u64) -> UnsignedEvent {
        let (tags, content): (Vec<Tag>, String) = match self {
            Self::Call(m) => m.write(),
            Self::Commitment(m) => m.write(),
            Self::Set(m) => m.write(),
            Self::Reveal(m) => m.write(),
            Self::Award(m) => m.write(),
            Self::Refusal(m) => m.write(),
            Self::Lease(m) => m.write(),
            Self::Input(m) | Self::Result(m) => m.write(),
        };
        UnsignedEvent::new(author, Timestamp::from_secs(at), Kind::from_u16(self.kind()), tags, content)
    }
}

fn size(event: &Event) -> usize {
    let tags: usize = event.tags.iter().flat_map(|tag| tag.as_slice()).map(String::len).sum();
    tags + event.content.len()
}

/// A signed event about a task together with what it says: there is none whose signature was not checked or made here. A copy
/// costs nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Event", into = "Event")]
pub struct Envelope(Arc<(Event, Message)>);

impl Envelope {
    /// Checks id and signature, then reads.
    ///
    /// # Errors
    /// As [`Message::parse`], and [`MessageError::Signature`].
    pub fn verified(event: Event) -> Result<Self, MessageError> {
        // What costs less comes first: most of what is wrong is refused before a signature is checked.
        let message = Message::parse(&event)?;
        event.verify().map_err(|_| MessageError::Signature)?;
        Ok(Self(Arc::new((event, message))))
    }

    /// Signs a message with the install key, dated `at` (Unix seconds). Without a random source (BIP-340 allows it): the same
    /// message and date give the same bytes, so a replay is the same run.
    pub fn sign(message: Message, keys: &Keys, at: u64) -> Self {
        let mut event = message.to_event(keys.public_key(), at);
        let id = event.id();
        let pair = Keypair::from_secret_key(nostr::SECP256K1, keys.secret_key());
        let sig = nostr::SECP256K1.sign_schnorr_no_aux_rand(&Digest::from_digest(id.to_bytes()), &pair);
        let event = Event::new(id, event.pubkey, event.created_at, event.kind, event.tags, event.content, sig);
        Self(Arc::new((event, message)))
    }

    /// The event's id.
    pub fn id(&self) -> EventId {
        self.0.0.id
    }

    /// The install key that signed.
    pub fn author(&self) -> PublicKey {
        self.0.0.pubkey
    }

    /// The signed event.
    pub fn event(&self) -> &Event {
        &self.0.0
    }

    /// What it says.
    pub fn message(&self) -> &Message {
        &self.0.1
    }
}

impl TryFrom<Event> for Envelope {
    type Error = MessageError;

    fn try_from(event: Event) -> Result<Self, MessageError> {
        Self::verified(event)
    }
}

impl From<Envelope> for Event {
    fn from(envelope: Envelope) -> Self {
        envelope.event().clone()
    }
}
