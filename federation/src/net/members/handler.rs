//! The handler of [`super::Members`] on one connection.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use libp2p::core::upgrade::SelectUpgrade;
use libp2p::futures::future::Either as Outcome;
use libp2p::swarm::derive_prelude::Either;
use libp2p::swarm::handler::{
    ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound, ListenUpgradeError, SendWrapper,
};
use libp2p::swarm::{ConnectionHandler, ConnectionHandlerEvent, StreamUpgradeError, SubstreamProtocol};
use tokio::time::{Interval, MissedTickBehavior, Sleep, interval, sleep};

use super::exchange::{BOTH, Exchange, GREETING, MESHING, Session};

/// The first pause after the other side refused a question.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest: a card that the other side lacks may take a while to reach it.
const LAST_PAUSE: Duration = Duration::from_secs(5);
/// How long a question may take.
const ANSWER: Duration = Duration::from_secs(5);
/// Events for the inner handler that wait for it to exist: a few streams that are wanted early.
const MAX_EARLY: usize = 32;
/// The inner handler is polled at least this often. gossipsub's (0.50) waits on the queue that all connections of a
/// peer share only once it has a stream, and asks for a stream only when it is polled while the queue is not empty:
/// on a second connection it would sleep through every message.
const POLL: Duration = Duration::from_millis(100);

type Listen<H> = SelectUpgrade<SendWrapper<<H as ConnectionHandler>::InboundProtocol>, Exchange>;
type In1<H> = <Gated<H> as ConnectionHandler>::InboundProtocol;
type Out1<H> = <Gated<H> as ConnectionHandler>::OutboundProtocol;
type InInfo<H> = <Gated<H> as ConnectionHandler>::InboundOpenInfo;
type OutInfo<H> = <Gated<H> as ConnectionHandler>::OutboundOpenInfo;
type Request<H> = ConnectionHandlerEvent<Out1<H>, OutInfo<H>, <Gated<H> as ConnectionHandler>::ToBehaviour>;

/// What the behaviour tells its handler.
pub(crate) enum In<H: ConnectionHandler> {
    /// The peer is a member now.
    Greet,
    /// The other side has been greeted: this is to run.
    Open(Box<H>),
    /// Nothing is heard on this connection (or something is again). Gossip's queue is shared by all connections
    /// of a peer: a dead one must not empty it.
    Pause(bool),
    Inner(H::FromBehaviour),
}

impl<H: ConnectionHandler> fmt::Debug for In<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Greet => f.write_str("Greet"),
            Self::Open(_) => f.write_str("Open"),
            Self::Pause(paused) => write!(f, "Pause({paused})"),
            Self::Inner(event) => event.fmt(f),
        }
    }
}

/// What the handler tells its behaviour.
#[derive(Debug)]
pub(crate) enum Out<E> {
    /// The other side has admitted us, and this is the number of its session.
    Greeted(u64),
    /// The other side has begun, in the session of this number.
    Meshed(u64),
    Inner(E),
}

/// Where a question stands.
struct Question {
    due: Option<Pin<Box<Sleep>>>,
    pause: Duration,
}

impl Question {
    fn new() -> Self {
        Self { due: Some(Box::pin(sleep(Duration::ZERO))), pause: FIRST_PAUSE }
    }

    /// True once when it is time to ask.
    fn poll(&mut self, cx: &mut Context<'_>) -> bool {
        let is_due = self.due.as_mut().is_some_and(|due| due.as_mut().poll(cx).is_ready());
        if is_due {
            self.due = None;
        }
        is_due
    }

    fn refused(&mut self) {
        self.due = Some(Box::pin(sleep(self.pause)));
        self.pause = (self.pause * 2).min(LAST_PAUSE);
    }
}

enum State<H: ConnectionHandler> {
    Shut,
    Greeting { question: Question, early: VecDeque<H::FromBehaviour> },
    Waiting { inner: H, question: Question },
    Open { inner: H, poll: Interval },
}

/// A handler that runs another one when both sides have admitted each other.
pub(crate) struct Gated<H: ConnectionHandler> {
    state: State<H>,
    session: Session,
    /// An answer to be told.
    news: Option<Out<H::ToBehaviour>>,
    paused: bool,
}

