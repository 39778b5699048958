//! Reading and writing the tags of a message. A tag that is needed is there once, or the message is refused.

use nostr::{Event, EventId, PublicKey, Tag};

use super::id::{Attempt, Epoch};
use super::message::MessageError;
use crate::tags::{named, tag};

/// The tags that every message has.
pub(super) fn of(attempt: &Attempt) -> Vec<Tag> {
    vec![tag(["task", &attempt.task.to_string()]), tag(["epoch", &attempt.epoch.to_string()])]
}

pub(super) fn with<const N: usize>(attempt: &Attempt, more: [Tag; N]) -> Vec<Tag> {
    let mut tags = of(attempt);
    tags.extend(more);
    tags
}

pub(super) fn e(id: &EventId) -> Tag {
    tag(["e", &id.to_hex()])
}

pub(super) fn p(key: &PublicKey) -> Tag {
    tag(["p", &key.to_hex()])
}

pub(super) fn x(hash: &[u8; 32]) -> Tag {
    tag(["x", &hex::encode(hash)])
}

/// All values of the one tag called `name`.
pub(super) fn values<'a>(event: &'a Event, name: &'static str) -> Result<&'a [String], MessageError> {
    let mut found = named(event, name);
    let values = found.next().and_then(|tag| tag.get(1..)).ok_or(MessageError::Missing(name))?;
    if found.next().is_some() { Err(MessageError::Twice(name)) } else { Ok(values) }
}

pub(super) fn value<'a>(event: &'a Event, name: &'static str) -> Result<&'a str, MessageError> {
    values(event, name)?.first().map(String::as_str).ok_or(MessageError::Missing(name))
}

pub(super) fn attempt(event: &Event) -> Result<Attempt, MessageError> {
    let task = value(event, "task")?.parse().map_err(|_| MessageError::Malformed("task"))?;
    let epoch = number(value(event, "epoch")?, "epoch")?;
    if epoch == 0 { Err(MessageError::Malformed("epoch")) } else { Ok(Attempt { task, epoch: Epoch(epoch) }) }
}

pub(super) fn event_id(event: &Event) -> Result<EventId, MessageError> {
    EventId::from_hex(value(event, "e")?).map_err(|_| MessageError::Malformed("e"))
}

pub(super) fn recipient(event: &Event) -> Result<PublicKey, MessageError> {
    key(value(event, "p")?, "p")
}

pub(super) fn key(text: &str, name: &'static str) -> Result<PublicKey, MessageError> {
    let key = PublicKey::from_hex(text).map_err(|_| MessageError::Malformed(name))?;
    // A key that is no point could never sign or be sealed to.
    key.xonly().map_err(|_| MessageError::Malformed(name))?;
    Ok(key)
}

pub(super) fn hash(text: &str, name: &'static str) -> Result<[u8; 32], MessageError> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(text, &mut bytes).map_err(|_| MessageError::Malformed(name))?;
    Ok(bytes)
}

/// A plain decimal number: no sign, no leading zero, so that a value has one spelling.
pub(super) fn number<T: std::str::FromStr + std::fmt::Display>(
    text: &str,
    name: &'static str,
) -> Result<T, MessageError> {
    let number: T = text.parse().map_err(|_| MessageError::Malformed(name))?;
    if number.to_string() == text { Ok(number) } else { Err(MessageError::Malformed(name)) }
}

pub(super) fn content<T: serde::de::DeserializeOwned>(event: &Event) -> Result<T, MessageError> {
    serde_json::from_str(&event.content).map_err(|_| MessageError::Malformed("content"))
}

/// Thirty-two bytes that are hex in JSON.
pub(super) mod hex32 {
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(bytes: &[u8; 32], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&hex::encode(bytes))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<[u8; 32], D::Error> {
        let text = String::deserialize(from)?;
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(serde::de::Error::custom)?;
        Ok(bytes)
    }
}
