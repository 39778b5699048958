//! Owner attestation (NIP-OA, draft, block/buzz `docs/nips/NIP-OA.md`): an owner's signature that an agent's key may publish. The
//! event stays the agent's; the tag only says who stands behind it.

use nostr::secp256k1::schnorr::Signature;
use nostr::secp256k1::{Message, XOnlyPublicKey};
use nostr::{Event, Keys, PublicKey, SECP256K1, Tag};
use sha2::{Digest, Sha256};

use crate::tags::{named, tag};

/// What is signed begins so.
const DOMAIN: &str = "nostr:agent-auth:";

/// One `auth` tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attestation {
    /// Who attests.
    pub owner: PublicKey,
    /// As signed: clauses joined by `&`, or nothing.
    conditions: String,
    signature: Signature,
}

/// Why a tag attests nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AttestationError {
    /// Not four elements, `auth` first.
    #[error("an attestation is [\"auth\", owner, conditions, signature]")]
    Shape,
    /// More than one in an event.
    #[error("there is more than one auth tag")]
    Twice,
    /// No key, or not in lower-case hex.
    #[error("the attestation's owner is no public key in lower-case hex")]
    Owner,
    /// A clause that is not one of the three, or not canonical.
    #[error("the attestation's conditions are malformed: {0:?}")]
    Conditions(String),
    /// Not 128 hex digits, or not of this owner for this agent.
    #[error("the attestation is not signed by its owner for this key")]
    Signature,
    /// The owner is the agent.
    #[error("a key cannot attest itself")]
    Own,
    /// The event is not one that was attested.
    #[error("the attestation does not hold for this event ({0})")]
    Unmet(String),
}

enum Clause {
    Kind(u16),
    Before(u32),
    After(u32),
}

impl Clause {
    fn parse(text: &str) -> Option<Self> {
        let canonical = |digits: &str| digits == "0" || (!digits.starts_with('0') && !digits.starts_with('+'));
        if let Some(n) = text.strip_prefix("kind=") {
            return n.parse().ok().filter(|_| canonical(n)).map(Self::Kind);
        }
        if let Some(n) = text.strip_prefix("created_at<") {
            return n.parse().ok().filter(|_| canonical(n)).map(Self::Before);
        }
        let n = text.strip_prefix("created_at>")?;
        n.parse().ok().filter(|_| canonical(n)).map(Self::After)
    }

    fn holds(&self, kind: u16, created_at: u64) -> bool {
        match self {
            Self::Kind(only) => kind == *only,
            Self::Before(at) => created_at < u64::from(*at),
            Self::After(at) => created_at > u64::from(*at),
        }
    }
}

fn is_lower_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

fn digest(agent: &PublicKey, conditions: &str) -> Message {
    Message::from_digest(Sha256::digest(format!("{DOMAIN}{}:{conditions}", agent.to_hex())).into())
}

impl Attestation {
    /// Signs with the owner's key that `agent` may publish, while `conditions` hold.
    ///
    /// # Errors
    /// When the conditions are malformed, or the owner is the agent.
    pub fn sign(owner: &Keys, agent: &PublicKey, conditions: &str) -> Result<Self, AttestationError> {
        if owner.public_key() == *agent {
            return Err(AttestationError::Own);
        }
        clauses(conditions)?;
        let signature = owner.sign_schnorr(&digest(agent, conditions));
        Ok(Self { owner: owner.public_key(), conditions: conditions.to_owned(), signature })
    }

    /// Reads the four elements of a tag. Nothing is verified.
    ///
    /// # Errors
    /// When something is malformed.
    pub fn parse(elements: &[String]) -> Result<Self, AttestationError> {
        let [name, owner, conditions, signature] = elements else { return Err(AttestationError::Shape) };
        if name != "auth" {
            return Err(AttestationError::Shape);
        }
        if !is_lower_hex(owner, 64) {
            return Err(AttestationError::Owner);
        }
        let owner = PublicKey::from_hex(owner).map_err(|_| AttestationError::Owner)?;
        clauses(conditions)?;
        if !is_lower_hex(signature, 128) {
            return Err(AttestationError::Signature);
        }
        let signature = signature.parse().map_err(|_| AttestationError::Signature)?;
        Ok(Self { owner, conditions: conditions.clone(), signature })
    }

    /// The tag.
    pub fn tag(&self) -> Tag {
        tag(["auth", &self.owner.to_hex(), &self.conditions, &self.signature.to_string()])
    }

    /// Checks that the owner signed this for `agent`, and that it holds for an event of this kind and date.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn verify(&self, agent: &PublicKey, kind: u16, created_at: u64) -> Result<(), AttestationError> {
        if self.owner == *agent {
            return Err(AttestationError::Own);
        }
        let owner: XOnlyPublicKey = self.owner.xonly().map_err(|_| AttestationError::Owner)?;
        SECP256K1
            .verify_schnorr(&self.signature, &digest(agent, &self.conditions), &owner)
            .map_err(|_| AttestationError::Signature)?;
        match clauses(&self.conditions)?.iter().all(|clause| clause.holds(kind, created_at)) {
            true => Ok(()),
            false => Err(AttestationError::Unmet(self.conditions.clone())),
        }
    }

    /// Who stands behind a signed event; none when it has no tag.
    ///
    /// # Errors
    /// When the event's own signature is wrong, or its attestation is not good.
    pub fn of_event(event: &Event) -> Result<Option<PublicKey>, AttestationError> {
        let mut tags = named(event, "auth");
        let Some(elements) = tags.next() else { return Ok(None) };
        if tags.next().is_some() {
            return Err(AttestationError::Twice);
        }
        event.verify().map_err(|_| AttestationError::Signature)?;
        let attestation = Self::parse(elements)?;
        attestation.verify(&event.pubkey, event.kind.as_u16(), event.created_at.as_secs())?;
        Ok(Some(attestation.owner))
    }
}

