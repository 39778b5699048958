//! Whole nodes on a LAN of network namespaces, each with its own network: found by multicast DNS, cut off, stopped, killed, copied, flooded.
//! What is checked: every acknowledged entry is everywhere after a heal, all hold the same, no job has two results.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tests::netns::{Lan, may_unshare};
use tests::node::cli;
use tests::sisters::{is, let_in, npub, seen};
use tests::{Node, eventually};

/// As it comes, but for the leases: a test does not wait eight seconds for each death.
const CONFIG: &str = "[federation]\nenabled = true\nlease_s = 2";
/// Ten nodes on two cores take their time.
const LONG: Duration = Duration::from_secs(240);

/// A LAN, or none where it may not be made. Continuous integration may, and must not skip.
fn lan(hosts: usize) -> Option<Lan> {
    if may_unshare() {
        return Some(Lan::new(hosts));
    }
    assert!(std::env::var_os("CI").is_none(), "CI must be allowed to make network namespaces");
    eprintln!("left out: network namespaces may not be made here");
    None
}

async fn start(lan: &Lan, host: usize) -> Node {
    Node::builder().config(CONFIG).on(lan, host).start().await
}

async fn again(lan: &Lan, host: usize, dir: &Path) -> Node {
    Node::builder().dir(dir).on(lan, host).start().await
}

/// As many nodes of one federation.
async fn federation(lan: &Lan, count: usize) -> Vec<Node> {
    let mut nodes = vec![start(lan, 0).await];
    for host in 1..count {
        let node = start(lan, host).await;
        let_in(&nodes[0], &node, &[]).await;
        nodes.push(node);
    }
    nodes
}

