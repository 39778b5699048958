//! What the handle asked for, carried out.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use libp2p::PeerId;
use libp2p::gossipsub::{IdentTopic, PublishError};
use libp2p::swarm::ConnectionId;
use tokio::sync::oneshot;

use super::{Done, Driver};
use crate::net::command::{Command, Opened};
use crate::net::events::{Link, Ticket, Verdict};
use crate::net::gossip::MAX_DATA;
use crate::net::handle::{NetError, OpenError, PeerInfo};
use crate::net::options::{Protocol, Standing};
use crate::net::stats::count;
use crate::net::stream::{PeerStream, Slot};
use crate::net::streams::Refused;

fn open_error(protocol: Protocol, refused: Refused) -> OpenError {
    match refused {
        Refused::Unsupported => OpenError::Unsupported(protocol.name()),
        Refused::Broken(why) => OpenError::Broken(why),
    }
}

impl Driver {
    pub(super) fn on_command(&mut self, command: Command) {
        let now = Instant::now();
        // An asker that has gone does not mind that its answer is lost.
        match command {
            Command::Open { peer, protocol, reply } => self.open(peer, protocol, reply),
            Command::Dial { peer, addrs, reply } => drop(reply.send(self.on_dial(peer, &addrs, now))),
            Command::SecondPath { peer } => self.second_path(peer, now),
            Command::Silent { id, silent } => {
                if let Some(conn) = self.links.get_mut(id) {
                    conn.silent = silent;
                }
                self.swarm.behaviour_mut().members.pause(id, silent);
            }
            Command::AddAddrs { peer, addrs } => addrs.iter().rev().for_each(|addr| self.book.add(peer, addr)),
            Command::Disconnect { peer } => self.part(peer),
            Command::Close { id } => drop(self.swarm.close_connection(id)),
            Command::HangUp { peer } => drop(self.swarm.disconnect_peer_id(peer)),
            Command::Reconsider { peer } => self.reconsider(peer),
            Command::Publish { topic, data, reply } => drop(reply.send(self.publish(topic, data, now))),
            Command::Verdict { ticket, verdict } => self.verdict(&ticket, verdict),
            Command::Peers { reply } => drop(reply.send(self.peers(now))),
            Command::ListenAddrs { reply } => drop(reply.send(self.swarm.listeners().cloned().collect())),
            Command::Rtt(measured) => {
                if let Some(conn) = self.links.get_mut(measured.id) {
                    conn.rtt = Some(measured.rtt);
                }
            }
        }
    }

    /// A member stream waits on an admitted connection until the other side has admitted us too.
    fn open(&mut self, peer: PeerId, protocol: Protocol, reply: Opened) {
        let front = protocol.is_for_strangers();
        let meshed = if front { None } else { self.links.best(&peer, true) };
        let Some(id) = meshed.or_else(|| self.links.best(&peer, false)) else {
            let _ = reply.send(Err(OpenError::NotConnected(peer)));
            return;
        };
        if !front && !self.swarm.behaviour().members.is_admitted(id) {
            let _ = reply.send(Err(OpenError::NotConnected(peer)));
            return;
        }
        let Some(conn) = self.links.get(id) else { return };
        let Some(slot) = Slot::take(&conn.streams, 2 * self.limits.streams_per_peer) else {
            let _ = reply.send(Err(OpenError::TooMany(peer)));
            return;
        };
        let (asked, answer) = oneshot::channel();
        self.streams_for(protocol).open(peer, id, protocol, asked);
        self.tasks.spawn(async move {
            // When the connection is lost the reply is dropped, which says so.
            if let Ok(opened) = answer.await {
                let opened = opened.map(|s| PeerStream::new(s, slot)).map_err(|r| open_error(protocol, r));
                let _ = reply.send(opened);
            }
            Done::Nothing
        });
    }

    fn streams_for(&mut self, protocol: Protocol) -> &mut crate::net::streams::Streams {
        let behaviour = self.swarm.behaviour_mut();
        if protocol.is_for_strangers() { &mut behaviour.front } else { &mut behaviour.members.inner_mut().streams }
    }

    /// Opens the liveness stream of a connection on which both sides have admitted each other.
    pub(super) fn open_live(&mut self, peer: PeerId, id: ConnectionId) {
        let Some(slot) = self.links.get(id).and_then(|c| Slot::take(&c.live, 1)) else { return };
        let (asked, answer) = oneshot::channel();
        self.streams_for(Protocol::LIVE).open(peer, id, Protocol::LIVE, asked);
        self.tasks.spawn(async move {
            match answer.await {
                Ok(Ok(stream)) => Done::Live(Box::new(Link::Up { peer, id, stream: PeerStream::new(stream, slot) })),
                Ok(Err(_)) | Err(_) => Done::Nothing,
            }
        });
    }

