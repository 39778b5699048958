//! The frame around an automerge change, read without automerge: magic, checksum, type, length, data.
//!
//! Automerge inflates what it is given before it looks at a checksum, without a limit (260 KB of hostile bytes took 771 MB). So
//! frames from outside are opened here, inflated under a cap, and handed on plain.

use std::io::Read;

use flate2::read::DeflateDecoder;
use sha2::{Digest, Sha256};

/// The most bytes that a change may have once inflated.
pub const MAX_INFLATED: usize = 512 * 1024;

const MAGIC: [u8; 4] = [0x85, 0x6f, 0x4a, 0x83];
const TYPE_CHANGE: u8 = 1;
const TYPE_COMPRESSED: u8 = 2;

/// Why bytes are no change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    /// Not the frame of a change.
    #[error("not an automerge change")]
    Frame,
    /// The checksum is of other bytes.
    #[error("the checksum of the change is wrong")]
    Checksum,
    /// More bytes than a change may have.
    #[error("the change is larger than {MAX_INFLATED} bytes")]
    TooLarge,
    /// The deflate stream is broken.
    #[error("the change does not inflate")]
    Inflate,
}

/// A plain chunk and its hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plain {
    pub bytes: Vec<u8>,
    pub hash: [u8; 32],
}

/// Opens a frame; the result is plain whatever came, at most [`MAX_INFLATED`] and a header long.
pub(super) fn open(frame: &[u8]) -> Result<Plain, ChunkError> {
    let (head, rest) = frame.split_at_checked(9).ok_or(ChunkError::Frame)?;
    if head[..4] != MAGIC {
        return Err(ChunkError::Frame);
    }
    let (length, data) = read_length(rest)?;
    if data.len() != length {
        return Err(ChunkError::Frame);
    }
    let data = match head[8] {
        TYPE_CHANGE if length > MAX_INFLATED => return Err(ChunkError::TooLarge),
        TYPE_CHANGE => data.to_vec(),
        TYPE_COMPRESSED => inflate(data)?,
        _ => return Err(ChunkError::Frame),
    };
    let plain = frame_of(&data);
    // The checksum of a compressed frame is that of the plain one.
    if plain.hash[..4] != head[4..8] {
        return Err(ChunkError::Checksum);
    }
    Ok(plain)
}

fn frame_of(data: &[u8]) -> Plain {
    let mut body = vec![TYPE_CHANGE];
    write_length(&mut body, data.len());
    body.extend_from_slice(data);
    let hash: [u8; 32] = Sha256::digest(&body).into();
    let mut bytes = Vec::with_capacity(8 + body.len());
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&hash[..4]);
    bytes.extend_from_slice(&body);
    Plain { bytes, hash }
}

fn inflate(data: &[u8]) -> Result<Vec<u8>, ChunkError> {
    let mut out = Vec::new();
    let cap = u64::try_from(MAX_INFLATED).unwrap_or(u64::MAX) + 1;
    DeflateDecoder::new(data).take(cap).read_to_end(&mut out).map_err(|_| ChunkError::Inflate)?;
    if out.len() > MAX_INFLATED { Err(ChunkError::TooLarge) } else { Ok(out) }
}

/// An unsigned LEB128 number, at most 32 bits.
fn read_length(bytes: &[u8]) -> Result<(usize, &[u8]), ChunkError> {
    let mut value = 0_usize;
    for (at, byte) in bytes.iter().take(5).enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Ok((value, &bytes[at + 1..]));
        }
    }
    Err(ChunkError::Frame)
}

fn write_length(out: &mut Vec<u8>, mut value: usize) {
    loop {
        let low = u8::try_from(value & 0x7f).unwrap_or(0);
        value >>= 7;
        if value == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::DeflateEncoder;
    use proptest::prelude::*;

    use super::*;

    fn compressed(data: &[u8]) -> Vec<u8> {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(data).unwrap();
        let packed = encoder.finish().unwrap();
        let mut frame = MAGIC.to_vec();
        frame.extend_from_slice(&frame_of(data).hash[..4]);
        frame.push(TYPE_COMPRESSED);
        write_length(&mut frame, packed.len());
        frame.extend_from_slice(&packed);
        frame
    }

    #[test]
    fn a_bomb_is_refused_at_the_cap_and_never_inflated_beyond() {
        let bomb = compressed(&vec![0; 64 << 20]);
        assert!(bomb.len() < 100_000);
        assert_eq!(open(&bomb), Err(ChunkError::TooLarge));
        let just = vec![7; MAX_INFLATED];
        assert_eq!(open(&compressed(&just)).unwrap(), frame_of(&just));
    }

    #[test]
    fn a_wrong_checksum_type_or_length_is_refused() {
        let good = frame_of(b"some data").bytes;
        assert_eq!(open(&good).unwrap().bytes, good);
        for (at, error) in
            [(0, ChunkError::Frame), (5, ChunkError::Checksum), (8, ChunkError::Frame), (9, ChunkError::Frame)]
        {
            let mut bad = good.clone();
            bad[at] ^= 0x41;
            assert_eq!(open(&bad).unwrap_err(), error, "{at}");
        }
        assert!(open(&good[..good.len() - 1]).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = open(&bytes);
            let mut framed = MAGIC.to_vec();
            framed.extend_from_slice(&bytes);
            let _ = open(&framed);
        }

        #[test]
        fn what_was_compressed_comes_back(data in proptest::collection::vec(any::<u8>(), 0..2000)) {
            prop_assert_eq!(open(&compressed(&data)).unwrap(), frame_of(&data));
        }
    }
}
