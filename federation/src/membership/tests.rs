//! Rights, concurrency, bounds; and that the order of arrival changes nothing.

use nips::federation::{Act, FederationId, Role};
use nostr::{Event, EventId, Keys, PublicKey};
use proptest::prelude::*;

use super::{Log, MAX_MEMBERS, Refused, Standing, Taken};

fn keys(n: u8) -> Keys {
    Keys::parse(&hex::encode([n; 32])).unwrap()
}

fn npub(n: u8) -> PublicKey {
    keys(n).public_key()
}

fn join(n: u8, role: Role) -> Act {
    Act::Join { node: npub(n), role, invitation: None }
}

fn founded(owner: Option<u8>) -> Log {
    let event = Log::founding("home", owner.map(npub), npub(1), 1).sign_with_keys(&keys(1)).unwrap();
    Log::found(&event).unwrap()
}

/// Makes an entry on what `log` knows, and takes it.
fn act(log: &mut Log, by: u8, act: &Act) -> Event {
    let event = log.draft(act, npub(by), 2).unwrap().sign_with_keys(&keys(by)).unwrap();
    assert!(matches!(log.take(&event).unwrap(), Taken::New(_)));
    event
}

fn meet(a: &mut Log, b: &mut Log) {
    for event in a.missing_for(&b.heads()) {
        let _ = b.take(&event);
    }
    for event in b.missing_for(&a.heads()) {
        let _ = a.take(&event);
    }
    assert_eq!((a.heads(), a.members(), a.terms()), (b.heads(), b.members(), b.terms()));
}

/// Founder 1, admins 2 and 3 (in this order), sibling 4, guest 5.
fn family() -> Log {
    let mut log = founded(None);
    for n in [2, 3, 4] {
        act(&mut log, 1, &join(n, Role::Sibling));
    }
    act(&mut log, 1, &Act::Admin { node: npub(2) });
    act(&mut log, 2, &Act::Admin { node: npub(3) });
    act(&mut log, 3, &join(5, Role::Guest));
    log
}

#[test]
fn everybody_has_their_standing() {
    let log = family();
    let standings = [(1, Standing::Admin), (2, Standing::Admin), (3, Standing::Admin), (4, Standing::Sibling)];
    for (n, standing) in standings.into_iter().chain([(5, Standing::Guest), (6, Standing::Unknown)]) {
        assert_eq!(log.standing(&npub(n)), standing, "{n}");
    }
    assert_eq!((log.members().len(), log.epoch(), log.owner(), log.name()), (5, 1, None, Some("home")));
    assert!(Standing::Sibling.acts_for_owner() && !Standing::Guest.acts_for_owner());
}

#[test]
fn only_the_owner_and_admins_admit_and_remove() {
    let log = family();
    let author = |n| Err(Refused::Author { author: npub(n) });
    for n in [4, 5, 6] {
        assert_eq!(log.draft(&join(7, Role::Guest), npub(n), 2), author(n));
        assert_eq!(log.draft(&Act::Remove { node: npub(2) }, npub(n), 2), author(n));
        assert_eq!(log.draft(&Act::Admin { node: npub(4) }, npub(n), 2), author(n));
        assert_eq!(log.draft(&Act::Owner { person: npub(n) }, npub(n), 2), author(n));
    }
    // An admin that is not the founder names no owner; a guest becomes no admin; a stranger cannot be removed.
    assert_eq!(log.draft(&Act::Owner { person: npub(2) }, npub(2), 2), author(2));
    assert_eq!(log.draft(&Act::Admin { node: npub(5) }, npub(1), 2), Err(Refused::Subject { node: npub(5) }));
    assert_eq!(log.draft(&Act::Remove { node: npub(6) }, npub(1), 2), Err(Refused::Subject { node: npub(6) }));
    // Whoever belongs may leave.
    let mut left = log;
    act(&mut left, 5, &Act::Remove { node: npub(5) });
    assert_eq!(left.standing(&npub(5)), Standing::Removed { epoch: 2 });
}

