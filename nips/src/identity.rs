//! The documents that say who a node is: profile (kind 0), relay lists (10002, 10050), external identities (10011) and the
//! NIP-05 answer.

use std::collections::BTreeMap;

use nostr::{Event, Kind, PublicKey, RelayUrl, Tag, Timestamp, UnsignedEvent};
use serde::{Deserialize, Serialize};
use url::Url;

use crate::attestation::Attestation;
use crate::guard;
use crate::tags::{named, tag};

/// Kind of the relay list (NIP-65).
pub const RELAY_LIST_KIND: u16 = 10_002;
/// Kind of the list of relays for direct messages (NIP-17).
pub const DM_RELAYS_KIND: u16 = 10_050;
/// Kind of external identities (NIP-39).
pub const EXTERNAL_IDENTITIES_KIND: u16 = 10_011;

/// Kind of the soul's history (NIP-78), with `d` = [`SOUL_ID`].
pub const SOUL_KIND: u16 = 30_078;
/// The `d` tag of the soul's history.
pub const SOUL_ID: &str = "timmy/soul";

/// Which soul a node had from when on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SoulVersion {
    /// SHA-256 of its text, hex.
    pub sha256: String,
    /// Unix seconds.
    pub since: u64,
}

/// What a node publishes about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The node's passport.
    pub node: PublicKey,
    /// Kind 0 `name` and the local part of NIP-05.
    pub name: String,
    /// Kind 0 `about`.
    pub about: String,
    /// NIP-05 domain; without it no `nip05` is claimed.
    pub domain: Option<String>,
    /// Relays that others are told of: `public_url` and the outside relays.
    pub relays: Vec<RelayUrl>,
    /// NIP-39 entries.
    pub external: Vec<ExternalIdentity>,
    /// NIP-OA: the owner says that this is their node.
    #[serde(skip)]
    pub attestation: Option<Attestation>,
    /// The souls that it had, oldest first; the last is in force.
    #[serde(default)]
    pub souls: Vec<SoulVersion>,
}

/// One entry of NIP-39: `platform:name` and its proof.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExternalIdentity {
    /// `platform:identity`.
    pub claim: String,
    /// Where the platform shows the npub.
    pub proof: String,
}

/// A text is not of the form `platform:name:proof`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not of the form platform:name:proof (NIP-39)")]
pub struct InvalidExternalIdentity(String);

impl std::str::FromStr for ExternalIdentity {
    type Err = InvalidExternalIdentity;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts: Vec<&str> = text.splitn(3, ':').collect();
        match parts[..] {
            [platform, name, proof] if !platform.is_empty() && !name.is_empty() && !proof.is_empty() => {
                Ok(Self { claim: format!("{}:{name}", platform.to_ascii_lowercase()), proof: proof.to_owned() })
            }
            _ => Err(InvalidExternalIdentity(text.to_owned())),
        }
    }
}

impl Identity {
    /// `name@domain`, when a domain is claimed.
    pub fn nip05(&self) -> Option<String> {
        self.domain.as_ref().map(|domain| format!("{}@{domain}", self.name))
    }

    /// Every document as unsigned events dated `at` (Unix seconds): 0, 10002, 10050, 10011 when there are identities, 30078 when there is a
    /// soul.
    pub fn documents(&self, at: u64) -> Vec<UnsignedEvent> {
        let mut events = vec![self.profile(at), self.relay_list(at), self.dm_relays(at)];
        if !self.external.is_empty() {
            events.push(self.external_identities(at));
        }
        events.extend((!self.souls.is_empty()).then(|| self.soul_history(at)));
        events
    }

