//! The frame around a change, plain or compressed: what is opened is small and opens again to itself.
#![no_main]

use fuzz::event_of;
use libfuzzer_sys::fuzz_target;
use nips::memory::{MAX_INFLATED, Message};

fuzz_target!(|bytes: &[u8]| {
    // The hash that the tag must name is in the first bytes, so that the target can get past it.
    let Some((hash, frame)) = bytes.split_first_chunk::<32>() else { return };
    let Ok(Message::Change(change)) = Message::parse(&event_of(frame, hash)) else { return };
    assert!(change.bytes.len() <= MAX_INFLATED + 16);
    let Ok(Message::Change(again)) = Message::parse(&event_of(&change.bytes, &change.hash)) else {
        panic!("a plain frame must open");
    };
    assert_eq!(again.bytes, change.bytes);
});
