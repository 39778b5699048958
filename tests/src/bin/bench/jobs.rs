//! Jobs (kind 5000, a text, `p` names the node): request published → result received, over WebSocket.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use nostr::Keys;

use crate::events::jobs;
use crate::process::Process;
use crate::report::{Report, digits, p50_p99, percentile, thousands};
use crate::wire::{Wire, frame};

/// Jobs sent one at a time.
const ALONE: usize = 2_000;
/// Connections of the sustained run, each with a key of its own, and the jobs each has in flight.
const LANES: usize = 8;
const WINDOW: usize = 32;
/// How long a sustained run lasts, and its share that is not counted.
const SUSTAINED: Duration = Duration::from_secs(20);
const WARM_UP: Duration = Duration::from_secs(2);
/// Jobs signed beforehand for each lane: nobody should be faster.
const SIGNED: usize = 10_000;

/// What keeps one customer from filling a node is opened for the run; everything else is as it comes.
const CONFIG: &str = "[dvm]\njobs_per_author_per_min = 1000000\nmax_queued = 10000\n";
/// The same with more workers at once than the four of the defaults.
const WORKERS: usize = 64;

/// One customer: its connection, and its requests by id.
struct Lane {
    wire: Wire,
    requests: Vec<(String, Vec<u8>)>,
}

impl Lane {
    /// Connects, subscribes to the results for a fresh key and signs its requests.
    fn open(node: &Process, count: usize) -> Self {
        let keys = Keys::generate();
        let requests = jobs(&keys, node.public_key(), count);
        let mut wire = Wire::connect(&node.address);
        let filter = format!(r##"["REQ","r",{{"kinds":[6000],"#p":["{}"]}}]"##, keys.public_key().to_hex());
        wire.send(&frame(&filter));
        wire.until("[\"EOSE\"");
        Self { wire, requests }
    }

    /// Sends one job after the other.
    fn one_at_a_time(&mut self) -> Vec<Duration> {
        let Self { wire, requests } = self;
        let time = |(id, frame): &(String, Vec<u8>)| {
            let started = Instant::now();
            wire.send(frame);
            let result = wire.until("[\"EVENT\"");
            assert_eq!(job_of(&result), Some(id.as_str()), "{result}");
            started.elapsed()
        };
        requests.iter().map(time).collect()
    }

    /// Keeps `WINDOW` jobs in flight; gives when each result came after `start`, and how long it took.
    fn sustained(&mut self, start: Instant) -> Vec<(Duration, Duration)> {
        let Self { wire, requests } = self;
        let mut sent: HashMap<&str, Instant> = HashMap::new();
        let mut results = Vec::new();
        let mut next = requests.iter();
        for (id, frame) in next.by_ref().take(WINDOW) {
            sent.insert(id, Instant::now());
            wire.send(frame);
        }
        while start.elapsed() < SUSTAINED {
            let result = wire.next();
            let Some(asked) = job_of(result).and_then(|id| sent.remove(id)) else {
                assert!(!result.contains(",false,"), "{result}");
                continue;
            };
            results.push((start.elapsed(), asked.elapsed()));
            let (id, frame) = next.next().expect("more jobs must be signed beforehand");
            sent.insert(id, Instant::now());
            wire.send(frame);
        }
        results
    }
}

/// The request that a result answers: its first clear `e` tag.
fn job_of(message: &str) -> Option<&str> {
    let event = message.strip_prefix("[\"EVENT\"")?;
    let at = event.find(r#"["e",""#)? + 6;
    event.get(at..at + 64)
}

/// Measures and reports.
pub fn run(report: &mut Report, binary: &Path, dir: &Path) {
    let node = Process::timmy(binary, &dir.join("jobs"), CONFIG);
    let alone = Lane::open(&node, ALONE).one_at_a_time();
    report.table("Jobs: request published → result received", &["what", "measured", "goal"]);
    let count = thousands(ALONE as f64);
    report.row(&[&format!("one at a time, p50 / p99 of {count}"), &p50_p99(&alone), "≤ 5 / ≤ 20 ms"]);
    let load = format!("sustained for {} s, {LANES} customers × {WINDOW} in flight", SUSTAINED.as_secs());
    sustained(report, &node, &format!("{load}, 4 workers at once (default)"));
    node.stop();
    let node = Process::timmy(binary, &dir.join("jobs-wide"), &format!("{CONFIG}max_running = {WORKERS}\n"));
    sustained(report, &node, &format!("{load}, {WORKERS} workers at once"));
    node.stop();
    report.say(&format!(
        "Each result was signed, and on disk in the journal and in the relay, before it was sent (slowest alone: {} ms). Opened for \
         these runs: jobs_per_author_per_min and max_queued.",
        digits(percentile(&alone, 1.0))
    ));
}

/// Floods the node and reports the rate, the times under that load and what a job cost.
fn sustained(report: &mut Report, node: &Process, what: &str) {
    let mut lanes: Vec<Lane> = (0..LANES).map(|_| Lane::open(node, SIGNED)).collect();
    let (results, cpu) = flood(node, &mut lanes);
    let counted: Vec<Duration> = results.iter().filter(|(at, _)| *at > WARM_UP).map(|(_, took)| *took).collect();
    let rate = thousands(counted.len() as f64 / (SUSTAINED - WARM_UP).as_secs_f64());
    report.row(&[what, &format!("{rate} jobs/s"), "≥ 1,000 jobs/s"]);
    let cost = digits(cpu.as_secs_f64() * 1e3 / results.len() as f64);
    report.row(&["p50 / p99 under that load; processor time a job", &format!("{}; {cost} ms", p50_p99(&counted)), ""]);
}

fn flood(node: &Process, lanes: &mut [Lane]) -> (Vec<(Duration, Duration)>, Duration) {
    let gate = Barrier::new(lanes.len());
    let cpu = node.cpu();
    let results = std::thread::scope(|scope| {
        let threads: Vec<_> = lanes
            .iter_mut()
            .map(|lane| {
                scope.spawn(|| {
                    gate.wait();
                    lane.sustained(Instant::now())
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    (results, node.cpu() - cpu)
}
