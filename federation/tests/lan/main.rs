//! Nodes as processes in network namespaces of their own: found by multicast DNS, cut off, killed, found again.

#![allow(clippy::unwrap_used, clippy::print_stderr, clippy::wildcard_enum_match_arm, reason = "a test may fail loudly")]

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/lan_node.rs"]
mod lan_node;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use common::netns::{Lan, may_unshare};
use common::node::PATIENCE;
use lan_node::{CHILD, LanNode, Start};

const TAG: &str = "00112233445566778899aabbccddeeff";

/// A LAN, or the reason why there is none. Continuous integration may make namespaces; it must not skip.
fn lan(hosts: usize) -> Option<Lan> {
    if may_unshare() {
        return Some(Lan::new(hosts));
    }
    assert!(std::env::var_os("CI").is_none(), "CI must be allowed to make network namespaces");
    eprintln!("left out: network namespaces may not be made here");
    None
}

fn start(lan: &Lan, host: usize, transport: &str, members: &[u8]) -> LanNode {
    let seed = u8::try_from(host + 1).unwrap();
    let members = members.iter().copied().filter(|m| *m != seed).collect();
    start_as(lan, host, &Start { seed, transport, tag: TAG, label: "-", members })
}

fn start_as(lan: &Lan, host: usize, start: &Start<'_>) -> LanNode {
    LanNode::start(lan.command(host, std::env::current_exe().unwrap()), start)
}

/// Each hears what the other gossips; by the direct connection, since both ends were told of it.
fn both_hear(nodes: &mut [LanNode], a: usize, b: usize, text: &str) {
    let [a, b] = nodes.get_disjoint_mut([a, b]).expect("two nodes");
    a.is_heard_by(b, &format!("{text} to"));
    b.is_heard_by(a, &format!("{text} fro"));
}

/// The child's entry. Without its variable it tries itself: a node starts, answers, and stops when its input ends.
#[test]
fn a_node_runs_and_stops() {
    if let Ok(config) = std::env::var(CHILD) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(lan_node::run(&config));
        return;
    }
    let Some(lan) = lan(1) else { return };
    let mut node = start(&lan, 0, "both", &[1]);
    assert_eq!(node.peers().trim_end(), "peers");
    node.stop();
}

#[test]
fn two_nodes_find_each_other_and_say_goodbye() {
    let Some(lan) = lan(2) else { return };
    for host in 0..2 {
        // A container network on each host, which must not be announced.
        lan.ip(host, "link add docker0 type bridge");
        lan.ip(host, "addr add 172.17.0.1/16 dev docker0");
        lan.ip(host, "link set docker0 up");
    }
    let mut a = start(&lan, 0, "both", &[1, 2]);
    let began = Instant::now();
    let mut b = start(&lan, 1, "both", &[1, 2]);
    // One record for each IP version: the second adds to the first.
    let (mut seen, _) = b.wait("seen", PATIENCE);
    if !seen.contains("/ip6/") {
        (seen, _) = b.wait("seen", PATIENCE);
    }
    assert!(seen.contains(TAG) && seen.contains("/ip4/10.77.0.1/udp/") && seen.contains("/ip6/fd77::1/"), "{seen}");
    assert!(seen.contains("/tcp/") && !seen.contains("172.17.") && !seen.contains(&a.id()), "{seen}");
    a.meshed(2);
    b.meshed(1);
    eprintln!("meshed {:?} after the second one's start", began.elapsed());
    a.tell("publish hello");
    b.wait("gossip hello", PATIENCE);
    let until = Instant::now() + PATIENCE;
    while !b.peers().ends_with(":1") {
        assert!(Instant::now() < until, "one connection: {}", b.peers());
        std::thread::sleep(Duration::from_millis(100));
    }
    a.wait("alive", PATIENCE);
    b.stop();
    a.wait("gone", PATIENCE);
    a.wait("dead", PATIENCE);
}

#[test]
fn strangers_on_the_lan_see_a_tag_and_no_more() {
    let Some(lan) = lan(2) else { return };
    let none = BTreeSet::new();
    let mut a = start_as(&lan, 0, &Start { seed: 1, transport: "both", tag: TAG, label: "-", members: none.clone() });
    let mut b = start_as(&lan, 1, &Start { seed: 2, transport: "both", tag: "ff", label: "-", members: none });
    b.wait("seen", PATIENCE);
    b.wait(&format!("connected {}", a.id()), PATIENCE);
    a.wait(&format!("connected {}", b.id()), PATIENCE);
    a.tell("publish secret");
    assert!(b.try_wait("gossip", Duration::from_secs(4)).is_none());
    assert!(!b.seen.iter().chain(&a.seen).any(|line| line.starts_with("meshed")));
}

