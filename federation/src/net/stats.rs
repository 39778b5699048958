//! Counters of what the network did and what it refused.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// A snapshot of the counters, since the start.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct NetStats { $($(#[$doc])* pub $name: u64,)* }

        #[derive(Debug, Default)]
        pub(crate) struct Counters { $(pub(crate) $name: AtomicU64,)* }

        impl Counters {
            pub(crate) fn snapshot(&self) -> NetStats {
                NetStats { $($name: self.$name.load(Ordering::Relaxed),)* }
            }
        }
    };
}

counters! {
    /// Gossip messages handed to the owner.
    gossip_in,
    /// Gossip messages dropped because the owner was slow.
    gossip_dropped,
    /// Gossip messages published here.
    gossip_out,
    /// Gossip messages that waited for a first peer.
    gossip_kept,
    /// Waiting gossip messages that were given up, too old or too many.
    gossip_given_up,
    /// Gossip messages published while every peer's queue was full; they are offered by id.
    gossip_stalled,
    /// Streams refused: too many of one peer, or the owner was slow.
    streams_refused,
    /// Connections refused: blocked, or too many strangers.
    connections_refused,
    /// Strangers shown out when their time was over.
    strangers_expired,
    /// Dials not begun because too many were begun before.
    dials_refused,
    /// Events given up because the owner was slow.
    events_dropped,
}

/// Adds one.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
