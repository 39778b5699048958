//! Starts, crashes, damage, rebuilds, other embedders.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::Ordering;

use super::super::folder;
use super::super::testing::*;
use super::super::*;
use crate::embed::StaticEmbedder;

fn own() -> Arc<StaticEmbedder> {
    Arc::new(StaticEmbedder::new())
}

fn truth_of(n: u64) -> Arc<Truth> {
    let truth = Truth::default();
    (0..n).for_each(|n| truth.put(entry(n, &format!("note {n} about subject{n}"))));
    Arc::new(truth)
}

fn folders(dir: &Path) -> Vec<String> {
    let all = std::fs::read_dir(dir).unwrap().flatten().filter(|entry| entry.path().is_dir());
    let mut names: Vec<String> = all.map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

async fn finds(running: &Running, n: u64) -> bool {
    let text = format!("subject{n}");
    let in_all = |ids: Vec<EntryId>| ids.contains(&id(n));
    in_all(running.find(&text, Mode::Text).await) && in_all(running.find(&text, Mode::Vector).await)
}

#[tokio::test]
async fn a_start_makes_up_for_the_exact_difference() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path(), truth_of(500), own());
    running.index.healed().await.unwrap();
    assert!(finds(&running, 0).await && finds(&running, 499).await);
    running.stop().await;
    // Written to the truth and never told to the index; and the other way round.
    let truth = truth_of(500);
    truth.put(entry(900, "note about subject900"));
    truth.take(&id(3));
    let running = Running::start(dir.path(), truth, own());
    running.index.healed().await.unwrap();
    assert!(finds(&running, 900).await && finds(&running, 4).await && !finds(&running, 3).await);
    let stats = running.index.stats().await;
    assert_eq!((stats.rows, stats.failures, stats.state), (500, 0, IndexState::Ready));
    running.index.flush().await.unwrap();
    assert_eq!(running.index.stats().await.flushes.done, 1, "only the difference was written");
    running.stop().await;
}

#[tokio::test]
async fn a_search_right_after_a_start_finds_what_only_the_truth_has() {
    let dir = tempfile::tempdir().unwrap();
    let truth = truth_of(3_000);
    truth.fails.store(true, Ordering::Release);
    let running = Running::start(dir.path(), truth, own());
    running.until(|stats| stats.failures > 0).await;
    let (found, ()) = tokio::join!(finds(&running, 2_999), async {
        running.truth.fails.store(false, Ordering::Release);
    });
    assert!(found);
    running.stop().await;

    // It waits for a while, not for ever.
    let options = IndexOptions {
        heal_patience: Duration::from_millis(20),
        ..IndexOptions::new(dir.path().join("other"), Arc::new(|| NOW))
    };
    let truth = truth_of(3);
    truth.fails.store(true, Ordering::Release);
    let running = Running::start_with(options, truth, own());
    assert!(!finds(&running, 2).await);
    running.stop().await;
}

#[tokio::test]
async fn what_is_applied_while_healing_is_not_undone() {
    let dir = tempfile::tempdir().unwrap();
    let truth = truth_of(3_000);
    truth.fails.store(true, Ordering::Release);
    let running = Running::start(dir.path(), truth, own());
    running.until(|stats| stats.failures > 0).await;
    running.add([entry(5_000, "note about subject5000")]).await;
    running.truth.take(&id(7));
    running.index.apply(vec![IndexChange::Remove(id(7))]).await.unwrap();
    running.truth.fails.store(false, Ordering::Release);
    running.index.healed().await.unwrap();
    assert!(finds(&running, 5_000).await && finds(&running, 2_999).await && !finds(&running, 7).await);
    assert_eq!(running.index.stats().await.rows, 3_000);
    running.stop().await;
}

