//! The links to members and what is heard on each. No I/O, no clock.

use std::collections::BTreeMap;

use libp2p::PeerId;

/// Names a link.
pub(crate) type LinkId = u64;

/// A link on which nothing was heard for this long is not trusted alone any more: datagrams go on all links, new
/// streams elsewhere, and gossip waits.
pub(crate) const SILENT_MS: u64 = 1_500;
/// After this a second path is dialed.
pub(crate) const SECOND_MS: u64 = 2_500;
/// After this the link is closed. Longer than a suspicion takes, so that death is told by the members' word.
pub(crate) const BROKEN_MS: u64 = 8_000;
/// The pause between two dials of a second path.
const SECOND_PATH_MS: u64 = 5_000;

#[derive(Debug)]
struct Link {
    peer: PeerId,
    heard_ms: u64,
    silent: bool,
}

/// What is to be done about a link.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Advice {
    Silent {
        link: LinkId,
        silent: bool,
    },
    Close {
        link: LinkId,
    },
    /// The peer is dead: so is every connection to it, those without a link of ours too.
    HangUp {
        peer: PeerId,
    },
    SecondPath {
        peer: PeerId,
    },
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Paths {
    links: BTreeMap<LinkId, Link>,
    dialed_ms: BTreeMap<PeerId, u64>,
}

impl Paths {
    pub(crate) fn up(&mut self, link: LinkId, peer: PeerId, now: u64) {
        self.links.insert(link, Link { peer, heard_ms: now, silent: false });
    }

    /// Forgets a link; true when it was the peer's last.
    pub(crate) fn down(&mut self, link: LinkId) -> Option<(PeerId, bool)> {
        let peer = self.links.remove(&link)?.peer;
        let last = !self.links.values().any(|l| l.peer == peer);
        if last {
            self.dialed_ms.remove(&peer);
        }
        Some((peer, last))
    }

    pub(crate) fn peer(&self, link: LinkId) -> Option<PeerId> {
        self.links.get(&link).map(|l| l.peer)
    }

    pub(crate) fn of(&self, peer: PeerId) -> impl Iterator<Item = LinkId> + '_ {
        self.links.iter().filter(move |(_, l)| l.peer == peer).map(|(id, _)| *id)
    }

    /// Something came on a link.
    pub(crate) fn hear(&mut self, link: LinkId, now: u64) -> Option<Advice> {
        let l = self.links.get_mut(&link)?;
        l.heard_ms = now;
        std::mem::take(&mut l.silent).then_some(Advice::Silent { link, silent: false })
    }

    /// The links by which to send: the one heard last, or all of them when that one is stale.
    pub(crate) fn route(&self, peer: PeerId, now: u64) -> Vec<LinkId> {
        let best = self.links.iter().filter(|(_, l)| l.peer == peer).max_by_key(|(id, l)| (l.heard_ms, **id));
        match best {
            Some((id, l)) if now.saturating_sub(l.heard_ms) < SILENT_MS => vec![*id],
            Some(_) => self.of(peer).collect(),
            None => Vec::new(),
        }
    }

    /// This node was not running for so long: it cannot have heard.
    pub(crate) fn forgive(&mut self, ms: u64) {
        for link in self.links.values_mut() {
            link.heard_ms += ms;
        }
    }

    /// What is to be done about links on which nothing is heard.
    pub(crate) fn look(&mut self, now: u64) -> Vec<Advice> {
        let mut advice = Vec::new();
        for (id, link) in &mut self.links {
            let silence = now.saturating_sub(link.heard_ms);
            if silence >= BROKEN_MS {
                advice.push(Advice::Close { link: *id });
            } else if silence >= SILENT_MS && !link.silent {
                link.silent = true;
                advice.push(Advice::Silent { link: *id, silent: true });
            }
        }
        let is_lost = |l: &Link| now.saturating_sub(l.heard_ms) >= SECOND_MS;
        let lost: Vec<PeerId> = self.links.values().filter(|l| is_lost(l)).map(|l| l.peer).collect();
        for peer in lost {
            let all_lost = self.links.values().filter(|l| l.peer == peer).all(is_lost);
            let rested = self.dialed_ms.get(&peer).is_none_or(|at| now.saturating_sub(*at) >= SECOND_PATH_MS);
            if all_lost && rested {
                self.dialed_ms.insert(peer, now);
                advice.push(Advice::SecondPath { peer });
            }
        }
        advice
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_link_is_left_for_another_and_closed() {
        let (mut paths, peer) = (Paths::default(), PeerId::random());
        paths.up(1, peer, 0);
        assert_eq!(paths.route(peer, 1_000), vec![1]);
        assert_eq!(paths.look(SILENT_MS), vec![Advice::Silent { link: 1, silent: true }]);
        assert_eq!(paths.look(SECOND_MS), vec![Advice::SecondPath { peer }]);
        assert!(paths.look(SECOND_MS + 10).is_empty());
        paths.up(2, peer, SECOND_MS + 20);
        assert_eq!(paths.route(peer, SECOND_MS + 30), vec![2]);
        assert_eq!(paths.hear(2, 7_000), None);
        assert_eq!(paths.look(BROKEN_MS), vec![Advice::Close { link: 1 }]);
        assert_eq!(paths.down(1), Some((peer, false)));
        assert_eq!(paths.down(2), Some((peer, true)));
    }

    #[test]
    fn a_silent_link_is_not_trusted_alone_and_one_heard_again_is_told() {
        let (mut paths, peer) = (Paths::default(), PeerId::random());
        paths.up(1, peer, 0);
        paths.up(2, peer, 0);
        assert_eq!(paths.route(peer, 10).len(), 1);
        assert_eq!(paths.route(peer, SILENT_MS), vec![1, 2]);
        paths.look(SILENT_MS);
        assert_eq!(paths.hear(1, SILENT_MS + 1), Some(Advice::Silent { link: 1, silent: false }));
        assert_eq!(paths.route(peer, SILENT_MS + 2), vec![1]);
    }

    #[test]
    fn what_we_slept_through_is_forgiven() {
        let (mut paths, peer) = (Paths::default(), PeerId::random());
        paths.up(1, peer, 0);
        paths.forgive(60_000);
        assert!(paths.look(61_000).is_empty());
    }
}
