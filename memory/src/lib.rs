//! The agent's memory.
//!
//! The truth is a set of signed changes ([`nips::memory`]); automerge documents, the table of entries and the LanceDB index are
//! made from them and can be made again. Nothing in here knows the network.
//!
//! | module | what it does |
//! |---|---|
//! | `entry` | what is remembered, and its bounds |
//! | `embed` | texts as vectors |
//! | `recall` | what is asked, what is found, and why |
//! | [`sync`] | two replicas of a space become equal |

mod embed;
mod entry;
mod recall;
pub mod sync;

pub use embed::{EmbedError, Embedder};
pub use entry::{
    DEFAULT_IMPORTANCE, Draft, Entry, EntryError, EntryKind, MAX_AHEAD_S, MAX_SUPERSEDES, MAX_TAG, MAX_TAGS, MAX_TEXT,
};
pub use recall::{DEFAULT_LIMIT, MAX_LIMIT, Place, Query, Reasons, Recall, Sight};
