//! The agent's memory.
//!
//! The truth is a set of signed changes ([`nips::memory`]); automerge documents, the table of entries and the LanceDB index are
//! made from them and can be made again. Nothing in here knows the network.
//!
//! | module | what it does |
//! |---|---|
//! | `entry` | what is remembered, and its bounds |
//! | `truth` | signed changes, documents and entries in SQLite; forgetting |
//! | `embed` | texts as vectors |
//! | `index` | where a question finds entries: LanceDB and rows in memory |
//! | `recall` | what is asked, what is found, and why |
//! | `tend` | condensing what is old, pruning what nobody misses |
//! | [`transfer`] | memory as text: import and export |
//! | [`sync`] | two replicas of a space become equal |

mod check;
mod embed;
mod entry;
mod index;
mod look;
mod memory;
mod recall;
mod replica;
pub mod sync;
mod tend;
pub mod transfer;
mod truth;
mod worker;

pub use embed::{EmbedError, Embedder, MiniLmEmbedder, MiniLmError, StaticEmbedder};
pub use entry::{
    DEFAULT_IMPORTANCE, Draft, Entry, EntryError, EntryKind, MAX_AHEAD_S, MAX_SUPERSEDES, MAX_TAG, MAX_TAGS, MAX_TEXT,
};
pub use index::{
    Clock, Hit, Index, IndexChange, IndexError, IndexOptions, IndexState, IndexStats, Mode, Progress, RecallError,
    Source, SourceError, SourceRow, Tally,
};
pub use memory::{Memory, MemoryError, MemoryOptions, MemoryStats, person_space};
pub use recall::{DEFAULT_LIMIT, MAX_LIMIT, Place, Query, Reasons, Recall, Sight};
pub use tend::{CONDENSED, Condenser, Consolidation, Group, PruneReason, Pruned, Pruning, extract};
pub use truth::{
    Added, Census, Check, Directory, Forgotten, Inspection, Outcome, Page, PageEdit, Refusal, SealKey, Selector,
    TruthError, Writer, inspect,
};
