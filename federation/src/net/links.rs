//! The connections that exist, and which of two to the same peer stays.
//!
//! Two nodes that find each other at the same time dial each other at the same time. Both connections are used
//! for a moment; then the node with the *smaller* PeerId closes all but the best, so that never both ends close
//! a different one. Best is: QUIC before TCP, then the one that the smaller PeerId dialed, then the newest (an
//! old one may be dead without knowing).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use libp2p::swarm::ConnectionId;
use libp2p::{Multiaddr, PeerId};

/// Two connections to a peer are left alone for this long, so that what began on either can end.
const SETTLE: Duration = Duration::from_secs(3);
/// A connection with open streams is closed all the same after this long.
const SETTLE_BUSY: Duration = Duration::from_secs(30);

/// A member's connection on which both sides have not admitted each other is closed after this long, and made anew.
const UNMESHED: Duration = Duration::from_secs(30);

/// One connection.
#[derive(Debug)]
pub(crate) struct Conn {
    pub(crate) peer: PeerId,
    pub(crate) addr: Multiaddr,
    pub(crate) quic: bool,
    pub(crate) dialed: bool,
    pub(crate) since: Instant,
    /// The gate says that the peer is a member.
    pub(crate) member: bool,
    /// This node closes it on purpose: the peer is not dialed again.
    pub(crate) parting: bool,
    /// Both sides have admitted each other.
    pub(crate) meshed: bool,
    /// It is not to be used for new streams: liveness hears nothing on it.
    pub(crate) silent: bool,
    pub(crate) rtt: Option<Duration>,
    /// Streams that are open towards this node and from it, liveness apart.
    pub(crate) streams: Arc<AtomicUsize>,
    /// Liveness streams.
    pub(crate) live: Arc<AtomicUsize>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Links {
    me: PeerId,
    conns: BTreeMap<ConnectionId, Conn>,
}

impl Links {
    pub(crate) fn new(me: PeerId) -> Self {
        Self { me, conns: BTreeMap::new() }
    }

    pub(crate) fn add(&mut self, id: ConnectionId, conn: Conn) {
        self.conns.insert(id, conn);
    }

    pub(crate) fn remove(&mut self, id: ConnectionId) -> Option<Conn> {
        self.conns.remove(&id)
    }

    pub(crate) fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Conn> {
        self.conns.get_mut(&id)
    }

    pub(crate) fn get(&self, id: ConnectionId) -> Option<&Conn> {
        self.conns.get(&id)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (ConnectionId, &Conn)> {
        self.conns.iter().map(|(id, conn)| (*id, conn))
    }

    pub(crate) fn of<'a>(&'a self, peer: &'a PeerId) -> impl Iterator<Item = (ConnectionId, &'a Conn)> {
        self.iter().filter(move |(_, c)| c.peer == *peer)
    }

    pub(crate) fn has(&self, peer: &PeerId) -> bool {
        self.of(peer).next().is_some()
    }

    pub(crate) fn is_meshed(&self, peer: &PeerId) -> bool {
        self.of(peer).any(|(_, c)| c.meshed)
    }

    /// The connection on which to open a stream; a member stream needs a meshed one.
    pub(crate) fn best(&self, peer: &PeerId, meshed: bool) -> Option<ConnectionId> {
        self.of(peer).filter(|(_, c)| c.meshed || !meshed).max_by_key(|(_, c)| self.rank(c)).map(|(id, _)| id)
    }

    fn rank(&self, conn: &Conn) -> (bool, bool, bool, Instant) {
        let smaller_dialed = conn.dialed == (self.me < conn.peer);
        (!conn.silent, conn.quic, smaller_dialed, conn.since)
    }

    /// The connections that are one too many and may be closed now.
    pub(crate) fn settle(&self, now: Instant) -> Vec<ConnectionId> {
        let closable = |id: ConnectionId, conn: &Conn| {
            let age = now.saturating_duration_since(conn.since);
            let idle = conn.streams.load(Ordering::Acquire) == 0;
            self.me < conn.peer && self.is_surplus(id, conn, now) && (idle || age >= SETTLE_BUSY)
        };
        self.iter().filter(|(id, conn)| closable(*id, conn)).map(|(id, _)| id).collect()
    }

    /// A better connection to the same peer has proved itself for a while.
    fn is_surplus(&self, id: ConnectionId, conn: &Conn, now: Instant) -> bool {
        let settled = |c: &Conn| now.saturating_duration_since(c.since) >= SETTLE;
        let better = |c: &Conn| self.rank(c) > self.rank(conn) && settled(c) && !c.silent && c.meshed >= conn.meshed;
        settled(conn) && self.of(&conn.peer).any(|(other, c)| other != id && better(c))
    }

