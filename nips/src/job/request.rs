//! What a NIP-90 request asks for. Parsing is lenient where clients differ (unknown tags, `prompt` inputs, a missing input
//! type, inputs in the content) and firm where a wrong guess would do harm (counts, sizes, kinds).

use nostr::{Event, PublicKey, RelayUrl};
use serde::{Deserialize, Serialize};

use super::{JobId, REQUEST_KINDS};
use crate::Msat;
use crate::tags::{named, value};

/// Inputs a request may carry.
pub const MAX_INPUTS: usize = 16;
/// Parameters a request may carry.
pub const MAX_PARAMS: usize = 64;
/// Bytes of inputs and parameters together.
pub const MAX_INPUT_BYTES: usize = 256 * 1024;
/// Relays that a request may name for its answer; more are ignored (DESIGN §4).
pub const MAX_RELAYS: usize = 5;

/// Where an input's data comes from (NIP-90 `i` tag).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data", rename_all = "snake_case")]
pub enum Source {
    /// The data itself.
    Text(String),
    /// A URL whose content is the data.
    Url(String),
    /// An event, by id, with the relay that may have it.
    Event {
        /// Id of the event, hex.
        id: String,
        /// Relay hint.
        relay: Option<String>,
    },
    /// The result of another job, by that job's id (chaining).
    Job {
        /// Id of the other job's request, hex.
        id: String,
        /// Relay hint.
        relay: Option<String>,
    },
}

/// How an encrypted request was encrypted. Answers are always NIP-44.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cipher {
    /// NIP-04, read only.
    Nip04,
    /// NIP-44.
    Nip44,
}

/// A job request, parsed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobRequest {
    /// Event id of the request.
    pub id: JobId,
    /// Who asks.
    pub customer: PublicKey,
    /// The request's kind, 5000–5999.
    pub kind: u16,
    /// Unix seconds.
    pub created_at: u64,
    /// What to work on, in the order given.
    pub inputs: Vec<Source>,
    /// Wanted MIME type of the output.
    pub output: Option<String>,
    /// `param` tags, name and value; a name may repeat.
    pub params: Vec<(String, String)>,
    /// The most that the customer would pay.
    pub bid: Option<Msat>,
    /// Where the customer wants the answer; at most [`MAX_RELAYS`].
    pub relays: Vec<RelayUrl>,
    /// Service providers that the customer names.
    pub providers: Vec<PublicKey>,
    /// Set when the request was encrypted: then every answer is.
    pub cipher: Option<Cipher>,
    /// NIP-40 expiration, Unix seconds.
    pub expires_at: Option<u64>,
}

/// Why a request cannot be taken; the text goes to the customer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Not a kind of NIP-90.
    #[error("kind {0} is not a job request (5000–5999)")]
    Kind(u16),
    /// An `i` tag without data.
    #[error("an `i` tag has no data; write [\"i\", DATA, \"text\"|\"url\"|\"event\"|\"job\"]")]
    EmptyInput,
    /// An `i` tag of an unknown type.
    #[error("input type `{0}` is not known; use text, url, event or job")]
    InputType(String),
    /// An event or job input that is no event id.
    #[error("input `{0}` is not an event id (64 hexadecimal digits)")]
    InputId(String),
    /// Too many inputs or parameters, or too much of them.
    #[error("too much input: at most {MAX_INPUTS} inputs, {MAX_PARAMS} params and {MAX_INPUT_BYTES} bytes in all")]
    TooLarge,
    /// A `bid` that is no number of millisats.
    #[error("bid `{0}` is not a whole number of millisats")]
    Bid(String),
    /// The decrypted content is not a JSON array of tags.
    #[error("the decrypted content is not a JSON array of tags")]
    SealedTags,
    /// The content could not be decrypted.
    #[error("the content could not be decrypted; encrypt the tags with NIP-44 to the service provider's key")]
    Undecryptable,
}

/// True when the request says that its parameters are encrypted.
pub fn is_encrypted(event: &Event) -> bool {
    named(event, "encrypted").next().is_some()
}

/// The service providers that the request names in clear.
pub fn providers(event: &Event) -> Vec<PublicKey> {
    named(event, "p").filter_map(|t| PublicKey::from_hex(t.get(1)?).ok()).take(MAX_INPUTS).collect()
}

/// The cipher that encrypted `content`: NIP-04 payloads carry `?iv=`.
pub fn cipher_of(content: &str) -> Cipher {
    if content.contains("?iv=") { Cipher::Nip04 } else { Cipher::Nip44 }
}

impl JobRequest {
    /// Parses a request in clear.
    ///
    /// # Errors
    /// Says what is wrong in words for the customer.
    pub fn parse(event: &Event) -> Result<Self, ParseError> {
        Self::build(event, Vec::new(), None)
    }

