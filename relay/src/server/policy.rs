//! Which verified events are taken from clients, and how answers are worded (NIP-01 prefixes).

use std::collections::BTreeSet;

use nostr::{Event, PublicKey};
use serde_json::Value;

use super::auth::AUTHENTICATION;
use super::config::{AuthPolicy, ServerConfig, WritePolicy};
use crate::store::{Class, PublishOutcome, PutResult, is_wrap, recipients};

/// What a decision about an event depends on beside the event.
pub(crate) struct Circumstances<'a> {
    pub(crate) config: &'a ServerConfig,
    /// The owner and who else is allowed.
    pub(crate) people: &'a BTreeSet<PublicKey>,
    /// The keys that the connection has shown.
    pub(crate) keys: &'a BTreeSet<PublicKey>,
    /// Whether there is room for strangers' events.
    pub(crate) strangers: bool,
    /// Unix seconds.
    pub(crate) now: u64,
}

/// Decides about a verified event.
///
/// # Errors
///
/// The refusal, worded for the `OK` message.
pub(crate) fn admit(event: &Event, with: &Circumstances<'_>) -> Result<Class, String> {
    let kind = event.kind.as_u16();
    if kind == AUTHENTICATION {
        return Err("invalid: this kind goes into an AUTH message".to_owned());
    }
    if event.created_at.as_secs() > with.now.saturating_add(with.config.limits.future_s) {
        return Err(format!("invalid: created_at is more than {} s ahead", with.config.limits.future_s));
    }
    if with.config.auth == AuthPolicy::All && with.keys.is_empty() {
        return Err("auth-required: this relay takes events of authenticated clients".to_owned());
    }
    check_protection(event, with.keys)?;
    let ours = |key: &PublicKey| *key == with.config.node || with.people.contains(key);
    if is_wrap(kind) {
        let to_us = recipients(event).into_iter().any(|key| ours(&PublicKey::from_byte_array(key)));
        return if to_us { Ok(Class::Mail) } else { Err("blocked: no recipient lives here".to_owned()) };
    }
    if event.pubkey == with.config.node {
        return Ok(Class::Own);
    }
    if with.people.contains(&event.pubkey) {
        return Ok(Class::People);
    }
    if with.config.write == WritePolicy::Members && !matches!(kind, 5 | 62 | 5_000..=5_999) {
        return Err("blocked: only members write here".to_owned());
    }
    if !with.strangers {
        return Err("error: there is no room now; try again later".to_owned());
    }
    Ok(Class::Stranger)
}

/// Refuses protected events of others, and reposts that carry one (NIP-70).
fn check_protection(event: &Event, keys: &BTreeSet<PublicKey>) -> Result<(), String> {
    let protected = |tag: &[String]| tag.first().is_some_and(|name| name == "-");
    if event.tags.iter().any(|tag| protected(tag.as_slice())) && !keys.contains(&event.pubkey) {
        let prefix = if keys.is_empty() { "auth-required" } else { "restricted" };
        return Err(format!("{prefix}: a protected event is taken from its author only"));
    }
    if matches!(event.kind.as_u16(), 6 | 16) && embeds_protected(&event.content) {
        return Err("blocked: it carries a protected event".to_owned());
    }
    Ok(())
}

fn embeds_protected(content: &str) -> bool {
    let Ok(inner) = serde_json::from_str::<Value>(content) else { return false };
    let Some(tags) = inner.get("tags").and_then(Value::as_array) else { return false };
    tags.iter().any(|tag| tag.get(0).and_then(Value::as_str) == Some("-"))
}

/// Words the answer to an event that was given to the store: whether it counts as taken, and why.
pub(crate) fn answer(result: &PutResult) -> (bool, String) {
    let (taken, reason) = match result {
        Ok(PublishOutcome::Stored(_) | PublishOutcome::Broadcast) => (true, ""),
        Ok(PublishOutcome::Duplicate) => (true, "duplicate: already have this event"),
        Ok(PublishOutcome::Replaced) => (false, "replaced: have newer event"),
        Ok(PublishOutcome::Deleted) => (false, "blocked: its author deleted this event"),
        Ok(PublishOutcome::Vanished) => (false, "blocked: its author asked to vanish"),
        Ok(PublishOutcome::Expired) => (false, "invalid: the event has expired"),
        Ok(PublishOutcome::MailboxFull) => (false, "restricted: the recipient's mailbox is full"),
        Ok(PublishOutcome::OtherRelays) => (false, "invalid: the request names other relays"),
        Err(_) => (false, "error: the event could not be stored; try again later"),
    };
    (taken, reason.to_owned())
}
