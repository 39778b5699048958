//! Auctions: who does a task, and for how much (`spec/federation-tasks.md`, Auction). Free of I/O.
//!
//! ```text
//! requester:  Committing ──window──► Revealing ──window, or all revealed──► won
//!                 │ no commitment        │ no reveal
//!                 └──────────────────────┴─────────────────────────────────► nobody
//!
//! bidder:     Asked ──figures──► Committed ──set with it──► Revealed ──award──► won
//!                │ cannot            │ set without it          │ of another
//!                └───────────────────┴─────────────────────────┴─────────────► out
//!                                     a second set, an award that does not fit ─► void
//! ```
//!
//! Prices are hidden until the requester has signed which bids count and with what factor each, so it can neither pass a price on
//! nor pick factors by price. What it can do is to leave a reveal out: bidders and everybody else see that in the transcript.

mod bidder;
mod price;
mod requester;

pub use bidder::{Ask, Bidder, Verdict};
pub use price::{Figures, MSAT_PER_WAITED_S};
pub use requester::{Auction, Effect, Ending, Input, Won};
