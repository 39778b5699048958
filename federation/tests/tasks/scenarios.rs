//! One thing at a time, in a world without other faults.

use federation::tasks::{Lapse, Notice, Reach, Record, Settings};
use nips::Audience;
use nips::task::{Message, Outcome, Reason, TaskId, verify_transcript};

use crate::world::{Event, Faults, World};

/// A world without faults: node 0 asks, node 1 is quick, node 2 slower, node 3 slowest; all are equally well known.
fn world(nodes: usize) -> World {
    let mut world = World::new(7, nodes, Faults::NONE, 0.0);
    for (n, node) in world.nodes.iter_mut().enumerate() {
        node.speed_ms = 1_000 * n as u64 + 1_000;
        node.factor = nips::task::Factor::MAX;
        node.can = n > 0;
    }
    world
}

fn submit(world: &mut World) -> TaskId {
    submit_with(world, |_| {})
}

fn submit_with(world: &mut World, change: impl FnOnce(&mut federation::tasks::Submission)) -> TaskId {
    let mut submission = world.submission();
    submission.may_self = false;
    change(&mut submission);
    let task = submission.task;
    world.at(world.now, Event::Submit { node: 0, submission: Box::new(submission) });
    task
}

fn is_running(world: &World, node: usize) -> bool {
    !world.nodes[node].runs.is_empty()
}

fn until_running(world: &mut World, node: usize) {
    world.run_while(60_000, |world| !is_running(world, node));
    assert!(is_running(world, node), "node {node} never began");
}

fn until_finished(world: &mut World, task: TaskId) {
    world.run_while(600_000, |world| !world.nodes[0].finished.contains_key(&task));
    assert!(world.nodes[0].finished.contains_key(&task), "lapsed: {:?}", world.nodes[0].lapsed.get(&task));
}

fn until_lapsed(world: &mut World, task: TaskId) -> Lapse {
    world.run_while(600_000, |world| !world.nodes[0].lapsed.contains_key(&task));
    world.nodes[0].lapsed.get(&task).unwrap().clone()
}

fn sent(world: &World, fits: impl Fn(&Message) -> bool) -> usize {
    world.seen.iter().filter(|envelope| fits(envelope.message())).count()
}

#[test]
fn the_quicker_bidder_does_it_for_the_second_price_and_anybody_can_check() {
    let mut world = world(4);
    let task = submit(&mut world);
    until_finished(&mut world, task);
    let done = world.nodes[0].finished[&task].clone();
    assert_eq!(done.executed_by, world.nodes[1].passport);
    assert_eq!(done.price.unwrap().0, 3_000, "what the second would have asked");
    let install = world.nodes[1].install();
    for node in 0..4 {
        let events = world.nodes[node].tasks.as_mut().unwrap().transcript(task);
        let verified = verify_transcript(&events).unwrap();
        assert_eq!((verified.winner, verified.price), (install, done.price.unwrap()), "seen by node {node}");
    }
    let label = &world.nodes[0].labels[&(task, world.nodes[1].passport)];
    assert_eq!(label.outcome, Outcome::Done);
    world.run_until(world.now + 60_000);
    assert!(world.nodes.iter().all(|node| node.tasks.as_ref().unwrap().working() == 0));
    let ended = world.nodes[1].notices.iter().filter(|notice| matches!(notice, Notice::Accepted(_))).count();
    assert_eq!(ended, 1);
}

#[test]
fn a_lone_bidder_is_paid_its_own_price() {
    let mut world = world(2);
    let task = submit(&mut world);
    until_finished(&mut world, task);
    assert_eq!(world.nodes[0].finished[&task].price.unwrap().0, 2_000);
}

#[test]
fn a_bad_name_costs_the_award() {
    let mut world = world(3);
    world.nodes[1].factor = nips::task::Factor::from_permille(500).unwrap();
    let task = submit(&mut world);
    until_finished(&mut world, task);
    let done = &world.nodes[0].finished[&task];
    assert_eq!(done.executed_by, world.nodes[2].passport, "3,000 ÷ 1 is less than 2,000 ÷ 0.5");
    assert_eq!(done.price.unwrap().0, 4_000 - u64::from(!wins_tie(&world, task)), "the highest that is still less");
}

