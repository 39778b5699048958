//! What members tell each other about the memory they share (kinds 9774 and 9775), signed by install keys, for one member alone: how much of it
//! is there, and, where only relays reach, the bytes of a sync.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use nostr::{Event, EventBuilder, Kind};
use serde::{Deserialize, Serialize};

use super::{EnvelopeError, MAX_CONTENT};

/// Kind of a memory digest.
pub const KIND_DIGEST: u16 = 9774;
/// Kind of a piece of a sync.
pub const KIND_PIECE: u16 = 9775;
/// The most spaces in a digest.
const MAX_SPACES: usize = 64;
/// The most shards of one space that are counted one by one.
pub const MAX_SHARDS: usize = 128;
/// The longest name of a space or a shard, bytes.
const MAX_NAME: usize = 200;
/// The most bytes in one piece: sealed and in base64 a letter of it stays within one event.
pub const MAX_PIECE: usize = 16 * 1024;

/// How much of one space is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpaceDigest {
    /// Changes and tombstones.
    pub changes: u64,
    /// SHA-256 of their ids in ascending order, hex.
    pub digest: String,
    /// Changes of each shard and page by name; nothing when there are more than [`MAX_SHARDS`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub shards: BTreeMap<String, u64>,
}

/// How much of what two members share is with the one that signs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryDigest {
    /// By the space's name.
    pub spaces: BTreeMap<String, SpaceDigest>,
}

impl MemoryDigest {
    /// The event, for the install key to sign. Of spaces it takes the first 64.
    pub fn to_event(&self) -> EventBuilder {
        let spaces = self.spaces.iter().take(MAX_SPACES);
        let mut kept = Self { spaces: spaces.map(|(name, of)| (name.clone(), of.clone())).collect() };
        for of in kept.spaces.values_mut().filter(|of| of.shards.len() > MAX_SHARDS) {
            of.shards.clear();
        }
        let mut content = serde_json::to_string(&kept).unwrap_or_default();
        if content.len() > MAX_CONTENT {
            kept.spaces.values_mut().for_each(|of| of.shards.clear());
            content = serde_json::to_string(&kept).unwrap_or_default();
        }
        EventBuilder::new(Kind::from_u16(KIND_DIGEST), content)
    }

    /// Reads an event whose signature was checked.
    ///
    /// # Errors
    /// When it is of another kind, malformed or too long.
    pub fn read(event: &Event) -> Result<Self, EnvelopeError> {
        let read: Self = content(event, KIND_DIGEST, "memory digest")?;
        if read.spaces.len() > MAX_SPACES || read.spaces.values().any(|of| of.shards.len() > MAX_SHARDS) {
            return Err(EnvelopeError::TooMany("spaces"));
        }
        let names = read.spaces.iter().flat_map(|(name, of)| std::iter::once(name).chain(of.shards.keys()));
        let mut digests = read.spaces.values().map(|of| &of.digest);
        if names.into_iter().any(|name| name.len() > MAX_NAME) || digests.any(|digest| digest.len() != 64) {
            return Err(EnvelopeError::Malformed("memory digest"));
        }
        Ok(read)
    }
}

/// Some bytes of a stream that travels in letters. Each side numbers its own from 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Which stream: a random number of the side that opened it.
    pub stream: u64,
    /// Which piece of this side.
    pub number: u32,
    /// The bytes; none at the end.
    pub bytes: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
struct PieceContent {
    stream: String,
    number: u32,
    bytes: String,
}

impl Piece {
    /// The event, for the install key to sign.
    pub fn to_event(&self) -> EventBuilder {
        let content = PieceContent {
            stream: format!("{:016x}", self.stream),
            number: self.number,
            bytes: STANDARD.encode(&self.bytes),
        };
        EventBuilder::new(Kind::from_u16(KIND_PIECE), serde_json::to_string(&content).unwrap_or_default())
    }

    /// Reads an event whose signature was checked.
    ///
    /// # Errors
    /// When it is of another kind, malformed or too long.
    pub fn read(event: &Event) -> Result<Self, EnvelopeError> {
        let read: PieceContent = content(event, KIND_PIECE, "piece")?;
        let bytes = STANDARD.decode(read.bytes).map_err(|_| EnvelopeError::Malformed("piece"))?;
        let stream = u64::from_str_radix(&read.stream, 16).map_err(|_| EnvelopeError::Malformed("piece"))?;
        if bytes.len() > MAX_PIECE {
            return Err(EnvelopeError::TooLarge(bytes.len()));
        }
        Ok(Self { stream, number: read.number, bytes })
    }
}

fn content<T: serde::de::DeserializeOwned>(event: &Event, kind: u16, what: &'static str) -> Result<T, EnvelopeError> {
    if event.kind.as_u16() != kind {
        return Err(EnvelopeError::Kind(event.kind.as_u16()));
    }
    if event.content.len() > MAX_CONTENT {
        return Err(EnvelopeError::TooLarge(event.content.len()));
    }
    serde_json::from_str(&event.content).map_err(|_| EnvelopeError::Malformed(what))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use nostr::Keys;

    use super::*;

    fn signed(builder: EventBuilder) -> Event {
        builder.sign_with_keys(&Keys::generate()).unwrap()
    }

    #[test]
    fn both_are_written_and_read() {
        let space = SpaceDigest { changes: 3, digest: "ab".repeat(32), shards: [("s".to_owned(), 3)].into() };
        let digest = MemoryDigest { spaces: [("fleet".to_owned(), space)].into() };
        assert_eq!(MemoryDigest::read(&signed(digest.to_event())).unwrap(), digest);
        let piece = Piece { stream: u64::MAX, number: 7, bytes: vec![0, 255, 3] };
        assert_eq!(Piece::read(&signed(piece.to_event())).unwrap(), piece);
        assert!(MemoryDigest::read(&signed(piece.to_event())).is_err());
    }

    #[test]
    fn what_is_too_much_is_left_out_or_refused() {
        let shards = (0..=MAX_SHARDS).map(|n| (format!("shard {n}"), 1)).collect();
        let space = SpaceDigest { changes: 129, digest: "ab".repeat(32), shards };
        let digest = MemoryDigest { spaces: [("fleet".to_owned(), space)].into() };
        let read = MemoryDigest::read(&signed(digest.to_event())).unwrap();
        assert!(read.spaces["fleet"].shards.is_empty() && read.spaces["fleet"].changes == 129);
        let large = Piece { stream: 1, number: 0, bytes: vec![0; MAX_PIECE + 1] };
        assert_eq!(Piece::read(&signed(large.to_event())), Err(EnvelopeError::TooLarge(MAX_PIECE + 1)));
        for bad in ["{}", "[]", r#"{"stream":"x","number":1,"bytes":""}"#, r#"{"stream":"1","number":-1,"bytes":""}"#] {
            assert!(Piece::read(&signed(EventBuilder::new(Kind::from_u16(KIND_PIECE), bad))).is_err(), "{bad}");
        }
    }
}
