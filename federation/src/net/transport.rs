//! TCP with Noise and Yamux, whose connections can be closed when they are dead.
//!
//! libp2p waits for a connection that it closes to say its goodbyes, without limit. On a cut TCP connection with a
//! full buffer that is until the system gives up, a quarter of an hour later; and for so long its peer counts as
//! connected and is not dialed. [`Impatient`] ends the wait.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use libp2p::core::Transport;
use libp2p::core::muxing::{StreamMuxer, StreamMuxerBox, StreamMuxerEvent, SubstreamBox};
use libp2p::core::transport::Boxed;
use libp2p::core::upgrade::Version;
use libp2p::identity::Keypair;
use libp2p::{PeerId, noise, tcp, yamux};
use tokio::time::{Sleep, sleep};

/// How long a connection may take to close.
const GOODBYE: Duration = Duration::from_secs(1);
/// How long a connection may take to be made: TCP's handshake, Noise's and Yamux's.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// A connection that closes within [`GOODBYE`], whether the other side hears of it or not.
pub(crate) struct Impatient {
    inner: StreamMuxerBox,
    closing: Option<Pin<Box<Sleep>>>,
}

impl Impatient {
    fn new<M>(inner: M) -> Self
    where
        M: StreamMuxer + Send + 'static,
        M::Substream: Send + 'static,
        M::Error: Send + Sync + 'static,
    {
        Self { inner: StreamMuxerBox::new(inner), closing: None }
    }
}

impl StreamMuxer for Impatient {
    type Substream = SubstreamBox;
    type Error = io::Error;

    fn poll_inbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<SubstreamBox>> {
        Pin::new(&mut self.inner).poll_inbound(cx)
    }

    fn poll_outbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<SubstreamBox>> {
        Pin::new(&mut self.inner).poll_outbound(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Poll::Ready(closed) = Pin::new(&mut self.inner).poll_close(cx) {
            return Poll::Ready(closed);
        }
        let closing = self.closing.get_or_insert_with(|| Box::pin(sleep(GOODBYE)));
        closing.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<StreamMuxerEvent>> {
        Pin::new(&mut self.inner).poll(cx)
    }
}

/// The TCP transport.
///
/// # Errors
/// [`noise::Error`] for a key that Noise cannot sign with.
pub(crate) fn tcp(key: &Keypair) -> Result<Boxed<(PeerId, Impatient)>, noise::Error> {
    let tcp = tcp::tokio::Transport::new(tcp::Config::default().nodelay(true));
    let transport = tcp
        .upgrade(Version::V1Lazy)
        .authenticate(noise::Config::new(key)?)
        .multiplex(yamux::Config::default())
        .timeout(HANDSHAKE)
        .map(|(peer, muxer), _| (peer, Impatient::new(muxer)));
    Ok(transport.boxed())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A connection that never has said its goodbyes.
    struct Stuck;

    impl StreamMuxer for Stuck {
        type Substream = libp2p::futures::io::Cursor<Vec<u8>>;
        type Error = io::Error;

        fn poll_inbound(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<Self::Substream>> {
            Poll::Pending
        }

        fn poll_outbound(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<Self::Substream>> {
            Poll::Pending
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }

        fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<StreamMuxerEvent>> {
            Poll::Pending
        }
    }

    #[tokio::test]
    async fn a_stuck_connection_is_closed_all_the_same() {
        let mut stuck = Impatient::new(Stuck);
        let close = std::future::poll_fn(|cx| Pin::new(&mut stuck).poll_close(cx));
        let closed = tokio::time::timeout(Duration::from_secs(60), close).await.expect("in time");
        assert_eq!(closed.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