/// Whether node 2 wins a tie with node 1: then it may ask exactly what makes the scores equal.
fn wins_tie(world: &World, task: TaskId) -> bool {
    use nips::task::{Attempt, Bid, Epoch, Factor, settle};
    let attempt = Attempt { task, epoch: Epoch(1) };
    let bid = |node: usize| Bid { bidder: world.nodes[node].install(), price: nips::Msat(1), factor: Factor::MAX };
    settle(&attempt, &[bid(1), bid(2)]).unwrap().winner == world.nodes[2].install()
}

#[test]
fn a_dead_worker_is_followed_within_a_lease_and_two_seconds() {
    let mut world = world(4);
    let task = submit(&mut world);
    until_running(&mut world, 1);
    world.run_until(world.now + 100);
    let died = world.now;
    // Dead for good: what restarts is another life without the lease.
    world.nodes[1].can = false;
    world.crash(1);
    let lease_ms = Settings::default().lease_ms;
    world.run_while(600_000, |world| !is_running(world, 2));
    let took = world.now - died;
    assert!(took <= lease_ms + 2_000, "{took} ms");
    until_finished(&mut world, task);
    assert_eq!(world.nodes[0].finished[&task].executed_by, world.nodes[2].passport);
}

#[test]
fn a_worker_that_is_cut_off_stops_before_another_begins() {
    let mut world = world(3);
    world.nodes[1].speed_ms = 1_500;
    world.nodes[2].speed_ms = 2_000;
    let task = submit(&mut world);
    until_running(&mut world, 1);
    // It would take longer than its lease.
    let work = *world.nodes[1].runs.keys().next().unwrap();
    world.drop_work(1);
    for (from, to) in [(0, 1), (1, 0)] {
        world.at(world.now, Event::Cut { from, to, on: true });
    }
    world.run_while(60_000, |world| is_running(world, 1));
    let stopped = world.now;
    world.run_while(60_000, |world| !is_running(world, 2));
    assert!(world.now > stopped, "the second began while the first was on it");
    let begun = world.now;
    let broken = |record: &Record| matches!(record, Record::Marked { mark, .. } if mark.outcome == Outcome::Broken);
    assert!(world.nodes[0].journal.iter().any(broken));
    assert!(begun < 60_000);
    until_finished(&mut world, task);
    assert_eq!(world.nodes[0].labels[&(task, work_passport(&world, 1))].outcome, Outcome::Broken);
    assert_eq!(work.attempt.epoch.0, 1);
}

fn work_passport(world: &World, node: usize) -> nostr::PublicKey {
    world.nodes[node].passport
}

#[test]
fn whoever_was_not_granted_the_lease_does_not_begin() {
    let mut world = world(3);
    let task = submit(&mut world);
    let awarded = |message: &Message| matches!(message, Message::Award(_));
    world.run_while(60_000, |world| sent(world, awarded) == 0);
    // Its acceptance is lost, all of them; it has award and input.
    world.at(world.now, Event::Cut { from: 1, to: 0, on: true });
    while !world.nodes[0].finished.contains_key(&task) && world.step() {
        assert!(!is_running(&world, 1), "it began without a grant");
    }
    assert_eq!(world.nodes[0].finished[&task].executed_by, world.nodes[2].passport);
    assert!(sent(&world, |message| matches!(message, Message::Input(_))) >= 2);
}

#[test]
fn a_thought_dead_worker_keeps_its_lease() {
    let mut world = world(3);
    let task = submit(&mut world);
    until_running(&mut world, 1);
    world.at(world.now, Event::Suspect { node: 0, whom: 1 });
    until_finished(&mut world, task);
    let done = &world.nodes[0].finished[&task];
    assert_eq!((done.epoch.0, done.executed_by), (1, world.nodes[1].passport));
    assert!(world.nodes[0].notices.contains(&Notice::Suspected(task, world.nodes[1].install())));
}

