//! An event together with its canonical JSON, and the record that the store keeps of it.
//!
//! A record is a fixed header (so that most filters are checked without parsing JSON) followed by the event's JSON, which
//! is sent to subscribers byte for byte.

use std::sync::Arc;

use nostr::{Event, JsonUtil};
use serde::Deserialize;

use super::keys::NEVER;

/// Layout version of a record; its first byte.
const VERSION: u8 = 1;
/// Bytes before the JSON: version, class, received, created, expires, kind, id, author.
const HEADER: usize = 1 + 1 + 8 + 8 + 8 + 2 + 32 + 32;

/// Whose event a record is: decides what retention and quotas apply to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// The node's own, or stored by its order: kept.
    Own,
    /// From the owner or another allowed person: kept.
    People,
    /// From anybody else: bounded by age and bytes.
    Stranger,
    /// A gift wrap (NIP-59): kept until its recipient deletes it, within the recipient's quota.
    Mail,
}

impl Class {
    fn to_byte(self) -> u8 {
        match self {
            Self::Own => 0,
            Self::People => 1,
            Self::Stranger => 2,
            Self::Mail => 3,
        }
    }

    fn from_byte(byte: u8) -> Self {
        match byte {
            0 => Self::Own,
            1 => Self::People,
            3 => Self::Mail,
            _ => Self::Stranger,
        }
    }
}

/// A verified event and its canonical JSON.
#[derive(Clone, Debug)]
pub(crate) struct Note {
    /// The parsed event.
    pub(crate) event: Arc<Event>,
    /// The JSON that is stored and sent.
    pub(crate) json: Arc<str>,
}

impl Note {
    /// Makes a note of an event whose JSON was not seen, by writing it anew.
    pub(crate) fn from_event(event: Event) -> Self {
        let json = event.as_json().into();
        Self { event: Arc::new(event), json }
    }

    /// Gives the unix second at which the event expires (NIP-40), or [`NEVER`].
    pub(crate) fn expires_at(&self) -> u64 {
        expires_at(&self.event)
    }

    /// Encodes the record that the store keeps.
    pub(crate) fn encode(&self, class: Class, received_at: u64) -> Vec<u8> {
        let event = &self.event;
        let mut out = Vec::with_capacity(HEADER + self.json.len());
        out.push(VERSION);
        out.push(class.to_byte());
        out.extend(received_at.to_be_bytes());
        out.extend(event.created_at.as_secs().to_be_bytes());
        out.extend(self.expires_at().to_be_bytes());
        out.extend(event.kind.as_u16().to_be_bytes());
        out.extend(event.id.as_bytes());
        out.extend(event.pubkey.as_bytes());
        out.extend(self.json.as_bytes());
        out
    }
}

/// Gives the unix second at which an event expires (NIP-40), or [`NEVER`]. A tag that is no number does not count.
pub(crate) fn expires_at(event: &Event) -> u64 {
    let tag = event.tags.iter().map(nostr::Tag::as_slice).find(|tag| tag[0] == "expiration");
    tag.and_then(|tag| tag.get(1)?.parse().ok()).unwrap_or(NEVER)
}

/// Gives the letter and value of a tag with a one-letter name (`a`–`z`, `A`–`Z`) and a value.
pub(crate) fn letter_and_value(tag: &[String]) -> Option<(u8, &str)> {
    let [name, value, ..] = tag else { return None };
    let &[letter] = name.as_bytes() else { return None };
    letter.is_ascii_alphabetic().then_some((letter, value.as_str()))
}

/// Iterates over an event's one-letter tags.
pub(crate) fn letters(event: &Event) -> impl Iterator<Item = (u8, &str)> + Clone {
    event.tags.iter().filter_map(|tag| letter_and_value(tag.as_slice()))
}

#[derive(Deserialize)]
struct OnlyTags {
    tags: Vec<Vec<String>>,
}

/// A borrowed view of a stored record.
#[derive(Clone, Copy)]
pub(crate) struct Record<'a> {
    bytes: &'a [u8],
}

impl<'a> Record<'a> {
    /// Looks at stored bytes; `None` when they are no record of this version.
    pub(crate) fn new(bytes: &'a [u8]) -> Option<Self> {
        (bytes.len() > HEADER && bytes[0] == VERSION).then_some(Self { bytes })
    }

    fn number(&self, at: usize) -> u64 {
        let mut out = [0; 8];
        out.copy_from_slice(&self.bytes[at..at + 8]);
        u64::from_be_bytes(out)
    }

    /// Whose event this is.
    pub(crate) fn class(&self) -> Class {
        Class::from_byte(self.bytes[1])
    }

    /// When the relay took it, in unix seconds.
    pub(crate) fn received_at(&self) -> u64 {
        self.number(2)
    }

    /// The event's `created_at`, in unix seconds.
    pub(crate) fn created_at(&self) -> u64 {
        self.number(10)
    }

    /// When it expires, in unix seconds, or [`NEVER`].
    pub(crate) fn expires_at(&self) -> u64 {
        self.number(18)
    }

    /// The event's kind.
    pub(crate) fn kind(&self) -> u16 {
        u16::from_be_bytes([self.bytes[26], self.bytes[27]])
    }

    /// The event's id.
    pub(crate) fn id(&self) -> &'a [u8] {
        &self.bytes[28..60]
    }

    /// The event's author.
    pub(crate) fn author(&self) -> &'a [u8] {
        &self.bytes[60..92]
    }

    /// The event's JSON; empty when the record is damaged.
    pub(crate) fn json(&self) -> &'a str {
        std::str::from_utf8(&self.bytes[HEADER..]).unwrap_or_default()
    }

    /// The size of the record in bytes.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The event's tags, parsed from its JSON.
    pub(crate) fn tags(&self) -> Vec<Vec<String>> {
        serde_json::from_str::<OnlyTags>(self.json()).map(|only| only.tags).unwrap_or_default()
    }

    /// The whole event, parsed from its JSON; `None` when the record is damaged.
    pub(crate) fn event(&self) -> Option<Event> {
        Event::from_json(self.json()).ok()
    }
}
