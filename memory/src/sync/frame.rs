//! Messages on a byte stream: four bytes of length (big endian), then the message.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::MAX_FRAME;

/// Bytes that are made room for at a time: a peer that announces a large message and sends nothing holds this much.
const STEP: usize = 16 * 1024;

/// Why a frame could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The peer announces more than [`MAX_FRAME`].
    #[error("a message of {0} bytes was announced; the most is {MAX_FRAME}")]
    TooLarge(usize),
    /// The stream could not be read.
    #[error("the peer's stream could not be read")]
    Read(#[source] io::Error),
    /// The stream could not be written.
    #[error("the peer's stream could not be written")]
    Write(#[source] io::Error),
    /// Nothing came for too long, a message came too slowly, or the peer takes none.
    #[error("the peer was too slow")]
    Slow,
}

/// Reads one message. `None` when the stream ended before it began. `idle` is how long its first byte may take, `whole` how long
/// the rest may.
///
/// # Errors
/// When the stream fails or ends within a message, and [`FrameError::TooLarge`] and [`FrameError::Slow`].
pub async fn read_frame(
    stream: &mut (impl AsyncRead + Unpin),
    idle: Duration,
    whole: Duration,
) -> Result<Option<Vec<u8>>, FrameError> {
    let mut length = [0; 4];
    let first = timeout(idle, stream.read(&mut length[..1])).await;
    if first.map_err(|_| FrameError::Slow)?.map_err(FrameError::Read)? == 0 {
        return Ok(None);
    }
    let rest = async {
        stream.read_exact(&mut length[1..]).await.map_err(FrameError::Read)?;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if length > MAX_FRAME {
            return Err(FrameError::TooLarge(length));
        }
        let mut message = Vec::with_capacity(length.min(STEP));
        let limit = u64::try_from(length).unwrap_or(u64::MAX);
        stream.take(limit).read_to_end(&mut message).await.map_err(FrameError::Read)?;
        if message.len() < length {
            return Err(FrameError::Read(io::ErrorKind::UnexpectedEof.into()));
        }
        Ok(Some(message))
    };
    timeout(whole, rest).await.map_err(|_| FrameError::Slow)?
}

/// Writes one message within `whole`. A write that is given up leaves the stream in the middle of a message: close it.
///
/// # Errors
/// When the stream fails, the message is too large, or the peer takes it too slowly.
pub async fn write_frame(
    stream: &mut (impl AsyncWrite + Unpin),
    message: &[u8],
    whole: Duration,
) -> Result<(), FrameError> {
    let length = u32::try_from(message.len()).ok().filter(|_| message.len() <= MAX_FRAME);
    let length = length.ok_or(FrameError::TooLarge(message.len()))?;
    let write = async {
        stream.write_all(&length.to_be_bytes()).await?;
        stream.write_all(message).await?;
        stream.flush().await
    };
    timeout(whole, write).await.map_err(|_| FrameError::Slow)?.map_err(FrameError::Write)
}
