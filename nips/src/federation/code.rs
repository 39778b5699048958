//! The invitation code: what the owner carries from one node to another, by hand, chat or QR.
//!
//! Bech32m under the prefix `timmy`, so that a mistyped letter is noticed; upper case is the same code and makes a smaller QR. The bytes:
//!
//! ```text
//! 1 type (1) │ 2 length of all │ 1 flags (1 = guest) │ 8 end, Unix seconds │ 16 random │ 32 inviter's passport
//! │ 1 length, inviter's PeerId │ 1 count, then each: 1 length, address │ 1 count, then each: 1 length, relay
//! ```
//!
//! Numbers are big endian. The length makes a code that was cut tell itself from one that was mistyped.

use std::fmt;

use bech32::primitives::decode::UncheckedHrpstring;
use bech32::{Bech32m, Hrp, NoChecksum};
use libp2p_identity::PeerId;
use nostr::{PublicKey, RelayUrl};
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::hex_id;
use super::secret::Secret;

/// What a code begins with; `1` follows.
const PREFIX: Hrp = Hrp::parse_unchecked("timmy");
/// The type of an invitation.
const TYPE_INVITATION: u8 = 1;
/// How long a code is good, seconds.
pub const LIFE_S: u64 = 600;
/// The most bytes behind a code: bech32 has 1,023 letters at most, and a QR of this size is still read from a screen.
const MAX_BYTES: usize = 600;
/// The most addresses of a code.
const MAX_ADDRESSES: usize = 4;
/// The most relays of a code.
const MAX_RELAYS: usize = 3;
/// The longest address or relay of a code, bytes.
const MAX_PLACE: usize = 120;
/// The longest text that is looked at at all.
const MAX_TEXT: usize = 2_048;

hex_id!(
    /// The name of an invitation: a hash of its random bits, which tells nothing of them.
    InvitationId, 16, "invitation"
);

/// Why a text is no code that can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodeError {
    /// No code at all.
    #[error("this is no invitation code: a code begins with `timmy1`; make one with `timmy peer invite`")]
    NotACode,
    /// Some other thing that looks alike.
    #[error("this is a `{0}`, not an invitation code; make a code with `timmy peer invite` on the other node")]
    OtherThing(String),
    /// The end is missing.
    #[error("the code was cut: its end is missing; copy all of it")]
    Cut,
    /// A letter is wrong.
    #[error("the code was mistyped: its checksum is wrong; copy it again")]
    Checksum,
    /// Of a type that this release does not know.
    #[error("the code is of another kind (type {0}); it may be from a newer timmy: upgrade this one")]
    Type(u8),
    /// The checksum is right and the bytes are not.
    #[error("the code says nothing sensible; make a new one with `timmy peer invite`")]
    Malformed,
    /// Its ten minutes are over.
    #[error("the code ended {0} seconds ago; make a new one with `timmy peer invite`")]
    Expired(u64),
}

/// An invitation. It holds a secret: its `Debug` shows none of it, and it is wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Code {
    random: Random,
    /// The inviter's passport.
    pub inviter: PublicKey,
    /// The inviter's transport key.
    pub peer_id: PeerId,
    /// Where it listens, as multiaddresses.
    pub addresses: Vec<String>,
    /// Relays where it reads.
    pub relays: Vec<RelayUrl>,
    /// True when a guest is invited.
    pub is_guest: bool,
    /// Unix seconds.
    pub expires_at: u64,
}

#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
struct Random([u8; 16]);

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Code({})", self.id())
    }
}

impl Code {
    /// A code of 128 random bits, made at `now` (Unix seconds). Of addresses and relays it takes what fits: the first four and three, none
    /// longer than 120 bytes.
    pub fn new(random: [u8; 16], inviter: PublicKey, peer_id: PeerId, is_guest: bool, now: u64) -> Self {
        let random = Random(random);
        Self {
            random,
            inviter,
            peer_id,
            addresses: vec![],
            relays: vec![],
            is_guest,
            expires_at: now.saturating_add(LIFE_S),
        }
    }

    /// Says where the inviter is met.
    #[must_use]
    pub fn at(mut self, addresses: &[String], relays: &[RelayUrl]) -> Self {
        self.addresses = addresses.iter().filter(|a| is_address(a)).take(MAX_ADDRESSES).cloned().collect();
        self.relays = relays.iter().filter(|r| r.as_str().len() <= MAX_PLACE).take(MAX_RELAYS).cloned().collect();
        // One address and two relays fit, however long.
        while self.bytes().len() > MAX_BYTES {
            let place =
                if self.addresses.len() > 1 { self.addresses.pop() } else { self.relays.pop().map(|r| r.to_string()) };
            if place.is_none() {
                break;
            }
        }
        self
    }

    /// The name of the invitation.
    pub fn id(&self) -> InvitationId {
        let digest: [u8; 32] =
            Sha256::new().chain_update(b"timmy/invitation/1").chain_update(self.random.0).finalize().into();
        let mut id = [0; 16];
        id.copy_from_slice(&digest[..16]);
        InvitationId(id)
    }

    /// What the joiner proves that it has.
    pub fn secret(&self) -> Secret {
        Secret::new(Sha256::new().chain_update(b"timmy/invitation-key/1").chain_update(self.random.0).finalize().into())
    }

