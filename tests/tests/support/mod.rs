//! Programs of other codebases, run as processes of their own.

#![allow(dead_code, clippy::unwrap_used)]

pub mod raw;

use std::path::{Path, PathBuf};
use std::process::Stdio;

use nostr::{Keys, ToBech32};
use serde_json::Value;
use tests::PATIENCE;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

/// The configuration of a node whose owner has these keys.
pub fn config_with_owner(owner: &Keys) -> String {
    format!("[owner]\nnpub = \"{}\"", owner.public_key().to_bech32().unwrap())
}

fn external() -> PathBuf {
    PathBuf::from("external")
}

/// A script of `tests/external`.
pub struct Script {
    command: Command,
    name: String,
}

impl Script {
    /// One for Node.
    pub fn node(name: &str) -> Self {
        let modules = external().join("node_modules/nostr-tools");
        assert!(modules.is_dir(), "{} is missing: run `make tools`", modules.display());
        Self::new(Path::new("node"), name)
    }

    /// One for Python.
    pub fn python(name: &str) -> Self {
        let python = Path::new("../.tools/venv/bin/python");
        assert!(python.exists(), "{} is missing: run `make tools`", python.display());
        Self::new(python, name)
    }

    fn new(program: &Path, name: &str) -> Self {
        let mut command = Command::new(program);
        command.arg(external().join(name)).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        Self { command, name: name.to_owned() }
    }

    /// Starts it; its errors go to the test's own.
    pub fn start(mut self) -> Child {
        self.command.spawn().unwrap_or_else(|e| panic!("{} cannot be run ({e}): run `make tools`", self.name))
    }

    /// Runs it on `task`; gives what it found.
    ///
    /// # Panics
    /// When it fails, with its own words.
    pub async fn run(mut self, task: &Value) -> Value {
        self.command.stderr(Stdio::piped());
        let name = self.name.clone();
        let mut child = self.start();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(task.to_string().as_bytes()).await.unwrap();
        drop(stdin);
        let (mut out, mut err) = (String::new(), String::new());
        let (mut stdout, mut stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let reading = async { tokio::join!(stdout.read_to_string(&mut out), stderr.read_to_string(&mut err)) };
        let ended = tokio::time::timeout(4 * PATIENCE, reading).await;
        assert!(ended.is_ok(), "{name} does not end");
        let status = child.wait().await.unwrap();
        assert!(status.success(), "{name}: {status}\n{out}{err}");
        let last = out.lines().last().unwrap_or_default();
        let found: Value = serde_json::from_str(last).unwrap_or_else(|e| panic!("{name}: {e}: {out}{err}"));
        assert_eq!(found["ok"], true, "{name}: {found}");
        found
    }
}

/// True when the arguments or the environment of a process show `word`.
pub fn process_shows(pid: u32, word: &str) -> bool {
    ["cmdline", "environ"].iter().any(|file| {
        let bytes = std::fs::read(format!("/proc/{pid}/{file}")).unwrap();
        assert!(!bytes.is_empty() || *file == "environ", "/proc/{pid}/{file} is empty");
        String::from_utf8_lossy(&bytes).contains(word)
    })
}

/// Base64 with padding.
pub fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let word = (0..3).fold(0u32, |all, i| all << 8 | u32::from(chunk.get(i).copied().unwrap_or(0)));
        for i in 0..4 {
            let letter = char::from(ALPHABET[(word >> (18 - 6 * i) & 63) as usize]);
            text.push(if i <= chunk.len() { letter } else { '=' });
        }
    }
    text
}
