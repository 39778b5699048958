//! A stranger learns a PeerId and nothing else, and cannot stay.

use std::time::Duration;

use federation::net::{Limits, NetEvent, NetOptions, OpenError, Protocol, Standing};
use libp2p::futures::StreamExt;
use libp2p::futures::io::{AsyncReadExt, AsyncWriteExt};
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{Swarm, SwarmBuilder, gossipsub, identify};

use crate::common::node::{Node, PATIENCE, TASKS, befriend, loopback, options, roomy, until};

fn with_limits(limits: Limits) -> NetOptions {
    let mut options = options(loopback(true, false));
    options.limits = limits;
    options
}

/// A peer of libp2p's own parts that wants to know everything.
#[derive(NetworkBehaviour)]
struct Nosy {
    gossip: gossipsub::Behaviour,
    identify: identify::Behaviour,
}

fn nosy() -> Swarm<Nosy> {
    SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_quic()
        .with_behaviour(|key| {
            let authenticity = gossipsub::MessageAuthenticity::Signed(key.clone());
            let mut gossip = gossipsub::Behaviour::new(authenticity, gossipsub::Config::default()).unwrap();
            gossip.subscribe(&gossipsub::IdentTopic::new(TASKS)).unwrap();
            Nosy { gossip, identify: identify::Behaviour::new(identify::Config::new("x/1".into(), key.public())) }
        })
        .unwrap()
        .with_swarm_config(|c| c.with_idle_connection_timeout(PATIENCE))
        .build()
}

#[tokio::test]
async fn a_strangers_gossip_and_identify_get_nothing_and_give_nothing() {
    let mut a = Node::quic();
    let mut b = Node::quic();
    befriend(&a, &b);
    let (ida, idb) = (a.id(), b.id());
    b.net.dial(Some(ida), a.addrs().await).await.unwrap();
    a.meshed(idb).await;
    b.meshed(ida).await;

    let mut spy = nosy();
    spy.dial(a.addrs().await[0].clone()).unwrap();
    let (mut refused_gossip, mut refused_identify) = (false, false);
    // libp2p asks both protocols at once; each must be refused while the connection stands.
    let asked = async {
        while !(refused_gossip && refused_identify) {
            match spy.select_next_some().await {
                SwarmEvent::Behaviour(NosyEvent::Gossip(gossipsub::Event::GossipsubNotSupported { .. })) => {
                    refused_gossip = true
                }
                SwarmEvent::Behaviour(NosyEvent::Identify(identify::Event::Error { .. })) => refused_identify = true,
                SwarmEvent::Behaviour(other) => panic!("the stranger learned {other:?}"),
                SwarmEvent::ConnectionClosed { .. } => panic!("closed before it was refused"),
                _ => {}
            }
        }
    };
    tokio::time::timeout(PATIENCE, asked).await.expect("refused");
    assert!(
        spy.behaviour_mut().gossip.publish(gossipsub::IdentTopic::new(TASKS), b"evil".to_vec()).is_err(),
        "no mesh"
    );

    // Members go on; the stranger, still connected, hears none of it, and what it says is never heard.
    for n in 0..20u8 {
        b.net.publish(TASKS, vec![n]).await.unwrap();
    }
    let heard = async {
        let mut heard = Vec::new();
        while heard.len() < 20 {
            tokio::select! {
                data = a.gossip() => heard.push(data),
                event = spy.select_next_some() => {
                    assert!(!matches!(event, SwarmEvent::Behaviour(_)), "the stranger learned {event:?}");
                }
            }
        }
        heard
    };
    let heard = tokio::time::timeout(PATIENCE, heard).await.expect("members hear");
    assert!(heard.iter().all(|d| d != b"evil"));
    assert!(spy.is_connected(&ida));
}