#[test]
fn a_result_that_comes_late_is_refused_and_said_so() {
    let mut world = world(3);
    let task = submit(&mut world);
    until_running(&mut world, 1);
    let work = *world.nodes[1].runs.keys().next().unwrap();
    world.at(world.now, Event::Cut { from: 1, to: 0, on: true });
    world.at(world.now, Event::Cut { from: 0, to: 1, on: true });
    // Node 1 finishes in its lease; its result gets through only after node 2 has the task.
    until_running(&mut world, 2);
    let produced = |record: &Record| matches!(record, Record::Produced { .. });
    assert!(world.nodes[1].journal.iter().any(produced), "it had a result");
    world.at(world.now, Event::Cut { from: 1, to: 0, on: false });
    world.at(world.now, Event::Cut { from: 0, to: 1, on: false });
    world.run_while(600_000, |world| world.nodes[1].tasks.as_ref().unwrap().working() > 0);
    let late = Notice::LateResult { attempt: work.attempt, from: world.nodes[1].install(), reason: Reason::OldEpoch };
    let finished =
        Notice::LateResult { attempt: work.attempt, from: world.nodes[1].install(), reason: Reason::Finished };
    assert!(world.nodes[0].notices.iter().any(|notice| *notice == late || *notice == finished));
    let told = |notice: &Notice| matches!(notice, Notice::NotAccepted(of, Some(_)) if *of == work);
    assert!(world.nodes[1].notices.iter().any(told));
    until_finished(&mut world, task);
    assert_eq!(world.nodes[0].finished[&task].executed_by, world.nodes[2].passport);
}

#[test]
fn a_requester_that_restarts_takes_the_result_of_the_worker_it_had() {
    let mut world = world(3);
    world.nodes[1].speed_ms = 1_900;
    let task = submit(&mut world);
    until_running(&mut world, 1);
    world.crash(0);
    until_finished(&mut world, task);
    let done = &world.nodes[0].finished[&task];
    assert_eq!((done.epoch.0, done.executed_by), (1, world.nodes[1].passport));
    assert_eq!(world.checks.executions, 1);
}

#[test]
fn a_requester_that_dies_in_its_auction_calls_anew_by_itself() {
    let mut world = world(3);
    let task = submit(&mut world);
    world.run_while(60_000, |world| sent(world, |message| matches!(message, Message::Set(_))) == 0);
    world.crash(0);
    until_finished(&mut world, task);
    assert_eq!(world.nodes[0].finished[&task].epoch.0, 2);
}

#[test]
fn an_accepted_result_is_said_again_until_it_is_dealt_with() {
    let mut world = world(2);
    let task = submit(&mut world);
    let accepted = |record: &Record| matches!(record, Record::Accepted { .. });
    world.run_while(60_000, |world| !world.nodes[0].journal.iter().any(accepted));
    world.nodes[0].finished.clear();
    world.crash(0);
    until_finished(&mut world, task);
    world.run_until(world.now + 1_000);
    assert!(matches!(world.nodes[0].journal.last(), Some(Record::Settled { .. })));
    world.nodes[0].finished.clear();
    world.crash(0);
    world.run_until(world.now + 60_000);
    assert!(world.nodes[0].finished.is_empty(), "said after it was dealt with");
}

#[test]
fn a_worker_that_restarts_gives_back_what_it_had() {
    let mut world = world(3);
    let task = submit(&mut world);
    until_running(&mut world, 1);
    let begun = world.now;
    world.crash(1);
    world.run_while(60_000, |world| world.nodes[1].tasks.is_none());
    let back = world.now;
    world.run_while(60_000, |world| !is_running(world, 1) && !is_running(world, 2));
    let wait = Settings::default().auction_ms * 2 + 200;
    assert!(world.now - back < wait || back - begun > Settings::default().lease_ms, "it waited for the expiry");
    until_finished(&mut world, task);
}

#[test]
fn a_worker_that_dies_with_a_result_still_delivers_it() {
    let mut world = world(2);
    let task = submit(&mut world);
    until_running(&mut world, 1);
    let produced = |record: &Record| matches!(record, Record::Produced { .. });
    world.at(world.now, Event::Cut { from: 1, to: 0, on: true });
    world.run_while(60_000, |world| !world.nodes[1].journal.iter().any(produced));
    world.crash(1);
    world.at(world.now, Event::Cut { from: 1, to: 0, on: false });
    // It may come back too late for its lease; then it does it once more. In both cases there is one result.
    until_finished(&mut world, task);
    world.run_while(600_000, |world| world.nodes[1].tasks.as_ref().is_none_or(|tasks| tasks.working() > 0));
    let first = world.seen.iter().find(|e| matches!(e.message(), Message::Result(_))).unwrap();
    let again = world.seen.iter().filter(|e| e.id() == first.id()).count();
    assert!(again >= 2, "the same bytes are sent again");
}

