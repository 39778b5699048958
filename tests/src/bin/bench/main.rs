//! The load programs behind `make bench`. Prints Markdown for `spec/benchmarks.md`; [`HELP`] says how it is used.

#![allow(clippy::unwrap_used, missing_docs)]

mod events;
mod federation;
mod jobs;
mod memory;
mod process;
mod quality;
mod relay;
mod report;
mod start;
mod talk;
mod wire;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use nostr::Timestamp;
use report::Report;

const HELP: &str = "\
Measures the product and prints Markdown.

Usage: bench [start] [jobs] [relay] [quality] [memory] [federation] [talk]      # without names, everything

  start    processes: start, memory when idle, size            needs TIMMY_BIN
  jobs     jobs of Nostr clients: request to result            needs TIMMY_BIN
  relay    the relay beside nostr-rs-relay                     needs TIMMY_BIN; NOSTR_RS_RELAY
  quality  what recall finds: nDCG@10, recall@10               needs RETRIEVAL_SET
  memory   recall, adding, start, reindex, sync; peers         RETRIEVAL_SET; PEERS_PYTHON
  federation  found, told, synced, healed, outlived; idle      TIMMY_BIN; the right to make network namespaces
  talk     messages: what the node adds to its model           TIMMY_BIN; make tools, for Matrix

Environment:
  TIMMY_BIN       the release build of timmy
  NOSTR_RS_RELAY  the peer's binary
  RETRIEVAL_SET   the file that tests/retrieval/make_set.py writes
  PEERS_PYTHON    a Python that has tests/peers/requirements.txt
  BENCH_EVENTS    stored events (100000)
  BENCH_ENTRIES   entries of the largest memory (100000)
  BENCH_DIR       a folder on the disk that is measured (the one for temporary files)
  BENCH_INTO      a document whose part below the mark of figures becomes the new ones
";

const EVENTS: usize = 100_000;
const ENTRIES: usize = 100_000;
/// Below this line of a document stand figures.
const MARK: &str = "<!-- figures -->\n";

/// Every benchmark by its name.
const ALL: [&str; 7] = ["start", "jobs", "relay", "quality", "memory", "federation", "talk"];

fn main() -> ExitCode {
    let named: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, dir, question] = named.as_slice()
        && flag == memory::cold::FLAG
    {
        let said = memory::cold::child(Path::new(dir), question);
        std::io::stdout().write_all(said.as_bytes()).unwrap();
        return ExitCode::SUCCESS;
    }
    if named.iter().any(|name| name == "--help" || name == "-h") {
        std::io::stdout().write_all(HELP.as_bytes()).unwrap();
        return ExitCode::SUCCESS;
    }
    if let Some(unknown) = named.iter().find(|name| !ALL.contains(&name.as_str())) {
        eprint(&format!("there is no benchmark {unknown}: {}; see bench --help", ALL.join(", ")));
        return ExitCode::from(2);
    }
    let wants = |name: &str| named.is_empty() || named.iter().any(|n| n == name);
    let parent = std::env::var_os("BENCH_DIR").map_or_else(std::env::temp_dir, Into::into);
    let dir = tempfile::TempDir::new_in(parent).unwrap();
    let mut report = Report::default();
    let date = Timestamp::now().to_human_datetime();
    report.say(&format!("Measured {date} on {}.", report::machine(dir.path())));
    if ["start", "jobs", "relay", "federation", "talk"].into_iter().any(wants) {
        let Some(binary) = process::program("TIMMY_BIN") else {
            eprint("TIMMY_BIN must name the timmy binary: cargo build --release --workspace --bin timmy --bin bench");
            return ExitCode::from(2);
        };
        node(&mut report, &binary, dir.path(), wants);
    }
    if wants("quality") {
        quality(&mut report, dir.path());
    }
    if wants("memory") {
        eprint("memory …");
        memory::run(&mut report, retrieval_set().as_deref(), dir.path(), number("BENCH_ENTRIES", ENTRIES));
    }
    if wants("federation") {
        eprint("sister nodes …");
        federation::run(&mut report, dir.path(), number("BENCH_ENTRIES", ENTRIES));
    }
    if wants("talk") {
        eprint("talks …");
        talk::run(&mut report, dir.path());
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
    let count = number("BENCH_EVENTS", EVENTS);
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
    let Some(set) = retrieval_set() else {
        report
            .say("Without the quality of recall: RETRIEVAL_SET names no file (tests/retrieval/make_set.py makes it).");
        return;
    };
    eprint("quality of recall …");
    quality::run(report, &set, dir);
}

fn retrieval_set() -> Option<PathBuf> {
    process::program("RETRIEVAL_SET")
}

/// A number from the environment.
fn number(variable: &str, usual: usize) -> usize {
    std::env::var(variable).ok().and_then(|n| n.parse().ok()).unwrap_or(usual)
}

fn eprint(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
