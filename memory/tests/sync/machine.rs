//! One session, step by step.

use std::collections::BTreeSet;

use memory::sync::{
    Effect, End, ErrorCode, Input, Limits, Message, Patience, Refusals, Replica, Reply, ReplyBody, Report, Request,
    RequestBody, Session, SessionId, respond,
};
use nips::memory::Space;
use nostr::{Event, EventId};

use crate::double::{Author, Double, START_S, events, fleet, keys, tombstone};

/// A session of `here`, whose requests `there` is to answer.
fn session(here: &Double, limits: Limits, refusals: Refusals) -> Session {
    let snapshot = here.snapshot(&fleet()).unwrap();
    Session::new(SessionId(1), fleet(), snapshot, refusals, (limits, Patience::default()))
}

/// Runs a session against whatever answers. Returns its report and all requests.
fn run(mut session: Session, here: &Double, mut peer: impl FnMut(Request) -> Reply) -> (Report, Vec<Request>) {
    let mut inputs = vec![Input::Start];
    let mut requests = Vec::new();
    while let Some(input) = inputs.pop() {
        for effect in session.handle(input, 0) {
            match effect {
                Effect::Send(text) => {
                    let Message::Request(request) = Message::parse(text.as_bytes()).unwrap() else { panic!("{text}") };
                    requests.push(request.clone());
                    inputs.push(Input::Received(peer(request)));
                }
                Effect::Take(events) => {
                    inputs.push(Input::Taken(here.take(&keys(99).public_key(), &fleet(), events)));
                }
                Effect::Load(ids) => {
                    inputs.push(Input::Loaded(here.events(&fleet(), &ids, memory::sync::BATCH_BYTES)));
                }
                Effect::WakeAt(_) => {}
                Effect::Ended(report) => return (report, requests),
            }
        }
    }
    panic!("the session stands still");
}

fn sync(here: &Double, there: &Double) -> Report {
    let peer = keys(98).public_key();
    run(session(here, Limits::default(), Refusals::default()), here, |request| respond(request, &peer, there)).0
}

fn ids(events: &[Event]) -> Vec<EventId> {
    events.iter().map(|event| event.id).collect()
}

#[test]
fn what_either_lacks_is_there_afterwards() {
    let (both, mine, yours) = (events(1, 300), events(2, 700), events(3, 900));
    let here = Double::with(both.iter().chain(&mine).cloned());
    let there = Double::with(both.iter().chain(&yours).cloned());
    let report = sync(&here, &there);
    assert!(matches!(report.end, End::Complete), "{report:?}");
    assert_eq!((report.fetched, report.pushed, report.refused, report.strays), (900, 700, 0, 0));
    assert_eq!(here.ids(), there.ids());
    assert_eq!(here.ids().len(), 1_900);
    // Again: nothing but one question.
    let report = sync(&here, &there);
    assert_eq!((report.requests, report.fetched, report.pushed), (1, 0, 0));
}

#[test]
fn causes_come_before_effects_to_an_empty_replica_and_from_one() {
    let all = events(1, 3_000);
    for (here, there) in
        [(Double::default(), Double::with(all.clone())), (Double::with(all.clone()), Double::default())]
    {
        assert!(matches!(sync(&here, &there).end, End::Complete));
        let taken = [here.takes(), there.takes()].concat().concat();
        assert_eq!(taken, ids(&all));
    }
}

#[test]
fn a_session_that_meets_its_limits_says_so_and_the_next_ones_finish() {
    let here = Double::default();
    let there = Double::with(events(1, 1_000));
    let peer = keys(98).public_key();
    let limits = Limits { ids: 300, ..Limits::default() };
    let mut sizes = Vec::new();
    loop {
        let (report, _) = run(session(&here, limits, Refusals::default()), &here, |r| respond(r, &peer, &there));
        sizes.push(here.ids().len());
        match report.end {
            End::Partial => {}
            End::Complete => break,
            end @ (End::Failed { .. } | End::GaveUp | End::Misbehaved(_) | End::Replica(_) | End::Private) => {
                panic!("{end:?}")
            }
        }
    }
    assert_eq!(sizes, [300, 600, 900, 1_000]);
}