#[test]
fn nobody_bids_and_the_node_does_it_itself() {
    let mut world = world(3);
    world.nodes[1].can = false;
    world.nodes[2].can = false;
    let task = submit_with(&mut world, |submission| submission.may_self = true);
    until_finished(&mut world, task);
    let done = &world.nodes[0].finished[&task];
    assert_eq!((done.executed_by, done.price), (world.nodes[0].passport, None));
    assert!(world.nodes[0].labels.is_empty(), "nobody praises themselves");
}

#[test]
fn nobody_bids_and_it_lapses_with_a_word() {
    let mut world = world(2);
    world.nodes[1].can = false;
    let task = submit(&mut world);
    assert_eq!(until_lapsed(&mut world, task), Lapse::NoBidder);
    assert!(world.now < 60_000);
}

#[test]
fn a_task_that_every_worker_gives_back_lapses_with_their_word() {
    let mut world = world(3);
    world.faults.work_fails = 1.0;
    let task = submit(&mut world);
    assert_eq!(until_lapsed(&mut world, task), Lapse::Attempts { word: "it did not work".into() });
    assert!(world.nodes[0].labels.is_empty(), "to say that it cannot be done is no breach");
}

#[test]
fn who_gives_a_task_back_has_it_again_only_when_nobody_else_would() {
    let mut world = world(3);
    world.nodes[1].speed_ms = 1;
    world.nodes[1].fails = true;
    let task = submit(&mut world);
    until_finished(&mut world, task);
    assert_eq!(world.nodes[0].finished[&task].executed_by, world.nodes[2].passport);
    assert_eq!(world.nodes[1].began, 1, "it had its turn");
}

#[test]
fn who_does_not_reveal_is_out_and_marked() {
    let mut world = world(3);
    world.nodes[1].liar = Some(crate::liar::Liar { hides_price: true, ..Default::default() });
    let task = submit(&mut world);
    until_finished(&mut world, task);
    assert_eq!(world.nodes[0].finished[&task].executed_by, world.nodes[2].passport);
    assert_eq!(world.nodes[0].labels[&(task, world.nodes[1].passport)].outcome, Outcome::Unrevealed);
}

#[test]
fn a_reveal_of_another_price_is_none() {
    let mut world = world(3);
    world.nodes[1].liar = Some(crate::liar::Liar { other_price: true, ..Default::default() });
    let task = submit(&mut world);
    until_finished(&mut world, task);
    assert_eq!(world.nodes[0].labels[&(task, world.nodes[1].passport)].outcome, Outcome::Unrevealed);
}

#[test]
fn the_first_of_two_commitments_counts() {
    let mut world = world(3);
    // So that what is sent first comes first.
    world.faults.delay_ms = 1;
    world.nodes[1].liar = Some(crate::liar::Liar { commits_twice: true, ..Default::default() });
    let task = submit(&mut world);
    until_finished(&mut world, task);
    assert_eq!(world.nodes[0].finished[&task].executed_by, world.nodes[2].passport);
    assert_eq!(world.nodes[0].labels[&(task, world.nodes[1].passport)].outcome, Outcome::Unrevealed);
}

#[test]
fn an_install_of_the_same_passport_earns_no_label() {
    let mut world = world(2);
    world.nodes[1].passport = world.nodes[0].passport;
    let task = submit(&mut world);
    until_finished(&mut world, task);
    assert!(world.nodes[0].labels.is_empty());
}

#[test]
fn a_set_that_changes_is_refused_and_an_award_at_will_too() {
    for changes_set in [true, false] {
        let mut world = world(3);
        let liar = crate::liar::Liar { changes_set, awards_at_will: !changes_set, ..Default::default() };
        world.nodes[0].liar = Some(liar);
        let task = submit(&mut world);
        world.run_until(5_000);
        let expected = if changes_set { Reason::SetChanged } else { Reason::BadAward };
        let noticed = |notice: &Notice| matches!(notice, Notice::BrokenRules { reason, .. } if *reason == expected);
        assert!(world.nodes[1..].iter().any(|node| node.notices.iter().any(noticed)), "{expected:?}");
        let events = world.nodes[2].tasks.as_mut().unwrap().transcript(task);
        assert!(verify_transcript(&events).is_err(), "{expected:?}");
    }
}

