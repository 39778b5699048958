//! What is answered to a NIP-90 request: the result (kind + 1000) and feedback (7000), in clear or sealed.
//!
//! An encrypted request never gets a clear word: its output, and the status of its feedback, travel inside NIP-44.
//! This module writes the events; whoever holds the key encrypts and signs.

use std::fmt;
use std::str::FromStr;

use nostr::{Event, Kind, PublicKey, Tag, Timestamp, UnsignedEvent};
use serde::{Deserialize, Serialize};

use super::{FEEDBACK_KIND, RESULT_KINDS};
use crate::Msat;
use crate::tags::{named, tag, value};

/// The largest plaintext that NIP-44 v2 seals with its two-byte length, as the `nostr` crate bounds it.
pub const MAX_SEALED_BYTES: usize = 65_408;

/// The status of a feedback event (NIP-90).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// The job goes on only after payment.
    PaymentRequired,
    /// The job is being worked on.
    Processing,
    /// The job failed; the text says why.
    Error,
    /// The job is done.
    Success,
    /// The content holds a part of the result.
    Partial,
}

impl Status {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PaymentRequired => "payment-required",
            Self::Processing => "processing",
            Self::Error => "error",
            Self::Success => "success",
            Self::Partial => "partial",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A status that NIP-90 does not know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown job status `{0}`")]
pub struct UnknownStatus(String);

impl FromStr for Status {
    type Err = UnknownStatus;

    /// Reads the word, and `payment_required`, which one client library writes.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "payment-required" | "payment_required" => Ok(Self::PaymentRequired),
            "processing" => Ok(Self::Processing),
            "error" => Ok(Self::Error),
            "success" => Ok(Self::Success),
            "partial" => Ok(Self::Partial),
            other => Err(UnknownStatus(other.to_owned())),
        }
    }
}

/// A feedback to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feedback {
    /// What it says.
    pub status: Status,
    /// Words for people, next to the status.
    pub message: Option<String>,
    /// A part of the result ([`Status::Partial`]).
    pub content: String,
    /// NIP-40 expiration, Unix seconds; partial results carry one.
    pub expires_at: Option<u64>,
}

/// The result in clear. `request` is the signed request as it came.
pub fn result(node: PublicKey, request: &Event, relay_hint: Option<&str>, output: &str, at: u64) -> UnsignedEvent {
    let mut tags = head(request, relay_hint);
    tags.push(tag(["request", &as_json(request)]));
    tags.extend(named(request, "i").map(|t| Tag::custom(nostr::TagKind::Custom("i".into()), t[1..].to_vec())));
    tags.push(tag(["amount", &Msat(0).to_string()]));
    unsigned(node, result_kind(request), tags, output, at)
}

/// The result of an encrypted request; `ciphertext` is the output under NIP-44. No clear `i`; `request` holds ciphertext only.
pub fn sealed_result(
    node: PublicKey,
    request: &Event,
    relay_hint: Option<&str>,
    ciphertext: &str,
    at: u64,
) -> UnsignedEvent {
    let mut tags = head(request, relay_hint);
    tags.push(tag(["request", &as_json(request)]));
    tags.push(tag(["amount", &Msat(0).to_string()]));
    tags.push(tag(["encrypted"]));
    unsigned(node, result_kind(request), tags, ciphertext, at)
}

/// Feedback in clear.
pub fn feedback(
    node: PublicKey,
    request: &Event,
    relay_hint: Option<&str>,
    feedback: &Feedback,
    at: u64,
) -> UnsignedEvent {
    let mut tags = head(request, relay_hint);
    tags.insert(0, status_tag(feedback));
    tags.extend(expiration(feedback));
    unsigned(node, FEEDBACK_KIND, tags, &feedback.content, at)
}

/// What an encrypted feedback's NIP-44 payload holds: a JSON array of tags with the status, and the content if there is any.
pub fn sealed_feedback_payload(feedback: &Feedback) -> String {
    let mut tags = vec![status_tag(feedback).to_vec()];
    if !feedback.content.is_empty() {
        tags.push(vec!["content".to_owned(), feedback.content.clone()]);
    }
    serde_json::to_string(&tags).unwrap_or_default()
}

/// Feedback to an encrypted request; `ciphertext` is [`sealed_feedback_payload`] under NIP-44.
pub fn sealed_feedback(
    node: PublicKey,
    request: &Event,
    relay_hint: Option<&str>,
    feedback: &Feedback,
    ciphertext: &str,
    at: u64,
) -> UnsignedEvent {
    let mut tags = head(request, relay_hint);
    tags.push(tag(["encrypted"]));
    tags.extend(expiration(feedback));
    unsigned(node, FEEDBACK_KIND, tags, ciphertext, at)
}

/// The job that a result or a feedback answers: NIP-90's `request` tag, else the first `e`.
pub fn answered_job(event: &Event) -> Option<super::JobId> {
    let kind = event.kind.as_u16();
    if kind != FEEDBACK_KIND && !RESULT_KINDS.contains(&kind) {
        return None;
    }
    value(event, "e")?.parse().ok()
}

fn head(request: &Event, relay_hint: Option<&str>) -> Vec<Tag> {
    let id = request.id.to_hex();
    let customer = request.pubkey.to_hex();
    let e = relay_hint.map_or_else(|| tag(["e", &id]), |relay| tag(["e", &id, relay]));
    vec![e, tag(["p", &customer])]
}

fn status_tag(feedback: &Feedback) -> Tag {
    feedback.message.as_ref().map_or_else(
        || tag(["status", feedback.status.as_str()]),
        |message| tag(["status", feedback.status.as_str(), message]),
    )
}

fn expiration(feedback: &Feedback) -> Option<Tag> {
    feedback.expires_at.map(|at| tag(["expiration", &at.to_string()]))
}

fn result_kind(request: &Event) -> u16 {
    request.kind.as_u16().saturating_add(1000)
}

fn as_json(event: &Event) -> String {
    nostr::JsonUtil::as_json(event)
}

fn unsigned(node: PublicKey, kind: u16, tags: Vec<Tag>, content: &str, at: u64) -> UnsignedEvent {
    UnsignedEvent::new(node, Timestamp::from_secs(at), Kind::from_u16(kind), tags, content)
}
