//! The network on loopback: members, strangers, gossip, streams.

#[path = "../common/mod.rs"]
mod common;

mod connections;
mod gossip;
mod liveness;
mod strangers;
mod streams;
