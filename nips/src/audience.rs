//! Who an answer is for. Every worker, model call and recall takes an [`Audience`], so that what a stranger may not see
//! is decided by a type and not by a remembered `if`.

use nostr::PublicKey;
use serde::{Deserialize, Serialize};

/// Who stands behind a request (DESIGN §3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Audience {
    /// The person who owns the node.
    Owner,
    /// Somebody whom the owner allowed to talk with the agent.
    Person(PublicKey),
    /// A sister node of the owner's federation.
    Member,
    /// Everybody else: never memory, tools, conversations, or a model that costs money.
    Stranger,
}

impl Audience {
    /// True for those whom the owner knows: the owner, allowed people, members.
    pub fn is_known(self) -> bool {
        self != Self::Stranger
    }
}
