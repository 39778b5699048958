//! Sister nodes: how they are found, trusted, spoken with and put to work.

pub mod liveness;
pub mod net;
