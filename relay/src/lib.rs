//! Both sides of a Nostr relay: the embedded server, and the pool of outside relays with its outbox.

pub mod outbox;
pub mod pool;
pub mod signer;

pub use outbox::Outbox;
pub use pool::Pool;
pub use signer::RemoteSigner;