    fn profile(&self, at: u64) -> UnsignedEvent {
        let mut profile =
            serde_json::json!({ "name": self.name, "display_name": self.name, "about": self.about, "bot": true });
        if let Some(nip05) = self.nip05() {
            profile["nip05"] = nip05.into();
        }
        if let Some(soul) = self.souls.last() {
            profile["soul"] = serde_json::json!({ "sha256": soul.sha256, "since": soul.since });
        }
        // One that has ended, or is of another key, is worse than none.
        let holds = |attestation: &&Attestation| attestation.verify(&self.node, 0, at).is_ok();
        let attested = self.attestation.iter().filter(holds).map(Attestation::tag).collect();
        self.unsigned(0, attested, profile.to_string(), at)
    }

    fn relay_list(&self, at: u64) -> UnsignedEvent {
        let tags = self.relays.iter().map(|r| tag(["r", r.as_str_without_trailing_slash()])).collect();
        self.unsigned(RELAY_LIST_KIND, tags, String::new(), at)
    }

    fn dm_relays(&self, at: u64) -> UnsignedEvent {
        let tags = self.relays.iter().map(|r| tag(["relay", r.as_str_without_trailing_slash()])).collect();
        self.unsigned(DM_RELAYS_KIND, tags, String::new(), at)
    }

    fn external_identities(&self, at: u64) -> UnsignedEvent {
        let tags = self.external.iter().map(|e| tag(["i", &e.claim, &e.proof])).collect();
        self.unsigned(EXTERNAL_IDENTITIES_KIND, tags, String::new(), at)
    }

    /// Which values the node had, and since when: signed as a whole, so that nobody can say that it always had these.
    fn soul_history(&self, at: u64) -> UnsignedEvent {
        let content = serde_json::json!({ "souls": self.souls });
        self.unsigned(SOUL_KIND, vec![tag(["d", SOUL_ID])], content.to_string(), at)
    }

    fn unsigned(&self, kind: u16, tags: Vec<Tag>, content: String, at: u64) -> UnsignedEvent {
        UnsignedEvent::new(self.node, Timestamp::from_secs(at), Kind::from_u16(kind), tags, content)
    }
}

/// The NIP-05 answer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nip05Document {
    /// Name → public key, lower-case hex.
    pub names: BTreeMap<String, String>,
    /// Public key → its relays.
    pub relays: BTreeMap<String, Vec<String>>,
}

impl Nip05Document {
    /// What `/.well-known/nostr.json?name=…` answers: the node under its own name and under `_` (NIP-05); nothing for others.
    pub fn answer(identity: &Identity, name: Option<&str>) -> Self {
        let known = [identity.name.to_ascii_lowercase(), "_".to_owned()];
        let key = identity.node.to_hex();
        let asked = name.map(str::to_ascii_lowercase);
        let names: BTreeMap<_, _> =
            known.into_iter().filter(|n| asked.as_ref().is_none_or(|a| a == n)).map(|n| (n, key.clone())).collect();
        let relays: Vec<String> =
            identity.relays.iter().map(|r| r.as_str_without_trailing_slash().to_owned()).collect();
        let relays = if names.is_empty() || relays.is_empty() { BTreeMap::new() } else { [(key, relays)].into() };
        Self { names, relays }
    }
}

/// A name that NIP-05 allows as local part: `a-z0-9-_.`, not empty.
pub fn is_local_part(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b))
}

/// The relays that others are told of. A private address never leaves for outside relays: a private `public_url` is left out
/// while there are outside relays, and `local` stands in only when there is nobody outside to tell.
pub fn published_relays(public_url: Option<&Url>, outside: &[RelayUrl], local: &RelayUrl) -> Vec<RelayUrl> {
    let public = public_url
        .filter(|url| outside.is_empty() || guard::check_url(url.as_str(), &["ws", "wss"]).is_ok())
        .and_then(|url| RelayUrl::parse(url.as_str()).ok());
    let mut relays: Vec<RelayUrl> = public.into_iter().collect();
    for relay in outside {
        if !relays.contains(relay) {
            relays.push(relay.clone());
        }
    }
    if relays.is_empty() {
        relays.push(local.clone());
    }
    relays
}

