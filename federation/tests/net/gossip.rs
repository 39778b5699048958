//! Gossip: everyone hears everything once, nobody waits for a slow one.

use std::collections::BTreeMap;
use std::time::Duration;

use federation::net::{NetError, NetEvent, Verdict};

use crate::common::node::{MEMORY, Node, PATIENCE, TASKS, befriend, loopback, options, pair};

/// 200 a second, less on a busy machine: what was missed is not made up for in a burst.
fn pace() -> tokio::time::Interval {
    let mut pace = tokio::time::interval(Duration::from_millis(5));
    pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    pace
}

/// Every node dials all before it; all are members of each other.
async fn mesh(count: usize) -> Vec<Node> {
    let mut nodes: Vec<Node> = (0..count).map(|_| Node::quic()).collect();
    for i in 0..count {
        for j in 0..i {
            befriend(&nodes[i], &nodes[j]);
        }
    }
    for i in 0..count {
        for j in 0..i {
            let addrs = nodes[j].addrs().await;
            nodes[i].net.dial(Some(nodes[j].id()), addrs).await.unwrap();
        }
    }
    let ids: Vec<_> = nodes.iter().map(Node::id).collect();
    for (i, node) in nodes.iter_mut().enumerate() {
        let mut missing: Vec<_> = ids.iter().enumerate().filter(|(j, _)| *j != i).map(|(_, id)| *id).collect();
        while !missing.is_empty() {
            let peer = node.wait("mesh", |e| if let NetEvent::Meshed(p) = e { Some(*p) } else { None }).await;
            missing.retain(|p| *p != peer);
        }
    }
    nodes
}

/// Sends 1,000 messages at 200 a second from nodes in turn; every other node hears each exactly once.
async fn all_heard(count: usize) {
    const MESSAGES: u32 = 1_000;
    let mut nodes = mesh(count).await;
    let nets: Vec<_> = nodes.iter().map(|n| n.net.clone()).collect();
    let sender = async {
        let mut pace = pace();
        for n in 0..MESSAGES {
            pace.tick().await;
            let mut data = n.to_be_bytes().to_vec();
            data.resize(1_000, 7);
            nets[n as usize % count].publish(TASKS, data).await.unwrap();
        }
    };
    let hearers = nodes.iter_mut().enumerate().map(|(i, node)| async move {
        let mut heard: BTreeMap<u32, u32> = BTreeMap::new();
        let expected = (0..MESSAGES).filter(|n| *n as usize % count != i).count();
        while heard.len() < expected {
            let data = node.gossip().await;
            *heard.entry(u32::from_be_bytes(data[..4].try_into().unwrap())).or_default() += 1;
        }
        assert!(heard.values().all(|times| *times == 1), "each once");
        assert!(heard.keys().all(|n| *n as usize % count != i), "not one's own");
    });
    let (_, _) = tokio::join!(sender, futures_util::future::join_all(hearers));
    for node in nodes {
        assert_eq!(node.net.stats().gossip_dropped, 0);
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_hear_a_thousand_once() {
    all_heard(2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_hear_a_thousand_once() {
    all_heard(3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_nodes_hear_a_thousand_once() {
    all_heard(10).await;
}

#[tokio::test]
async fn what_is_said_alone_is_heard_by_the_first_that_comes() {
    let (mut a, mut b) = (Node::quic(), Node::quic());
    befriend(&a, &b);
    a.net.publish(TASKS, b"early".to_vec()).await.unwrap();
    assert_eq!(a.net.stats().gossip_kept, 1);
    b.net.dial(Some(a.id()), a.addrs().await).await.unwrap();
    let id = b.id();
    a.meshed(id).await;
    assert_eq!(b.gossip().await, b"early");
    assert_eq!(a.net.stats().gossip_out, 1);
}

#[tokio::test]
async fn bounds_of_a_message_are_told() {
    let a = Node::quic();
    assert!(matches!(a.net.publish(TASKS, vec![0; 64 * 1024]).await, Err(NetError::TooLarge { .. })));
    assert!(matches!(a.net.publish("elsewhere", vec![1]).await, Err(NetError::Gossip(_))));
}

#[tokio::test]
async fn the_largest_message_arrives() {
    let (a, mut b) = pair(options(loopback(true, false)), options(loopback(true, false))).await;
    let data = vec![9; 63 * 1024];
    a.net.publish(MEMORY, data.clone()).await.unwrap();
    assert_eq!(b.gossip().await, data);
}

/// Three in a row: what the middle one rejects or is silent about does not reach the last; what it accepts does.
#[tokio::test]
async fn only_what_is_accepted_is_passed_on() {
    let (mut a, mut b, mut c) = (Node::quic(), Node::quic(), Node::quic());
    befriend(&a, &b);
    befriend(&b, &c);
    let (ida, idb, idc) = (a.id(), b.id(), c.id());
    b.net.dial(Some(ida), a.addrs().await).await.unwrap();
    b.net.dial(Some(idc), c.addrs().await).await.unwrap();
    a.meshed(idb).await;
    c.meshed(idb).await;
    for _ in 0..2 {
        b.wait("mesh", |e| matches!(e, NetEvent::Meshed(_)).then_some(())).await;
    }
    a.net.publish(TASKS, b"bad".to_vec()).await.unwrap();
    a.net.publish(TASKS, b"meh".to_vec()).await.unwrap();
    a.net.publish(TASKS, b"good".to_vec()).await.unwrap();
    let mut tickets = Vec::new();
    for _ in 0..3 {
        let pick = |e: &mut NetEvent| match e {
            NetEvent::Gossip { data, ticket, .. } => Some((data.clone(), ticket.clone())),
            _ => None,
        };
        tickets.push(b.wait("gossip", pick).await);
    }
    for (data, ticket) in tickets.clone() {
        let verdict = match data.as_slice() {
            b"bad" => Verdict::Reject,
            b"meh" => Verdict::Ignore,
            _ => Verdict::Accept,
        };
        b.net.verdict(ticket, verdict).await;
    }
    assert_eq!(c.gossip().await, b"good");
    // A second verdict, and one about something long gone, change nothing.
    for (_, ticket) in tickets {
        b.net.verdict(ticket, Verdict::Accept).await;
    }
    b.net.publish(TASKS, b"last".to_vec()).await.unwrap();
    assert_eq!(c.gossip().await, b"last");
}

/// A node whose owner reads nothing loses what does not fit, counts it, and holds up nobody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_blocks_nobody() {
    let mut nodes = mesh(3).await;
    let slow = nodes.pop().unwrap();
    let mut quick = nodes.pop().unwrap();
    let sender = nodes.pop().unwrap();
    const MESSAGES: u32 = 1_500;
    let net = sender.net.clone();
    let sending = async move {
        let mut pace = pace();
        for n in 0..MESSAGES {
            pace.tick().await;
            net.publish(TASKS, n.to_be_bytes().to_vec()).await.unwrap();
        }
    };
    let hearing = async {
        for _ in 0..MESSAGES {
            quick.gossip().await;
        }
    };
    tokio::join!(sending, hearing);
    let slow_net = slow.net.clone();
    crate::common::node::until("the slow one has counted what it lost", || async {
        let stats = slow_net.stats();
        stats.gossip_dropped > 0 && stats.gossip_in + stats.gossip_dropped == u64::from(MESSAGES)
    })
    .await;
    // Its own commands are still answered.
    tokio::time::timeout(PATIENCE, slow.net.peers()).await.expect("in time").unwrap();
}
