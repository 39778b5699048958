//! Raw streams on a named connection.
//!
//! (`libp2p-stream` picks a connection at random and shows every protocol to everyone. Liveness needs one
//! stream on each connection, and a stranger must not see what members speak.)

mod handler;

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};

use libp2p::core::transport::PortUse;
use libp2p::core::{Endpoint, Multiaddr};
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, NotifyHandler, THandler, THandlerInEvent,
    THandlerOutEvent, ToSwarm,
};
use libp2p::{PeerId, Stream};
use tokio::sync::oneshot;

use super::options::Protocol;
use handler::{Handler, Request};

/// Why a stream was not opened.
#[derive(Debug)]
pub(crate) enum Refused {
    /// The other side does not take this protocol from us (yet).
    Unsupported,
    /// The negotiation broke or took too long.
    Broken(String),
}

pub(crate) type Reply = oneshot::Sender<Result<Stream, Refused>>;
/// The protocols taken at this moment. Asked whenever a connection is polled.
pub(crate) type Listen = Arc<dyn Fn() -> Arc<[Protocol]> + Send + Sync>;

/// A stream that the other side opened.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) peer: PeerId,
    pub(crate) id: ConnectionId,
    pub(crate) protocol: Protocol,
    pub(crate) stream: Stream,
}

/// See the module.
pub(crate) struct Streams {
    listen: Listen,
    events: VecDeque<ToSwarm<Incoming, Request>>,
}

impl Streams {
    /// Takes streams of the protocols that `listen` names whenever it is asked.
    pub(crate) fn new(listen: Listen) -> Self {
        Self { listen, events: VecDeque::new() }
    }

    /// Asks for a stream on one connection. When that connection is gone the reply is dropped.
    pub(crate) fn open(&mut self, peer: PeerId, id: ConnectionId, protocol: Protocol, reply: Reply) {
        let event = Request { protocol, reply };
        self.events.push_back(ToSwarm::NotifyHandler { peer_id: peer, handler: NotifyHandler::One(id), event });
    }
}

impl NetworkBehaviour for Streams {
    type ConnectionHandler = Handler;
    type ToSwarm = Incoming;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::new(Arc::clone(&self.listen)))
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::new(Arc::clone(&self.listen)))
    }

    fn on_swarm_event(&mut self, _: FromSwarm<'_>) {}

    fn on_connection_handler_event(&mut self, peer: PeerId, id: ConnectionId, event: THandlerOutEvent<Self>) {
        let (protocol, stream) = event;
        self.events.push_back(ToSwarm::GenerateEvent(Incoming { peer, id, protocol, stream }));
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        self.events.pop_front().map_or(Poll::Pending, Poll::Ready)
    }
}
