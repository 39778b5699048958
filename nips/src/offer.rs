//! What a node offers (NIP-89, kind 31990) and that it is alive (kind 11998).
//!
//! Relays keep one 11998 a key, and clients hide a DVM whose beat is older than 900 s: hence one offer a key, which names every
//! kind, and one beat with that offer's `d`.

use std::collections::BTreeSet;

use nostr::{Kind, PublicKey, Timestamp, UnsignedEvent};
use serde_json::{Value, json};

use crate::tags::tag;

/// Kind of an offer (NIP-89 handler information).
pub const OFFER_KIND: u16 = 31_990;
/// Kind of the heartbeat.
pub const HEARTBEAT_KIND: u16 = 11_998;
/// The `d` tag of the one offer.
pub const OFFER_ID: &str = "timmy";
/// Seconds between two heartbeats.
pub const HEARTBEAT_S: u64 = 300;
/// Seconds after which clients hide a silent DVM.
pub const SILENT_S: u64 = 900;

/// Everything that a node can really do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// The node's passport.
    pub node: PublicKey,
    /// Name shown to people.
    pub name: String,
    /// Words for people.
    pub about: String,
    /// Job kinds, 5000–5999.
    pub kinds: BTreeSet<u16>,
    /// SHA-256 of the soul in force, hex.
    pub soul: Option<String>,
}

impl Offer {
    /// The 31990 dated `at` (Unix seconds). An offer without kinds is written too: it replaces the one that had some.
    pub fn event(&self, at: u64) -> UnsignedEvent {
        let mut tags = vec![tag(["d", OFFER_ID])];
        tags.extend(self.kinds.iter().map(|k| tag(["k", &k.to_string()])));
        let mut content = json!({
            "name": self.name,
            "about": self.about,
            "encryptionSupported": true,
            "supportsEncryption": true,
            "cashuAccepted": false,
            "amount": "free",
            "nip90Params": self.params(),
        });
        if let Some(soul) = &self.soul {
            content["soul"] = soul.as_str().into();
        }
        UnsignedEvent::new(self.node, Timestamp::from_secs(at), Kind::from_u16(OFFER_KIND), tags, content.to_string())
    }

    /// The heartbeat dated `at`; it expires when clients would hide the node anyway.
    pub fn heartbeat(&self, at: u64) -> UnsignedEvent {
        let expiration = (at + SILENT_S).to_string();
        let tags = vec![tag(["d", OFFER_ID]), tag(["expiration", &expiration])];
        UnsignedEvent::new(self.node, Timestamp::from_secs(at), Kind::from_u16(HEARTBEAT_KIND), tags, "")
    }

    fn params(&self) -> Value {
        let mut params = json!({});
        if self.kinds.contains(&5001) {
            params["length"] = json!({ "required": false, "values": ["short", "medium", "long"] });
        }
        if self.kinds.contains(&5002) {
            params["language"] = json!({ "required": false, "values": [] });
        }
        if self.kinds.contains(&5302) || self.kinds.contains(&5303) {
            params["max_results"] = json!({ "required": false, "values": [] });
        }
        params
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offer_and_beat_belong_together() {
        let node = PublicKey::from_hex("79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798").unwrap();
        let offer = Offer { node, name: "timmy".into(), about: "x".into(), kinds: [5000, 5302].into(), soul: None };
        let event = offer.event(5);
        let tags: Vec<_> = event.tags.iter().map(|t| t.as_slice().join(" ")).collect();
        assert_eq!(tags, ["d timmy", "k 5000", "k 5302"]);
        let beat = offer.heartbeat(5);
        assert_eq!((beat.kind.as_u16(), beat.tags.iter().next().unwrap().as_slice()[1].as_str()), (11_998, "timmy"));
        const { assert!(HEARTBEAT_S * 2 < SILENT_S) };
    }
}
