//! Members whose connection was lost are dialed again, with growing pauses.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use libp2p::PeerId;

/// The first pause: a link that flapped is back after about a second.
const FIRST: Duration = Duration::from_millis(500);
/// The longest pause.
const LAST: Duration = Duration::from_secs(30);
/// After this long a lost member is left to discovery.
const GIVE_UP: Duration = Duration::from_secs(3_600);

#[derive(Debug)]
struct Lost {
    since: Instant,
    due: Instant,
    pause: Duration,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Redial {
    lost: BTreeMap<PeerId, Lost>,
}

impl Redial {
    /// A member's last connection is gone.
    pub(crate) fn lost(&mut self, peer: PeerId, now: Instant) {
        self.lost.entry(peer).or_insert(Lost { since: now, due: now + FIRST, pause: FIRST });
    }

    /// A member is connected again, or no longer a member.
    pub(crate) fn forget(&mut self, peer: &PeerId) {
        self.lost.remove(peer);
    }

    /// Something changed that makes success likelier (an address, an interface): dial soon.
    pub(crate) fn hurry(&mut self, now: Instant) {
        for lost in self.lost.values_mut() {
            lost.pause = FIRST;
            lost.due = lost.due.min(now + FIRST);
        }
    }

    /// Whom to dial now. `jitter` in 0..1 spreads the pauses of many nodes.
    pub(crate) fn due(&mut self, now: Instant, jitter: f64) -> Vec<PeerId> {
        self.lost.retain(|_, l| now.saturating_duration_since(l.since) < GIVE_UP);
        let mut due = Vec::new();
        for (peer, lost) in &mut self.lost {
            if lost.due <= now {
                due.push(*peer);
                lost.pause = (lost.pause * 2).min(LAST);
                lost.due = now + lost.pause.mul_f64(0.75 + jitter.clamp(0.0, 1.0) / 2.0);
            }
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound_and_end() {
        let (mut redial, peer, t0) = (Redial::default(), PeerId::random(), Instant::now());
        redial.lost(peer, t0);
        assert!(redial.due(t0, 0.5).is_empty());
        let mut dials = Vec::new();
        for tenth in 0..40_000u32 {
            let now = t0 + Duration::from_millis(100) * tenth;
            dials.extend(redial.due(now, 0.5).iter().map(|_| now));
        }
        assert_eq!(dials[0] - t0, FIRST);
        assert!(dials.windows(2).all(|w| w[1] - w[0] <= LAST + Duration::from_millis(100)));
        assert!(dials.len() > 100 && dials.len() < 140, "{}", dials.len());
        assert!(*dials.last().unwrap() - t0 < GIVE_UP && redial.lost.is_empty());
    }

    #[test]
    fn a_change_of_the_network_hurries() {
        let (mut redial, peer, t0) = (Redial::default(), PeerId::random(), Instant::now());
        redial.lost(peer, t0);
        for secs in [1, 5, 30, 60, 120] {
            redial.due(t0 + Duration::from_secs(secs), 0.5);
        }
        let now = t0 + Duration::from_secs(121);
        redial.hurry(now);
        assert_eq!(redial.due(now + FIRST, 0.5), vec![peer]);
        redial.forget(&peer);
        assert!(redial.due(now + LAST, 0.5).is_empty());
    }
}