#[test]
fn forged_and_foreign_entries_are_refused_with_reasons() {
    let mut log = family();
    // Signed, well made, and by one who may not: made on another log where nobody checks.
    let forged =
        nips::federation::Entry::to_event(&join(7, Role::Sibling), Some(log.federation()), &log.heads(), npub(4), 2);
    assert_eq!(log.take(&forged.sign_with_keys(&keys(4)).unwrap()), Err(Refused::Author { author: npub(4) }));
    let mut broken = log.draft(&join(7, Role::Sibling), npub(1), 2).unwrap().sign_with_keys(&keys(1)).unwrap();
    broken.pubkey = npub(2);
    assert!(matches!(log.take(&broken), Err(Refused::Envelope(nips::federation::EnvelopeError::Signature))));
    let other = Log::founding("other", None, npub(9), 1).sign_with_keys(&keys(9)).unwrap();
    assert_eq!(log.take(&other), Err(Refused::Federation));
    let foreign = nips::federation::Entry::to_event(
        &join(7, Role::Sibling),
        Some(FederationId(other.id)),
        &[other.id],
        npub(1),
        2,
    );
    assert_eq!(log.take(&foreign.sign_with_keys(&keys(1)).unwrap()), Err(Refused::Federation));
    let note = nostr::EventBuilder::text_note("hi").sign_with_keys(&keys(1)).unwrap();
    assert!(matches!(log.take(&note), Err(Refused::Envelope(_))));
}

#[test]
fn the_owner_s_key_is_above_all() {
    let mut log = founded(None);
    act(&mut log, 1, &Act::Owner { person: npub(8) });
    assert_eq!((log.owner(), log.standing(&npub(8))), (Some(npub(8)), Standing::Owner));
    // Named once, only the owner names another; and the owner removes even the founder.
    assert!(log.draft(&Act::Owner { person: npub(1) }, npub(1), 2).is_err());
    act(&mut log, 8, &join(2, Role::Sibling));
    act(&mut log, 8, &Act::Admin { node: npub(2) });
    assert!(log.draft(&Act::Remove { node: npub(8) }, npub(2), 2).is_err(), "the owner cannot be removed");
    let (mut a, mut b) = (log.clone(), log);
    act(&mut a, 8, &Act::Remove { node: npub(1) });
    act(&mut b, 1, &Act::Remove { node: npub(2) });
    meet(&mut a, &mut b);
    assert_eq!(a.standing(&npub(1)), Standing::Removed { epoch: 2 });
    assert_eq!(a.standing(&npub(2)), Standing::Admin, "what the founder did beside its removal counts no more");
    assert_eq!(a.epoch(), 3, "the overruled removal began an epoch too");
}

#[test]
fn a_removal_beats_what_is_done_beside_it() {
    let (mut a, mut b) = (family(), family());
    let epoch = a.epoch();
    act(&mut a, 1, &Act::Remove { node: npub(2) });
    act(&mut b, 2, &join(6, Role::Sibling));
    act(&mut b, 2, &Act::Admin { node: npub(6) });
    act(&mut b, 6, &join(7, Role::Guest));
    act(&mut b, 3, &join(9, Role::Guest));
    meet(&mut a, &mut b);
    assert_eq!(a.standing(&npub(2)), Standing::Removed { epoch: epoch + 1 });
    assert_eq!(a.standing(&npub(6)), Standing::Unknown, "invited by the removed, beside the removal");
    assert_eq!(a.standing(&npub(7)), Standing::Unknown, "and by whom it invited");
    assert_eq!(a.standing(&npub(9)), Standing::Guest, "what others did stays");
    assert_eq!(a.standing(&npub(3)), Standing::Admin, "what it did before stays");
    assert_eq!(a.epoch(), epoch + 1);
}

#[test]
fn a_removal_beats_a_promotion_made_beside_it_and_a_later_join_takes_back() {
    let (mut a, mut b) = (family(), family());
    act(&mut a, 2, &Act::Remove { node: npub(4) });
    act(&mut b, 1, &Act::Admin { node: npub(4) });
    act(&mut b, 1, &join(4, Role::Sibling));
    meet(&mut a, &mut b);
    assert_eq!(a.standing(&npub(4)), Standing::Removed { epoch: 2 });
    act(&mut a, 3, &join(4, Role::Guest));
    assert_eq!(a.standing(&npub(4)), Standing::Guest);
    assert_eq!(a.epoch(), 2);
}

#[test]
fn of_two_who_remove_each_other_the_earlier_admin_stays() {
    let (mut a, mut b) = (family(), family());
    act(&mut a, 3, &Act::Remove { node: npub(2) });
    act(&mut b, 2, &Act::Remove { node: npub(3) });
    meet(&mut a, &mut b);
    assert_eq!((a.standing(&npub(2)), a.standing(&npub(3))), (Standing::Admin, Standing::Removed { epoch: 2 }));
    // The two epochs that were begun apart are neither's: what follows has a third name.
    assert_eq!(a.epoch(), 3);
    // A ring of three: 1 removes 2, 2 removes 3, 3 removes 1, all beside each other. 2 falls by 1, and what 2 did with it; nobody stronger
    // stands against 3's removal of 1.
    let mut ring = [family(), family(), family()];
    for (log, (by, gone)) in ring.iter_mut().zip([(1, 2), (2, 3), (3, 1)]) {
        act(log, by, &Act::Remove { node: npub(gone) });
    }
    let [mut a, mut b, mut c] = ring;
    meet(&mut a, &mut b);
    meet(&mut b, &mut c);
    let removed = Standing::Removed { epoch: 2 };
    assert_eq!([1, 2, 3].map(|n| c.standing(&npub(n))), [removed, removed, Standing::Admin]);
}

