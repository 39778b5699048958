//! Reputation is a function of the set of labels.

#![allow(clippy::unwrap_used)]

use federation::reputation::{MAX_PER_REQUESTER, Record, Reputation};
use nips::task::{Label, Outcome, TaskId};
use nostr::{Event, EventId, Keys, PublicKey};
use proptest::prelude::*;

fn keys(n: u8) -> Keys {
    Keys::parse(&hex::encode([n + 1; 32])).unwrap()
}

fn passport(n: u8) -> PublicKey {
    keys(n).public_key()
}

fn task(n: u32) -> TaskId {
    let mut id = [0; 32];
    id[..4].copy_from_slice(&n.to_be_bytes());
    TaskId::from_bytes(id)
}

fn label(by: u8, about: u8, n: u32, outcome: Outcome, at: u64) -> Event {
    let result = (outcome == Outcome::Done).then_some(EventId::from_byte_array([2; 32]));
    let request = EventId::from_byte_array([1; 32]);
    let label = Label { task: task(n), subject: passport(about), outcome, request, result };
    label.to_event(passport(by), at).sign_with_keys(&keys(by)).unwrap()
}

fn fold<'a>(labels: impl IntoIterator<Item = &'a Event>) -> Reputation {
    let mut reputation = Reputation::new();
    for label in labels {
        reputation.add(label).unwrap();
    }
    reputation
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![3 => Just(Outcome::Done), 1 => Just(Outcome::Broken), 1 => Just(Outcome::Unrevealed)]
}

fn labels() -> impl Strategy<Value = Vec<Event>> {
    let one = (0u8..3, 3u8..6, 0u32..6, outcome(), 0u64..100);
    prop::collection::vec(one.prop_map(|(by, about, n, outcome, at)| label(by, about, n, outcome, at)), 0..30)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn order_and_repetition_do_not_matter(labels in labels(), turn in 0usize..30) {
        let mut other = labels.clone();
        other.reverse();
        other.rotate_left(turn % labels.len().max(1));
        other.extend(labels.iter().take(5).cloned());
        prop_assert_eq!(fold(&labels), fold(&other));
    }

    #[test]
    fn good_work_never_lowers_and_bad_never_raises(labels in labels(), about in 3u8..6) {
        let before = fold(&labels).factor(&passport(about));
        let good = label(9, about, 1_000, Outcome::Done, 1);
        let bad = label(9, about, 1_001, Outcome::Broken, 1);
        prop_assert!(fold(labels.iter().chain([&good])).factor(&passport(about)) >= before);
        prop_assert!(fold(labels.iter().chain([&bad])).factor(&passport(about)) <= before);
    }
}

#[test]
fn nobody_starts_with_a_name() {
    let reputation = Reputation::new();
    assert_eq!(reputation.record(&passport(1)), None);
    let proven: Vec<Event> = (0..20).map(|n| label(0, 2, n, Outcome::Done, 1)).collect();
    let reputation = fold(&proven);
    assert!(reputation.factor(&passport(2)) > reputation.factor(&passport(1)));
    assert_eq!(reputation.record(&passport(2)), Some(Record { done: 20, requesters: 1, ..Record::default() }));
}

#[test]
fn who_says_two_things_says_nothing() {
    let both = [label(0, 2, 1, Outcome::Done, 1), label(0, 2, 1, Outcome::Broken, 2)];
    assert_eq!(fold(&both).record(&passport(2)), None);
    let twice = [label(0, 2, 1, Outcome::Done, 1), label(0, 2, 1, Outcome::Done, 2)];
    assert_eq!(fold(&twice).record(&passport(2)).unwrap().done, 1, "one a task");
    let of_two = [label(0, 2, 1, Outcome::Done, 1), label(1, 2, 1, Outcome::Done, 2)];
    assert_eq!(fold(&of_two).record(&passport(2)).unwrap().done, 2, "two requesters, two tasks");
}

#[test]
fn nobody_praises_themselves_and_forgeries_do_not_count() {
    let mut reputation = Reputation::new();
    assert!(reputation.add(&label(2, 2, 1, Outcome::Done, 1)).is_err());
    let good = label(0, 2, 1, Outcome::Done, 1);
    let forged =
        Event::new(good.id, passport(1), good.created_at, good.kind, good.tags.clone(), good.content.clone(), good.sig);
    assert!(reputation.add(&forged).is_err());
    assert_eq!(reputation, Reputation::new());
}

#[test]
fn one_requester_does_not_make_a_name_alone() {
    let many: Vec<Event> = (0..400).map(|n| label(0, 2, n, Outcome::Broken, 1)).collect();
    let few: Vec<Event> = (1..=5).flat_map(|by| (0..40).map(move |n| label(by + 2, 2, n, Outcome::Done, 1))).collect();
    let factor = fold(many.iter().chain(&few)).factor(&passport(2));
    assert!(factor.permille() > 700, "{}", factor.permille());
}

#[test]
fn a_requester_that_floods_pushes_out_its_own_labels_only() {
    let honest = label(1, 2, 1, Outcome::Done, 1);
    let oldest = label(0, 3, 1, Outcome::Done, 0);
    let mut flood: Vec<Event> = vec![oldest, honest];
    // Signatures of 2,000 labels: the dates differ, the oldest one goes.
    flood.extend((0..MAX_PER_REQUESTER).map(|n| label(0, 4, u32::try_from(n).unwrap() + 10, Outcome::Done, 5)));
    let forward = fold(&flood);
    flood.reverse();
    assert_eq!(forward, fold(&flood), "which ones are kept does not hang on the order");
    assert!(forward.record(&passport(2)).is_some());
    assert_eq!(forward.record(&passport(3)), None);
}
