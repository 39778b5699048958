//! Who is alive: death told from slowness.
//!
//! A libp2p connection says nothing about the life of its peer (a cut TCP connection looked connected for
//! minutes). So members probe each other as SWIM does (Das et al. 2002; the machine is `foca`): each second one
//! member in turn; if it does not answer, three others are asked to; if they hear nothing, it is *suspected*, the
//! suspicion is gossiped, and without a refutation it is *down*.
//!
//! SWIM alone is hasty with two members and lossy paths. Two things are added, in the spirit of Lifeguard
//! (Dadgar et al. 2017):
//!
//! * **evidence**: every link carries an echo each second, four a second while in doubt. A member that is silent
//!   for two seconds is suspected at once; one of which anything was heard within two and a half is not told
//!   dead, whoever says so.
//! * **patience with oneself**: a machine that wakes late (it was stopped, or is overloaded) moves its own
//!   deadlines by as much, for it does not know what it missed.
//!
//! A link on which nothing is heard is left for another: [`crate::net`] dials a second path, and a link that stays
//! silent is closed. Datagrams travel on one stream of `/timmy/live/1` a connection; they are no envelopes, since
//! the connection has authenticated them and nobody else has a use for them (kind 9773 is never an event).
//!
//! The wire: `spec/federation-network.md`, "Liveness".
//!
//! ```text
//!            answered                      nobody heard it for 2.5 s
//!   alive ◄───────────── suspect ─────────────────────────────────► dead
//!     ▲  ─────────────►                                               │
//!     └──────────────────────────── back ◄────────────────────────────┘
//! ```

mod driver;
mod identity;
mod machine;
mod mailbox;
mod paths;
mod rng;
mod swim;

pub use driver::{Liveness, LivenessOptions};
pub use machine::{LivenessEvent, LivenessState};

#[cfg(test)]
mod spec_tests;
