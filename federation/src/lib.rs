//! Sister nodes: how they are found, trusted, spoken with and put to work.

pub mod discovery;
pub mod liveness;
pub mod net;
