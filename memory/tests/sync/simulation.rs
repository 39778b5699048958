//! Replicas become equal whatever the network does.
//!
//! `TIMMY_SEED` runs one seed again, `TIMMY_RUNS` more of them.

use automerge::ReadDoc;
use nips::memory::verified;

use crate::double::{Author, Double, fleet};
use crate::world::{Weather, World};

const FAIR: Weather = Weather { loss: 0.05, doubling: 0.05, delay_max_ms: 80 };
const FOUL: Weather = Weather { loss: 0.3, doubling: 0.3, delay_max_ms: 900 };

/// What the page says on a replica: the answer of automerge to the changes that it holds.
fn page(replica: &Double) -> (Vec<automerge::ChangeHash>, Vec<(String, String)>) {
    let mut page = Author::of_page(1_000, fleet(), "shopping-list", 0);
    page.learn(&replica.events_of(&fleet()));
    let items: Vec<_> = page
        .doc
        .map_range(automerge::ROOT, ..)
        .map(|item| (item.key.to_string(), format!("{:?}", item.value)))
        .collect();
    (page.doc.get_heads(), items)
}

fn seeds() -> Vec<u64> {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    match number("TIMMY_SEED") {
        Some(seed) => vec![seed],
        None => (0..number("TIMMY_RUNS").unwrap_or(4)).map(|n| 0x7133 + n).collect(),
    }
}

fn run(nodes: usize, liars: usize) {
    for seed in seeds() {
        let weather = if seed % 2 == 0 { FAIR } else { FOUL };
        println!("TIMMY_SEED={seed}: {nodes} replicas, {liars} of them lie, {weather:?}");
        let mut world = World::new(seed, nodes, liars, weather);
        world.run();
        let first = world.honest().next().unwrap();
        let view = page(first);
        assert!(!view.0.is_empty() && !view.1.is_empty());
        assert!(first.events_of(&fleet()).len() > 5 * (nodes - liars));
        for replica in world.honest() {
            assert_eq!(page(replica), view);
            assert!(replica.events_of(&fleet()).iter().all(|event| verified(event).is_ok()));
        }
        println!("equal after {} s, {} events", world.spent_s(), first.ids().len());
    }
}

#[test]
fn two_replicas_become_equal() {
    run(2, 0);
}

#[test]
fn three_replicas_become_equal() {
    run(3, 0);
}

#[test]
fn ten_replicas_become_equal() {
    run(10, 0);
}

#[test]
fn honest_replicas_become_equal_among_liars() {
    run(5, 2);
}
