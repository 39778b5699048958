//! The JSON of an event from outside, to `nips::memory::Message::parse`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nips::memory::Message;
use nostr::{Event, JsonUtil};

fuzz_target!(|bytes: &[u8]| {
    let Ok(event) = Event::from_json(bytes) else { return };
    match Message::parse(&event) {
        Ok(Message::Change(change)) => {
            assert!(change.bytes.len() <= nips::memory::MAX_INFLATED + 16);
            assert!(change.actor.is_of(&event.pubkey));
            let name = change.document.to_string();
            assert_eq!(name.parse::<nips::memory::DocumentId>().as_ref(), Ok(&change.document));
        }
        Ok(Message::Tombstone(tombstone)) => {
            assert!(tombstone.retired.iter().all(|document| *document.space() == tombstone.space));
        }
        Err(_) => {}
    }
});
