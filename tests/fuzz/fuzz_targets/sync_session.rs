//! A peer that says anything: to a session as answers, to a responder as requests.
#![no_main]

use fuzz::sync::{
    Batch, Effect, Input, Limits, Message, Outcome, Patience, Refusals, Replica, ReplicaError, Reply, ReplyBody, Request,
    RequestBody, Session, SessionId, Snapshot, respond,
};
use fuzz::writer;
use libfuzzer_sys::fuzz_target;
use nips::memory::Space;
use nostr::{Event, EventId, PublicKey};

/// Has a hundred ids, gives nothing, takes nothing.
struct Names;

fn ids() -> impl Iterator<Item = (u64, EventId)> {
    (0..100_u8).map(|n| (u64::from(n), EventId::from_byte_array([n; 32])))
}

impl Replica for Names {
    fn may_sync(&self, _peer: &PublicKey, _space: &Space) -> Result<bool, ReplicaError> {
        Ok(true)
    }

    fn snapshot(&self, _space: &Space) -> Result<Snapshot, ReplicaError> {
        Snapshot::new(ids())
    }

    fn events(&self, _space: &Space, ids: &[EventId], max_bytes: usize) -> Result<Batch, ReplicaError> {
        Batch::fill(ids, std::iter::empty::<Result<Event, ReplicaError>>(), max_bytes)
    }

    fn take(&self, _from: &PublicKey, _space: &Space, events: Vec<Event>) -> Result<Vec<Outcome>, ReplicaError> {
        Ok(vec![Outcome::Known; events.len()])
    }
}

/// What the peer says: length, then a message of negentropy, or a whole message if the length is 255.
fn parts(mut bytes: &[u8]) -> Vec<(bool, &[u8])> {
    let mut parts = Vec::new();
    while let Some((length, rest)) = bytes.split_first() {
        let is_whole = *length == 255;
        let end = if is_whole { rest.len() } else { usize::from(*length).min(rest.len()) };
        parts.push((is_whole, &rest[..end]));
        bytes = &rest[end..];
    }
    parts
}

fuzz_target!(|bytes: &[u8]| {
    let limits = Limits { rounds: 30, ids: 1_000, requests: 60 };
    let snapshot = Names.snapshot(&Space::fleet()).expect("a hundred ids");
    let bounds = (limits, Patience::default());
    let mut session = Session::new(SessionId(1), Space::fleet(), snapshot, Refusals::default(), bounds);
    let mut number = 0;
    let mut effects = session.handle(Input::Start, 0);
    for (is_whole, part) in parts(bytes) {
        number += effects.iter().filter(|effect| matches!(effect, Effect::Send(_))).count();
        assert!(number <= 60);
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        let body = ReplyBody::Reconciled(part.to_vec());
        let mut reply = Reply { session: SessionId(1), number, body };
        if is_whole && let Ok(message) = Message::parse(part) {
            match message {
                Message::Request(request) => drop(respond(request, &writer(), &Names)),
                // Addressed rightly, so that it is looked at.
                Message::Reply(other) => reply.body = other.body,
            }
        }
        let body = RequestBody::Reconcile(part.to_vec());
        let request = Request { session: SessionId(1), number: 1, space: Space::fleet(), body };
        let answer = Message::Reply(respond(request, &writer(), &Names));
        assert!(Message::parse(answer.to_json().as_bytes()).is_ok(), "our own answers are messages");
        effects = session.handle(Input::Received(reply), 0);
        effects = effects.into_iter().flat_map(|effect| work(&mut session, effect)).collect();
    }
});

/// Does what the session wants of its replica, once.
fn work(session: &mut Session, effect: Effect) -> Vec<Effect> {
    match effect {
        Effect::Take(events) => session.handle(Input::Taken(Names.take(&writer(), &Space::fleet(), events)), 0),
        Effect::Load(ids) => {
            let mut effects = session.handle(Input::Loaded(Names.events(&Space::fleet(), &ids, 1_000)), 0);
            while let Some(at) = effects.iter().position(|effect| matches!(effect, Effect::Load(_))) {
                let Effect::Load(ids) = effects.remove(at) else { unreachable!() };
                effects.extend(session.handle(Input::Loaded(Names.events(&Space::fleet(), &ids, 1_000)), 0));
            }
            effects
        }
        Effect::Send(_) | Effect::WakeAt(_) | Effect::Ended(_) => vec![effect],
    }
}