#[tokio::test]
async fn a_stranger_may_say_hello_and_nothing_more() {
    let (mut a, mut b) = (Node::quic(), Node::quic());
    b.net.dial(None, a.addrs().await).await.unwrap();
    let (ida, idb) = (a.id(), b.id());
    let standing = a
        .wait("connection", |e| if let NetEvent::Connected { standing, .. } = e { Some(*standing) } else { None })
        .await;
    assert_eq!(standing, Standing::Stranger);
    b.wait("connection", |e| matches!(e, NetEvent::Connected { .. }).then_some(())).await;

    let mut hello = b.net.open(ida, Protocol::HELLO).await.unwrap();
    hello.write_all(b"hi").await.unwrap();
    hello.flush().await.unwrap();
    let (from, mut theirs) = a.stream(Protocol::HELLO).await;
    let mut two = [0; 2];
    theirs.read_exact(&mut two).await.unwrap();
    assert_eq!((from, &two), (idb, b"hi"));

    assert!(matches!(b.net.open(ida, Protocol::JOIN).await, Err(OpenError::Unsupported(_))), "no invitation is open");
    *a.gate.inviting.lock().unwrap() = true;
    drop(b.net.open(ida, Protocol::JOIN).await.expect("an invitation is open"));

    // b takes a for a member; a does not: nothing of a member's opens, on either side.
    b.knows(ida);
    b.net.reconsider(ida).await;
    assert!(b.net.open(ida, Protocol::SYNC).await.is_err());
    assert!(matches!(a.net.open(idb, Protocol::SYNC).await, Err(OpenError::NotConnected(_))));

    // Once both have admitted each other it does, on the connection that exists.
    a.knows(idb);
    a.net.reconsider(idb).await;
    a.meshed(idb).await;
    b.meshed(ida).await;
    drop(b.net.open(ida, Protocol::SYNC).await.expect("members"));
    b.net.publish(TASKS, b"now a member".to_vec()).await.unwrap();
    assert_eq!(a.gossip().await, b"now a member");
}

#[tokio::test]
async fn strangers_have_their_time_and_their_number() {
    let life = Duration::from_millis(1_500);
    let mut a = Node::start(with_limits(Limits { strangers: 3, strangers_per_ip: 2, stranger_life: life, ..roomy() }));
    let addrs = a.addrs().await;
    let mut crowd: Vec<Node> = (0..4).map(|_| Node::quic()).collect();
    for node in &crowd {
        node.net.dial(None, addrs.clone()).await.unwrap();
    }
    let net = a.net.clone();
    until("two of four from one address are refused", || async { net.stats().connections_refused >= 2 }).await;
    until("the two that were let in are shown out", || async { net.stats().strangers_expired >= 2 }).await;
    until("nobody is left", || async { net.peers().await.unwrap().is_empty() }).await;

    // A member is never in the way of these bounds.
    let mut b = crowd.pop().unwrap();
    befriend(&a, &b);
    let (ida, idb) = (a.id(), b.id());
    b.net.dial(Some(ida), addrs).await.unwrap();
    b.meshed(ida).await;
    a.meshed(idb).await;
}

#[tokio::test]
async fn the_blocked_and_the_removed_lose_their_connections() {
    let (mut a, mut b) = (Node::quic(), Node::quic());
    befriend(&a, &b);
    let (ida, idb) = (a.id(), b.id());
    let addrs = a.addrs().await;
    b.net.dial(Some(ida), addrs.clone()).await.unwrap();
    a.meshed(idb).await;
    b.meshed(ida).await;

    // Removed: a stranger again, put out at once.
    a.gate.members.lock().unwrap().remove(&idb);
    a.net.reconsider(idb).await;
    a.disconnected(idb).await;
    b.disconnected(ida).await;

    // Blocked: refused whenever it comes (b still takes a for a member and dials it again by itself).
    a.gate.blocked.lock().unwrap().insert(idb);
    let refused = a.net.stats().connections_refused;
    let net = a.net.clone();
    until("a blocked peer is refused", || async { net.stats().connections_refused > refused }).await;
    assert!(a.net.peers().await.unwrap().is_empty());
}
