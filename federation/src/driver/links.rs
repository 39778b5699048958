//! The memory's streams: a member that is here has one, opened by the side with the lower key (one is enough for both), and opened
//! again whenever it ends, for that need not be the end of the connection: of two connections one is closed, a reader gives up.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::core::{Back, Core};
use super::host::Linked;
use crate::net::{PeerId, PeerStream, Protocol};

/// A stream that ended is opened again no sooner than this after it was last opened, ms.
const AGAIN_MS: u64 = 2_000;

/// The newest stream of each member that is here.
#[derive(Default)]
pub(super) struct Links {
    all: BTreeMap<PeerId, One>,
}

#[derive(Default)]
struct One {
    /// Lives as long as the memory holds the stream.
    held: Weak<()>,
    opened_ms: u64,
}

/// A stream that is known to be held by somebody.
struct Held {
    stream: PeerStream,
    _held: Arc<()>,
}

impl Core {
    /// Opens a stream to a member that has just come.
    pub fn open_link(&mut self, peer: PeerId) {
        if self.me.peer_id.to_bytes() >= peer.to_bytes() {
            return;
        }
        self.links.all.entry(peer).or_default().opened_ms = self.now_ms();
        let (net, back) = (self.net.clone(), self.back.clone());
        self.tracker.spawn(async move {
            match net.open(peer, Protocol::SYNC).await {
                Ok(stream) => drop(back.send(Back::Linked(peer, stream)).await),
                Err(error) => tracing::debug!(%peer, %error, "no stream for the memory"),
            }
        });
    }

    /// A stream is open: both roles run on it.
    pub fn link(&mut self, peer: PeerId, stream: PeerStream) {
        let Some(met) = self.by_peer(&peer) else { return };
        let (passport, install) = (met.card.passport, met.card.install);
        let standing = self.standing(&passport);
        if !standing.is_member() {
            return;
        }
        let held = Arc::new(());
        self.links.all.entry(peer).or_default().held = Arc::downgrade(&held);
        let stream = Box::new(Held { stream, _held: held });
        self.host.linked(Linked { passport, install, standing, stream, is_far: false });
    }

    /// Opens the streams that ended, or never opened, while their peer stayed.
    pub fn mend_links(&mut self) {
        self.links.all.retain(|peer, _| self.meshed.contains(peer));
        let now = self.now_ms();
        let is_due = |peer: &PeerId| {
            self.links
                .all
                .get(peer)
                .is_none_or(|one| one.held.strong_count() == 0 && one.opened_ms.saturating_add(AGAIN_MS) <= now)
        };
        let due: Vec<PeerId> = self.meshed.iter().copied().filter(|peer| is_due(peer) && self.is_here(peer)).collect();
        for peer in due {
            self.open_link(peer);
        }
    }
}

impl AsyncRead for Held {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Held {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        AsyncWrite::poll_write(Pin::new(&mut self.stream), cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        AsyncWrite::poll_flush(Pin::new(&mut self.stream), cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        AsyncWrite::poll_shutdown(Pin::new(&mut self.stream), cx)
    }
}
