//! The start of a memory in a process of its own: this program again, with [`FLAG`].

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use memory::Query;
use nips::Audience;
use serde_json::{Value, json};

use super::house::House;
use crate::process::memory_of;

/// `bench --cold FOLDER QUESTION` opens the memory in a folder, asks once, says what that took, and ends.
pub const FLAG: &str = "--cold";

/// What a fresh process took.
pub struct Cold {
    /// From opening to the first answer, ms: the model inside the binary is read meanwhile.
    pub answered_ms: f64,
    /// To when it had been compared with the truth.
    pub healed_ms: f64,
    /// Resident memory after that, MB.
    pub rss_mb: f64,
}

/// Starts such a process.
pub fn start(dir: &Path, question: &str) -> Cold {
    let output = Command::new(std::env::current_exe().unwrap()).arg(FLAG).arg(dir).arg(question).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    let number = |name: &str| said[name].as_f64().unwrap();
    Cold { answered_ms: number("answered_ms"), healed_ms: number("healed_ms"), rss_mb: number("rss_mb") }
}

/// What such a process does; the line that it prints.
pub fn child(dir: &Path, question: &str) -> String {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let started = Instant::now();
        let house = House::open(dir, super::WRITER).await;
        let found = house.memory.search(&Query::new(question), Audience::Owner).await.unwrap();
        let answered_ms = started.elapsed().as_secs_f64() * 1e3;
        assert!(!found.is_empty(), "something must be found");
        house.memory.settled().await.unwrap();
        let healed_ms = started.elapsed().as_secs_f64() * 1e3;
        let rss_mb = memory_of("self").rss;
        house.close().await;
        json!({ "answered_ms": answered_ms, "healed_ms": healed_ms, "rss_mb": rss_mb }).to_string()
    })
}
