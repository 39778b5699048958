//! The words between a client and a relay (NIP-01, NIP-42), read leniently and without trust.
//!
//! The event inside an `EVENT` stays raw text until its size is known and its subscription is one of ours.

use nostr::{Event, EventId, Filter};
use serde_json::value::RawValue;

/// One message from a relay. Borrowed parts point into the frame.
#[derive(Debug)]
pub(super) enum FromRelay<'a> {
    Event {
        wire: String,
        raw: &'a str,
    },
    Ok {
        id: EventId,
        status: bool,
        message: String,
    },
    /// `finished` is true when the relay says that nothing older exists (NIP-67).
    Eose {
        wire: String,
        finished: bool,
    },
    Closed {
        wire: String,
        message: String,
    },
    Auth {
        challenge: String,
    },
    Notice(String),
    /// A message that the pool does not use (`COUNT`, `NEG-MSG`, newer ones).
    Other,
}

/// Longest text of a relay that is kept, in bytes: it goes to logs and to `status`.
const MAX_TEXT: usize = 300;

/// Longest challenge that is signed, in bytes.
const MAX_CHALLENGE: usize = 1024;

/// Parses one text frame. `None`: not a relay message at all.
pub(super) fn parse(frame: &str) -> Option<FromRelay<'_>> {
    let parts: Vec<&RawValue> = serde_json::from_str(frame).ok()?;
    let text = |at: usize| parts.get(at).and_then(|raw| serde_json::from_str::<String>(raw.get()).ok());
    match text(0)?.as_str() {
        "EVENT" => Some(FromRelay::Event { wire: text(1)?, raw: parts.get(2)?.get() }),
        "OK" => Some(FromRelay::Ok {
            id: EventId::from_hex(&text(1)?).ok()?,
            status: serde_json::from_str(parts.get(2)?.get()).ok()?,
            message: clip(text(3).unwrap_or_default()),
        }),
        "EOSE" => Some(FromRelay::Eose { wire: text(1)?, finished: text(2).as_deref() == Some("finish") }),
        "CLOSED" => Some(FromRelay::Closed { wire: text(1)?, message: clip(text(2).unwrap_or_default()) }),
        "AUTH" => text(1).filter(|c| c.len() <= MAX_CHALLENGE).map(|challenge| FromRelay::Auth { challenge }),
        "NOTICE" => Some(FromRelay::Notice(clip(text(1).unwrap_or_default()))),
        _ => Some(FromRelay::Other),
    }
}

/// Cuts a relay's text to [`MAX_TEXT`] bytes at a character's boundary.
pub(super) fn clip(mut text: String) -> String {
    if text.len() > MAX_TEXT {
        let end = (0..=MAX_TEXT).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
    }
    text
}

fn json<T: serde::Serialize>(value: &T) -> String {
    // These values have string keys only, so they always serialise.
    serde_json::to_string(value).unwrap_or_default()
}

/// `["EVENT", event]`
pub(super) fn event(event: &Event) -> String {
    json(&("EVENT", event))
}

/// `["AUTH", event]`
pub(super) fn auth(event: &Event) -> String {
    json(&("AUTH", event))
}

/// `["REQ", id, filter…]`
pub(super) fn req(wire: &str, filters: &[Filter]) -> String {
    let mut parts = vec![json(&"REQ"), json(&wire)];
    parts.extend(filters.iter().map(json));
    format!("[{}]", parts.join(","))
}

/// `["CLOSE", id]`
pub(super) fn close(wire: &str) -> String {
    json(&("CLOSE", wire))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lenient_where_relays_differ() {
        let id = "a".repeat(64);
        assert!(matches!(parse(&format!(r#"["OK","{id}",true]"#)), Some(FromRelay::Ok { status: true, .. })));
        assert!(matches!(parse(r#"["EOSE","s1","finish"]"#), Some(FromRelay::Eose { finished: true, .. })));
        assert!(matches!(parse(r#"["CLOSED","s1"]"#), Some(FromRelay::Closed { .. })));
        assert!(matches!(parse(r#"["COUNT","s1",{"count":1}]"#), Some(FromRelay::Other)));
    }

    #[test]
    fn garbage_is_no_message() {
        for bad in ["", "{}", "[]", "[1]", "nonsense", r#"["OK","zz",true,""]"#, r#"["EVENT","s"]"#, r#"["AUTH"]"#] {
            assert!(parse(bad).is_none(), "{bad}");
        }
        assert!(parse(&"[".repeat(100_000)).is_none());
    }

    #[test]
    fn a_relays_text_is_cut_at_a_character() {
        assert!(clip("ä".repeat(1000)).len() <= MAX_TEXT);
    }
}
