//! Writing, joining, pruning, erasing.

use std::future::Future;
use std::path::{Path, PathBuf};

use super::super::testing::*;
use super::super::*;

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        match entry.path().is_dir() {
            true => found.extend(files(&entry.path())),
            false => found.push(entry.path()),
        }
    }
    found
}

/// The files whose bytes hold a phrase.
fn holding(dir: &Path, phrase: &str) -> Vec<PathBuf> {
    let phrase = phrase.as_bytes();
    let holds = |path: &PathBuf| std::fs::read(path).unwrap().windows(phrase.len()).any(|window| window == phrase);
    files(dir).into_iter().filter(holds).collect()
}

/// Under load a text search now and then misses the row that was written just before it; a hybrid one finds it by its vector.
#[tokio::test]
async fn a_thousand_single_adds_with_searches_leave_few_files_and_miss_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::plain(dir.path());
    let mut most = 0;
    for n in 0..1_000 {
        running.add([entry(n, &format!("note about subject{n} and the weather"))]).await;
        assert_eq!(running.find(&format!("subject{n}"), Mode::Text).await, [id(n)], "one reads one's own writes");
        if n % 50 == 0 {
            most = most.max(files(dir.path()).len());
        }
    }
    assert!(most < 600, "{most}");
    let stats = running.until(|stats| stats.files < 200).await;
    assert_eq!((stats.rows, stats.pending, stats.failures), (1_000, 0, 0));
    assert!(stats.flushes.done >= 1_000 && stats.refreshes.done >= 3, "{stats:?}");
    assert!(stats.compactions.done >= 10 && stats.prunes.done >= 10, "{stats:?}");
    assert_eq!(stats.prunes.last, Some(NOW));
    for n in [0, 1, 499, 998, 999] {
        assert_eq!(running.find(&format!("subject{n}"), Mode::Text).await, [id(n)]);
    }
    running.stop().await;
}

#[tokio::test]
async fn changes_are_written_by_themselves_and_idleness_finishes_the_index() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = IndexOptions::new(dir.path(), Arc::new(|| NOW));
    options.flush_after = Duration::from_millis(20);
    options.idle_after = Duration::from_millis(50);
    let running = Running::start_with(options, Arc::default(), Arc::new(crate::embed::StaticEmbedder::new()));
    running.add((0..5).map(|n| entry(n, "water the plants"))).await;
    let stats = running.until(|stats| stats.pending == 0 && stats.refreshes.done > 0).await;
    assert_eq!((stats.flushes.done, stats.failures), (1, 0), "five changes are one write");
    running.stop().await;
}

#[tokio::test]
async fn an_entry_that_comes_again_is_there_once() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::plain(dir.path());
    let mut changed = entry(1, "the meeting is on Monday");
    for round in 0..3 {
        running
            .index
            .apply(vec![IndexChange::Upsert(changed.clone()), IndexChange::Upsert(changed.clone())])
            .await
            .unwrap();
        if round == 1 {
            running.index.flush().await.unwrap();
        }
    }
    running.truth.put(changed.clone());
    assert_eq!(running.find("meeting", Mode::Text).await, [id(1)]);
    changed.text = "the meeting is on Friday".to_owned();
    running.index.apply(vec![IndexChange::Upsert(changed)]).await.unwrap();
    assert_eq!(running.find("Friday", Mode::Text).await, [id(1)]);
    assert_eq!(running.find("Monday", Mode::Text).await, []);
    running.index.apply(vec![IndexChange::Remove(id(1)), IndexChange::Upsert(entry(1, "no meeting"))]).await.unwrap();
    assert_eq!(running.find("meeting", Mode::Text).await, [id(1)]);
    assert_eq!(running.find("Friday", Mode::Text).await, []);
    running.index.apply(vec![IndexChange::Remove(id(1))]).await.unwrap();
    for mode in [Mode::Text, Mode::Vector, Mode::Hybrid] {
        assert_eq!(running.find("meeting", mode).await, []);
    }
    assert_eq!(running.index.stats().await.rows, 0);
    running.stop().await;
}

