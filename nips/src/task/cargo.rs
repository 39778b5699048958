//! What a task is fed and what comes out of it (kinds 9768 and 9769): a text, cut into parts that fit a message, each sealed.

use std::collections::BTreeMap;

use nostr::{Event, PublicKey, Tag};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::call::Ability;
use super::fields;
use super::id::Attempt;
use super::message::MessageError;
use crate::Audience;
use crate::tags::tag;

/// The most bytes of an input or a result, all parts together: four times what a request may carry, for results grow.
pub const MAX_PAYLOAD: usize = 1024 * 1024;
/// Bytes of text in one part: sealed and in base64 it stays within [`super::MAX_MESSAGE`].
const PART_BYTES: usize = 20 * 1024;
/// The most parts: those of [`MAX_PAYLOAD`], and a few because a letter is never cut.
pub const MAX_PARTS: u16 = 64;

/// What the winner is told: the text behind the parts of kind 9768, as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work {
    /// What is to be done.
    pub ability: Ability,
    /// For whom.
    pub audience: Audience,
    /// With what; its shape is the ability's business.
    pub input: String,
}

/// What the requester gets: the text behind the parts of kind 9769, as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// What came out.
    pub output: String,
}

/// One part of an input or a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cargo {
    /// What it belongs to.
    pub attempt: Attempt,
    /// Install key of the reader.
    pub to: PublicKey,
    /// Which part, from 0.
    pub index: u16,
    /// How many there are, 1 to [`MAX_PARTS`].
    pub count: u16,
    /// SHA-256 of the whole text.
    pub digest: [u8; 32],
    /// The part under NIP-44, from the sender's to the reader's install key.
    pub sealed: String,
}

impl Cargo {
    pub(super) fn write(&self) -> (Vec<Tag>, String) {
        let part = tag(["part", &self.index.to_string(), &self.count.to_string()]);
        let tags = fields::with(&self.attempt, [fields::p(&self.to), part, fields::x(&self.digest)]);
        (tags, self.sealed.clone())
    }

    pub(super) fn parse(event: &Event) -> Result<Self, MessageError> {
        let [index, count, ..] = fields::values(event, "part")? else { return Err(MessageError::Malformed("part")) };
        let (index, count): (u16, u16) = (fields::number(index, "part")?, fields::number(count, "part")?);
        if count > MAX_PARTS {
            return Err(MessageError::TooMany("parts"));
        }
        if index >= count {
            return Err(MessageError::Malformed("part"));
        }
        Ok(Self {
            attempt: fields::attempt(event)?,
            to: fields::recipient(event)?,
            index,
            count,
            digest: fields::hash(fields::value(event, "x")?, "x")?,
            sealed: event.content.clone(),
        })
    }
}

/// The digest of a text and its parts, in order; `None` when it is empty or larger than [`MAX_PAYLOAD`].
pub fn split(text: &str) -> Option<([u8; 32], Vec<&str>)> {
    if text.is_empty() || text.len() > MAX_PAYLOAD {
        return None;
    }
    let mut parts = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (part, after) = rest.split_at(rest.floor_char_boundary(PART_BYTES));
        parts.push(part);
        rest = after;
    }
    Some((Sha256::digest(text).into(), parts))
}

/// Puts parts together again. Parts come in any order and more than once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parts {
    whole: Option<(u16, [u8; 32])>,
    got: BTreeMap<u16, String>,
}

impl Parts {
    /// True when this part is still wanted: opening it is worth the work.
    pub fn wants(&self, cargo: &Cargo) -> bool {
        self.whole.is_none_or(|whole| whole == (cargo.count, cargo.digest)) && !self.got.contains_key(&cargo.index)
    }

    /// Takes the opened text of a part. Parts that together are not what the digest says are all forgotten.
    pub fn add(&mut self, cargo: &Cargo, text: String) -> Added {
        if !self.wants(cargo) {
            return Added::More;
        }
        if text.len() > PART_BYTES {
            return Added::Bad;
        }
        self.whole = Some((cargo.count, cargo.digest));
        self.got.insert(cargo.index, text);
        if self.got.len() < usize::from(cargo.count) {
            return Added::More;
        }
        let whole: String = std::mem::take(self).got.into_values().collect();
        if Sha256::digest(&whole).as_slice() == cargo.digest { Added::Whole(whole) } else { Added::Bad }
    }
}

/// What a part brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Added {
    /// More are needed, or it was known.
    More,
    /// The text is whole.
    Whole(String),
    /// Too long, or all parts together have another digest.
    Bad,
}