#[test]
fn private_is_refused_in_both_roles_without_a_word_on_what_is_there() {
    let double = Double::with([Author::of_shard(1, Space::private()).write("text", "a secret", START_S)]);
    let snapshot = double.snapshot(&Space::private()).unwrap();
    let bounds = (Limits::default(), Patience::default());
    let mut session = Session::new(SessionId(1), Space::private(), snapshot, Refusals::default(), bounds);
    let effects = session.handle(Input::Start, 0);
    assert!(matches!(&effects[..], [Effect::Ended(Report { end: End::Private, .. })]), "{effects:?}");

    let secret = double.ids().into_iter().collect::<Vec<_>>();
    let answers = ["private", "unheard-of"].map(|space| {
        let body = RequestBody::Get(secret.clone());
        let request = Request { session: SessionId(5), number: 1, space: space.parse().unwrap(), body };
        respond(request, &keys(98).public_key(), &double).body
    });
    assert!(matches!(&answers[0], ReplyBody::Failed { code: ErrorCode::Refused, .. }), "{answers:?}");
    assert_eq!(answers[0], answers[1]);
    // Nor by asking for its ids in a space that is shared.
    let request = Request { session: SessionId(5), number: 1, space: fleet(), body: RequestBody::Get(secret.clone()) };
    let answer = respond(request, &keys(98).public_key(), &double).body;
    assert_eq!(answer, ReplyBody::Given { events: vec![], gone: secret });
}

#[test]
fn a_stranger_and_a_quarantined_writer_are_told_nothing_and_bring_nothing() {
    let (stranger, liar) = (keys(5).public_key(), keys(6).public_key());
    let there = Double::with(events(1, 10));
    there.shuts_out(stranger);
    there.quarantines(liar);
    for peer in [stranger, liar] {
        let here = Double::with(events(5, 3));
        let (report, requests) = run(session(&here, Limits::default(), Refusals::default()), &here, |request| {
            respond(request, &peer, &there)
        });
        assert!(matches!(report.end, End::Failed { code: ErrorCode::Refused, .. }), "{report:?}");
        assert_eq!(requests.len(), 1);
        let body = RequestBody::Put(events(5, 3));
        let request = Request { session: SessionId(5), number: 1, space: fleet(), body };
        assert!(matches!(respond(request, &peer, &there).body, ReplyBody::Failed { code: ErrorCode::Refused, .. }));
        assert_eq!(there.ids().len(), 10);
    }
}

#[test]
fn what_is_refused_for_good_is_asked_for_once_and_what_may_pass_again_later() {
    let retired = Author::of_shard(2, fleet()).document().clone();
    let forgotten = events(2, 20);
    let here = Double::with([tombstone(1, fleet(), retired, START_S)]);
    let there = Double::with(forgotten.iter().cloned().chain(events(3, 5)));
    // A peer that does not take the tombstone, as one that is full.
    there.is_full(true);
    let peer = keys(98).public_key();
    let asked_for = |requests: &[Request]| {
        let ids = requests.iter().filter_map(|request| match &request.body {
            RequestBody::Get(ids) => Some(ids.clone()),
            RequestBody::Reconcile(_) | RequestBody::Put(_) => None,
        });
        ids.flatten().collect::<Vec<_>>()
    };
    let (report, requests) =
        run(session(&here, Limits::default(), Refusals::default()), &here, |r| respond(r, &peer, &there));
    assert!(matches!(report.end, End::Complete), "{report:?}");
    assert_eq!((report.refused, report.refusals.len(), report.fetched), (21, 20, 5));
    assert_eq!(asked_for(&requests).len(), 25);

    let (report, requests) =
        run(session(&here, Limits::default(), report.refusals), &here, |r| respond(r, &peer, &there));
    assert_eq!(asked_for(&requests), []);
    assert_eq!(report.refused, 1, "the tombstone is offered again");
    there.is_full(false);
    let (report, _) = run(session(&here, Limits::default(), report.refusals), &here, |r| respond(r, &peer, &there));
    assert_eq!((report.pushed, here.ids()), (1, there.ids()));
}

#[test]
fn the_largest_event_travels_and_a_larger_one_does_not_stop_the_others() {
    use nostr::JsonUtil;
    let noise: Vec<String> =
        (0..9_000_u32).map(|n| hex::encode((n.wrapping_mul(2_654_435_761)).to_be_bytes())).collect();
    let mut author = Author::of_shard(1, fleet());
    let large: Vec<Event> = (0..4).map(|n| author.write("text", &noise.concat()[n..], START_S)).collect();
    assert!(large.iter().all(|event| event.as_json().len() > 40_000), "{}", large[0].as_json().len());
    let there = Double::with(large.into_iter().chain(events(2, 500)));
    let here = Double::default();
    assert!(matches!(sync(&here, &there).end, End::Complete));
    assert_eq!(here.ids(), there.ids());

    let ids: Vec<EventId> = events(3, 3).iter().map(|event| event.id).collect();
    let mut found = events(3, 3);
    found[1].content = "x".repeat(memory::sync::MAX_FRAME);
    let batch = memory::sync::Batch::fill::<()>(&ids, found.into_iter().map(Ok), 1_000_000).unwrap();
    assert_eq!((batch.events.len(), batch.gone), (2, vec![ids[1]]));
}

