//! Turns connections away as soon as their key is known: the blocked always, strangers when there are too many.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use libp2p::PeerId;
use libp2p::core::transport::PortUse;
use libp2p::core::{Endpoint, Multiaddr};
use libp2p::multiaddr::Protocol as Part;
use libp2p::swarm::dummy;
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
};

use super::options::{Gate, Limits, Standing};
use super::stats::{Counters, count};

/// The address of a peer without its port.
#[allow(clippy::wildcard_enum_match_arm, reason = "an enum of libp2p's, of which little concerns us")]
pub(crate) fn ip_of(addr: &Multiaddr) -> Option<IpAddr> {
    addr.iter().find_map(|part| match part {
        Part::Ip4(ip) => Some(IpAddr::V4(ip)),
        Part::Ip6(ip) => Some(IpAddr::V6(ip)),
        _ => None,
    })
}

#[derive(Debug)]
enum Refusal {
    Blocked,
    TooManyStrangers,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Blocked => "this peer is blocked",
            Self::TooManyStrangers => "too many strangers",
        })
    }
}

impl std::error::Error for Refusal {}

/// See the module.
pub(crate) struct Door {
    gate: Arc<dyn Gate>,
    limits: Limits,
    counters: Arc<Counters>,
    /// Inbound connections of strangers.
    strangers: BTreeMap<ConnectionId, (PeerId, Option<IpAddr>)>,
}

impl Door {
    pub(crate) fn new(gate: Arc<dyn Gate>, limits: Limits, counters: Arc<Counters>) -> Self {
        Self { gate, limits, counters, strangers: BTreeMap::new() }
    }

    /// This peer's connections no longer take strangers' places.
    pub(crate) fn admit(&mut self, peer: &PeerId) {
        self.strangers.retain(|_, (p, _)| p != peer);
    }

    fn refuse<T>(&self, why: Refusal) -> Result<T, ConnectionDenied> {
        count(&self.counters.connections_refused);
        Err(ConnectionDenied::new(why))
    }

    fn is_full(&self, ip: Option<IpAddr>) -> bool {
        let same_ip = self.strangers.values().filter(|(_, other)| *other == ip).count();
        self.strangers.len() >= self.limits.strangers || same_ip >= self.limits.strangers_per_ip
    }
}

impl NetworkBehaviour for Door {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = std::convert::Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        match self.gate.standing(&peer) {
            Standing::Member => {}
            Standing::Blocked => return self.refuse(Refusal::Blocked),
            Standing::Stranger => {
                let ip = ip_of(remote);
                if self.is_full(ip) {
                    return self.refuse(Refusal::TooManyStrangers);
                }
                self.strangers.insert(id, (peer, ip));
            }
        }
        Ok(dummy::ConnectionHandler)
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        if self.gate.standing(&peer) == Standing::Blocked {
            return self.refuse(Refusal::Blocked);
        }
        Ok(dummy::ConnectionHandler)
    }

    #[allow(clippy::wildcard_enum_match_arm, reason = "an enum of libp2p's, of which little concerns us")]
    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionClosed(closed) => {
                self.strangers.remove(&closed.connection_id);
            }
            FromSwarm::ListenFailure(failure) => {
                self.strangers.remove(&failure.connection_id);
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}
