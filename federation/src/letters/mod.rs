//! One envelope, two carriers: what came by gossip and what came by a relay is one thing, and what must arrive goes by both.
//!
//! An envelope is a signed event of our own kinds. On the LAN it goes by gossip or a stream; over a relay as a *letter*
//! ([`nips::federation::letter`]). [`Inbox`] lets each envelope through once. [`Outbox`] decides which carrier an envelope takes to each
//! peer, and keeps it until the peer, or a relay, has said that it has it.

mod inbox;
mod outbox;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

pub use inbox::{Dropped, Inbox};
pub use outbox::{Effect, Input, Item, Outbox, Reach, Rejected, Urgency, receipt, receipt_ids};

/// How many envelopes are remembered: at 50 a second (a busy federation of ten) eleven minutes, at one a second half a day.
pub const MAX_REMEMBERED: usize = 32_768;
/// How long an envelope is remembered, seconds.
pub const REMEMBER_S: u64 = 15 * 24 * 3600;
/// How old an envelope may be, seconds, where coming twice would matter. Shorter than the memory of it.
pub const MAX_AGE_S: u64 = 14 * 24 * 3600;
/// How far ahead of our clock an envelope may be dated, seconds.
pub const MAX_AHEAD_S: u64 = 10 * 60;
/// The most envelopes that wait for one peer: what a peer that is off for a night is owed.
pub const MAX_WAITING_FOR_ONE: usize = 1_024;
/// The most envelopes that wait in all.
pub const MAX_WAITING: usize = 8_192;
/// How long the LAN has for saying that an envelope arrived before a relay is used too, milliseconds.
pub const RECEIPT_MS: u64 = 1_500;
/// The most ids in one receipt.
pub const MAX_RECEIPT: usize = 256;
