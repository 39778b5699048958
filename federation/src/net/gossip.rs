//! How gossipsub is set up. It runs on members' connections only (`members`).

use std::time::Duration;

use libp2p::gossipsub::{
    Behaviour, Config, ConfigBuilder, IdentTopic, Message, MessageAuthenticity, MessageId, PeerScoreParams,
    PeerScoreThresholds, TopicScoreParams, ValidationMode,
};
use libp2p::identity::Keypair;
use sha2::{Digest, Sha256};

use super::handle::NetError;

/// The longest gossip message with its wrapping, in bytes.
pub(crate) const MAX_TRANSMIT: usize = 64 * 1024;
/// What remains for data: source, sequence number, topic, signature and key take less than 1 KiB.
pub(crate) const MAX_DATA: usize = MAX_TRANSMIT - 1024;
/// Messages that wait for one peer. At 200 a second this is five seconds of a peer that does not read;
/// at the largest size it is 64 MiB.
const PEER_QUEUE: usize = 1_000;
/// A message that a peer has not taken after this long is dropped for it; it asks again on hearing of the id.
const PEER_PATIENCE: Duration = Duration::from_secs(5);

/// Members in the mesh of a topic. Each copy of a message is verified before it is known for a copy: four instead of
/// gossipsub's six saves a third of the work, and still three more than are needed. What a mesh misses is told by id.
const MESH: usize = 4;

/// The id of a message: SHA-256 of its data. (An event's own id does not cover its signature, so a badly
/// signed copy with the same id could suppress the real one.)
pub(crate) fn message_id(message: &Message) -> MessageId {
    MessageId::new(&Sha256::digest(&message.data))
}

fn config() -> Result<Config, NetError> {
    ConfigBuilder::default()
        .validation_mode(ValidationMode::Strict)
        .validate_messages()
        .message_id_fn(message_id)
        .max_transmit_size(MAX_TRANSMIT)
        .mesh_n(MESH)
        .mesh_n_low(MESH - 1)
        .mesh_n_high(2 * MESH)
        .mesh_outbound_min(1)
        .heartbeat_initial_delay(Duration::from_millis(500))
        .connection_handler_queue_len(PEER_QUEUE)
        .publish_queue_duration(PEER_PATIENCE)
        .forward_queue_duration(PEER_PATIENCE)
        // A member that went and came back within seconds must be let into the mesh again.
        .prune_backoff(Duration::from_secs(10))
        .unsubscribe_backoff(Duration::from_secs(2))
        .build()
        .map_err(|error| NetError::Gossip(error.to_string()))
}

/// Scores that count only what a member does wrong: no penalty for a quiet topic (P3), none for several
/// members behind one address (loopback, a NAT), none for being slow.
fn score() -> PeerScoreParams {
    PeerScoreParams {
        ip_colocation_factor_weight: 0.0,
        slow_peer_weight: 0.0,
        // Promises (IHAVE) broken by a member that was overloaded for a moment are forgiven.
        behaviour_penalty_threshold: 10.0,
        ..PeerScoreParams::default()
    }
}

fn topic_score() -> TopicScoreParams {
    TopicScoreParams {
        mesh_message_deliveries_weight: 0.0,
        mesh_failure_penalty_weight: 0.0,
        time_in_mesh_quantum: Duration::from_secs(1),
        ..TopicScoreParams::default()
    }
}

/// The gossip behaviour, subscribed to `topics`.
///
/// # Errors
/// [`NetError::Gossip`] for a setting that gossipsub refuses.
pub(crate) fn behaviour(keypair: &Keypair, topics: &[String]) -> Result<Behaviour, NetError> {
    let authenticity = MessageAuthenticity::Signed(keypair.clone());
    let mut gossip = Behaviour::new(authenticity, config()?).map_err(|e| NetError::Gossip(e.to_owned()))?;
    gossip.with_peer_score(score(), PeerScoreThresholds::default()).map_err(NetError::Gossip)?;
    for name in topics {
        let topic = IdentTopic::new(name);
        gossip.set_topic_params(topic.clone(), topic_score()).map_err(|e| NetError::Gossip(e.to_owned()))?;
        gossip.subscribe(&topic).map_err(|error| NetError::Gossip(error.to_string()))?;
    }
    Ok(gossip)
}
