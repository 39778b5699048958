//! Answers to an invitation (kind 9770), signed by the sender's install key: what the joiner asks, and what the inviter says.
//!
//! The joiner never sends the code. It proves that it has it: an HMAC under a key made from the code, over both passports, both PeerIds, its
//! install key, the terms and a nonce. So nobody in between can put another node in its place, and one who overhears learns nothing.

use libp2p_identity::PeerId;
use nostr::{Event, EventBuilder, EventId, Kind, PublicKey, RelayUrl};
use serde::{Deserialize, Serialize};

use super::code::{Code, InvitationId};
use super::entry::{FederationId, Role};
use super::{EnvelopeError, KIND_ANSWER, bytes, key, one};
use crate::tags::tag;

/// The most entries of a welcome.
const MAX_LOG: usize = 512;
/// The most epoch keys of a welcome.
const MAX_KEYS: usize = 8;
/// The most addresses, and relays, that a joiner names.
const MAX_PLACES: usize = 8;
/// The longest address that a joiner names, bytes.
const MAX_PLACE: usize = 160;

/// What a joiner asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// Which invitation.
    pub invitation: InvitationId,
    /// The inviter's passport.
    pub inviter: PublicKey,
    /// New for each asking.
    pub nonce: [u8; 32],
    /// [`Ask::proof`] of the code.
    pub proof: [u8; 32],
    /// As what the code invites.
    pub role: Role,
    /// The joiner's peer card, to be read by [`crate::PeerCard::read`].
    pub card: Box<Event>,
    /// Where the joiner listens.
    pub addresses: Vec<String>,
    /// Where the joiner reads.
    pub relays: Vec<RelayUrl>,
}

/// Whom an asking binds.
#[derive(Debug, Clone, Copy)]
pub struct Joiner<'a> {
    /// Its passport.
    pub passport: &'a PublicKey,
    /// Its install key.
    pub install: &'a PublicKey,
    /// Its transport key.
    pub peer_id: &'a PeerId,
}

/// What a joiner gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Welcome {
    /// Which invitation.
    pub invitation: InvitationId,
    /// The joiner's passport.
    pub joiner: PublicKey,
    /// The federation.
    pub federation: FederationId,
    /// The entry by which the joiner belongs.
    pub entry: EventId,
    /// [`Welcome::proof`] of the code: only the inviter could make it.
    pub proof: [u8; 32],
    /// The inviter's peer card.
    pub card: Box<Event>,
    /// The whole membership log, causes before effects (kind 9771).
    pub log: Vec<Event>,
    /// Keys sealed to the joiner (kind 9772).
    pub keys: Vec<Event>,
}

/// Why an invitation is not honoured. The texts are for the person who typed the code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum Refusal {
    /// No such invitation is open.
    #[error("the other node knows no such invitation; make a new code there with `timmy peer invite`")]
    Unknown,
    /// Somebody else has used it.
    #[error(
        "the code was already used by another node; a code is good for one. Make a new one with `timmy peer invite`"
    )]
    Used,
    /// Its ten minutes are over.
    #[error("the code's ten minutes are over; make a new one with `timmy peer invite`")]
    Expired,
    /// The proof is wrong: the code was altered, or somebody guesses.
    #[error(
        "the code was altered on its way: the proof is wrong. Copy it again, or make a new one with `timmy peer invite`"
    )]
    Forged,
    /// Too many wrong proofs came for it.
    #[error("the code was withdrawn after too many wrong tries; make a new one with `timmy peer invite`")]
    Burnt,
    /// Too many wrong tries in the last minute.
    #[error("too many wrong tries; wait a minute and run `timmy peer join` again")]
    Busy,
    /// The joiner was removed from this federation.
    #[error(
        "this node was removed from the federation; to take it back, an admin runs `timmy peer invite --readmit NPUB`"
    )]
    Removed,
    /// The code was made for a guest and used for a sibling, or the other way round.
    #[error(
        "the code invites under other terms (guest or sibling) than were asked for; make a new one with `timmy peer invite`"
    )]
    Terms,
    /// The inviter may invite no more.
    #[error("the node that made the code may not invite any more; ask an admin of the federation for a new one")]
    NotAllowed,
    /// The joiner's card is not good, or not of the node that speaks.
    #[error("this node's peer card was not accepted; check its clock, then run `timmy doctor`")]
    Card,
    /// The federation takes no more members.
    #[error("the federation is full; remove a member with `timmy peer remove NPUB` first")]
    Full,
    /// The inviter could not finish; the code is still good.
    #[error("the other node could not finish now; run `timmy peer join` again")]
    Failed,
}

