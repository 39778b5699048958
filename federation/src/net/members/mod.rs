//! Keeps a behaviour for members only.
//!
//! [`Members`] wraps the behaviours that a stranger must not meet (gossip, identify, member streams). The
//! connection of a non-member gets a handler that listens to nothing and asks for nothing; the inner
//! behaviours are never told of it. When the peer is admitted the real handler is put in place on the
//! connections that exist.
//!
//! Two nodes never admit each other at the same instant, and gossipsub gives up on a peer that refuses its
//! protocol once. So the handler first opens an empty stream of [`MESH`], again and again with growing pauses;
//! the other side takes it only when it has admitted us. From then on the inner handler runs.
//!
//! ```text
//!   shut ──admit──► waiting (listens; asks for MESH) ──taken──► open (inner handler runs) ──► Meshed
//! ```
//!
//! Nothing goes back: a member that is removed loses its connections.

mod handler;

use std::collections::{BTreeMap, VecDeque};
use std::task::{Context, Poll};

use libp2p::core::ConnectedPoint;
use libp2p::core::transport::PortUse;
use libp2p::core::{Endpoint, Multiaddr};
use libp2p::swarm::behaviour::{ConnectionClosed, ConnectionEstablished};
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, NotifyHandler, THandler, THandlerInEvent,
    THandlerOutEvent, ToSwarm,
};
use libp2p::{PeerId, StreamProtocol};

pub(crate) use handler::Gated;
use handler::{In, Out};

/// The empty stream by which each side learns that the other has admitted it.
pub(crate) const MESH: StreamProtocol = StreamProtocol::new("/timmy/mesh/1");

/// What the wrapper tells.
#[derive(Debug)]
pub(crate) enum Event<E> {
    /// Both sides have admitted each other on this connection.
    Meshed { peer: PeerId, id: ConnectionId },
    /// The inner behaviour speaks.
    Inner(E),
}

type Action<B> = ToSwarm<Event<<B as NetworkBehaviour>::ToSwarm>, In<THandler<B>>>;

struct Conn {
    peer: PeerId,
    endpoint: ConnectedPoint,
    port_use: PortUse,
    /// The swarm has announced it.
    established: bool,
    admitted: bool,
    /// The inner behaviour has been told that the connection is established.
    told: bool,
}

/// See the module.
pub(crate) struct Members<B: NetworkBehaviour> {
    inner: B,
    /// Asked once for each new connection.
    is_member: Box<dyn Fn(&PeerId) -> bool + Send>,
    conns: BTreeMap<ConnectionId, Conn>,
    events: VecDeque<Action<B>>,
}

impl<B: NetworkBehaviour> Members<B> {
    pub(crate) fn new(inner: B, is_member: impl Fn(&PeerId) -> bool + Send + 'static) -> Self {
        Self { inner, is_member: Box::new(is_member), conns: BTreeMap::new(), events: VecDeque::new() }
    }

    pub(crate) fn inner_mut(&mut self) -> &mut B {
        &mut self.inner
    }

    /// True when the real handler is on this connection.
    pub(crate) fn is_admitted(&self, id: ConnectionId) -> bool {
        self.conns.get(&id).is_some_and(|c| c.admitted)
    }

    /// Puts the real handler on every connection of a peer that has become a member.
    pub(crate) fn admit(&mut self, peer: &PeerId) {
        let waiting: Vec<ConnectionId> = self
            .conns
            .iter()
            .filter(|(_, c)| c.peer == *peer && !c.admitted && c.established)
            .map(|(id, _)| *id)
            .collect();
        for id in waiting {
            self.admit_one(id);
        }
    }

    /// Lets a connection on which nothing is heard carry nothing, or again something.
    pub(crate) fn pause(&mut self, id: ConnectionId, paused: bool) {
        if let Some(conn) = self.conns.get(&id) {
            self.events.push_back(ToSwarm::NotifyHandler {
                peer_id: conn.peer,
                handler: NotifyHandler::One(id),
                event: In::Pause(paused),
            });
        }
    }

