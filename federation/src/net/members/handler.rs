//! The handler of [`super::Members`] on one connection.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use libp2p::core::upgrade::{DeniedUpgrade, ReadyUpgrade, SelectUpgrade};
use libp2p::futures::future::Either as Outcome;
use libp2p::swarm::derive_prelude::Either;
use libp2p::swarm::handler::{
    ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound, ListenUpgradeError, SendWrapper,
};
use libp2p::swarm::{ConnectionHandler, ConnectionHandlerEvent, StreamUpgradeError, SubstreamProtocol};
use libp2p::{Stream, StreamProtocol};
use tokio::time::{Interval, MissedTickBehavior, Sleep, interval, sleep};

use super::MESH;

/// The first pause after the other side refused the mesh stream.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest: a card that the other side lacks may take a while to reach it.
const LAST_PAUSE: Duration = Duration::from_secs(5);

/// The inner handler is polled at least this often. gossipsub's (0.50) waits on the queue that all connections of a
/// peer share only once it has a stream, and asks for a stream only when it is polled while the queue is not empty:
/// on a second connection it would sleep through every message.
const POLL: Duration = Duration::from_millis(100);

type Mesh = ReadyUpgrade<StreamProtocol>;
type Listen<H> = SelectUpgrade<SendWrapper<<H as ConnectionHandler>::InboundProtocol>, Mesh>;
type Event<'a, H> = ConnectionEvent<
    'a,
    <Gated<H> as ConnectionHandler>::InboundProtocol,
    <Gated<H> as ConnectionHandler>::OutboundProtocol,
    <Gated<H> as ConnectionHandler>::InboundOpenInfo,
    <Gated<H> as ConnectionHandler>::OutboundOpenInfo,
>;

/// What the behaviour tells its handler.
pub(crate) enum In<H: ConnectionHandler> {
    /// The peer is a member now.
    Open(Box<H>),
    /// Nothing is heard on this connection (or something is again). Gossip's queue is shared by all connections
    /// of a peer: a dead one must not empty it.
    Pause(bool),
    Inner(H::FromBehaviour),
}

impl<H: ConnectionHandler> fmt::Debug for In<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(_) => f.write_str("Open"),
            Self::Pause(paused) => write!(f, "Pause({paused})"),
            Self::Inner(event) => event.fmt(f),
        }
    }
}

/// What the handler tells its behaviour.
#[derive(Debug)]
pub(crate) enum Out<E> {
    /// The other side has admitted us too.
    Meshed,
    Inner(E),
}

/// Where the question "have you admitted me?" stands.
enum Asking {
    After(Pin<Box<Sleep>>),
    Asked,
}

enum State<H> {
    Shut,
    Waiting { inner: H, asking: Asking, pause: Duration },
    Open { inner: H, told: bool, poll: Interval },
}

/// A handler that runs another one when both sides have admitted each other.
pub(crate) struct Gated<H> {
    state: State<H>,
    paused: bool,
}

impl<H: ConnectionHandler> Gated<H> {
    pub(crate) fn shut() -> Self {
        Self { state: State::Shut, paused: false }
    }

    pub(crate) fn waiting(inner: H) -> Self {
        let asking = Asking::After(Box::pin(sleep(Duration::ZERO)));
        Self { state: State::Waiting { inner, asking, pause: FIRST_PAUSE }, paused: false }
    }

    fn inner(&self) -> Option<&H> {
        match &self.state {
            State::Shut => None,
            State::Waiting { inner, .. } | State::Open { inner, .. } => Some(inner),
        }
    }

    fn inner_mut(&mut self) -> Option<&mut H> {
        match &mut self.state {
            State::Shut => None,
            State::Waiting { inner, .. } | State::Open { inner, .. } => Some(inner),
        }
    }

    /// The other side took or refused the mesh stream.
    fn on_answer(&mut self, taken: bool) {
        self.state = match std::mem::replace(&mut self.state, State::Shut) {
            State::Waiting { inner, .. } if taken => {
                let mut poll = interval(POLL);
                poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
                State::Open { inner, told: false, poll }
            }
            State::Waiting { inner, pause, .. } => {
                let asking = Asking::After(Box::pin(sleep(pause)));
                State::Waiting { inner, asking, pause: (pause * 2).min(LAST_PAUSE) }
            }
            unasked @ (State::Shut | State::Open { .. }) => unasked,
        };
    }

