//! Connections: one to each peer in the end, QUIC if it can be, dialed again when lost.

use std::time::Duration;

use federation::net::NetEvent;

use crate::common::node::{Node, TASKS, addr, befriend, loopback, options, pair, until};

async fn connections(node: &Node) -> usize {
    node.net.peers().await.unwrap().first().map_or(0, |p| p.addrs.len())
}

#[tokio::test]
async fn simultaneous_dials_settle_to_one_connection() {
    let (mut a, mut b) = (Node::start(options(loopback(true, true))), Node::start(options(loopback(true, true))));
    befriend(&a, &b);
    let (ida, idb) = (a.id(), b.id());
    let (to_a, to_b) = (a.addrs().await, b.addrs().await);
    // Without PeerIds, as discovery dials: nothing holds either back.
    let (x, y) = tokio::join!(b.net.dial(None, to_a), a.net.dial(None, to_b));
    x.unwrap();
    y.unwrap();
    a.meshed(idb).await;
    b.meshed(ida).await;
    until("one connection is left", || async { connections(&a).await == 1 && connections(&b).await == 1 }).await;
    let (at_a, at_b) = (a.net.peers().await.unwrap().remove(0), b.net.peers().await.unwrap().remove(0));
    assert_eq!(at_a.quic, at_b.quic, "the same one at both ends");
    a.net.publish(TASKS, b"x".to_vec()).await.unwrap();
    assert_eq!(b.gossip().await, b"x");
    assert!(!a.seen.iter().any(|e| matches!(e, NetEvent::Disconnected(_))), "never without a connection");
}

#[tokio::test]
async fn quic_is_preferred_and_tcp_is_there_without_it() {
    // QUIC has a head start of some tenths of a second, which a busy machine may eat up: not each time.
    let mut quic = false;
    for _ in 0..10 {
        let (a, _b) = pair(options(loopback(true, true)), options(loopback(true, true))).await;
        quic = quic || a.net.peers().await.unwrap()[0].quic;
        if quic {
            break;
        }
    }
    assert!(quic, "never preferred");
    let (a, b) = pair(options(loopback(true, true)), options(loopback(false, true))).await;
    assert!(!a.net.peers().await.unwrap()[0].quic);
    drop(b);
}

/// A path that swallows QUIC without a word holds up an unknown peer's dial for a second, not for a handshake's time.
#[tokio::test]
async fn a_swallowed_address_is_tried_beside_the_next() {
    let a = Node::start(options(loopback(false, true)));
    let mut b = Node::start(options(loopback(true, true)));
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let nowhere = addr(&format!("/ip4/127.0.0.1/udp/{}/quic-v1", silent.local_addr().unwrap().port()));
    let addrs = [vec![nowhere], a.addrs().await].concat();
    b.net.dial(None, addrs).await.unwrap();
    let pick = |e: &mut NetEvent| if let NetEvent::Connected { addr, .. } = e { Some(addr.to_string()) } else { None };
    assert!(b.wait("connection", pick).await.contains("/tcp/"));
    // Otherwise the handshake's end came first.
    assert!(!b.seen.iter().any(|e| matches!(e, NetEvent::DialFailed { .. })), "{:?}", b.seen);
}

#[tokio::test]
async fn a_lost_member_is_dialed_again() {
    let a = options(loopback(true, false));
    let (first, mut b) = pair(a.clone(), options(loopback(true, false))).await;
    let ida = first.id();
    let idb = b.id();
    let at = first.addrs().await;
    assert!(first.seen.iter().any(|e| matches!(e, NetEvent::Listening(addr) if at.contains(addr))));
    first.stop().await;
    b.disconnected(ida).await;
    // The same node starts again at the same address; nobody tells b.
    let mut again = a;
    again.listen = at;
    // The system may hold the port for a moment.
    let mut second = loop {
        match Node::try_start(again.clone()) {
            Ok(node) => break node,
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    };
    second.knows(idb);
    b.meshed(ida).await;
    second.meshed(idb).await;
}

#[tokio::test]
async fn a_parted_peer_is_not_dialed_again() {
    let (mut a, mut b) = pair(options(loopback(true, false)), options(loopback(true, false))).await;
    let (ida, idb) = (a.id(), b.id());
    a.gate.members.lock().unwrap().remove(&idb);
    b.gate.members.lock().unwrap().remove(&ida);
    a.net.disconnect(idb).await;
    a.disconnected(idb).await;
    b.disconnected(ida).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(a.net.peers().await.unwrap().is_empty() && b.net.peers().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_node_that_cannot_listen_says_so_and_a_missing_ipv6_is_no_reason() {
    let mut bad = options(vec![addr("/ip4/203.0.113.9/tcp/1")]);
    let tracker = tokio_util::task::TaskTracker::new();
    let gate = std::sync::Arc::new(crate::common::node::List::default());
    let start = federation::net::Net::start(bad.clone(), gate.clone(), &tracker, Default::default());
    assert!(matches!(start, Err(federation::net::NetError::Listen { .. })));
    bad.listen.push(addr("/ip4/127.0.0.1/tcp/0"));
    let (net, _events) = federation::net::Net::start(bad, gate, &tracker, Default::default()).unwrap();
    until("it listens", || async { !net.listen_addrs().await.unwrap().is_empty() }).await;
}
