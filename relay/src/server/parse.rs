//! Reading what clients send (NIP-01, NIP-42, NIP-45, NIP-77), in one pass and strictly.

use std::borrow::Cow;

use nostr::secp256k1::schnorr::Signature;
use nostr::{Event, EventId, Kind, PublicKey, Tag, Timestamp};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny, SeqAccess, Visitor};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::config::Limits;
use crate::store::{Note, hex32, is_lower_hex};

/// A message of a client.
pub(crate) enum ClientMessage<'a> {
    Event(RawEvent<'a>),
    Req(String, Vec<Value>),
    Count(String, Vec<Value>),
    Close(String),
    Auth(RawEvent<'a>),
    NegOpen(String, Value, String),
    NegMsg(String, String),
    NegClose(String),
    Unknown(String),
}

/// An event as it came, not yet checked.
#[derive(Deserialize)]
pub(crate) struct RawEvent<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    pubkey: Cow<'a, str>,
    created_at: u64,
    kind: u16,
    tags: Vec<Vec<String>>,
    content: String,
    #[serde(borrow)]
    sig: Cow<'a, str>,
}

struct MessageVisitor;

impl<'de> Visitor<'de> for MessageVisitor {
    type Value = ClientMessage<'de>;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("an array that begins with the kind of message")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let verb: Cow<'de, str> = part(&mut seq, "the kind of message")?;
        let message = match verb.as_ref() {
            "EVENT" => ClientMessage::Event(part(&mut seq, "an event")?),
            "AUTH" => ClientMessage::Auth(part(&mut seq, "an event")?),
            "REQ" => ClientMessage::Req(part(&mut seq, "a subscription id")?, rest(&mut seq)?),
            "COUNT" => ClientMessage::Count(part(&mut seq, "a subscription id")?, rest(&mut seq)?),
            "CLOSE" => ClientMessage::Close(part(&mut seq, "a subscription id")?),
            "NEG-OPEN" => ClientMessage::NegOpen(
                part(&mut seq, "a subscription id")?,
                part(&mut seq, "a filter")?,
                part(&mut seq, "a first message")?,
            ),
            "NEG-MSG" => ClientMessage::NegMsg(part(&mut seq, "a subscription id")?, part(&mut seq, "a message")?),
            "NEG-CLOSE" => ClientMessage::NegClose(part(&mut seq, "a subscription id")?),
            other => ClientMessage::Unknown(other.chars().take(32).collect()),
        };
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(message)
    }
}

fn part<'de, A: SeqAccess<'de>, T: Deserialize<'de>>(seq: &mut A, what: &str) -> Result<T, A::Error> {
    seq.next_element()?.ok_or_else(|| A::Error::custom(format!("{what} is missing")))
}

fn rest<'de, A: SeqAccess<'de>>(seq: &mut A) -> Result<Vec<Value>, A::Error> {
    let mut out = Vec::new();
    while let Some(value) = seq.next_element()? {
        out.push(value);
    }
    Ok(out)
}

/// Why a message could not be read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// An event whose id could be read, to be answered with `OK`.
    Event(String, String),
    /// Anything else, to be answered with `NOTICE`.
    Message(String),
}

/// Reads one message.
///
/// # Errors
///
/// [`Unreadable`], with a reason for the client.
pub(crate) fn message(text: &str) -> Result<ClientMessage<'_>, Unreadable> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let parsed = reader.deserialize_seq(MessageVisitor).and_then(|message| reader.end().map(|()| message));
    parsed.map_err(|error| {
        let reason = reason_of(&error);
        match id_of(text) {
            Some(id) => Unreadable::Event(id, reason),
            None => Unreadable::Message(reason),
        }
    })
}

/// Words of a JSON error, without the client's own text in it.
fn reason_of(error: &serde_json::Error) -> String {
    let mut text = error.to_string();
    let end = text.floor_char_boundary(200);
    text.truncate(end);
    text
}

/// Finds the id in an EVENT or AUTH message that is valid JSON but no valid event.
fn id_of(text: &str) -> Option<String> {
    let value: Value = serde_json::from_str(text).ok()?;
    let verb = value.get(0)?.as_str()?;
    let id = value.get(1)?.get("id")?.as_str()?;
    (matches!(verb, "EVENT" | "AUTH") && id.len() <= 64).then(|| id.to_owned())
}

