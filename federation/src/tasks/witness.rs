//! What this node has seen of auctions, its own and others': enough to recompute them (`timmy auction verify ID`).

use nips::task::{Attempt, Envelope, MAX_BIDDERS, Message, TaskId};
use nostr::{Event, EventId, PublicKey};

use super::Shelf;

/// Auctions kept for one requester.
const MAX_PER_REQUESTER: usize = 64;
/// Auctions kept in all. One with five bidders takes about 15 KB.
const MAX_AUCTIONS: usize = 128;
/// Events kept of one: call, set, award and two a bidder, and as many again, so that a second set is seen.
const MAX_EVENTS: usize = 6 + 4 * MAX_BIDDERS;

#[derive(Debug)]
struct Seen {
    attempt: Attempt,
    call: EventId,
    events: Vec<Envelope>,
}

/// The newest epoch of each task that was called lately.
#[derive(Debug)]
pub(crate) struct Witness(Shelf<Seen>);

impl Witness {
    pub(crate) fn new() -> Self {
        Self(Shelf::new(MAX_PER_REQUESTER, MAX_AUCTIONS))
    }

    /// Keeps what belongs to an auction.
    pub(crate) fn see(&mut self, envelope: &Envelope) {
        let (attempt, author) = (envelope.message().attempt(), envelope.author());
        match envelope.message() {
            Message::Call(_) => self.call(envelope, attempt, author),
            Message::Set(_) | Message::Award(_) => {
                if let Some(seen) = self.0.get_mut(attempt.task, author) {
                    seen.add(envelope, attempt);
                }
            }
            Message::Commitment(commitment) => {
                for seen in self.0.of_task(attempt.task).filter(|seen| seen.call == commitment.call) {
                    seen.add(envelope, attempt);
                }
            }
            Message::Reveal(reveal) => {
                let of = |seen: &&mut Seen| seen.events.iter().any(|event| event.id() == reveal.set);
                for seen in self.0.of_task(attempt.task).filter(of) {
                    seen.add(envelope, attempt);
                }
            }
            Message::Refusal(_) | Message::Lease(_) | Message::Input(_) | Message::Result(_) => {}
        }
    }

    fn call(&mut self, envelope: &Envelope, attempt: Attempt, author: PublicKey) {
        if self.0.get(attempt.task, author).is_none_or(|seen| seen.attempt.epoch < attempt.epoch) {
            let seen = Seen { attempt, call: envelope.id(), events: vec![envelope.clone()] };
            self.0.insert(attempt.task, author, seen);
        }
    }

    /// The newest epoch's events of a task; of several requesters that use one id, the one with the most.
    pub(crate) fn transcript(&mut self, task: TaskId) -> Vec<Event> {
        let best = self.0.of_task(task).max_by_key(|seen| seen.events.len());
        best.map(|seen| seen.events.iter().map(|envelope| envelope.event().clone()).collect()).unwrap_or_default()
    }
}

impl Seen {
    fn add(&mut self, envelope: &Envelope, attempt: Attempt) {
        let known = self.events.iter().any(|event| event.id() == envelope.id());
        let same = |event: &&Envelope| {
            event.author() == envelope.author() && event.message().kind() == envelope.message().kind()
        };
        // Two of a kind show that somebody broke the rules; more would only push others out.
        let crowded = self.events.iter().filter(same).count() > 1 || self.events.len() >= MAX_EVENTS;
        if attempt == self.attempt && !known && !crowded {
            self.events.push(envelope.clone());
        }
    }
}
