//! Who wins and what is paid: a second-price auction over price ÷ reputation factor, in whole numbers, so that everybody who
//! recomputes it gets the same.
//!
//! Second price (W. Vickrey, "Counterspeculation, Auctions, and Competitive Sealed Tenders", 1961): the winner is paid the highest
//! price at which it would still have won, so no bidder gains by asking for more than the work costs it.

use std::cmp::Ordering;

use nostr::PublicKey;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::id::Attempt;
use crate::Msat;

/// What a bidder's price is divided by, in thousandths: 1 to 1000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct Factor(u16);

impl Factor {
    /// The best there is: the price counts as it is.
    pub const MAX: Self = Self(1000);

    /// From thousandths; `None` outside 1 to 1000.
    pub const fn from_permille(permille: u16) -> Option<Self> {
        if permille >= 1 && permille <= 1000 { Some(Self(permille)) } else { None }
    }

    /// In thousandths.
    pub const fn permille(self) -> u16 {
        self.0
    }

    /// Halved so many times, never below one thousandth.
    #[must_use]
    pub fn halved(self, times: u32) -> Self {
        Self(self.0.checked_shr(times).unwrap_or(0).max(1))
    }
}

impl TryFrom<u16> for Factor {
    type Error = &'static str;

    fn try_from(permille: u16) -> Result<Self, Self::Error> {
        Self::from_permille(permille).ok_or("a factor is 1 to 1000 thousandths")
    }
}

impl From<Factor> for u16 {
    fn from(factor: Factor) -> Self {
        factor.0
    }
}

/// A revealed bid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bid {
    /// Install key of the bidder.
    pub bidder: PublicKey,
    /// What it asks.
    pub price: Msat,
    /// What the price is divided by.
    pub factor: Factor,
}

/// How an auction ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settlement {
    /// Install key of the winner.
    pub winner: PublicKey,
    /// What it is paid.
    pub price: Msat,
}

/// Whoever has the lowest score wins (of equal ones, whoever has the lower hash of attempt and key) and is paid the highest price at
/// which it would still win; a lone bidder its own. `None` without bids. Each bidder is in `bids` at most once.
pub fn settle(attempt: &Attempt, bids: &[Bid]) -> Option<Settlement> {
    let mut ranked: Vec<&Bid> = bids.iter().collect();
    ranked.sort_by(|a, b| compare(attempt, a, b));
    let winner = ranked.first()?;
    let price = ranked.get(1).map_or(winner.price, |second| highest_winning(attempt, winner, second));
    Some(Settlement { winner: winner.bidder, price })
}

fn compare(attempt: &Attempt, a: &Bid, b: &Bid) -> Ordering {
    weighed(a.price, b.factor).cmp(&weighed(b.price, a.factor)).then_with(|| tie(attempt, a).cmp(&tie(attempt, b)))
}

/// `a.price / a.factor < b.price / b.factor` without a division: each price times the other's factor.
fn weighed(price: Msat, factor_of_other: Factor) -> u128 {
    u128::from(price.0) * u128::from(factor_of_other.0)
}

fn highest_winning(attempt: &Attempt, winner: &Bid, second: &Bid) -> Msat {
    let bound = weighed(second.price, winner.factor);
    let price = u64::try_from(bound / u128::from(second.factor.0)).unwrap_or(u64::MAX);
    let would_win = |price| compare(attempt, &Bid { price, ..*winner }, second) == Ordering::Less;
    if would_win(Msat(price)) { Msat(price) } else { Msat(price.saturating_sub(1)) }
}

fn tie(attempt: &Attempt, bid: &Bid) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(b"timmy/tie/1");
    hash.update(attempt.bytes());
    hash.update(bid.bidder.to_bytes());
    hash.finalize().into()
}
