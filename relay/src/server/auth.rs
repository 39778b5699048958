//! Checking a client's proof of its key (NIP-42).

use std::net::{IpAddr, SocketAddr};

use nostr::Event;
use url::{Host, Url};

use crate::store::same_place;

/// How far an authentication event's time may be off, in seconds.
const TOLERANCE_S: u64 = 600;
/// The kind of an authentication event.
pub(crate) const AUTHENTICATION: u16 = 22_242;

/// Where a connection came in, as far as the relay itself knows. A Host header is never asked: the client writes it.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// The address under which the relay is known, when the owner gave one.
    pub(crate) public_url: Option<Url>,
    /// The address at which this TCP connection came in.
    pub(crate) local: Option<SocketAddr>,
    /// Whether the client is on this machine and not behind a proxy.
    pub(crate) loopback: bool,
}

/// Checks an authentication event whose signature has been verified.
///
/// # Errors
///
/// Says in words for the client what is wrong.
pub(crate) fn check(event: &Event, challenge: &str, place: &Place, now: u64) -> Result<(), &'static str> {
    let value = |name: &str| {
        let tag = event.tags.iter().map(nostr::Tag::as_slice).find(|tag| tag[0] == name);
        tag.and_then(|tag| tag.get(1)).map(String::as_str)
    };
    if event.kind.as_u16() != AUTHENTICATION {
        return Err("an AUTH event is of kind 22242");
    }
    if event.created_at.as_secs().abs_diff(now) > TOLERANCE_S {
        return Err("created_at is not within ten minutes of now");
    }
    if value("challenge") != Some(challenge) {
        return Err("the challenge is not this connection's");
    }
    match value("relay").and_then(|relay| Url::parse(relay).ok()) {
        Some(url) if place.is_named_by(&url) => Ok(()),
        _ => Err("the relay tag names another relay"),
    }
}

impl Place {
    fn is_named_by(&self, url: &Url) -> bool {
        if !matches!(url.scheme(), "ws" | "wss") {
            return false;
        }
        if self.public_url.as_ref().is_some_and(|public| same_place(public, url)) {
            return true;
        }
        let Some(local) = self.local else { return false };
        if url.port_or_known_default() != Some(local.port()) {
            return false;
        }
        let ip = match url.host() {
            Some(Host::Ipv4(ip)) => IpAddr::V4(ip),
            Some(Host::Ipv6(ip)) => IpAddr::V6(ip).to_canonical(),
            Some(Host::Domain(name)) => return self.loopback && name.eq_ignore_ascii_case("localhost"),
            None => return false,
        };
        ip == local.ip().to_canonical() || (self.loopback && ip.is_loopback())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(public: Option<&str>, local: &str, loopback: bool, url: &str) -> bool {
        let place = Place {
            public_url: public.map(|url| Url::parse(url).unwrap()),
            local: Some(local.parse().unwrap()),
            loopback,
        };
        place.is_named_by(&Url::parse(url).unwrap())
    }

    #[test]
    fn a_relay_is_named_by_what_it_knows_of_itself() {
        assert!(named(Some("wss://relay.example"), "10.0.0.1:7777", false, "wss://Relay.Example/"));
        assert!(named(Some("wss://relay.example"), "10.0.0.1:7777", false, "wss://relay.example:443"));
        assert!(!named(Some("wss://relay.example"), "10.0.0.1:7777", false, "wss://relay.example.evil/"));
        assert!(!named(Some("wss://relay.example/a"), "10.0.0.1:7777", false, "wss://relay.example/b"));
        assert!(named(None, "10.0.0.1:7777", false, "ws://10.0.0.1:7777"));
        assert!(named(None, "[::ffff:10.0.0.1]:7777", false, "ws://10.0.0.1:7777/"));
        assert!(!named(None, "10.0.0.1:7777", false, "ws://10.0.0.1:7778"));
        assert!(named(None, "127.0.0.1:7777", true, "ws://localhost:7777"));
        assert!(named(None, "127.0.0.1:7777", true, "ws://[::1]:7777"));
        assert!(!named(None, "10.0.0.1:7777", false, "ws://localhost:7777"));
        assert!(!named(None, "10.0.0.1:7777", false, "https://10.0.0.1:7777"));
    }
}