#[tokio::test]
async fn a_damaged_table_is_set_aside_and_made_anew() {
    for damage in ["manifest", "data", "meta", "schema", "current"] {
        let dir = tempfile::tempdir().unwrap();
        let running = Running::start(dir.path(), truth_of(50), own());
        running.index.healed().await.unwrap();
        running.index.flush().await.unwrap();
        running.stop().await;
        let generation = dir.path().join(folder::current(dir.path()).unwrap());
        let table = generation.join("entries.lance");
        let spoil = |dir: &Path| {
            let paths = std::fs::read_dir(dir).unwrap().flatten().map(|entry| entry.path());
            paths.filter(|path| path.is_file()).for_each(|path| std::fs::write(path, "spoilt").unwrap());
        };
        match damage {
            "manifest" => spoil(&table.join("_versions")),
            "data" => spoil(&table.join("data")),
            "meta" => std::fs::write(generation.join("meta.json"), "{").unwrap(),
            "schema" => {
                let newer = r#"{"schema":9999,"embedder":"x","dimensions":1,"made_at":0,"more":true}"#;
                std::fs::write(generation.join("meta.json"), newer).unwrap();
            }
            _ => std::fs::remove_file(dir.path().join("current")).unwrap(),
        }
        let running = Running::start(dir.path(), truth_of(50), own());
        running.index.healed().await.unwrap();
        assert!(finds(&running, 0).await && finds(&running, 49).await, "{damage}");
        assert_eq!(folders(dir.path()).len(), 1, "{damage}: what was set aside is deleted once the new one is whole");
        running.stop().await;
    }
}

#[tokio::test]
async fn a_rebuild_tells_its_progress_and_recall_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path(), truth_of(2_500), own());
    running.index.healed().await.unwrap();
    let told = Mutex::new(Vec::new());
    let rebuild = running.index.reindex(|progress| told.lock().unwrap().push(progress));
    let beside = async {
        running.add([entry(7_000, "note about subject7000")]).await;
        running.truth.take(&id(5));
        running.index.apply(vec![IndexChange::Remove(id(5))]).await.unwrap();
        assert!(finds(&running, 9).await && finds(&running, 7_000).await && !finds(&running, 5).await);
    };
    let (rebuilt, ()) = tokio::join!(rebuild, beside);
    rebuilt.unwrap();
    assert!(finds(&running, 9).await && finds(&running, 7_000).await && !finds(&running, 5).await);
    assert_eq!(running.index.stats().await.rows, 2_500);
    let told = told.into_inner().unwrap();
    assert_eq!(told.first().unwrap().done, 0);
    assert!(told.windows(2).all(|w| w[0].done < w[1].done) && told.len() >= 3);
    assert_eq!(told.last().unwrap().done, told.last().unwrap().total);
    assert_eq!(folders(dir.path()), ["g2"]);
    running.stop().await;
    let running = Running::start(dir.path(), truth_of(2_500), own());
    running.index.healed().await.unwrap();
    assert_eq!(running.index.stats().await.rows, 2_500);
    running.stop().await;
}

#[tokio::test]
async fn leftovers_of_a_crash_in_a_rebuild_are_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path(), truth_of(20), own());
    running.index.healed().await.unwrap();
    running.stop().await;
    std::fs::create_dir_all(dir.path().join("g2/entries.lance/data")).unwrap();
    std::fs::write(dir.path().join("g2/meta.json"), "half").unwrap();
    let running = Running::start(dir.path(), truth_of(20), own());
    running.index.healed().await.unwrap();
    assert_eq!(folders(dir.path()), ["g1"]);
    assert!(finds(&running, 19).await);
    running.stop().await;
}

