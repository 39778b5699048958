//! What is found, and what is not.

use std::collections::BTreeSet;

use nips::memory::Space;

use super::super::testing::*;
use super::super::*;
use crate::entry::EntryKind;
use crate::recall::Place;

fn space(name: &str) -> Space {
    name.parse().unwrap()
}

async fn ask(running: &Running, query: &Query, sight: &Sight) -> BTreeSet<EntryId> {
    let mut found = None;
    for mode in [Mode::Hybrid, Mode::Text, Mode::Vector] {
        let hits = running.index.search_by(query, sight, NOW, mode).await.unwrap();
        let ids: BTreeSet<EntryId> = hits.into_iter().map(|hit| hit.id).collect();
        assert_eq!(found.get_or_insert(ids.clone()), &ids, "{mode:?} finds the same of {query:?}");
    }
    found.unwrap_or_default()
}

#[tokio::test]
async fn both_legs_find_what_was_just_added_and_say_why() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::plain(dir.path());
    running.add([entry(1, "The cat sleeps on the sofa all day")]).await;
    running.add([entry(2, "Quarterly tax report is due in March")]).await;
    running.add([entry(3, "My bicycle has a flat tyre")]).await;
    for mode in [Mode::Hybrid, Mode::Text, Mode::Vector] {
        assert_eq!(running.find("when is the tax report due", mode).await.first(), Some(&id(2)), "{mode:?}");
    }
    assert_eq!(running.find("tired kitten on a couch", Mode::Hybrid).await.first(), Some(&id(1)), "by meaning alone");
    assert_eq!(running.find("bicycles", Mode::Text).await, [id(3)], "words are stemmed");
    assert_eq!(running.find("is the of", Mode::Text).await, [], "what is in every text finds nothing");
    let hits = running.index.search(&Query::new("tax report"), &Sight::All, NOW).await.unwrap();
    let why = &hits[0].reasons;
    assert_eq!((why.text, why.place, why.importance), (Some(1.0), Place::Fused, 1.0));
    assert!(why.cosine.unwrap() > 0.3 && why.recency > 0.99);
    assert!((hits[0].score - why.fused * why.recency * why.importance).abs() < 1e-5);
    running.stop().await;
}

#[tokio::test]
async fn every_filter_and_every_sight_is_obeyed_by_both_legs() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::plain(dir.path());
    let mut entries: Vec<Entry> = (0..8).map(|n| entry(n, &format!("{n} apples grow in the garden"))).collect();
    entries[1].space = Space::private();
    entries[2].space = space("club");
    entries[2].person = Some(key(7));
    entries[3].kind = EntryKind::Episodic;
    entries[4].tags = ["it's".to_owned(), "b".to_owned()].into();
    entries[5].author = key(2);
    entries[6].person = Some(key(7));
    entries[7].created_at = NOW - 9_000;
    running.add(entries).await;
    let all = || Query::new("apples in the garden");
    let ids = |ns: &[u64]| ns.iter().map(|n| id(*n)).collect::<BTreeSet<_>>();
    let found = |query: Query, sight: Sight| {
        let running = &running;
        async move { ask(running, &query, &sight).await }
    };
    assert_eq!(found(all(), Sight::All).await, ids(&[0, 1, 2, 3, 4, 5, 6, 7]));
    let of = |spaces: &[Space]| Query { spaces: spaces.iter().cloned().collect(), ..all() };
    assert_eq!(found(of(&[Space::private(), space("club")]), Sight::All).await, ids(&[1, 2]));
    assert_eq!(found(of(&[space("nobody")]), Sight::All).await, ids(&[]));
    assert_eq!(found(Query { kinds: [EntryKind::Episodic].into(), ..all() }, Sight::All).await, ids(&[3]));
    assert_eq!(found(Query { tags: ["it's".to_owned(), "b".to_owned()].into(), ..all() }, Sight::All).await, ids(&[4]));
    assert_eq!(found(Query { tags: ["b".to_owned(), "none".to_owned()].into(), ..all() }, Sight::All).await, ids(&[]));
    assert_eq!(found(Query { author: Some(key(2)), ..all() }, Sight::All).await, ids(&[5]));
    assert_eq!(found(Query { author: Some(key(9)), ..all() }, Sight::All).await, ids(&[]));
    assert_eq!(found(Query { person: Some(key(7)), ..all() }, Sight::All).await, ids(&[2, 6]));
    assert_eq!(found(Query { until: Some(NOW - 5_000), ..all() }, Sight::All).await, ids(&[7]));
    assert_eq!(found(Query { since: Some(NOW - 500), until: Some(u64::MAX), ..all() }, Sight::All).await, ids(&[]));

    let guest = |spaces: &[&str], person| Sight::Some { spaces: spaces.iter().map(|s| space(s)).collect(), person };
    assert_eq!(found(all(), Sight::nothing()).await, ids(&[]));
    assert_eq!(found(all(), guest(&["club"], None)).await, ids(&[2]));
    assert_eq!(found(all(), guest(&[], Some(key(7)))).await, ids(&[2, 6]));
    assert_eq!(found(all(), guest(&["private"], Some(key(7)))).await, ids(&[1, 2, 6]));
    assert_eq!(found(all(), guest(&["nobody"], Some(key(9)))).await, ids(&[]));
    assert_eq!(found(of(&[Space::fleet()]), guest(&["club"], Some(key(7)))).await, ids(&[6]));
    let unasked = running.index.search(&Query::new(" "), &guest(&[], Some(key(7))), NOW).await.unwrap();
    assert_eq!(unasked.iter().map(|hit| hit.id).collect::<BTreeSet<_>>(), ids(&[2, 6]));
    running.stop().await;
}

