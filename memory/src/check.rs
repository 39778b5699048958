//! Events from outside, checked on all cores before the one writer sees them.

use nostr::Event;

use crate::truth::Vetted;

/// Fewer events than this are checked where they are.
const WORTH_A_THREAD: usize = 64;

/// Each event with all that can be known of it without the store.
pub(crate) fn vetted(events: Vec<Event>) -> Vec<Vetted> {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    if events.len() < WORTH_A_THREAD || threads == 1 {
        return events.into_iter().map(Vetted::new).collect();
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
        let running: Vec<_> = parts
            .into_iter()
            .map(|part| scope.spawn(move || part.into_iter().map(Vetted::new).collect::<Vec<_>>()))
            .collect();
        // A thread that panics drops its part: those events are asked for again.
        running.into_iter().flat_map(|thread| thread.join().unwrap_or_default()).collect()
    })
}
