//! Who foca speaks of, and its bytes.
//!
//! An identity is a PeerId and a *start*: of two with one PeerId the later start is right. A node that finds
//! itself declared down goes on under a later start.
//!
//! ```text
//! identity = len:u8 ‖ PeerId ‖ start:u64 ‖ turn:u8          (big-endian, as all here)
//! member   = identity ‖ incarnation:u16 ‖ state:u8
//! header   = identity (source) ‖ incarnation:u16 ‖ identity (destination) ‖ message
//! message  = tag:u8 ‖ [number:u8] ‖ [identity]
//! ```

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use foca::{Codec, Header, Identity, Member, Message, State};
use libp2p::PeerId;
use libp2p::bytes::{Buf, BufMut};

/// The longest PeerId that is taken (an Ed25519 one has 38 bytes).
const MAX_PEER_ID: usize = 42;
/// PeerIds that others may tell us of beyond twice those we are linked with.
const SPARE_MEMBERS: usize = 64;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Who {
    pub(crate) peer: PeerId,
    /// Milliseconds, of the start of the process at first.
    pub(crate) start: u64,
    /// How often it has gone on under a later start.
    pub(crate) turn: u8,
}

impl Who {
    pub(crate) fn new(peer: PeerId, start: u64) -> Self {
        Self { peer, start, turn: 0 }
    }
}

impl Identity for Who {
    type Addr = PeerId;

    /// One second later, then two, four and so on: a node whose clock was set back catches up with what it
    /// called itself before.
    fn renew(&self) -> Option<Self> {
        let step = 1_000u64.checked_shl(u32::from(self.turn)).unwrap_or(u64::MAX);
        let start = self.start.checked_add(step)?;
        Some(Self { peer: self.peer, start, turn: self.turn.saturating_add(1).min(40) })
    }

    fn addr(&self) -> PeerId {
        self.peer
    }

    fn win_addr_conflict(&self, other: &Self) -> bool {
        (self.start, self.turn) > (other.start, other.turn)
    }
}

/// Why bytes are no message.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WireError {
    #[error("the bytes end too soon")]
    Short,
    #[error("not a PeerId")]
    PeerId,
    #[error("unknown tag {0}")]
    Tag(u8),
    #[error("more members than this federation can have")]
    TooMany,
    #[error("no room")]
    Full,
}

/// See the module. Remembers whom it was told of, to refuse a member that invents others.
#[derive(Debug, Default)]
pub(crate) struct Wire {
    known: BTreeSet<PeerId>,
    /// How many members this node is linked with.
    linked: Arc<AtomicUsize>,
}

impl Wire {
    /// Takes messages about as many members as `linked` allows.
    pub(crate) fn new(linked: Arc<AtomicUsize>) -> Self {
        Self { known: BTreeSet::new(), linked }
    }

    fn admit(&mut self, peer: PeerId) -> Result<(), WireError> {
        if self.known.len() >= 2 * self.linked.load(Ordering::Relaxed) + SPARE_MEMBERS && !self.known.contains(&peer) {
            return Err(WireError::TooMany);
        }
        self.known.insert(peer);
        Ok(())
    }

    fn get_who(&mut self, buf: &mut impl Buf) -> Result<Who, WireError> {
        let len = usize::from(get_u8(buf)?);
        if len > MAX_PEER_ID || buf.remaining() < len + 9 {
            return Err(if len > MAX_PEER_ID { WireError::PeerId } else { WireError::Short });
        }
        let mut bytes = [0; MAX_PEER_ID];
        buf.copy_to_slice(&mut bytes[..len]);
        let peer = PeerId::from_bytes(&bytes[..len]).map_err(|_| WireError::PeerId)?;
        self.admit(peer)?;
        Ok(Who { peer, start: buf.get_u64(), turn: buf.get_u8() })
    }
}

fn get_u8(buf: &mut impl Buf) -> Result<u8, WireError> {
    if buf.has_remaining() { Ok(buf.get_u8()) } else { Err(WireError::Short) }
}

fn get_u16(buf: &mut impl Buf) -> Result<u16, WireError> {
    if buf.remaining() >= 2 { Ok(buf.get_u16()) } else { Err(WireError::Short) }
}

fn put_who(to: &mut Vec<u8>, who: &Who) {
    let bytes = who.peer.to_bytes();
    to.put_u8(u8::try_from(bytes.len()).unwrap_or(u8::MAX));
    to.put_slice(&bytes);
    to.put_u64(who.start);
    to.put_u8(who.turn);
}

/// Writes all or nothing, as foca asks.
fn put_all(mut to: impl BufMut, bytes: &[u8]) -> Result<(), WireError> {
    if to.remaining_mut() < bytes.len() {
        return Err(WireError::Full);
    }
    to.put_slice(bytes);
    Ok(())
}

fn put_message(to: &mut Vec<u8>, message: &Message<Who>) {
    let (tag, number, who) = match message {
        Message::Ping(n) => (0, Some(*n), None),
        Message::Ack(n) => (1, Some(*n), None),
        Message::PingReq { target, probe_number } => (2, Some(*probe_number), Some(target)),
        Message::IndirectPing { origin, probe_number } => (3, Some(*probe_number), Some(origin)),
        Message::IndirectAck { target, probe_number } => (4, Some(*probe_number), Some(target)),
        Message::ForwardedAck { origin, probe_number } => (5, Some(*probe_number), Some(origin)),
        Message::Announce => (6, None, None),
        Message::Feed => (7, None, None),
        Message::Gossip => (8, None, None),
        Message::Broadcast => (9, None, None),
        Message::TurnUndead => (10, None, None),
    };
    to.put_u8(tag);
    to.extend(number);
    if let Some(who) = who {
        put_who(to, who);
    }
}