#[tokio::test]
async fn another_embedder_takes_over_in_the_background() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path(), truth_of(300), own());
    running.index.healed().await.unwrap();
    running.stop().await;
    let far = Far::new(false, 48);
    let running = Running::start(dir.path(), truth_of(300), far.clone());
    running.index.healed().await.unwrap();
    running.until(|_| far.calls.load(Ordering::Acquire) > 2).await;
    assert_eq!(running.index.stats().await.embedder, "static-256-int8/1");
    running.add([entry(800, "note about subject800")]).await;
    assert!(finds(&running, 7).await && finds(&running, 800).await, "the old vectors serve meanwhile");
    far.is_up.store(true, Ordering::Release);
    running.until(|stats| stats.embedder == "far:48" && stats.state == IndexState::Ready).await;
    assert!(finds(&running, 7).await && finds(&running, 800).await);
    assert_eq!(folders(dir.path()).len(), 1);

    // It goes away: what comes is found by its words, and gets its vector when it is back.
    far.is_up.store(false, Ordering::Release);
    running.add([entry(801, "note about subject801")]).await;
    assert_eq!(running.find("subject801", Mode::Text).await, [id(801)]);
    assert_eq!(running.find("subject801", Mode::Hybrid).await, [id(801)], "full text alone");
    running.until(|stats| stats.unembedded == 1 && stats.failures > 0).await;
    running.index.flush().await.unwrap();
    running.stop().await;
    let truth = truth_of(300);
    truth.put(entry(800, "note about subject800"));
    truth.put(entry(801, "note about subject801"));
    let running = Running::start(dir.path(), truth, far.clone());
    running.index.healed().await.unwrap();
    assert_eq!(running.index.stats().await.unembedded, 1, "still waiting after a start");
    far.is_up.store(true, Ordering::Release);
    running.until(|stats| stats.unembedded == 0).await;
    assert!(finds(&running, 801).await);
    assert_eq!(running.find("subject801", Mode::Text).await, [id(801)]);
    running.stop().await;

    // Back to the one inside the binary, from vectors that nothing here can compare a question with.
    let running = Running::start(dir.path(), truth_of(300), own());
    running.until(|stats| stats.embedder == "static-256-int8/1" && stats.state == IndexState::Ready).await;
    assert!(finds(&running, 299).await && !finds(&running, 801).await);
    running.stop().await;
}

#[tokio::test]
async fn a_first_start_with_an_embedder_out_of_reach_serves_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let far = Far::new(false, 300);
    let running = Running::start(dir.path(), truth_of(10), far.clone());
    assert!({
        running.index.healed().await.unwrap();
        finds(&running, 3).await
    });
    far.is_up.store(true, Ordering::Release);
    let stats = running.until(|stats| stats.embedder == "far:300" && stats.unembedded == 0).await;
    assert_eq!(stats.rows, 10);
    assert!(finds(&running, 3).await);
    running.stop().await;
}

#[tokio::test]
async fn what_is_erased_during_a_rebuild_is_in_neither_generation() {
    let dir = tempfile::tempdir().unwrap();
    let truth = truth_of(2_000);
    truth.put(entry(9_000, "the word is plomponderous"));
    let running = Running::start(dir.path(), truth, own());
    running.index.healed().await.unwrap();
    let begun = tokio::sync::Notify::new();
    let rebuild = running.index.reindex(|progress| {
        if progress.done > 0 {
            begun.notify_one();
        }
    });
    let erase = async {
        begun.notified().await;
        running.truth.take(&id(9_000));
        running.index.erase(&[id(9_000)]).await.unwrap();
    };
    let (rebuilt, ()) = tokio::join!(rebuild, erase);
    rebuilt.unwrap();
    assert_eq!(running.find("plomponderous", Mode::Text).await, []);
    assert_eq!(running.index.stats().await.rows, 2_000);
    running.stop().await;
    let mut left = vec![dir.path().to_owned()];
    while let Some(path) = left.pop() {
        if path.is_dir() {
            left.extend(std::fs::read_dir(&path).unwrap().flatten().map(|entry| entry.path()));
        } else {
            let bytes = std::fs::read(&path).unwrap();
            assert!(!bytes.windows(13).any(|window| window == b"plomponderous"), "{path:?}");
        }
    }
}

#[tokio::test]
async fn a_rebuild_that_is_given_up_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path(), truth_of(2_000), own());
    running.index.healed().await.unwrap();
    let begun = tokio::sync::Notify::new();
    let tell = |progress: Progress| {
        if progress.done > 0 {
            begun.notify_one();
        }
    };
    tokio::select! {
        _ = running.index.reindex(tell) => panic!("it was to be given up"),
        () = begun.notified() => {}
    }
    let stats = running.index.stats().await;
    assert_eq!((stats.state, stats.rows), (IndexState::Ready, 2_000));
    running.until(|_| folders(dir.path()) == ["g1"]).await;
    running.add([entry(3_000, "note about subject3000")]).await;
    assert!(finds(&running, 3_000).await && finds(&running, 1).await);
    running.index.reindex(|_| {}).await.unwrap();
    assert!(finds(&running, 3_000).await && finds(&running, 1).await);
    running.stop().await;
}
