//! Streams between members: carried whole, bounded, and each peer for itself.

use std::time::Duration;

use federation::net::{FrameError, Frames, NetEvent, OpenError, PeerStream, Protocol};
use libp2p::futures::io::AsyncWriteExt;

use crate::common::node::{PATIENCE, TASKS, addr, loopback, options, pair, roomy};

#[tokio::test]
async fn frames_cross_both_transports() {
    for (quic, tcp) in [(true, false), (false, true)] {
        let (a, mut b) = pair(options(loopback(quic, tcp)), options(loopback(quic, tcp))).await;
        let info = &a.net.peers().await.unwrap()[0];
        assert_eq!((info.quic, info.meshed, info.peer), (quic, true, b.id()));
        let mut out = Frames::new(a.net.open(b.id(), Protocol::SYNC).await.unwrap(), 1 << 20, PATIENCE);
        let ida = a.id();
        // More than a window of either transport: it crosses while it is read.
        let sending = async {
            out.send(&vec![3; 700_000]).await.unwrap();
            out.send(b"").await.unwrap();
        };
        let reading = async {
            let (from, stream) = b.stream(Protocol::SYNC).await;
            assert_eq!(from, ida);
            let mut back = Frames::new(stream, 1 << 20, PATIENCE);
            assert_eq!(back.next().await.unwrap().unwrap(), vec![3; 700_000]);
            assert_eq!(back.next().await.unwrap().unwrap(), b"");
            back
        };
        let ((), mut back) = tokio::join!(sending, reading);
        back.send(b"done").await.unwrap();
        back.close().await.unwrap();
        assert_eq!(out.next().await.unwrap().unwrap(), b"done");
        assert!(out.next().await.unwrap().is_none());
    }
}

#[tokio::test]
async fn a_hostile_length_is_refused_before_it_is_read() {
    let (a, mut b) = pair(options(loopback(true, false)), options(loopback(true, false))).await;
    let mut evil = a.net.open(b.id(), Protocol::SYNC).await.unwrap();
    evil.write_all(&u32::MAX.to_be_bytes()).await.unwrap();
    evil.flush().await.unwrap();
    let (_, stream) = b.stream(Protocol::SYNC).await;
    let mut frames = Frames::new(stream, 32 * 1024, PATIENCE);
    assert!(matches!(frames.next().await, Err(FrameError::TooLong { .. })));

    // One that begins a frame and stalls is given up, and the connection is as good as before.
    let mut lazy = a.net.open(b.id(), Protocol::SYNC).await.unwrap();
    lazy.write_all(&[0, 0, 0, 9, 1]).await.unwrap();
    lazy.flush().await.unwrap();
    let (_, stream) = b.stream(Protocol::SYNC).await;
    let mut frames = Frames::new(stream, 32 * 1024, Duration::from_millis(200));
    assert!(matches!(frames.next().await, Err(FrameError::Slow(_))));
    a.net.publish(TASKS, b"still here".to_vec()).await.unwrap();
    assert_eq!(b.gossip().await, b"still here");
}

#[tokio::test]
async fn streams_of_one_peer_are_bounded_and_given_back() {
    let mut narrow = options(loopback(true, false));
    narrow.limits = federation::net::Limits { streams_per_peer: 4, ..roomy() };
    let (a, mut b) = pair(options(loopback(true, false)), narrow).await;
    let mut open: Vec<PeerStream> = Vec::new();
    let mut taken: Vec<PeerStream> = Vec::new();
    for _ in 0..4 {
        open.push(a.net.open(b.id(), Protocol::SYNC).await.unwrap());
        taken.push(b.stream(Protocol::SYNC).await.1);
    }
    // The fifth is negotiated, then dropped.
    let fifth = a.net.open(b.id(), Protocol::SYNC).await.unwrap();
    let mut frames = Frames::new(fifth, 10, PATIENCE);
    assert!(!matches!(frames.next().await, Ok(Some(_))));
    assert_eq!(b.net.stats().streams_refused, 1);
    taken.clear();
    open.push(a.net.open(b.id(), Protocol::SYNC).await.unwrap());
    b.stream(Protocol::SYNC).await;
}

#[tokio::test]
async fn nobody_to_open_a_stream_to_is_told() {
    let (mut a, b) = pair(options(loopback(true, false)), options(loopback(true, false))).await;
    let gone = b.id();
    b.stop().await;
    a.disconnected(gone).await;
    assert!(matches!(a.net.open(gone, Protocol::SYNC).await, Err(OpenError::NotConnected(p)) if p == gone));
    a.net.dial(None, vec![addr("/ip4/127.0.0.1/tcp/1")]).await.unwrap();
    a.wait("failed dial", |e| matches!(e, NetEvent::DialFailed { peer: None, .. }).then_some(())).await;
}
