//! Tasks of a node, in both roles: what it has others do, and what it does for others. One machine free of I/O joins auctions and
//! leases: [`Tasks::handle`] takes an [`Input`] and says what is to be done.
//!
//! ```text
//!                   ┌──────── nobody bid: pause ◄───────┐
//!                   ▼                                   │
//!  Submit ─► Opened ─► Calling (epoch n) ──────────────►┤
//!                   ▲      │ award                      └─ may do it itself ─► Own ─┐
//!                   │      ▼                                                        │
//!                   └── Leased ──── result ─► Accepted ◄────────────────────────────┘
//!    n + 1: expiry, release,                      Lapsed: nobody, too often, too late, cancelled
//!    bad result, restart
//! ```
//!
//! **Journal first.** An [`Effect::Journal`] stands before every effect that acts on it: the driver writes all records of a list before it
//! carries out the rest. [`Tasks::restore`] takes the records back:
//!
//! | crashed after | on restart |
//! |---|---|
//! | `Opened` | called |
//! | `Called` | called in the next epoch: the set of the old one is not known |
//! | `Awarded` | award and input are sent again; the lease counts anew, in full |
//! | `OwnWork` | done again by the node itself, at most three times |
//! | `Accepted`, `Lapsed` | said again, until [`Input::Settled`] |
//! | `Taken` (worker) | given back: what was begun is lost |
//! | `Produced` (worker) | the result is sent again, the same bytes |
//!
//! At most one result of a task is accepted: `Accepted` is written once, only for the newest epoch, and an epoch is written before it is
//! called. No task is lost: it is accepted, or lapses with a word.

mod machine;
mod order;
mod record;
mod restore;
mod shelf;
mod types;
mod witness;
mod works;

pub use machine::Tasks;
pub use record::{Awarded, Mark, Proof, Record};
pub(crate) use shelf::Shelf;
pub use types::{
    Done, Effect, Execution, Input, Lapse, Notice, Now, Party, Reach, Settings, Signer, Submission, WorkId,
};
