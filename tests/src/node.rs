//! A node as a real process.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use nostr::{Keys, PublicKey};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};

use crate::PATIENCE;
use crate::netns::Lan;

/// How many lines of a node's log are shown when its test fails.
const LOG_SHOWN: usize = 60;

/// The binary under test: cargo built it beside the tests.
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("TIMMY_BIN") {
        return path.into();
    }
    let mut path = std::env::current_exe().unwrap();
    path.pop();
    if path.ends_with("deps") {
        path.pop();
    }
    path.join("timmy-under-test")
}

/// How a node is to be started.
#[derive(Default)]
pub struct NodeBuilder {
    config: String,
    dir: Option<PathBuf>,
    env: Vec<(String, String)>,
    args: Vec<String>,
    listen: Option<String>,
    for_people: bool,
    prefix: Vec<String>,
}

/// The program, after what is put before it.
fn program(prefix: &[String]) -> Command {
    let Some((first, rest)) = prefix.split_first() else { return Command::new(binary()) };
    let mut command = Command::new(first);
    command.args(rest).arg(binary());
    command
}

impl NodeBuilder {
    /// Adds lines to the configuration.
    pub fn config(mut self, toml: &str) -> Self {
        self.config.push_str(toml);
        self.config.push('\n');
        self
    }

    /// Uses an existing data folder.
    pub fn dir(mut self, dir: &Path) -> Self {
        self.dir = Some(dir.to_owned());
        self
    }

    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn arg(mut self, arg: &str) -> Self {
        self.args.push(arg.to_owned());
        self
    }

    /// Runs it, and every command on it, on a host of a LAN.
    pub fn on(mut self, lan: &Lan, host: usize) -> Self {
        self.prefix = lan.prefix(host);
        self
    }

    /// Listens here instead of on a free port.
    pub fn listen(mut self, address: &str) -> Self {
        self.listen = Some(address.to_owned());
        self
    }

    /// Starts it without `--json`: what it says to people is in [`Node::welcome`].
    pub fn for_people(mut self) -> Self {
        self.for_people = true;
        self
    }

    /// Starts the node and waits for its ready line.
    ///
    /// # Panics
    /// When it does not become ready; its log is in the message.
    pub async fn start(self) -> Node {
        match self.try_start().await {
            Ok(node) => node,
            Err(log) => panic!("the node did not start:\n{log}"),
        }
    }

    /// Starts the node; gives its log when it ends before it is ready.
    ///
    /// # Errors
    /// The log of a node that ended first.
    pub async fn try_start(self) -> Result<Node, String> {
        let own = self.dir.is_none().then(|| TempDir::new().unwrap());
        let dir = self.dir.unwrap_or_else(|| own.as_ref().unwrap().path().to_owned());
        std::fs::create_dir_all(&dir).unwrap();
        // Tests of other things must not find each other's nodes.
        let alone = if self.config.contains("[federation]") { "" } else { "\n[federation]\nenabled = false\n" };
        if !self.config.is_empty() || !dir.join("config.toml").exists() {
            std::fs::write(dir.join("config.toml"), format!("{}{alone}", self.config)).unwrap();
        }
        let log = dir.join("test.log");
        let file = std::fs::OpenOptions::new().create(true).append(true).open(&log).unwrap();
        let mut command = program(&self.prefix);
        command
            .env("TIMMY_LOG", std::env::var("TIMMY_TEST_LOG").unwrap_or_else(|_| "info".to_owned()))
            .envs(self.env)
            .arg("--data-dir")
            .arg(&dir)
            .arg("run")
            .args((!self.for_people).then_some("--json"))
            // What a developer runs on this machine is no part of a test.
            .arg("--no-find-models")
            .args(["--listen", self.listen.as_deref().unwrap_or("127.0.0.1:0")])
            .args(self.args)
            .stdout(Stdio::piped())
            .stderr(file)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let last = if self.for_people { "timmy init" } else { "" };
        let Some(welcome) = said(&mut lines, last).await else {
            let _ = child.start_kill();
            let _ = child.wait().await;
            return Err(std::fs::read_to_string(&log).unwrap_or_default());
        };
        let ready =
            if self.for_people { std::fs::read_to_string(dir.join("node.json")).unwrap() } else { welcome.clone() };
        let ready: Value = serde_json::from_str(&ready).unwrap();
        Ok(Node { child, dir, _own: own, ready, welcome, prefix: self.prefix, _lines: lines })
    }
}

