//! Jobs: what is asked ([`request`]), what is answered ([`reply`]), whether this node takes it ([`admission`]) and how it
//! lives ([`machine`]).
//!
//! NIP-90 is formally unrecommended and still what clients speak; the types are ours because the `nostr` crate drops its own.

pub mod admission;
pub mod machine;
pub mod reply;
pub mod request;

use std::fmt;
use std::str::FromStr;

use nostr::EventId;
use serde::{Deserialize, Serialize};

pub use admission::{Standing, Verdict, admit};
pub use machine::{Effect, Input, Machine, Slot, State};
pub use request::{Cipher, JobRequest, ParseError, Source};

/// Kinds that are job requests (NIP-90).
pub const REQUEST_KINDS: std::ops::RangeInclusive<u16> = 5000..=5999;
/// Kinds that are job results (NIP-90): the request's kind + 1000.
pub const RESULT_KINDS: std::ops::RangeInclusive<u16> = 6000..=6999;
/// The kind of job feedback (NIP-90).
pub const FEEDBACK_KIND: u16 = 7000;

/// The id of a job: the event id of the request, or 32 random bytes for a job that came by another door.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct JobId([u8; 32]);

impl JobId {
    /// The id from its 32 bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes of the id.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<EventId> for JobId {
    fn from(id: EventId) -> Self {
        Self(id.to_bytes())
    }
}

impl From<JobId> for String {
    fn from(id: JobId) -> Self {
        id.to_string()
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JobId({self})")
    }
}

/// A text is not 64 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a job id is 64 hexadecimal digits")]
pub struct InvalidJobId;

impl FromStr for JobId {
    type Err = InvalidJobId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| InvalidJobId)?;
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for JobId {
    type Error = InvalidJobId;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}