    /// The code as text, in small letters.
    pub fn print(&self) -> String {
        // Encoding fails only above 1,023 letters, and MAX_BYTES keeps below.
        bech32::encode_lower::<Bech32m>(PREFIX, &self.bytes()).unwrap_or_default()
    }

    fn bytes(&self) -> Vec<u8> {
        let mut out = vec![TYPE_INVITATION, 0, 0, u8::from(self.is_guest)];
        out.extend(self.expires_at.to_be_bytes());
        out.extend(self.random.0);
        out.extend(self.inviter.to_bytes());
        put(&mut out, &self.peer_id.to_bytes());
        out.push(u8::try_from(self.addresses.len()).unwrap_or(0));
        self.addresses.iter().for_each(|address| put(&mut out, address.as_bytes()));
        out.push(u8::try_from(self.relays.len()).unwrap_or(0));
        self.relays.iter().for_each(|relay| put(&mut out, relay.as_str().as_bytes()));
        let length = u16::try_from(out.len()).unwrap_or(u16::MAX).to_be_bytes();
        out[1..3].copy_from_slice(&length);
        out
    }

    /// Reads a code at `now` (Unix seconds). White space inside it is left out: chats break long words.
    ///
    /// # Errors
    /// Says what is wrong with it, for people.
    pub fn read(text: &str, now: u64) -> Result<Self, CodeError> {
        let code = Self::parse(text)?;
        if code.expires_at <= now { Err(CodeError::Expired(now - code.expires_at)) } else { Ok(code) }
    }

    /// Reads a code whatever its end.
    ///
    /// # Errors
    /// Says what is wrong with it, for people.
    pub fn parse(text: &str) -> Result<Self, CodeError> {
        let text: String = text.chars().filter(|c| !c.is_whitespace()).take(MAX_TEXT).collect();
        let unchecked = UncheckedHrpstring::new(&text).map_err(|_| mistyped(&text))?;
        if unchecked.hrp() != PREFIX {
            return Err(other_thing(&unchecked.hrp().to_lowercase()));
        }
        let is_good = unchecked.has_valid_checksum::<Bech32m>();
        let all: Vec<u8> = unchecked.remove_checksum::<NoChecksum>().byte_iter().collect();
        let &[kind, high, low, ..] = all.as_slice() else { return Err(CodeError::Cut) };
        let length = usize::from(u16::from_be_bytes([high, low]));
        // Six letters of checksum follow the bytes.
        let letters = text.len() - "timmy1".len();
        if !is_good && letters < (length * 8).div_ceil(5) + 6 {
            return Err(CodeError::Cut);
        }
        if !is_good {
            return Err(CodeError::Checksum);
        }
        if kind != TYPE_INVITATION {
            return Err(CodeError::Type(kind));
        }
        all.get(3..length).and_then(|body| Reader(body).code()).ok_or(CodeError::Malformed)
    }
}

fn is_address(text: &str) -> bool {
    text.starts_with('/') && text.len() <= MAX_PLACE && text.bytes().all(|b| b.is_ascii_graphic())
}

/// What it is that does not even have the shape of a code.
fn mistyped(text: &str) -> CodeError {
    let text = text.to_lowercase();
    match text.strip_prefix("timmy1") {
        Some("") => CodeError::Cut,
        Some(_) => CodeError::Checksum,
        None => CodeError::NotACode,
    }
}

/// A key is named by its prefix alone: `nsec` must not come back in an error.
fn other_thing(prefix: &str) -> CodeError {
    let known = ["npub", "nsec", "ncryptsec", "note", "nevent", "nprofile", "naddr", "lnbc", "lnurl"];
    known
        .iter()
        .find(|known| **known == prefix)
        .map_or(CodeError::NotACode, |known| CodeError::OtherThing((*known).to_owned()))
}

fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(u8::try_from(bytes.len()).unwrap_or(0));
    out.extend(bytes);
}

/// Takes fields from the front; none when they do not suffice.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn code(mut self) -> Option<Code> {
        let flags = self.byte()?;
        let expires_at = u64::from_be_bytes(self.take(8)?.try_into().ok()?);
        let random = Random(self.take(16)?.try_into().ok()?);
        let inviter = super::key(&hex::encode(self.take(32)?)).ok()?;
        let peer_id = PeerId::from_bytes(self.part()?).ok()?;
        let mut addresses = Vec::new();
        for _ in 0..self.count(MAX_ADDRESSES)? {
            let address = std::str::from_utf8(self.part()?).ok()?;
            addresses.push(is_address(address).then(|| address.to_owned())?);
        }
        let mut relays = Vec::new();
        for _ in 0..self.count(MAX_RELAYS)? {
            let part = self.part()?;
            let text = (part.len() <= MAX_PLACE).then(|| std::str::from_utf8(part).ok())??;
            relays.push(RelayUrl::parse(text).ok()?);
        }
        let is_whole = self.0.is_empty() && flags <= 1;
        is_whole.then_some(Code { random, inviter, peer_id, addresses, relays, is_guest: flags == 1, expires_at })
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn part(&mut self) -> Option<&'a [u8]> {
        let length = self.byte()?;
        self.take(usize::from(length))
    }

    fn count(&mut self, max: usize) -> Option<usize> {
        let count = usize::from(self.byte()?);
        (count <= max).then_some(count)
    }
}
