//! Properties of the job machine over random inputs: total, no state unreachable or stuck, replay equals the run, effects
//! idempotent, at most one answer.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use nips::job::{Effect, Input, Machine, Slot, State, Verdict};
use proptest::prelude::*;

fn verdict() -> impl Strategy<Value = Verdict> {
    prop_oneof![
        6 => Just(Verdict::Accept),
        1 => Just(Verdict::Ignore),
        1 => Just(Verdict::Refuse { reason: "busy".into() }),
        1 => Just(Verdict::Cancelled),
        1 => Just(Verdict::Expired),
    ]
}

fn input() -> impl Strategy<Value = Input> {
    let attempt = 0u32..4;
    prop_oneof![
        2 => (verdict(), any::<bool>(), proptest::option::of(0u64..2000)).prop_map(|(verdict, needs_inputs, expires_at_ms)| Input::Requested { verdict, needs_inputs, expires_at_ms }),
        2 => Just(Input::Resolved),
        1 => Just(Input::Unresolvable { reason: "gone".into() }),
        3 => attempt.clone().prop_map(|attempt| Input::Started { attempt }),
        2 => attempt.clone().prop_map(|attempt| Input::Called { attempt }),
        1 => Just(Input::Yielded),
        3 => attempt.clone().prop_map(produced),
        1 => attempt.clone().prop_map(|attempt| Input::WorkFailed { attempt, reason: "broken".into() }),
        1 => attempt.prop_map(|attempt| Input::Released { attempt }),
        3 => prop_oneof![Just(Slot::Result), Just(Slot::Error)].prop_map(|slot| Input::Said { slot }),
        2 => Just(Input::Settled),
        1 => Just(Input::Cancelled),
        2 => Just(Input::Restarted),
        2 => Just(Input::Tick),
    ]
}

fn produced(attempt: u32) -> Input {
    Input::Produced { attempt, output: format!("out {attempt}"), model: None, executed_by: None }
}

fn run() -> impl Strategy<Value = Vec<(u64, Input)>> {
    proptest::collection::vec((0u64..3000, input()), 0..40)
}

