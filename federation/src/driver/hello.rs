//! One handshake on one stream.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use nips::PeerCard;
use nostr::PublicKey;

use crate::handshake::{self, Effect, Handshake, Input, KnownCards, Me, Peer, Refusal, World};
use crate::keyring::{Keyring, SealedKeys};
use crate::membership::Log;
use crate::net::{Frames, PeerId, PeerStream};

/// How long one frame may take; the machine bounds the whole.
const FRAME: Duration = Duration::from_millis(handshake::TIMEOUT_MS);

/// What a handshake looks things up in, as it was when the handshake began.
#[derive(Clone)]
pub(super) struct Then {
    pub me: Me,
    pub log: Log,
    pub keyring: Keyring,
    pub sealed: SealedKeys,
    pub cards: Arc<BTreeMap<PublicKey, PeerCard>>,
}

impl KnownCards for Then {
    fn newest(&self, passport: &PublicKey) -> Option<PeerCard> {
        self.cards.get(passport).cloned()
    }
}

/// How a handshake ended.
pub(super) struct Ended {
    pub peer_id: PeerId,
    /// What was learnt on the way, in order; nothing to send.
    pub learnt: Vec<Effect>,
    /// Who it is, or why it is nobody.
    pub peer: Result<Box<Peer>, Refusal>,
}

/// Which side this node is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Dialer,
    Listener,
}

/// Runs a handshake to its end. `clock`: monotonic ms and Unix s.
pub(super) async fn run(
    stream: PeerStream,
    peer_id: PeerId,
    side: Side,
    then: Then,
    clock: impl Fn() -> (u64, u64) + Send,
) -> Ended {
    let mut random = [0; 64];
    random[..32].copy_from_slice(&rand::random::<[u8; 32]>());
    random[32..].copy_from_slice(&rand::random::<[u8; 32]>());
    let (mut machine, first) = match side {
        Side::Dialer => Handshake::dial(peer_id, random, clock().0),
        Side::Listener => (Handshake::listen(peer_id, random, clock().0), vec![]),
    };
    let mut frames = Frames::new(stream, handshake::MAX_FRAME, FRAME);
    let mut ended = Ended { peer_id, learnt: vec![], peer: Err(Refusal::Timeout) };
    let mut effects = first;
    loop {
        for effect in effects {
            match effect {
                Effect::Send(frame) => {
                    if frames.send(&frame).await.is_err() && ended.peer.is_err() {
                        return ended;
                    }
                }
                Effect::Done(peer) => ended.peer = Ok(peer),
                Effect::Refused(refusal) => ended.peer = Err(refusal),
                learnt @ (Effect::Entries(_)
                | Effect::Keys(_)
                | Effect::Card(_)
                | Effect::SealTo { .. }
                | Effect::Twin(_)) => ended.learnt.push(learnt),
            }
        }
        if machine.is_over() {
            // What was sent last must arrive before the stream ends.
            let _ = frames.close().await;
            let _ = frames.next().await;
            return ended;
        }
        frames.set_max_read(machine.max_frame());
        let frame = frames.next().await;
        let world = World { me: &then.me, log: &then.log, keyring: &then.keyring, sealed: &then.sealed, cards: &then };
        let (now_ms, now_s) = clock();
        effects = match frame {
            Ok(Some(frame)) => machine.handle(&Input::Frame(&frame), &world, now_ms, now_s),
            Ok(None) | Err(_) => return ended,
        };
    }
}
