//! Keeps a behaviour for members only.
//!
//! [`Members`] wraps the behaviours that a stranger must not meet (gossip, identify, member streams). The
//! connection of a non-member gets a handler that listens to nothing and asks for nothing; the inner
//! behaviours are never told of it.
//!
//! Two nodes never admit each other at the same instant, and gossipsub gives up on a peer that refuses its
//! protocol once. Nor do they lose each other at the same instant: the one that still holds a dead connection
//! would not tell its topics again on a new one, since to gossipsub it is but another connection of a peer that
//! knows them. So the handlers first ask each other two questions, again and again with growing pauses:
//!
//! ```text
//!   shut ──admit──► greeting ──answered──► waiting ──answered──► open ──► Event::Meshed
//!                   asks GREET             listens as inner,     inner handler
//!                                          asks MESH             is polled
//! ```
//!
//! Both tell the number of one's *session*: what one knows of the other from the first connection to the end of
//! the last. If the number is not the one known, the other side knows nothing any more, and this side forgets
//! too: it closes the other connections and begins anew on this one.
//!
//! Nothing goes back: a member that is removed loses its connections.

mod exchange;
mod handler;

use std::collections::{BTreeMap, VecDeque};
use std::task::{Context, Poll};

use libp2p::PeerId;
use libp2p::core::ConnectedPoint;
use libp2p::core::transport::PortUse;
use libp2p::core::{Endpoint, Multiaddr};
use libp2p::swarm::behaviour::{ConnectionClosed, ConnectionEstablished};
use libp2p::swarm::{
    CloseConnection, ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, NotifyHandler, THandler,
    THandlerInEvent, THandlerOutEvent, ToSwarm,
};

use exchange::Session;
pub(crate) use handler::Gated;
use handler::{In, Out};

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
    admitted: bool,
    /// The inner behaviour has been told that the connection is established.
    told: bool,
}

/// A peer with a connection.
struct Peer {
    session: Session,
    /// The number of its session, once it has begun.
    theirs: Option<u64>,
    conns: usize,
}

/// See the module.
pub(crate) struct Members<B: NetworkBehaviour> {
    inner: B,
    /// Asked once for each new connection.
    is_member: Box<dyn Fn(&PeerId) -> bool + Send>,
    conns: BTreeMap<ConnectionId, Conn>,
    peers: BTreeMap<PeerId, Peer>,
    events: VecDeque<Action<B>>,
}

impl<B: NetworkBehaviour> Members<B> {
    pub(crate) fn new(inner: B, is_member: impl Fn(&PeerId) -> bool + Send + 'static) -> Self {
        Self {
            inner,
            is_member: Box::new(is_member),
            conns: BTreeMap::new(),
            peers: BTreeMap::new(),
            events: VecDeque::new(),
        }
    }

    pub(crate) fn inner_mut(&mut self) -> &mut B {
        &mut self.inner
    }

    /// True when the peer of this connection has been taken for a member on it.
    pub(crate) fn is_admitted(&self, id: ConnectionId) -> bool {
        self.conns.get(&id).is_some_and(|c| c.admitted)
    }

    /// Begins with every connection of a peer that has become a member.
    pub(crate) fn admit(&mut self, peer: &PeerId) {
        for (id, conn) in self.conns.iter_mut().filter(|(_, c)| c.peer == *peer && !c.admitted) {
            conn.admitted = true;
            self.events.push_back(notify(*peer, *id, In::Greet));
        }
    }

    /// Lets a connection on which nothing is heard carry nothing, or again something.
    pub(crate) fn pause(&mut self, id: ConnectionId, paused: bool) {
        if let Some(conn) = self.conns.get(&id) {
            self.events.push_back(notify(conn.peer, id, In::Pause(paused)));
        }
    }

    fn remember(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        endpoint: ConnectedPoint,
        port_use: PortUse,
    ) -> Gated<THandler<B>> {
        let admitted = (self.is_member)(&peer);
        self.conns.insert(id, Conn { peer, endpoint, port_use, admitted, told: false });
        let known = self.peers.entry(peer).or_insert_with(|| Peer { session: Session::new(), theirs: None, conns: 0 });
        known.conns += 1;
        Gated::new(known.session.clone(), admitted)
    }

    fn told(&self, peer: &PeerId) -> usize {
        self.conns.values().filter(|c| c.peer == *peer && c.told).count()
    }

    /// The other side has admitted us: the inner behaviour is told of the connection.
    fn on_greeted(&mut self, peer: PeerId, id: ConnectionId, theirs: u64) {
        if self.peers.get(&peer).is_some_and(|p| p.theirs.is_some_and(|known| known != theirs)) {
            self.begin_anew(peer, id);
        }
        let Some(conn) = self.conns.get(&id).filter(|c| !c.told) else { return };
        let (endpoint, port_use) = (conn.endpoint.clone(), conn.port_use);
        let made = match &endpoint {
            ConnectedPoint::Dialer { address, role_override, .. } => {
                self.inner.handle_established_outbound_connection(id, peer, address, *role_override, port_use)
            }
            ConnectedPoint::Listener { local_addr, send_back_addr } => {
                self.inner.handle_established_inbound_connection(id, peer, local_addr, send_back_addr)
            }
        };
        match made {
            Ok(handler) => {
                self.events.push_back(notify(peer, id, In::Open(Box::new(handler))));
                self.tell_established(peer, id, &endpoint);
            }
            Err(_) => self.events.push_back(close(peer, id)),
        }
    }

