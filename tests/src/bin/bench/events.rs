//! Events signed before any clock runs.

use nostr::{Event, EventBuilder, JsonUtil, Keys, Kind, Tag, Timestamp};

use crate::wire::frame;

/// Authors of the notes.
pub const AUTHORS: usize = 100;
/// Notes with the same `e` tag.
pub const REPLIES: usize = 20;
/// The notes' times lie this far apart, seconds.
pub const SPACING_S: u64 = 2;

/// Notes of many authors, oldest first.
pub struct Notes {
    pub authors: Vec<Keys>,
    pub events: Vec<Event>,
    /// `["EVENT",…]`, ready to be written.
    pub frames: Vec<Vec<u8>>,
    /// Mean bytes of an event's JSON.
    pub mean_bytes: usize,
    /// Time of the first, Unix seconds.
    pub first_s: u64,
}

/// The id that note `index` answers.
pub fn root(index: usize) -> String {
    format!("{:064x}", 0xfeed_0000 + index / REPLIES)
}

impl Notes {
    /// Signs `count` notes on two threads.
    pub fn sign(count: usize) -> Self {
        let authors: Vec<Keys> = (0..AUTHORS).map(|_| Keys::generate()).collect();
        let first_s = Timestamp::now().as_secs() - count as u64 * SPACING_S;
        let events = on_two_threads(count, |i| note(&authors[i * 31 % AUTHORS], i, first_s + i as u64 * SPACING_S));
        let json: Vec<String> = events.iter().map(JsonUtil::as_json).collect();
        let mean_bytes = json.iter().map(String::len).sum::<usize>() / count.max(1);
        let frames = json.iter().map(|event| frame(&format!("[\"EVENT\",{event}]"))).collect();
        Self { authors, events, frames, mean_bytes, first_s }
    }
}

fn note(keys: &Keys, index: usize, at_s: u64) -> Event {
    let text = format!("note {index} of the benchmark, as long as people write");
    let mut builder = EventBuilder::text_note(text).custom_created_at(Timestamp::from_secs(at_s));
    if index.is_multiple_of(4) {
        builder = builder.tag(Tag::parse(["e", &root(index / 4)]).unwrap());
    }
    builder.sign_with_keys(keys).unwrap()
}

/// Plain jobs (kind 5000, a text) for `node`, signed now.
pub fn jobs(keys: &Keys, node: &str, count: usize) -> Vec<(String, Vec<u8>)> {
    let sign = |i: usize| {
        let text = format!("job {i} of {}", keys.public_key().to_hex());
        let tags = [vec!["i", &text, "text"], vec!["p", node]];
        let tags = tags.iter().map(|tag| Tag::parse(tag.iter().copied()).unwrap());
        let event = EventBuilder::new(Kind::from_u16(5000), "").tags(tags).sign_with_keys(keys).unwrap();
        (event.id.to_hex(), frame(&format!("[\"EVENT\",{}]", event.as_json())))
    };
    on_two_threads(count, sign)
}

/// Events verified a second by two threads that do nothing else.
pub fn verified_per_s(events: &[Event]) -> f64 {
    let started = std::time::Instant::now();
    let good = on_two_threads(events.len(), |i| events[i].verify().is_ok());
    let seconds = started.elapsed().as_secs_f64();
    assert!(good.iter().all(|good| *good));
    events.len() as f64 / seconds
}

/// Makes `count` things on two threads, in their order.
pub fn on_two_threads<T: Send>(count: usize, make: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let make = &make;
    std::thread::scope(|scope| {
        let second = scope.spawn(move || (count / 2..count).map(make).collect::<Vec<T>>());
        let mut all: Vec<T> = (0..count / 2).map(make).collect();
        all.extend(second.join().unwrap());
        all
    })
}
