//! What is written into the records, and what is believed of those of others.

use std::collections::BTreeSet;
use std::net::IpAddr;

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol as Part;
use mdns_sd::{ResolvedService, ServiceInfo};

/// The service (RFC 6763 §7: `_udp` for everything but TCP).
pub const SERVICE: &str = "_timmy._udp.local.";
/// The version of the TXT record.
const TXT_VERSION: &str = "1";
/// The longest TXT record, written and read, in bytes: with all else it fits one packet (RFC 6763 §6.2).
pub(crate) const MAX_TXT: usize = 400;
/// The longest blind tag in bytes.
pub(crate) const MAX_TAG: usize = 32;
/// Addresses taken of one instance.
const MAX_ADDRS: usize = 8;

/// What this node says of itself.
#[derive(Clone, Debug)]
pub(crate) struct Own {
    /// Random; the instance and the host name.
    pub(crate) label: String,
    pub(crate) quic_port: u16,
    pub(crate) tcp_port: Option<u16>,
    pub(crate) tag: Vec<u8>,
}

impl Own {
    pub(crate) fn fullname(&self) -> String {
        format!("{}.{SERVICE}", self.label)
    }

    pub(crate) fn service(&self) -> Result<ServiceInfo, mdns_sd::Error> {
        let mut txt = vec![("txtvers".to_owned(), TXT_VERSION.to_owned())];
        txt.extend(self.tcp_port.map(|port| ("tcp".to_owned(), port.to_string())));
        txt.push(("t".to_owned(), hex::encode(&self.tag)));
        let host = format!("{}.local.", self.label);
        ServiceInfo::new(SERVICE, &self.label, &host, "", self.quic_port, &txt[..]).map(ServiceInfo::enable_addr_auto)
    }
}

/// What another node says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Heard {
    pub(crate) instance: String,
    pub(crate) addrs: Vec<Multiaddr>,
    pub(crate) tag: Vec<u8>,
}

/// True for an address that can be put into a multiaddr and dialed. A link-local IPv6 address needs an interface,
/// which the transports do not take.
fn is_dialable(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !ip.is_unspecified() && !ip.is_multicast() && !ip.is_broadcast(),
        IpAddr::V6(ip) => !ip.is_unspecified() && !ip.is_multicast() && !ip.is_unicast_link_local(),
    }
}

/// Reads a resolved service; `None` when it is not ours to read.
pub(crate) fn heard(service: &ResolvedService) -> Option<Heard> {
    let txt: usize = service.txt_properties.iter().map(|p| p.key().len() + p.val().map_or(0, <[u8]>::len) + 2).sum();
    if txt > MAX_TXT || service.get_property_val_str("txtvers") != Some(TXT_VERSION) {
        return None;
    }
    let instance = service.fullname.strip_suffix(SERVICE)?.trim_end_matches('.').to_owned();
    let tag = hex::decode(service.get_property_val_str("t").unwrap_or_default()).ok().filter(|t| t.len() <= MAX_TAG)?;
    let tcp = service.get_property_val_str("tcp").and_then(|port| port.parse().ok());
    let ips: BTreeSet<IpAddr> =
        service.addresses.iter().map(mdns_sd::ScopedIp::to_ip_addr).filter(is_dialable).collect();
    let addrs = addrs(&ips, service.port, tcp);
    (!addrs.is_empty()).then_some(Heard { instance, addrs, tag })
}