    fn part(&mut self, peer: PeerId) {
        self.redial.forget(&peer);
        for id in self.links.ids(&peer) {
            if let Some(conn) = self.links.get_mut(id) {
                conn.parting = true;
            }
            self.swarm.close_connection(id);
        }
    }

    fn reconsider(&mut self, peer: PeerId) {
        match self.gate.standing(&peer) {
            Standing::Member => self.admit(peer),
            Standing::Blocked => self.part(peer),
            // A stranger's own time runs; a former member goes at once.
            Standing::Stranger if self.links.of(&peer).any(|(_, c)| c.member) => self.part(peer),
            Standing::Stranger => {}
        }
    }

    pub(super) fn admit(&mut self, peer: PeerId) {
        for id in self.links.ids(&peer) {
            if let Some(conn) = self.links.get_mut(id) {
                conn.member = true;
            }
        }
        let behaviour = self.swarm.behaviour_mut();
        behaviour.door.admit(&peer);
        behaviour.members.admit(&peer);
    }

    fn publish(&mut self, topic: String, data: Vec<u8>, now: Instant) -> Result<(), NetError> {
        if data.len() > MAX_DATA {
            return Err(NetError::TooLarge { len: data.len(), max: MAX_DATA });
        }
        if !self.topics.contains(&topic) {
            return Err(NetError::Gossip(format!("{topic} is not a topic of this node")));
        }
        let gossip = &mut self.swarm.behaviour_mut().members.inner_mut().gossip;
        match gossip.publish(IdentTopic::new(&topic), data.clone()) {
            Ok(_) => count(&self.counters.gossip_out),
            Err(PublishError::Duplicate) => {}
            Err(PublishError::AllQueuesFull(_)) => count(&self.counters.gossip_stalled),
            Err(PublishError::NoPeersSubscribedToTopic) => {
                count(&self.counters.gossip_kept);
                let given_up = self.outbox.keep(topic, data, now);
                self.give_up(given_up);
            }
            Err(error) => return Err(NetError::Gossip(error.to_string())),
        }
        Ok(())
    }

    fn give_up(&self, messages: u64) {
        self.counters.gossip_given_up.fetch_add(messages, std::sync::atomic::Ordering::Relaxed);
    }

    /// Someone has subscribed: what waited for a first peer is sent.
    pub(super) fn publish_kept(&mut self, topic: &str, now: Instant) {
        let (kept, given_up) = self.outbox.take(topic, now);
        self.give_up(given_up);
        for data in kept {
            if let Err(error) = self.publish(topic.to_owned(), data, now) {
                tracing::debug!(%error, "a kept message was not sent");
            }
        }
    }

    pub(super) fn verdict(&mut self, ticket: &Ticket, verdict: Verdict) {
        let gossip = &mut self.swarm.behaviour_mut().members.inner_mut().gossip;
        gossip.report_message_validation_result(&ticket.id, &ticket.from, verdict.into());
    }

    fn peers(&self, now: Instant) -> Vec<PeerInfo> {
        let mut peers: Vec<PeerId> = self.links.iter().map(|(_, c)| c.peer).collect();
        peers.sort_unstable();
        peers.dedup();
        peers.into_iter().filter_map(|peer| self.peer_info(peer, now)).collect()
    }

    fn peer_info(&self, peer: PeerId, now: Instant) -> Option<PeerInfo> {
        let best = self.links.best(&peer, true).or_else(|| self.links.best(&peer, false))?;
        let first = self.links.get(best)?;
        let mut addrs = vec![first.addr.clone()];
        addrs.extend(self.links.of(&peer).filter(|(id, _)| *id != best).map(|(_, c)| c.addr.clone()));
        let age = self.links.of(&peer).map(|(_, c)| now.saturating_duration_since(c.since)).max()?;
        Some(PeerInfo {
            peer,
            addrs,
            quic: first.quic,
            meshed: self.links.is_meshed(&peer),
            since: SystemTime::now().checked_sub(age)?,
            rtt: first.rtt,
        })
    }
}

impl Driver {
    /// A share of a connection's streams, for one that the peer opened.
    pub(super) fn slot(&self, id: ConnectionId, protocol: Protocol) -> Option<Slot> {
        let conn = self.links.get(id)?;
        if protocol == Protocol::LIVE {
            return Slot::take(&conn.live, 1);
        }
        let max = if conn.member { self.limits.streams_per_peer } else { STRANGERS_STREAMS };
        Slot::take(&Arc::clone(&conn.streams), max)
    }
}

/// Streams that a stranger may have open: a hello, and a join.
const STRANGERS_STREAMS: usize = 2;
