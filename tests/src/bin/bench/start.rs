//! Start, memory, size.

use std::path::Path;
use std::time::Duration;

use crate::process::Process;
use crate::report::{Report, digits, percentile};

const STARTS: usize = 20;
const FIRST_STARTS: usize = 5;
/// How long a node is left alone before its memory is read.
const IDLE: Duration = Duration::from_secs(10);

/// Measures and reports.
pub fn run(report: &mut Report, binary: &Path, dir: &Path) {
    let first: Vec<Duration> = (0..FIRST_STARTS)
        .map(|i| {
            let node = Process::timmy(binary, &dir.join(format!("first-{i}")), "");
            let time = node.start;
            node.stop();
            time
        })
        .collect();
    let home = dir.join("first-0");
    let again: Vec<Duration> = (0..STARTS)
        .map(|_| {
            let node = Process::timmy(binary, &home, "");
            let time = node.start;
            node.stop();
            time
        })
        .collect();
    let node = Process::timmy(binary, &home, "");
    std::thread::sleep(IDLE);
    let before = node.cpu();
    std::thread::sleep(IDLE);
    let idle_cpu = (node.cpu() - before).as_secs_f64() / IDLE.as_secs_f64() * 100.0;
    let memory = node.memory();
    node.stop();
    let size = std::fs::metadata(binary).unwrap().len() as f64 / 1e6;
    report.table("Start, memory, size", &["what", "measured", "goal"]);
    let p50 = |times: &[Duration]| format!("{} ms", digits(percentile(times, 0.5)));
    report.row(&[
        &format!("process spawned → ready line, keys exist (p50 of {STARTS}; slowest)"),
        &format!("{}; {} ms", p50(&again), digits(percentile(&again, 1.0))),
        "≤ 300 ms",
    ]);
    report.row(&[&format!("the same, first start (p50 of {FIRST_STARTS})"), &p50(&first), ""]);
    report.row(&[
        "memory when idle: RSS / PSS / of that anonymous",
        &format!("{} / {} / {} MB", digits(memory.rss), digits(memory.pss), digits(memory.anonymous)),
        "≤ 80 MB",
    ]);
    report.row(&["processor time when idle", &format!("{idle_cpu:.1} % of one core"), ""]);
    report.row(&["release binary", &format!("{} MB", digits(size)), "≤ 100 MB"]);
}
