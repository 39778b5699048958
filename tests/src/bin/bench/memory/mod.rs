//! What memory takes: recall, adding, starting, rebuilding and syncing, through its public face, as it grows; and other engines on
//! the same vectors.
//!
//! One memory grows to a hundredth, a tenth and all of the entries; at each size it is left until its upkeep has nothing to do, and
//! then asked. A start is measured in a process of its own ([`cold`]).

pub mod cold;
mod house;
mod peers;
mod recall;
mod reconcile;
mod sync;
mod texts;
mod write;

use std::path::Path;
use std::time::{Duration, Instant};

use nips::memory::EntryId;

use crate::report::{Report, digits, p50_p99, percentile, thousands};
use cold::Cold;
use house::House;
use recall::Asked;
use sync::Synced;
use texts::Texts;

/// Places that are asked for.
const PLACES: usize = 10;
/// Questions of each sort at each size.
const QUESTIONS: usize = 300;
/// The node whose memory it is.
const WRITER: u8 = 1;

/// One size.
struct Size {
    entries: usize,
    bulk_per_s: f64,
    asked: Asked,
    disk_bytes: u64,
    cold: Cold,
}

/// What is only measured of the largest.
struct Largest {
    added: write::Added,
    reindex: Duration,
}

/// Measures and reports. `count` is the largest number of entries.
pub fn run(report: &mut Report, set: Option<&Path>, dir: &Path, count: usize) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(Box::pin(measure(report, set, dir, count)));
    reconcile::run(report);
}

async fn measure(report: &mut Report, set: Option<&Path>, dir: &Path, count: usize) {
    let home = dir.join("memory");
    let mut source = Texts::new(set);
    let texts: Vec<String> = (0..count).map(|_| source.entry()).collect();
    let questions: Vec<String> = (0..QUESTIONS).map(|_| source.question()).collect();
    let (mut ids, mut sizes, mut synced) = (Vec::new(), Vec::new(), Vec::new());
    for entries in [count / 100, count / 10, count] {
        let size = grow(&home, &texts, &mut ids, entries, &questions).await;
        sizes.push(size);
        if entries > count / 100 {
            let house = House::open(&home, WRITER).await;
            house.memory.settled().await.unwrap();
            synced.push(sync::run(&house, &dir.join(format!("newcomer-{entries}"))).await);
            house.close().await;
        }
    }
    let largest = largest(&home, &mut source).await;
    recalls(report, &sizes, &source);
    writes(report, &sizes, &largest);
    syncs(report, &synced);
    let peers = dir.join("peers");
    peers::write(&peers, &texts, &questions).await;
    beside_peers(report, &peers, &sizes, &ids);
}

/// Fills the memory up to a size, waits until it is quiet, asks it, and starts it anew.
async fn grow(home: &Path, texts: &[String], ids: &mut Vec<EntryId>, entries: usize, questions: &[String]) -> Size {
    let house = House::open(home, WRITER).await;
    let (added, bulk_per_s) = write::fill(&house.memory, &texts[ids.len()..entries]).await;
    ids.extend(added);
    house.quiet().await;
    let asked = recall::ask(&house.memory, questions).await;
    let disk_bytes = house.memory.stats().await.unwrap().bytes_on_disk;
    house.close().await;
    Size { entries, bulk_per_s, asked, disk_bytes, cold: cold::start(home, &questions[0]) }
}

async fn largest(home: &Path, source: &mut Texts) -> Largest {
    let house = House::open(home, WRITER).await;
    house.memory.settled().await.unwrap();
    let started = Instant::now();
    house.memory.reindex(|_| {}).await.unwrap();
    let reindex = started.elapsed();
    house.quiet().await;
    let added = write::add(&house.memory, source).await;
    house.close().await;
    Largest { added, reindex }
}

fn recalls(report: &mut Report, sizes: &[Size], source: &Texts) {
    let questions = thousands(QUESTIONS as f64);
    report.table(
        &format!("Memory: recall, p50 / p99 of {questions} questions"),
        &["entries", "vectors alone", "full text alone", "**hybrid**", "first answer after the start"],
    );
    for Size { entries, asked, cold, .. } in sizes {
        let ms = |times: &[Duration]| p50_p99(times);
        let first = format!("{} ms", digits(cold.answered_ms));
        let entries = thousands(*entries as f64);
        report.row(&[&entries, &ms(&asked.vector), &ms(&asked.text), &ms(&asked.hybrid), &first]);
    }
    report.row(&["goal at 100,000", "p50 ≤ 3 ms", "", "≤ 10 / ≤ 25 ms", ""]);
    report.say(&format!(
        "One question at a time, for {PLACES} results, each with its text: the question is embedded, both legs search, the entries are \
         read from the sealed truth. Entries and questions are {} (seed {}). The first answer is that of a fresh process, from \
         opening the store on; it reads the model and all rows first.",
        source.source,
        texts::SEED,
    ));
}

