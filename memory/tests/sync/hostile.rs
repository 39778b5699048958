//! A peer that lies in every way it can think of.

use std::sync::Arc;

use memory::sync::{ErrorCode, Message, Refusal, Reply, ReplyBody, Request, RequestBody, SessionId};
use nips::memory::Space;
use nostr::{Event, EventId};
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use crate::double::{Author, START_S, fleet};

/// A hostile replica. What it brings is forged, of another space or not asked for; what it signs itself is nothing that would be
/// taken, so that the honest ones must end with their own events alone.
pub struct Liar {
    garden: Vec<Event>,
    forged: Vec<Event>,
    ids: Vec<EventId>,
}

impl Liar {
    pub fn new(name: u64) -> Self {
        let mut garden = Author::of_shard(name, "garden".parse().unwrap());
        let mut own = Author::of_shard(name, fleet());
        let mut forge = |n: u64| {
            let mut event = own.write("text", &format!("forged {n}"), START_S + n);
            match n % 3 {
                0 => event.content.push('A'),
                1 => event.created_at = nostr::Timestamp::from(START_S + 1_000),
                _ => event.id = EventId::from_byte_array([u8::try_from(n).unwrap(); 32]),
            }
            event
        };
        let forged: Vec<Event> = (0..12).map(&mut forge).collect();
        let garden: Vec<Event> = (0..4).map(|n| garden.write("text", &format!("beans {n}"), START_S + n)).collect();
        Self { garden, forged, ids: Vec::new() }
    }

    /// What it says to a request: anything.
    pub fn answer(&mut self, request: &Request, rng: &mut StdRng) -> Option<Arc<str>> {
        if let RequestBody::Put(events) = &request.body {
            self.ids.extend(events.iter().map(|event| event.id));
        }
        let body = match rng.random_range(0..14) {
            0 => return None,
            1 => return Some("[\"DIFF\",".into()),
            2 => return Some(" ".repeat(memory::sync::MAX_FRAME + 1).into()),
            3 => ReplyBody::Failed { code: ErrorCode::Failed, text: "no".repeat(10_000) },
            4 => ReplyBody::Reconciled((0..rng.random_range(0..300)).map(|_| rng.random()).collect()),
            // "We differ" and "I have these", over and over.
            5 => ReplyBody::Reconciled([&[0x61, 0, 0, 1], &[rng.random(); 16][..]].concat()),
            6..9 => ReplyBody::Reconciled(self.names(rng)),
            9 => ReplyBody::Given { events: self.bring(rng), gone: vec![] },
            10 => ReplyBody::Given { events: self.bring_under_asked_ids(request, rng), gone: self.some_ids(rng) },
            11 => ReplyBody::Stored { new: rng.random(), known: rng.random(), refused: vec![] },
            _ => self.fitting(request, rng),
        };
        let session = if rng.random_bool(0.1) { SessionId(rng.random()) } else { request.session };
        let number = if rng.random_bool(0.1) { rng.random() } else { request.number };
        Some(Message::Reply(Reply { session, number, body }).to_json().into())
    }

    /// An answer of the right kind, so that the session goes on.
    fn fitting(&mut self, request: &Request, rng: &mut StdRng) -> ReplyBody {
        match &request.body {
            RequestBody::Reconcile(_) => ReplyBody::Reconciled(self.names(rng)),
            RequestBody::Get(_) => ReplyBody::Given { events: self.bring_under_asked_ids(request, rng), gone: vec![] },
            RequestBody::Put(events) => ReplyBody::Stored {
                new: 0,
                known: 0,
                refused: events.iter().map(|event| (event.id, Refusal::Forgotten)).collect(),
            },
        }
    }

    /// What it asks for by itself.
    pub fn requests(&mut self, rng: &mut StdRng) -> Vec<Arc<str>> {
        let spaces = [fleet(), Space::private(), "garden".parse().unwrap()];
        let bodies = [
            RequestBody::Put(self.bring(rng)),
            RequestBody::Get(self.some_ids(rng)),
            RequestBody::Reconcile(self.names(rng)),
            RequestBody::Reconcile(vec![0x61, 0, 0, 2, 0]),
        ];
        let requests = bodies.map(|body| Request {
            session: SessionId(rng.random()),
            number: rng.random(),
            space: spaces.choose(rng).unwrap().clone(),
            body,
        });
        requests.into_iter().map(|request| request.to_json().into()).collect()
    }

    fn names(&self, rng: &mut StdRng) -> Vec<u8> {
        let ids = self.some_ids(rng);
        let mut message = vec![0x61, 0, 0, 2, u8::try_from(ids.len()).unwrap()];
        ids.iter().for_each(|id| message.extend(id.as_bytes()));
        message
    }

    fn some_ids(&self, rng: &mut StdRng) -> Vec<EventId> {
        let mut ids: Vec<EventId> = self.bring(rng).iter().map(|event| event.id).collect();
        ids.extend(self.ids.choose_multiple(rng, 5));
        ids.push(EventId::from_byte_array([rng.random(); 32]));
        ids
    }

    fn bring(&self, rng: &mut StdRng) -> Vec<Event> {
        let all: Vec<&Event> = self.forged.iter().chain(&self.garden).collect();
        all.choose_multiple(rng, 4).map(|event| (*event).clone()).collect()
    }

    /// Other events under the very ids that were asked for.
    fn bring_under_asked_ids(&self, request: &Request, rng: &mut StdRng) -> Vec<Event> {
        let RequestBody::Get(ids) = &request.body else { return self.bring(rng) };
        let brought = ids.iter().take(20).map(|id| {
            let mut event = self.forged.choose(rng).unwrap().clone();
            event.id = *id;
            event
        });
        brought.collect()
    }
}
