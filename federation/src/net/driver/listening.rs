//! Listening: the same port for IPv4 and IPv6, because discovery announces one for both.

use std::time::{Duration, Instant};

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol as Part;

use super::Driver;
use crate::net::book::is_quic;
use crate::net::handle::NetError;

/// An IPv6 listener waits so long for its IPv4 twin to have a port.
const TWIN_PATIENCE: Duration = Duration::from_secs(2);

/// IPv6 addresses with a free port that are to have the port of their IPv4 twin.
#[derive(Debug, Default)]
pub(crate) struct Twins {
    waiting: Vec<Multiaddr>,
    since: Option<Instant>,
}

fn is_ip6(addr: &Multiaddr) -> bool {
    addr.iter().any(|part| matches!(part, Part::Ip6(_)))
}

fn port(addr: &Multiaddr) -> Option<u16> {
    addr.iter().find_map(|part| if let Part::Udp(port) | Part::Tcp(port) = part { Some(port) } else { None })
}

#[allow(clippy::wildcard_enum_match_arm, reason = "of the parts of an address two have a port")]
fn with_port(addr: &Multiaddr, port: u16) -> Multiaddr {
    let replaced = addr.iter().map(|part| match part {
        Part::Udp(_) => Part::Udp(port),
        Part::Tcp(_) => Part::Tcp(port),
        other => other,
    });
    replaced.collect()
}

impl Twins {
    /// Takes out of `addrs` those that have a twin to wait for.
    fn hold(&mut self, addrs: &mut Vec<Multiaddr>, now: Instant) {
        let twins = addrs.clone();
        let has_twin = |addr: &Multiaddr| {
            let is_twin = |t: &Multiaddr| !is_ip6(t) && is_quic(t) == is_quic(addr) && port(t) == Some(0);
            is_ip6(addr) && port(addr) == Some(0) && twins.iter().any(is_twin)
        };
        self.waiting.extend(addrs.extract_if(.., |addr| has_twin(addr)));
        self.since = Some(now);
    }

    /// The addresses that can be listened on now that `addr` is, with its port.
    fn ready(&mut self, addr: &Multiaddr) -> Vec<Multiaddr> {
        if is_ip6(addr) {
            return Vec::new();
        }
        let Some(port) = port(addr) else { return Vec::new() };
        let same = self.waiting.extract_if(.., |twin| is_quic(twin) == is_quic(addr));
        same.map(|twin| with_port(&twin, port)).collect()
    }

    /// Those that have waited in vain.
    fn overdue(&mut self, now: Instant) -> Vec<Multiaddr> {
        let over = self.since.is_some_and(|since| now.saturating_duration_since(since) >= TWIN_PATIENCE);
        if over { std::mem::take(&mut self.waiting) } else { Vec::new() }
    }
}

impl Driver {
    /// Listens where it can; a machine without IPv6 refuses some.
    ///
    /// # Errors
    /// [`NetError::Listen`] when nothing is listened on although something was wanted.
    pub(super) fn listen(&mut self, mut addrs: Vec<Multiaddr>) -> Result<(), NetError> {
        self.twins.hold(&mut addrs, Instant::now());
        let (mut first_error, wanted) = (None, addrs.len());
        for addr in addrs {
            match self.swarm.listen_on(addr.clone()) {
                Ok(id) => self.listeners.push((id, addr)),
                Err(source) => {
                    tracing::info!(%addr, %source, "cannot listen");
                    first_error.get_or_insert(NetError::Listen { addr, source });
                }
            }
        }
        match first_error {
            Some(error) if wanted > 0 && self.listeners.is_empty() => Err(error),
            _ => Ok(()),
        }
    }

    /// An address is listened on: its IPv6 twin takes the same port, or any if that one is taken.
    pub(super) fn listen_twins(&mut self, addr: &Multiaddr) {
        for twin in self.twins.ready(addr) {
            let listening = self.swarm.listen_on(twin.clone());
            match listening.or_else(|_| self.swarm.listen_on(with_port(&twin, 0))) {
                Ok(id) => self.listeners.push((id, twin)),
                Err(error) => tracing::info!(%twin, %error, "cannot listen"),
            }
        }
    }

    /// Listens again where a listener failed, and where a twin has not come.
    pub(super) fn listen_again(&mut self, now: Instant) {
        let mut again = std::mem::take(&mut self.to_listen);
        again.extend(self.twins.overdue(now));
        if !again.is_empty()
            && let Err(error) = self.listen(again.clone())
        {
            tracing::debug!(%error, "still cannot listen");
            self.to_listen = again;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addrs(texts: &[&str]) -> Vec<Multiaddr> {
        texts.iter().map(|t| t.parse().unwrap()).collect()
    }

    #[test]
    fn a_twin_takes_the_port_of_its_brother() {
        let (mut twins, t0) = (Twins::default(), Instant::now());
        let all = ["/ip4/0.0.0.0/udp/0/quic-v1", "/ip4/0.0.0.0/tcp/0", "/ip6/::/udp/0/quic-v1", "/ip6/::/tcp/0"];
        let mut now = addrs(&all);
        twins.hold(&mut now, t0);
        assert_eq!(now, addrs(&all[..2]));
        assert_eq!(twins.ready(&addrs(&["/ip4/127.0.0.1/tcp/77"])[0]), addrs(&["/ip6/::/tcp/77"]));
        assert!(twins.ready(&addrs(&["/ip4/10.0.0.1/tcp/77"])[0]).is_empty(), "once");
        assert!(twins.overdue(t0).is_empty());
        assert_eq!(twins.overdue(t0 + TWIN_PATIENCE), addrs(&["/ip6/::/udp/0/quic-v1"]));
        assert!(twins.overdue(t0 + TWIN_PATIENCE).is_empty());
    }

    #[test]
    fn without_a_brother_or_with_a_port_nothing_waits() {
        let mut twins = Twins::default();
        let all = ["/ip6/::/udp/0/quic-v1", "/ip4/0.0.0.0/tcp/0", "/ip6/::/tcp/5000"];
        let mut now = addrs(&all);
        twins.hold(&mut now, Instant::now());
        assert_eq!(now, addrs(&all));
    }
}
