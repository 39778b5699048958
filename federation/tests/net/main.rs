//! The network on loopback: members, strangers, gossip, streams.

#![allow(clippy::unwrap_used, clippy::print_stderr, clippy::wildcard_enum_match_arm, reason = "a test may fail loudly")]

#[path = "../common/mod.rs"]
mod common;

mod connections;
mod gossip;
mod liveness;
mod strangers;
mod streams;
