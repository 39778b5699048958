//! Entries of the membership log (kind 9771).
//!
//! | in a tag | |
//! |---|---|
//! | `f` | the federation: id of the founding entry, which itself has none |
//! | `e` | a head that this entry was made on, at most [`MAX_HEADS`]; causes come before effects by these |
//! | `p` | whom it is about |
//! | `x` | the invitation that a join redeems |

use std::fmt;
use std::str::FromStr;

use nostr::{Event, EventId, Kind, PublicKey, Tag, Timestamp, UnsignedEvent};
use serde::{Deserialize, Serialize};

use super::code::InvitationId;
use super::{EnvelopeError, KIND_ENTRY, all, bytes, key, one, optional};
use crate::tags::tag;

/// The most heads that one entry links. More heads are merged by the entries that follow.
pub const MAX_HEADS: usize = 16;
/// The longest name of a federation, bytes.
pub const MAX_NAME: usize = 64;
/// The largest content of an entry, bytes: a word, a role and a name.
const MAX_ENTRY_CONTENT: usize = 512;

/// A federation: the id of its founding entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FederationId(pub EventId);

impl fmt::Display for FederationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.to_hex())
    }
}

impl FromStr for FederationId {
    type Err = EnvelopeError;

    fn from_str(text: &str) -> Result<Self, EnvelopeError> {
        bytes(text, "federation").map(|id| Self(EventId::from_byte_array(id)))
    }
}

/// What a member is invited as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Takes part in tasks; no memory but what is shared with it, space by space.
    Guest,
    /// A node of the same owner: memory and tasks.
    Sibling,
}

/// What an entry does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// The first entry: its signer is the founder and first admin.
    Found {
        /// A name for people.
        name: String,
        /// The owner's key, where there is an owner.
        owner: Option<PublicKey>,
    },
    /// Names the owner, where there was none; or, signed by the owner's key, a new one.
    Owner {
        /// The owner's key.
        person: PublicKey,
    },
    /// A node belongs from now on.
    Join {
        /// Its passport.
        node: PublicKey,
        /// As what.
        role: Role,
        /// The invitation that it redeemed; none when it was taken in by hand.
        invitation: Option<InvitationId>,
    },
    /// A sibling may from now on invite, remove and make admins.
    Admin {
        /// Its passport.
        node: PublicKey,
    },
    /// A node belongs no more; a node that names itself leaves.
    Remove {
        /// Its passport.
        node: PublicKey,
    },
}

impl Act {
    /// The node that it is about, if it is about one.
    pub fn node(&self) -> Option<&PublicKey> {
        match self {
            Self::Found { .. } | Self::Owner { .. } => None,
            Self::Join { node, .. } | Self::Admin { node } | Self::Remove { node } => Some(node),
        }
    }
}

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub id: EventId,
    /// Who signed: a passport or the owner's key.
    pub author: PublicKey,
    /// When, Unix seconds, as the author says. Nothing is decided by it.
    pub at: u64,
    /// None for the founding entry.
    pub federation: Option<FederationId>,
    /// What it was made on, ascending.
    pub heads: Vec<EventId>,
    /// What it does.
    pub act: Act,
}

#[derive(Serialize, Deserialize)]
struct Content {
    act: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    role: Option<Role>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
}

impl Entry {
    /// The event of an entry by `author`, for their key to sign. At most [`MAX_HEADS`] of `heads` are linked, the lowest ids.
    pub fn to_event(
        act: &Act,
        federation: Option<FederationId>,
        heads: &[EventId],
        author: PublicKey,
        at: u64,
    ) -> UnsignedEvent {
        let mut heads = heads.to_vec();
        heads.sort_unstable();
        heads.dedup();
        heads.truncate(MAX_HEADS);
        let mut tags: Vec<Tag> = Vec::new();
        tags.extend(federation.map(|id| tag(["f", &id.to_string()])));
        tags.extend(heads.iter().map(|head| tag(["e", &head.to_hex()])));
        let (word, role, name) = match act {
            Act::Found { name, owner } => {
                tags.extend(owner.map(|owner| tag(["p", &owner.to_hex()])));
                ("found", None, Some(name.clone()))
            }
            Act::Owner { person } => {
                tags.push(tag(["p", &person.to_hex()]));
                ("owner", None, None)
            }
            Act::Join { node, role, invitation } => {
                tags.push(tag(["p", &node.to_hex()]));
                tags.extend(invitation.map(|id| tag(["x", &id.to_string()])));
                ("join", Some(*role), None)
            }
            Act::Admin { node } => {
                tags.push(tag(["p", &node.to_hex()]));
                ("admin", None, None)
            }
            Act::Remove { node } => {
                tags.push(tag(["p", &node.to_hex()]));
                ("remove", None, None)
            }
        };
        let content = Content { act: word.to_owned(), role, name };
        let content = serde_json::to_string(&content).unwrap_or_default();
        UnsignedEvent::new(author, Timestamp::from_secs(at), Kind::from_u16(KIND_ENTRY), tags, content)
    }

    /// Reads an entry; unknown fields and tags are ignored.
    ///
    /// # Errors
    /// When it is too large, incomplete or malformed.
    pub(super) fn parse(event: &Event) -> Result<Self, EnvelopeError> {
        if event.content.len() > MAX_ENTRY_CONTENT {
            return Err(EnvelopeError::TooLarge(event.content.len()));
        }
        let content: Content =
            serde_json::from_str(&event.content).map_err(|_| EnvelopeError::Malformed("membership entry"))?;
        let federation: Option<FederationId> = optional(event, "f")?.map(str::parse).transpose()?;
        let heads = heads(event)?;
        let act = act(event, content)?;
        let is_founding = matches!(act, Act::Found { .. });
        if is_founding != federation.is_none() || is_founding != heads.is_empty() {
            return Err(EnvelopeError::Malformed("place in the log"));
        }
        Ok(Self { id: event.id, author: event.pubkey, at: event.created_at.as_secs(), federation, heads, act })
    }
}

fn heads(event: &Event) -> Result<Vec<EventId>, EnvelopeError> {
    let heads: Result<Vec<EventId>, EnvelopeError> =
        all(event, "e").map(|id| bytes(id, "head").map(EventId::from_byte_array)).collect();
    let heads = heads?;
    if heads.len() > MAX_HEADS {
        return Err(EnvelopeError::TooMany("heads"));
    }
    if !heads.is_sorted_by(|a, b| a < b) {
        return Err(EnvelopeError::Malformed("order of heads"));
    }
    Ok(heads)
}

fn act(event: &Event, content: Content) -> Result<Act, EnvelopeError> {
    let node = || one(event, "p").and_then(key);
    match content.act.as_str() {
        "found" => {
            let name = content.name.unwrap_or_default();
            if name.len() > MAX_NAME || name.chars().any(char::is_control) {
                return Err(EnvelopeError::Malformed("name"));
            }
            Ok(Act::Found { name, owner: optional(event, "p")?.map(key).transpose()? })
        }
        "owner" => Ok(Act::Owner { person: node()? }),
        "join" => {
            let role = content.role.ok_or(EnvelopeError::Missing("role"))?;
            let invitation = optional(event, "x")?.map(str::parse).transpose()?;
            Ok(Act::Join { node: node()?, role, invitation })
        }
        "admin" => Ok(Act::Admin { node: node()? }),
        "remove" => Ok(Act::Remove { node: node()? }),
        _ => Err(EnvelopeError::Malformed("act")),
    }
}
