//! Liveness on real connections, through a path that loses and delays and can be cut.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use federation::liveness::{Liveness, LivenessEvent, LivenessOptions, LivenessState};
use tokio::sync::mpsc;

use crate::common::node::{Node, PATIENCE, TASKS, addr, befriend, until};
use crate::common::proxy::Proxy;

struct Live {
    node: Node,
    liveness: Liveness,
    told: mpsc::Receiver<LivenessEvent>,
}

async fn live(node: Node, seed: u64) -> Live {
    let options = LivenessOptions { start_ms: seed, seed };
    let started = Liveness::start(&node.net, options, &node.tracker, node.cancel.clone()).await;
    let (liveness, told) = started.expect("the links are taken once");
    Live { node, liveness, told }
}

impl Live {
    async fn told(&mut self, wanted: LivenessEvent) -> Instant {
        let wait = async { while self.told.recv().await.expect("it runs") != wanted {} };
        tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("no {wanted:?}"));
        Instant::now()
    }
}

/// Two members; `b` reaches `a` through a proxy only.
async fn through_a_proxy(seed: u64) -> (Live, Live, Proxy) {
    let (a, b) = (live(Node::quic(), seed).await, live(Node::quic(), seed + 1).await);
    let at = a.node.addrs().await[0].to_string();
    let port: u16 = at.split('/').nth(4).unwrap().parse().unwrap();
    let proxy = Proxy::start(SocketAddr::from(([127, 0, 0, 1], port)), seed).await;
    // b must not learn another way: a does not dial, and what identify tells is a's own address, used only as
    // a second path.
    befriend(&a.node, &b.node);
    let via = addr(&format!("/ip4/127.0.0.1/udp/{}/quic-v1", proxy.addr.port()));
    b.node.net.dial(Some(a.node.id()), vec![via]).await.unwrap();
    (a, b, proxy)
}

#[tokio::test]
async fn a_bad_path_is_no_death() {
    let (mut a, mut b, proxy) = through_a_proxy(71).await;
    let (ida, idb) = (a.node.id(), b.node.id());
    proxy.path.loss_permille.store(50, Ordering::Relaxed);
    proxy.path.delay_ms.store(60, Ordering::Relaxed);
    a.told(LivenessEvent::Alive(idb)).await;
    b.told(LivenessEvent::Alive(ida)).await;
    let until = tokio::time::Instant::now() + Duration::from_secs(20);
    let mut sent = 0u8;
    while tokio::time::Instant::now() < until {
        a.node.net.publish(TASKS, vec![sent]).await.unwrap();
        assert_eq!(b.node.gossip().await, vec![sent]);
        sent = sent.wrapping_add(1);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    while let Ok(event) = a.told.try_recv() {
        assert!(!matches!(event, LivenessEvent::Dead(_)), "{event:?}");
    }
    assert_ne!(b.liveness.states()[&ida], LivenessState::Dead);
    let (passed, lost) = (proxy.path.passed.load(Ordering::Relaxed), proxy.path.lost.load(Ordering::Relaxed));
    eprintln!("{sent} messages, {passed} datagrams passed, {lost} lost");
    assert!(lost > 5, "the path was bad");
    assert!(a.node.net.peers().await.unwrap()[0].rtt.is_some());
}

#[tokio::test]
async fn a_cut_path_is_left_for_another() {
    let (mut a, mut b, proxy) = through_a_proxy(72).await;
    let (ida, idb) = (a.node.id(), b.node.id());
    a.told(LivenessEvent::Alive(idb)).await;
    b.told(LivenessEvent::Alive(ida)).await;
    // Only what the proxy carries is cut. b knows another address of a, and goes there by itself.
    b.node.net.add_addrs(ida, a.node.addrs().await).await;
    proxy.path.cut.store(true, Ordering::Relaxed);
    let net = a.node.net.clone();
    until("a second path", || async { net.peers().await.unwrap()[0].addrs.len() >= 2 }).await;
    // Now a has a dead connection to b, not yet closed, and a good one: nothing may go into the dead one.
    for n in 0..100u8 {
        a.node.net.publish(TASKS, vec![n]).await.unwrap();
    }
    let mut heard = BTreeSet::new();
    while heard.len() < 100 {
        heard.insert(b.node.gossip().await[0]);
    }
    let net = b.node.net.clone();
    let dead = proxy.addr.port().to_string();
    let is_dead = |p: &federation::net::PeerInfo| p.addrs.iter().any(|x| x.to_string().contains(&dead));
    until("the dead one is closed", || async { !net.peers().await.unwrap().iter().any(is_dead) }).await;
    assert_eq!(b.liveness.states()[&ida], LivenessState::Alive);
    assert_eq!(a.liveness.states()[&idb], LivenessState::Alive);
    while let Ok(event) = b.told.try_recv() {
        assert!(!matches!(event, LivenessEvent::Dead(_)), "{event:?}");
    }
}

#[tokio::test]
async fn a_node_that_ends_is_told_dead_and_one_removed_is_not_spoken_of() {
    let (mut a, mut b) = (live(Node::quic(), 73).await, live(Node::quic(), 74).await);
    befriend(&a.node, &b.node);
    let (ida, idb) = (a.node.id(), b.node.id());
    b.node.net.dial(Some(ida), a.node.addrs().await).await.unwrap();
    a.told(LivenessEvent::Alive(idb)).await;
    b.told(LivenessEvent::Alive(ida)).await;
    let ended = Instant::now();
    b.node.stop().await;
    let dead = a.told(LivenessEvent::Dead(idb)).await;
    eprintln!("a farewell is a death after {:?}", dead.saturating_duration_since(ended));
    a.liveness.forget(idb).await;
    let wait = async {
        while !a.liveness.states().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("forgotten");
}