#[test]
fn bounds_hold() {
    let mut log = founded(None);
    for n in 2..=u8::try_from(MAX_MEMBERS).unwrap() {
        act(&mut log, 1, &join(n, Role::Guest));
    }
    assert_eq!(log.members().len(), MAX_MEMBERS);
    assert_eq!(log.draft(&join(200, Role::Guest), npub(1), 2), Err(Refused::Members));
    // One admin cannot fill the log.
    let end = loop {
        let Ok(draft) = log.draft(&join(2, Role::Guest), npub(1), 2) else { break log.len() };
        log.take(&draft.sign_with_keys(&keys(1)).unwrap()).unwrap();
    };
    assert_eq!(end, super::MAX_BY_ONE);
    // What waits for its past is bounded.
    let mut empty = Log::new(log.federation());
    let results: Vec<_> = log.events().iter().skip(1).map(|event| empty.take(event)).collect();
    assert_eq!(results.iter().filter(|r| **r == Ok(Taken::Waiting)).count(), super::MAX_WAITING);
    assert_eq!(results.last().unwrap(), &Err(Refused::Waiting));
    assert!(empty.is_empty());
}

/// One step of a random history: which log acts, who signs, on whom, what.
type Step = (usize, u8, u8, u8, Option<usize>);

/// Three logs that act apart and meet now and then; every entry that any of them made.
fn history(steps: &[Step]) -> Vec<Event> {
    let mut logs = vec![family(), family(), family()];
    for (at, by, on, what, meets) in steps {
        let act = match what % 5 {
            0 => join(*on, Role::Sibling),
            1 => join(*on, Role::Guest),
            2 => Act::Admin { node: npub(*on) },
            _ => Act::Remove { node: npub(*on) },
        };
        if let Ok(draft) = logs[*at].draft(&act, npub(*by), 2) {
            logs[*at].take(&draft.sign_with_keys(&keys(*by)).unwrap()).unwrap();
        }
        if let Some(other) = meets.filter(|other| other != at) {
            for event in logs[*at].missing_for(&logs[other].heads()) {
                let _ = logs[other].take(&event);
            }
        }
    }
    let mut all = logs.swap_remove(0);
    for event in logs.iter().flat_map(Log::events) {
        let _ = all.take(&event);
    }
    all.events()
}

fn fold_of(federation: FederationId, events: &[Event]) -> (Vec<EventId>, String, String) {
    let mut log = Log::new(federation);
    for event in events {
        log.take(event).unwrap();
    }
    let standings: Vec<Standing> = (1..=9).map(|n| log.standing(&npub(n))).collect();
    (log.heads(), format!("{standings:?}"), format!("{:?}", log.terms()))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_order_of_arrival_changes_nothing(
        steps in prop::collection::vec((0..3usize, 1..7u8, 1..10u8, any::<u8>(), prop::option::of(0..3usize)), 0..24),
        shuffle in any::<prop::sample::Index>(),
        order in Just(()).prop_perturb(|(), mut rng| { let mut v: Vec<u32> = (0..64).map(|_| rng.next_u32()).collect(); v.rotate_left(1); v }),
    ) {
        let events = history(&steps);
        let federation = FederationId(events[0].id);
        let straight = fold_of(federation, &events);
        let mut mixed: Vec<(u32, Event)> = events.iter().cloned().enumerate().map(|(n, e)| (order[n % 64] ^ u32::try_from(n).unwrap(), e)).collect();
        mixed.sort_by_key(|(key, _)| *key);
        let mut mixed: Vec<Event> = mixed.into_iter().map(|(_, event)| event).collect();
        // Some come twice.
        let again = mixed[shuffle.index(mixed.len())].clone();
        mixed.push(again);
        prop_assert_eq!(&straight, &fold_of(federation, &mixed));
        mixed.reverse();
        prop_assert_eq!(&straight, &fold_of(federation, &mixed));
        // Somebody is always left who can go on.
        let mut log = Log::new(federation);
        for event in &events { log.take(event).unwrap(); }
        let admins = log.members().iter().filter(|m| m.standing == Standing::Admin).count();
        let left_by_themselves = log.events().iter().any(|e| e.tags.public_keys().any(|p| *p == e.pubkey));
        prop_assert!(admins > 0 || left_by_themselves);
    }
}
