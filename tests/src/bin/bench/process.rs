//! The programs under load, as real processes; each is ended by its own pid.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// A relay that accepts nothing for so long did not start.
const START_MAX: Duration = Duration::from_secs(60);

/// A running relay; killed when dropped.
pub struct Process {
    child: Child,
    /// `ip:port`
    pub address: String,
    /// What it said when it was ready; null for a peer.
    pub ready: Value,
    /// From spawning it to its serving.
    pub start: Duration,
    _stdout: Option<BufReader<ChildStdout>>,
}

/// Memory of a process, MB.
pub struct Memory {
    pub rss: f64,
    pub pss: f64,
    pub anonymous: f64,
}

impl Process {
    /// Starts `timmy run` on `dir` and waits for its ready line.
    pub fn timmy(binary: &Path, dir: &Path, config: &str) -> Self {
        std::fs::create_dir_all(dir).unwrap();
        std::fs::write(dir.join("config.toml"), config).unwrap();
        let log = File::options().create(true).append(true).open(dir.join("bench.log")).unwrap();
        let started = Instant::now();
        let mut child = Command::new(binary)
            .arg("--data-dir")
            .arg(dir)
            .args(["run", "--json", "--listen", "127.0.0.1:0"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", binary.display()));
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let start = started.elapsed();
        let ready: Value = serde_json::from_str(&line).unwrap_or_else(|_| {
            panic!("timmy did not start: {}", std::fs::read_to_string(dir.join("bench.log")).unwrap_or_default())
        });
        let address = ready["relay"].as_str().unwrap().trim_start_matches("ws://").to_owned();
        Self { child, address, ready, start, _stdout: Some(stdout) }
    }

    /// Starts nostr-rs-relay on `dir` as it comes: no limit of messages or subscriptions is set, so none holds.
    pub fn nostr_rs_relay(binary: &Path, dir: &Path) -> Self {
        std::fs::create_dir_all(dir).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = format!("127.0.0.1:{port}");
        let config = format!(
            "[info]\nrelay_url = \"ws://{address}/\"\n[database]\nengine = \"sqlite\"\ndata_directory = {dir:?}\n\
             [network]\naddress = \"127.0.0.1\"\nport = {port}\n[options]\nreject_future_seconds = 1800\n"
        );
        let file = dir.join("config.toml");
        std::fs::write(&file, config).unwrap();
        let log = File::create(dir.join("bench.log")).unwrap();
        let started = Instant::now();
        let child = Command::new(binary)
            .arg("--config")
            .arg(&file)
            .arg("--db")
            .arg(dir)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", binary.display()));
        while TcpStream::connect(&address).is_err() {
            assert!(started.elapsed() < START_MAX, "nostr-rs-relay did not start");
            std::thread::sleep(Duration::from_millis(2));
        }
        Self { child, address, ready: Value::Null, start: started.elapsed(), _stdout: None }
    }

    /// The node's public key, hex.
    pub fn public_key(&self) -> &str {
        self.ready["pubkey"].as_str().unwrap()
    }

    /// What the kernel counts.
    pub fn memory(&self) -> Memory {
        memory_of(&self.child.id().to_string())
    }

    /// User and system time used so far.
    pub fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        Duration::from_millis(ticks * 10)
    }

    /// Ends it in order.
    pub fn stop(mut self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        self.child.wait().unwrap();
    }

    /// kill -9
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The memory of a process, by its pid or `self`.
pub fn memory_of(pid: &str) -> Memory {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let megabytes = |name: &str| {
        let line = rollup.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_whitespace().nth(1).and_then(|kb| kb.parse::<f64>().ok()).unwrap_or(f64::NAN) * 1024.0 / 1e6
    };
    Memory { rss: megabytes("Rss:"), pss: megabytes("Pss:"), anonymous: megabytes("Anonymous:") }
}

/// The file named by an environment variable.
pub fn program(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_file())
}
