//! Sister nodes as processes: found, let in, told, synced, healed, outlived; and what a node of ten costs when nothing happens.
//!
//! On loopback where programs of this machine ask the nodes; on a LAN of network namespaces where multicast, cuts and traffic matter.

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags};
use serde_json::{Value, json};
use tests::netns::{Lan, may_unshare};
use tests::sisters::{SISTER, is, npub};
use tests::{ModelDouble, Node};

use crate::report::{Report, digits, p50_p99, percentile, thousands};

const FOUND: usize = 10;
const AT_HOME: Duration = Duration::from_secs(4);
const TOLD: usize = 100;
const DEATHS: usize = 5;
/// Entries of the cold syncs.
const COLD: [usize; 2] = [10_000, 100_000];
/// Entries that each half of a partition writes.
const HALF: usize = 1_000;
const IDLE: Duration = Duration::from_secs(30);
/// Longer than anything that works.
const LONG: Duration = Duration::from_secs(600);
const ON_LAN: &str = "[federation]\nenabled = true";

/// Measures and reports.
pub fn run(report: &mut Report, dir: &Path, largest: usize) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    report.table("Sister nodes", &["what", "measured", "goal"]);
    runtime.block_on(async {
        if may_unshare() {
            found(report).await;
        } else {
            report.row(&["found, let in, heal, idle", "not measured: network namespaces may not be made here", ""]);
        }
        for count in [2, 10] {
            told(report, count).await;
        }
        for count in COLD.into_iter().filter(|count| *count <= largest) {
            cold(report, dir, count).await;
        }
        deaths(report).await;
        if may_unshare() {
            heal(report, dir).await;
            idle(report).await;
        }
    });
    report.say(&format!(
        "Real processes, default settings. Found: a node becomes ready → `timmy peer list` on it names the other (a command takes 15 ms \
         itself). Told: `memory add` on one is acknowledged → a search on the other finds it, each asked every 2 ms. Reassigned: kill -9 of \
         the worker → another one's model is called; leases of 8 s, {DEATHS} deaths."
    ));
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) -> Duration {
    let began = Instant::now();
    while !holds().await {
        assert!(began.elapsed() < LONG, "never: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    began.elapsed()
}

/// The node's HTTP face, for its owner.
struct Face {
    client: reqwest::Client,
    base: String,
    token: String,
}

impl Face {
    fn of(node: &Node) -> Self {
        let token = std::fs::read_to_string(node.dir().join("api-token")).unwrap();
        Self { client: reqwest::Client::new(), base: format!("{}/api/v1", node.http()), token }
    }

    async fn post(&self, path: &str, body: &Value) -> Value {
        let asked = self.client.post(format!("{}{path}", self.base)).bearer_auth(&self.token).json(body);
        asked.send().await.unwrap().json().await.unwrap_or(Value::Null)
    }

    async fn finds(&self, text: &str) -> bool {
        let found = self.post("/memory/search", &json!({ "query": text, "limit": 3 })).await;
        found.as_array().is_some_and(|all| all.iter().any(|one| one["text"] == text))
    }
}

async fn join(inviter: &Node, joiner: &Node) -> Duration {
    let made = inviter.json(&["peer", "invite"]).await;
    let began = Instant::now();
    joiner.json(&["peer", "join", made["code"].as_str().unwrap()]).await;
    until("members", async || is(inviter, joiner, "member").await && is(joiner, inviter, "member").await).await;
    began.elapsed()
}

/// A newcomer is seen, and belongs.
async fn found(report: &mut Report) {
    let (mut seen, mut joined) = (Vec::new(), Vec::new());
    for _ in 0..FOUND {
        let lan = Lan::new(2);
        let a = Node::builder().config(ON_LAN).on(&lan, 0).start().await;
        // One that is at home has claimed its name by multicast, which takes three quarters of a second, and announced it twice, a second
        // apart; for a second after that it does not say it again (RFC 6762, section 6).
        tokio::time::sleep(AT_HOME).await;
        let b = Node::builder().config(ON_LAN).on(&lan, 1).start().await;
        let sees = async || {
            let peers = b.json(&["peer", "list"]).await;
            peers.as_array().unwrap().iter().any(|peer| peer["peer_id"] == a.ready["peer_id"])
        };
        seen.push(until("seen", sees).await);
        joined.push(join(&a, &b).await);
    }
    let p = |times: &[Duration]| format!("{} / {} ms", digits(percentile(times, 0.5)), digits(percentile(times, 0.95)));
    report.row(&[&format!("newcomer found on the LAN (p50 / p95 of {FOUND})"), &p(&seen), "p95 ≤ 250 ms"]);
    report.row(&["`peer join` typed → both call each other members", &p(&joined), "p95 ≤ 1.5 s"]);
}

async fn on_loopback(count: usize) -> Vec<Node> {
    let mut nodes = vec![Node::builder().config(SISTER).start().await];
    for _ in 1..count {
        let node = Node::builder().config(SISTER).start().await;
        join(&nodes[0], &node).await;
        nodes.push(node);
    }
    for one in &nodes {
        for other in nodes.iter().filter(|other| other.pid() != one.pid()) {
            until("all see all", async || is(one, other, "member").await).await;
        }
    }
    nodes
}

async fn told(report: &mut Report, count: usize) {
    let nodes = on_loopback(count).await;
    let (teller, last) = (Face::of(&nodes[0]), Face::of(&nodes[count - 1]));
    let mut times = Vec::new();
    for n in 0..TOLD {
        let text = format!("entry {n} of {count} nodes, {}", hex::encode(rand::random::<[u8; 6]>()));
        teller.post("/memory", &json!({ "text": text })).await;
        times.push(until("told", async || last.finds(&text).await).await);
    }
    let goal = if count == 2 { "p99 ≤ 250 ms" } else { "" };
    report.row(&[
        &format!("entry told to one of {count}, found on another (p50 / p99 of {TOLD})"),
        &p50_p99(&times),
        goal,
    ]);
}

/// Lines of text, none like another.
fn lines(dir: &Path, name: &str, count: usize) -> String {
    let file = dir.join(name);
    let words = ["kettle", "attic", "garden", "river", "ladder", "window", "copper", "winter", "ticket", "harbour"];
    let line = |n: usize| {
        let some = (0..6).map(|k| words[(n / 10_usize.pow(k)) % 10]).collect::<Vec<_>>().join(" ");
        format!("{name} {n}: {some} {}\n", hex::encode(rand::random::<[u8; 12]>()))
    };
    std::fs::write(&file, (0..count).map(line).collect::<String>()).unwrap();
    file.to_str().unwrap().to_owned()
}

/// Entries that count, read beside the node: asking it would be work for it.
fn entries(node: &Node) -> u64 {
    let file = node.dir().join("memory/changes.sqlite");
    let db = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    db.busy_timeout(Duration::from_secs(5)).unwrap();
    db.query_row("SELECT COUNT(*) FROM entries", [], |row| row.get(0)).unwrap()
}

/// As [`until`], looked at seldom.
async fn until_slowly(what: &str, mut holds: impl FnMut() -> bool) -> Duration {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < LONG, "never: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    began.elapsed()
}

async fn cold(report: &mut Report, dir: &Path, count: usize) {
    let a = Node::builder().config(SISTER).start().await;
    a.json(&["memory", "import", &lines(dir, "cold", count)]).await;
    let all = entries(&a);
    let b = Node::builder().config(SISTER).start().await;
    let made = a.json(&["peer", "invite"]).await;
    let began = Instant::now();
    b.json(&["peer", "join", made["code"].as_str().unwrap()]).await;
    until_slowly("synced", || entries(&b) == all).await;
    let took = began.elapsed().as_secs_f64();
    let said = format!("{} s ({} entries a second)", digits(took), thousands(all as f64 / took));
    report.row(&[&format!("cold sync of {} entries over QUIC, joining included", thousands(all as f64)), &said, ""]);
}

async fn deaths(report: &mut Report) {
    let mut times = Vec::new();
    for _ in 0..DEATHS {
        let story = vec!["word "; 400];
        let models = [
            ModelDouble::start(&story, Duration::from_millis(100)).await,
            ModelDouble::start(&story, Duration::from_millis(100)).await,
        ];
        let a = Node::builder().config(SISTER).start().await;
        let mut workers = Vec::new();
        for model in &models {
            let worker = Node::builder().config(SISTER).config(&model.config("")).start().await;
            join(&a, &worker).await;
            let able = async || {
                let peers = a.json(&["peer", "list"]).await;
                let of = peers.as_array().unwrap().iter().find(|peer| peer["npub"] == npub(&worker));
                of.is_some_and(|peer| peer["abilities"].as_array().unwrap().iter().any(|one| one == "5050"))
            };
            until("able", able).await;
            workers.push(worker);
        }
        a.json(&["job", "submit", "--kind", "5050", "--input", "a story", "--no-wait"]).await;
        until("somebody works", async || models.iter().any(|model| model.calls() > 0)).await;
        let first = usize::from(models[0].calls() == 0);
        workers[first].kill().await;
        times.push(until("the other works", async || models[1 - first].calls() > 0).await);
    }
    let slowest = times.iter().max().map_or(0.0, Duration::as_secs_f64);
    let said = format!("{} s; slowest {} s", digits(percentile(&times, 0.5) / 1e3), digits(slowest));
    report.row(&["a worker dies → its task runs elsewhere (p50; slowest)", &said, "≤ lease (8 s) + 2 s"]);
}

async fn heal(report: &mut Report, dir: &Path) {
    let lan = Lan::new(2);
    let a = Node::builder().config(ON_LAN).on(&lan, 0).start().await;
    let b = Node::builder().config(ON_LAN).on(&lan, 1).start().await;
    join(&a, &b).await;
    lan.cut(1);
    until("lost", async || is(&a, &b, "lost").await && is(&b, &a, "lost").await).await;
    a.json(&["memory", "import", &lines(dir, "left", HALF)]).await;
    b.json(&["memory", "import", &lines(dir, "right", HALF)]).await;
    lan.mend(1);
    let all = 2 * HALF as u64;
    let took = until_slowly("healed", || entries(&a) == all && entries(&b) == all).await;
    let said = format!("{} s", digits(took.as_secs_f64()));
    report.row(&["a partition ends, each half wrote 1,000 entries → both have all", &said, ""]);
}

async fn idle(report: &mut Report) {
    let lan = Lan::new(10);
    let mut nodes = vec![Node::builder().config(ON_LAN).on(&lan, 0).start().await];
    for host in 1..10 {
        let node = Node::builder().config(ON_LAN).on(&lan, host).start().await;
        join(&nodes[0], &node).await;
        nodes.push(node);
    }
    tokio::time::sleep(IDLE).await;
    let before = (traffic(&lan, 4), cpu(nodes[4].pid()));
    tokio::time::sleep(IDLE).await;
    let (bytes, time) = (traffic(&lan, 4) - before.0, cpu(nodes[4].pid()) - before.1);
    let seconds = IDLE.as_secs_f64();
    let said = format!("{} KB/s; {:.1} % of one core", digits(bytes as f64 / seconds / 1e3), time / seconds * 100.0);
    report.row(&["a node of ten when nothing happens: traffic, both ways; processor", &said, ""]);
}

/// Bytes over a host's cable, both ways.
fn traffic(lan: &Lan, host: usize) -> u64 {
    let out = lan.command(host, "cat").arg("/proc/net/dev").output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let line = text.lines().find_map(|line| line.trim().strip_prefix("eth0:").map(str::to_owned)).unwrap();
    let numbers: Vec<u64> = line.split_whitespace().filter_map(|n| n.parse().ok()).collect();
    numbers[0] + numbers[8]
}

/// Processor time of a process so far, seconds.
fn cpu(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}
