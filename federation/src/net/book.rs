//! The addresses at which peers were or may be reached.

use std::collections::{BTreeMap, VecDeque};

use libp2p::multiaddr::Protocol as Part;
use libp2p::{Multiaddr, PeerId};

/// Addresses kept of one peer, the newest first: two transports, two IP versions, two interfaces.
const MAX_ADDRS: usize = 8;
/// Peers kept. A federation has tens; the rest are strangers seen on the LAN.
const MAX_PEERS: usize = 256;

/// True for an address that is reached by QUIC.
pub(crate) fn is_quic(addr: &Multiaddr) -> bool {
    addr.iter().any(|part| matches!(part, Part::QuicV1))
}

/// The address without a trailing `/p2p/…`.
pub(crate) fn bare(addr: &Multiaddr) -> Multiaddr {
    addr.iter().filter(|part| !matches!(part, Part::P2p(_))).collect()
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Book {
    peers: BTreeMap<PeerId, VecDeque<Multiaddr>>,
    order: VecDeque<PeerId>,
}

impl Book {
    /// Notes an address, as the newest.
    pub(crate) fn add(&mut self, peer: PeerId, addr: &Multiaddr) {
        let addr = bare(addr);
        self.order.retain(|p| *p != peer);
        self.order.push_back(peer);
        let addrs = self.peers.entry(peer).or_default();
        addrs.retain(|a| *a != addr);
        addrs.push_front(addr);
        addrs.truncate(MAX_ADDRS);
        if self.order.len() > MAX_PEERS
            && let Some(oldest) = self.order.pop_front()
        {
            self.peers.remove(&oldest);
        }
    }

    /// The addresses of a peer, the newest first.
    pub(crate) fn of(&self, peer: &PeerId) -> Vec<Multiaddr> {
        self.peers.get(peer).into_iter().flatten().cloned().collect()
    }

    /// The addresses on the other transport than `quic`; all of them when there is none.
    pub(crate) fn other_path(&self, peer: &PeerId, quic: bool) -> Vec<Multiaddr> {
        let all = self.of(peer);
        let other: Vec<Multiaddr> = all.iter().filter(|a| is_quic(a) != quic).cloned().collect();
        if other.is_empty() { all } else { other }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newest_first_bounded_and_by_transport() {
        let (mut book, peer) = (Book::default(), PeerId::random());
        for port in 1..=20 {
            book.add(peer, &format!("/ip4/10.0.0.1/tcp/{port}").parse().unwrap());
        }
        let quic: Multiaddr = "/ip4/10.0.0.1/udp/9/quic-v1".parse().unwrap();
        book.add(peer, &format!("{quic}/p2p/{peer}").parse().unwrap());
        assert_eq!(book.of(&peer).len(), MAX_ADDRS);
        assert_eq!(book.of(&peer)[0], quic);
        assert_eq!(book.other_path(&peer, false), vec![quic]);
        assert!(book.other_path(&peer, true).iter().all(|a| !is_quic(a)));
        for _ in 0..MAX_PEERS + 5 {
            book.add(PeerId::random(), &"/ip4/10.0.0.2/tcp/1".parse().unwrap());
        }
        assert!(book.of(&peer).is_empty() && book.peers.len() == MAX_PEERS);
    }
}
