//! The memory from outside: what is said is found, what is forgotten is nowhere, and a kill loses nothing.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use memory::{
    Consolidation, Directory, Draft, EntryKind, Memory, MemoryOptions, PageEdit, PruneReason, Pruning, Query, SealKey,
    Selector, StaticEmbedder, Writer,
};
use nips::Audience;
use nips::memory::Space;
use nostr::{Keys, PublicKey};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

struct Nobody;

impl Directory for Nobody {
    fn writer(&self, _install: &PublicKey) -> Option<Writer> {
        None
    }

    fn may_share(&self, _install: &PublicKey, _space: &Space) -> bool {
        false
    }
}

struct Running {
    memory: Memory,
    tracker: TaskTracker,
    cancel: CancellationToken,
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// The same keys at every start, as a node has them.
fn keys() -> Keys {
    Keys::parse("0000000000000000000000000000000000000000000000000000000000000003").unwrap()
}

async fn open(dir: &Path) -> Running {
    let (tracker, cancel) = (TaskTracker::new(), CancellationToken::new());
    let options = MemoryOptions {
        dir: dir.to_owned(),
        install: keys(),
        author: keys().public_key(),
        key: SealKey::new([5; 32]),
        directory: Arc::new(Nobody),
        embedder: Arc::new(StaticEmbedder::new()),
        clock: Arc::new(now),
    };
    let memory = Memory::open(options, &tracker, cancel.clone()).await.unwrap();
    Running { memory, tracker, cancel }
}

impl Running {
    async fn stop(self) {
        self.cancel.cancel();
        self.tracker.close();
        drop(self.memory);
        self.tracker.wait().await;
    }
}

async fn found(memory: &Memory, text: &str, audience: Audience) -> Vec<String> {
    let recalls = memory.search(&Query::new(text), audience).await.unwrap();
    recalls.into_iter().map(|recall| recall.entry.text).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_said_is_found_by_its_meaning_by_those_who_may_and_after_a_restart() {
    let dir = TempDir::new().unwrap();
    let running = open(dir.path()).await;
    let memory = &running.memory;
    let alice = Keys::generate().public_key();
    memory.add(Draft::new("The spare key lies under the flower pot")).await.unwrap();
    memory.add(Draft::new("The cat is called Miez")).await.unwrap();
    memory.add(Draft { person: Some(alice), ..Draft::new("Alice likes her tea without sugar") }).await.unwrap();
    let garden: Space = "garden".parse().unwrap();
    memory.add(Draft { space: garden.clone(), ..Draft::new("The roses are watered on Monday") }).await.unwrap();
    memory.add(Draft { space: Space::private(), ..Draft::new("My diary is in the drawer") }).await.unwrap();
    assert_eq!(found(memory, "where is the key?", Audience::Owner).await[0], "The spare key lies under the flower pot");
    assert_eq!(
        found(memory, "how does she drink tea", Audience::Person(alice)).await,
        ["Alice likes her tea without sugar"]
    );
    assert!(found(memory, "roses", Audience::Person(alice)).await.iter().all(|text| !text.contains("roses")));
    memory.share(garden.clone(), alice, true).await.unwrap();
    assert_eq!(
        found(memory, "when are the roses watered", Audience::Person(alice)).await[0],
        "The roses are watered on Monday"
    );
    memory.share(garden, alice, false).await.unwrap();
    assert!(found(memory, "roses", Audience::Person(alice)).await.iter().all(|text| !text.contains("roses")));
    assert!(found(memory, "key", Audience::Stranger).await.is_empty());
    let sibling = found(memory, "diary drawer", Audience::Member).await;
    assert!(sibling.iter().all(|text| !text.contains("diary")), "{sibling:?}");
    running.stop().await;
    let running = open(dir.path()).await;
    assert_eq!(found(&running.memory, "the pet's name", Audience::Owner).await[0], "The cat is called Miez");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_this_node_signs_is_told_after_its_commit_and_nothing_private() {
    let dir = TempDir::new().unwrap();
    let running = open(dir.path()).await;
    let mut told = running.memory.follow();
    running.memory.add(Draft { space: Space::private(), ..Draft::new("for nobody") }).await.unwrap();
    let id = running.memory.add(Draft::new("for the fleet")).await.unwrap();
    running
        .memory
        .edit_page(Space::fleet(), "list".parse().unwrap(), vec![PageEdit::Add("milk".into())])
        .await
        .unwrap();
    running.memory.forget(Selector::Id(id)).await.unwrap();
    let spaces: Vec<Space> = std::iter::from_fn(|| told.try_recv().ok())
        .map(|event| nips::memory::verified(&event).unwrap().space().clone())
        .collect();
    assert_eq!(spaces, [Space::fleet(), Space::fleet(), Space::fleet()], "an entry, an edit and a tombstone");
    running.stop().await;
}

/// Every file under `dir` that holds `phrase`.
fn holds(dir: &Path, phrase: &str) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(holds(&path, phrase));
        } else if let Ok(bytes) = std::fs::read(&path)
            && bytes.windows(phrase.len()).any(|window| window == phrase.as_bytes())
        {
            all.push(path);
        }
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn no_file_holds_what_was_forgotten_and_no_import_brings_it_back() {
    let dir = TempDir::new().unwrap();
    let running = open(dir.path()).await;
    let memory = &running.memory;
    let phrase = "xylophonic zebra quarrels";
    let mut drafts: Vec<Draft> = (0..60).map(|n| Draft::new(format!("ordinary entry number {n}"))).collect();
    drafts.push(Draft::new(format!("the secret is: {phrase}")));
    let added = memory.add_all(drafts.clone()).await.unwrap();
    memory.edit_page(Space::fleet(), "notes".parse().unwrap(), vec![PageEdit::Append(phrase.into())]).await.unwrap();
    memory.settled().await.unwrap();
    assert!(!holds(dir.path(), phrase).is_empty(), "the index holds it until then");
    let before: Vec<nostr::Event> =
        memory.events_after(0, 1_000).await.unwrap().into_iter().map(|(_, event)| event).collect();
    let id = added.last().unwrap().unwrap().id;
    let forgotten = memory.forget(Selector::Id(id)).await.unwrap();
    assert_eq!(forgotten.moved, 60);
    memory.forget_page(Space::fleet(), "notes".parse().unwrap()).await.unwrap();
    assert_eq!(holds(dir.path(), phrase), Vec::<PathBuf>::new());
    assert!(found(memory, phrase, Audience::Owner).await.iter().all(|text| !text.contains(phrase)));
    memory.restore(before).await.unwrap();
    assert_eq!(memory.add_all(drafts).await.unwrap().iter().filter(|added| added.is_none()).count(), 1);
    memory.reindex(|_| {}).await.unwrap();
    memory.settled().await.unwrap();
    assert_eq!(holds(dir.path(), phrase), Vec::<PathBuf>::new());
    assert_eq!(memory.stats().await.unwrap().entries, 60);
    memory.check().await.unwrap();
    running.stop().await;
    assert_eq!(holds(dir.path(), phrase), Vec::<PathBuf>::new());
    let running = open(dir.path()).await;
    running.memory.settled().await.unwrap();
    assert_eq!(holds(dir.path(), phrase), Vec::<PathBuf>::new());
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_old_is_condensed_and_what_nobody_misses_is_pruned() {
    let dir = TempDir::new().unwrap();
    let running = open(dir.path()).await;
    let memory = &running.memory;
    let day = 86_400;
    let episode = |text: &str, days: u64| Draft {
        kind: EntryKind::Episodic,
        // The middle of a week: all of them fall into the same one.
        created_at: Some(((now() - days * day) / (7 * day)) * (7 * day) + 3 * day),
        ..Draft::new(text)
    };
    for n in 0..6 {
        memory.add(episode(&format!("The heating failed again, visit {n} of the plumber."), 120)).await.unwrap();
    }
    memory.add(episode("Yesterday it rained.", 0)).await.unwrap();
    let unused =
        Draft { importance: 0.1, created_at: Some(now() - 400 * day), ..Draft::new("a trifle nobody asked for") };
    let asked = Draft { text: "a trifle about trombones somebody asked for".into(), ..unused.clone() };
    memory.add(unused).await.unwrap();
    memory.add(asked).await.unwrap();
    let one = Query { limit: 1, ..Query::new("trombones") };
    assert!(memory.search(&one, Audience::Owner).await.unwrap()[0].entry.text.contains("trombones"));

    let would = memory.consolidate(Consolidation::default(), None, true).await.unwrap();
    assert_eq!((would.len(), memory.stats().await.unwrap().entries), (1, 9), "a dry run changes nothing");
    let done = memory.consolidate(Consolidation::default(), None, false).await.unwrap();
    assert_eq!(done, would);
    assert_eq!(done[0].originals.len(), 6);
    assert_eq!(memory.stats().await.unwrap().entries, 10, "the originals stay");
    let recalled = memory.search(&Query { limit: 1, ..Query::new("heating plumber") }, Audience::Owner).await.unwrap();
    assert!(recalled.iter().all(|r| !done[0].originals.contains(&r.entry.id)), "but are not recalled");
    assert_eq!(recalled[0].entry.id, done[0].id);
    assert!(memory.consolidate(Consolidation::default(), None, false).await.unwrap().is_empty(), "once is enough");

    let would = memory.prune(Pruning::default(), true).await.unwrap();
    assert_eq!(memory.stats().await.unwrap().entries, 10);
    let count = |reason| would.iter().filter(|p| p.reason == reason).count();
    assert_eq!((count(PruneReason::Superseded), count(PruneReason::Unused)), (6, 1), "{would:?}");
    assert_eq!(memory.prune(Pruning::default(), false).await.unwrap(), would);
    assert_eq!(memory.stats().await.unwrap().entries, 3);
    assert_eq!(holds(dir.path(), "trifle nobody asked for"), Vec::<PathBuf>::new());
    running.stop().await;
}

const CHILD: &str = "TIMMY_MEMORY_CHILD";

/// Not a test of its own: the process that is killed. It adds without end and prints each text once it is acknowledged.
#[tokio::test(flavor = "multi_thread")]
async fn child() {
    let Some(dir) = std::env::var_os(CHILD) else { return };
    let running = open(Path::new(&dir)).await;
    let memory = &running.memory;
    let start = rand::random::<u64>();
    let mut done: Vec<memory::Added> = Vec::new();
    for n in 0_u32.. {
        let text = format!("entry {start:x} {n}");
        let id = memory.add(Draft::new(&text)).await.unwrap();
        tell("added", &text);
        if n % 5 == 1 {
            let line = format!("line {start:x} {n}");
            memory
                .edit_page(Space::fleet(), "log".parse().unwrap(), vec![PageEdit::Append(line.clone())])
                .await
                .unwrap();
            tell("line", &line);
        }
        if n % 7 == 3 {
            tell("forgetting", &text);
            memory.forget(Selector::Id(id)).await.unwrap();
            tell("forgot", &text);
        }
        done.clear();
    }
}

fn tell(what: &str, text: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "\n@{what} {text}").unwrap();
    out.flush().unwrap();
}

/// `TIMMY_KILLS` random kills (60 unless set; `make bench` does 500): nothing acknowledged is lost, nothing forgotten comes back, and every document loads.
#[tokio::test(flavor = "multi_thread")]
async fn a_kill_at_any_time_loses_nothing_that_was_acknowledged() {
    let kills: u32 = std::env::var("TIMMY_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(60);
    let dir = TempDir::new().unwrap();
    let (mut kept, mut lines, mut forgotten): (BTreeSet<String>, BTreeSet<String>, BTreeSet<String>) =
        Default::default();
    for kill in 0..kills {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture", "--test-threads=1"])
            .env(CHILD, dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let reader = std::thread::spawn(move || out.lines().map_while(Result::ok).collect::<Vec<_>>());
        // Any moment is a good one, from the first instruction on.
        std::thread::sleep(Duration::from_millis(rand::random_range(5..400)));
        child.kill().unwrap();
        child.wait().unwrap();
        for line in reader.join().unwrap() {
            let Some((what, text)) = line.strip_prefix('@').and_then(|l| l.split_once(' ')) else { continue };
            match what {
                "added" => _ = kept.insert(text.to_owned()),
                "line" => _ = lines.insert(text.to_owned()),
                // From here on it may be gone or not, until it is said.
                "forgetting" => _ = kept.remove(text),
                _ => _ = forgotten.insert(text.to_owned()),
            }
        }
        if kill % 20 == 19 || kill + 1 == kills {
            verify(dir.path(), &kept, &lines, &forgotten).await;
        }
    }
    assert!(kept.len() > 20, "{} entries were acknowledged", kept.len());
}

async fn verify(dir: &Path, kept: &BTreeSet<String>, lines: &BTreeSet<String>, forgotten: &BTreeSet<String>) {
    let running = open(dir).await;
    let memory = &running.memory;
    memory.settled().await.unwrap();
    let rows = memory.rows(0, usize::MAX).await.unwrap();
    let texts: BTreeSet<String> = rows.into_iter().map(|(_, entry)| entry.text).collect();
    assert_eq!(kept.difference(&texts).next(), None, "an acknowledged entry is lost");
    assert_eq!(forgotten.intersection(&texts).next(), None, "a forgotten entry came back");
    let page = memory.page(Space::fleet(), "log".parse().unwrap(), Audience::Owner).await.unwrap();
    let text = page.map(|page| page.text).unwrap_or_default();
    let written: BTreeSet<String> = text.lines().map(str::to_owned).collect();
    assert_eq!(lines.difference(&written).next(), None, "an acknowledged line is lost");
    assert_eq!(memory.check().await.unwrap().incomplete, 0);
    let stats = memory.stats().await.unwrap();
    assert_eq!(stats.entries, u64::try_from(texts.len()).unwrap());
    assert_eq!(stats.index.rows, texts.len(), "the index holds what the truth holds");
    running.stop().await;
}