    /// The other side has lost everything: so do we, but for the connection on which it says so.
    fn begin_anew(&mut self, peer: PeerId, but: ConnectionId) {
        tracing::debug!(%peer, "a member begins anew");
        let old: Vec<ConnectionId> =
            self.conns.iter().filter(|(id, c)| c.peer == peer && c.told && **id != but).map(|(id, _)| *id).collect();
        for id in old {
            self.tell_closed(id, None);
            self.events.push_back(close(peer, id));
        }
    }

    fn tell_established(&mut self, peer_id: PeerId, id: ConnectionId, endpoint: &ConnectedPoint) {
        let other_established = self.told(&peer_id);
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.told = true;
        }
        self.inner.on_swarm_event(FromSwarm::ConnectionEstablished(ConnectionEstablished {
            peer_id,
            connection_id: id,
            endpoint,
            failed_addresses: &[],
            other_established,
        }));
    }

    /// Tells the inner behaviour that a connection is closed; with the last one the session ends.
    fn tell_closed(&mut self, id: ConnectionId, cause: Option<&libp2p::swarm::ConnectionError>) {
        let Some(conn) = self.conns.get_mut(&id).filter(|c| c.told) else { return };
        conn.told = false;
        let (peer_id, endpoint) = (conn.peer, conn.endpoint.clone());
        let remaining_established = self.told(&peer_id);
        self.inner.on_swarm_event(FromSwarm::ConnectionClosed(ConnectionClosed {
            peer_id,
            connection_id: id,
            endpoint: &endpoint,
            cause,
            remaining_established,
        }));
        if let Some(peer) = self.peers.get_mut(&peer_id).filter(|_| remaining_established == 0) {
            peer.theirs = None;
            peer.session.renew();
        }
    }

    fn forget(&mut self, id: ConnectionId) {
        let Some(conn) = self.conns.remove(&id) else { return };
        if let Some(peer) = self.peers.get_mut(&conn.peer) {
            peer.conns -= 1;
            if peer.conns == 0 {
                self.peers.remove(&conn.peer);
            }
        }
    }
}

fn notify<E, H: libp2p::swarm::ConnectionHandler>(
    peer_id: PeerId,
    id: ConnectionId,
    event: In<H>,
) -> ToSwarm<E, In<H>> {
    ToSwarm::NotifyHandler { peer_id, handler: NotifyHandler::One(id), event }
}

fn close<E, I>(peer_id: PeerId, id: ConnectionId) -> ToSwarm<E, I> {
    ToSwarm::CloseConnection { peer_id, connection: CloseConnection::One(id) }
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
        Ok(self.remember(id, peer, endpoint, PortUse::Reuse))
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
        Ok(self.remember(id, peer, endpoint, port_use))
    }

    #[allow(clippy::wildcard_enum_match_arm, reason = "an enum of libp2p's, of which little concerns us")]
    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            // The inner behaviour is told when the other side has been greeted.
            FromSwarm::ConnectionEstablished(event) => {
                if let Some(conn) = self.conns.get_mut(&event.connection_id) {
                    conn.endpoint = event.endpoint.clone();
                }
            }
            FromSwarm::ConnectionClosed(event) => {
                self.tell_closed(event.connection_id, event.cause);
                self.forget(event.connection_id);
            }
            FromSwarm::AddressChange(change) => {
                if self.conns.get(&change.connection_id).is_some_and(|c| c.told) {
                    self.inner.on_swarm_event(event);
                }
            }
            // Another behaviour turned the connection away after we had prepared for it.
            FromSwarm::ListenFailure(failure) => self.forget(failure.connection_id),
            FromSwarm::DialFailure(failure) => self.forget(failure.connection_id),
            // The rest concerns no peer.
            _ => self.inner.on_swarm_event(event),
        }
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, id: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {
            Out::Greeted(theirs) => self.on_greeted(peer, id, theirs),
            Out::Meshed(theirs) => {
                // A connection that was given up in the meantime no longer counts.
                if self.conns.get(&id).is_some_and(|c| c.told)
                    && let Some(known) = self.peers.get_mut(&peer)
                {
                    known.theirs = Some(theirs);
                    self.events.push_back(ToSwarm::GenerateEvent(Event::Meshed { peer, id }));
                }
            }
            Out::Inner(event) => {
                if self.conns.get(&id).is_some_and(|c| c.told) {
                    self.inner.on_connection_handler_event(peer, id, event);
                }
            }
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        if let Some(event) = self.events.pop_front() {
            return Poll::Ready(event);
        }
        self.inner.poll(cx).map(|event| event.map_out(Event::Inner).map_in(In::Inner))
    }
}
