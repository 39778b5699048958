//! Leases: who is on a task, and until when (`spec/federation-tasks.md`, Lease). Free of I/O.
//!
//! ```text
//! worker:     award ─► Waiting ──granted, input whole──► Executing ──done──► Delivering ──accepted──► over
//!                         │ fence                            │ fence, superseded,   │ refused,
//!                         │                                  │ refused, failed      │ tried often enough
//!                         └──────────────────────────────────┴──────────────────────┴───────────────► over
//!
//! requester:  offered ──accept──► held ──renew──► held ──result──► accepted
//!                │ no answer         │ expiry, release
//!                └───────────────────┴──────────────────► next epoch
//! ```
//!
//! A lease is a promise about time (C. Gray, D. Cheriton, "Leases", 1989). The worker counts from the moment it *sends* an acceptance or
//! a renewal, but only once the requester has granted that very message, and stops an eighth of the lease before the end; the
//! requester counts from when it *receives* one. So while clocks run at the same rate within an eighth, at most one worker is on a
//! task at any time, whatever is lost, delayed or doubled. Times are milliseconds of CLOCK_BOOTTIME, which counts on while a machine is suspended.
//! A worker that breaks these rules does no harm beyond wasted work: a result of an old epoch is refused.

mod grantor;
mod holder;

pub use grantor::{Grantor, Reply};
pub use holder::{Effect, Holder, Input, Stop};

/// The part of a lease that a worker does not use, as a divisor: clocks may differ by so much.
pub const MARGIN_DIVISOR: u64 = 8;
/// A lease is renewed this many times in its length.
pub const RENEWALS: u64 = 3;
/// The shortest lease that a worker takes, ms: shorter ones are over before a grant is back over a relay.
pub const MIN_LEASE_MS: u64 = 500;
/// The longest lease that a worker takes, ms: a requester that is gone holds a worker no longer.
pub const MAX_LEASE_MS: u64 = 600_000;
