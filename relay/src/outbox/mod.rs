//! The durable outbox: an event goes to each of its targets until the relay said OK, refused for good, or days have passed.
//!
//! ```text
//!  daemon: insert + wake() ─► [ store ] ─► driver ─► one worker a target ─► pool / own relay
//!                                 ▲                        │
//!                                 └──── record(next) ◄─────┘──► Settled
//! ```
//!
//! Recovery: nothing is kept in memory that matters. Crashed before a try, or after it and before `record`: the same bytes
//! are sent again, which relays answer with `duplicate`. Crashed after `record` and before [`Settled`] was read: the daemon
//! finds the outcome in its own store at the next start.
//!
//! Each target has a worker of its own, so a relay that is down delays only its own entries; [`machine`] decides when it is
//! tried again.

mod driver;
pub mod machine;
mod store;

pub use driver::{LocalRelay, Outbox, OutboxConfig, Settled};
pub use machine::{Next, Outcome};
pub use store::{Counts, Entry, OutboxError, OutboxStore, Target, Update};
