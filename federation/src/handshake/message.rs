//! The wire of `/timmy/hello/1`: each message is one JSON array in one frame.
//!
//! | message | says |
//! |---|---|
//! | `["HELLO", 1, nonce]` | 32 random bytes, hex |
//! | `["PROOFS", tags]` | from the dialer: 64 tags of 16 bytes, hex; those beyond its keys are random |
//! | `["PROOF", mac, turn, heads]` | from the listener: `any` with its heads, or `first` ("you show your card first") with none |
//! | `["YOU", heads]` | from the dialer: you first |
//! | `["CARD", {card, addresses, relays, heads, log, keys}]` | |
//! | `["MORE", log, keys]` | what the other lacks |
//! | `["NO", code]` | over |

use nips::federation::MAX_HEADS;
use nostr::{Event, EventId, RelayUrl};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{MAX_EARLY_FRAME, MAX_FRAME, Refusal, TAGS};
use crate::keyring::MAX_SEALED_KEPT;
use crate::membership::MAX_ENTRIES;

/// The version spoken.
const VERSION: u32 = 1;
/// The most addresses, and relays, of a peer.
pub(super) const MAX_PLACES: usize = 8;
/// The longest of them, bytes.
pub(super) const MAX_PLACE: usize = 160;

/// One tag of a proof: half of an HMAC.
pub(super) type Tag = [u8; 16];

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Message {
    Hello([u8; 32]),
    Proofs(Vec<Tag>),
    Proof { mac: [u8; 32], turn: Turn, heads: Vec<EventId> },
    YouFirst(Vec<EventId>),
    Card(Box<Shown>),
    More { log: Vec<Event>, keys: Vec<Event> },
    No(Refusal),
}

/// Who shows its card first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Turn {
    /// The dialer decides.
    Any,
    /// The dialer: it proved an older key than the listener has.
    First,
}

/// What one shows of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Shown {
    pub card: Event,
    #[serde(default)]
    pub addresses: Vec<String>,
    #[serde(default)]
    pub relays: Vec<RelayUrl>,
    pub heads: Vec<EventId>,
    #[serde(default)]
    pub log: Vec<Event>,
    #[serde(default)]
    pub keys: Vec<Event>,
}

impl Message {
    pub fn encode(&self) -> Vec<u8> {
        let text = match self {
            Self::Hello(nonce) => serde_json::to_vec(&("HELLO", VERSION, hex::encode(nonce))),
            Self::Proofs(tags) => serde_json::to_vec(&("PROOFS", hex::encode(tags.concat()))),
            Self::Proof { mac, turn, heads } => serde_json::to_vec(&("PROOF", hex::encode(mac), turn, heads)),
            Self::YouFirst(heads) => serde_json::to_vec(&("YOU", heads)),
            Self::Card(shown) => serde_json::to_vec(&("CARD", shown)),
            Self::More { log, keys } => serde_json::to_vec(&("MORE", log, keys)),
            Self::No(refusal) => serde_json::to_vec(&("NO", refusal)),
        };
        // These types have no maps with keys other than strings: writing them cannot fail.
        text.unwrap_or_default()
    }

    /// None when the bytes are no message, or break a bound. `is_proven` says whether the sender has proved a key: before that
    /// little is read.
    pub fn parse(frame: &[u8], is_proven: bool) -> Option<Self> {
        let cap = if is_proven { MAX_FRAME } else { MAX_EARLY_FRAME };
        if frame.len() > cap {
            return None;
        }
        let places: Vec<&RawValue> = serde_json::from_slice(frame).ok()?;
        let place = |at: usize| places.get(at).map(|raw| raw.get());
        let word: String = serde_json::from_str(place(0)?).ok()?;
        let message = match word.as_str() {
            "HELLO" if place(1)? == VERSION.to_string() => Self::Hello(hex_place(place(2)?)?),
            "PROOFS" => Self::Proofs(tags(place(1)?)?),
            "PROOF" => Self::Proof {
                mac: hex_place(place(1)?)?,
                turn: serde_json::from_str(place(2)?).ok()?,
                heads: serde_json::from_str(place(3)?).ok()?,
            },
            "NO" => Self::No(serde_json::from_str(place(1)?).ok()?),
            "YOU" if is_proven => Self::YouFirst(serde_json::from_str(place(1)?).ok()?),
            "CARD" if is_proven => Self::Card(serde_json::from_str(place(1)?).ok()?),
            "MORE" if is_proven => {
                Self::More { log: serde_json::from_str(place(1)?).ok()?, keys: serde_json::from_str(place(2)?).ok()? }
            }
            _ => return None,
        };
        message.is_bounded().then_some(message)
    }

    fn is_bounded(&self) -> bool {
        let few = |log: &[Event], keys: &[Event]| log.len() <= MAX_ENTRIES && keys.len() <= MAX_SEALED_KEPT;
        match self {
            Self::Hello(_) | Self::Proofs(_) | Self::No(_) => true,
            Self::Proof { heads, .. } | Self::YouFirst(heads) => heads.len() <= MAX_HEADS,
            Self::More { log, keys } => few(log, keys),
            Self::Card(shown) => {
                few(&shown.log, &shown.keys)
                    && shown.heads.len() <= MAX_HEADS
                    && shown.addresses.len() <= MAX_PLACES
                    && shown.relays.len() <= MAX_PLACES
                    && shown.addresses.iter().all(|address| address.len() <= MAX_PLACE)
                    && shown.relays.iter().all(|relay| relay.as_str().len() <= MAX_PLACE)
            }
        }
    }
}

fn hex_place<const N: usize>(raw: &str) -> Option<[u8; N]> {
    let text: String = serde_json::from_str(raw).ok()?;
    let mut bytes = [0; N];
    hex::decode_to_slice(text, &mut bytes).ok()?;
    Some(bytes)
}

fn tags(raw: &str) -> Option<Vec<Tag>> {
    let all: [u8; TAGS * 16] = hex_place(raw)?;
    all.chunks_exact(16).map(|tag| tag.try_into().ok()).collect()
}