    /// Parses an encrypted request from its event and the decrypted content, a JSON array of tags.
    ///
    /// # Errors
    /// As [`JobRequest::parse`], and when `plaintext` is no array of tags.
    pub fn parse_sealed(event: &Event, plaintext: &str, cipher: Cipher) -> Result<Self, ParseError> {
        let sealed: Vec<Vec<String>> = serde_json::from_str(plaintext).map_err(|_| ParseError::SealedTags)?;
        Self::build(event, sealed, Some(cipher))
    }

    fn build(event: &Event, sealed: Vec<Vec<String>>, cipher: Option<Cipher>) -> Result<Self, ParseError> {
        let kind = event.kind.as_u16();
        if !REQUEST_KINDS.contains(&kind) {
            return Err(ParseError::Kind(kind));
        }
        let clear = event.tags.iter().map(|t| t.as_slice().to_vec());
        let tags: Vec<Vec<String>> = clear.chain(sealed).collect();
        let mut request = Self {
            id: event.id.into(),
            customer: event.pubkey,
            kind,
            created_at: event.created_at.as_secs(),
            inputs: Vec::new(),
            output: None,
            params: Vec::new(),
            bid: None,
            relays: Vec::new(),
            providers: Vec::new(),
            cipher,
            expires_at: value(event, "expiration").and_then(|v| v.parse().ok()),
        };
        for tag in &tags {
            request.read_tag(tag)?;
        }
        if request.inputs.is_empty() && cipher.is_none() && !event.content.trim().is_empty() {
            // Some clients put the prompt into the content.
            request.inputs.push(Source::Text(event.content.clone()));
        }
        request.check_size()?;
        Ok(request)
    }

    fn read_tag(&mut self, tag: &[String]) -> Result<(), ParseError> {
        let Some((name, rest)) = tag.split_first() else {
            return Ok(());
        };
        let first = rest.first().map(String::as_str);
        match (name.as_str(), first) {
            ("i", data) => self.inputs.push(source(data, rest)?),
            ("param", Some(key)) => {
                let values = rest.get(1..).unwrap_or_default().join(" ");
                self.params.push((key.to_owned(), values));
            }
            ("output", Some(mime)) => self.output = Some(mime.to_owned()),
            ("bid", Some(text)) => self.bid = Some(text.parse().map_err(|_| ParseError::Bid(text.to_owned()))?),
            ("relays", Some(_)) => {
                let room = MAX_RELAYS.saturating_sub(self.relays.len());
                self.relays.extend(rest.iter().filter_map(|r| RelayUrl::parse(r).ok()).take(room));
            }
            ("p", Some(key)) => self.providers.extend(PublicKey::from_hex(key)),
            _ => {}
        }
        if self.inputs.len() > MAX_INPUTS || self.params.len() > MAX_PARAMS {
            return Err(ParseError::TooLarge);
        }
        Ok(())
    }

    fn check_size(&self) -> Result<(), ParseError> {
        let inputs: usize = self.inputs.iter().map(Source::len).sum();
        let params: usize = self.params.iter().map(|(k, v)| k.len() + v.len()).sum();
        if inputs + params > MAX_INPUT_BYTES { Err(ParseError::TooLarge) } else { Ok(()) }
    }

    /// True when the request names `node` as a provider.
    pub fn names(&self, node: &PublicKey) -> bool {
        self.providers.contains(node)
    }

    /// The first value of parameter `name`; `-` and `_` are the same (clients differ).
    pub fn param(&self, name: &str) -> Option<&str> {
        let plain = |s: &str| s.replace('_', "-").to_ascii_lowercase();
        let wanted = plain(name);
        self.params.iter().find(|(k, _)| plain(k) == wanted).map(|(_, v)| v.as_str())
    }
}

impl Source {
    fn len(&self) -> usize {
        match self {
            Self::Text(s) | Self::Url(s) => s.len(),
            Self::Event { id, .. } | Self::Job { id, .. } => id.len(),
        }
    }
}

fn source(data: Option<&str>, rest: &[String]) -> Result<Source, ParseError> {
    let data = data.filter(|d| !d.trim().is_empty()).ok_or(ParseError::EmptyInput)?;
    let relay = rest.get(2).filter(|r| !r.is_empty()).cloned();
    let id = || {
        let id = data.to_ascii_lowercase();
        id.parse::<JobId>().map(|_| id).map_err(|_| ParseError::InputId(data.chars().take(80).collect()))
    };
    match rest.get(1).map(|t| t.to_ascii_lowercase()).as_deref() {
        None | Some("" | "text" | "prompt") => Ok(Source::Text(data.to_owned())),
        Some("url") => Ok(Source::Url(data.trim().to_owned())),
        Some("event") => Ok(Source::Event { id: id()?, relay }),
        Some("job") => Ok(Source::Job { id: id()?, relay }),
        Some(other) => Err(ParseError::InputType(other.chars().take(40).collect())),
    }
}
