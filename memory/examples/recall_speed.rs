//! How fast recall is: `recall_speed [ENTRIES]` fills an index with texts of a word generator and prints medians and tails.
#![allow(clippy::print_stdout)]

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use memory::{
    Entry, EntryKind, Index, IndexChange, IndexOptions, Mode, Query, Sight, Source, SourceError, SourceRow,
    StaticEmbedder,
};
use nips::memory::{EntryId, Space};
use nostr::{Keys, PublicKey};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

const NOW: u64 = 1_800_000_000;
const QUESTIONS: usize = 500;

type Failure = Box<dyn std::error::Error>;

/// Words as frequent as those of a language: the n-th is 1/n as frequent as the first.
struct Words(Vec<String>);

impl Words {
    fn new(rng: &mut StdRng) -> Self {
        let syllables =
            ["ka", "to", "mi", "ran", "del", "so", "ven", "li", "mor", "pa", "shi", "gar", "en", "tu", "bel"];
        let word = |rng: &mut StdRng| -> String {
            (0..rng.random_range(1..=4)).map(|_| syllables[rng.random_range(0..syllables.len())]).collect()
        };
        Self((0..20_000).map(|_| word(rng)).collect())
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
    fn text(&self, rng: &mut StdRng, words: usize) -> String {
        let zipf = |rng: &mut StdRng| {
            // The thirty most frequent words of a language are in no index.
            let log = rng.random_range(30.0_f64.ln()..(self.0.len() as f64).ln());
            &self.0[(log.exp() as usize).min(self.0.len() - 1)]
        };
        (0..words).map(|_| zipf(rng).as_str()).collect::<Vec<_>>().join(" ")
    }
}

#[derive(Default)]
struct Truth {
    rows: Mutex<Vec<Entry>>,
    at: Mutex<HashMap<EntryId, usize>>,
}

impl Truth {
    fn put(&self, entry: Entry) -> Result<(), Failure> {
        let mut rows = self.rows.lock().map_err(|_| "poisoned")?;
        self.at.lock().map_err(|_| "poisoned")?.insert(entry.id, rows.len());
        rows.push(entry);
        Ok(())
    }
}

impl Source for Truth {
    fn rows(&self, after: i64, limit: usize) -> Result<Vec<SourceRow>, SourceError> {
        let rows = self.rows.lock().map_err(|_| SourceError("poisoned".to_owned()))?;
        let all = rows.iter().enumerate().filter_map(|(row, entry)| Some((i64::try_from(row).ok()?, entry)));
        let some = all.filter(|(row, _)| *row > after).take(limit);
        Ok(some.map(|(row, entry)| SourceRow { row, entry: entry.clone() }).collect())
    }

    fn entries(&self, ids: &[EntryId]) -> Result<Vec<Entry>, SourceError> {
        let rows = self.rows.lock().map_err(|_| SourceError("poisoned".to_owned()))?;
        let at = self.at.lock().map_err(|_| SourceError("poisoned".to_owned()))?;
        Ok(ids.iter().filter_map(|id| at.get(id).and_then(|at| rows.get(*at)).cloned()).collect())
    }
}

fn entry(rng: &mut StdRng, words: &Words, author: PublicKey) -> Entry {
    let length = rng.random_range(8..40);
    Entry {
        id: EntryId::from_bytes(rng.random()),
        text: words.text(rng, length),
        kind: EntryKind::ALL[rng.random_range(0..3)],
        space: Space::fleet(),
        author,
        created_at: NOW - rng.random_range(0..100_000_000),
        person: None,
        tags: if rng.random_bool(0.1) { ["tag".to_owned()].into() } else { BTreeSet::new() },
        importance: 0.5,
        valid_from: None,
        valid_until: None,
        supersedes: BTreeSet::new(),
    }
}

/// Resident memory in MB; 0 where there is no `/proc`.
fn resident_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) / 1024
}

/// Milliseconds of all cores that this process has used; 0 where there is no `/proc`.
fn cpu_ms() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
    (ticks(11) + ticks(12)) * 10
}

async fn measure(what: &str, index: &Index, questions: &[Query], mode: Mode, sight: &Sight) -> Result<(), Failure> {
    let mut times: Vec<Duration> = Vec::new();
    let mut found = 0;
    let cpu = cpu_ms();
    for question in questions {
        let begun = Instant::now();
        found += index.search_by(question, sight, NOW, mode).await?.len();
        times.push(begun.elapsed());
    }
    times.sort();
    let at = |part: usize| times.get(times.len() * part / 100).or(times.last()).copied().unwrap_or_default();
    let each = found / questions.len().max(1);
    #[allow(clippy::cast_precision_loss)]
    let cpu = (cpu_ms() - cpu) as f64 / questions.len().max(1) as f64;
    let (best, half, most) = (at(10), at(50), at(99));
    println!("{what:<30} p10 {best:>9.2?}  p50 {half:>9.2?}  p99 {most:>9.2?}  CPU {cpu:.1} ms  ({each} hits)");
    Ok(())
}

async fn measure_all(what: &str, index: &Index, questions: &[Query]) -> Result<(), Failure> {
    for (name, mode) in [("vector", Mode::Vector), ("text", Mode::Text), ("hybrid", Mode::Hybrid)] {
        measure(&format!("{what} {name}"), index, questions, mode, &Sight::All).await?;
    }
    Ok(())
}

