//! The examples of `spec/federation-network.md`, made from fixed keys and read back. `UPDATE_SPEC=1` rewrites them.

use foca::{Codec, Header, Message};

use super::identity::{Who, Wire};
use super::swim::SWIM;

const SPEC: &str = "../spec/federation-network.md";

fn peer(seed: u8) -> libp2p::PeerId {
    libp2p::identity::Keypair::ed25519_from_bytes([seed; 32]).unwrap().public().to_peer_id()
}

/// The text between the fences after an example's mark, and the spec around it.
fn example<'a>(spec: &'a str, name: &str) -> (&'a str, &'a str, &'a str) {
    let mark = format!("<!-- example: {name} -->\n```text\n");
    let at = spec.find(&mark).expect("the example is marked") + mark.len();
    let end = at + spec[at..].find("```").expect("it ends");
    (&spec[..at], &spec[at..end], &spec[end..])
}

#[test]
fn the_ping_in_the_spec_is_what_is_sent() {
    let header = Header {
        src: Who::new(peer(1), 1_800_000_000_000),
        src_incarnation: 0,
        dst: Who::new(peer(2), 1_800_000_001_000),
        message: Message::Ping(7),
    };
    let mut frame = vec![SWIM];
    Wire::default().encode_header(&header, &mut frame).unwrap();
    let len = u32::try_from(frame.len()).unwrap();
    let made = format!("{}\n", hex::encode([&len.to_be_bytes()[..], &frame].concat()));
    let spec = std::fs::read_to_string(SPEC).unwrap();
    let (before, shown, after) = example(&spec, "ping");
    if std::env::var_os("UPDATE_SPEC").is_some() {
        std::fs::write(SPEC, format!("{before}{made}{after}")).unwrap();
        return;
    }
    assert_eq!(shown, made);
    let bytes = hex::decode(shown.trim()).unwrap();
    assert_eq!(usize::try_from(u32::from_be_bytes(bytes[..4].try_into().unwrap())).unwrap(), bytes.len() - 4);
    assert_eq!(Wire::default().decode_header(&bytes[5..]).unwrap(), header);
}

#[test]
fn the_record_in_the_spec_is_what_is_announced() {
    let tag = (0..16u8).map(|n| n * 0x11).collect();
    let txt = crate::discovery::txt_of(4_001, Some(4_002), tag);
    let spec = std::fs::read_to_string(SPEC).unwrap();
    let mut shown: Vec<&str> = example(&spec, "txt").1.lines().collect();
    let mut made: Vec<&str> = txt.iter().map(String::as_str).collect();
    shown.sort_unstable();
    made.sort_unstable();
    assert_eq!(shown, made);
}
