//! What is asked of every relay, and from when on.

use nostr::{Filter, RelayUrl};

/// How far behind the last seen time a subscription starts again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LookBack {
    /// Ten minutes: clocks differ, and relays take events that are a little old.
    #[default]
    Minutes,
    /// Two days and ten minutes: the time of a gift wrap is random within the last two days (NIP-59).
    GiftWraps,
}

const OVERLAP_S: u64 = 600;
const WRAP_SPREAD_S: u64 = 2 * 24 * 3600;

impl LookBack {
    /// Seconds before the last seen time.
    pub const fn overlap_s(self) -> u64 {
        match self {
            Self::Minutes => OVERLAP_S,
            Self::GiftWraps => WRAP_SPREAD_S + OVERLAP_S,
        }
    }

    /// Seconds before the time of the very first start: only what is back-dated on purpose.
    const fn first_s(self) -> u64 {
        match self {
            Self::Minutes => 0,
            Self::GiftWraps => WRAP_SPREAD_S + OVERLAP_S,
        }
    }
}

/// A standing question, put to every configured relay at each connect until it is withdrawn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// The name under which the last seen time is kept: stable across starts.
    pub id: String,
    /// An event answers when it matches one of these. Each becomes a REQ of its own, because a relay's limit holds for each
    /// filter and paging backwards over several at once would leave holes.
    pub filters: Vec<Filter>,
    /// How far behind the last seen time to begin.
    pub lookback: LookBack,
    /// Unix seconds: where to begin on a relay for which no last seen time is kept. With [`LookBack::GiftWraps`] the spread
    /// of their times is subtracted from it.
    pub first_since_s: u64,
}

impl Subscription {
    /// Gives the `since` of the next REQ, in Unix seconds.
    pub(super) fn since_s(&self, last_seen_s: Option<u64>) -> u64 {
        match last_seen_s {
            Some(seen) => seen.saturating_sub(self.lookback.overlap_s()),
            None => self.first_since_s.saturating_sub(self.lookback.first_s()),
        }
    }
}

/// Where the last seen times live. Called from the relays' tasks: both calls should be quick.
pub trait Cursors: Send + Sync {
    /// The time (Unix seconds) up to which everything of `sub` on `relay` was handed over and handled.
    fn load(&self, relay: &RelayUrl, sub: &str) -> Option<u64>;
    /// Keeps it. Comes when a catch-up is complete and then every few seconds while the connection lives.
    fn save(&self, relay: &RelayUrl, sub: &str, unix_s: u64);
}