fn open(dir: &std::path::Path, truth: &Arc<Truth>) -> Result<(Index, TaskTracker, CancellationToken), Failure> {
    let (tracker, cancel) = (TaskTracker::new(), CancellationToken::new());
    let options = IndexOptions::new(dir, Arc::new(|| NOW));
    let index = Index::open(options, truth.clone(), Arc::new(StaticEmbedder::new()), &tracker, cancel.clone())?;
    Ok((index, tracker, cancel))
}

async fn stop(tracker: TaskTracker, cancel: CancellationToken) {
    cancel.cancel();
    tracker.close();
    tracker.wait().await;
}

/// Waits until the full-text index holds every row and nothing waits.
async fn settle(index: &Index) {
    let mut last = None;
    loop {
        let stats = index.stats().await;
        let now = (stats.refreshes, stats.compactions, stats.prunes, stats.pending);
        if last == Some(now) && stats.pending == 0 && stats.tail < 1_000 {
            return;
        }
        last = Some(now);
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
}

/// A thousand entries, one at a time, with a question after each.
async fn single_adds(index: &Index, questions: &[Query], mut entry: impl FnMut() -> Entry) -> Result<(), Failure> {
    let mut adds = Vec::new();
    let mut asked = Vec::new();
    for question in questions.iter().cycle().take(1_000) {
        let entry = entry();
        let begun = Instant::now();
        index.apply(vec![IndexChange::Upsert(entry)]).await?;
        adds.push(begun.elapsed());
        let begun = Instant::now();
        index.search(question, &Sight::All, NOW).await?;
        asked.push(begun.elapsed());
    }
    for (what, times) in [("single add", &mut adds), ("hybrid after each add", &mut asked)] {
        times.sort();
        println!("{what:<34} p50 {:>9.2?}  p99 {:>9.2?}  most {:>9.2?}", times[500], times[990], times[999]);
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let count: usize = std::env::args().nth(1).map_or(Ok(100_000), |n| n.parse())?;
    let mut rng = StdRng::seed_from_u64(7);
    let words = Words::new(&mut rng);
    let author = Keys::generate().public_key();
    let truth = Arc::new(Truth::default());
    let entries: Vec<Entry> = (0..count).map(|_| entry(&mut rng, &words, author)).collect();
    entries.iter().try_for_each(|entry| truth.put(entry.clone()))?;
    let questions: Vec<Query> = (0..QUESTIONS)
        .map(|_| {
            let length = rng.random_range(3..8);
            Query::new(words.text(&mut rng, length))
        })
        .collect();
    let dir = std::env::temp_dir().join(format!("recall-speed-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    println!("{count} entries; resident before the index: {} MB", resident_mb());

    let empty = Arc::new(Truth::default());
    let (index, tracker, cancel) = open(&dir, &empty)?;
    index.healed().await?;
    println!("empty index: {} MB", resident_mb());
    let begun = Instant::now();
    for batch in entries.chunks(1_000) {
        index.apply(batch.iter().cloned().map(IndexChange::Upsert).collect()).await?;
    }
    index.flush().await?;
    #[allow(clippy::cast_precision_loss)]
    let rate = count as f64 / begun.elapsed().as_secs_f64();
    println!("bulk: {rate:.0} entries/s; {} MB", resident_mb());
    let begun = Instant::now();
    settle(&index).await;
    println!("settled after {:.1?}; {} MB", begun.elapsed(), resident_mb());
    measure_all("indexed:", &index, &questions).await?;
    let tagged: Vec<Query> = questions.iter().map(|q| Query { tags: ["tag".to_owned()].into(), ..q.clone() }).collect();
    measure("with a tag: hybrid", &index, &tagged[..300], Mode::Hybrid, &Sight::All).await?;
    let guest = Sight::Some { spaces: [Space::fleet()].into(), person: Some(author) };
    measure("a guest: hybrid", &index, &questions[..300], Mode::Hybrid, &guest).await?;
    println!("{} MB", resident_mb());

    single_adds(&index, &questions, || entry(&mut rng, &words, author)).await?;
    settle(&index).await;
    measure_all("after 1,000 adds:", &index, &questions).await?;
    println!("{:?}; {} MB", index.stats().await, resident_mb());
    stop(tracker, cancel).await;

    let begun = Instant::now();
    let (index, tracker, cancel) = open(&dir, &truth)?;
    index.search_by(&questions[0], &Sight::All, NOW, Mode::Vector).await?;
    println!("opened and answered in {:.0?}", begun.elapsed());
    index.healed().await?;
    println!("equal to the truth after {:.0?}; {} MB", begun.elapsed(), resident_mb());
    let begun = Instant::now();
    index.reindex(|_| {}).await?;
    println!("reindexed in {:.1?}; {} MB", begun.elapsed(), resident_mb());
    measure_all("reindexed:", &index, &questions).await?;
    let begun = Instant::now();
    index.erase(&[entries[0].id]).await?;
    println!("one entry erased in {:.1?}", begun.elapsed());
    println!("{:?}; {} MB", index.stats().await, resident_mb());
    stop(tracker, cancel).await;
    std::fs::remove_dir_all(&dir)?;
    Ok(())
}