    fn on_inbound(
        &mut self,
        event: FullyNegotiatedInbound<
            <Self as ConnectionHandler>::InboundProtocol,
            <Self as ConnectionHandler>::InboundOpenInfo,
        >,
    ) {
        match (event.protocol, event.info) {
            (Outcome::Left(Outcome::Left(protocol)), Either::Left(info)) => {
                if let Some(inner) = self.inner_mut() {
                    inner.on_connection_event(ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                        protocol,
                        info,
                    }));
                }
            }
            // The mesh stream has said what it has to say by being taken.
            (Outcome::Left(Outcome::Right(stream)), _) => drop::<Stream>(stream),
            (Outcome::Left(_), Either::Right(())) => {}
            (Outcome::Right(never), _) => match never {},
        }
    }

    fn on_inbound_error(
        &mut self,
        event: ListenUpgradeError<
            <Self as ConnectionHandler>::InboundOpenInfo,
            <Self as ConnectionHandler>::InboundProtocol,
        >,
    ) {
        if let (Either::Left(info), Either::Left(Either::Left(error)), Some(inner)) =
            (event.info, event.error, self.inner_mut())
        {
            inner.on_connection_event(ConnectionEvent::ListenUpgradeError(ListenUpgradeError { info, error }));
        }
    }

    fn on_outbound(
        &mut self,
        event: FullyNegotiatedOutbound<
            <Self as ConnectionHandler>::OutboundProtocol,
            <Self as ConnectionHandler>::OutboundOpenInfo,
        >,
    ) {
        match (event.protocol, event.info) {
            (Outcome::Left(protocol), Either::Left(info)) => {
                if let Some(inner) = self.inner_mut() {
                    inner.on_connection_event(ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                        protocol,
                        info,
                    }));
                }
            }
            (Outcome::Right(_), _) => self.on_answer(true),
            (Outcome::Left(_), Either::Right(())) => {}
        }
    }

    fn on_outbound_error(
        &mut self,
        event: DialUpgradeError<
            <Self as ConnectionHandler>::OutboundOpenInfo,
            <Self as ConnectionHandler>::OutboundProtocol,
        >,
    ) {
        let info = match event.info {
            Either::Left(info) => info,
            Either::Right(()) => return self.on_answer(false),
        };
        let error = match event.error {
            StreamUpgradeError::Timeout => StreamUpgradeError::Timeout,
            StreamUpgradeError::NegotiationFailed => StreamUpgradeError::NegotiationFailed,
            StreamUpgradeError::Io(error) => StreamUpgradeError::Io(error),
            StreamUpgradeError::Apply(Either::Left(error)) => StreamUpgradeError::Apply(error),
            StreamUpgradeError::Apply(Either::Right(never)) => match never {},
        };
        if let Some(inner) = self.inner_mut() {
            inner.on_connection_event(ConnectionEvent::DialUpgradeError(DialUpgradeError { info, error }));
        }
    }
}

impl<H: ConnectionHandler> ConnectionHandler for Gated<H> {
    type FromBehaviour = In<H>;
    type ToBehaviour = Out<H::ToBehaviour>;
    type InboundProtocol = Either<Listen<H>, DeniedUpgrade>;
    type OutboundProtocol = Either<SendWrapper<H::OutboundProtocol>, Mesh>;
    type InboundOpenInfo = Either<H::InboundOpenInfo, ()>;
    type OutboundOpenInfo = Either<H::OutboundOpenInfo, ()>;

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol, Self::InboundOpenInfo> {
        match self.inner() {
            Some(inner) => inner
                .listen_protocol()
                .map_upgrade(|u| Either::Left(SelectUpgrade::new(SendWrapper(u), ReadyUpgrade::new(MESH))))
                .map_info(Either::Left),
            None => SubstreamProtocol::new(Either::Right(DeniedUpgrade), Either::Right(())),
        }
    }

    fn on_behaviour_event(&mut self, event: In<H>) {
        match event {
            In::Open(inner) if matches!(self.state, State::Shut) => *self = Self::waiting(*inner),
            In::Open(_) => {}
            In::Pause(paused) => self.paused = paused,
            In::Inner(event) => {
                if let Some(inner) = self.inner_mut() {
                    inner.on_behaviour_event(event);
                }
            }
        }
    }

    fn connection_keep_alive(&self) -> bool {
        self.inner().is_some_and(ConnectionHandler::connection_keep_alive)
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, Self::OutboundOpenInfo, Self::ToBehaviour>> {
        match &mut self.state {
            State::Shut => Poll::Pending,
            State::Waiting { asking, .. } => {
                if let Asking::After(pause) = asking
                    && pause.as_mut().poll(cx).is_ready()
                {
                    *asking = Asking::Asked;
                    let protocol = SubstreamProtocol::new(Either::Right(ReadyUpgrade::new(MESH)), Either::Right(()));
                    return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
                }
                Poll::Pending
            }
            State::Open { told, .. } if !*told => {
                *told = true;
                Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(Out::Meshed))
            }
            State::Open { .. } if self.paused => Poll::Pending,
            State::Open { inner, poll, .. } => {
                while poll.poll_tick(cx).is_ready() {}
                inner.poll(cx).map(|event| {
                    event
                        .map_custom(Out::Inner)
                        .map_outbound_open_info(Either::Left)
                        .map_protocol(|p| Either::Left(SendWrapper(p)))
                })
            }
        }
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Option<Self::ToBehaviour>> {
        match self.inner_mut() {
            Some(inner) => inner.poll_close(cx).map(|event| event.map(Out::Inner)),
            None => Poll::Ready(None),
        }
    }

    #[allow(clippy::wildcard_enum_match_arm, reason = "an enum of libp2p's, of which little concerns us")]
    fn on_connection_event(&mut self, event: Event<'_, H>) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(event) => self.on_inbound(event),
            ConnectionEvent::FullyNegotiatedOutbound(event) => self.on_outbound(event),
            ConnectionEvent::DialUpgradeError(event) => self.on_outbound_error(event),
            ConnectionEvent::ListenUpgradeError(event) => self.on_inbound_error(event),
            other => {
                let Some(inner) = self.inner_mut() else { return };
                match other {
                    ConnectionEvent::AddressChange(change) => {
                        inner.on_connection_event(ConnectionEvent::AddressChange(change))
                    }
                    ConnectionEvent::LocalProtocolsChange(change) => {
                        inner.on_connection_event(ConnectionEvent::LocalProtocolsChange(change));
                    }
                    ConnectionEvent::RemoteProtocolsChange(change) => {
                        inner.on_connection_event(ConnectionEvent::RemoteProtocolsChange(change));
                    }
                    _ => {}
                }
            }
        }
    }
}
