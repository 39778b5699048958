//! Sister nodes: how they are found, trusted, spoken with and put to work.

pub mod auction;
pub mod lease;
pub mod reputation;
pub mod tasks;
pub mod handshake;
pub mod invitation;
pub mod keyring;
pub mod letters;
pub mod membership;
pub mod liveness;
pub mod net;