/// QUIC addresses before TCP ones; loopback only when there is nothing else (two nodes on a machine without a LAN).
fn addrs(ips: &BTreeSet<IpAddr>, quic: u16, tcp: Option<u16>) -> Vec<Multiaddr> {
    let only_loopback = ips.iter().all(IpAddr::is_loopback);
    let ips: Vec<Part<'_>> = ips
        .iter()
        .filter(|ip| only_loopback || !ip.is_loopback())
        .take(MAX_ADDRS / 2)
        .map(|ip| Part::from(*ip))
        .collect();
    let quic = ips
        .iter()
        .filter(|_| quic != 0)
        .map(|ip| Multiaddr::empty().with(ip.clone()).with(Part::Udp(quic)).with(Part::QuicV1));
    let tcp = tcp
        .filter(|port| *port != 0)
        .into_iter()
        .flat_map(|port| ips.iter().map(move |ip| Multiaddr::empty().with(ip.clone()).with(Part::Tcp(port))));
    quic.chain(tcp).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(tag: Vec<u8>) -> Own {
        Own { label: "0011223344556677".into(), quic_port: 4_001, tcp_port: Some(4_002), tag }
    }

    /// What another node would resolve, its addresses given by hand.
    fn resolved(service: ServiceInfo, ips: &[&str]) -> ResolvedService {
        let mut resolved = service.as_resolved_service();
        resolved.addresses = ips.iter().map(|ip| ip.parse::<IpAddr>().unwrap().into()).collect();
        resolved
    }

    #[test]
    fn what_is_written_is_read_and_fits() {
        let own = own(vec![0xab; MAX_TAG]);
        let service = own.service().unwrap();
        let txt: usize =
            service.get_properties().iter().map(|p| p.key().len() + p.val().map_or(0, <[u8]>::len) + 2).sum();
        assert!(txt <= MAX_TXT, "{txt}");
        let heard = heard(&resolved(service, &["192.168.1.5", "fd00::5", "fe80::1", "127.0.0.1"])).unwrap();
        assert_eq!((heard.instance.as_str(), heard.tag.len()), ("0011223344556677", MAX_TAG));
        let addrs: Vec<String> = heard.addrs.iter().map(ToString::to_string).collect();
        assert_eq!(
            addrs,
            [
                "/ip4/192.168.1.5/udp/4001/quic-v1",
                "/ip6/fd00::5/udp/4001/quic-v1",
                "/ip4/192.168.1.5/tcp/4002",
                "/ip6/fd00::5/tcp/4002"
            ]
        );
    }

    #[test]
    fn nothing_names_the_node() {
        let service = own(vec![1, 2, 3]).service().unwrap();
        let keys: BTreeSet<&str> = service.get_properties().iter().map(mdns_sd::TxtProperty::key).collect();
        assert_eq!(keys, BTreeSet::from(["t", "tcp", "txtvers"]));
        assert_eq!(service.get_hostname(), "0011223344556677.local.");
    }

    #[test]
    fn strange_records_are_not_read() {
        let make = |txt: &[(&str, String)]| {
            let service = ServiceInfo::new(SERVICE, "x", "x.local.", "", 1, txt).unwrap();
            heard(&resolved(service, &["192.168.1.5"]))
        };
        let version = ("txtvers", "1".to_owned());
        assert!(make(std::slice::from_ref(&version)).is_some(), "a tag may be missing");
        assert!(make(&[]).is_none(), "no version");
        assert!(make(&[version.clone(), ("t", "zz".into())]).is_none(), "no tag");
        assert!(make(&[version.clone(), ("t", "00".repeat(MAX_TAG + 1))]).is_none(), "too long a tag");
        let stuffed: Vec<(String, String)> = (0..4).map(|n| (format!("k{n}"), "v".repeat(120))).collect();
        let stuffed: Vec<(&str, String)> =
            stuffed.iter().map(|(k, v)| (k.as_str(), v.clone())).chain([version.clone()]).collect();
        assert!(make(&stuffed).is_none(), "too much");
        let odd_port = make(&[version.clone(), ("tcp", "99999".into())]).unwrap();
        assert_eq!(odd_port.addrs.len(), 1, "QUIC is left");
        let service = ServiceInfo::new(SERVICE, "x", "x.local.", "", 1, &[version][..]).unwrap();
        let nowhere = resolved(service, &["0.0.0.0", "224.0.0.1", "255.255.255.255", "fe80::1", "::"]);
        assert!(heard(&nowhere).is_none());
    }
}