#[tokio::test]
async fn superseded_expired_and_future_entries_are_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::plain(dir.path());
    let mut entries: Vec<Entry> = (0..7).map(|n| entry(n, &format!("{n} lives in Paris"))).collect();
    entries[1].supersedes = [id(0)].into();
    entries[2].valid_until = Some(NOW);
    entries[3].valid_from = Some(NOW + 1);
    entries[4].created_at = NOW + 601;
    // Of another space: it stands in nobody's place here.
    entries[5].supersedes = [id(6)].into();
    entries[5].space = Space::private();
    running.add(entries.clone()).await;
    let ids = |ns: &[u64]| ns.iter().map(|n| id(*n)).collect::<BTreeSet<_>>();
    let query = Query::new("who lives in Paris");
    assert_eq!(ask(&running, &query, &Sight::All).await, ids(&[1, 5, 6]));
    let later = running.index.search(&query, &Sight::All, NOW + 2).await.unwrap();
    assert_eq!(later.iter().map(|hit| hit.id).collect::<BTreeSet<_>>(), ids(&[1, 3, 4, 5, 6]));
    running.index.apply(vec![IndexChange::Remove(id(1))]).await.unwrap();
    running.truth.take(&id(1));
    assert_eq!(ask(&running, &query, &Sight::All).await, ids(&[0, 5, 6]), "what it superseded is shown again");
    // An order of arrival that is not that of writing changes nothing.
    running.index.apply(vec![IndexChange::Remove(id(0)), IndexChange::Upsert(entries[1].clone())]).await.unwrap();
    running.index.apply(vec![IndexChange::Upsert(entries[0].clone())]).await.unwrap();
    assert_eq!(ask(&running, &query, &Sight::All).await, ids(&[1, 5, 6]));
    running.stop().await;
}

#[tokio::test]
async fn a_text_search_finds_a_hit_behind_a_thousand_superseded_ones() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::plain(dir.path());
    let mut newest = entry(2_000, "the key is in the long drawer of the old brown desk beside the window");
    newest.supersedes = (0..1_000).map(id).collect();
    running.add((0..1_000).map(|n| entry(n, "key"))).await;
    running.add([newest]).await;
    assert_eq!(running.find("key", Mode::Text).await, [id(2_000)]);
    running.stop().await;
}

