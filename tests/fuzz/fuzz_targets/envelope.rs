//! What sister nodes send each other, to every parser of it: membership, presence, digests, pieces, cards, tasks, labels, and the
//! invitation code that a person types.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nips::federation::{Code, MemoryDigest, Piece, Presence};
use nips::task::{Label, Message};
use nips::{PeerCard, federation};
use nostr::{Event, JsonUtil};

const NOW: u64 = 1_700_000_000;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = Code::read(text, NOW);
    }
    let Ok(event) = Event::from_json(bytes) else { return };
    let _ = federation::parse(&event);
    let _ = Presence::read(&event, NOW);
    let _ = MemoryDigest::read(&event);
    let _ = Piece::read(&event);
    let _ = PeerCard::read(&event, NOW);
    let _ = Label::parse(&event);
    if let Ok(message) = Message::parse(&event) {
        assert_eq!(message.kind(), event.kind.as_u16());
    }
});
