//! The shared vocabulary of a Timmy node and every protocol *decision*, free of I/O: no socket, no file, no clock and no
//! random source. Callers pass in what time it is and where randomness comes from, so every decision can be replayed.
//!
//! | module | what it decides | source |
//! |---|---|---|
//! | [`job`] | requests, results, feedback; the life of a job | NIP-90, `spec/jobs.md` |
//! | [`offer`] | what a node offers, and that it is alive | NIP-89, `spec/jobs.md` |
//! | [`identity`] | the documents that say who a node is | NIP-01, 05, 17, 39, 65 |
//! | [`attestation`] | that an owner stands behind a node | NIP-OA |
//! | [`card`] | which install speaks for a passport | `spec/identity.md` |
//! | [`dm`] | sealed direct messages | NIP-17, 44, 59 |
//! | [`memory`] | memory on the wire: changes and tombstones | `spec/memory.md` |
//! | [`task`] | auctions, leases and results between sister nodes | `spec/federation-tasks.md` |
//! | [`federation`] | membership, invitations, epoch keys, letters | `spec/federation-trust.md` |
//! | [`http_auth`] | who signed an HTTP request | NIP-98 |
//! | [`guard`] | which addresses a stranger may name | DESIGN §4 |

pub mod attestation;
pub mod audience;
pub mod card;
pub mod dm;
pub mod federation;
pub mod guard;
pub mod http_auth;
pub mod identity;
pub mod job;
pub mod memory;
pub mod msat;
pub mod offer;
mod tags;
pub mod task;

pub use attestation::Attestation;
pub use audience::Audience;
pub use card::PeerCard;
pub use dm::DirectMessage;
pub use job::{JobId, JobRequest};
pub use msat::Msat;
pub use offer::Offer;
