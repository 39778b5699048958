//! Signatures of events from outside, checked on all cores before the one writer sees them.

use nips::memory::{Message, verified};
use nostr::Event;

/// Fewer events than this are checked where they are.
const WORTH_A_THREAD: usize = 64;

/// Each event with what it says; none where the signature or the form is wrong.
pub(crate) fn checked(events: Vec<Event>) -> Vec<(Event, Option<Message>)> {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let one = |event: Event| {
        let message = verified(&event).ok();
        (event, message)
    };
    if events.len() < WORTH_A_THREAD || threads == 1 {
        return events.into_iter().map(one).collect();
    }
    let share = events.len().div_ceil(threads);
    let mut parts: Vec<Vec<Event>> = Vec::new();
    let mut rest = events.into_iter();
    loop {
        let part: Vec<Event> = rest.by_ref().take(share).collect();
        if part.is_empty() {
            break;
        }
        parts.push(part);
    }
    std::thread::scope(|scope| {
        let running: Vec<_> =
            parts.into_iter().map(|part| scope.spawn(move || part.into_iter().map(one).collect::<Vec<_>>())).collect();
        // A thread that panics drops its part: those events are asked for again.
        running.into_iter().flat_map(|thread| thread.join().unwrap_or_default()).collect()
    })
}
