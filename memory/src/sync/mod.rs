//! Sync: two replicas of a space become equal, over any carrier (`spec/memory.md`, "Sync").
//!
//! ```text
//!   initiator (Session)                responder (respond)
//!        │ ── NEG, my ranges ────────────► │
//!        │ ◄──────── DIFF, where we differ │   until every difference is known by id
//!        │ ── GET, ids that I lack ──────► │
//!        │ ◄───────────────── GIVE, events │   applied batch by batch
//!        │ ── PUT, events that you lack ─► │
//!        │ ◄────────────── OK, what became │
//! ```
//!
//! The sets are reconciled by negentropy (as in NIP-77) over (created_at, id) of the events of *one* space. The responder keeps
//! nothing between messages, the initiator is a machine free of I/O with one request under way; every request may be lost,
//! doubled, late or answered twice. A session that ended anywhere is resumed by a new one: what was taken is there.
//!
//! | module | what it does |
//! |---|---|
//! | `message` | the wire: JSON arrays, their bounds |
//! | `replica` | what a store of events must be able to do |
//! | `responder` | answers one request |
//! | `machine` | the initiator |
//! | `frame` | messages on a byte stream |
//! | `link` | both roles on one stream, with time-outs |

mod frame;
mod link;
mod machine;
mod message;
mod replica;
mod responder;

pub use frame::{FrameError, read_frame, write_frame};
pub use link::{Link, LinkConfig, LinkError};
pub use machine::{Effect, End, Input, Limits, Patience, Refusals, Report, Session};
pub use message::{ErrorCode, Message, MessageError, Reply, ReplyBody, Request, RequestBody, SessionId};
pub use replica::{Batch, Outcome, Refusal, Replica, ReplicaError, Snapshot};
pub use responder::respond;

/// The version of the protocol, said in every request: a responder remembers nothing of an earlier one.
pub const VERSION: u32 = 1;

/// The largest message, in bytes. An event may have a content of 256 KiB ([`nips::memory::MAX_CONTENT`]) and must fit with its
/// tags and the JSON around it; an event that does not is never sent.
pub const MAX_FRAME: usize = 512 * 1024;

/// Events are put together up to this many bytes; a larger one travels alone. Large enough that round trips do not matter on a
/// LAN, small enough that a lost message costs little over a relay.
pub const BATCH_BYTES: usize = 256 * 1024;

/// Bytes of a reconciliation message, twice that in hex: about 3,000 ids.
const RECONCILE_BYTES: u64 = 100_000;

/// Ids in one GET: as many small events as fill a batch, in a request of a tenth of its size.
pub const MAX_GET_IDS: usize = 400;

/// Events in one message: the smallest signed change is some 600 bytes of JSON, so a full batch never has more.
pub const MAX_BATCH_EVENTS: usize = 800;

/// Ids of one space that are reconciled at a time (72 bytes each): twenty years of 250 changes a day. More is an error that is
/// said, not a set that is cut.
pub const MAX_SPACE_IDS: usize = 2_000_000;
