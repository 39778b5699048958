//! Numbers as Markdown.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

/// The report so far.
#[derive(Default)]
pub struct Report(String);

impl Report {
    /// Begins a table.
    pub fn table(&mut self, title: &str, columns: &[&str]) {
        let _ = writeln!(self.0, "\n### {title}\n\n| {} |\n|{}", columns.join(" | "), "---|".repeat(columns.len()));
    }

    /// Adds a line to the table.
    pub fn row(&mut self, cells: &[&str]) {
        let _ = writeln!(self.0, "| {} |", cells.join(" | "));
    }

    /// Adds a paragraph.
    pub fn say(&mut self, text: &str) {
        let _ = writeln!(self.0, "\n{text}");
    }

    /// What was written.
    pub fn text(&self) -> &str {
        &self.0
    }
}

/// The `share` (0 to 1) of `times` that is not slower, in milliseconds.
pub fn percentile(times: &[Duration], share: f64) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).map_or(f64::NAN, Duration::as_secs_f64) * 1e3
}

/// p50 / p99 in milliseconds.
pub fn p50_p99(times: &[Duration]) -> String {
    format!("{} / {} ms", digits(percentile(times, 0.5)), digits(percentile(times, 0.99)))
}

/// Three digits that mean something.
pub fn digits(value: f64) -> String {
    match value {
        v if v >= 100.0 => thousands(v),
        v if v >= 10.0 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    }
}

/// A whole number with its thousands apart.
pub fn thousands(value: f64) -> String {
    let plain = format!("{value:.0}");
    let mut text = String::new();
    for (i, digit) in plain.chars().enumerate() {
        if i > 0 && (plain.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Where this was measured: processor, kernel, disk and load.
pub fn machine(dir: &std::path::Path) -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo.lines().find_map(|l| l.strip_prefix("model name")).unwrap_or("unknown processor");
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = read("/proc/meminfo").split_whitespace().nth(1).and_then(|kb| kb.parse::<f64>().ok()).unwrap_or(0.0);
    format!(
        "{} × {}, {:.0} GB, Linux {}; an fdatasync of 4 KB takes {:.2} ms (p50 of 200); load before the run {}",
        cores,
        model.trim_start_matches(['\t', ' ', ':']),
        memory / 1e6,
        read("/proc/sys/kernel/osrelease").split(['-', '\n']).next().unwrap_or_default(),
        sync_ms(dir),
        read("/proc/loadavg").split(' ').next().unwrap_or("?"),
    )
}

/// What the disk takes to make 4 KB durable.
fn sync_ms(dir: &std::path::Path) -> f64 {
    use std::os::unix::fs::FileExt;
    let file = std::fs::File::create(dir.join("sync")).unwrap();
    file.write_all_at(&vec![0; 200 * 4096], 0).unwrap();
    file.sync_all().unwrap();
    let times: Vec<Duration> = (0..200)
        .map(|i| {
            let started = Instant::now();
            file.write_all_at(&[1; 4096], i * 4096).unwrap();
            file.sync_data().unwrap();
            started.elapsed()
        })
        .collect();
    percentile(&times, 0.5)
}
