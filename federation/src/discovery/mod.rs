//! Sister nodes on the LAN, found by multicast DNS (RFC 6762, 6763).
//!
//! One service, `_timmy._udp.local.`: the QUIC port in SRV, and in TXT nothing that names anyone: a version, the
//! TCP port and a *blind tag* that only the federation can tell from noise. Instance and host name are random for
//! each start. All of it is a hint: who someone is, the transport and the first stream tell. What is heard from
//! the LAN is bounded, and [`Candidates`] says how many of the unknown are dialed.
//!
//! The record: `spec/federation-network.md`, "Discovery".
//!
//! ```text
//!   mdns-sd daemon (a thread) ──resolved / removed──► driver ──DiscoveryEvent──► owner ──Candidates──► Net::dial
//!                              ◄─register, browse───┘
//! ```
//!
//! The library drops a subscription that was read too slowly: the driver then browses again. It comes back by itself
//! when a link flaps (0.21.7; its issue 370 is open, `a_flapped_link_is_found_again_by_newcomers_too` minds it).

mod candidates;
mod driver;
mod interfaces;
mod record;
mod session;

pub use candidates::{Candidate, Candidates};
pub use driver::{Discovery, DiscoveryError, DiscoveryEvent, DiscoveryOptions};
pub use interfaces::Interfaces;
pub use record::SERVICE;

/// The strings of the TXT record that a node with these ports and this tag announces.
#[cfg(test)]
pub(crate) fn txt_of(quic_port: u16, tcp_port: Option<u16>, tag: Vec<u8>) -> Vec<String> {
    let own = record::Own { label: "x".into(), quic_port, tcp_port, tag };
    let service = own.service().unwrap();
    service.get_properties().iter().map(|p| format!("{}={}", p.key(), p.val_str())).collect()
}
