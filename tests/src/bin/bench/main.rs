//! The load programs behind `make bench`. Prints Markdown for `spec/benchmarks.md`.
//!
//! ```text
//! TIMMY_BIN=target/release/timmy [NOSTR_RS_RELAY=…/nostr-rs-relay] [RETRIEVAL_SET=…/set.jsonl] bench [start] [jobs] [relay] [quality]
//! ```
//!
//! Without names everything runs; `quality` needs no TIMMY_BIN. `BENCH_EVENTS` changes the number of stored events (100,000), `BENCH_DIR` the disk;
//! `BENCH_INTO` names a document whose part below [`MARK`] becomes the new figures.

#![allow(clippy::unwrap_used, missing_docs)]

mod events;
mod jobs;
mod process;
mod quality;
mod relay;
mod report;
mod start;
mod wire;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use nostr::Timestamp;
use report::Report;

const EVENTS: usize = 100_000;
/// Below this line of a document stand figures.
const MARK: &str = "<!-- figures -->\n";

/// Every benchmark by its name.
const ALL: [&str; 4] = ["start", "jobs", "relay", "quality"];

fn main() -> ExitCode {
    let named: Vec<String> = std::env::args().skip(1).collect();
    if let Some(unknown) = named.iter().find(|name| !ALL.contains(&name.as_str())) {
        eprint(&format!("there is no benchmark {unknown}: {}", ALL.join(", ")));
        return ExitCode::from(2);
    }
    let wants = |name: &str| named.is_empty() || named.iter().any(|n| n == name);
    let parent = std::env::var_os("BENCH_DIR").map_or_else(std::env::temp_dir, Into::into);
    let dir = tempfile::TempDir::new_in(parent).unwrap();
    let mut report = Report::default();
    let date = Timestamp::now().to_human_datetime();
    report.say(&format!("Measured {date} on {}.", report::machine(dir.path())));
    if ["start", "jobs", "relay"].into_iter().any(wants) {
        let Some(binary) = process::program("TIMMY_BIN") else {
            eprint("TIMMY_BIN must name the timmy binary: cargo build --release -p daemon --bin timmy");
            return ExitCode::from(2);
        };
        node(&mut report, &binary, dir.path(), wants);
    }
    if wants("quality") {
        quality(&mut report, dir.path());
    }
    std::io::stdout().write_all(report.text().as_bytes()).unwrap();
    if let Some(document) = std::env::var_os("BENCH_INTO") {
        let text = std::fs::read_to_string(&document).unwrap();
        let (head, _) = text.split_once(MARK).expect("the document must have the line that figures stand below");
        std::fs::write(&document, format!("{head}{MARK}{}", report.text())).unwrap();
    }
    ExitCode::SUCCESS
}

/// What is measured of a running node.
fn node(report: &mut Report, binary: &Path, dir: &Path, wants: impl Fn(&str) -> bool) {
    let peer = process::program("NOSTR_RS_RELAY");
    let count = std::env::var("BENCH_EVENTS").ok().and_then(|n| n.parse().ok()).unwrap_or(EVENTS);
    if peer.is_none() {
        report.say("Without nostr-rs-relay: NOSTR_RS_RELAY names no program.");
    }
    if wants("start") {
        eprint("start, memory, size …");
        start::run(report, binary, dir);
    }
    if wants("jobs") {
        eprint("jobs …");
        jobs::run(report, binary, dir);
    }
    if wants("relay") {
        eprint("relay …");
        relay::run(report, binary, peer.as_deref(), dir, count);
    }
}

/// What recall finds.
fn quality(report: &mut Report, dir: &Path) {
    let set = std::env::var_os("RETRIEVAL_SET").map(PathBuf::from).filter(|set| set.is_file());
    let Some(set) = set else {
        report
            .say("Without the quality of recall: RETRIEVAL_SET names no file (tests/retrieval/make_set.py makes it).");
        return;
    };
    eprint("quality of recall …");
    quality::run(report, &set, dir);
}

fn eprint(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
