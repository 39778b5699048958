//! foca's settings, and what it wants of its surroundings.

use std::num::{NonZeroU8, NonZeroUsize};
use std::time::Duration;

use foca::{Config, Notification, PeriodicParams, Runtime, Timer};
use libp2p::PeerId;

use super::identity::Who;

/// The longest datagram. It goes on a stream: no MTU binds it; some eighty members fit.
pub(crate) const MAX_DATAGRAM: usize = 4_096;
/// A suspicion without refutation lasts this long.
pub(crate) const SUSPICION_MS: u64 = 2_500;
/// The first byte of a frame that carries a SWIM datagram.
pub(crate) const SWIM: u8 = 0;

/// The settings of SWIM: a probe a second, three indirect ones, refutations spread quickly.
pub(crate) fn config() -> Config {
    let every = |ms, members| {
        Some(PeriodicParams {
            frequency: Duration::from_millis(ms),
            num_members: NonZeroUsize::new(members).unwrap_or(NonZeroUsize::MIN),
        })
    };
    Config {
        probe_period: Duration::from_millis(1_000),
        probe_rtt: Duration::from_millis(400),
        num_indirect_probes: NonZeroUsize::new(3).unwrap_or(NonZeroUsize::MIN),
        max_transmissions: NonZeroU8::new(10).unwrap_or(NonZeroU8::MIN),
        suspect_to_down_after: Duration::from_millis(SUSPICION_MS),
        remove_down_after: Some(Duration::from_secs(86_400)),
        max_packet_size: NonZeroUsize::new(MAX_DATAGRAM).unwrap_or(NonZeroUsize::MIN),
        notify_down_members: true,
        periodic_announce: every(10_000, 1),
        periodic_announce_to_down_members: every(5_000, 2),
        periodic_gossip: every(200, 3),
    }
}

/// Collects what foca wants, to be carried out after the call.
#[derive(Default)]
pub(crate) struct Wants {
    pub(crate) sends: Vec<(Who, Vec<u8>)>,
    pub(crate) timers: Vec<(Timer<Who>, u64)>,
    /// Who came up or went down.
    pub(crate) changed: Vec<PeerId>,
}

impl Runtime<Who> for Wants {
    fn notify(&mut self, notification: Notification<'_, Who>) {
        match notification {
            Notification::MemberUp(who) | Notification::MemberDown(who) => self.changed.push(who.peer),
            Notification::Rename(..)
            | Notification::Active
            | Notification::Idle
            | Notification::Defunct
            | Notification::Rejoin(_) => {}
        }
    }

    fn send_to(&mut self, to: Who, data: &[u8]) {
        let mut bytes = Vec::with_capacity(data.len() + 1);
        bytes.push(SWIM);
        bytes.extend_from_slice(data);
        self.sends.push((to, bytes));
    }

    fn submit_after(&mut self, event: Timer<Who>, after: Duration) {
        self.timers.push((event, u64::try_from(after.as_millis()).unwrap_or(u64::MAX)));
    }
}
