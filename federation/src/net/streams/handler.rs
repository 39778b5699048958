//! The streams of one connection.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use libp2p::core::upgrade::{InboundUpgrade, OutboundUpgrade, UpgradeInfo};
use libp2p::swarm::handler::{ConnectionEvent, FullyNegotiatedInbound, FullyNegotiatedOutbound};
use libp2p::swarm::{ConnectionHandler, ConnectionHandlerEvent, StreamUpgradeError, SubstreamProtocol};
use libp2p::{Stream, StreamProtocol};

use super::{Listen, Refused, Reply};
use crate::net::options::Protocol;

/// How long the choice of a protocol may take.
const NEGOTIATION: Duration = Duration::from_secs(5);
/// Streams that wait to be handed to the driver or to be asked for, on one connection. The driver takes them
/// at once; more than this means that it has fallen behind a peer that opens streams in a loop.
const MAX_WAITING: usize = 32;

/// A stream that is wanted.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) protocol: Protocol,
    pub(crate) reply: Reply,
}

/// The protocols that one negotiation offers.
#[derive(Clone, Debug)]
pub(crate) struct Names(Arc<[Protocol]>);

impl UpgradeInfo for Names {
    type Info = StreamProtocol;
    type InfoIter = std::vec::IntoIter<StreamProtocol>;

    fn protocol_info(&self) -> Self::InfoIter {
        self.0.iter().map(|p| p.wire()).collect::<Vec<_>>().into_iter()
    }
}

impl Names {
    fn chosen(&self, name: &StreamProtocol) -> Option<Protocol> {
        self.0.iter().copied().find(|p| p.wire() == *name)
    }
}

impl InboundUpgrade<Stream> for Names {
    type Output = (Option<Protocol>, Stream);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_inbound(self, stream: Stream, name: StreamProtocol) -> Self::Future {
        ready(Ok((self.chosen(&name), stream)))
    }
}

impl OutboundUpgrade<Stream> for Names {
    type Output = Stream;
    type Error = Infallible;
    type Future = Ready<Result<Stream, Infallible>>;

    fn upgrade_outbound(self, stream: Stream, _: StreamProtocol) -> Self::Future {
        ready(Ok(stream))
    }
}

/// See the module.
pub(crate) struct Handler {
    listen: Listen,
    wanted: VecDeque<Request>,
    came: VecDeque<(Protocol, Stream)>,
}

impl Handler {
    pub(crate) fn new(listen: Listen) -> Self {
        Self { listen, wanted: VecDeque::new(), came: VecDeque::new() }
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Request;
    type ToBehaviour = (Protocol, Stream);
    type InboundProtocol = Names;
    type OutboundProtocol = Names;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Reply;

    fn listen_protocol(&self) -> SubstreamProtocol<Names> {
        SubstreamProtocol::new(Names((self.listen)()), ()).with_timeout(NEGOTIATION)
    }

    fn on_behaviour_event(&mut self, request: Request) {
        if self.wanted.len() < MAX_WAITING {
            self.wanted.push_back(request);
        }
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ConnectionHandlerEvent<Names, Reply, Self::ToBehaviour>> {
        if let Some(came) = self.came.pop_front() {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(came));
        }
        let Some(Request { protocol, reply }) = self.wanted.pop_front() else {
            return Poll::Pending;
        };
        let protocol = SubstreamProtocol::new(Names(Arc::new([protocol])), reply).with_timeout(NEGOTIATION);
        Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol })
    }

    #[allow(clippy::wildcard_enum_match_arm, reason = "an enum of libp2p's, of which little concerns us")]
    fn on_connection_event(&mut self, event: ConnectionEvent<'_, Names, Names, (), Reply>) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol: (protocol, stream), ..
            }) => {
                self.came.extend(protocol.filter(|_| self.came.len() < MAX_WAITING).map(|protocol| (protocol, stream)));
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol: stream, info }) => {
                // The asker may have stopped waiting.
                let _ = info.send(Ok(stream));
            }
            ConnectionEvent::DialUpgradeError(failed) => {
                let why = match failed.error {
                    StreamUpgradeError::NegotiationFailed => Refused::Unsupported,
                    StreamUpgradeError::Timeout => Refused::Broken("the negotiation took too long".into()),
                    StreamUpgradeError::Io(error) => Refused::Broken(error.to_string()),
                    StreamUpgradeError::Apply(never) => match never {},
                };
                let _ = failed.info.send(Err(why));
            }
            _ => {}
        }
    }
}