/// The lines up to the one that holds `last`; none when the process ends or falls silent before.
async fn said(lines: &mut Lines, last: &str) -> Option<String> {
    let mut text = String::new();
    loop {
        let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.ok()?.ok()??;
        text.push_str(&line);
        if line.contains(last) {
            return Some(text);
        }
        text.push('\n');
    }
}

type Lines = tokio::io::Lines<BufReader<tokio::process::ChildStdout>>;

/// A running node; killed when dropped.
pub struct Node {
    child: Child,
    dir: PathBuf,
    _own: Option<TempDir>,
    /// The ready line.
    pub ready: Value,
    /// What it said when it was ready.
    pub welcome: String,
    prefix: Vec<String>,
    _lines: Lines,
}

/// What a node logged is printed with the failure of its test.
#[allow(clippy::print_stderr, reason = "the test's own output is where one looks")]
impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let newest = &lines[lines.len().saturating_sub(LOG_SHOWN)..];
            eprintln!("\nthe log of the node in {}:\n{}", self.dir.display(), newest.join("\n"));
        }
    }
}

impl Node {
    pub fn builder() -> NodeBuilder {
        NodeBuilder::default()
    }

    pub async fn start() -> Self {
        Self::builder().start().await
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// `ws://…`
    pub fn relay(&self) -> &str {
        self.ready["relay"].as_str().unwrap()
    }

    /// `http://…`
    pub fn http(&self) -> &str {
        self.ready["http"].as_str().unwrap()
    }

    pub fn public_key(&self) -> PublicKey {
        PublicKey::from_hex(self.ready["pubkey"].as_str().unwrap()).unwrap()
    }

    pub fn pid(&self) -> u32 {
        self.child.id().unwrap()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("test.log")).unwrap_or_default()
    }

    /// `ip:port`
    pub fn address(&self) -> String {
        self.relay().trim_start_matches("ws://").to_owned()
    }

    /// kill -9
    pub async fn kill(&mut self) {
        self.child.start_kill().unwrap();
        self.child.wait().await.unwrap();
    }

    /// Waits until the process ends by itself (a crash point).
    pub async fn ended(&mut self) -> ExitStatus {
        tokio::time::timeout(PATIENCE, self.child.wait()).await.expect("the node did not end").unwrap()
    }

    /// True when the process has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// SIGTERM, and its exit status.
    pub async fn stop(&mut self) -> ExitStatus {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.pid()).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.ended().await
    }

    /// Runs a command line on this node's data folder: exit code, stdout, stderr.
    pub async fn cli(&self, args: &[&str]) -> (i32, String, String) {
        run(&self.prefix, &self.dir, args).await
    }

    /// Runs a command with `--json` that must succeed.
    pub async fn json(&self, args: &[&str]) -> Value {
        let mut all = args.to_vec();
        all.push("--json");
        let (code, out, err) = self.cli(&all).await;
        assert_eq!(code, 0, "{args:?}: {out}{err}");
        serde_json::from_str(&out).unwrap_or_else(|e| panic!("{args:?}: {e}: {out}"))
    }
}

/// Runs a command line on a data folder: exit code, stdout, stderr.
pub async fn cli(dir: &Path, args: &[&str]) -> (i32, String, String) {
    run(&[], dir, args).await
}

/// Runs a command line that reads `input`: exit code, stdout, stderr.
pub async fn cli_told(dir: &Path, args: &[&str], input: &str) -> (i32, String, String) {
    let mut child = program(&[])
        .arg("--data-dir")
        .arg(dir)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).await.unwrap();
    let output = child.wait_with_output().await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}

async fn run(prefix: &[String], dir: &Path, args: &[&str]) -> (i32, String, String) {
    let mut child = program(prefix)
        .arg("--data-dir")
        .arg(dir)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut out, mut err) = (String::new(), String::new());
    let (mut stdout, mut stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let (_, _) = tokio::join!(stdout.read_to_string(&mut out), stderr.read_to_string(&mut err));
    let code = child.wait().await.unwrap().code().unwrap_or(-1);
    (code, out, err)
}

/// Fresh keys.
pub fn keys() -> Keys {
    Keys::generate()
}