impl Wire {
    fn get_message(&mut self, buf: &mut impl Buf) -> Result<Message<Who>, WireError> {
        let tag = get_u8(buf)?;
        let probe_number = if tag <= 5 { get_u8(buf)? } else { 0 };
        Ok(match tag {
            0 => Message::Ping(probe_number),
            1 => Message::Ack(probe_number),
            2 => Message::PingReq { target: self.get_who(buf)?, probe_number },
            3 => Message::IndirectPing { origin: self.get_who(buf)?, probe_number },
            4 => Message::IndirectAck { target: self.get_who(buf)?, probe_number },
            5 => Message::ForwardedAck { origin: self.get_who(buf)?, probe_number },
            6 => Message::Announce,
            7 => Message::Feed,
            8 => Message::Gossip,
            9 => Message::Broadcast,
            10 => Message::TurnUndead,
            other => return Err(WireError::Tag(other)),
        })
    }
}

impl Codec<Who> for Wire {
    type Error = WireError;

    fn encode_header(&mut self, header: &Header<Who>, buf: impl BufMut) -> Result<(), WireError> {
        let mut bytes = Vec::with_capacity(128);
        put_who(&mut bytes, &header.src);
        bytes.put_u16(header.src_incarnation);
        put_who(&mut bytes, &header.dst);
        put_message(&mut bytes, &header.message);
        put_all(buf, &bytes)
    }

    fn decode_header(&mut self, mut buf: impl Buf) -> Result<Header<Who>, WireError> {
        let src = self.get_who(&mut buf)?;
        let src_incarnation = get_u16(&mut buf)?;
        let dst = self.get_who(&mut buf)?;
        let message = self.get_message(&mut buf)?;
        Ok(Header { src, src_incarnation, dst, message })
    }

    fn encode_member(&mut self, member: &Member<Who>, buf: impl BufMut) -> Result<(), WireError> {
        let mut bytes = Vec::with_capacity(64);
        put_who(&mut bytes, member.id());
        bytes.put_u16(member.incarnation());
        bytes.put_u8(match member.state() {
            State::Alive => 0,
            State::Suspect => 1,
            State::Down => 2,
        });
        put_all(buf, &bytes)
    }

    fn decode_member(&mut self, mut buf: impl Buf) -> Result<Member<Who>, WireError> {
        let who = self.get_who(&mut buf)?;
        let incarnation = get_u16(&mut buf)?;
        let state = match get_u8(&mut buf)? {
            0 => State::Alive,
            1 => State::Suspect,
            2 => State::Down,
            other => return Err(WireError::Tag(other)),
        };
        Ok(Member::new(who, incarnation, state))
    }
}

/// The sender that a message names.
pub(crate) fn source(bytes: &[u8]) -> Option<PeerId> {
    let mut wire = Wire::default();
    wire.get_who(&mut &bytes[..]).ok().map(|who| who.peer)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn who() -> Who {
        Who::new(PeerId::random(), 1_700_000_000_000)
    }

    #[test]
    fn every_message_comes_back() {
        let n = 7;
        let messages = [
            Message::Ping(n),
            Message::Ack(n),
            Message::PingReq { target: who(), probe_number: n },
            Message::IndirectPing { origin: who(), probe_number: n },
            Message::IndirectAck { target: who(), probe_number: n },
            Message::ForwardedAck { origin: who(), probe_number: n },
            Message::Announce,
            Message::Feed,
            Message::Gossip,
            Message::Broadcast,
            Message::TurnUndead,
        ];
        let mut wire = Wire::default();
        for message in messages {
            let header = Header { src: who(), src_incarnation: 3, dst: who(), message };
            let mut bytes = Vec::new();
            wire.encode_header(&header, &mut bytes).unwrap();
            assert_eq!(source(&bytes), Some(header.src.peer));
            assert_eq!(wire.decode_header(&bytes[..]).unwrap(), header);
        }
        for state in [State::Alive, State::Suspect, State::Down] {
            let member = Member::new(who(), 9, state);
            let mut bytes = Vec::new();
            wire.encode_member(&member, &mut bytes).unwrap();
            assert_eq!(wire.decode_member(&bytes[..]).unwrap(), member);
            let mut small = [0u8; 8];
            assert_eq!(wire.encode_member(&member, &mut small[..]), Err(WireError::Full));
            assert_eq!(small, [0; 8], "all or nothing");
        }
    }

    #[test]
    fn invented_members_are_refused() {
        let mut wire = Wire::new(Arc::new(AtomicUsize::new(2)));
        let tell = |wire: &mut Wire| {
            let mut bytes = Vec::new();
            wire.encode_member(&Member::new(who(), 0, State::Alive), &mut bytes).unwrap();
            wire.decode_member(&bytes[..]).map(|_| ())
        };
        assert_eq!((0..200).filter(|_| tell(&mut wire).is_ok()).count(), 4 + SPARE_MEMBERS);
    }

    #[test]
    fn a_node_whose_clock_was_set_back_catches_up() {
        let peer = PeerId::random();
        let before = Who::new(peer, 1_700_000_000_000);
        let mut now = Who::new(peer, 0);
        let mut turns = 0;
        while !now.win_addr_conflict(&before) {
            now = now.renew().unwrap();
            turns += 1;
        }
        assert!(turns < 41, "{turns}");
    }

    proptest! {
        #[test]
        fn hostile_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut wire = Wire::default();
            let _ = wire.decode_header(&bytes[..]);
            let _ = wire.decode_member(&bytes[..]);
            let _ = source(&bytes);
        }
    }
}