#[tokio::test]
async fn near_duplicates_are_folded_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::plain(dir.path());
    running.add([entry(1, "Buy milk and bread!"), entry(2, "buy milk and  bread"), entry(3, "Sell the boat")]).await;
    running.add([entry(4, "The code of the door is 4711"), entry(5, "The code of the door is 4712")]).await;
    let hits = running.index.search(&Query::new("milk and bread"), &Sight::All, NOW).await.unwrap();
    let first = &hits[0];
    let both: BTreeSet<EntryId> = first.reasons.folded.iter().copied().chain([first.id]).collect();
    assert_eq!(both, [id(1), id(2)].into());
    assert_eq!(hits.iter().filter(|hit| both.contains(&hit.id)).count(), 1);
    let codes = running.find("code of the door", Mode::Hybrid).await;
    assert!(codes.contains(&id(4)) && codes.contains(&id(5)), "numbers make a difference");
    running.stop().await;
}

#[tokio::test]
async fn an_empty_question_recalls_the_newest_and_most_important() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::plain(dir.path());
    let mut entries: Vec<Entry> = (0..30).map(|n| entry(n, &format!("note {n}"))).collect();
    for (n, entry) in entries.iter_mut().enumerate() {
        entry.created_at = NOW - 86_400 * u64::try_from(n).unwrap();
    }
    entries[29].importance = 1.0;
    entries[0].importance = 0.0;
    running.add(entries).await;
    for text in ["", " \n\t "] {
        let hits = running.index.search(&Query::new(text), &Sight::All, NOW).await.unwrap();
        assert_eq!(hits.len(), 10);
        assert!(hits.iter().all(|hit| hit.reasons.place == Place::Newest));
        let ids: Vec<EntryId> = hits.iter().map(|hit| hit.id).collect();
        assert_eq!(ids[..2], [id(29), id(1)]);
        assert!(!ids.contains(&id(28)) && !ids.contains(&id(0)));
    }
    running.stop().await;
}

#[tokio::test]
async fn no_question_fails_whatever_it_is_made_of() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::plain(dir.path());
    let texts = [
        "東京で寿司を食べました",
        "Я живу в Москве и люблю чай",
        "मुझे चाय पसंद है",
        "أحب القهوة في الصباح",
        "ฉันชอบกินข้าวผัด",
        "Ich trinke morgens Kaffee",
        "🦀 rust",
    ];
    running.add(texts.iter().zip(0..).map(|(text, n)| entry(n, text))).await;
    let asked = ["寿司", "чай", "चाय", "القهوة", "ข้าวผัด", "kaffee", "rust"];
    for (n, text) in (0..).zip(asked) {
        assert_eq!(running.find(text, Mode::Text).await.first(), Some(&id(n)), "{text}");
    }
    let long = "rust and tea ".repeat(8_000);
    let strange = [
        "\"rust",
        "rust*",
        "rust AND (",
        "NOT",
        "*",
        "'; DROP TABLE entries; --",
        "{\"a\": [1, {\"b\": null}]}",
        "a.b,str,c",
        "\\",
        "\u{0}\u{7}",
        "\u{202e}\u{feff}",
        "^~!-+:",
        "𝔯𝔲𝔰𝔱",
        "e\u{301}\u{301}\u{301}",
        &long,
    ];
    for text in strange {
        for mode in [Mode::Hybrid, Mode::Text, Mode::Vector] {
            let query = Query { limit: 3, ..Query::new(text) };
            let hits = running.index.search_by(&query, &Sight::All, NOW, mode).await.unwrap();
            assert!(hits.len() <= 3 && hits.iter().all(|hit| hit.score.is_finite()), "{text:?}");
        }
    }
    assert_eq!(running.find(&long, Mode::Text).await, [id(6)]);
    assert_eq!(running.index.stats().await.failures, 0, "and none failed in secret");
    for limit in [0, 1, 2, usize::MAX] {
        let query = Query { limit, ..Query::new("tea") };
        assert!(running.index.search(&query, &Sight::All, NOW).await.unwrap().len() <= limit.min(7));
    }
    running.stop().await;
}