/// An answer to an invitation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// From the joiner.
    Ask(Ask),
    /// From the inviter.
    Welcome(Welcome),
    /// From the inviter.
    Refused {
        /// Which invitation.
        invitation: InvitationId,
        /// The joiner's passport.
        joiner: PublicKey,
        /// Why.
        refusal: Refusal,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Content {
    Ask(AskContent),
    Welcome(WelcomeContent),
    Refused(Refusal),
}

#[derive(Serialize, Deserialize)]
struct AskContent {
    nonce: String,
    proof: String,
    role: Role,
    card: Box<Event>,
    #[serde(default)]
    addresses: Vec<String>,
    #[serde(default)]
    relays: Vec<RelayUrl>,
}

#[derive(Serialize, Deserialize)]
struct WelcomeContent {
    federation: FederationId,
    entry: EventId,
    proof: String,
    card: Box<Event>,
    log: Vec<Event>,
    keys: Vec<Event>,
}

impl Ask {
    /// The proof that a joiner has the code.
    pub fn proof(code: &Code, joiner: &Joiner<'_>, role: Role, nonce: &[u8; 32]) -> [u8; 32] {
        Self::proof_by(&code.secret(), &code.inviter, &code.peer_id, joiner, role, nonce)
    }

    /// The same, for an inviter that kept the secret alone.
    pub fn proof_by(
        secret: &super::Secret,
        inviter: &PublicKey,
        inviter_peer: &PeerId,
        joiner: &Joiner<'_>,
        role: Role,
        nonce: &[u8; 32],
    ) -> [u8; 32] {
        secret.mac(&[
            b"timmy/join/1",
            &inviter.to_bytes(),
            &inviter_peer.to_bytes(),
            &joiner.passport.to_bytes(),
            &joiner.install.to_bytes(),
            &joiner.peer_id.to_bytes(),
            &[u8::from(role == Role::Guest)],
            nonce,
        ])
    }
}

impl Welcome {
    /// The proof that the inviter has the code, bound to what it answers.
    pub fn proof(secret: &super::Secret, nonce: &[u8; 32], federation: FederationId, entry: EventId) -> [u8; 32] {
        secret.mac(&[b"timmy/welcome/1", nonce, federation.0.as_bytes(), entry.as_bytes()])
    }
}

impl Answer {
    /// Which invitation it is about.
    pub fn invitation(&self) -> InvitationId {
        match self {
            Self::Ask(ask) => ask.invitation,
            Self::Welcome(welcome) => welcome.invitation,
            Self::Refused { invitation, .. } => *invitation,
        }
    }

    /// The event, for the install key to sign.
    pub fn to_event(&self) -> EventBuilder {
        let (invitation, to) = match self {
            Self::Ask(ask) => (ask.invitation, ask.inviter),
            Self::Welcome(welcome) => (welcome.invitation, welcome.joiner),
            Self::Refused { invitation, joiner, .. } => (*invitation, *joiner),
        };
        let content = match self {
            Self::Ask(ask) => Content::Ask(AskContent {
                nonce: hex::encode(ask.nonce),
                proof: hex::encode(ask.proof),
                role: ask.role,
                card: ask.card.clone(),
                addresses: ask.addresses.clone(),
                relays: ask.relays.clone(),
            }),
            Self::Welcome(welcome) => Content::Welcome(WelcomeContent {
                federation: welcome.federation,
                entry: welcome.entry,
                proof: hex::encode(welcome.proof),
                card: welcome.card.clone(),
                log: welcome.log.clone(),
                keys: welcome.keys.clone(),
            }),
            Self::Refused { refusal, .. } => Content::Refused(*refusal),
        };
        let content = serde_json::to_string(&content).unwrap_or_default();
        EventBuilder::new(Kind::from_u16(KIND_ANSWER), content)
            .tags([tag(["x", &invitation.to_string()]), tag(["p", &to.to_hex()])])
    }

    pub(super) fn parse(event: &Event) -> Result<Self, EnvelopeError> {
        let invitation: InvitationId = one(event, "x")?.parse()?;
        let to = key(one(event, "p")?)?;
        let content: Content =
            serde_json::from_str(&event.content).map_err(|_| EnvelopeError::Malformed("invitation answer"))?;
        match content {
            Content::Ask(ask) => Ok(Self::Ask(ask.read(invitation, to)?)),
            Content::Welcome(welcome) => Ok(Self::Welcome(welcome.read(invitation, to)?)),
            Content::Refused(refusal) => Ok(Self::Refused { invitation, joiner: to, refusal }),
        }
    }
}

impl AskContent {
    fn read(self, invitation: InvitationId, inviter: PublicKey) -> Result<Ask, EnvelopeError> {
        if self.addresses.len() > MAX_PLACES || self.relays.len() > MAX_PLACES {
            return Err(EnvelopeError::TooMany("addresses"));
        }
        let is_long = self.addresses.iter().any(|address| address.len() > MAX_PLACE)
            || self.relays.iter().any(|relay| relay.as_str().len() > MAX_PLACE);
        if is_long {
            return Err(EnvelopeError::Malformed("address"));
        }
        Ok(Ask {
            invitation,
            inviter,
            nonce: bytes(&self.nonce, "nonce")?,
            proof: bytes(&self.proof, "proof")?,
            role: self.role,
            card: self.card,
            addresses: self.addresses,
            relays: self.relays,
        })
    }
}

impl WelcomeContent {
    fn read(self, invitation: InvitationId, joiner: PublicKey) -> Result<Welcome, EnvelopeError> {
        if self.log.len() > MAX_LOG {
            return Err(EnvelopeError::TooMany("entries"));
        }
        if self.keys.len() > MAX_KEYS {
            return Err(EnvelopeError::TooMany("keys"));
        }
        Ok(Welcome {
            invitation,
            joiner,
            federation: self.federation,
            entry: self.entry,
            proof: bytes(&self.proof, "proof")?,
            card: self.card,
            log: self.log,
            keys: self.keys,
        })
    }
}