/// Carries effects out as a faithful desk without faults would, until nothing is left to do.
fn drive(machine: &mut Machine, mut effects: Vec<Effect>, now: u64) {
    let mut steps = 0;
    while let Some(effect) = effects.pop() {
        steps += 1;
        assert!(steps < 50, "the machine keeps the desk busy for ever");
        let inputs = match effect {
            Effect::Resolve => vec![Input::Resolved],
            Effect::Enqueue { attempt } => {
                vec![Input::Started { attempt }, produced(attempt)]
            }
            Effect::SayResult { .. } => vec![Input::Said { slot: Slot::Result }],
            Effect::SayError { .. } => vec![Input::Said { slot: Slot::Error }],
            Effect::Publish => vec![Input::Settled],
            Effect::Abort { .. } | Effect::WakeAt { .. } | Effect::Finish => vec![],
        };
        for input in inputs {
            effects.extend(machine.handle(&input, now));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn replay_equals_the_run(inputs in run()) {
        let mut live = Machine::new();
        for (at, input) in &inputs {
            live.handle(input, *at);
        }
        let replayed = Machine::replay(inputs.iter().map(|(at, input)| (*at, input)));
        prop_assert_eq!(&live, &replayed);
        let copy: Machine = serde_json::from_str(&serde_json::to_string(&live).unwrap()).unwrap();
        prop_assert_eq!(live, copy);
    }

    #[test]
    fn a_finished_job_never_changes_its_state(inputs in run()) {
        let mut machine = Machine::new();
        let mut end = None;
        for (at, input) in &inputs {
            machine.handle(input, *at);
            if let Some(end) = end {
                prop_assert_eq!(machine.state(), end);
            }
            if machine.state().is_terminal() {
                end = Some(machine.state());
            }
        }
    }

    #[test]
    fn no_state_is_stuck(inputs in run()) {
        let mut machine = Machine::new();
        let mut last = 0;
        for (at, input) in &inputs {
            machine.handle(input, *at);
            last = last.max(*at);
        }
        if machine.state() != State::New {
            let effects = machine.handle(&Input::Restarted, last);
            drive(&mut machine, effects, last);
            prop_assert!(machine.is_done(), "stuck in {:?}", machine);
        }
    }

    #[test]
    fn one_answer_and_the_same_one(inputs in run()) {
        let mut machine = Machine::new();
        let mut results = BTreeSet::new();
        let mut said_result = false;
        for (at, input) in &inputs {
            for effect in machine.handle(input, *at) {
                if let Effect::SayResult { output, at_ms, .. } = effect {
                    prop_assert!(!said_result, "an answer was asked for after one was said");
                    results.insert((output, at_ms));
                }
            }
            if *input == (Input::Said { slot: Slot::Result }) && matches!(machine.state(), State::Delivered) {
                said_result = true;
            }
        }
        prop_assert!(results.len() <= 1, "two different answers: {results:?}");
    }

    #[test]
    fn restarting_twice_asks_for_nothing_new(inputs in run()) {
        let mut machine = Machine::new();
        for (at, input) in &inputs {
            machine.handle(input, *at);
        }
        if machine.state() != State::Executing {
            let first = machine.handle(&Input::Restarted, 5000);
            let second = machine.handle(&Input::Restarted, 5000);
            if !machine.is_done() {
                prop_assert_eq!(first, second);
            }
        }
    }

    #[test]
    fn finish_is_said_once(inputs in run()) {
        let mut machine = Machine::new();
        let finishes: usize = inputs.iter().map(|(at, i)| machine.handle(i, *at).iter().filter(|e| **e == Effect::Finish).count()).sum();
        prop_assert_eq!(finishes, usize::from(machine.is_done()));
    }
}

#[test]
fn every_state_is_reachable() {
    let accept = Input::Requested { verdict: Verdict::Accept, needs_inputs: true, expires_at_ms: Some(100) };
    let started = Input::Started { attempt: 1 };
    let produced = produced(1);
    let said = Input::Said { slot: Slot::Result };
    let runs: Vec<Vec<Input>> = vec![
        vec![],
        vec![accept.clone()],
        vec![accept.clone(), Input::Resolved],
        vec![accept.clone(), Input::Resolved, started.clone()],
        vec![accept.clone(), Input::Resolved, Input::Called { attempt: 1 }],
        vec![accept.clone(), Input::Resolved, started.clone(), produced.clone(), said.clone()],
        vec![accept.clone(), Input::Resolved, started, produced, said, Input::Settled],
        vec![Input::Requested {
            verdict: Verdict::Refuse { reason: "no".into() },
            needs_inputs: false,
            expires_at_ms: None,
        }],
        vec![accept.clone(), Input::Unresolvable { reason: "gone".into() }],
        vec![accept.clone(), Input::Cancelled],
        vec![accept.clone(), Input::Tick],
        vec![accept, Input::Yielded],
    ];
    let reached: Vec<State> = runs.iter().map(|r| Machine::replay(r.iter().map(|i| (100, i))).state()).collect();
    assert_eq!(reached, State::ALL);
}

#[test]
fn a_job_that_kills_the_node_is_given_up_with_a_word() {
    let mut machine = Machine::new();
    let accept = Input::Requested { verdict: Verdict::Accept, needs_inputs: false, expires_at_ms: None };
    machine.handle(&accept, 1);
    for _ in 0..20 {
        machine.handle(&Input::Started { attempt: machine.attempt() }, 2);
        machine.handle(&Input::Restarted, 3);
    }
    assert_eq!(machine.state(), State::Failed);
    assert!(matches!(machine.handle(&Input::Restarted, 9)[..], [Effect::SayError { at_ms: 3, .. }]));
}

#[test]
fn an_orderly_stop_costs_no_attempt() {
    let mut machine = Machine::new();
    machine.handle(&Input::Requested { verdict: Verdict::Accept, needs_inputs: false, expires_at_ms: None }, 1);
    for _ in 0..20 {
        machine.handle(&Input::Started { attempt: 1 }, 2);
        machine.handle(&Input::Released { attempt: 1 }, 3);
        assert_eq!(machine.handle(&Input::Restarted, 4), vec![Effect::Enqueue { attempt: 1 }]);
    }
}

#[test]
fn what_the_sister_nodes_have_is_asked_for_again_after_a_restart_and_costs_no_attempt() {
    let mut machine = Machine::new();
    machine.handle(&Input::Requested { verdict: Verdict::Accept, needs_inputs: false, expires_at_ms: None }, 1);
    for _ in 0..20 {
        machine.handle(&Input::Called { attempt: 1 }, 2);
        assert_eq!(machine.state(), State::Bidding);
        assert_eq!(machine.handle(&Input::Restarted, 4), vec![Effect::Enqueue { attempt: 1 }]);
    }
    machine.handle(&Input::Called { attempt: 1 }, 5);
    assert!(matches!(machine.handle(&produced(1), 6)[..], [Effect::SayResult { .. }]));
}
