//! The peer card (kind 30078, `d = timmy/peer-card/<install>`): the passport says which install speaks for it now.
//!
//! Both other keys sign the same statement, so nobody can claim a key that is not theirs. A newer card (higher sequence number)
//! revokes the older ones; a node that sees a newer card by its own passport from another install stops its job doors.

use libp2p_identity::{Keypair, PeerId};
use nostr::hashes::{Hash, sha256};
use nostr::secp256k1::{Message, XOnlyPublicKey, schnorr::Signature};
use nostr::{Event, Kind, PublicKey, Timestamp, UnsignedEvent};
use serde::{Deserialize, Serialize};

use crate::tags::{tag, value};

/// Kind of a peer card (NIP-78 application data).
pub const CARD_KIND: u16 = 30_078;
/// What the `d` tag starts with; the install key follows, hex.
pub const CARD_PREFIX: &str = "timmy/peer-card/";
/// The longest life of a card, seconds.
pub const MAX_LIFE_S: u64 = 30 * 24 * 3600;

/// What a peer card states.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerCard {
    /// The node.
    pub passport: PublicKey,
    /// The install key, x-only, hex in JSON.
    pub install: PublicKey,
    /// libp2p name of the transport key.
    pub peer_id: PeerId,
    /// What this node can do.
    pub abilities: Vec<String>,
    /// Higher revokes lower.
    pub sequence: u64,
    /// Unix seconds; at most [`MAX_LIFE_S`] after the card's date.
    pub not_after: u64,
}

#[derive(Serialize, Deserialize)]
struct Content {
    #[serde(flatten)]
    card: PeerCard,
    install_sig: String,
    transport_key: String,
    transport_sig: String,
}

/// Why a card is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CardError {
    /// Not a peer card.
    #[error("not a peer card")]
    NotACard,
    /// A part is missing or malformed.
    #[error("the peer card is malformed")]
    Malformed,
    /// The passport inside is not the signer, or `d` names another install.
    #[error("the peer card speaks for somebody else")]
    Mismatch,
    /// A signature of the install or the transport key is wrong.
    #[error("a signature in the peer card is wrong")]
    Signature,
    /// Over, or lives too long.
    #[error("the peer card has ended or claims too long a life")]
    Lifetime,
    /// The transport key cannot sign.
    #[error("the transport key cannot sign")]
    Transport,
}

impl PeerCard {
    /// The digest that install and transport key sign.
    pub fn statement(&self) -> [u8; 32] {
        let text = format!(
            "timmy/peer-card/1\n{}\n{}\n{}\n{}\n{}\n{}",
            self.passport.to_hex(),
            self.install.to_hex(),
            self.peer_id,
            self.abilities.join(","),
            self.sequence,
            self.not_after
        );
        sha256::Hash::hash(text.as_bytes()).to_byte_array()
    }

    /// The card as an event for the passport to sign. `install_sig` is the install key's Schnorr signature of [`PeerCard::statement`].
    ///
    /// # Errors
    /// When the transport key cannot sign.
    pub fn event(&self, install_sig: &Signature, transport: &Keypair, at: u64) -> Result<UnsignedEvent, CardError> {
        let transport_sig = transport.sign(&self.statement()).map_err(|_| CardError::Transport)?;
        let content = Content {
            card: self.clone(),
            install_sig: install_sig.to_string(),
            transport_key: hex::encode(transport.public().encode_protobuf()),
            transport_sig: hex::encode(transport_sig),
        };
        let content = serde_json::to_string(&content).map_err(|_| CardError::Malformed)?;
        let d = format!("{CARD_PREFIX}{}", self.install.to_hex());
        let tags = vec![tag(["d", &d]), tag(["expiration", &self.not_after.to_string()])];
        Ok(UnsignedEvent::new(self.passport, Timestamp::from_secs(at), Kind::from_u16(CARD_KIND), tags, content))
    }

    /// Reads and checks a card at `now` (Unix seconds). The event's own signature is checked by whoever received it.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn read(event: &Event, now: u64) -> Result<Self, CardError> {
        let d = value(event, "d").unwrap_or_default();
        if event.kind.as_u16() != CARD_KIND || !d.starts_with(CARD_PREFIX) {
            return Err(CardError::NotACard);
        }
        let content: Content = serde_json::from_str(&event.content).map_err(|_| CardError::Malformed)?;
        let card = &content.card;
        if card.passport != event.pubkey || d[CARD_PREFIX.len()..] != card.install.to_hex() {
            return Err(CardError::Mismatch);
        }
        if card.not_after <= now || card.not_after > event.created_at.as_secs() + MAX_LIFE_S {
            return Err(CardError::Lifetime);
        }
        content.check_signatures()?;
        Ok(content.card)
    }

    /// True when this card revokes `other`: a higher sequence number, and the higher install key where two are equal.
    pub fn revokes(&self, other: &Self) -> bool {
        self.passport == other.passport
            && self.install != other.install
            && (self.sequence, self.install.to_bytes()) > (other.sequence, other.install.to_bytes())
    }
}

impl Content {
    fn check_signatures(&self) -> Result<(), CardError> {
        let statement = self.card.statement();
        let key = hex::decode(&self.transport_key).map_err(|_| CardError::Malformed)?;
        let key = libp2p_identity::PublicKey::try_decode_protobuf(&key).map_err(|_| CardError::Malformed)?;
        let transport_sig = hex::decode(&self.transport_sig).map_err(|_| CardError::Malformed)?;
        let install_sig: Signature = self.install_sig.parse().map_err(|_| CardError::Malformed)?;
        let install = XOnlyPublicKey::from_slice(&self.card.install.to_bytes()).map_err(|_| CardError::Malformed)?;
        let install_ok =
            nostr::SECP256K1.verify_schnorr(&install_sig, &Message::from_digest(statement), &install).is_ok();
        if key.to_peer_id() != self.card.peer_id || !key.verify(&statement, &transport_sig) || !install_ok {
            return Err(CardError::Signature);
        }
        Ok(())
    }
}
