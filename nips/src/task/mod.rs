//! Tasks between sister nodes (kinds 9761 to 9769, `spec/federation-tasks.md`): how one is auctioned, leased, done and labelled.
//!
//! ```text
//!  requester ─ call ──────────────► everybody
//!            ◄─ commitment ──────── bidders
//!            ─ commitment set ────► everybody      whose bid counts, and the reputation factor of each
//!            ◄─ reveal ──────────── bidders
//!            ─ award ─────────────► everybody      winner, second price, hash of all of the above
//!            ─ input (sealed) ────► winner
//!            ◄─ accept, renew ───── winner
//!            ─ grant ─────────────► winner
//!            ◄─ result (sealed) ─── winner
//!            ─ release ───────────► winner         accepted; or refusal: of an old epoch, finished, unknown
//! ```
//!
//! Every message is an event signed by its sender's install key; ids are in tags, the rest is JSON or NIP-44 in the content. They
//! travel in gossip, in streams and sealed (1059); none is ever published bare to a relay. Only a [`Label`] is, signed by the
//! passport.

mod award;
mod bid;
mod call;
mod cargo;
mod fields;
mod id;
mod label;
mod lease;
mod message;
pub mod rank;
mod score;
mod seal;
mod transcript;

pub use award::Award;
pub use bid::{Commitment, CommitmentSet, Entry, Reveal, commitment_hash};
pub use call::{Ability, AudienceClass, Call};
pub use cargo::{Added, Cargo, MAX_PARTS, MAX_PAYLOAD, Output, Parts, Work, split};
pub use id::{Attempt, Epoch, InvalidTaskId, SizeClass, TaskId};
pub use label::{LABEL_KIND, Label, LabelError, NAMESPACE, Outcome};
pub use lease::{Act, Lease, Reason, Refusal};
pub use message::{Envelope, Message, MessageError};
pub use score::{Bid, Factor, Settlement, settle};
pub use seal::{SealError, open, seal};
pub use transcript::{Transcript, TranscriptError, Verified, transcript_hash, verify_transcript};

/// Asks who will do a task.
pub const KIND_CALL: u16 = 9761;
/// A hidden price.
pub const KIND_COMMITMENT: u16 = 9762;
/// The hidden prices that count.
pub const KIND_COMMITMENT_SET: u16 = 9763;
/// The price behind a commitment.
pub const KIND_REVEAL: u16 = 9764;
/// Who won, and what is paid.
pub const KIND_AWARD: u16 = 9765;
/// Why something is not taken.
pub const KIND_REFUSAL: u16 = 9766;
/// Accept, renew, grant or release of a lease.
pub const KIND_LEASE: u16 = 9767;
/// The task's input, sealed to the winner.
pub const KIND_INPUT: u16 = 9768;
/// The task's result, sealed to the requester.
pub const KIND_RESULT: u16 = 9769;

/// The most bytes in tags and content of one message: what fits twice sealed into one event of a relay (DESIGN §6).
pub const MAX_MESSAGE: usize = 32 * 1024;
/// The most bidders in one auction; of more, the first that came count.
pub const MAX_BIDDERS: usize = 64;
