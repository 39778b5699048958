//! Letters: how an envelope travels over a relay (NIP-59 over NIP-44, as direct messages do).
//!
//! ```text
//! wrap 1059 (a key used once; `p`, `expiration`)
//!   └ seal 13 (the sender's passport)
//!       └ rumor of the envelope's own kind (`letter` = id, part, of; `expiration`), content: base64 of a part of the envelope's JSON
//! ```
//!
//! Always 1059 and never the ephemeral 21059: a relay keeps it until it was fetched. A part is so small that its wrap stays below
//! 64 KiB, which is what relays take by default. The letter's id is the envelope's id, so a letter sent twice is one.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use nostr::nips::nip44;
use nostr::{Event, EventId, JsonUtil, Keys, Kind, PublicKey, Tag, Timestamp, UnsignedEvent};
use rand_core::{CryptoRng, RngCore};

use super::{bytes, is_envelope};
use crate::dm::{self, WRAP_KIND};
use crate::tags::tag;

/// The most bytes of an envelope's JSON in one part. NIP-44 pads and base64 grows it twice; 20 KiB give a wrap of 55 KB.
pub const PART_BYTES: usize = 20 * 1024;
/// The most parts of a letter: room for the largest envelope, a memory change of 256 KiB and a welcome of 320 KiB, as JSON in JSON.
pub const MAX_PARTS: usize = 36;
/// The longest that a letter may wait on a relay, seconds.
pub const MAX_LIFE_S: u64 = 14 * 24 * 3600;
/// How long parts wait for the others, seconds: a relay that is down for a night brings the rest in the morning.
const WAIT_S: u64 = 24 * 3600;
/// The most unfinished letters of one sender: as many as envelopes of several parts are under way between two nodes.
const MAX_OPEN_OF_ONE: usize = 16;
/// The most unfinished letters in all.
const MAX_OPEN: usize = 64;
/// The most bytes of unfinished letters.
const MAX_OPEN_BYTES: usize = 4 * 1024 * 1024;

/// Why a letter is dropped. Counted, never answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LetterError {
    /// A layer is wrong.
    #[error(transparent)]
    Open(#[from] dm::OpenError),
    /// The rumor is no part of a letter.
    #[error("not a good {0} of a letter")]
    Malformed(&'static str),
    /// Its time is over.
    #[error("the letter has ended")]
    Expired,
    /// Larger than letters are.
    #[error("the letter is too large: {0}")]
    TooLarge(usize),
    /// This part was there with other bytes, or says another count of parts.
    #[error("the parts of the letter do not fit together")]
    Mismatch,
    /// More letters are unfinished than are kept.
    #[error("too many unfinished letters")]
    Full,
    /// The envelope inside is not the one that the letter names.
    #[error("the letter holds another envelope than it says")]
    Envelope,
}

/// One part, opened: sender, kind and bounds are checked. The envelope inside is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// Passport of the sender: author of seal and rumor.
    pub from: PublicKey,
    /// The envelope's kind.
    pub kind: u16,
    /// The envelope's id.
    pub id: EventId,
    /// Counts from 0.
    pub part: usize,
    /// How many parts there are.
    pub of: usize,
    /// Unix seconds.
    pub expires_at: u64,
    /// A part of the envelope's JSON.
    pub bytes: Vec<u8>,
}

/// The rumors by which `envelope` goes from passport `from` to passport `to`: one a part. Each is to be encrypted by the sender's signer, put into
/// a [`dm::seal`] and that into a [`wrap`].
///
/// # Errors
/// When the kind is no envelope's or the envelope is too large.
pub fn rumors(
    envelope: &Event,
    from: PublicKey,
    to: &PublicKey,
    expires_at: u64,
    at: u64,
) -> Result<Vec<UnsignedEvent>, LetterError> {
    if !is_envelope(envelope.kind.as_u16()) {
        return Err(LetterError::Malformed("kind"));
    }
    let json = envelope.as_json();
    let parts: Vec<&[u8]> = json.as_bytes().chunks(PART_BYTES).collect();
    if parts.len() > MAX_PARTS {
        return Err(LetterError::TooLarge(json.len()));
    }
    let (id, of) = (envelope.id.to_hex(), parts.len().to_string());
    let expires_at = expires_at.min(at.saturating_add(MAX_LIFE_S)).to_string();
    let rumor = |(number, part): (usize, &&[u8])| {
        let tags = vec![
            tag(["p", &to.to_hex()]),
            tag(["letter", &id, &number.to_string(), &of]),
            tag(["expiration", &expires_at]),
        ];
        let mut rumor = UnsignedEvent::new(from, Timestamp::from_secs(at), envelope.kind, tags, STANDARD.encode(part));
        rumor.ensure_id();
        rumor
    };
    Ok(parts.iter().enumerate().map(rumor).collect())
}

/// Wraps a signed seal for `recipient` with the single-use key `ephemeral`, dated `at`, to be dropped by relays at `expires_at` (NIP-40).
///
/// # Errors
/// When the seal is larger than NIP-44 takes.
pub fn wrap<R: RngCore + CryptoRng>(
    seal: &Event,
    recipient: &PublicKey,
    ephemeral: &Keys,
    (at, expires_at): (u64, u64),
    rng: &mut R,
) -> Result<Event, nip44::Error> {
    let content = nip44::encrypt_with_rng(rng, ephemeral.secret_key(), recipient, seal.as_json(), nip44::Version::V2)?;
    let tags = vec![tag(["p", &recipient.to_hex()]), tag(["expiration", &expires_at.to_string()])];
    let wrap =
        UnsignedEvent::new(ephemeral.public_key(), Timestamp::from_secs(at), Kind::from_u16(WRAP_KIND), tags, content);
    Ok(dm::sign(wrap, ephemeral, rng))
}