impl<H: ConnectionHandler> Gated<H> {
    pub(crate) fn new(session: Session, is_member: bool) -> Self {
        let mut gated = Self { state: State::Shut, session, news: None, paused: false };
        if is_member {
            gated.greet();
        }
        gated
    }

    fn greet(&mut self) {
        if matches!(self.state, State::Shut) {
            self.state = State::Greeting { question: Question::new(), early: VecDeque::new() };
        }
    }

    /// Puts the inner handler in place; what was wanted of it before comes first.
    fn open(&mut self, mut inner: H) {
        if let State::Greeting { early, .. } = &mut self.state {
            for event in early.drain(..) {
                inner.on_behaviour_event(event);
            }
            self.state = State::Waiting { inner, question: Question::new() };
        }
    }

    fn inner(&self) -> Option<&H> {
        match &self.state {
            State::Shut | State::Greeting { .. } => None,
            State::Waiting { inner, .. } | State::Open { inner, .. } => Some(inner),
        }
    }

    fn inner_mut(&mut self) -> Option<&mut H> {
        match &mut self.state {
            State::Shut | State::Greeting { .. } => None,
            State::Waiting { inner, .. } | State::Open { inner, .. } => Some(inner),
        }
    }

    /// The other side answered the question of this state.
    fn answered(&mut self, theirs: u64) {
        self.state = match std::mem::replace(&mut self.state, State::Shut) {
            State::Waiting { inner, .. } => {
                self.news = Some(Out::Meshed(theirs));
                let mut poll = interval(POLL);
                poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
                State::Open { inner, poll }
            }
            greeting @ State::Greeting { .. } => {
                self.news = Some(Out::Greeted(theirs));
                greeting
            }
            other @ (State::Shut | State::Open { .. }) => other,
        };
    }

    fn refused(&mut self) {
        match &mut self.state {
            State::Greeting { question, .. } | State::Waiting { question, .. } => question.refused(),
            State::Shut | State::Open { .. } => {}
        }
    }

    /// A question, if it is time to ask one.
    fn ask(&mut self, cx: &mut Context<'_>) -> Option<Request<H>> {
        let (question, name) = match &mut self.state {
            State::Greeting { question, .. } => (question, &GREETING),
            State::Waiting { question, .. } => (question, &MESHING),
            State::Shut | State::Open { .. } => return None,
        };
        if !question.poll(cx) {
            return None;
        }
        let exchange = Exchange { names: name, session: self.session.clone() };
        let protocol = SubstreamProtocol::new(Either::Right(exchange), Either::Right(())).with_timeout(ANSWER);
        Some(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol })
    }

    fn on_inbound(&mut self, event: FullyNegotiatedInbound<In1<H>, InInfo<H>>) {
        // An exchange has said what it has to say.
        if let (Outcome::Left(Outcome::Left(protocol)), Either::Left(info)) = (event.protocol, event.info)
            && let Some(inner) = self.inner_mut()
        {
            let event = FullyNegotiatedInbound { protocol, info };
            inner.on_connection_event(ConnectionEvent::FullyNegotiatedInbound(event));
        }
    }

    fn on_inbound_error(&mut self, event: ListenUpgradeError<InInfo<H>, In1<H>>) {
        if let (Either::Left(info), Either::Left(Either::Left(error))) = (event.info, event.error)
            && let Some(inner) = self.inner_mut()
        {
            inner.on_connection_event(ConnectionEvent::ListenUpgradeError(ListenUpgradeError { info, error }));
        }
    }

    fn on_outbound(&mut self, event: FullyNegotiatedOutbound<Out1<H>, OutInfo<H>>) {
        match (event.protocol, event.info) {
            (Outcome::Left(protocol), Either::Left(info)) => {
                if let Some(inner) = self.inner_mut() {
                    let event = FullyNegotiatedOutbound { protocol, info };
                    inner.on_connection_event(ConnectionEvent::FullyNegotiatedOutbound(event));
                }
            }
            (Outcome::Right(theirs), _) => self.answered(theirs),
            (Outcome::Left(_), Either::Right(())) => {}
        }
    }

    fn on_outbound_error(&mut self, event: DialUpgradeError<OutInfo<H>, Out1<H>>) {
        let info = match event.info {
            Either::Left(info) => info,
            Either::Right(()) => return self.refused(),
        };
        let error = match event.error {
            StreamUpgradeError::Timeout => StreamUpgradeError::Timeout,
            StreamUpgradeError::NegotiationFailed => StreamUpgradeError::NegotiationFailed,
            StreamUpgradeError::Io(error) => StreamUpgradeError::Io(error),
            StreamUpgradeError::Apply(Either::Left(error)) => StreamUpgradeError::Apply(error),
            // A question's error with the inner's mark cannot be.
            StreamUpgradeError::Apply(Either::Right(error)) => StreamUpgradeError::Io(io::Error::other(error)),
        };
        if let Some(inner) = self.inner_mut() {
            inner.on_connection_event(ConnectionEvent::DialUpgradeError(DialUpgradeError { info, error }));
        }
    }

    fn names(&self) -> Exchange {
        let names: &[_] = match self.state {
            State::Shut => &[],
            State::Greeting { .. } => &GREETING,
            State::Waiting { .. } | State::Open { .. } => &BOTH,
        };
        Exchange { names, session: self.session.clone() }
    }
}

