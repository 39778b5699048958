//! The store against a naive list of events.

use std::collections::BTreeSet;
use std::sync::Arc;

use nostr::{Event, EventBuilder, Keys, Kind, Tag, Timestamp};
use proptest::prelude::*;

use super::*;

fn rules() -> Rules {
    Rules { mailbox_bytes: 1 << 20, stranger_bytes: 1 << 40, stranger_age_s: 1 << 32, names: Vec::new() }
}

fn authors() -> &'static [Keys] {
    static KEYS: std::sync::OnceLock<Vec<Keys>> = std::sync::OnceLock::new();
    KEYS.get_or_init(|| (0..3).map(|_| Keys::generate()).collect())
}

fn an_event() -> impl Strategy<Value = Event> {
    let tag = (prop::sample::select(vec!["t", "e", "d", "T"]), 0..3u8);
    (
        0..3usize,
        prop::sample::select(vec![1u16, 7, 1111, 9_000]),
        0..6u64,
        prop::collection::vec(tag, 0..4),
        any::<u16>(),
    )
        .prop_map(|(author, kind, age, tags, salt)| {
            let tags = tags.into_iter().map(|(name, value)| Tag::parse([name.to_owned(), value.to_string()]).unwrap());
            EventBuilder::new(Kind::from(kind), salt.to_string())
                .tags(tags)
                .custom_created_at(Timestamp::from_secs(1_700_000_000 + age))
                .sign_with_keys(&authors()[author])
                .unwrap()
        })
}

fn a_query() -> impl Strategy<Value = (Query, Vec<usize>)> {
    let tags = prop::collection::btree_map(
        prop::sample::select(vec![b't', b'e', b'd', b'T']),
        prop::collection::btree_set((0..4u8).prop_map(|value| value.to_string()), 0..3),
        0..3,
    );
    let kinds = prop::option::of(prop::collection::btree_set(prop::sample::select(vec![1u16, 7, 1111, 5]), 0..3));
    let writers = prop::option::of(prop::collection::btree_set(0..3usize, 0..3));
    let time = || prop::option::of(1_699_999_999..1_700_000_007u64);
    let ids = prop::option::weighted(0.2, prop::collection::vec(0..40usize, 0..6));
    (kinds, writers, tags, time(), time(), prop::option::of(0..12usize), ids).prop_map(
        |(kinds, writers, tags, since, until, limit, ids)| {
            let author = |i: usize| authors()[i].public_key().to_bytes();
            let query = Query {
                ids: None,
                authors: writers.map(|set| set.into_iter().map(author).collect()),
                kinds,
                tags,
                since,
                until,
                limit,
                search: None,
            };
            let picked = ids.clone().unwrap_or_default();
            (Query { ids: ids.map(|_| BTreeSet::new()), ..query }, picked)
        },
    )
}

fn naive(events: &[Event], query: &Query) -> Vec<EventId> {
    let mut found: Vec<_> = events.iter().filter(|event| !query.is_void() && query.matches_event(event)).collect();
    found.sort();
    found.dedup();
    found.iter().take(query.limit.unwrap_or(usize::MAX)).map(|event| event.id).collect()
}

fn ids(store: &Store, selection: &Selection) -> Vec<EventId> {
    let mut out = Vec::new();
    store
        .load(&selection.hits, usize::MAX, |json| {
            let event: Event = nostr::JsonUtil::from_json(json).unwrap();
            out.push(event.id);
        })
        .unwrap();
    out
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn indexes_answer_as_a_plain_list_would(
        events in prop::collection::vec(an_event(), 1..40),
        queries in prop::collection::vec(a_query(), 1..12),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let dir = tempfile::tempdir().unwrap();
        runtime.block_on(async {
            let store = Store::open(dir.path(), rules(), 1 << 20).unwrap();
            for event in &events {
                store.put(Note::from_event(event.clone()), Class::Stranger, false).await.unwrap();
            }
            for (mut query, picked) in queries {
                if let Some(ids) = &mut query.ids {
                    ids.extend(picked.iter().filter_map(|i| events.get(*i)).map(|event| event.id.to_bytes()));
                }
                let selection = store.select(Arc::new(vec![query.clone()]), Sight::All).await.unwrap();
                assert_eq!(ids(&store, &selection), naive(&events, &query), "{query:?}");
            }
            store.close().await;
        });
    }
}

fn note(content: &str, at: u64) -> Note {
    let builder = EventBuilder::text_note(content).custom_created_at(Timestamp::from_secs(at));
    Note::from_event(builder.sign_with_keys(&authors()[0]).unwrap())
}

#[tokio::test]
async fn the_map_grows_when_it_is_full() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), rules(), 1 << 20).unwrap();
    let text = "x".repeat(100_000);
    for i in 0..60 {
        store.put(note(&text, i), Class::Own, true).await.unwrap();
    }
    assert_eq!(store.stats().events, 60);
    store.close().await;
    assert!(matches!(store.put(note("late", 1), Class::Own, true).await, Err(StoreError::Closed)));
}

#[tokio::test]
async fn old_events_of_strangers_are_purged_and_a_scan_has_a_bound() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), rules(), 1 << 20).unwrap();
    for i in 0..2_500 {
        store.put(note("x", i), Class::Stranger, false).await.unwrap();
    }
    let everything = Query { kinds: Some([1].into()), ..Query::default() };
    let sight = Sight::All;
    assert!(matches!(
        store.select_now(std::slice::from_ref(&everything), &sight, SMALL_SCAN),
        Err(StoreError::TooBroad)
    ));
    assert_eq!(store.select(Arc::new(vec![everything.clone()]), sight.clone()).await.unwrap().hits.len(), 2_500);
    assert!(store.collect_ids(&everything, &sight, 2_499).is_err());
    assert_eq!(store.collect_ids(&everything, &sight, 2_500).unwrap().len(), 2_500);
    store.close().await;
    drop(store);
    let short = Rules { stranger_bytes: 0, ..rules() };
    let store = Store::open(dir.path(), short, 1 << 20).unwrap();
    store.put(note("newest", 9_999), Class::Own, true).await.unwrap();
    for _ in 0..3 {
        store.put(note("again", 10_000), Class::Own, true).await.unwrap();
        store.put(note("again", 10_001), Class::Own, true).await.unwrap();
    }
    store.purge().await;
    assert_eq!(store.stats().stranger_bytes, 0);
    assert_eq!(store.stats().events, 3);
    store.close().await;
}
