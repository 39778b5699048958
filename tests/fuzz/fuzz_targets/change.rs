//! A change that the parser let through, to automerge: read, applied to a document, saved, loaded. Panics of automerge are known and
//! held (`memory/src/truth/guard.rs`); this looks for what cannot be held: memory, time, and documents that do not load again.
#![no_main]

use fuzz::{event_of, frame_of, give_to_automerge};
use libfuzzer_sys::fuzz_target;
use nips::memory::Message;

fuzz_target!(|bytes: &[u8]| {
    // The checksum is made right here: a fuzzer would never find it.
    let (frame, hash) = frame_of(bytes);
    if let Ok(Message::Change(change)) = Message::parse(&event_of(&frame, &hash)) {
        give_to_automerge(change.bytes);
    }
});
