//! The tasks of a federation, simulated: many nodes, many faults, liars among them. Each run follows from its seed.
//!
//! `TIMMY_SEED` names the first run, `TIMMY_RUNS` how many, `TIMMY_TRACE=1` prints one as it goes.

#![allow(clippy::unwrap_used, clippy::print_stderr, clippy::print_stdout, clippy::wildcard_enum_match_arm)]

mod check;
mod liar;
mod scenarios;
mod world;

use liar::Liar;
use rand::Rng;
use world::{Event, Faults, World};

/// Faults end here, ms of true time; until then anything may happen.
const CALM_AT: u64 = 60_000;
/// By then every task has ended: attempts, pauses and the longest wait for a lost word together, ms of true time.
const END_AT: u64 = 2 * 3_600_000;
/// Runs of one test, some ten seconds.
const RUNS: u64 = 300;

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().map_or(otherwise, |text| text.parse().unwrap())
}

fn prepare(seed: u64) -> World {
    let count = 2 + (seed % 5) as usize;
    let mut world = World::new(seed, count, Faults::NONE, 0.03);
    let wild = world.rng.random_range(0.0..1.0);
    world.faults = Faults {
        loss: wild * 0.2,
        double: wild * 0.2,
        delay_ms: world.rng.random_range(2..300),
        long_delay: wild * 0.05,
        crash: wild * wild * 0.04,
        work_fails: wild * 0.2,
    };
    if world.rng.random_bool(0.6) && count > 2 {
        for node in 1..=world.rng.random_range(1..count / 2 + 1) {
            world.nodes[node].liar = Some(Liar::random(&mut world.rng));
            let at = world.rng.random_range(0..3_000);
            world.at(at, Event::Lie { node });
        }
    }
    for node in 0..count {
        world.nodes[node].can = world.rng.random_bool(0.85);
    }
    plan(&mut world, count);
    world
}

/// What happens to whom, and when.
fn plan(world: &mut World, count: usize) {
    for _ in 0..world.rng.random_range(1..6) {
        let node = world.rng.random_range(0..count);
        let mut submission = world.submission();
        if world.rng.random_bool(0.2) {
            submission.expires_at = Some(world::UNIX + world.rng.random_range(0..90));
        }
        let at = world.rng.random_range(0..20_000);
        if world.rng.random_bool(0.1) {
            let later = at + world.rng.random_range(0..20_000);
            world.at(later, Event::Cancel { node, task: submission.task });
        }
        world.at(at, Event::Submit { node, submission: Box::new(submission) });
    }
    for _ in 0..world.rng.random_range(0..8) {
        let (node, other) = (world.rng.random_range(0..count), world.rng.random_range(0..count));
        let at = world.rng.random_range(0..CALM_AT - 1_000);
        match world.rng.random_range(0..6) {
            0 => world.at(at, Event::Crash { node }),
            1 => {
                let for_ms = world.rng.random_range(0..20_000);
                world.at(at, Event::Freeze { node, for_ms });
            }
            2 => {
                let jump_s = world.rng.random_range(-5_000_000..5_000_000);
                world.at(at, Event::Clock { node, jump_s });
            }
            3 => world.at(at, Event::Suspect { node, whom: other }),
            _ => cut(world, node, count, at),
        }
    }
    world.at(CALM_AT, Event::Calm);
}

/// One node is cut off from some, in one direction or both.
fn cut(world: &mut World, node: usize, count: usize, at: u64) {
    let until = at + world.rng.random_range(0..40_000);
    let one_way = world.rng.random_bool(0.4);
    for other in (0..count).filter(|other| *other != node) {
        if world.rng.random_bool(0.7) {
            world.at(at, Event::Cut { from: node, to: other, on: true });
            world.at(until, Event::Cut { from: node, to: other, on: false });
            if !one_way {
                world.at(at, Event::Cut { from: other, to: node, on: true });
                world.at(until, Event::Cut { from: other, to: node, on: false });
            }
        }
    }
}

/// True when nobody waits for anybody.
fn is_over(world: &World) -> bool {
    world.nodes.iter().all(|node| {
        let idle = node.tasks.as_ref().is_some_and(|tasks| tasks.open() == 0 && tasks.working() == 0);
        let ended = |task| node.finished.contains_key(task) || node.lapsed.contains_key(task);
        idle && node.submitted.keys().all(ended)
    })
}

/// Runs one seed to its end.
fn run(seed: u64) -> World {
    let mut world = prepare(seed);
    world.run_until(CALM_AT);
    world.run_while(END_AT, |world| !is_over(world));
    // What is still under way must change nothing.
    world.run_until(world.now + 300_000);
    for (at, node) in world.nodes.iter().enumerate() {
        let tasks = node.tasks.as_ref().unwrap();
        assert_eq!(tasks.open(), 0, "node {at} has open tasks");
        assert_eq!(tasks.working(), 0, "node {at} still works");
        for task in node.submitted.keys() {
            let ended = node.finished.contains_key(task) || node.lapsed.contains_key(task);
            assert!(ended, "node {at}: task {task} is lost");
        }
    }
    world
}

#[test]
fn nothing_is_accepted_twice_or_lost() {
    let (first, runs) = (number("TIMMY_SEED", 1), number("TIMMY_RUNS", RUNS));
    let (mut finished, mut lapsed, mut awards, mut executions, mut refused) = (0, 0, 0, 0, 0);
    println!("seeds {first} to {}", first + runs - 1);
    for seed in first..first + runs {
        let world = std::panic::catch_unwind(|| run(seed)).unwrap_or_else(|failure| {
            println!("failed: TIMMY_SEED={seed} TIMMY_RUNS=1");
            std::panic::resume_unwind(failure)
        });
        finished += world.nodes.iter().map(|node| node.finished.len()).sum::<usize>();
        lapsed += world.nodes.iter().map(|node| node.lapsed.len()).sum::<usize>();
        let late = |notice: &&federation::tasks::Notice| matches!(notice, federation::tasks::Notice::LateResult { .. });
        refused += world.nodes.iter().map(|node| node.notices.iter().filter(late).count()).sum::<usize>();
        awards += world.checks.awards;
        executions += world.checks.executions;
    }
    println!(
        "{runs} runs: {finished} finished, {lapsed} lapsed, {awards} awards, {executions} executions, {refused} late results"
    );
    // A simulation in which nothing happens shows nothing.
    if runs >= RUNS {
        assert!(finished > lapsed && lapsed > 0 && refused > 0 && executions > finished as u32 / 2);
    }
}
