//! The two short questions of the members' gate: each side tells the number of its session with the other.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use libp2p::core::upgrade::{InboundUpgrade, OutboundUpgrade, UpgradeInfo};
use libp2p::futures::io::{AsyncReadExt, AsyncWriteExt};
use libp2p::{Stream, StreamProtocol};

/// Asks "do you take me for a member, and since when?" It is offered to members only.
const GREET: StreamProtocol = StreamProtocol::new("/timmy/greet/1");
/// Asks "have you begun?" It is offered once the inner handler listens.
const MESH: StreamProtocol = StreamProtocol::new("/timmy/mesh/1");

/// The questions that are answered while greeting, and once the inner handler listens.
pub(crate) static GREETING: [StreamProtocol; 1] = [GREET];
pub(crate) static BOTH: [StreamProtocol; 2] = [GREET, MESH];
/// The second question alone, to ask it.
pub(crate) static MESHING: [StreamProtocol; 1] = [MESH];

/// Numbers what this side knows of a peer from its first connection to the end of its last. Another number than
/// before says that the other side knows nothing any more.
#[derive(Clone, Debug)]
pub(crate) struct Session(Arc<AtomicU64>);

impl Session {
    pub(crate) fn new() -> Self {
        Self(Arc::new(AtomicU64::new(rand::random())))
    }

    /// Everything known of the peer is forgotten.
    pub(crate) fn renew(&self) {
        self.0.store(rand::random(), Ordering::Release);
    }

    fn bytes(&self) -> [u8; 8] {
        self.0.load(Ordering::Acquire).to_be_bytes()
    }
}

/// Eight bytes each way.
#[derive(Clone, Debug)]
pub(crate) struct Exchange {
    pub(crate) names: &'static [StreamProtocol],
    pub(crate) session: Session,
}

impl UpgradeInfo for Exchange {
    type Info = StreamProtocol;
    type InfoIter = std::iter::Cloned<std::slice::Iter<'static, StreamProtocol>>;

    fn protocol_info(&self) -> Self::InfoIter {
        self.names.iter().cloned()
    }
}

type Answer = Pin<Box<dyn Future<Output = io::Result<u64>> + Send>>;

impl InboundUpgrade<Stream> for Exchange {
    type Output = u64;
    type Error = io::Error;
    type Future = Answer;

    fn upgrade_inbound(self, mut stream: Stream, _: StreamProtocol) -> Answer {
        Box::pin(async move {
            let mut theirs = [0; 8];
            stream.read_exact(&mut theirs).await?;
            stream.write_all(&self.session.bytes()).await?;
            stream.close().await?;
            Ok(u64::from_be_bytes(theirs))
        })
    }
}

impl OutboundUpgrade<Stream> for Exchange {
    type Output = u64;
    type Error = io::Error;
    type Future = Answer;

    fn upgrade_outbound(self, mut stream: Stream, _: StreamProtocol) -> Answer {
        Box::pin(async move {
            stream.write_all(&self.session.bytes()).await?;
            stream.flush().await?;
            let mut theirs = [0; 8];
            stream.read_exact(&mut theirs).await?;
            Ok(u64::from_be_bytes(theirs))
        })
    }
}
