//! The call (kind 9761): kind and size of the work, never its text.

use nostr::{Event, Tag};
use serde::{Deserialize, Serialize};

use super::fields;
use super::id::{Attempt, SizeClass};
use super::message::MessageError;
use crate::Audience;
use crate::job::REQUEST_KINDS;

/// What a task needs its worker to be able to do: a job kind of NIP-90, 5000 to 5999.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct Ability(u16);

impl Ability {
    /// The ability to do jobs of this kind; `None` when no job has it.
    pub fn of_kind(kind: u16) -> Option<Self> {
        REQUEST_KINDS.contains(&kind).then_some(Self(kind))
    }

    /// The job kind.
    pub const fn kind(self) -> u16 {
        self.0
    }
}

impl TryFrom<u16> for Ability {
    type Error = &'static str;

    fn try_from(kind: u16) -> Result<Self, Self::Error> {
        Self::of_kind(kind).ok_or("an ability is a kind from 5000 to 5999")
    }
}

impl From<Ability> for u16 {
    fn from(ability: Ability) -> Self {
        ability.0
    }
}

/// For whom a task is done, without saying who it is: bidders need it to know whether their models may serve it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AudienceClass {
    /// The owner.
    Owner,
    /// Somebody whom the owner allowed.
    Person,
    /// A sister node.
    Member,
    /// Everybody else.
    Stranger,
}

impl From<Audience> for AudienceClass {
    fn from(audience: Audience) -> Self {
        match audience {
            Audience::Owner => Self::Owner,
            Audience::Person(_) => Self::Person,
            Audience::Member => Self::Member,
            Audience::Stranger => Self::Stranger,
        }
    }
}

/// Asks who will do a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The task and how often it is called.
    pub attempt: Attempt,
    /// What is needed.
    pub ability: Ability,
    /// How much.
    pub size: SizeClass,
    /// For whom.
    pub audience: AudienceClass,
    /// True when guests of the federation may bid too.
    pub guests: bool,
    /// How long commitments are taken from the requester's side, ms; reveals the same.
    pub window_ms: u64,
}

#[derive(Serialize, Deserialize)]
struct Content {
    ability: Ability,
    size: SizeClass,
    audience: AudienceClass,
    guests: bool,
    window_ms: u64,
}

impl Call {
    pub(super) fn write(&self) -> (Vec<Tag>, String) {
        let content = Content {
            ability: self.ability,
            size: self.size,
            audience: self.audience,
            guests: self.guests,
            window_ms: self.window_ms,
        };
        (fields::of(&self.attempt), serde_json::to_string(&content).unwrap_or_default())
    }

    pub(super) fn parse(event: &Event) -> Result<Self, MessageError> {
        let Content { ability, size, audience, guests, window_ms } = fields::content(event)?;
        Ok(Self { attempt: fields::attempt(event)?, ability, size, audience, guests, window_ms })
    }
}
