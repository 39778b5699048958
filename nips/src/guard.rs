//! The address guard (DESIGN §4): which addresses a stranger may make this node talk to.
//!
//! Whoever resolves a name must ask [`is_public`] about *each resolved address it is about to dial*, not about the name:
//! DNS may answer differently the second time. Whoever follows redirects asks again on each hop.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use url::{Host, Url};

/// Why a URL that a stranger named is not dialled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The text is not an absolute URL.
    #[error("not a valid URL: {0}")]
    Malformed(String),
    /// A scheme other than those asked for.
    #[error("the scheme {0}: is not allowed here")]
    Scheme(String),
    /// User name or password inside the URL.
    #[error("a URL with a user name or password in it is not allowed")]
    Credentials,
    /// The host is, or resolves to, an address that is not public.
    #[error("{0} is not a public address")]
    NotPublic(String),
}

/// True when `ip` is a globally routable unicast address (IANA special-purpose registries, RFC 6890 and successors).
/// IPv4 inside IPv6 (mapped, compatible, NAT64, 6to4, Teredo) is unwrapped or refused.
pub fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let special = a == 0
        || ip.is_private()
        || ip.is_loopback()
        || ip.is_link_local()
        || ip.is_broadcast()
        || ip.is_documentation()
        || ip.is_multicast()
        || a >= 240
        || (a == 100 && (64..128).contains(&b)) // carrier-grade NAT
        || (a == 192 && b == 0 && c == 0) // IETF protocol assignments
        || (a == 192 && b == 88 && c == 99) // 6to4 relay anycast
        || (a == 198 && (b == 18 || b == 19)); // benchmarking
    !special
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    if let Some(v4) = embedded_v4(ip) {
        return is_public_v4(v4);
    }
    let [first, second, ..] = ip.segments();
    let global_unicast = first & 0xe000 == 0x2000;
    // 2001::/23 holds IETF protocol assignments, Teredo and ORCHID; 2001:db8::/32 and 3fff::/20 are documentation.
    let assignments = first == 0x2001 && (second < 0x0200 || second == 0x0db8);
    let documentation = first == 0x3fff && second < 0x1000;
    global_unicast && !assignments && !documentation
}

/// The IPv4 address that an IPv6 one really leads to, where it carries one.
fn embedded_v4(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let s = ip.segments();
    let last_two = |hi: u16, lo: u16| Ipv4Addr::from((u32::from(hi) << 16) | u32::from(lo));
    match s {
        // ::ffff:a.b.c.d (mapped), ::a.b.c.d (compatible, also :: and ::1), ::ffff:0:a.b.c.d (translated)
        [0, 0, 0, 0, 0, 0xffff | 0, hi, lo] | [0, 0, 0, 0, 0xffff, 0, hi, lo] => Some(last_two(hi, lo)),
        // 64:ff9b::/96 (NAT64)
        [0x64, 0xff9b, 0, 0, 0, 0, hi, lo] => Some(last_two(hi, lo)),
        // 2002::/16 (6to4)
        [0x2002, hi, lo, ..] => Some(last_two(hi, lo)),
        _ => None,
    }
}

/// Parses `text` and refuses what no resolver needs to be asked about: other schemes, credentials, literal addresses that
/// are not public, and names that mean this machine (`localhost`, `*.localhost`, `*.local`, `*.internal`).
pub fn check_url(text: &str, schemes: &[&str]) -> Result<Url, Refusal> {
    let url = Url::parse(text.trim()).map_err(|e| Refusal::Malformed(e.to_string()))?;
    if !schemes.contains(&url.scheme()) {
        return Err(Refusal::Scheme(url.scheme().to_owned()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Refusal::Credentials);
    }
    let public = match url.host() {
        Some(Host::Ipv4(ip)) => is_public_v4(ip),
        Some(Host::Ipv6(ip)) => is_public_v6(ip),
        Some(Host::Domain(name)) => is_public_name(name),
        None => return Err(Refusal::Malformed("no host".to_owned())),
    };
    if public { Ok(url) } else { Err(Refusal::NotPublic(url.host_str().unwrap_or_default().to_owned())) }
}

fn is_public_name(name: &str) -> bool {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    let reserved = ["localhost", "local", "internal", "lan", "home.arpa"];
    !reserved.iter().any(|r| name == *r || name.ends_with(&format!(".{r}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_loopback_and_embedded_addresses_are_refused() {
        for ip in [
            "127.0.0.1",
            "127.9.9.9",
            "10.0.0.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.169.254",
            "0.0.0.0",
            "0.1.2.3",
            "100.64.0.1",
            "100.127.255.255",
            "192.0.0.8",
            "198.18.0.1",
            "198.19.1.1",
            "192.0.2.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::127.0.0.1",
            "::ffff:0:127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b::a00:1",
            "2002:7f00:1::",
            "2002:c0a8:101::1",
            "2001::1",
            "2001:db8::1",
            "fe80::1",
            "fec0::1",
            "fc00::1",
            "fd12:3456::1",
            "ff02::1",
            "100::1",
            "3fff::1",
            "64:ff9b:1::1",
        ] {
            assert!(!is_public(ip.parse().unwrap()), "{ip} must be refused");
        }
    }

    #[test]
    fn public_addresses_pass() {
        for ip in [
            "1.1.1.1",
            "8.8.8.8",
            "172.32.0.1",
            "100.128.0.1",
            "192.0.1.1",
            "2606:4700::1111",
            "2a00:1450::1",
            "::ffff:8.8.8.8",
            "64:ff9b::808:808",
        ] {
            assert!(is_public(ip.parse().unwrap()), "{ip} must pass");
        }
    }

    #[test]
    fn urls_are_judged_before_any_lookup() {
        let http = ["http", "https"];
        assert!(check_url("https://example.com/a?b#c", &http).is_ok());
        assert_eq!(check_url("file:///etc/passwd", &http), Err(Refusal::Scheme("file".into())));
        assert_eq!(check_url("https://a:b@example.com", &http), Err(Refusal::Credentials));
        for bad in [
            "http://localhost/",
            "http://LOCALHOST./",
            "http://a.localhost",
            "http://printer.local",
            "http://metadata.google.internal",
            "http://127.1/",
            "http://2130706433/",
            "http://0x7f.1/",
            "http://[::1]/",
            "http://[::ffff:7f00:1]/",
            "http://017700000001/",
        ] {
            assert!(matches!(check_url(bad, &http), Err(Refusal::NotPublic(_))), "{bad} must be refused");
        }
        assert!(matches!(check_url("nonsense", &http), Err(Refusal::Malformed(_))));
    }
}
