//! The load programs behind `make bench`. Prints Markdown for `spec/benchmarks.md`.
//!
//! ```text
//! TIMMY_BIN=target/release/timmy [NOSTR_RS_RELAY=…/nostr-rs-relay] bench [start] [jobs] [relay]
//! ```
//!
//! Without names everything runs. `BENCH_EVENTS` changes the number of stored events (100,000), `BENCH_DIR` the disk;
//! `BENCH_INTO` names a document whose part below [`MARK`] becomes the new figures.

#![allow(clippy::unwrap_used, missing_docs)]

mod events;
mod jobs;
mod process;
mod relay;
mod report;
mod start;
mod wire;

use std::io::Write;
use std::process::ExitCode;

use nostr::Timestamp;
use report::Report;

const EVENTS: usize = 100_000;
/// Below this line of a document stand figures.
const MARK: &str = "<!-- figures -->\n";

fn main() -> ExitCode {
    let Some(binary) = process::program("TIMMY_BIN") else {
        eprint("TIMMY_BIN must name the timmy binary: cargo build --release -p daemon --bin timmy");
        return ExitCode::from(2);
    };
    let peer = process::program("NOSTR_RS_RELAY");
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let wants = |name: &str| wanted.is_empty() || wanted.iter().any(|w| w == name);
    let count = std::env::var("BENCH_EVENTS").ok().and_then(|n| n.parse().ok()).unwrap_or(EVENTS);
    let parent = std::env::var_os("BENCH_DIR").map_or_else(std::env::temp_dir, Into::into);
    let dir = tempfile::TempDir::new_in(parent).unwrap();
    let mut report = Report::default();
    let date = Timestamp::now().to_human_datetime();
    report.say(&format!("Measured {date} on {}.", report::machine(dir.path())));
    if peer.is_none() {
        report.say("Without nostr-rs-relay: NOSTR_RS_RELAY names no program.");
    }
    if wants("start") {
        eprint("start, memory, size …");
        start::run(&mut report, &binary, dir.path());
    }
    if wants("jobs") {
        eprint("jobs …");
        jobs::run(&mut report, &binary, dir.path());
    }
    if wants("relay") {
        eprint("relay …");
        relay::run(&mut report, &binary, peer.as_deref(), dir.path(), count);
    }
    std::io::stdout().write_all(report.text().as_bytes()).unwrap();
    if let Some(document) = std::env::var_os("BENCH_INTO") {
        let text = std::fs::read_to_string(&document).unwrap();
        let (head, _) = text.split_once(MARK).expect("the document must have the line that figures stand below");
        std::fs::write(&document, format!("{head}{MARK}{}", report.text())).unwrap();
    }
    ExitCode::SUCCESS
}

fn eprint(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
