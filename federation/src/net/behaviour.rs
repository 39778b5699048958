//! The swarm: transports, limits, and who meets which behaviour.

use std::sync::Arc;
use std::time::Duration;

use libp2p::swarm::{self, NetworkBehaviour};
use libp2p::{Swarm, SwarmBuilder, connection_limits, gossipsub, identify, memory_connection_limits};
use tokio_util::task::TaskTracker;

use super::door::Door;
use super::gossip;
use super::handle::NetError;
use super::members::Members;
use super::options::{Gate, NetOptions, Protocol, Standing};
use super::stats::Counters;
use super::streams::Streams;
use super::transport;

/// What identify tells members of the software; the node's version is on its peer card.
const AGENT: &str = "timmy";
/// The protocol family that identify names.
const FAMILY: &str = "timmy/1";
/// Inbound streams of one connection whose protocol is still being chosen.
const NEGOTIATING: usize = 32;
/// A QUIC connection on which nothing is heard for this long is dead; its keep-alive is sent four times in it.
const QUIC_IDLE_MS: u32 = 8_000;
const QUIC_KEEP_ALIVE: Duration = Duration::from_secs(2);

/// What only members meet.
#[derive(NetworkBehaviour)]
pub(crate) struct Inner {
    pub(crate) gossip: gossipsub::Behaviour,
    /// Tells members where else this node listens: the second path.
    pub(crate) identify: identify::Behaviour,
    pub(crate) streams: Streams,
}

/// Everything, in the order in which a new connection is judged.
#[derive(NetworkBehaviour)]
pub(crate) struct Behaviour {
    limits: connection_limits::Behaviour,
    memory: memory_connection_limits::Behaviour,
    pub(crate) door: Door,
    pub(crate) front: Streams,
    pub(crate) members: Members<Inner>,
}

fn limits(options: &NetOptions) -> connection_limits::Behaviour {
    let l = &options.limits;
    connection_limits::Behaviour::new(
        connection_limits::ConnectionLimits::default()
            .with_max_pending_incoming(Some(l.pending))
            .with_max_pending_outgoing(Some(l.pending))
            .with_max_established(Some(l.connections))
            .with_max_established_per_peer(Some(l.per_peer)),
    )
}

fn front(gate: &Arc<dyn Gate>) -> Streams {
    let gate = Arc::clone(gate);
    let (usual, inviting): (Arc<[_]>, Arc<[_]>) = ([Protocol::HELLO].into(), [Protocol::HELLO, Protocol::JOIN].into());
    Streams::new(Arc::new(move || Arc::clone(if gate.is_inviting() { &inviting } else { &usual })))
}

fn members(options: &NetOptions, gate: &Arc<dyn Gate>) -> Result<Members<Inner>, NetError> {
    let gossip = gossip::behaviour(&options.keypair, &options.topics)?;
    let identify = identify::Config::new(FAMILY.to_owned(), options.keypair.public())
        .with_agent_version(AGENT.to_owned())
        .with_push_listen_addr_updates(true);
    let mut protocols = options.protocols.clone();
    protocols.push(Protocol::LIVE);
    let protocols: Arc<[Protocol]> = protocols.into();
    let streams = Streams::new(Arc::new(move || Arc::clone(&protocols)));
    let inner = Inner { gossip, identify: identify::Behaviour::new(identify), streams };
    let gate = Arc::clone(gate);
    Ok(Members::new(inner, move |peer| gate.standing(peer) == Standing::Member))
}

/// Builds the swarm; its connections run as tasks of `tasks`.
///
/// # Errors
/// [`NetError::Transport`] or [`NetError::Gossip`].
pub(crate) fn swarm(
    options: &NetOptions,
    gate: &Arc<dyn Gate>,
    counters: &Arc<Counters>,
    tasks: TaskTracker,
) -> Result<Swarm<Behaviour>, NetError> {
    let behaviour = Behaviour {
        limits: limits(options),
        memory: memory_connection_limits::Behaviour::with_max_bytes(options.limits.memory_bytes),
        door: Door::new(Arc::clone(gate), options.limits.clone(), Arc::clone(counters)),
        front: front(gate),
        members: members(options, gate)?,
    };
    let idle = options.idle;
    let swarm = SwarmBuilder::with_existing_identity(options.keypair.clone())
        .with_tokio()
        .with_quic_config(|mut config| {
            config.max_idle_timeout = QUIC_IDLE_MS;
            config.keep_alive_interval = QUIC_KEEP_ALIVE;
            config
        })
        .with_other_transport(|key| Ok(transport::tcp(key)?))
        .map_err(|error| NetError::Transport(error.to_string()))?
        .with_behaviour(|_| behaviour)
        .map_err(|error| NetError::Transport(error.to_string()))?
        .with_swarm_config(|_| {
            let executor = move |task| drop(tasks.spawn(task));
            swarm::Config::with_executor(executor)
                .with_idle_connection_timeout(idle)
                .with_max_negotiating_inbound_streams(NEGOTIATING)
                .with_smart_dial()
        })
        .build();
    Ok(swarm)
}
