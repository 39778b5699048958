//! The responder: answers one request from what the replica holds now, and remembers nothing.

use negentropy::Negentropy;
use nips::memory::{DocumentId, Space};
use nostr::{Event, PublicKey};

use super::message::{ErrorCode, Reply, ReplyBody, Request, RequestBody};
use super::{BATCH_BYTES, Outcome, RECONCILE_BYTES, Refusal, Replica, ReplicaError};

/// Answers a request of an authenticated peer.
pub fn respond(request: Request, peer: &PublicKey, replica: &dyn Replica) -> Reply {
    let Request { session, number, space, body } = request;
    let body = answer(&space, body, peer, replica).unwrap_or_else(|error| {
        tracing::warn!(%session, %space, error = &error as &dyn std::error::Error, "a peer's sync request failed here");
        failed(ErrorCode::Failed, "the store failed; try again later")
    });
    Reply { session, number, body }
}

fn answer(
    space: &Space,
    body: RequestBody,
    peer: &PublicKey,
    replica: &dyn Replica,
) -> Result<ReplyBody, ReplicaError> {
    if space.is_private() || !replica.may_sync(peer, space)? {
        return Ok(failed(ErrorCode::Refused, "this space is not shared with you"));
    }
    match body {
        RequestBody::Reconcile(message) => reconcile(space, &message, replica),
        RequestBody::Get(ids) => {
            let batch = replica.events(space, &ids, BATCH_BYTES)?;
            Ok(ReplyBody::Given { events: batch.events, gone: batch.gone })
        }
        RequestBody::Put(events) => put(space, events, peer, replica),
    }
}

fn reconcile(space: &Space, message: &[u8], replica: &dyn Replica) -> Result<ReplyBody, ReplicaError> {
    let snapshot = replica.snapshot(space)?;
    let mut machine = Negentropy::owned(snapshot, RECONCILE_BYTES).map_err(ReplicaError::Reconcile)?;
    match machine.reconcile(message) {
        // An answer of one byte is negentropy's word for "I speak another version".
        Ok(reply) if reply.len() == 1 && message.len() > 1 && message.first() != reply.first() => {
            Ok(failed(ErrorCode::Version, "another version of negentropy"))
        }
        Ok(reply) => Ok(ReplyBody::Reconciled(reply)),
        Err(error) => Ok(failed(ErrorCode::Malformed, &error.to_string())),
    }
}

fn put(space: &Space, events: Vec<Event>, peer: &PublicKey, replica: &dyn Replica) -> Result<ReplyBody, ReplicaError> {
    let (events, foreign): (Vec<_>, Vec<_>) = events.into_iter().partition(|event| is_of(event, space));
    let mut refused: Vec<_> = foreign.iter().map(|event| (event.id, Refusal::Invalid)).collect();
    let ids: Vec<_> = events.iter().map(|event| event.id).collect();
    let (mut new, mut known) = (0, 0);
    for (id, outcome) in ids.into_iter().zip(replica.take(peer, space, events)?) {
        match outcome {
            Outcome::New => new += 1,
            Outcome::Known => known += 1,
            Outcome::Refused(why) => refused.push((id, why)),
        }
    }
    Ok(ReplyBody::Stored { new, known, refused })
}

/// True when the event says that it belongs to the space; the replica checks the rest.
pub(super) fn is_of(event: &Event, space: &Space) -> bool {
    let document = event.tags.identifier().and_then(|d| d.parse::<DocumentId>().ok());
    document.is_some_and(|document| document.space() == space)
}

fn failed(code: ErrorCode, text: &str) -> ReplyBody {
    ReplyBody::Failed { code, text: text.to_owned() }
}