#[test]
fn one_of_two_with_the_same_label_takes_another() {
    let Some(lan) = lan(3) else { return };
    let members = || BTreeSet::from([1, 2, 3]);
    let same = |seed| Start { seed, transport: "both", tag: TAG, label: "twin", members: members() };
    let mut a = start_as(&lan, 0, &same(1));
    let mut b = start_as(&lan, 1, &same(2));
    let mut c = start(&lan, 2, "both", &[1, 2, 3]);
    // Whichever asked later.
    let renamed = a.try_wait("renamed", Duration::from_secs(5)).or_else(|| b.try_wait("renamed", PATIENCE));
    let (renamed, _) = renamed.expect("one is renamed");
    eprintln!("{renamed}");
    c.meshed(1);
    c.meshed(2);
    a.meshed(2);
}

/// Without IPv4 the nodes find and reach each other by IPv6, at the port that is announced for both.
#[test]
fn two_nodes_meet_by_ipv6_alone() {
    let Some(lan) = lan(2) else { return };
    let mut a = start(&lan, 0, "both", &[1, 2]);
    for host in 0..2 {
        lan.ip(host, "-4 addr flush dev eth0");
    }
    let mut b = start(&lan, 1, "both", &[1, 2]);
    a.meshed(2);
    b.meshed(1);
    let (connected, _) = b.wait("connected", PATIENCE);
    assert!(connected.contains("/ip6/fd77::"), "{connected}");
}

/// The death of a peer whose cable is pulled is told although nothing says goodbye, on both transports, and it is
/// found again when the cable is back.
fn cut_and_mend(transport: &str) {
    let Some(lan) = lan(3) else { return };
    let mut nodes: Vec<LanNode> = (0..3).map(|n| start(&lan, n, transport, &[1, 2, 3])).collect();
    for (n, node) in nodes.iter_mut().enumerate() {
        for peer in 1..=3u8 {
            if usize::from(peer) != n + 1 {
                node.wait(&format!("alive {}", lan_node::name(peer)), PATIENCE);
            }
        }
    }
    let cut = Instant::now();
    lan.cut(2);
    let victim = nodes[2].id();
    for node in &mut nodes[..2] {
        let (_, at) = node.wait(&format!("dead {victim}"), PATIENCE);
        eprintln!("{transport}: told dead after {:?}", at - cut);
        node.wait(&format!("disconnected {victim}"), PATIENCE);
    }
    // The survivors have lost nothing of each other.
    let others = [nodes[1].id(), nodes[0].id()];
    for (node, other) in nodes[..2].iter_mut().zip(&others) {
        assert!(!node.seen.iter().any(|l| *l == format!("dead {other}") || *l == format!("disconnected {other}")));
    }
    for other in &others {
        nodes[2].wait(&format!("dead {other}"), PATIENCE);
    }
    let mended = Instant::now();
    lan.mend(2);
    for node in &mut nodes[..2] {
        let (_, at) = node.wait(&format!("back {victim}"), PATIENCE);
        eprintln!("{transport}: back after {:?}", at - mended);
    }
    both_hear(&mut nodes, 0, 2, "again");
}

#[test]
fn a_pulled_cable_is_a_death_and_a_mended_one_a_return_by_quic() {
    cut_and_mend("udp");
}

#[test]
fn a_pulled_cable_is_a_death_and_a_mended_one_a_return_by_tcp() {
    cut_and_mend("tcp");
}

/// The interface itself goes down and up, which takes its IPv6 address and its multicast groups away.
#[test]
fn a_flapped_link_is_found_again_by_newcomers_too() {
    let Some(mut lan) = lan(2) else { return };
    let mut a = start(&lan, 0, "both", &[1, 2, 3]);
    let mut b = start(&lan, 1, "both", &[1, 2, 3]);
    a.wait(&format!("alive {}", b.id()), PATIENCE);
    b.wait(&format!("alive {}", a.id()), PATIENCE);
    lan.ip(0, "link set eth0 down");
    b.wait(&format!("dead {}", a.id()), PATIENCE);
    let up = Instant::now();
    lan.address(0);
    let (_, back) = b.wait(&format!("back {}", a.id()), PATIENCE);
    eprintln!("back {:?} after the interface", back - up);
    // Multicast works again both ways: a newcomer is heard by it, and hears it.
    let host = lan.plug_in();
    let mut c = start(&lan, host, "both", &[1, 2, 3]);
    c.wait(&format!("alive {}", a.id()), PATIENCE);
    let seen = |node: &LanNode, ip: &str| node.seen.iter().any(|l| l.starts_with("seen") && l.contains(ip));
    if !seen(&c, "/ip4/10.77.0.1/") {
        c.wait("seen", PATIENCE);
    }
    a.wait(&format!("alive {}", c.id()), PATIENCE);
    let until = Instant::now() + PATIENCE;
    while !seen(&a, "/ip4/10.77.0.3/") {
        assert!(Instant::now() < until, "{:?}", a.seen);
        a.try_wait("seen", Duration::from_millis(500));
    }
    // A short flap, which no check of addresses may notice: the next newcomer is heard all the same.
    lan.ip(0, "link set eth0 down");
    lan.address(0);
    a.is_heard_by(&mut c, "after");
    let host = lan.plug_in();
    let mut d = start(&lan, host, "both", &[1, 2, 3, 4]);
    let until = Instant::now() + PATIENCE;
    while !seen(&a, "/ip4/10.77.0.4/") || !seen(&d, "/ip4/10.77.0.1/") {
        assert!(Instant::now() < until, "{:?} {:?}", a.seen, d.seen);
        a.try_wait("seen", Duration::from_millis(200));
        d.try_wait("seen", Duration::from_millis(200));
    }
}

