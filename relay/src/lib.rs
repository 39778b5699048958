//! Both sides of a Nostr relay: the embedded server, and the pool of outside relays with its outbox.

pub mod outbox;
pub mod pool;
mod server;
pub mod signer;
mod store;

pub use outbox::{Counts, Entry, Next, Outbox, OutboxError, OutboxStore, Outcome, Settled, Target, Update};
pub use pool::{Incoming, Pool};
pub use server::*;
pub use signer::RemoteSigner;
pub use store::copy_events;
pub use store::{Follower, PublishOutcome, StoreError};
