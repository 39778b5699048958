//! A whole network node as a process of its own: discovery, network and liveness, spoken to by lines.
//!
//! The test binary runs itself again with [`CHILD`] set. Lines in: `publish TEXT`, `know PEER`, `peers`, `stop`.
//! Lines out begin with `@`.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use federation::discovery::{Candidates, Discovery, DiscoveryEvent, DiscoveryOptions, Interfaces};
use federation::liveness::{Liveness, LivenessEvent, LivenessOptions};
use federation::net::{Keypair, Multiaddr, Net, NetEvent, NetOptions, Verdict};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::common::node::{List, PATIENCE, TASKS, roomy};

/// Set for the child: `SEED TRANSPORT TAG LABEL`; the seeds of all members follow, comma-separated.
pub const CHILD: &str = "LAN_NODE";

/// The key of a seed.
pub fn key(seed: u8) -> Keypair {
    Keypair::ed25519_from_bytes([seed; 32]).unwrap()
}

pub fn name(seed: u8) -> String {
    key(seed).public().to_peer_id().to_string()
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "@{line}");
    let _ = out.flush();
}

fn listen(transport: &str) -> Vec<Multiaddr> {
    let all = ["/ip4/0.0.0.0/udp/0/quic-v1", "/ip6/::/udp/0/quic-v1", "/ip4/0.0.0.0/tcp/0", "/ip6/::/tcp/0"];
    let wanted = all.iter().filter(|a| transport == "both" || a.contains(transport));
    wanted.map(|a| a.parse().unwrap()).collect()
}

fn port(addrs: &[Multiaddr], kind: &str) -> Option<u16> {
    // One port for each transport and IP version would need two records: the IPv4 one is announced.
    let addr = addrs.iter().map(ToString::to_string).find(|a| a.contains("/ip4/") && a.contains(kind))?;
    addr.split(kind).nth(1)?.split('/').next()?.parse().ok()
}

