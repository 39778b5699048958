//! What the fuzz targets share.
//!
//! The module of sync is compiled from its files: the crate `memory` would bring LanceDB, and an instrumented build of that takes an
//! hour.

#[path = "../../memory/src/sync/mod.rs"]
pub mod sync;

/// Automerge as the truth holds it: its panics are errors.
#[path = "../../memory/src/truth/guard.rs"]
mod guard;

/// Entries and the lines of an import, from their files likewise.
#[path = "../../memory/src/entry.rs"]
pub mod entry;
#[path = "../../memory/src/transfer/line.rs"]
pub mod line;
#[path = "../../memory/src/transfer/markdown.rs"]
pub mod markdown;

/// What `line` asks of the truth: only exports do, and none is made here.
mod truth {
    pub fn entry_in(_: &nips::memory::Change, _: &nips::memory::Space) -> Option<crate::entry::Entry> {
        None
    }
}

use std::sync::Once;

use automerge::AutoCommit;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use nostr::{Event, EventId, Kind, PublicKey, Tag, TagKind, Timestamp, secp256k1};
use sha2::{Digest, Sha256};

/// Hands the plain chunk of a change to automerge as the truth does: read, applied, saved, loaded.
///
/// # Panics
/// When a document that took it does not load again.
pub fn give_to_automerge(bytes: Vec<u8>) {
    // libFuzzer aborts at every panic, also at one that is caught.
    static QUIET: Once = Once::new();
    QUIET.call_once(|| std::panic::set_hook(Box::new(|_| {})));
    let Ok(change) = guard::opened(bytes) else { return };
    if !guard::is_canonical(&change) || guard::decoded(&change).is_err() {
        return;
    }
    let mut document = AutoCommit::new();
    if guard::apply_next(&mut document, change).is_ok() {
        let saved = document.save();
        assert!(AutoCommit::load(&saved).is_ok(), "what was saved must load");
        assert_eq!(document.get_changes(&[]).len(), 1);
    }
}

/// The writer of every event that is made here.
pub const WRITER: &str = "79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";

/// The key of [`WRITER`].
pub fn writer() -> PublicKey {
    PublicKey::from_hex(WRITER).expect("it is a key")
}

/// An event of a change whose content is these bytes. Unsigned: the parser does not look.
pub fn event_of(frame: &[u8], hash: &[u8; 32]) -> Event {
    let tag = |name: &str, value: String| Tag::custom(TagKind::custom(name), [value]);
    let tags = [
        Tag::identifier("fleet/page/0/list"),
        tag("actor", format!("{WRITER}{}", "00".repeat(16))),
        tag("seq", "1".to_owned()),
        tag("x", hex::encode(hash)),
    ];
    let signature = secp256k1::schnorr::Signature::from_slice(&[1; 64]).expect("64 bytes are a signature");
    let id = EventId::from_byte_array(Sha256::digest(frame).into());
    let kind = Kind::from_u16(nips::memory::KIND_MEMORY);
    Event::new(id, writer(), Timestamp::from(1), kind, tags, STANDARD.encode(frame), signature)
}

/// The frame of a change around data, with a right checksum, and its hash.
pub fn frame_of(data: &[u8]) -> (Vec<u8>, [u8; 32]) {
    let mut body = vec![1];
    let mut length = data.len();
    while length > 0x7f {
        body.push(u8::try_from(length & 0x7f).unwrap_or(0) | 0x80);
        length >>= 7;
    }
    body.push(u8::try_from(length).unwrap_or(0));
    body.extend_from_slice(data);
    let hash: [u8; 32] = Sha256::digest(&body).into();
    let mut frame = vec![0x85, 0x6f, 0x4a, 0x83];
    frame.extend_from_slice(&hash[..4]);
    frame.extend_from_slice(&body);
    (frame, hash)
}
