//! The wire: each message is one JSON array.
//!
//! | from the initiator | from the responder |
//! |---|---|
//! | `["NEG", version, session, n, space, hex]` | `["DIFF", session, n, hex]` |
//! | `["GET", version, session, n, space, [id…]]` | `["GIVE", session, n, [event…], [id that is gone…]]` |
//! | `["PUT", version, session, n, space, [event…]]` | `["OK", session, n, new, known, [[id, why]…]]` |
//! | | `["ERR", session, n, code, text]` |

use std::fmt;
use std::str::FromStr;

use nips::memory::Space;
use nostr::{Event, EventId};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use serde_json::value::RawValue;

use super::{MAX_BATCH_EVENTS, MAX_FRAME, MAX_GET_IDS, RECONCILE_BYTES, Refusal, VERSION};

/// The longest text of an `ERR` that is read.
const MAX_TEXT: usize = 256;

/// The most places of an array; a later version may have more than ours.
const MAX_PLACES: usize = 16;

/// Bytes that a reconciliation message may have beyond its limit: negentropy ends a range that it began.
const RECONCILE_SLACK: usize = 4_096;

/// Why bytes are no message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// Larger than [`MAX_FRAME`].
    #[error("a message of {0} bytes")]
    TooLarge(usize),
    /// Not one of the arrays.
    #[error("not a message of sync")]
    Shape,
    /// A place does not hold what it should.
    #[error("not a good {0}")]
    Malformed(&'static str),
    /// More of something than one message may hold.
    #[error("too many {0}")]
    TooMany(&'static str),
    /// A version that is not spoken here. The request can be answered all the same.
    #[error("version {version} of sync is not spoken here")]
    Version {
        /// What the peer speaks.
        version: u32,
        /// Its session.
        session: SessionId,
        /// The number of its request.
        number: u32,
    },
}

/// One session of an initiator: 64 random bits, so that a late answer to an earlier session is none to this one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(pub u64);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionId({self})")
    }
}

impl FromStr for SessionId {
    type Err = MessageError;

    fn from_str(text: &str) -> Result<Self, MessageError> {
        let wrong = MessageError::Malformed("session");
        let is_plain = text.len() == 16 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if !is_plain {
            return Err(wrong);
        }
        u64::from_str_radix(text, 16).map(Self).map_err(|_| wrong)
    }
}

/// What an initiator wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Its session.
    pub session: SessionId,
    /// Counts the requests of the session from 1; the same when it is sent again.
    pub number: u32,
    /// The space that the session is about.
    pub space: Space,
    /// What is wanted.
    pub body: RequestBody,
}

/// The kinds of request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestBody {
    /// `NEG`: a message of negentropy.
    Reconcile(Vec<u8>),
    /// `GET`: send these events, at most [`MAX_GET_IDS`].
    Get(Vec<EventId>),
    /// `PUT`: take these events, at most [`MAX_BATCH_EVENTS`].
    Put(Vec<Event>),
}

/// The answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The session of the request.
    pub session: SessionId,
    /// The number of the request.
    pub number: u32,
    /// The answer.
    pub body: ReplyBody,
}

/// The kinds of answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplyBody {
    /// `DIFF`: the message of negentropy that follows.
    Reconciled(Vec<u8>),
    /// `GIVE`: what fitted of what was asked for. Ids in neither list are to be asked for again.
    Given {
        /// Events, causes before effects as far as the responder knows.
        events: Vec<Event>,
        /// Ids that it does not have (any more).
        gone: Vec<EventId>,
    },
    /// `OK`: what became of the events of a `PUT`.
    Stored {
        /// How many were new.
        new: u32,
        /// How many were there.
        known: u32,
        /// Which were refused, and why.
        refused: Vec<(EventId, Refusal)>,
    },
    /// `ERR`: the session is over.
    Failed {
        /// Why, for programs.
        code: ErrorCode,
        /// Why, for people.
        text: String,
    },
}

/// Why a responder ends a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorCode {
    /// `version`: it speaks another version.
    Version,
    /// `refused`: the space is none of the peer's business, or is none at all; the answer is the same.
    Refused,
    /// `malformed`: the request has no sense.
    Malformed,
    /// `failed`: its store failed; later.
    Failed,
}

impl ErrorCode {
    /// Its word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Version => "version",
            Self::Refused => "refused",
            Self::Malformed => "malformed",
            Self::Failed => "failed",
        }
    }
}

impl FromStr for ErrorCode {
    type Err = MessageError;

    fn from_str(word: &str) -> Result<Self, MessageError> {
        let all = [Self::Version, Self::Refused, Self::Malformed, Self::Failed];
        all.into_iter().find(|code| code.as_str() == word).ok_or(MessageError::Malformed("code"))
    }
}

/// A message of either role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// From an initiator.
    Request(Request),
    /// From a responder.
    Reply(Reply),
}