/// One side has given the other up; the other, stopped all the while, knows of nothing and holds dead connections.
/// With only two nodes nothing comes by a third.
#[test]
fn a_node_that_slept_through_its_death_is_heard_again() {
    let Some(lan) = lan(2) else { return };
    let mut nodes: Vec<LanNode> = (0..2).map(|n| start(&lan, n, "both", &[1, 2])).collect();
    let (a, b) = (nodes[0].id(), nodes[1].id());
    nodes[0].wait(&format!("alive {b}"), PATIENCE);
    nodes[1].wait(&format!("alive {a}"), PATIENCE);
    for round in 0..3 {
        nodes[1].signal("-STOP");
        // What the other says when it closes is lost.
        lan.cut(1);
        nodes[0].wait(&format!("dead {b}"), PATIENCE);
        lan.mend(1);
        nodes[1].signal("-CONT");
        nodes[0].wait(&format!("back {b}"), PATIENCE);
        both_hear(&mut nodes, 0, 1, &format!("round {round}"));
    }
}

#[test]
fn killed_and_stopped_processes_are_told_dead_and_come_back() {
    let Some(lan) = lan(3) else { return };
    let mut nodes: Vec<LanNode> = (0..3).map(|n| start(&lan, n, "both", &[1, 2, 3])).collect();
    for (n, node) in nodes.iter_mut().enumerate() {
        for peer in (1..=3u8).filter(|p| usize::from(*p) != n + 1) {
            node.wait(&format!("alive {}", lan_node::name(peer)), PATIENCE);
        }
    }
    let (a, b) = (nodes[0].id(), nodes[1].id());
    let stopped = Instant::now();
    nodes[1].signal("-STOP");
    for n in [0, 2] {
        let (_, at) = nodes[n].wait(&format!("dead {b}"), PATIENCE);
        eprintln!("stopped: told dead after {:?}", at - stopped);
    }
    nodes[1].signal("-CONT");
    for n in [0, 2] {
        nodes[n].wait(&format!("back {b}"), PATIENCE);
    }
    both_hear(&mut nodes, 0, 1, "one");
    assert!(!nodes[1].seen.iter().any(|l| l.starts_with("dead")), "who slept blames nobody: {:?}", nodes[1].seen);

    let killed = Instant::now();
    nodes[0].signal("-KILL");
    for node in &mut nodes[1..] {
        let (_, at) = node.wait(&format!("dead {a}"), PATIENCE);
        eprintln!("killed: told dead after {:?}", at - killed);
    }
    nodes[0] = start(&lan, 0, "both", &[1, 2, 3]);
    for node in &mut nodes[1..] {
        node.wait(&format!("back {a}"), PATIENCE);
    }
    nodes[0].meshed(2);
    both_hear(&mut nodes, 2, 0, "two");
}

/// A cannot send to B, but B can to A, and C to both: nobody is dead.
#[test]
fn a_one_way_cut_with_a_witness_is_no_death() {
    let Some(lan) = lan(3) else { return };
    let mut nodes: Vec<LanNode> = (0..3).map(|n| start(&lan, n, "both", &[1, 2, 3])).collect();
    for (n, node) in nodes.iter_mut().enumerate() {
        for peer in (1..=3u8).filter(|p| usize::from(*p) != n + 1) {
            node.wait(&format!("alive {}", lan_node::name(peer)), PATIENCE);
        }
    }
    lan.cut_one_way(0, 1);
    for node in &mut nodes {
        assert!(node.try_wait("dead", Duration::from_secs(15)).is_none(), "{:?}", node.seen);
    }
    nodes[0].tell("publish around");
    nodes[1].wait("gossip around", PATIENCE);
    lan.mend_one_way(0, 1);
}

#[test]
fn ten_nodes_find_one_another() {
    let Some(lan) = lan(10) else { return };
    let all: Vec<u8> = (1..=10).collect();
    let mut nodes: Vec<LanNode> = (0..10).map(|n| start(&lan, n, "both", &all)).collect();
    for node in &mut nodes {
        let mut missing: BTreeSet<String> =
            all.iter().filter(|m| **m != node.seed).map(|m| lan_node::name(*m)).collect();
        while !missing.is_empty() {
            let (line, _) = node.wait("meshed", PATIENCE);
            missing.remove(line.trim_start_matches("meshed "));
        }
    }
    nodes[9].tell("publish all");
    for node in &mut nodes[..9] {
        node.wait("gossip all", PATIENCE);
    }
    // Twenty seconds of ten busy processes on few cores: slow, and nobody dead.
    let until = Instant::now() + Duration::from_secs(20);
    while Instant::now() < until {
        for node in &mut nodes {
            assert!(node.try_wait("dead", Duration::from_millis(50)).is_none(), "{:?}", node.seen);
        }
    }
}
