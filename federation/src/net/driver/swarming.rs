//! What the swarm tells, carried out.

use std::time::Instant;

use libp2p::core::ConnectedPoint;
use libp2p::swarm::{ConnectionId, SwarmEvent};
use libp2p::{Multiaddr, PeerId, gossipsub, identify};

use super::Driver;
use crate::net::behaviour::{BehaviourEvent, InnerEvent};
use crate::net::book::is_quic;
use crate::net::door::ip_of;
use crate::net::events::{Link, NetEvent, Ticket, Verdict};
use crate::net::links::Conn;
use crate::net::members;
use crate::net::options::{Protocol, Standing};
use crate::net::stats::count;
use crate::net::stream::PeerStream;
use crate::net::streams::Incoming;

/// Addresses taken from what a member says of itself.
const MAX_TOLD: usize = 6;

impl Driver {
    #[allow(clippy::wildcard_enum_match_arm, reason = "an enum of libp2p's, of which little concerns us")]
    pub(super) fn on_swarm(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(event) => self.on_behaviour(event),
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, num_established, .. } => {
                self.on_established(peer_id, connection_id, &endpoint, num_established.get() == 1);
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, num_established, cause, .. } => {
                tracing::debug!(peer = %peer_id, id = %connection_id, ?cause, "connection closed");
                self.on_closed(peer_id, connection_id, num_established == 0);
            }
            SwarmEvent::OutgoingConnectionError { connection_id, peer_id, error } => {
                self.on_dial_failed(connection_id, peer_id, &error);
            }
            SwarmEvent::NewListenAddr { address, .. } => {
                self.redial.hurry(Instant::now());
                self.listen_twins(&address);
                self.events.push(NetEvent::Listening(address));
            }
            SwarmEvent::ExpiredListenAddr { address, .. } => self.events.push(NetEvent::NotListening(address)),
            SwarmEvent::ListenerClosed { listener_id, reason, .. } => {
                tracing::info!(?reason, "a listener closed");
                let lost = self.listeners.extract_if(.., |(id, _)| *id == listener_id);
                self.to_listen.extend(lost.map(|(_, addr)| addr));
            }
            _ => {}
        }
    }

    fn on_established(&mut self, peer: PeerId, id: ConnectionId, endpoint: &ConnectedPoint, first: bool) {
        self.attempts.remove(&id);
        let (addr, dialed) = (endpoint.get_remote_address().clone(), endpoint.is_dialer());
        if dialed {
            self.book.add(peer, &addr);
        }
        let standing = self.gate.standing(&peer);
        let quic = is_quic(&addr);
        let conn = Conn {
            peer,
            addr: addr.clone(),
            quic,
            dialed,
            since: Instant::now(),
            member: standing == Standing::Member,
            parting: false,
            meshed: false,
            silent: false,
            rtt: None,
            streams: Default::default(),
            live: Default::default(),
        };
        self.links.add(id, conn);
        self.redial.forget(&peer);
        match standing {
            Standing::Member => self.admit(peer),
            // The gate changed its mind while the connection was made.
            Standing::Stranger if self.swarm.behaviour().members.is_admitted(id) => {
                self.swarm.close_connection(id);
            }
            Standing::Blocked => {
                self.swarm.close_connection(id);
            }
            Standing::Stranger => {}
        }
        if first {
            self.events.push(NetEvent::Connected { peer, addr, dialed, standing });
        }
    }

    fn on_closed(&mut self, peer: PeerId, id: ConnectionId, last: bool) {
        let parting = self.links.remove(id).is_some_and(|c| c.parting);
        self.tell_link(Link::Down { peer, id });
        if last {
            if !parting && self.gate.standing(&peer) == Standing::Member {
                self.redial.lost(peer, Instant::now());
            }
            self.quiet.remove(&peer);
            self.events.push(NetEvent::Disconnected(peer));
        }
    }

    fn on_behaviour(&mut self, event: BehaviourEvent) {
        match event {
            BehaviourEvent::Front(incoming) => self.on_stream(incoming),
            BehaviourEvent::Members(members::Event::Meshed { peer, id }) => self.on_meshed(peer, id),
            BehaviourEvent::Members(members::Event::Inner(event)) => match event {
                InnerEvent::Gossip(event) => self.on_gossip(event),
                InnerEvent::Identify(event) => self.on_identify(event),
                InnerEvent::Streams(incoming) => self.on_stream(incoming),
            },
            BehaviourEvent::Limits(never) | BehaviourEvent::Memory(never) | BehaviourEvent::Door(never) => {
                match never {}
            }
        }
    }

    fn on_meshed(&mut self, peer: PeerId, id: ConnectionId) {
        let first = !self.links.is_meshed(&peer);
        let Some(conn) = self.links.get_mut(id) else { return };
        conn.meshed = true;
        if conn.dialed {
            self.open_live(peer, id);
        }
        if first {
            self.quiet.insert(peer, Instant::now());
        }
    }

    /// A member has told its topics, or has none: from now on it hears what is published.
    pub(super) fn on_topics(&mut self, peer: PeerId) {
        if self.quiet.remove(&peer).is_some() {
            self.events.push(NetEvent::Meshed(peer));
        }
    }

    fn on_stream(&mut self, incoming: Incoming) {
        let Incoming { peer, id, protocol, stream } = incoming;
        let Some(slot) = self.slot(id, protocol) else {
            count(&self.counters.streams_refused);
            return;
        };
        let stream = PeerStream::new(stream, slot);
        if protocol == Protocol::LIVE {
            self.tell_link(Link::Up { peer, id, stream });
        } else if self.events.offer(NetEvent::Stream { peer, protocol, stream }).is_err() {
            count(&self.counters.streams_refused);
        }
    }

    fn on_gossip(&mut self, event: gossipsub::Event) {
        match event {
            gossipsub::Event::Message { propagation_source, message_id, message } => {
                let ticket = Ticket { id: message_id, from: propagation_source };
                let topic = message.topic.into_string();
                let event =
                    NetEvent::Gossip { peer: propagation_source, topic, data: message.data, ticket: ticket.clone() };
                if self.events.offer(event).is_ok() {
                    count(&self.counters.gossip_in);
                } else {
                    count(&self.counters.gossip_dropped);
                    self.verdict(&ticket, Verdict::Ignore);
                }
            }
            gossipsub::Event::Subscribed { peer_id, topic } => {
                self.on_topics(peer_id);
                self.publish_kept(topic.as_str(), Instant::now());
            }
            gossipsub::Event::GossipsubNotSupported { peer_id } => {
                tracing::debug!(peer = %peer_id, "a member does not speak gossip");
            }
            gossipsub::Event::Unsubscribed { .. } | gossipsub::Event::SlowPeer { .. } => {}
        }
    }

    /// A member tells where it listens. Loopback is believed of a peer that is on loopback.
    fn on_identify(&mut self, event: identify::Event) {
        let identify::Event::Received { connection_id, peer_id, info } = event else { return };
        let Some(seen) = self.links.get(connection_id).map(|c| c.addr.clone()) else { return };
        let is_loopback = |addr: &Multiaddr| ip_of(addr).is_some_and(|ip| ip.is_loopback());
        let told = info.listen_addrs.iter().filter(|a| !is_loopback(a) || is_loopback(&seen));
        for addr in told.take(MAX_TOLD) {
            self.book.add(peer_id, addr);
        }
    }
}