impl Message {
    /// Reads a message.
    ///
    /// # Errors
    /// When it is too large, not of this shape, or holds more than it may.
    pub fn parse(bytes: &[u8]) -> Result<Self, MessageError> {
        if bytes.len() > MAX_FRAME {
            return Err(MessageError::TooLarge(bytes.len()));
        }
        let places: Vec<&RawValue> = serde_json::from_slice(bytes).map_err(|_| MessageError::Shape)?;
        if places.len() > MAX_PLACES {
            return Err(MessageError::Shape);
        }
        let (word, rest) = places.split_first().ok_or(MessageError::Shape)?;
        match read::<String>(word, "word")?.as_str() {
            "NEG" => request(rest, |body| Ok(RequestBody::Reconcile(bytes_of(body)?))),
            "GET" => request(rest, |body| Ok(RequestBody::Get(list(body, MAX_GET_IDS, "ids")?))),
            "PUT" => request(rest, |body| Ok(RequestBody::Put(list(body, MAX_BATCH_EVENTS, "events")?))),
            "DIFF" => reply(rest, |[body]: [&RawValue; 1]| Ok(ReplyBody::Reconciled(bytes_of(body)?))),
            "GIVE" => reply(rest, |[events, gone]: [&RawValue; 2]| {
                let events = list(events, MAX_BATCH_EVENTS, "events")?;
                Ok(ReplyBody::Given { events, gone: list(gone, MAX_GET_IDS, "ids")? })
            }),
            "OK" => reply(rest, |[new, known, refused]: [&RawValue; 3]| {
                let (new, known) = (read(new, "count")?, read(known, "count")?);
                let refused: Vec<(EventId, String)> = list(refused, MAX_BATCH_EVENTS, "refusals")?;
                let refused = refused.into_iter().map(|(id, why)| Ok((id, why.parse()?)));
                Ok(ReplyBody::Stored { new, known, refused: refused.collect::<Result<_, MessageError>>()? })
            }),
            "ERR" => reply(rest, |[code, text]: [&RawValue; 2]| {
                let text: String = read(text, "text")?;
                let text = text[..text.floor_char_boundary(MAX_TEXT)].to_owned();
                Ok(ReplyBody::Failed { code: read::<String>(code, "code")?.parse()?, text })
            }),
            _ => Err(MessageError::Shape),
        }
    }

    /// The message as it travels.
    pub fn to_json(&self) -> String {
        match self {
            Self::Request(request) => request.to_json(),
            Self::Reply(reply) => reply.to_json(),
        }
    }
}

impl Request {
    /// The message as it travels.
    pub fn to_json(&self) -> String {
        let Self { session, number, space, body } = self;
        let array = |word: &str, body: String| format!(r#"["{word}",{VERSION},"{session}",{number},"{space}",{body}]"#);
        match body {
            RequestBody::Reconcile(bytes) => array("NEG", format!("\"{}\"", hex::encode(bytes))),
            RequestBody::Get(ids) => array("GET", text_of(ids)),
            RequestBody::Put(events) => array("PUT", text_of(events)),
        }
    }
}

impl Reply {
    /// The message as it travels.
    pub fn to_json(&self) -> String {
        let Self { session, number, body } = self;
        let array = |word: &str, body: String| format!(r#"["{word}","{session}",{number},{body}]"#);
        match body {
            ReplyBody::Reconciled(bytes) => array("DIFF", format!("\"{}\"", hex::encode(bytes))),
            ReplyBody::Given { events, gone } => array("GIVE", format!("{},{}", text_of(events), text_of(gone))),
            ReplyBody::Stored { new, known, refused } => {
                let refused: Vec<_> = refused.iter().map(|(id, why)| (id, why.as_str())).collect();
                array("OK", format!("{new},{known},{}", text_of(&refused)))
            }
            ReplyBody::Failed { code, text } => array("ERR", format!("\"{}\",{}", code.as_str(), json!(text))),
        }
    }
}

fn request(
    places: &[&RawValue],
    body: impl FnOnce(&RawValue) -> Result<RequestBody, MessageError>,
) -> Result<Message, MessageError> {
    // The version first, and nothing else before it: what follows may be otherwise in another one.
    let [version, session, number, rest @ ..] = places else { return Err(MessageError::Shape) };
    let (session, number) = address(session, number)?;
    let version: u32 = read(version, "version")?;
    if version != VERSION {
        return Err(MessageError::Version { version, session, number });
    }
    let [space, content] = rest else { return Err(MessageError::Shape) };
    let space = read(space, "space")?;
    Ok(Message::Request(Request { session, number, space, body: body(content)? }))
}

fn reply<const N: usize>(
    places: &[&RawValue],
    body: impl FnOnce([&RawValue; N]) -> Result<ReplyBody, MessageError>,
) -> Result<Message, MessageError> {
    let [session, number, rest @ ..] = places else { return Err(MessageError::Shape) };
    let (session, number) = address(session, number)?;
    let rest = rest.try_into().map_err(|_| MessageError::Shape)?;
    Ok(Message::Reply(Reply { session, number, body: body(rest)? }))
}

fn address(session: &RawValue, number: &RawValue) -> Result<(SessionId, u32), MessageError> {
    Ok((read::<String>(session, "session")?.parse()?, read(number, "number")?))
}

fn read<T: DeserializeOwned>(value: &RawValue, what: &'static str) -> Result<T, MessageError> {
    serde_json::from_str(value.get()).map_err(|_| MessageError::Malformed(what))
}

fn list<T: DeserializeOwned>(value: &RawValue, max: usize, what: &'static str) -> Result<Vec<T>, MessageError> {
    let list: Vec<T> = read(value, what)?;
    if list.len() > max { Err(MessageError::TooMany(what)) } else { Ok(list) }
}

fn bytes_of(value: &RawValue) -> Result<Vec<u8>, MessageError> {
    let bytes = hex::decode(read::<String>(value, "hex")?).map_err(|_| MessageError::Malformed("hex"))?;
    let max = usize::try_from(RECONCILE_BYTES).unwrap_or(usize::MAX) + RECONCILE_SLACK;
    if bytes.len() > max { Err(MessageError::TooLarge(bytes.len())) } else { Ok(bytes) }
}

/// Ids and events have no maps with odd keys and no floats: serialising them cannot fail.
fn text_of<T: Serialize>(items: &[T]) -> String {
    serde_json::to_string(items).unwrap_or_else(|_| "[]".to_owned())
}
