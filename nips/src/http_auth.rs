//! Who signed an HTTP request (NIP-98, kind 27235).

use nostr::{Event, JsonUtil, PublicKey};
use sha2::{Digest, Sha256};

use crate::tags::value;

/// Kind of an HTTP authorisation event.
pub const HTTP_AUTH_KIND: u16 = 27_235;
/// How far the event's date may be from ours, seconds.
pub const WINDOW_S: u64 = 60;

/// Why a request is not let in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// No `Authorization: Nostr <base64 event>`.
    #[error("the Authorization header is not `Nostr <base64 of an event>`")]
    Header,
    /// Wrong kind, id or signature.
    #[error("the authorisation event is not a validly signed kind 27235")]
    Event,
    /// Too old or ahead.
    #[error("the authorisation event is not from this minute; check the clocks")]
    Time,
    /// For another URL or method.
    #[error("the authorisation event is for another URL or method")]
    Target,
    /// The body is not the one that was signed for.
    #[error("the authorisation event's payload hash does not match the body")]
    Payload,
}

/// Checks a decoded authorisation event (`json`) against the request: absolute `url`, `method`, `body`, at `now` (Unix seconds).
/// A request with a body must carry its hash. Returns who signed it; the caller keeps event ids for [`WINDOW_S`] to refuse replays.
///
/// # Errors
/// Says which check failed.
pub fn verify(
    json: &str,
    url: &str,
    method: &str,
    body: &[u8],
    now: u64,
) -> Result<(PublicKey, nostr::EventId), AuthError> {
    let event = Event::from_json(json).map_err(|_| AuthError::Event)?;
    if event.kind.as_u16() != HTTP_AUTH_KIND || event.verify().is_err() {
        return Err(AuthError::Event);
    }
    if event.created_at.as_secs().abs_diff(now) > WINDOW_S {
        return Err(AuthError::Time);
    }
    let same_method = value(&event, "method").is_some_and(|m| m.eq_ignore_ascii_case(method));
    if value(&event, "u") != Some(url) || !same_method {
        return Err(AuthError::Target);
    }
    let hash = hex::encode(Sha256::digest(body));
    if !body.is_empty() && value(&event, "payload").is_none_or(|p| !p.eq_ignore_ascii_case(&hash)) {
        return Err(AuthError::Payload);
    }
    Ok((event.pubkey, event.id))
}
