//! The shared vocabulary of a Timmy node and every protocol *decision*, free of I/O: no socket, no file, no clock and no
//! random source. Callers pass in what time it is and where randomness comes from, so every decision can be replayed.

pub mod audience;
pub mod guard;

pub use audience::Audience;