/// True when what a seal holds is a letter and not a message to people. Cheap: only the kind is looked at.
pub fn is_letter(plaintext: &str) -> bool {
    UnsignedEvent::from_json(plaintext).is_ok_and(|rumor| is_envelope(rumor.kind.as_u16()))
}

/// The part inside a seal, from the seal's decrypted content, at `now` (Unix seconds).
///
/// # Errors
/// When the rumor is not by the seal's author, its id is wrong, it is no letter or a bound is broken.
pub fn read(seal: &Event, plaintext: &str, now: u64) -> Result<Letter, LetterError> {
    let rumor = UnsignedEvent::from_json(plaintext).map_err(|_| dm::OpenError::Layer("message"))?;
    if rumor.pubkey != seal.pubkey {
        return Err(dm::OpenError::Author.into());
    }
    rumor.verify_id().map_err(|_| dm::OpenError::RumorId)?;
    let kind = rumor.kind.as_u16();
    if !is_envelope(kind) {
        return Err(dm::OpenError::Kind(kind).into());
    }
    let tags: Vec<&[String]> = rumor.tags.iter().map(Tag::as_slice).collect();
    let named = |name: &str| tags.iter().find(|tag| tag.first().is_some_and(|n| n == name));
    let Some([_, id, part, of]) = named("letter").copied() else { return Err(LetterError::Malformed("tag")) };
    let id: [u8; 32] = bytes(id, "letter").map_err(|_| LetterError::Malformed("id"))?;
    let number = |text: &str| text.parse::<usize>().ok().filter(|n| n.to_string() == text && *n <= MAX_PARTS);
    let (part, of) = number(part).zip(number(of)).ok_or(LetterError::Malformed("number"))?;
    if part >= of {
        return Err(LetterError::Malformed("number"));
    }
    let expires_at: u64 =
        named("expiration").and_then(|tag| tag.get(1)?.parse().ok()).ok_or(LetterError::Malformed("end"))?;
    if expires_at <= now || expires_at > now.saturating_add(2 * MAX_LIFE_S) {
        return Err(LetterError::Expired);
    }
    if rumor.content.len() > PART_BYTES.div_ceil(3) * 4 {
        return Err(LetterError::TooLarge(rumor.content.len()));
    }
    let bytes = STANDARD.decode(&rumor.content).map_err(|_| LetterError::Malformed("part"))?;
    if bytes.is_empty() {
        return Err(LetterError::Malformed("part"));
    }
    Ok(Letter { from: rumor.pubkey, kind, id: EventId::from_byte_array(id), part, of, expires_at, bytes })
}

/// Puts the parts of letters together, within bounds. What is dropped comes again when the sender sends again.
#[derive(Debug, Default)]
pub struct Reassembly {
    open: BTreeMap<(PublicKey, EventId), Unfinished>,
    bytes: usize,
}

#[derive(Debug)]
struct Unfinished {
    of: usize,
    parts: BTreeMap<usize, Vec<u8>>,
    until: u64,
}

impl Reassembly {
    /// Takes a part at `now` (Unix seconds), and gives the envelope once it is whole: of the kind and id that the letter named. Its
    /// signature is checked by whoever takes it further.
    ///
    /// # Errors
    /// When parts contradict each other, too much is unfinished, or the whole is not what it was said to be.
    pub fn take(&mut self, letter: Letter, now: u64) -> Result<Option<Event>, LetterError> {
        self.tick(now);
        if letter.of == 1 {
            return whole(&letter.bytes, letter.kind, letter.id).map(Some);
        }
        let key = (letter.from, letter.id);
        if !self.open.contains_key(&key) {
            let of_one = self.open.keys().filter(|(from, _)| *from == letter.from).count();
            if of_one >= MAX_OPEN_OF_ONE || self.open.len() >= MAX_OPEN {
                return Err(LetterError::Full);
            }
        }
        if self.bytes + letter.bytes.len() > MAX_OPEN_BYTES {
            return Err(LetterError::Full);
        }
        let until = letter.expires_at.min(now.saturating_add(WAIT_S));
        let unfinished =
            self.open.entry(key).or_insert_with(|| Unfinished { of: letter.of, parts: BTreeMap::new(), until });
        if unfinished.of != letter.of || unfinished.parts.get(&letter.part).is_some_and(|kept| *kept != letter.bytes) {
            return Err(LetterError::Mismatch);
        }
        let Letter { kind, id, part, bytes, .. } = letter;
        let added = bytes.len();
        if unfinished.parts.insert(part, bytes).is_none() {
            self.bytes += added;
        }
        if unfinished.parts.len() < unfinished.of {
            return Ok(None);
        }
        let all = self.close(&key).unwrap_or_default();
        whole(&all, kind, id).map(Some)
    }

    /// Drops what waited too long.
    pub fn tick(&mut self, now: u64) {
        let over: Vec<_> = self.open.iter().filter(|(_, open)| open.until <= now).map(|(key, _)| *key).collect();
        for key in over {
            self.close(&key);
        }
    }

    /// How many letters are unfinished.
    pub fn unfinished(&self) -> usize {
        self.open.len()
    }

    fn close(&mut self, key: &(PublicKey, EventId)) -> Option<Vec<u8>> {
        let all: Vec<u8> = self.open.remove(key)?.parts.into_values().flatten().collect();
        self.bytes = self.bytes.saturating_sub(all.len());
        Some(all)
    }
}

fn whole(bytes: &[u8], kind: u16, id: EventId) -> Result<Event, LetterError> {
    let envelope = Event::from_json(bytes).map_err(|_| LetterError::Envelope)?;
    let is_named = envelope.id == id && envelope.kind.as_u16() == kind;
    if is_named { Ok(envelope) } else { Err(LetterError::Envelope) }
}