impl<H: ConnectionHandler> ConnectionHandler for Gated<H> {
    type FromBehaviour = In<H>;
    type ToBehaviour = Out<H::ToBehaviour>;
    type InboundProtocol = Either<Listen<H>, Exchange>;
    type OutboundProtocol = Either<SendWrapper<H::OutboundProtocol>, Exchange>;
    type InboundOpenInfo = Either<H::InboundOpenInfo, ()>;
    type OutboundOpenInfo = Either<H::OutboundOpenInfo, ()>;

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol, Self::InboundOpenInfo> {
        let names = self.names();
        match self.inner() {
            Some(inner) => inner
                .listen_protocol()
                .map_upgrade(|u| Either::Left(SelectUpgrade::new(SendWrapper(u), names)))
                .map_info(Either::Left),
            None => SubstreamProtocol::new(Either::Right(names), Either::Right(())).with_timeout(ANSWER),
        }
    }

    fn on_behaviour_event(&mut self, event: In<H>) {
        match event {
            In::Greet => self.greet(),
            In::Open(inner) => self.open(*inner),
            In::Pause(paused) => self.paused = paused,
            In::Inner(event) => match &mut self.state {
                State::Greeting { early, .. } if early.len() < MAX_EARLY => early.push_back(event),
                State::Waiting { inner, .. } | State::Open { inner, .. } => inner.on_behaviour_event(event),
                State::Shut | State::Greeting { .. } => {}
            },
        }
    }

    fn connection_keep_alive(&self) -> bool {
        self.inner().is_some_and(ConnectionHandler::connection_keep_alive)
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Request<H>> {
        if let Some(news) = self.news.take() {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(news));
        }
        if let Some(question) = self.ask(cx) {
            return Poll::Ready(question);
        }
        match &mut self.state {
            State::Open { inner, poll } if !self.paused => {
                while poll.poll_tick(cx).is_ready() {}
                inner.poll(cx).map(|event| {
                    let event = event.map_custom(Out::Inner).map_outbound_open_info(Either::Left);
                    event.map_protocol(|p| Either::Left(SendWrapper(p)))
                })
            }
            State::Open { .. } | State::Shut | State::Greeting { .. } | State::Waiting { .. } => Poll::Pending,
        }
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Option<Self::ToBehaviour>> {
        match self.inner_mut() {
            Some(inner) => inner.poll_close(cx).map(|event| event.map(Out::Inner)),
            None => Poll::Ready(None),
        }
    }

    #[allow(clippy::wildcard_enum_match_arm, reason = "an enum of libp2p's, of which little concerns us")]
    fn on_connection_event(&mut self, event: ConnectionEvent<'_, In1<H>, Out1<H>, InInfo<H>, OutInfo<H>>) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(event) => self.on_inbound(event),
            ConnectionEvent::FullyNegotiatedOutbound(event) => self.on_outbound(event),
            ConnectionEvent::DialUpgradeError(event) => self.on_outbound_error(event),
            ConnectionEvent::ListenUpgradeError(event) => self.on_inbound_error(event),
            other => {
                let Some(inner) = self.inner_mut() else { return };
                match other {
                    ConnectionEvent::AddressChange(change) => {
                        inner.on_connection_event(ConnectionEvent::AddressChange(change));
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
