use libp2p::futures::io::Cursor;
use proptest::prelude::*;

use super::*;

const PATIENCE: Duration = Duration::from_secs(30);

async fn read_all(bytes: &[u8], max: usize) -> (Vec<Vec<u8>>, Option<FrameError>) {
    let mut reader = FrameReader::new(Cursor::new(bytes), max, PATIENCE);
    let mut frames = Vec::new();
    loop {
        match reader.next().await {
            Ok(Some(frame)) => frames.push(frame),
            Ok(None) => return (frames, None),
            Err(error) => return (frames, Some(error)),
        }
    }
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}

proptest! {
    #[test]
    fn round_trip(frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40_000), 0..5)) {
        run(async {
            let mut writer = FrameWriter::new(Cursor::new(Vec::new()), 40_000, PATIENCE);
            for frame in &frames {
                writer.send(frame).await.unwrap();
            }
            let bytes = writer.to.into_inner();
            let (read, error) = read_all(&bytes, 40_000).await;
            assert!(error.is_none());
            assert_eq!(read, frames);
        });
    }

    #[test]
    fn hostile_bytes_never_panic_nor_exceed_the_cap(bytes in prop::collection::vec(any::<u8>(), 0..2_000), max in 0usize..500) {
        let (frames, _) = run(read_all(&bytes, max));
        prop_assert!(frames.iter().all(|f| f.len() <= max));
    }
}

#[test]
fn a_claimed_length_above_the_cap_ends_the_stream() {
    let (frames, error) = run(read_all(&[0xff, 0xff, 0xff, 0xff, 1, 2, 3], 1_000));
    assert!(frames.is_empty());
    assert!(matches!(error, Some(FrameError::TooLong { len: 0xffff_ffff, max: 1_000 })));
}

#[test]
fn an_end_inside_a_frame_is_an_error() {
    let (frames, error) = run(read_all(&[0, 0, 0, 5, 1, 2], 1_000));
    assert!(frames.is_empty() && matches!(error, Some(FrameError::Broken(_))));
}

#[test]
fn a_sender_that_stalls_inside_a_frame_is_not_waited_for() {
    run(async {
        let (from, _kept) = tokio::io::duplex(64);
        let mut reader = FrameReader::new(Stalled(from), 1_000, Duration::from_millis(50));
        assert!(matches!(reader.next().await, Err(FrameError::Slow(_))));
    });
}

#[test]
fn too_long_a_frame_is_not_sent() {
    run(async {
        let mut writer = FrameWriter::new(Cursor::new(Vec::new()), 3, PATIENCE);
        assert!(matches!(writer.send(&[0; 4]).await, Err(FrameError::TooLong { len: 4, max: 3 })));
        assert!(writer.to.into_inner().is_empty());
    });
}

/// A stream on which nothing ever comes.
struct Stalled(#[allow(dead_code)] tokio::io::DuplexStream);

impl AsyncRead for Stalled {
    fn poll_read(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
        _: &mut [u8],
    ) -> std::task::Poll<io::Result<usize>> {
        std::task::Poll::Pending
    }
}
