//! Dials: by PeerId with all its addresses at once, or one address after the other while the key is unknown.

use std::time::{Duration, Instant};

use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, DialError};
use libp2p::{Multiaddr, PeerId};

use super::Driver;
use crate::net::book::{bare, is_quic};
use crate::net::events::NetEvent;
use crate::net::handle::NetError;
use crate::net::options::Standing;
use crate::net::stats::count;

/// Addresses tried of one dial; more than a host with a few interfaces has.
const MAX_ADDRS: usize = 8;

/// An address that has not answered after this long is tried beside the next one.
const NEXT: Duration = Duration::from_secs(1);

/// A dial without a PeerId: one address is tried, these are left.
#[derive(Debug)]
pub(crate) struct Attempt {
    rest: Vec<Multiaddr>,
    at: Instant,
}

/// So many dials a minute.
#[derive(Debug)]
pub(crate) struct DialBudget {
    per_min: u32,
    left: u32,
    refilled: Option<Instant>,
}

impl DialBudget {
    pub(crate) fn new(per_min: u32) -> Self {
        Self { per_min, left: per_min, refilled: None }
    }

    /// Takes one, unless this minute's are spent.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        if self.refilled.is_none_or(|at| now.saturating_duration_since(at) >= Duration::from_secs(60)) {
            self.refilled = Some(now);
            self.left = self.per_min;
        }
        let has = self.left > 0;
        self.left = self.left.saturating_sub(1);
        has
    }
}

/// QUIC first, at most [`MAX_ADDRS`], without `/p2p`.
fn in_order(addrs: &[Multiaddr]) -> Vec<Multiaddr> {
    let mut addrs: Vec<Multiaddr> = addrs.iter().map(bare).collect();
    addrs.sort_by_key(|a| !is_quic(a));
    addrs.truncate(MAX_ADDRS);
    addrs
}

impl Driver {
    pub(super) fn on_dial(&mut self, peer: Option<PeerId>, addrs: &[Multiaddr], now: Instant) -> Result<(), NetError> {
        match peer {
            Some(peer) => {
                for addr in addrs.iter().take(MAX_ADDRS).rev() {
                    self.book.add(peer, addr);
                }
                self.dial_peer(peer, self.book.of(&peer), PeerCondition::DisconnectedAndNotDialing, now)
            }
            None => self.dial_unknown(in_order(addrs), now),
        }
    }

    fn dial_peer(
        &mut self,
        peer: PeerId,
        addrs: Vec<Multiaddr>,
        condition: PeerCondition,
        now: Instant,
    ) -> Result<(), NetError> {
        if addrs.is_empty() {
            return Err(NetError::Dial("no address is known".into()));
        }
        self.spend(now)?;
        let options = DialOpts::peer_id(peer).addresses(addrs).condition(condition).build();
        match self.swarm.dial(options) {
            // Connected, or on the way: as wanted.
            Ok(()) | Err(DialError::DialPeerConditionFalse(_)) => Ok(()),
            Err(error) => Err(NetError::Dial(error.to_string())),
        }
    }

    fn spend(&mut self, now: Instant) -> Result<(), NetError> {
        if self.budget.take(now) {
            return Ok(());
        }
        count(&self.counters.dials_refused);
        Err(NetError::Dial("too many dials in this minute".into()))
    }

    /// A peer of which only addresses are known (mDNS tells no key).
    fn dial_unknown(&mut self, mut addrs: Vec<Multiaddr>, now: Instant) -> Result<(), NetError> {
        let connected = |addr: &Multiaddr| {
            self.links.iter().any(|(_, c)| bare(&c.addr) == *addr || self.book.of(&c.peer).contains(addr))
        };
        if addrs.iter().any(connected) {
            return Ok(());
        }
        if addrs.is_empty() {
            return Err(NetError::Dial("no address is given".into()));
        }
        self.spend(now)?;
        let first = addrs.remove(0);
        let options = DialOpts::unknown_peer_id().address(first).build();
        let id = options.connection_id();
        self.swarm.dial(options).map_err(|error| NetError::Dial(error.to_string()))?;
        self.attempts.insert(id, Attempt { rest: addrs, at: now });
        Ok(())
    }

    /// Tries the next address where the one before has not answered: a firewall that drops UDP says nothing.
    pub(super) fn dial_next(&mut self, now: Instant) {
        let slow = |a: &Attempt| !a.rest.is_empty() && now.saturating_duration_since(a.at) >= NEXT;
        let rests: Vec<Vec<Multiaddr>> =
            self.attempts.values_mut().filter(|a| slow(a)).map(|a| std::mem::take(&mut a.rest)).collect();
        for rest in rests {
            if let Err(error) = self.dial_unknown(rest, now) {
                tracing::debug!(%error, "the other addresses are not tried");
            }
        }
    }

    /// An outgoing connection failed.
    pub(super) fn on_dial_failed(&mut self, id: ConnectionId, peer: Option<PeerId>, error: &DialError) {
        let rest = self.attempts.remove(&id).map(|a| a.rest).unwrap_or_default();
        let is_self = matches!(error, DialError::LocalPeerId { .. });
        if !rest.is_empty() && !is_self && self.dial_unknown(rest, Instant::now()).is_ok() {
            return;
        }
        if !is_self {
            self.events.push(NetEvent::DialFailed { peer, why: error.to_string() });
        }
    }

    /// Dials a member whose connection was lost.
    pub(super) fn dial_again(&mut self, peer: PeerId, now: Instant) {
        if self.links.has(&peer) || self.gate.standing(&peer) != Standing::Member {
            self.redial.forget(&peer);
            return;
        }
        let addrs = self.book.of(&peer);
        if let Err(error) = self.dial_peer(peer, addrs, PeerCondition::DisconnectedAndNotDialing, now) {
            tracing::debug!(%peer, %error, "a lost member is not dialed");
        }
    }

    /// Dials a peer whose connection is silent by its other addresses.
    pub(super) fn second_path(&mut self, peer: PeerId, now: Instant) {
        let Some(best) = self.links.best(&peer, false) else { return };
        let quic = self.links.get(best).is_some_and(|c| c.quic);
        let addrs = self.book.other_path(&peer, quic);
        if let Err(error) = self.dial_peer(peer, addrs, PeerCondition::NotDialing, now) {
            tracing::debug!(%peer, %error, "no second path");
        }
    }
}