async fn within<T>(limit: Duration, what: &str, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(Instant::now() < deadline, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn all_see_all(nodes: &[Node]) {
    for one in nodes {
        for other in nodes.iter().filter(|other| other.pid() != one.pid()) {
            within(LONG, "all see all", async || is(one, other, "member").await.then_some(())).await;
        }
    }
}

/// The texts that a node knows of those with this word.
async fn known(node: &Node, word: &str) -> BTreeSet<String> {
    let found = node.json(&["memory", "search", word, "--limit", "100"]).await;
    let texts = found.as_array().unwrap().iter().filter_map(|one| one["text"].as_str());
    texts.filter(|text| text.contains(word)).map(str::to_owned).collect()
}

/// What the node's doctor says when it is not content.
async fn equal(node: &Node) -> Result<(), Value> {
    let (_, out, _) = node.cli(&["peer", "doctor", "--json"]).await;
    let report: Value = serde_json::from_str(&out).unwrap();
    if report["ok"] == true { Ok(()) } else { Err(report) }
}

/// All have the same changes, and each has the others' word for it; and every text is everywhere.
async fn all_equal(nodes: &[Node], word: &str, told: &BTreeSet<String>) {
    for node in nodes {
        let deadline = Instant::now() + LONG;
        while let Err(report) = equal(node).await {
            assert!(Instant::now() < deadline, "never equal: {report:#}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        within(LONG, "nothing acknowledged is lost", async || (known(node, word).await == *told).then_some(())).await;
    }
}

async fn tell(node: &Node, text: String, told: &mut BTreeSet<String>) {
    node.json(&["memory", "add", &text]).await;
    told.insert(text);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_node_is_seen_by_itself_and_after_one_invitation_it_belongs() {
    let Some(lan) = lan(2) else { return };
    let (a, b) = (start(&lan, 0).await, start(&lan, 1).await);
    let stranger = eventually("a stranger is seen", async || {
        let peers = a.json(&["peer", "list"]).await;
        peers.as_array().unwrap().iter().find(|peer| peer["state"] == "seen").cloned()
    })
    .await;
    assert_eq!(
        (&stranger["npub"], &stranger["peer_id"]),
        (&Value::Null, &b.ready["peer_id"]),
        "a key, and nothing else"
    );
    let_in(&a, &b, &[]).await;
    assert_eq!(seen(&a, &b).await.unwrap()["via"], "lan");
    let mut told = BTreeSet::new();
    tell(&a, "the kettle is in the attic".to_owned(), &mut told).await;
    all_equal(&[a, b], "kettle", &told).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_heals_and_a_one_way_cut_a_stopped_and_a_killed_node_lose_nothing() {
    let Some(lan) = lan(3) else { return };
    let mut nodes = federation(&lan, 3).await;
    all_see_all(&nodes).await;
    let mut told = BTreeSet::new();
    // A partition: both halves go on.
    lan.cut(2);
    within(LONG, "the other half is lost", async || is(&nodes[0], &nodes[2], "lost").await.then_some(())).await;
    for (n, node) in nodes.iter().enumerate() {
        tell(node, format!("kettle {n} of the partition"), &mut told).await;
    }
    lan.mend(2);
    all_equal(&nodes, "kettle", &told).await;
    // One way only: what the first sends to the second goes nowhere; it goes by the third.
    lan.cut_one_way(0, 1);
    tell(&nodes[0], "kettle of the one way".to_owned(), &mut told).await;
    within(LONG, "it goes round", async || {
        known(&nodes[1], "kettle").await.contains("kettle of the one way").then_some(())
    })
    .await;
    lan.mend_one_way(0, 1);
    // One is stopped for longer than a death takes to be told, and wakes.
    signal(&nodes[1], "STOP");
    within(LONG, "the stopped one is dead", async || is(&nodes[0], &nodes[1], "lost").await.then_some(())).await;
    tell(&nodes[0], "kettle while one slept".to_owned(), &mut told).await;
    signal(&nodes[1], "CONT");
    all_equal(&nodes, "kettle", &told).await;
    // One is killed in the middle of being told things.
    for n in 0..3 {
        tell(&nodes[2], format!("kettle {n} before the end"), &mut told).await;
    }
    let mut dead = nodes.pop().unwrap();
    dead.kill().await;
    tell(&nodes[0], "kettle after the end".to_owned(), &mut told).await;
    let dir = dead.dir().to_owned();
    nodes.push(again(&lan, 2, &dir).await);
    all_equal(&nodes, "kettle", &told).await;
}

fn signal(node: &Node, name: &str) {
    let status = Command::new("kill").args([&format!("-{name}"), &node.pid().to_string()]).status().unwrap();
    assert!(status.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_from_one_backup_are_told_apart_and_one_goes_on() {
    let Some(lan) = lan(3) else { return };
    let nodes = federation(&lan, 2).await;
    let mut told = BTreeSet::new();
    tell(&nodes[1], "kettle before the backup".to_owned(), &mut told).await;
    all_equal(&nodes, "kettle", &told).await;
    let desk = tempfile::TempDir::new().unwrap();
    let (words, file) = (desk.path().join("words"), desk.path().join("node.backup"));
    std::fs::write(&words, "a long passphrase\n").unwrap();
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    nodes[1].json(&["backup", &path(&file), "--passphrase-file", &path(&words)]).await;
    let home = desk.path().join("copy");
    let (code, _, err) = cli(&home, &["restore", &path(&file), "--passphrase-file", &path(&words)]).await;
    assert_eq!(code, 0, "{err}");
    let twin = again(&lan, 2, &home).await;
    assert_eq!(npub(&twin), npub(&nodes[1]), "one passport");
    // The restored one has the newer card; the other shuts its doors, and says so.
    within(LONG, "the older install steps back", async || {
        let status = nodes[1].json(&["status"]).await;
        let warnings = status["warnings"].as_array().unwrap();
        warnings
            .iter()
            .any(|warning| warning["code"].as_str().is_some_and(|code| code == "passport_elsewhere"))
            .then_some(())
    })
    .await;
    within(LONG, "the newer one belongs", async || is(&nodes[0], &twin, "member").await.then_some(())).await;
    tell(&nodes[0], "the kettle stands on the stove now".to_owned(), &mut told).await;
    tell(&twin, "a second kettle was bought in Ulm".to_owned(), &mut told).await;
    within(LONG, "all of it is known", async || {
        (known(&twin, "kettle").await == told && known(&nodes[0], "kettle").await == told).then_some(())
    })
    .await;
}

/// Garbage to every port that a node listens on, by UDP and TCP, and to multicast DNS.
const FLOOD: &str = r#"
import os, random, socket, sys, time
host, ports, seconds, own = sys.argv[1], [int(p) for p in sys.argv[2].split(",")], float(sys.argv[3]), sys.argv[4]
end, sent = time.time() + seconds, 0
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(own))
kept = []
while time.time() < end:
    for port in ports:
        udp.sendto(os.urandom(random.randint(1, 1200)), (host, port))
        try:
            tcp = socket.socket(); tcp.settimeout(0.2); tcp.connect((host, port)); tcp.send(os.urandom(200)); kept.append(tcp)
        except OSError:
            pass
        kept = kept[-200:]
    udp.sendto(os.urandom(random.randint(1, 1200)), ("224.0.0.251", 5353))
    sent += 1
print(sent)
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_that_floods_gets_nothing_and_the_members_go_on() {
    let Some(lan) = lan(3) else { return };
    let nodes = federation(&lan, 2).await;
    let ports = listening(&lan, 0);
    assert!(!ports.is_empty());
    let ports: Vec<String> = ports.iter().map(ToString::to_string).collect();
    let flood = lan
        .command(2, "python3")
        .args(["-c", FLOOD, &lan.ip4(0), &ports.join(","), "8", &lan.ip4(2)])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut told = BTreeSet::new();
    for n in 0..10 {
        tell(&nodes[n % 2], format!("kettle {n} in the flood"), &mut told).await;
    }
    let done =
        nodes[0].json(&["job", "submit", "--kind", "5000", "--input", "still here", "--on", &npub(&nodes[1])]).await;
    assert_eq!(done["output"], "still here");
    let out = flood.wait_with_output().unwrap();
    let sent: u64 = String::from_utf8_lossy(&out.stdout).trim().parse().unwrap();
    assert!(sent > 50, "it was a flood: {sent} rounds");
    all_equal(&nodes, "kettle", &told).await;
    assert!(is(&nodes[0], &nodes[1], "member").await && is(&nodes[1], &nodes[0], "member").await);
}

/// The ports that the node of a host listens on for others, UDP and TCP.
fn listening(lan: &Lan, host: usize) -> BTreeSet<u16> {
    let mut ports = BTreeSet::new();
    for (file, state) in [("/proc/net/udp", "07"), ("/proc/net/tcp", "0A")] {
        let out = lan.command(host, "cat").arg(file).output().unwrap();
        for line in String::from_utf8_lossy(&out.stdout).lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let Some((address, port)) = fields[1].split_once(':') else { continue };
            let port = u16::from_str_radix(port, 16).unwrap();
            if address == "00000000" && fields[3] == state && port != 5353 {
                ports.insert(port);
            }
        }
    }
    ports
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_nodes_that_fall_into_two_halves_are_one_again_and_no_job_has_two_results() {
    let Some(lan) = lan(10) else { return };
    let nodes = federation(&lan, 10).await;
    all_see_all(&nodes).await;
    let mut told = BTreeSet::new();
    // Jobs for others are under way while the LAN falls apart.
    let mut jobs = Vec::new();
    for node in &nodes[..5] {
        let on = npub(&nodes[9]);
        let made = node.json(&["job", "submit", "--kind", "5000", "--input", "text", "--on", &on, "--no-wait"]).await;
        jobs.push((node, made["id"].as_str().unwrap().to_owned()));
    }
    for host in 5..10 {
        lan.cut(host);
    }
    for (n, node) in nodes.iter().enumerate() {
        tell(node, format!("kettle {n} of ten"), &mut told).await;
    }
    for host in 5..10 {
        lan.mend(host);
    }
    all_equal(&nodes, "kettle", &told).await;
    for (node, id) in jobs {
        let job = within(LONG, "every job ends", async || {
            let job = node.json(&["job", "show", &id]).await;
            matches!(job["state"].as_str(), Some("settled" | "failed")).then_some(job)
        })
        .await;
        let run = node.json(&["job", "replay", &id]).await;
        let results =
            run["steps"].as_array().unwrap().iter().filter(|step| step["input"]["input"] == "produced").count();
        assert!(results <= 1 && (results == 1) == (job["state"] == "settled"), "{job} {run}");
    }
}

/// The port of the outside relay on its host.
const RELAY_PORT: u16 = 7070;
/// Makes this test program a relay of another codebase, on a host of its own.
const RELAY: &str = "TIMMY_TEST_RELAY";

/// The relay's entry. Without its variable there is nothing to do.
#[tokio::test(flavor = "multi_thread")]
async fn an_outside_relay_on_its_own_host() {
    if std::env::var_os(RELAY).is_some() {
        tests::Outside::serve_all(RELAY_PORT).await;
    }
}

/// Ended with the test.
struct Relay(std::process::Child);

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn relay_on(lan: &Lan, host: usize) -> (Relay, String) {
    let child = lan
        .command(host, std::env::current_exe().unwrap())
        .args(["an_outside_relay_on_its_own_host", "--exact"])
        .env(RELAY, "1")
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    (Relay(child), format!("ws://{}:{RELAY_PORT}", lan.ip4(host)))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_entries_arrive_once_while_each_carrier_is_cut_in_turn() {
    let Some(lan) = lan(3) else { return };
    let (_relay, url) = relay_on(&lan, 2);
    let config = format!("{CONFIG}\n[nostr]\nrelays = [{url:?}]");
    let mut nodes = Vec::new();
    for host in 0..2 {
        nodes.push(Node::builder().config(&config).on(&lan, host).start().await);
    }
    let_in(&nodes[0], &nodes[1], &[]).await;
    let desk = tempfile::TempDir::new().unwrap();
    for round in 0..20 {
        match round % 4 {
            // Both carriers; the LAN between the two alone; both; the relay alone.
            0 => lan.mend(2),
            1 => lan.cut(2),
            2 => lan.mend(2),
            _ => {
                lan.cut_one_way(0, 1);
                lan.cut_one_way(1, 0);
            }
        }
        let file = desk.path().join(format!("{round}.txt"));
        let lines: String = (0..50)
            .map(|n| format!("entry {n} of round {round}: {}\n", hex::encode(rand::random::<[u8; 9]>())))
            .collect();
        std::fs::write(&file, lines).unwrap();
        nodes[round % 2].json(&["memory", "import", file.to_str().unwrap()]).await;
        let want = u64::try_from(round + 1).unwrap() * 50;
        let other = &nodes[1 - round % 2];
        // Whichever carrier is left brings it: nothing waits for the other one to come back.
        within(LONG, "the round arrives", async || {
            (other.json(&["memory", "stats"]).await["entries"] == want).then_some(())
        })
        .await;
        if round % 4 == 3 {
            lan.mend_one_way(0, 1);
            lan.mend_one_way(1, 0);
        }
    }
    for node in &nodes {
        assert_eq!(node.json(&["memory", "stats"]).await["entries"], 1_000, "all of them, once");
    }
    all_equal(&nodes, "no such word", &BTreeSet::new()).await;
}