    fn admit_one(&mut self, id: ConnectionId) {
        let Some(conn) = self.conns.get(&id) else { return };
        let (peer, endpoint, port_use) = (conn.peer, conn.endpoint.clone(), conn.port_use);
        let made = match &endpoint {
            ConnectedPoint::Dialer { address, role_override, .. } => {
                self.inner.handle_established_outbound_connection(id, peer, address, *role_override, port_use)
            }
            ConnectedPoint::Listener { local_addr, send_back_addr } => {
                self.inner.handle_established_inbound_connection(id, peer, local_addr, send_back_addr)
            }
        };
        let Ok(handler) = made else { return };
        let event = In::Open(Box::new(handler));
        self.events.push_back(ToSwarm::NotifyHandler { peer_id: peer, handler: NotifyHandler::One(id), event });
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.admitted = true;
        }
        self.tell_established(id, &endpoint, &[]);
    }

    fn told(&self, peer: &PeerId) -> usize {
        self.conns.values().filter(|c| c.peer == *peer && c.told).count()
    }

    fn tell_established(&mut self, id: ConnectionId, endpoint: &ConnectedPoint, failed_addresses: &[Multiaddr]) {
        let Some(peer_id) = self.conns.get(&id).map(|c| c.peer) else { return };
        let other_established = self.told(&peer_id);
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.told = true;
        }
        self.inner.on_swarm_event(FromSwarm::ConnectionEstablished(ConnectionEstablished {
            peer_id,
            connection_id: id,
            endpoint,
            failed_addresses,
            other_established,
        }));
    }

    fn on_established(&mut self, event: ConnectionEstablished<'_>) {
        let Some(conn) = self.conns.get_mut(&event.connection_id) else { return };
        conn.endpoint = event.endpoint.clone();
        conn.established = true;
        if conn.admitted {
            self.tell_established(event.connection_id, event.endpoint, event.failed_addresses);
        }
    }

    fn on_closed(&mut self, event: ConnectionClosed<'_>) {
        let Some(conn) = self.conns.remove(&event.connection_id) else { return };
        if conn.told {
            let remaining_established = self.told(&event.peer_id);
            self.inner.on_swarm_event(FromSwarm::ConnectionClosed(ConnectionClosed { remaining_established, ..event }));
        }
    }

    fn remember(&mut self, id: ConnectionId, peer: PeerId, endpoint: ConnectedPoint, port_use: PortUse) -> bool {
        let admitted = (self.is_member)(&peer);
        self.conns.insert(id, Conn { peer, endpoint, port_use, established: false, admitted, told: false });
        admitted
    }
}

impl<B: NetworkBehaviour> NetworkBehaviour for Members<B> {
    type ConnectionHandler = Gated<THandler<B>>;
    type ToSwarm = Event<B::ToSwarm>;

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        let endpoint = ConnectedPoint::Listener { local_addr: local.clone(), send_back_addr: remote.clone() };
        if !self.remember(id, peer, endpoint, PortUse::Reuse) {
            return Ok(Gated::shut());
        }
        self.inner.handle_established_inbound_connection(id, peer, local, remote).map(Gated::waiting)
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        addr: &Multiaddr,
        role_override: Endpoint,
        port_use: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        let endpoint = ConnectedPoint::Dialer { address: addr.clone(), role_override, port_use };
        if !self.remember(id, peer, endpoint, port_use) {
            return Ok(Gated::shut());
        }
        self.inner.handle_established_outbound_connection(id, peer, addr, role_override, port_use).map(Gated::waiting)
    }

    #[allow(clippy::wildcard_enum_match_arm, reason = "an enum of libp2p's, of which little concerns us")]
    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(event) => self.on_established(event),
            FromSwarm::ConnectionClosed(event) => self.on_closed(event),
            FromSwarm::AddressChange(change) => {
                if self.conns.get(&change.connection_id).is_some_and(|c| c.told) {
                    self.inner.on_swarm_event(event);
                }
            }
            // Another behaviour turned the connection away after we had prepared for it.
            FromSwarm::ListenFailure(failure) => {
                self.conns.remove(&failure.connection_id);
                self.inner.on_swarm_event(event);
            }
            FromSwarm::DialFailure(failure) => {
                self.conns.remove(&failure.connection_id);
                self.inner.on_swarm_event(event);
            }
            // Whom we fail to dial is no secret from ourselves; the rest concerns no peer.
            _ => self.inner.on_swarm_event(event),
        }
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, id: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {
            Out::Meshed => self.events.push_back(ToSwarm::GenerateEvent(Event::Meshed { peer, id })),
            Out::Inner(event) => self.inner.on_connection_handler_event(peer, id, event),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        if let Some(event) = self.events.pop_front() {
            return Poll::Ready(event);
        }
        self.inner.poll(cx).map(|event| event.map_out(Event::Inner).map_in(In::Inner))
    }
}
