//! Trust between nodes, by the public face alone: handshakes, invitations, and many nodes at once.

#![allow(clippy::unwrap_used)]

mod handshake;
mod hostile;
mod invitation;
mod roster;
mod simulation;
mod spec;
mod world;