#[test]
fn guests_bid_only_where_they_may_and_their_tasks_are_a_strangers() {
    let mut world = world(3);
    world.nodes[1].guest = true;
    let task = submit(&mut world);
    until_finished(&mut world, task);
    assert_eq!(world.nodes[0].finished[&task].executed_by, world.nodes[2].passport);
    let task = submit_with(&mut world, |submission| submission.guests = true);
    until_running(&mut world, 1);
    assert_eq!(world.nodes[1].runs.values().next().unwrap().execution.what.audience, Audience::Owner);
    until_finished(&mut world, task);
    world.nodes[0].guest = true;
    let task = submit_with(&mut world, |submission| submission.guests = true);
    until_running(&mut world, 1);
    assert_eq!(world.nodes[1].runs.values().next().unwrap().execution.what.audience, Audience::Stranger);
    until_finished(&mut world, task);
}

#[test]
fn large_inputs_and_outputs_travel_in_parts() {
    let mut world = world(2);
    let text = "äöü€ ".repeat(60_000);
    let task = submit_with(&mut world, |submission| submission.input.clone_from(&text));
    until_finished(&mut world, task);
    assert!(world.nodes[0].finished[&task].output.starts_with(&text));
    assert!(sent(&world, |message| matches!(message, Message::Result(_))) > 20);
    let huge = submit_with(&mut world, |submission| submission.input = "x".repeat(1024 * 1024));
    assert_eq!(until_lapsed(&mut world, huge), Lapse::TooLarge);
}

#[test]
fn lost_parts_come_again() {
    let mut world = world(2);
    world.faults.loss = 0.3;
    let text = "0123456789".repeat(20_000);
    let task = submit_with(&mut world, |submission| submission.input.clone_from(&text));
    until_finished(&mut world, task);
    assert!(world.nodes[0].finished[&task].output.starts_with(&text));
}

#[test]
fn a_cancelled_task_stops_its_worker() {
    let mut world = world(2);
    let task = submit(&mut world);
    until_running(&mut world, 1);
    world.at(world.now, Event::Cancel { node: 0, task });
    assert_eq!(until_lapsed(&mut world, task), Lapse::Cancelled);
    world.run_while(60_000, |world| is_running(world, 1));
    assert!(world.now < 3_000, "stopped by word and not by its fence");
    assert!(world.nodes[0].labels.is_empty());
}

#[test]
fn a_task_that_nobody_wants_any_more_lapses() {
    let mut world = world(2);
    world.nodes[1].can = false;
    let task = submit_with(&mut world, |submission| submission.expires_at = Some(crate::world::UNIX + 2));
    assert_eq!(until_lapsed(&mut world, task), Lapse::Expired);
    assert!(world.now <= 2_010);
}

#[test]
fn bidders_behind_a_relay_have_more_time() {
    let mut world = world(3);
    world.faults.delay_ms = 1_500;
    let task = submit_with(&mut world, |submission| submission.reach = Reach::Relay);
    until_finished(&mut world, task);
    assert_eq!(world.nodes[0].finished[&task].epoch.0, 1);
}

#[test]
fn a_worker_may_not_hold_a_task_for_ever() {
    let mut world = world(2);
    world.set_work_ms(20_000);
    let task = submit(&mut world);
    until_running(&mut world, 1);
    world.drop_work(1);
    world.run_while(120_000, |world| is_running(world, 1));
    assert!((15_000..35_000).contains(&world.now), "{}", world.now);
    until_finished(&mut world, task);
    assert!(world.nodes[0].finished[&task].epoch.0 > 1);
}

#[test]
fn too_many_tasks_at_once_are_refused_with_a_word() {
    let mut world = world(1);
    for _ in 0..300 {
        submit(&mut world);
    }
    world.run_until(10);
    let full = world.nodes[0].lapsed.values().filter(|why| **why == Lapse::Full).count();
    assert_eq!(full, 300 - 256);
    let mut world = world_of_large_inputs();
    world.run_until(10);
    assert_eq!(world.nodes[0].lapsed.values().filter(|why| **why == Lapse::Full).count(), 40 - 33);
}

fn world_of_large_inputs() -> World {
    let mut world = world(1);
    for _ in 0..40 {
        submit_with(&mut world, |submission| submission.input = "x".repeat(1_000_000));
    }
    world
}

#[test]
fn one_requester_does_not_take_all_places() {
    let mut world = world(3);
    world.nodes[2].can = false;
    world.nodes[1].speed_ms = 7_000;
    for _ in 0..30 {
        submit(&mut world);
    }
    world.run_while(6_000, |_| true);
    assert_eq!(world.nodes[1].tasks.as_ref().unwrap().working(), 16);
}