    /// The connections of members that have not begun within [`UNMESHED`]: the other side does not admit us, or is
    /// gone without a word (liveness knows only those that have begun).
    pub(crate) fn never_meshed(&self, now: Instant) -> Vec<ConnectionId> {
        let over = |c: &Conn| {
            let idle = c.streams.load(Ordering::Acquire) == 0;
            c.member && !c.meshed && idle && now.saturating_duration_since(c.since) >= UNMESHED
        };
        self.iter().filter(|(_, c)| over(c)).map(|(id, _)| id).collect()
    }

    /// The connections of strangers that have been here for `life`.
    pub(crate) fn overstayed(&self, now: Instant, life: Duration) -> Vec<ConnectionId> {
        let over = |c: &Conn| !c.member && now.saturating_duration_since(c.since) >= life;
        self.iter().filter(|(_, c)| over(c)).map(|(id, _)| id).collect()
    }

    pub(crate) fn ids(&self, peer: &PeerId) -> Vec<ConnectionId> {
        self.of(peer).map(|(id, _)| id).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conn(peer: PeerId, quic: bool, dialed: bool, since: Instant) -> Conn {
        Conn {
            peer,
            addr: Multiaddr::empty(),
            quic,
            dialed,
            since,
            member: true,
            parting: false,
            meshed: true,
            silent: false,
            rtt: None,
            streams: Arc::default(),
            live: Arc::default(),
        }
    }

    fn two() -> (PeerId, PeerId) {
        let (a, b) = (PeerId::random(), PeerId::random());
        if a < b { (a, b) } else { (b, a) }
    }

    fn id(n: usize) -> ConnectionId {
        ConnectionId::new_unchecked(n)
    }

    #[test]
    fn one_of_two_simultaneous_dials_stays_and_only_the_smaller_closes() {
        let (small, large) = two();
        let t0 = Instant::now();
        let (mut at_small, mut at_large) = (Links::new(small), Links::new(large));
        // Connection 1 was dialed by the smaller, 2 by the larger.
        at_small.add(id(1), conn(large, true, true, t0));
        at_small.add(id(2), conn(large, true, false, t0));
        at_large.add(id(1), conn(small, true, false, t0));
        at_large.add(id(2), conn(small, true, true, t0));
        assert_eq!(at_small.best(&large, true), Some(id(1)));
        assert_eq!(at_large.best(&small, true), Some(id(1)));
        assert!(at_small.settle(t0).is_empty(), "left alone at first");
        assert_eq!(at_small.settle(t0 + SETTLE), vec![id(2)]);
        assert!(at_large.settle(t0 + SETTLE_BUSY).is_empty());
    }

    #[test]
    fn quic_is_kept_and_a_busy_or_silent_connection_is_minded() {
        let (small, large) = two();
        let t0 = Instant::now();
        let mut links = Links::new(small);
        links.add(id(1), conn(large, false, true, t0));
        links.add(id(2), conn(large, true, false, t0));
        let busy = Arc::clone(&links.get(id(1)).unwrap().streams);
        busy.store(1, Ordering::Release);
        assert!(links.settle(t0 + SETTLE).is_empty(), "a stream is open on it");
        assert_eq!(links.settle(t0 + SETTLE_BUSY), vec![id(1)]);
        links.get_mut(id(2)).unwrap().silent = true;
        assert_eq!(links.best(&large, true), Some(id(1)));
        assert!(!links.settle(t0 + SETTLE_BUSY).contains(&id(1)), "the silent one is not better");
    }

    #[test]
    fn members_that_never_begin_are_closed() {
        let (small, large) = two();
        let t0 = Instant::now();
        let mut links = Links::new(small);
        links.add(id(1), Conn { meshed: false, ..conn(large, true, true, t0) });
        links.add(id(2), conn(large, true, true, t0));
        assert!(links.never_meshed(t0).is_empty());
        assert_eq!(links.never_meshed(t0 + UNMESHED), vec![id(1)]);
    }

    #[test]
    fn strangers_overstay() {
        let (small, large) = two();
        let t0 = Instant::now();
        let mut links = Links::new(small);
        links.add(id(1), Conn { member: false, ..conn(large, true, true, t0) });
        links.add(id(2), conn(large, true, true, t0));
        assert!(links.overstayed(t0, SETTLE).is_empty());
        assert_eq!(links.overstayed(t0 + SETTLE, SETTLE), vec![id(1)]);
    }
}