#[test]
fn a_request_is_sent_again_with_growing_waits_and_then_given_up() {
    let here = Double::with(events(1, 3));
    let patience = Patience { first_ms: 100, longest_ms: 300, tries: 4 };
    let snapshot = here.snapshot(&fleet()).unwrap();
    let mut session = Session::new(SessionId(1), fleet(), snapshot, Refusals::default(), (Limits::default(), patience));
    let (mut now_ms, mut sent) = (0, Vec::new());
    let mut effects = session.handle(Input::Start, now_ms);
    let report = 'over: loop {
        let mut wake = None;
        for effect in effects {
            match effect {
                Effect::Send(text) => sent.push((now_ms, text)),
                Effect::WakeAt(at) => wake = Some(at),
                Effect::Ended(report) => break 'over report,
                Effect::Take(_) | Effect::Load(_) => panic!("nothing came"),
            }
        }
        // A tick too early changes nothing.
        let early = session.handle(Input::Tick, now_ms);
        assert!(matches!(early[..], [Effect::WakeAt(at)] if Some(at) == wake));
        now_ms = wake.unwrap();
        effects = session.handle(Input::Tick, now_ms);
    };
    assert!(matches!(report.end, End::GaveUp));
    assert_eq!(sent.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [0, 100, 300, 600]);
    assert_eq!(sent.iter().map(|(_, text)| text).collect::<BTreeSet<_>>().len(), 1);
    assert_eq!((now_ms, report.requests), (900, 1));
    assert!(session.handle(Input::Tick, 2_000).is_empty());
}

#[test]
fn doubled_late_and_foreign_answers_are_none() {
    let (here, there) = (Double::default(), Double::with(events(1, 800)));
    let peer = keys(98).public_key();
    let mut session = session(&here, Limits::default(), Refusals::default());
    let mut old: Vec<Reply> = Vec::new();
    let mut inputs = vec![Input::Start];
    let report = 'over: loop {
        for effect in session.handle(inputs.remove(0), 0) {
            match effect {
                Effect::Send(text) => {
                    let Message::Request(request) = Message::parse(text.as_bytes()).unwrap() else { panic!() };
                    let answer = respond(request, &peer, &there);
                    for stale in &old {
                        assert!(session.handle(Input::Received(stale.clone()), 0).is_empty());
                    }
                    let foreign = Reply { session: SessionId(2), ..answer.clone() };
                    assert!(session.handle(Input::Received(foreign), 0).is_empty());
                    old.push(answer.clone());
                    inputs.push(Input::Received(answer));
                }
                Effect::Take(events) => {
                    // Answered again while the events are being kept, and perhaps the next ones asked for.
                    let again = old[old.len() - 1 - inputs.len()].clone();
                    assert!(session.handle(Input::Received(again), 0).is_empty());
                    inputs.push(Input::Taken(here.take(&peer, &fleet(), events)));
                }
                Effect::Load(_) => panic!("nothing to push"),
                Effect::WakeAt(_) => {}
                Effect::Ended(report) => break 'over report,
            }
        }
    };
    assert!(report.strays > 5);
    assert_eq!((here.ids(), here.refused()), (there.ids(), 0));
}