fn clauses(conditions: &str) -> Result<Vec<Clause>, AttestationError> {
    if conditions.is_empty() {
        return Ok(vec![]);
    }
    let all = conditions.split('&').map(Clause::parse).collect::<Option<Vec<_>>>();
    all.ok_or_else(|| AttestationError::Conditions(conditions.to_owned()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use nostr::{EventBuilder, JsonUtil, Kind, Timestamp};

    use super::*;

    /// The signed example of the NIP.
    const EXAMPLE: &str = r#"{"id":"d892a65e7677e0554ebb70ee16deeb6a0727dba46450fb4bc001291d7bff971b","pubkey":"c6047f9441ed7d6d3045406e95c07cd85c778e4b8cef3ca7abac09b95c709ee5","created_at":1713956400,"kind":1,"tags":[["auth","79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798","kind=1&created_at<1713957000","8b7df2575caf0a108374f8471722b233c53f9ff827a8b0f91861966c3b9dd5cb2e189eae9f49d72187674c2f5bd244145e10ff86c9f257ffe65a1ee5f108b369"]],"content":"owner-attested agent event","sig":"7fd38992b70b5e9e113644e51b4c8ee2227f3bdd402b1855f8786c0600394ab3ec2621742a7bad0b0000b93d4d1ae6e39525f286a3c1029f43f46c3359a6c76f"}"#;

    fn elements() -> Vec<String> {
        Event::from_json(EXAMPLE).unwrap().tags.first().unwrap().as_slice().to_vec()
    }

    fn agent() -> Keys {
        Keys::parse("0000000000000000000000000000000000000000000000000000000000000002").unwrap()
    }

    fn event(tags: &[Vec<String>]) -> Event {
        let tags = tags.iter().map(|t| Tag::parse(t.clone()).unwrap());
        let at = Timestamp::from_secs(1_713_956_400);
        EventBuilder::new(Kind::TextNote, "x").tags(tags).custom_created_at(at).sign_with_keys(&agent()).unwrap()
    }

    #[test]
    fn the_example_of_the_nip_is_good() {
        let example = Event::from_json(EXAMPLE).unwrap();
        let owner = Attestation::of_event(&example).unwrap().unwrap();
        assert_eq!(owner.to_hex(), "79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798");
        let read = Attestation::parse(&elements()).unwrap();
        assert_eq!(read.tag().as_slice(), elements());
        assert!(matches!(read.verify(&example.pubkey, 0, 1_713_956_400), Err(AttestationError::Unmet(_))));
        assert!(matches!(read.verify(&example.pubkey, 1, 1_713_957_000), Err(AttestationError::Unmet(_))));
        assert_eq!(read.verify(&Keys::generate().public_key(), 1, 0), Err(AttestationError::Signature));
    }

    #[test]
    fn what_the_nip_calls_invalid_is_refused() {
        let good = elements();
        assert_eq!(Attestation::of_event(&event(&[good.clone(), good.clone()])), Err(AttestationError::Twice));
        assert_eq!(Attestation::of_event(&event(&[])), Ok(None));
        let with = |at: usize, text: &str| {
            let mut changed = good.clone();
            text.clone_into(&mut changed[at]);
            Attestation::of_event(&event(&[changed]))
        };
        for conditions in
            ["kind=1&", "&kind=1", "kind=01", "kind=+1", "kind= 1", "kind=65536", "created_at=1", "Kind=1"]
        {
            assert_eq!(with(2, conditions), Err(AttestationError::Conditions(conditions.to_owned())));
        }
        assert_eq!(with(2, "kind=1&created_at<1713957001"), Err(AttestationError::Signature), "changed after signing");
        assert_eq!(with(1, &agent().public_key().to_hex()), Err(AttestationError::Own));
        assert_eq!(with(1, &good[1].to_uppercase()), Err(AttestationError::Owner));
        assert_eq!(with(3, "00"), Err(AttestationError::Signature));
        assert_eq!(Attestation::of_event(&event(&[good[..3].to_vec()])), Err(AttestationError::Shape));
        let mut forged = Event::from_json(EXAMPLE).unwrap();
        forged.content = "something else".to_owned();
        assert_eq!(Attestation::of_event(&forged), Err(AttestationError::Signature));
    }

    #[test]
    fn what_is_signed_here_is_good_and_nobody_attests_themselves() {
        let (owner, agent) = (Keys::generate(), agent().public_key());
        let made = Attestation::sign(&owner, &agent, "kind=0").unwrap();
        assert_eq!(made.verify(&agent, 0, 5), Ok(()));
        assert_eq!(Attestation::sign(&owner, &owner.public_key(), ""), Err(AttestationError::Own));
        assert!(Attestation::sign(&owner, &agent, "kind=x").is_err());
    }
}
