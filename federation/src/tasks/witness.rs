//! What this node has seen of auctions, its own and others': enough to recompute them (`timmy auction verify ID`).

use nips::task::{Envelope, Epoch, Message, TaskId};
use nostr::{Event, PublicKey};

use super::Shelf;

/// Tasks kept for one author of messages.
const MAX_PER_AUTHOR: usize = 128;
/// Authors' shares kept in all: an auction with five bidders has six, 15 KB together.
const MAX_SHARES: usize = 1_024;
/// Events kept of one kind, author and epoch. Two show that somebody broke the rules; more would say nothing new.
const MAX_OF_A_KIND: usize = 2;

/// What one author said about a task in its newest epoch.
#[derive(Debug)]
struct Share {
    author: PublicKey,
    epoch: Epoch,
    events: Vec<Envelope>,
}

/// The newest epoch of each task that was called lately. Messages come in any order: what belongs together is found when it is asked
/// for.
#[derive(Debug)]
pub(crate) struct Witness(Shelf<Share>);

impl Witness {
    pub(crate) fn new() -> Self {
        Self(Shelf::new(MAX_PER_AUTHOR, MAX_SHARES))
    }

    /// Keeps what belongs to an auction.
    pub(crate) fn see(&mut self, envelope: &Envelope) {
        match envelope.message() {
            Message::Call(_) | Message::Commitment(_) | Message::Set(_) | Message::Reveal(_) | Message::Award(_) => {}
            Message::Refusal(_) | Message::Lease(_) | Message::Input(_) | Message::Result(_) => return,
        }
        let (attempt, author) = (envelope.message().attempt(), envelope.author());
        match self.0.get_mut(attempt.task, author) {
            Some(share) if share.epoch > attempt.epoch => {}
            Some(share) if share.epoch == attempt.epoch => share.add(envelope),
            _ => {
                let share = Share { author, epoch: attempt.epoch, events: vec![envelope.clone()] };
                self.0.insert(attempt.task, author, share);
            }
        }
    }

    /// The events of a task's newest epoch. Should several members have used one id, of that auction of which most was seen.
    pub(crate) fn transcript(&mut self, task: TaskId) -> Vec<Event> {
        let shares: Vec<&Share> = self.0.of_task(task).map(|share| &*share).collect();
        let calls = shares.iter().flat_map(|share| &share.events).filter(|e| matches!(e.message(), Message::Call(_)));
        let best = calls.map(|call| belonging(&shares, call)).max_by_key(Vec::len);
        best.unwrap_or_default().into_iter().map(|envelope| envelope.event().clone()).collect()
    }
}

/// Everything of the auction that this call began.
fn belonging<'a>(shares: &[&'a Share], call: &Envelope) -> Vec<&'a Envelope> {
    let of_epoch = || shares.iter().filter(|share| share.epoch == call.message().attempt().epoch);
    let is_set = |id| {
        let own = of_epoch().filter(|share| share.author == call.author());
        own.flat_map(|share| &share.events).any(|e| e.id() == id && matches!(e.message(), Message::Set(_)))
    };
    let fits = |event: &&Envelope| match event.message() {
        Message::Call(_) | Message::Set(_) | Message::Award(_) => event.author() == call.author(),
        Message::Commitment(commitment) => commitment.call == call.id(),
        Message::Reveal(reveal) => is_set(reveal.set),
        Message::Refusal(_) | Message::Lease(_) | Message::Input(_) | Message::Result(_) => false,
    };
    of_epoch().flat_map(|share| &share.events).filter(fits).collect()
}

impl Share {
    fn add(&mut self, envelope: &Envelope) {
        let same_kind = self.events.iter().filter(|event| event.message().kind() == envelope.message().kind());
        let known = self.events.iter().any(|event| event.id() == envelope.id());
        if !known && same_kind.count() < MAX_OF_A_KIND {
            self.events.push(envelope.clone());
        }
    }
}
