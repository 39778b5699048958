//! Figures of the network: discovery, gossip and the detection of deaths.
//!
//! `cargo run --release -p federation --example net_figures [rounds]`. Discovery and deaths are measured between
//! processes in network namespaces (which it must be allowed to make), gossip between nodes of this process on
//! loopback, at 200 messages of 1 kB a second.

#![allow(dead_code, clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr, clippy::wildcard_enum_match_arm)]

#[path = "../tests/common/mod.rs"]
mod common;
#[path = "../tests/common/lan_node.rs"]
mod lan_node;

use std::time::{Duration, Instant};

use common::netns::{Lan, may_unshare};
use common::node::{Node, PATIENCE, TASKS, befriend};
use federation::net::{NetEvent, Verdict};
use lan_node::{CHILD, LanNode, Start, name};

const TAG: &str = "00112233445566778899aabbccddeeff";

fn main() {
    if let Ok(config) = std::env::var(CHILD) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(lan_node::run(&config));
        return;
    }
    let rounds = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(20);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    for count in [2, 10] {
        let times = runtime.block_on(gossip(count));
        report(&format!("gossip, {count} nodes, 200 messages/s, every receiver"), &times.0);
        report(&format!("gossip, {count} nodes, 200 messages/s, last receiver"), &times.1);
    }
    if !may_unshare() {
        println!("network namespaces may not be made here: no figures of discovery and deaths");
        return;
    }
    discovery(rounds);
    deaths(rounds);
}

fn report(what: &str, times: &[Duration]) {
    let mut times = times.to_vec();
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share).round() as usize];
    let ms = |time: Duration| time.as_secs_f64() * 1_000.0;
    println!(
        "{what}: n={} p50 {:.1} ms, p95 {:.1} ms, p99 {:.1} ms, max {:.1} ms",
        times.len(),
        ms(at(0.5)),
        ms(at(0.95)),
        ms(at(0.99)),
        ms(at(1.0))
    );
}

async fn mesh(count: usize) -> Vec<Node> {
    let mut nodes: Vec<Node> = (0..count).map(|_| Node::quic()).collect();
    for i in 0..count {
        for j in 0..i {
            befriend(&nodes[i], &nodes[j]);
            let addrs = nodes[j].addrs().await;
            nodes[i].net.dial(Some(nodes[j].id()), addrs).await.unwrap();
        }
    }
    for node in &mut nodes {
        for _ in 1..count {
            node.wait("mesh", |e| matches!(e, NetEvent::Meshed(_)).then_some(())).await;
        }
    }
    // The mesh of gossip forms with its heartbeats.
    tokio::time::sleep(Duration::from_secs(3)).await;
    nodes
}

/// Latencies to every receiver, and to the last of each message.
async fn gossip(count: usize) -> (Vec<Duration>, Vec<Duration>) {
    const MESSAGES: u32 = 2_000;
    let mut nodes = mesh(count).await;
    let nets: Vec<_> = nodes.iter().map(|n| n.net.clone()).collect();
    let began = Instant::now();
    let sender = async move {
        let mut pace = tokio::time::interval(Duration::from_millis(5));
        for n in 0..MESSAGES {
            pace.tick().await;
            let mut data = n.to_be_bytes().to_vec();
            data.extend(u64::try_from(began.elapsed().as_nanos()).unwrap().to_be_bytes());
            data.resize(1_000, 7);
            nets[n as usize % nets.len()].publish(TASKS, data).await.unwrap();
        }
    };
    let mut hearers = tokio::task::JoinSet::new();
    for (i, mut node) in nodes.drain(..).enumerate() {
        hearers.spawn(async move {
            let mut heard = Vec::new();
            let expected = (0..MESSAGES).filter(|n| *n as usize % count != i).count();
            while heard.len() < expected {
                let Some(NetEvent::Gossip { data, ticket, .. }) = node.events.recv().await else { continue };
                let at = began.elapsed();
                node.net.verdict(ticket, Verdict::Accept).await;
                let n = u32::from_be_bytes(data[..4].try_into().unwrap());
                let sent = Duration::from_nanos(u64::from_be_bytes(data[4..12].try_into().unwrap()));
                heard.push((n, at.saturating_sub(sent)));
            }
            (node, heard)
        });
    }
    sender.await;
    let (mut all, mut last) = (Vec::new(), vec![Duration::ZERO; MESSAGES as usize]);
    let mut kept = Vec::new();
    while let Some(Ok((node, heard))) = hearers.join_next().await {
        kept.push(node);
        for (n, latency) in heard {
            all.push(latency);
            let slowest = &mut last[n as usize];
            *slowest = latency.max(*slowest);
        }
    }
    (all, last)
}

fn start(lan: &Lan, host: usize, count: u8) -> LanNode {
    let seed = u8::try_from(host + 1).unwrap();
    let members = (1..=count).filter(|m| *m != seed).collect();
    let command = lan.command(host, std::env::current_exe().unwrap());
    LanNode::start(command, &Start { seed, transport: "both", tag: TAG, label: "-", members })
}

/// A newcomer: when it has found the other, when the other has found it, when both have admitted each other.
fn discovery(rounds: usize) {
    let lan = Lan::new(2);
    let mut host = start(&lan, 0, 2);
    let (mut finds, mut found, mut meshed) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let mut newcomer = start(&lan, 1, 2);
        let began = newcomer.ready;
        let since = |at: Instant| at.saturating_duration_since(began);
        finds.push(since(newcomer.wait("seen", PATIENCE).1));
        found.push(since(host.wait("seen", PATIENCE).1));
        meshed.push(since(newcomer.meshed(1).max(host.meshed(2))));
        newcomer.stop();
        host.wait("gone", PATIENCE);
        host.wait(&format!("disconnected {}", name(2)), PATIENCE);
        while host.try_wait("seen", Duration::ZERO).is_some() {}
    }
    report("discovery: a newcomer finds a node", &finds);
    report("discovery: a node finds a newcomer", &found);
    report("discovery: both connected and admitted", &meshed);
}

/// From SIGKILL to the word of each of two survivors.
fn deaths(rounds: usize) {
    let lan = Lan::new(3);
    let mut nodes: Vec<LanNode> = (0..3).map(|n| start(&lan, n, 3)).collect();
    let mut told = Vec::new();
    for round in 0..rounds {
        for node in &mut nodes[..2] {
            let word = if round == 0 { "alive" } else { "back" };
            node.wait(&format!("{word} {}", name(3)), PATIENCE);
        }
        // Deaths come at any time of a probe's second.
        std::thread::sleep(Duration::from_millis(2_000 + 137 * u64::try_from(round % 8).unwrap()));
        let killed = Instant::now();
        nodes[2].signal("-KILL");
        for node in &mut nodes[..2] {
            told.push(node.wait(&format!("dead {}", name(3)), PATIENCE).1 - killed);
        }
        nodes[2] = start(&lan, 2, 3);
    }
    report("detection of a killed process, each of two survivors", &told);
}
