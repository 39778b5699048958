//! Keys of the store's tables, and which kinds are replaced, ephemeral or wrapped (NIP-01, NIP-59).
//!
//! Every time-ordered index key ends in the same 24 bytes, the *place*: `!created_at ‖ id[..8] ‖ sequence`. Ascending keys
//! are therefore newest first, ties by lowest id, and one event has the same place in every index.

use nostr::Event;
use sha2::{Digest, Sha256};

/// The expiry of an event that does not expire.
pub(crate) const NEVER: u64 = u64::MAX;
/// The kind of a deletion request (NIP-09).
pub(crate) const DELETION: u16 = 5;
/// The kind of a request to vanish (NIP-62).
pub(crate) const VANISH: u16 = 62;

/// Where an event stands in a time-ordered index.
pub(crate) type Place = [u8; 24];

/// Makes an event's place.
pub(crate) fn place(created_at: u64, id: &[u8], sequence: u64) -> Place {
    let mut out = [0; 24];
    out[..8].copy_from_slice(&(!created_at).to_be_bytes());
    out[8..16].copy_from_slice(&id[..8]);
    out[16..].copy_from_slice(&sequence.to_be_bytes());
    out
}

/// Reads the sequence number out of a place.
pub(crate) fn sequence_of(place: &Place) -> u64 {
    let mut out = [0; 8];
    out.copy_from_slice(&place[16..]);
    u64::from_be_bytes(out)
}

/// Joins a prefix and a place to an index key.
pub(crate) fn key(prefix: &[u8], place: &[u8]) -> Vec<u8> {
    [prefix, place].concat()
}

/// The prefix of an author's entries (half of the key: the record is checked anyway).
pub(crate) fn author_prefix(author: &[u8]) -> Vec<u8> {
    author[..16].to_vec()
}

/// The prefix of an author's entries of one kind.
pub(crate) fn author_kind_prefix(author: &[u8], kind: u16) -> Vec<u8> {
    [&author[..16], &kind.to_be_bytes()].concat()
}

/// The prefix of a kind's entries.
pub(crate) fn kind_prefix(kind: u16) -> Vec<u8> {
    kind.to_be_bytes().to_vec()
}

/// The prefix of the entries that carry a tag.
pub(crate) fn tag_prefix(letter: u8, value: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(17 + 24);
    out.push(letter);
    out.extend(&Sha256::digest(value.as_bytes())[..16]);
    out
}

/// The key of a replaceable or addressable event's coordinate (NIP-01).
pub(crate) fn coordinate_key(kind: u16, author: &[u8], identifier: &str) -> [u8; 32] {
    let digest = Sha256::new()
        .chain_update(kind.to_be_bytes())
        .chain_update(author)
        .chain_update(identifier.as_bytes())
        .finalize();
    digest.into()
}

/// The coordinate key of an event, when its kind is replaceable or addressable.
pub(crate) fn coordinate_of(event: &Event) -> Option<[u8; 32]> {
    let kind = event.kind.as_u16();
    if is_replaceable(kind) {
        return Some(coordinate_key(kind, event.pubkey.as_bytes(), ""));
    }
    let identifier = || {
        let tag = event.tags.iter().map(nostr::Tag::as_slice).find(|tag| tag[0] == "d");
        tag.and_then(|tag| tag.get(1)).map_or("", String::as_str)
    };
    is_addressable(kind).then(|| coordinate_key(kind, event.pubkey.as_bytes(), identifier()))
}

/// Says whether only the newest event of an author is kept.
pub(crate) fn is_replaceable(kind: u16) -> bool {
    matches!(kind, 0 | 3 | 10_000..20_000)
}

/// Says whether only the newest event of an author and a `d` tag is kept.
pub(crate) fn is_addressable(kind: u16) -> bool {
    (30_000..40_000).contains(&kind)
}

/// Says whether events are passed on and not kept.
pub(crate) fn is_ephemeral(kind: u16) -> bool {
    (20_000..30_000).contains(&kind)
}

/// Says whether this is a gift wrap, for the eyes of its `p` only (NIP-17, NIP-59).
pub(crate) fn is_wrap(kind: u16) -> bool {
    matches!(kind, 1059 | 21_059)
}
