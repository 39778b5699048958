//! The sync machine, its responder and its links, over a replica in memory whose events are really signed.

#![allow(clippy::unwrap_used)]
// The seed of a simulation that failed.
#![allow(clippy::print_stdout)]

mod double;
mod hostile;
mod link;
mod machine;
mod simulation;
mod wire;
mod world;