fn writes(report: &mut Report, sizes: &[Size], largest: &Largest) {
    let (Some(least), Some(most)) = (sizes.first(), sizes.last()) else { return };
    let entries = thousands(most.entries as f64);
    report.table(&format!("Memory: adding, size, start, with {entries} entries"), &["what", "measured"]);
    let single = &largest.added.single;
    let mean = single.iter().sum::<Duration>().as_secs_f64() / single.len() as f64;
    report.row(&[
        &format!("one by one, each durable before the next (p50 / p99 of {})", write::SINGLE),
        &format!("{}/s ({})", thousands(1.0 / mean), p50_p99(single)),
    ]);
    let shared = thousands(write::SHARED as f64);
    report.row(&[
        &format!("{} at once, {shared} in all, each durable", write::AT_ONCE),
        &format!("{}/s", thousands(largest.added.shared_per_s)),
    ]);
    report.row(&[
        "in bulk, 1,000 together, durable (while it grew to each size)",
        &sizes.iter().map(|size| format!("{}/s", thousands(size.bulk_per_s))).collect::<Vec<_>>().join(", "),
    ]);
    let added = (most.entries - least.entries) as f64;
    let disk = (most.disk_bytes - least.disk_bytes) as f64 / added;
    report.row(&["disk an entry (truth, index)", &format!("{} KB", digits(disk / 1e3))]);
    let held = (most.cold.rss_mb - least.cold.rss_mb) / added * 1e3;
    report.row(&[
        "memory an entry; RSS after a start and one recall",
        &format!("{} KB; {} MB", digits(held), digits(most.cold.rss_mb)),
    ]);
    report.row(&[
        "cold start: opened → first answer; → compared with the truth",
        &format!("{}; {} ms", digits(most.cold.answered_ms), digits(most.cold.healed_ms)),
    ]);
    report.row(&["reindex", &format!("{} s", digits(largest.reindex.as_secs_f64()))]);
}

fn syncs(report: &mut Report, synced: &[Synced]) {
    report.table(
        "Memory: cold sync into an empty one, over a stream in this process",
        &["entries", "synced, durable", "signatures alone", "automerge alone", "sync over both", "goal", "index too"],
    );
    for sync in synced {
        let seconds = |time: Duration| format!("{} s", digits(time.as_secs_f64()));
        report.row(&[
            &thousands(sync.events as f64),
            &seconds(sync.took),
            &seconds(sync.signatures),
            &seconds(sync.automerge),
            &format!("{} ×", digits(sync.ratio())),
            "≤ 1.5 ×",
            &seconds(sync.searchable),
        ]);
    }
    report.say(
        "Both ends share the cores. Signatures are checked on two threads, as the product does; automerge loads one document after the other.",
    );
}

fn beside_peers(report: &mut Report, dir: &Path, sizes: &[Size], ids: &[EntryId]) {
    let Some(python) = peers::python() else {
        report.say("Without other vector engines: PEERS_PYTHON names no interpreter that has them (tests/peers/requirements.txt).");
        return;
    };
    let Some(most) = sizes.last() else { return };
    report.table(
        &format!("The same {} vectors in other engines", thousands(most.entries as f64)),
        &["engine", "p50 / p99", "recall@10", "first question", "all rows added", "memory", "disk"],
    );
    let mut failed = Vec::new();
    let mut others = Vec::new();
    for (engine, name) in peers::ENGINES {
        match peers::ask(&python, engine, dir) {
            Ok(said) => others.push((name, said)),
            Err(why) => failed.push(format!("{name}: {why}")),
        }
    }
    ours(report, dir, sizes, ids, most);
    for (name, said) in &others {
        let number = |key: &str| said[key].as_f64().map_or_else(|| "?".to_owned(), digits);
        let disk = said["disk_mb"].as_f64().map_or_else(String::new, |mb| format!("{} MB", digits(mb)));
        let version = said["version"].as_str().unwrap_or("?").trim_start_matches('v');
        report.row(&[
            &format!("{name} ({version})"),
            &format!("{} / {} ms", number("p50_ms"), number("p99_ms")),
            &said["recall"].as_f64().map_or_else(String::new, |recall| format!("{recall:.3}")),
            &format!("{} ms", number("first_ms")),
            &format!("{} s", number("build_s")),
            &format!("{} MB", number("memory_mb")),
            &disk,
        ]);
    }
    report.say(
        "Theirs is the search alone, on vectors that are ready; one question at a time, one thread. Ours embeds the question, filters by who \
         may see what, folds near duplicates and reads ten sealed entries with their texts; its memory and disk are those of the whole \
         memory. numpy is the exact answer that recall is counted against.",
    );
    failed.iter().for_each(|why| report.say(&format!("Did not run: {why}")));
}

/// The memory's own line.
fn ours(report: &mut Report, dir: &Path, sizes: &[Size], ids: &[EntryId], most: &Size) {
    let recall = dir.join("exact.json").is_file().then(|| {
        let exact = peers::exact(dir);
        let share = |(right, found): (&Vec<usize>, &std::collections::BTreeSet<EntryId>)| {
            right.iter().filter(|row| found.contains(&ids[**row])).count() as f64 / right.len() as f64
        };
        exact.iter().zip(&most.asked.nearest).map(share).sum::<f64>() / exact.len() as f64
    });
    let filled: f64 = sizes
        .iter()
        .scan(0, |before, size| {
            let added = size.entries - *before;
            *before = size.entries;
            Some(added as f64 / size.bulk_per_s)
        })
        .sum();
    report.row(&[
        "**memory: recall by vectors alone**",
        &p50_p99(&most.asked.vector),
        &recall.map_or_else(|| "?".to_owned(), |recall| format!("{recall:.3}")),
        &format!("{} ms", digits(percentile(&most.asked.vector[..1], 1.0))),
        &format!("{} s", digits(filled)),
        &format!("{} MB", digits(most.cold.rss_mb)),
        &format!("{} MB", digits(most.disk_bytes as f64 / 1e6)),
    ]);
}