#[tokio::test]
async fn a_search_that_is_given_up_loses_nothing_and_doubles_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::plain(dir.path());
    for n in 0..200 {
        running.add([entry(n, &format!("note about subject{n}"))]).await;
        // Given up after a number of steps that differs each time: before, in and after the write.
        let mut steps = n % 40;
        let mut search = Box::pin(running.find("note", Mode::Text));
        std::future::poll_fn(|cx| {
            if search.as_mut().poll(cx).is_ready() || steps == 0 {
                return std::task::Poll::Ready(());
            }
            steps -= 1;
            std::task::Poll::Pending
        })
        .await;
    }
    running.index.flush().await.unwrap();
    for n in 0..200 {
        assert_eq!(running.find(&format!("subject{n}"), Mode::Text).await, [id(n)]);
    }
    running.stop().await;
    let truth = Arc::new(Truth::default());
    (0..200).for_each(|n| truth.put(entry(n, &format!("note about subject{n}"))));
    let running = Running::start(dir.path(), truth, Arc::new(crate::embed::StaticEmbedder::new()));
    running.index.healed().await.unwrap();
    running.index.flush().await.unwrap();
    let stats = running.index.stats().await;
    assert_eq!((stats.rows, stats.flushes.done), (200, 0), "the table held each exactly once");
    running.stop().await;
}

#[tokio::test]
async fn what_is_erased_is_in_no_file_when_it_returns() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::plain(dir.path());
    let secret = "zanzibarquux plomponderous";
    running.add((0..600).map(|n| entry(n, &format!("ordinary note {n} about the garden")))).await;
    running.add([entry(700, &format!("the word is {secret} for ever"))]).await;
    running.index.flush().await.unwrap();
    running.until(|stats| stats.refreshes.done > 0).await;
    // Again in other versions of the table: written anew, among others, and once more after the index was updated.
    running.add([entry(701, &format!("{secret} again")), entry(702, "between")]).await;
    running.index.flush().await.unwrap();
    running.index.apply(vec![IndexChange::Upsert(entry(701, &format!("twice {secret}")))]).await.unwrap();
    running.index.flush().await.unwrap();
    assert!(!holding(dir.path(), "plomponderous").is_empty(), "the test can see what is there");
    // One waits for the table and is destroyed before it gets there.
    running.add([entry(703, &format!("waiting {secret}"))]).await;
    let ids = [id(700), id(701), id(703)];
    ids.iter().for_each(|id| running.truth.take(id));
    let before = files(dir.path());
    running.index.erase(&ids).await.unwrap();
    for phrase in [secret, "zanzibarquux", "plomponderous", "plompond"] {
        assert_eq!(holding(dir.path(), phrase), Vec::<PathBuf>::new(), "{phrase}");
    }
    // Bytes may be packed so that no search sees them: no file of rows or words is older than the erasure.
    let kept: Vec<_> = files(dir.path()).into_iter().filter(|path| before.contains(path)).collect();
    let data =
        |path: &&PathBuf| path.components().any(|part| part.as_os_str() == "data" || part.as_os_str() == "_indices");
    assert_eq!(kept.iter().filter(data).count(), 0, "{kept:?}");
    assert_eq!(running.find(secret, Mode::Text).await, []);
    assert!(running.find("ordinary note about the garden", Mode::Text).await.len() == 10);
    assert_eq!(running.find("between", Mode::Text).await, [id(702)]);
    assert_eq!(running.index.stats().await.rows, 601);
    running.stop().await;
    assert_eq!(holding(dir.path(), "plomponderous"), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn a_full_text_index_that_fails_is_made_anew_and_vectors_answer_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::plain(dir.path());
    running.add((0..300).map(|n| entry(n, &format!("note {n} about cats and dogs")))).await;
    running.index.flush().await.unwrap();
    running.until(|stats| stats.refreshes.done > 0).await;
    running.stop().await;
    for path in files(dir.path()).iter().filter(|path| path.components().any(|p| p.as_os_str() == "_indices")) {
        std::fs::remove_file(path).unwrap();
    }
    let truth = Arc::new(Truth::default());
    (0..300).for_each(|n| truth.put(entry(n, &format!("note {n} about cats and dogs"))));
    let running = Running::start(dir.path(), truth, Arc::new(crate::embed::StaticEmbedder::new()));
    assert_eq!(running.find("note 7 cats", Mode::Hybrid).await.len(), 10);
    let find = async {
        while running.find("note 7 cats", Mode::Text).await.len() < 10 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), find).await.unwrap();
    running.stop().await;
}