#[test]
fn the_next_events_are_asked_for_while_these_are_kept_and_a_slow_store_is_not_flooded() {
    let (here, there) = (Double::default(), Double::with(events(1, 6_000)));
    let peer = keys(98).public_key();
    let mut session = session(&here, Limits::default(), Refusals::default());
    let mut input = Some(Input::Start);
    let (mut taking, mut asked) = (Vec::new(), 0);
    // A store that keeps nothing until nobody asks any more.
    while let Some(next) = input.take() {
        for effect in session.handle(next, 0) {
            match effect {
                Effect::Send(text) => {
                    let Message::Request(request) = Message::parse(text.as_bytes()).unwrap() else { panic!() };
                    asked += usize::from(matches!(request.body, RequestBody::Get(_)));
                    input = Some(Input::Received(respond(request, &peer, &there)));
                }
                Effect::Take(events) => taking.push(events),
                Effect::WakeAt(_) => {}
                Effect::Load(_) | Effect::Ended(_) => panic!("there is more"),
            }
        }
    }
    let [first] = <[_; 1]>::try_from(taking).unwrap();
    assert!(first.len() >= 2_000 && asked > 10 && asked < 25, "{} in {asked}", first.len());
    let effects = session.handle(Input::Taken(here.take(&peer, &fleet(), first)), 0);
    let [Effect::Send(_), Effect::WakeAt(_), Effect::Take(second)] = &effects[..] else { panic!("{effects:?}") };
    assert!(second.len() >= 2_000);
}

#[test]
fn what_comes_slowly_is_kept_as_it_comes() {
    let (here, there) = (Double::default(), Double::with(events(1, 900)));
    let peer = keys(98).public_key();
    let mut session = session(&here, Limits::default(), Refusals::default());
    let (mut inputs, mut now, mut lost) = (vec![Input::Start], 0, 0);
    while let Some(input) = inputs.pop() {
        for effect in session.handle(input, now) {
            match effect {
                Effect::Send(text) => {
                    let Message::Request(request) = Message::parse(text.as_bytes()).unwrap() else { panic!() };
                    now += 1_000;
                    inputs.insert(0, Input::Received(respond(request, &peer, &there)));
                }
                Effect::Take(events) => {
                    lost = events.len();
                    inputs.push(Input::Taken(here.take(&peer, &fleet(), events)));
                }
                Effect::WakeAt(_) | Effect::Ended(_) => {}
                Effect::Load(_) => panic!("nothing to push"),
            }
        }
        assert!(lost <= 400, "a session that ends here loses one batch");
    }
    assert_eq!(here.ids(), there.ids());
}

#[test]
fn a_store_that_fails_ends_the_session_and_the_next_one_goes_on_from_there() {
    let (here, there) = (Double::default(), Double::with(events(1, 6_000)));
    here.fails(1);
    assert!(matches!(sync(&here, &there).end, End::Replica(_)));
    // Half of what it was given: not more than a bundle, and the batch that filled it.
    let kept = here.ids().len();
    assert!(kept > 0 && kept <= (2_000 + 400) / 2, "{kept}");
    assert!(matches!(sync(&here, &there).end, End::Complete));
    assert_eq!(here.ids(), there.ids());

    here.add(events(2, 10));
    there.fails(1);
    assert!(matches!(sync(&here, &there).end, End::Failed { code: ErrorCode::Failed, .. }));
    assert!(matches!(sync(&here, &there).end, End::Complete));
    assert_eq!(here.ids(), there.ids());
}

mod liars {
    use super::*;

    /// A fingerprint of everything that is nobody's: "we differ", for ever.
    fn differs() -> Vec<u8> {
        let mut message = vec![0x61, 0, 0, 1];
        message.extend([0xaa; 16]);
        message
    }

    fn names(count: u8, of: u8) -> Vec<u8> {
        let mut message = vec![0x61, 0, 0, 2, count];
        for n in 0..count {
            message.extend([of, n].repeat(16));
        }
        message
    }

    fn lied_to(limits: Limits, mut lie: impl FnMut(&Request) -> ReplyBody) -> (Report, Vec<Request>, Double) {
        let here = Double::with(events(1, 100));
        let (report, requests) = run(session(&here, limits, Refusals::default()), &here, |request| Reply {
            session: request.session,
            number: request.number,
            body: lie(&request),
        });
        (report, requests, here)
    }

    #[test]
    fn endless_rounds_end_at_the_limit() {
        let limits = Limits { rounds: 20, ..Limits::default() };
        let (report, requests, _) = lied_to(limits, |_| ReplyBody::Reconciled(differs()));
        assert!(matches!(report.end, End::Partial), "{report:?}");
        assert_eq!((report.rounds, requests.len()), (20, 20));
    }