/// The relays that a 10050 names (`relay` tags, and the `r` tags that one framework writes), at most `max`.
pub fn dm_relays(event: &Event, max: usize) -> Vec<RelayUrl> {
    let urls = named(event, "relay").chain(named(event, "r"));
    urls.filter_map(|t| RelayUrl::parse(t.get(1)?).ok()).take(max).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        Identity {
            node: PublicKey::from_hex("79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798").unwrap(),
            name: "timmy".into(),
            about: "an agent".into(),
            domain: Some("example.org".into()),
            relays: vec![RelayUrl::parse("wss://relay.example").unwrap()],
            external: vec!["GitHub:tim:abc".parse().unwrap()],
            attestation: None,
            souls: vec![],
        }
    }

    #[test]
    fn documents_hold_what_the_nips_ask() {
        let documents = identity().documents(7);
        let kinds: Vec<u16> = documents.iter().map(|d| d.kind.as_u16()).collect();
        assert_eq!(kinds, [0, 10_002, 10_050, 10_011]);
        let profile: serde_json::Value = serde_json::from_str(&documents[0].content).unwrap();
        assert_eq!((&profile["nip05"], &profile["bot"]), (&"timmy@example.org".into(), &true.into()));
        assert_eq!(documents[2].tags.iter().next().unwrap().as_slice(), ["relay", "wss://relay.example"]);
        assert_eq!(documents[3].tags.iter().next().unwrap().as_slice(), ["i", "github:tim", "abc"]);
    }

    #[test]
    fn the_soul_is_named_in_the_profile_and_its_history_is_signed_as_a_whole() {
        let soul = |since| SoulVersion { sha256: format!("{since:064}"), since };
        let documents = Identity { souls: vec![soul(1), soul(5)], ..identity() }.documents(7);
        let profile: serde_json::Value = serde_json::from_str(&documents[0].content).unwrap();
        assert_eq!(profile["soul"], serde_json::json!({ "sha256": format!("{:064}", 5), "since": 5 }));
        let history = documents.last().unwrap();
        assert_eq!((history.kind.as_u16(), history.tags.identifier()), (SOUL_KIND, Some(SOUL_ID)));
        let content: serde_json::Value = serde_json::from_str(&history.content).unwrap();
        assert_eq!(content["souls"].as_array().unwrap().len(), 2);
    }

    #[test]
    fn nip05_answers_for_its_own_names_only() {
        let key = identity().node.to_hex();
        let answer = Nip05Document::answer(&identity(), Some("Timmy"));
        assert_eq!(answer.names, [("timmy".to_owned(), key.clone())].into());
        assert_eq!(answer.relays[&key], ["wss://relay.example"]);
        assert_eq!(Nip05Document::answer(&identity(), Some("bob")), Nip05Document::default());
        assert_eq!(Nip05Document::answer(&identity(), None).names.len(), 2);
    }

    #[test]
    fn a_private_address_is_not_told_outside() {
        let local = RelayUrl::parse("ws://127.0.0.1:7777").unwrap();
        let outside = [RelayUrl::parse("wss://relay.example").unwrap()];
        let private = Url::parse("ws://192.168.1.7:7777").unwrap();
        let public = Url::parse("wss://me.example").unwrap();
        assert_eq!(published_relays(None, &[], &local), std::slice::from_ref(&local));
        assert_eq!(published_relays(Some(&private), &outside, &local), outside);
        assert_eq!(published_relays(Some(&private), &[], &local), [RelayUrl::parse(private.as_str()).unwrap()]);
        assert_eq!(published_relays(Some(&public), &outside, &local).len(), 2);
    }

    #[test]
    fn local_parts() {
        assert!(is_local_part("timmy-2.a_b"));
        assert!(!is_local_part("Timmy") && !is_local_part("") && !is_local_part("a b"));
    }
}