impl RawEvent<'_> {
    /// The id as it came, at most 64 bytes of it, for an answer.
    pub(crate) fn claimed_id(&self) -> &str {
        &self.id[..self.id.floor_char_boundary(64)]
    }

    /// Checks form, sizes, id and signature.
    ///
    /// # Errors
    ///
    /// Says in words for the client what is wrong.
    pub(crate) fn verify(self, limits: &Limits) -> Result<Note, String> {
        let id = hex32(&self.id).ok_or("id is not 64 lower-case hex digits")?;
        let pubkey = hex32(&self.pubkey).ok_or("pubkey is not 64 lower-case hex digits")?;
        let mut sig = [0; 64];
        if !is_lower_hex(&self.sig) || hex::decode_to_slice(self.sig.as_bytes(), &mut sig).is_err() {
            return Err("sig is not 128 lower-case hex digits".to_owned());
        }
        if self.content.len() > limits.content_bytes {
            return Err(format!("content is longer than {} bytes", limits.content_bytes));
        }
        if self.tags.len() > limits.event_tags {
            return Err(format!("more than {} tags", limits.event_tags));
        }
        if self.tags.iter().any(Vec::is_empty) {
            return Err("a tag is empty".to_owned());
        }
        let tags = serde_json::to_string(&self.tags).map_err(|error| error.to_string())?;
        let content = serde_json::to_string(&self.content).map_err(|error| error.to_string())?;
        let (hex_pubkey, created_at, kind) = (&self.pubkey, self.created_at, self.kind);
        // Control characters are hashed escaped, as every client does, although NIP-01 says otherwise.
        let hashed = format!("[0,\"{hex_pubkey}\",{created_at},{kind},{tags},{content}]");
        if Sha256::digest(hashed.as_bytes()).as_slice() != id {
            return Err("id is not the hash of the event".to_owned());
        }
        let json = format!(
            "{{\"id\":\"{}\",\"pubkey\":\"{hex_pubkey}\",\"created_at\":{created_at},\"kind\":{kind},\
             \"tags\":{tags},\"content\":{content},\"sig\":\"{}\"}}",
            self.id, self.sig,
        );
        let sig = Signature::from_slice(&sig).map_err(|_| "sig is no signature")?;
        let tags: Vec<Tag> = self.tags.into_iter().filter_map(|tag| Tag::parse(tag).ok()).collect();
        let event = Event::new(
            EventId::from_byte_array(id),
            PublicKey::from_byte_array(pubkey),
            Timestamp::from_secs(created_at),
            Kind::from(kind),
            tags,
            self.content,
            sig,
        );
        if !event.verify_signature() {
            return Err("the signature is wrong".to_owned());
        }
        Ok(Note { event: event.into(), json: json.into() })
    }
}

#[cfg(test)]
mod tests {
    use nostr::{EventBuilder, JsonUtil, Keys};

    use super::*;

    fn verify(json: &str) -> Result<Note, String> {
        let text = format!("[\"EVENT\",{json}]");
        match message(&text) {
            Ok(ClientMessage::Event(raw)) => raw.verify(&Limits::default()),
            Ok(_) => Err("other".to_owned()),
            Err(error) => Err(format!("{error:?}")),
        }
    }

    fn sample() -> Event {
        let builder = EventBuilder::text_note("line\n\u{1}\u{7f}\"\\ ü 🦀").tag(Tag::hashtag("a\tb"));
        builder.sign_with_keys(&Keys::generate()).unwrap()
    }

    #[test]
    fn the_canonical_json_is_the_library_s() {
        let event = sample();
        assert_eq!(&*verify(&event.as_json()).unwrap().json, event.as_json());
        let other_order: Value = serde_json::from_str(&event.as_json()).unwrap();
        assert_eq!(&*verify(&other_order.to_string()).unwrap().json, event.as_json());
    }

    #[test]
    fn hex_is_lower_case_and_the_id_is_the_hash() {
        let event = sample();
        let json = event.as_json();
        let id = event.id.to_hex();
        assert!(verify(&json.replace(&id, &id.to_uppercase())).unwrap_err().contains("lower-case"));
        assert!(verify(&json.replace("line", "lime")).unwrap_err().contains("hash"));
        let sig = event.sig.to_string();
        let flipped = if sig.ends_with('0') { "1" } else { "0" };
        let other = format!("{}{flipped}", &sig[..127]);
        assert!(verify(&json.replace(&sig, &other)).unwrap_err().contains("signature"));
    }

    #[test]
    fn an_answer_names_the_id_when_it_can_be_read() {
        let id = "a".repeat(64);
        let text = format!("[\"EVENT\",{{\"id\":\"{id}\",\"kind\":70000}}]");
        assert!(matches!(message(&text), Err(Unreadable::Event(found, _)) if found == id));
        assert!(matches!(message("[\"EVENT\",7]"), Err(Unreadable::Message(_))));
        assert!(matches!(message("{"), Err(Unreadable::Message(_))));
        assert!(matches!(message(&"[".repeat(100_000)), Err(Unreadable::Message(_))));
    }

    proptest::proptest! {
        #[test]
        fn no_text_is_too_strange(
            text in "\\PC*",
            verb in "(EVENT|REQ|COUNT|AUTH|CLOSE|NEG-OPEN|NEG-MSG|NEG-CLOSE)",
            rest in "[\\[\\]{}\":,a-f0-9 \\\\]{0,60}",
        ) {
            let _ = message(&text);
            if let Ok(ClientMessage::Event(raw)) = message(&format!("[\"{verb}\",{rest}]")) {
                let _ = raw.verify(&Limits::default());
            }
        }
    }
}