    #[test]
    fn endless_names_end_at_the_limit_and_hold_bounded_memory() {
        let limits = Limits { ids: 1_000, rounds: 50, requests: 100 };
        let mut round = 0_u8;
        let (report, requests, here) = lied_to(limits, |request| match &request.body {
            RequestBody::Reconcile(_) => {
                round += 1;
                let mut message = names(100, round);
                message[1..3].copy_from_slice(&[round, 0]);
                message.extend(&differs()[1..]);
                ReplyBody::Reconciled(message)
            }
            RequestBody::Get(ids) => ReplyBody::Given { events: vec![], gone: ids.clone() },
            RequestBody::Put(_) => ReplyBody::Stored { new: 0, known: 0, refused: vec![] },
        });
        assert!(matches!(report.end, End::Partial), "{report:?}");
        let gets = requests.iter().filter(|request| matches!(request.body, RequestBody::Get(_))).count();
        assert!(report.rounds <= 10 && gets <= 3, "{report:?}");
        assert_eq!(here.ids().len(), 100);
    }

    #[test]
    fn ids_that_are_never_delivered_end_the_session() {
        let lie = |request: &Request| match &request.body {
            RequestBody::Reconcile(_) => ReplyBody::Reconciled(names(30, 0x55)),
            RequestBody::Get(_) => ReplyBody::Given { events: events(2, 5), gone: vec![] },
            RequestBody::Put(_) => ReplyBody::Stored { new: 0, known: 0, refused: vec![] },
        };
        let (report, _, here) = lied_to(Limits::default(), lie);
        assert!(matches!(report.end, End::Misbehaved(_)), "{report:?}");
        assert_eq!((report.strays, here.takes().len()), (5, 0), "what was not asked for is not kept");
    }

    #[test]
    fn an_event_of_another_space_or_under_a_false_id_is_refused() {
        let garden = Author::of_shard(2, "garden".parse().unwrap()).write("text", "beans", START_S);
        let mut false_id = events(3, 1).remove(0);
        false_id.id = EventId::from_byte_array([0x77; 32]);
        let brought = vec![garden, false_id.clone()];
        let lie = |request: &Request| match &request.body {
            RequestBody::Reconcile(_) => {
                let mut message = vec![0x61, 0, 0, 2, 2];
                brought.iter().for_each(|event| message.extend(event.id.as_bytes()));
                ReplyBody::Reconciled(message)
            }
            RequestBody::Get(_) => ReplyBody::Given { events: brought.clone(), gone: vec![] },
            RequestBody::Put(_) => ReplyBody::Stored { new: 0, known: 100, refused: vec![] },
        };
        let (report, _, here) = lied_to(Limits::default(), lie);
        assert!(matches!(report.end, End::Complete), "{report:?}");
        assert_eq!((report.fetched, report.refused, report.refusals.len()), (0, 2, 2));
        assert_eq!(here.ids().len(), 100);
        assert_eq!(here.takes(), [vec![false_id.id]], "the other space never reached the replica");
    }

    #[test]
    fn answers_of_another_kind_or_with_false_counts_end_the_session() {
        let (report, ..) = lied_to(Limits::default(), |_| ReplyBody::Given { events: vec![], gone: vec![] });
        assert!(matches!(report.end, End::Misbehaved(_)), "{report:?}");
        let (report, ..) = lied_to(Limits::default(), |_| ReplyBody::Reconciled(vec![0x61, 1, 2, 3]));
        assert!(matches!(report.end, End::Misbehaved(_)), "{report:?}");
        let lie = |request: &Request| match &request.body {
            RequestBody::Reconcile(_) => ReplyBody::Reconciled(names(0, 0)),
            RequestBody::Get(_) | RequestBody::Put(_) => {
                ReplyBody::Stored { new: 4_000_000_000, known: 0, refused: vec![] }
            }
        };
        let (report, ..) = lied_to(Limits::default(), lie);
        assert!(matches!(report.end, End::Misbehaved(_)), "{report:?}");
    }

    #[test]
    fn foreign_events_pushed_to_a_responder_are_refused_one_by_one() {
        let there = Double::default();
        let good = events(2, 1).remove(0);
        let garden = Author::of_shard(2, "garden".parse().unwrap()).write("text", "beans", START_S);
        let mut forged = events(3, 1).remove(0);
        forged.content.push('A');
        let body = RequestBody::Put(vec![garden.clone(), forged.clone(), good.clone(), good.clone()]);
        let request = Request { session: SessionId(5), number: 1, space: fleet(), body };
        let reply = respond(request, &keys(98).public_key(), &there).body;
        let ReplyBody::Stored { new: 1, known: 1, refused } = reply else { panic!("{reply:?}") };
        assert_eq!(refused.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [garden.id, forged.id]);
        assert_eq!(there.ids(), BTreeSet::from([good.id]));
    }
}
