use nips::job::{Input, JobId, Verdict};

use super::*;

fn id(n: u8) -> JobId {
    JobId::from_bytes([n; 32])
}

fn round(n: u8) -> Stamp {
    let requested = Input::Requested { verdict: Verdict::Accept, needs_inputs: false, expires_at_ms: None };
    let job = NewJob { id: id(n), kind: 5000, customer: None, order: "{}".to_owned(), at_ms: 1 };
    let step = Step { job: id(n), step: 0, at_ms: 1, input: requested, state: "assigned", done: false };
    let word = Word { id: [n; 32], job: Some(id(n)), event: "{}".to_owned(), targets: vec![("local".to_owned(), 9)] };
    Stamp {
        at_ms: 1,
        jobs: vec![job],
        steps: vec![step],
        words: vec![word],
        relay_sequence: Some(7),
        ..Stamp::default()
    }
}

fn journal() -> (tempfile::TempDir, Journal) {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(&dir.path().join("j.sqlite")).unwrap();
    (dir, journal)
}

#[tokio::test]
async fn a_round_is_whole_and_may_be_written_twice() {
    let (_dir, journal) = journal();
    journal.stamp(round(1)).await.unwrap();
    journal.stamp(round(1)).await.unwrap();
    let open = journal.open_jobs().await.unwrap();
    assert_eq!((open.len(), open[0].1.len()), (1, 1));
    assert_eq!(journal.pending_targets(id(1)).await.unwrap(), [([1; 32], "local".to_owned())]);
    assert_eq!(journal.meta("relay_sequence").await.unwrap().as_deref(), Some("7"));
    assert!(journal.known(vec![[1; 32], [2; 32]]).await.unwrap().contains(&[1; 32]));
}

#[tokio::test]
async fn one_write_that_fails_spoils_nothing_for_the_others() {
    let (_dir, journal) = journal();
    let bad = journal.write("nonsense", |db| {
        db.execute("INSERT INTO meta VALUES ('half', 'done')", [])?;
        db.execute("INSERT INTO no_such_table VALUES (1)", [])
    });
    let (good, bad, again) = tokio::join!(journal.stamp(round(1)), bad, journal.stamp(round(2)));
    assert!(good.is_ok() && again.is_ok());
    assert!(bad.unwrap_err().to_string().contains("nonsense"));
    assert_eq!(journal.meta("half").await.unwrap(), None);
    assert_eq!(journal.open_jobs().await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_full_disk_is_told_and_survived() {
    let (_dir, journal) = journal();
    journal.write("a limit", |db| db.query_row("PRAGMA max_page_count = 40", [], |_| Ok(()))).await.unwrap();
    let big = "x".repeat(100_000);
    let mut refused = None;
    for n in 0..20 {
        let mut stamp = round(n);
        stamp.jobs[0].order.clone_from(&big);
        if let Err(error) = journal.stamp(stamp).await {
            refused = Some((n, error));
            break;
        }
    }
    let (n, error) = refused.expect("the limit holds");
    assert!(matches!(error, JournalError::Database { .. }), "{error}");
    assert_eq!(
        journal.open_jobs().await.unwrap().len(),
        usize::from(n),
        "what was acknowledged is there, what was refused is not"
    );
    journal.write("room", |db| db.query_row("PRAGMA max_page_count = 100000", [], |_| Ok(()))).await.unwrap();
    let mut stamp = round(n);
    stamp.jobs[0].order = big;
    journal.stamp(stamp).await.unwrap();
}

#[tokio::test]
async fn a_newer_file_is_refused_with_a_word() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("j.sqlite");
    Connection::open(&path).unwrap().execute_batch("PRAGMA user_version = 99").unwrap();
    let error = Journal::open(&path).unwrap_err().to_string();
    assert!(error.contains("schema 99") && error.contains("upgrade"), "{error}");
}

#[tokio::test]
async fn old_finished_jobs_go_and_unfinished_ones_stay() {
    let (_dir, journal) = journal();
    let mut finished = round(1);
    finished.steps[0].done = true;
    finished.words.clear();
    journal.stamp(finished).await.unwrap();
    journal.stamp(round(2)).await.unwrap();
    assert_eq!(journal.prune(1000).await.unwrap(), 1);
    assert!(journal.job(id(1)).await.unwrap().is_none());
    assert_eq!(journal.pending_targets(id(2)).await.unwrap().len(), 1, "what must still be sent stays");
}

#[tokio::test]
async fn a_part_of_an_answer_is_told_also_where_nobody_waits_for_it_any_more() {
    let (_dir, journal) = journal();
    let mut order = round(1);
    let words = std::mem::take(&mut order.words);
    journal.stamp(order).await.unwrap();
    let (after, done) = oneshot::channel::<()>();
    let told = crate::desk::Told::new("One.", 1);
    {
        let telling = std::pin::pin!(journal.tell(id(1), (words, told), 1, after));
        assert!(futures_util::poll!(telling).is_pending());
    }
    assert!(done.await.is_err(), "what was to come after it came");
    assert_eq!(journal.told(id(1)).await.unwrap(), Some(told));
    assert_eq!(journal.pending_targets(id(1)).await.unwrap().len(), 1);
}

#[tokio::test]
async fn what_was_to_vanish_is_gone_after_its_time_and_known_all_the_same() {
    let (_dir, journal) = journal();
    let orders = [r#"{"origin":{"door":"message","lasts_s":60}}"#, r#"{"origin":{"door":"message"}}"#];
    for (n, order) in (1..).zip(orders) {
        let mut said = round(n);
        said.jobs[0].kind = 14;
        order.clone_into(&mut said.jobs[0].order);
        said.steps[0].done = true;
        journal.stamp(said).await.unwrap();
    }
    assert_eq!(journal.prune_vanished(60_000).await.unwrap(), 0);
    assert_eq!(journal.prune_vanished(60_001).await.unwrap(), 1);
    assert!(journal.job(id(1)).await.unwrap().is_none() && journal.job(id(2)).await.unwrap().is_some());
    assert!(journal.pending_targets(id(1)).await.unwrap().is_empty());
    assert!(journal.known(vec![[1; 32]]).await.unwrap().contains(&[1; 32]));
}

#[tokio::test]
async fn a_journal_of_schema_1_is_backed_up_and_upgraded() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal.sqlite");
    let journal = Journal::open(&path).unwrap();
    journal.stamp(round(1)).await.unwrap();
    drop(journal);
    let older = Connection::open(&path).unwrap();
    older
        .execute_batch("DROP TABLE shelves; DROP INDEX jobs_talk; DROP TABLE approvals; PRAGMA user_version = 1")
        .unwrap();
    drop(older);
    let journal = Journal::open(&path).unwrap();
    assert_eq!(journal.open_jobs().await.unwrap().len(), 1);
    drop(journal);
    assert_eq!(Journal::version_of(&path), Some(VERSION));
    assert_eq!(Journal::version_of(&path.with_extension("schema-1.bak")), Some(1));
    Connection::open(&path).unwrap().execute_batch("PRAGMA user_version = 99").unwrap();
    assert!(matches!(Journal::open(&path), Err(JournalError::Newer { found: 99, .. })));
}
