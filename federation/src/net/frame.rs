//! Frames on a stream: a length of four bytes, big-endian, and that many bytes; capped, and timed.
//!
//! A length above the cap ends the stream before a byte of it is read, and no buffer grows faster than
//! bytes arrive.

use std::io;
use std::time::Duration;

use libp2p::futures::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::time::{Instant, timeout_at};

/// A buffer begins no larger than this: a claimed length is not yet a received one.
const FIRST_BUFFER: usize = 16 * 1024;

/// Why a frame was not read or written.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The other side announced or this side tried more than the cap.
    #[error("a frame of {len} bytes is longer than the {max} that are allowed")]
    TooLong {
        /// The frame's length in bytes.
        len: usize,
        /// The cap in bytes.
        max: usize,
    },
    /// The frame did not come, or could not be sent, in time.
    #[error("no whole frame within {0:?}")]
    Slow(Duration),
    /// The stream ended inside a frame, or broke.
    #[error("the stream broke")]
    Broken(#[source] io::Error),
}

/// Reads frames.
#[derive(Debug)]
pub struct FrameReader<R> {
    from: R,
    max: usize,
    patience: Duration,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// Reads frames of at most `max` bytes, each of which must be whole within `patience`.
    pub fn new(from: R, max: usize, patience: Duration) -> Self {
        Self { from, max, patience }
    }

    /// Changes the cap for the frames to come: a peer that has proved itself may say more.
    pub fn set_max(&mut self, max: usize) {
        self.max = max;
    }

    /// The next frame; `None` when the other side closed between frames. Not cancel-safe: a dropped call
    /// may have read half a frame.
    ///
    /// # Errors
    /// [`FrameError`]; the stream is of no further use after one.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, FrameError> {
        let until = Instant::now() + self.patience;
        timeout_at(until, self.read()).await.map_err(|_| FrameError::Slow(self.patience))?
    }

    /// Like [`Self::next`], but waits for the frame's first byte as long as it takes.
    ///
    /// # Errors
    /// As [`Self::next`].
    pub async fn next_patient(&mut self) -> Result<Option<Vec<u8>>, FrameError> {
        let mut head = [0u8; 4];
        if self.from.read(&mut head[..1]).await.map_err(FrameError::Broken)? == 0 {
            return Ok(None);
        }
        let until = Instant::now() + self.patience;
        let body = async {
            self.from.read_exact(&mut head[1..]).await.map_err(FrameError::Broken)?;
            self.body(head).await.map(Some)
        };
        timeout_at(until, body).await.map_err(|_| FrameError::Slow(self.patience))?
    }

    async fn read(&mut self) -> Result<Option<Vec<u8>>, FrameError> {
        let mut head = [0u8; 4];
        if self.from.read(&mut head[..1]).await.map_err(FrameError::Broken)? == 0 {
            return Ok(None);
        }
        self.from.read_exact(&mut head[1..]).await.map_err(FrameError::Broken)?;
        self.body(head).await.map(Some)
    }

    async fn body(&mut self, head: [u8; 4]) -> Result<Vec<u8>, FrameError> {
        let len = usize::try_from(u32::from_be_bytes(head)).unwrap_or(usize::MAX);
        if len > self.max {
            return Err(FrameError::TooLong { len, max: self.max });
        }
        let mut frame = Vec::with_capacity(len.min(FIRST_BUFFER));
        while frame.len() < len {
            let have = frame.len();
            frame.resize(len.min(have + FIRST_BUFFER), 0);
            self.from.read_exact(&mut frame[have..]).await.map_err(FrameError::Broken)?;
        }
        Ok(frame)
    }
}

/// Writes frames.
#[derive(Debug)]
pub struct FrameWriter<W> {
    to: W,
    max: usize,
    patience: Duration,
}

impl<W: AsyncWrite + Unpin> FrameWriter<W> {
    /// Writes frames of at most `max` bytes, each of which must be taken within `patience`.
    pub fn new(to: W, max: usize, patience: Duration) -> Self {
        Self { to, max, patience }
    }

    /// Writes and flushes one frame.
    ///
    /// # Errors
    /// [`FrameError`]; the stream is of no further use after one, [`FrameError::TooLong`] excepted.
    pub async fn send(&mut self, frame: &[u8]) -> Result<(), FrameError> {
        let too_long = FrameError::TooLong { len: frame.len(), max: self.max };
        let len = u32::try_from(frame.len()).ok().filter(|_| frame.len() <= self.max).ok_or(too_long)?;
        let write = async {
            self.to.write_all(&len.to_be_bytes()).await?;
            self.to.write_all(frame).await?;
            self.to.flush().await
        };
        let done = tokio::time::timeout(self.patience, write).await;
        done.map_err(|_| FrameError::Slow(self.patience))?.map_err(FrameError::Broken)
    }

    /// Tells the other side that no more frames come.
    ///
    /// # Errors
    /// [`FrameError::Broken`] or [`FrameError::Slow`].
    pub async fn close(&mut self) -> Result<(), FrameError> {
        let done = tokio::time::timeout(self.patience, self.to.close()).await;
        done.map_err(|_| FrameError::Slow(self.patience))?.map_err(FrameError::Broken)
    }
}

/// Both directions of a stream.
#[derive(Debug)]
pub struct Frames<S> {
    reader: FrameReader<ReadHalf<S>>,
    writer: FrameWriter<WriteHalf<S>>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Frames<S> {
    /// Frames of at most `max` bytes, each whole within `patience`, both ways.
    pub fn new(stream: S, max: usize, patience: Duration) -> Self {
        let (from, to) = stream.split();
        Self { reader: FrameReader::new(from, max, patience), writer: FrameWriter::new(to, max, patience) }
    }

    /// Changes the cap for what is read from now on.
    pub fn set_max_read(&mut self, max: usize) {
        self.reader.set_max(max);
    }

    /// See [`FrameReader::next`].
    ///
    /// # Errors
    /// As there.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, FrameError> {
        self.reader.next().await
    }

    /// See [`FrameWriter::send`].
    ///
    /// # Errors
    /// As there.
    pub async fn send(&mut self, frame: &[u8]) -> Result<(), FrameError> {
        self.writer.send(frame).await
    }

    /// See [`FrameWriter::close`].
    ///
    /// # Errors
    /// As there.
    pub async fn close(&mut self) -> Result<(), FrameError> {
        self.writer.close().await
    }

    /// The two directions apart, for two tasks.
    pub fn split(self) -> (FrameReader<ReadHalf<S>>, FrameWriter<WriteHalf<S>>) {
        (self.reader, self.writer)
    }
}

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;