/// Runs the child until its input ends.
pub async fn run(config: &str) {
    let [seed, transport, tag, label, members] = config.split_whitespace().collect::<Vec<_>>().try_into().unwrap();
    let gate = Arc::new(List::default());
    for member in members.split(',').filter_map(|m| m.parse().ok()) {
        gate.members.lock().unwrap().insert(key(member).public().to_peer_id());
    }
    let (tracker, cancel) = (TaskTracker::new(), CancellationToken::new());
    let mut options = NetOptions::new(key(seed.parse().unwrap()));
    (options.listen, options.topics, options.limits) = (listen(transport), vec![TASKS.into()], roomy());
    let (net, events) = Net::start(options, Arc::clone(&gate) as _, &tracker, cancel.clone()).unwrap();
    let start_ms = u64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap();
    let live = LivenessOptions { start_ms, seed: start_ms };
    let (_liveness, life) = Liveness::start(&net, live, &tracker, cancel.clone()).await.unwrap();
    tokio::time::timeout(PATIENCE, async {
        let wants = listen(transport).len() / 2;
        let is_lan = |a: &&Multiaddr| a.to_string().contains("/ip6/fd77:");
        while net.listen_addrs().await.unwrap().iter().filter(is_lan).count() < wants {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("it listens");
    let addrs = net.listen_addrs().await.unwrap();
    let options = DiscoveryOptions {
        quic_port: port(&addrs, "/udp/").unwrap_or(0),
        tcp_port: port(&addrs, "/tcp/"),
        tag: hex::decode(tag).unwrap(),
        interfaces: Interfaces::default(),
        label: (label != "-").then(|| label.to_owned()),
    };
    let (_discovery, found) = Discovery::start(options, &tracker, cancel.clone()).unwrap();
    say("ready");
    let child =
        Running { net, ours: hex::decode(tag).unwrap(), candidates: Candidates::default(), began: Instant::now() };
    child.talk(events, life, found).await;
    cancel.cancel();
    tracker.close();
    tracker.wait().await;
    say("stopped");
}

struct Running {
    net: Net,
    ours: Vec<u8>,
    candidates: Candidates,
    began: Instant,
}

impl Running {
    async fn talk(
        mut self,
        mut events: tokio::sync::mpsc::Receiver<NetEvent>,
        mut life: tokio::sync::mpsc::Receiver<LivenessEvent>,
        mut found: tokio::sync::mpsc::Receiver<DiscoveryEvent>,
    ) {
        let (to, mut lines) = tokio::sync::mpsc::channel::<String>(16);
        std::thread::spawn(move || {
            for line in std::io::stdin().lines().map_while(Result::ok) {
                if to.blocking_send(line).is_err() {
                    return;
                }
            }
        });
        let mut tick = tokio::time::interval(Duration::from_millis(100));
        loop {
            tokio::select! {
                line = lines.recv() => match line {
                    Some(line) if line != "stop" => self.obey(&line).await,
                    _ => return,
                },
                Some(event) = events.recv() => self.on_net(event).await,
                Some(event) = life.recv() => match event {
                    LivenessEvent::Alive(p) => say(&format!("alive {p}")),
                    LivenessEvent::Suspect(p) => say(&format!("suspect {p}")),
                    LivenessEvent::Dead(p) => say(&format!("dead {p}")),
                    LivenessEvent::Back(p) => say(&format!("back {p}")),
                },
                Some(event) = found.recv() => self.on_found(event).await,
                _ = tick.tick() => self.dial().await,
            }
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap()
    }

    async fn obey(&self, line: &str) {
        match line.split_once(' ').unwrap_or((line, "")) {
            ("publish", text) => self.net.publish(TASKS, text.as_bytes().to_vec()).await.unwrap(),
            ("peers", _) => {
                let peers = self.net.peers().await.unwrap();
                let tell = |p: &federation::net::PeerInfo| {
                    format!("{}:{}:{}", p.peer, if p.quic { "quic" } else { "tcp" }, p.addrs.len())
                };
                say(&format!("peers {}", peers.iter().map(tell).collect::<Vec<_>>().join(" ")));
            }
            other => panic!("{other:?}"),
        }
    }

    async fn on_net(&self, event: NetEvent) {
        match event {
            NetEvent::Meshed(p) => say(&format!("meshed {p}")),
            NetEvent::Connected { peer, addr, .. } => say(&format!("connected {peer} {addr}")),
            NetEvent::Disconnected(p) => say(&format!("disconnected {p}")),
            NetEvent::Gossip { data, ticket, .. } => {
                self.net.verdict(ticket, Verdict::Accept).await;
                say(&format!("gossip {}", String::from_utf8_lossy(&data)));
            }
            _ => {}
        }
    }

    async fn on_found(&mut self, event: DiscoveryEvent) {
        match event {
            DiscoveryEvent::Seen { instance, addrs, tag } => {
                let all: Vec<String> = addrs.iter().map(ToString::to_string).collect();
                say(&format!("seen {instance} {} {}", hex::encode(&tag), all.join(" ")));
                let now = self.now();
                self.candidates.seen(&instance, addrs, tag == self.ours, now);
                self.dial().await;
            }
            DiscoveryEvent::Gone { instance } => {
                say(&format!("gone {instance}"));
                self.candidates.gone(&instance);
            }
            DiscoveryEvent::Renamed { instance } => say(&format!("renamed {instance}")),
        }
    }

    async fn dial(&mut self) {
        let now = self.now();
        while let Some(next) = self.candidates.next(now) {
            let _ = self.net.dial(None, next.addrs).await;
        }
    }
}

/// The parent's side.
pub struct LanNode {
    pub seed: u8,
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<(String, Instant)>,
    pub seen: Vec<String>,
    /// When it had started everything.
    pub ready: Instant,
    /// Lines that no wait has asked for yet, with when they came.
    waiting: Vec<(String, Instant)>,
}

/// How a child is started.
pub struct Start<'a> {
    pub seed: u8,
    pub transport: &'a str,
    pub tag: &'a str,
    pub label: &'a str,
    pub members: BTreeSet<u8>,
}

impl LanNode {
    /// Runs this test binary again, as a node, by a command that ends in a program to run.
    pub fn start(mut command: Command, start: &Start<'_>) -> Self {
        let members: Vec<String> = start.members.iter().map(ToString::to_string).collect();
        let members = if members.is_empty() { "-".to_owned() } else { members.join(",") };
        let config = format!("{} {} {} {} {members}", start.seed, start.transport, start.tag, start.label);
        command.args(["--exact", "a_node_runs_and_stops", "--nocapture"]).env(CHILD, config);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the node starts");
        let out = BufReader::new(child.stdout.take().expect("piped"));
        // Lines of a test that has stopped listening wait in the pipe.
        let (to, lines) = sync_channel(4_096);
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                if let Some(line) = line.find('@').map(|at| (line[at + 1..].to_owned(), Instant::now()))
                    && to.send(line).is_err()
                {
                    return;
                }
            }
        });
        let mut node = Self {
            seed: start.seed,
            input: child.stdin.take(),
            child,
            lines,
            seen: Vec::new(),
            ready: Instant::now(),
            waiting: Vec::new(),
        };
        node.ready = node.wait("ready", PATIENCE).1;
        node
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn id(&self) -> String {
        name(self.seed)
    }

    pub fn tell(&mut self, line: &str) {
        let input = self.input.as_mut().expect("it runs");
        writeln!(input, "{line}").expect("it listens");
    }

    /// Waits for a line that begins so; the line and when it came.
    pub fn wait(&mut self, prefix: &str, patience: Duration) -> (String, Instant) {
        self.try_wait(prefix, patience).unwrap_or_else(|| {
            panic!("no `{prefix}` from node {} within {patience:?}; it said {:?}", self.seed, self.seen)
        })
    }

    /// The same, without minding if none comes. Each line is found once.
    pub fn try_wait(&mut self, prefix: &str, patience: Duration) -> Option<(String, Instant)> {
        let until = Instant::now() + patience;
        loop {
            if let Some(at) = self.waiting.iter().position(|(line, _)| line.starts_with(prefix)) {
                return Some(self.waiting.remove(at));
            }
            let (line, at) = self.lines.recv_timeout(until.saturating_duration_since(Instant::now())).ok()?;
            self.seen.push(line.clone());
            self.waiting.push((line, at));
        }
    }

    pub fn meshed(&mut self, peer: u8) -> Instant {
        self.wait(&format!("meshed {}", name(peer)), PATIENCE).1
    }

    /// Publishes until another node hears: what is said in the moment in which two meet again may be lost.
    pub fn is_heard_by(&mut self, other: &mut LanNode, text: &str) {
        let until = Instant::now() + PATIENCE;
        for n in 0.. {
            self.tell(&format!("publish {text} {n}"));
            if other.try_wait(&format!("gossip {text}"), Duration::from_millis(500)).is_some() {
                return;
            }
            assert!(Instant::now() < until, "{} is not heard by {}", self.seed, other.seed);
        }
    }

    pub fn peers(&mut self) -> String {
        self.tell("peers");
        self.wait("peers", PATIENCE).0
    }

    pub fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.pid().to_string()]).status().expect("kill runs");
        assert!(status.success());
    }

    /// Ends it by the end of its input, as a person would.
    pub fn stop(mut self) {
        drop(self.input.take());
        self.wait("stopped", PATIENCE);
        assert!(self.child.wait().expect("it ends").success());
    }
}

impl Drop for LanNode {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
