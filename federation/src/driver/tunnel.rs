//! A stream for the memory where only relays reach: its bytes travel in letters, each side's in order.

use std::collections::BTreeMap;

use nips::federation::{MAX_PIECE, Piece};
use nostr::{Event, PublicKey};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::core::{Back, Core};
use super::host::Linked;
use crate::letters::{Item, Urgency};
use crate::membership::Standing;

/// Bytes between the memory and its letters.
const BUFFER: usize = 64 * 1024;
/// Pieces that may come before one that is missing.
const MAX_AHEAD: usize = 128;
/// Pieces that wait for the memory to read them.
const QUEUE: usize = 256;
/// How long a piece is worth sending, seconds: the memory gives up after a minute without an answer.
const PIECE_S: u64 = 180;

/// One stream to one member.
pub(super) struct Tunnel {
    stream: u64,
    /// The next piece of the other side.
    next: u32,
    ahead: BTreeMap<u32, Vec<u8>>,
    inward: mpsc::Sender<Vec<u8>>,
    over: CancellationToken,
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.over.cancel();
    }
}

impl Core {
    /// Opens a stream by letters to a member that no connection reaches. One that is open already goes on.
    pub fn open_tunnel(&mut self, install: &PublicKey) {
        let Some(known) = self.view.install(install) else { return };
        let is_open = self.tunnels.get(&known.passport).is_some_and(|tunnel| !tunnel.over.is_cancelled());
        if !is_open && self.by_relay_only().contains(&known.passport) {
            self.dig(known.passport, rand::random());
        }
    }

    /// Both ends of a stream: one for the memory, one for the letters.
    fn dig(&mut self, passport: PublicKey, stream: u64) {
        let Some(met) = self.cards.get(&passport) else { return };
        let (install, standing) = (met.card.install, self.standing(&passport));
        let (ours, theirs) = tokio::io::duplex(BUFFER);
        let (outward, into) = tokio::io::split(theirs);
        let (inward, pieces) = mpsc::channel(QUEUE);
        let over = CancellationToken::new();
        self.tracker.spawn(read(outward, passport, stream, self.back.clone(), over.clone()));
        self.tracker.spawn(write(into, pieces, over.clone()));
        self.tunnels.insert(passport, Tunnel { stream, next: 0, ahead: BTreeMap::new(), inward, over });
        self.host.linked(Linked { passport, install, standing, stream: Box::new(ours), is_far: true });
    }

    /// Bytes of ours go out as a letter.
    pub async fn send_piece(&mut self, to: PublicKey, piece: Piece) {
        let Ok(envelope) = piece.to_event().sign_with_keys(&self.install) else { return };
        let expires_at = self.now_s() + PIECE_S;
        self.post(Item { to, envelope, urgency: Urgency::Usual, expires_at }).await;
    }

    /// A piece came by letter, from a member.
    pub fn hear_piece(&mut self, event: &Event) {
        let Ok(piece) = Piece::read(event) else { return };
        let Some(known) = self.view.install(&event.pubkey) else { return };
        let is_this = self.tunnels.get(&known.passport).is_some_and(|tunnel| tunnel.stream == piece.stream);
        if !is_this {
            // Only what begins makes a new stream; the rest of one that is over is nobody's.
            if piece.number != 0 || matches!(known.standing, Standing::Unknown | Standing::Removed { .. }) {
                return;
            }
            self.dig(known.passport, piece.stream);
        }
        let Some(tunnel) = self.tunnels.get_mut(&known.passport) else { return };
        if piece.number < tunnel.next || tunnel.ahead.len() >= MAX_AHEAD {
            return;
        }
        tunnel.ahead.insert(piece.number, piece.bytes);
        while let Some(bytes) = tunnel.ahead.remove(&tunnel.next) {
            tunnel.next += 1;
            if bytes.is_empty() || tunnel.inward.try_send(bytes).is_err() {
                tunnel.over.cancel();
                self.tunnels.remove(&known.passport);
                return;
            }
        }
    }
}

/// What the memory says becomes pieces.
async fn read(
    mut from: ReadHalf<DuplexStream>,
    to: PublicKey,
    stream: u64,
    back: mpsc::Sender<Back>,
    over: CancellationToken,
) {
    let mut buffer = vec![0; MAX_PIECE];
    let mut number = 0;
    loop {
        let count = tokio::select! {
            () = over.cancelled() => return,
            count = from.read(&mut buffer) => count.unwrap_or(0),
        };
        let piece = Piece { stream, number, bytes: buffer[..count].to_vec() };
        number += 1;
        if back.send(Back::Piece(to, piece)).await.is_err() || count == 0 {
            return over.cancel();
        }
    }
}

/// What the other side said goes to the memory.
async fn write(mut into: WriteHalf<DuplexStream>, mut pieces: mpsc::Receiver<Vec<u8>>, over: CancellationToken) {
    loop {
        let bytes = tokio::select! {
            () = over.cancelled() => break,
            bytes = pieces.recv() => bytes,
        };
        let Some(bytes) = bytes else { break };
        if into.write_all(&bytes).await.is_err() {
            break;
        }
    }
    over.cancel();
    let _ = into.shutdown().await;
}
