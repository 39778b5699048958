//! Presence (kind 9773): where a member is met now. Signed by its install key, gossiped to the members.

use nostr::{Event, EventBuilder, Kind, RelayUrl};
use serde::{Deserialize, Serialize};

use super::EnvelopeError;
use crate::PeerCard;

/// Kind of a presence.
pub const KIND_PRESENCE: u16 = 9773;
/// The most addresses, and the most relays.
const MAX_PLACES: usize = 8;
/// The longest of them, bytes.
const MAX_PLACE: usize = 200;

/// Where a member is met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presence {
    /// Its peer card, as its passport signed it.
    pub card: Box<Event>,
    /// Where it listens, as multiaddresses.
    pub addresses: Vec<String>,
    /// Where it reads.
    pub relays: Vec<RelayUrl>,
    /// SHA-256 of the ids of all labels that it knows, in ascending order: who knows others hands them on.
    pub labels: Option<[u8; 32]>,
}

#[derive(Serialize, Deserialize)]
struct Content {
    card: Box<Event>,
    #[serde(default)]
    addresses: Vec<String>,
    #[serde(default)]
    relays: Vec<RelayUrl>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    labels: Option<String>,
}

impl Presence {
    /// The event, for the install key to sign. Of addresses and relays it takes the first eight.
    pub fn to_event(&self) -> EventBuilder {
        let content = Content {
            card: self.card.clone(),
            addresses: self.addresses.iter().filter(|a| a.len() <= MAX_PLACE).take(MAX_PLACES).cloned().collect(),
            relays: self.relays.iter().filter(|r| r.as_str().len() <= MAX_PLACE).take(MAX_PLACES).cloned().collect(),
            labels: self.labels.map(hex::encode),
        };
        EventBuilder::new(Kind::from_u16(KIND_PRESENCE), serde_json::to_string(&content).unwrap_or_default())
    }

    /// Reads an event whose signature was checked, at `now` (Unix seconds): the card must be good and of the very install that signed.
    ///
    /// # Errors
    /// When it is of another kind, malformed, too long, or its card is not good.
    pub fn read(event: &Event, now: u64) -> Result<(Self, PeerCard), EnvelopeError> {
        if event.kind.as_u16() != KIND_PRESENCE {
            return Err(EnvelopeError::Kind(event.kind.as_u16()));
        }
        if event.content.len() > super::MAX_CONTENT {
            return Err(EnvelopeError::TooLarge(event.content.len()));
        }
        let Content { card, addresses, relays, labels } =
            serde_json::from_str(&event.content).map_err(|_| EnvelopeError::Malformed("presence"))?;
        if addresses.len() > MAX_PLACES || relays.len() > MAX_PLACES {
            return Err(EnvelopeError::TooMany("addresses"));
        }
        if addresses.iter().any(|a| a.len() > MAX_PLACE) || relays.iter().any(|r| r.as_str().len() > MAX_PLACE) {
            return Err(EnvelopeError::Malformed("address"));
        }
        card.verify().map_err(|_| EnvelopeError::Signature)?;
        let read = PeerCard::read(&card, now).map_err(|_| EnvelopeError::Malformed("peer card"))?;
        if read.install != event.pubkey {
            return Err(EnvelopeError::Malformed("peer card of another install"));
        }
        let labels = labels.map(|text| {
            let bytes = hex::decode(text).ok().and_then(|bytes| bytes.try_into().ok());
            bytes.ok_or(EnvelopeError::Malformed("labels"))
        });
        Ok((Self { card, addresses, relays, labels: labels.transpose()? }, read))
    }
}
