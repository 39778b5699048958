//! Messages about tasks: they come back as they went, nothing hostile passes or panics, and an auction can be recomputed.

#![allow(clippy::unwrap_used)]

use nips::task::{
    Ability, Act, Added, Attempt, AudienceClass, Award, Bid, Call, Cargo, Commitment, CommitmentSet, Entry, Envelope,
    Epoch, Factor, MAX_BIDDERS, MAX_MESSAGE, Message, MessageError, Parts, Reason, Refusal, Reveal, SizeClass, TaskId,
    TranscriptError, commitment_hash, open, seal, settle, split, transcript_hash, verify_transcript,
};
use nips::task::{Label, LabelError, Lease, Outcome};
use nips::{JobId, Msat};
use nostr::{Event, EventBuilder, EventId, JsonUtil, Keys, Kind, PublicKey, Tag};
use proptest::prelude::*;

fn keys(n: u8) -> Keys {
    Keys::parse(&hex::encode([n.max(1); 32])).unwrap()
}

fn key() -> impl Strategy<Value = PublicKey> {
    (1u8..20).prop_map(|n| keys(n).public_key())
}

fn attempt() -> impl Strategy<Value = Attempt> {
    (any::<[u8; 32]>(), 1u32..).prop_map(|(id, epoch)| Attempt { task: TaskId::from_bytes(id), epoch: Epoch(epoch) })
}

fn id() -> impl Strategy<Value = EventId> {
    any::<[u8; 32]>().prop_map(EventId::from_byte_array)
}

fn factor() -> impl Strategy<Value = Factor> {
    (1u16..=1000).prop_map(|permille| Factor::from_permille(permille).unwrap())
}

fn entries() -> impl Strategy<Value = Vec<Entry>> {
    prop::collection::btree_map(key().prop_map(|k| k.to_bytes()), (id(), factor()), 0..15).prop_map(|entries| {
        let entry =
            |(bidder, (commitment, factor))| Entry { commitment, bidder: PublicKey::from_byte_array(bidder), factor };
        entries.into_iter().map(entry).collect()
    })
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        Just(Act::Accept),
        any::<u32>().prop_map(|turn| Act::Renew { turn }),
        any::<u32>().prop_map(|turn| Act::Grant { turn }),
        ("\\PC{0,100}", any::<bool>()).prop_map(|(word, accepted)| Act::Release { word, accepted }),
    ]
}

fn cargo() -> impl Strategy<Value = Cargo> {
    (attempt(), key(), 0u16..64, any::<[u8; 32]>(), "[A-Za-z0-9+/=]{0,200}")
        .prop_map(|(attempt, to, index, digest, sealed)| Cargo { attempt, to, index, count: 64, digest, sealed })
}

fn message() -> impl Strategy<Value = Message> {
    let sizes = prop_oneof![Just(SizeClass::Small), Just(SizeClass::Medium), Just(SizeClass::Large)];
    let audiences = prop_oneof![
        Just(AudienceClass::Owner),
        Just(AudienceClass::Person),
        Just(AudienceClass::Member),
        Just(AudienceClass::Stranger)
    ];
    let reasons = prop_oneof![Just(Reason::OldEpoch), Just(Reason::Finished), Just(Reason::SetChanged)];
    prop_oneof![
        (attempt(), 5000u16..=5999, sizes, audiences, any::<bool>(), any::<u64>()).prop_map(
            |(attempt, kind, size, audience, guests, window_ms)| {
                let ability = Ability::of_kind(kind).unwrap();
                Message::Call(Call { attempt, ability, size, audience, guests, window_ms })
            }
        ),
        (attempt(), id(), any::<[u8; 32]>()).prop_map(|(attempt, call, hash)| Message::Commitment(Commitment {
            attempt,
            call,
            hash
        })),
        (attempt(), id(), entries()).prop_map(|(attempt, call, entries)| Message::Set(CommitmentSet {
            attempt,
            call,
            entries
        })),
        (attempt(), id(), any::<u64>(), any::<[u8; 32]>()).prop_map(|(attempt, set, price, nonce)| Message::Reveal(
            Reveal { attempt, set, price: Msat(price), nonce }
        )),
        (attempt(), id(), key(), any::<u64>(), any::<u64>(), prop::collection::btree_set(id(), 0..20), id()).prop_map(
            |(attempt, set, winner, price, lease_ms, reveals, call)| {
                let reveals: Vec<EventId> = reveals.into_iter().collect();
                let transcript = transcript_hash(&call, &set, &reveals);
                Message::Award(Award { attempt, set, winner, price: Msat(price), lease_ms, reveals, transcript })
            }
        ),
        (attempt(), key(), reasons, any::<u32>()).prop_map(|(attempt, to, reason, newest)| {
            Message::Refusal(Refusal { attempt, to, reason, newest: Epoch(newest) })
        }),
        (attempt(), key(), act()).prop_map(|(attempt, to, act)| Message::Lease(Lease { attempt, to, act })),
        cargo().prop_map(Message::Input),
        cargo().prop_map(Message::Result),
    ]
}

fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("task".to_owned()),
        Just("epoch".to_owned()),
        Just("e".to_owned()),
        Just("p".to_owned()),
        Just("c".to_owned()),
        Just("r".to_owned()),
        Just("x".to_owned()),
        Just("part".to_owned()),
        Just("L".to_owned()),
        Just("l".to_owned()),
        Just("timmy.task".to_owned()),
        Just("done".to_owned()),
        Just("request".to_owned()),
        Just("ab".repeat(32)),
        any::<u64>().prop_map(|n| n.to_string()),
        (0u32..70).prop_map(|n| n.to_string()),
        "\\PC{0,40}",
    ]
}

fn content() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        Just(r#"{"act":"renew","turn":-1}"#.to_owned()),
        Just(r#"{"price_msat":18446744073709551616,"nonce":""}"#.to_owned()),
        Just("[".repeat(10_000)),
        Just(r#"{"commitment":"zz"}"#.to_owned()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_message_comes_back_as_it_went(message in message(), author in 1u8..20, at in 0u64..1 << 40) {
        let envelope = Envelope::sign(message.clone(), &keys(author), at);
        let read = Envelope::verified(Event::from_json(envelope.event().as_json()).unwrap()).unwrap();
        prop_assert_eq!(read.message(), &message);
        prop_assert_eq!(read.author(), keys(author).public_key());
        prop_assert_eq!(&read, &envelope);
        let copy: Envelope = serde_json::from_str(&serde_json::to_string(&envelope).unwrap()).unwrap();
        prop_assert_eq!(&copy, &envelope);
        prop_assert_eq!(Envelope::sign(message, &keys(author), at).event().sig, envelope.event().sig, "the same bytes again");
    }

    #[test]
    fn no_event_panics(kind in 9755u16..9775, tags in prop::collection::vec(prop::collection::vec(word(), 1..6), 0..30), content in content()) {
        let tags = tags.iter().filter_map(|tag| Tag::parse(tag).ok());
        let event = EventBuilder::new(Kind::from_u16(kind), content.clone()).tags(tags.clone()).sign_with_keys(&keys(1)).unwrap();
        let _ = Message::parse(&event);
        let label = EventBuilder::new(Kind::from_u16(1985), content).tags(tags).sign_with_keys(&keys(1)).unwrap();
        let _ = Label::parse(&label);
        prop_assert!(verify_transcript(&[event, label]).is_err());
    }

    #[test]
    fn what_was_changed_is_refused(message in message(), at in 0usize..10_000, to in any::<u8>()) {
        let mut json = Envelope::sign(message, &keys(1), 1).event().as_json().into_bytes();
        let at = at % json.len();
        prop_assume!(json[at] != to);
        json[at] = to;
        if let Ok(event) = Event::from_json(&json) {
            // A changed letter of JSON may mean the same (an escape, a space).
            let same = event == *Envelope::sign(Message::parse(&event).unwrap_or_else(|_| refused()), &keys(1), 1).event();
            prop_assert!(Envelope::verified(event).is_err() || same);
        }
    }

    #[test]
    fn the_winner_has_the_lowest_score_and_is_paid_the_most_that_still_wins(bids in bids(), attempt in attempt()) {
        let due = settle(&attempt, &bids).unwrap();
        let winner = bids.iter().find(|bid| bid.bidder == due.winner).unwrap();
        for other in &bids {
            let (a, b) = (u128::from(winner.price.0) * u128::from(other.factor.permille()), u128::from(other.price.0) * u128::from(winner.factor.permille()));
            prop_assert!(a <= b, "somebody has a lower score");
        }
        prop_assert!(due.price >= winner.price);
        let with = |price| {
            let changed: Vec<Bid> = bids.iter().map(|bid| if bid.bidder == due.winner { Bid { price: Msat(price), ..*bid } } else { *bid }).collect();
            settle(&attempt, &changed).unwrap().winner
        };
        prop_assert_eq!(with(due.price.0), due.winner, "it would lose at the price that it is paid");
        if bids.len() > 1 && due.price.0 < u64::MAX {
            prop_assert!(with(due.price.0 + 1) != due.winner, "it could have asked for more");
        }
        let mut turned = bids.clone();
        turned.reverse();
        prop_assert_eq!(settle(&attempt, &turned), Some(due), "the order of bids matters");
    }

    #[test]
    fn a_payload_is_put_together_from_its_parts(text in "\\PC{1,80}", times in 1usize..700, turn in 0usize..64) {
        let text = text.repeat(times);
        let attempt = Attempt { task: TaskId::from_bytes([1; 32]), epoch: Epoch(1) };
        let (digest, parts) = split(&text).unwrap();
        let count = u16::try_from(parts.len()).unwrap();
        let cargo = |index: usize| Cargo { attempt, to: keys(1).public_key(), index: u16::try_from(index).unwrap(), count, digest, sealed: String::new() };
        let mut got = Parts::default();
        let mut whole = None;
        for at in 0..parts.len() {
            let at = (at + turn) % parts.len();
            prop_assert!(whole.is_none());
            if let Added::Whole(text) = got.add(&cargo(at), parts[at].to_owned()) {
                whole = Some(text);
            } else {
                prop_assert_eq!(got.add(&cargo(at), "again".to_owned()), Added::More);
            }
        }
        prop_assert_eq!(whole.as_deref(), Some(text.as_str()));
    }
}

fn refused() -> Message {
    let attempt = Attempt { task: TaskId::from_bytes([0; 32]), epoch: Epoch(1) };
    Message::Refusal(Refusal { attempt, to: keys(1).public_key(), reason: Reason::Other, newest: Epoch(0) })
}

fn bids() -> impl Strategy<Value = Vec<Bid>> {
    // Few different prices and factors, so that ties are common; and the greatest there are.
    let price = prop_oneof![0u64..6, any::<u64>(), Just(u64::MAX)];
    let factor = prop_oneof![factor(), Just(Factor::from_permille(500).unwrap()), Just(Factor::MAX)];
    prop::collection::vec((price, factor), 1..8).prop_map(|bids| {
        let bid = |(n, (price, factor)): (u8, (u64, Factor))| Bid {
            bidder: keys(n).public_key(),
            price: Msat(price),
            factor,
        };
        (1..).zip(bids).map(bid).collect()
    })
}

/// An auction of three bidders; the third does not reveal. Bidder 2 wins for what bidder 3 asks.
fn auction() -> Vec<Event> {
    let attempt = Attempt { task: TaskId::from_bytes([7; 32]), epoch: Epoch(2) };
    let requester = keys(1);
    let call = Call {
        attempt,
        ability: Ability::of_kind(5000).unwrap(),
        size: SizeClass::Small,
        audience: AudienceClass::Owner,
        guests: false,
        window_ms: 400,
    };
    let call = Envelope::sign(Message::Call(call), &requester, 100);
    let prices = [(2u8, 500u64), (3, 900), (4, 100)];
    let commitments: Vec<Envelope> = prices
        .iter()
        .map(|(n, price)| {
            let hash = commitment_hash(&attempt, &keys(*n).public_key(), Msat(*price), &[*n; 32]);
            Envelope::sign(Message::Commitment(Commitment { attempt, call: call.id(), hash }), &keys(*n), 100)
        })
        .collect();
    let entries =
        commitments.iter().map(|c| Entry { commitment: c.id(), bidder: c.author(), factor: Factor::MAX }).collect();
    let set = Envelope::sign(Message::Set(CommitmentSet { attempt, call: call.id(), entries }), &requester, 101);
    let reveals: Vec<Envelope> = prices[..2]
        .iter()
        .map(|(n, price)| {
            let reveal = Reveal { attempt, set: set.id(), price: Msat(*price), nonce: [*n; 32] };
            Envelope::sign(Message::Reveal(reveal), &keys(*n), 101)
        })
        .collect();
    let award = award(attempt, &call, &set, &reveals, keys(2).public_key(), settled(attempt));
    let all = [call].into_iter().chain(commitments).chain([set]).chain(reveals).chain([award]);
    all.map(|envelope| envelope.event().clone()).collect()
}

fn settled(attempt: Attempt) -> Msat {
    let bid = |n: u8, price| Bid { bidder: keys(n).public_key(), price: Msat(price), factor: Factor::MAX };
    settle(&attempt, &[bid(2, 500), bid(3, 900)]).unwrap().price
}

fn award(
    attempt: Attempt,
    call: &Envelope,
    set: &Envelope,
    counted: &[Envelope],
    winner: PublicKey,
    price: Msat,
) -> Envelope {
    let mut reveals: Vec<EventId> = counted.iter().map(Envelope::id).collect();
    reveals.sort_unstable();
    let transcript = transcript_hash(&call.id(), &set.id(), &reveals);
    let award = Award { attempt, set: set.id(), winner, price, lease_ms: 8000, reveals, transcript };
    Envelope::sign(Message::Award(award), &keys(1), 102)
}

fn envelopes(events: &[Event]) -> Vec<Envelope> {
    events.iter().map(|event| Envelope::verified(event.clone()).unwrap()).collect()
}

#[test]
fn a_transcript_bears_its_award_out_in_any_order() {
    let mut events = auction();
    let verified = verify_transcript(&events).unwrap();
    assert_eq!(verified.winner, keys(2).public_key());
    assert!((899..=900).contains(&verified.price.0), "{}", verified.price);
    assert_eq!(verified.unrevealed, vec![keys(4).public_key()]);
    assert!(verified.left_out.is_empty());
    events.reverse();
    events.extend(events.clone());
    assert_eq!(verify_transcript(&events).unwrap(), verified);
}

#[test]
fn nothing_may_be_missing_from_a_transcript() {
    let events = auction();
    for at in 0..events.len() {
        let mut less = events.clone();
        less.remove(at);
        assert!(matches!(verify_transcript(&less), Err(TranscriptError::Missing(_))), "without event {at}");
    }
}

#[test]
fn a_wrong_award_is_seen() {
    let events = auction();
    let all = envelopes(&events);
    let (call, set, reveals) = (&all[0], &all[4], &all[5..7]);
    let attempt = call.message().attempt();
    let with = |envelope: Envelope| {
        let mut changed = events.clone();
        changed[7] = envelope.event().clone();
        verify_transcript(&changed)
    };
    let price = settled(attempt);
    let other = with(award(attempt, call, set, reveals, keys(3).public_key(), price));
    assert_eq!(other, Err(TranscriptError::Winner { winner: keys(2).public_key() }));
    let cheap = with(award(attempt, call, set, reveals, keys(2).public_key(), Msat(500)));
    assert_eq!(cheap, Err(TranscriptError::Price { price }));
    // To leave the cheaper reveal out is no error that anybody could prove, and is seen.
    let left = with(award(attempt, call, set, &reveals[1..], keys(3).public_key(), Msat(900))).unwrap();
    assert_eq!(left.left_out, vec![keys(2).public_key()]);
    let mut second_set = events.clone();
    let Message::Set(mut entries) = set.message().clone() else { panic!() };
    entries.entries.pop();
    second_set.push(Envelope::sign(Message::Set(entries), &keys(1), 101).event().clone());
    assert_eq!(verify_transcript(&second_set), Err(TranscriptError::Two("set")));
    let foreign = Envelope::sign(all[7].message().clone(), &keys(9), 102);
    assert_eq!(with(foreign), Err(TranscriptError::Broken("award")));
}

#[test]
fn a_reveal_of_another_price_does_not_count() {
    let events = auction();
    let all = envelopes(&events);
    let Message::Reveal(reveal) = all[5].message().clone() else { panic!() };
    let changed = Envelope::sign(Message::Reveal(Reveal { price: Msat(499), ..reveal }), &keys(2), 101);
    let reveals = [changed.clone(), all[6].clone()];
    let award = award(all[0].message().attempt(), &all[0], &all[4], &reveals, keys(2).public_key(), Msat(900));
    let mut changed_events = events;
    changed_events[5] = changed.event().clone();
    changed_events[7] = award.event().clone();
    assert_eq!(verify_transcript(&changed_events), Err(TranscriptError::WrongReveal(changed.id())));
}

#[test]
fn more_than_a_message_may_hold_is_refused() {
    let attempt = Attempt { task: TaskId::from_bytes([7; 32]), epoch: Epoch(1) };
    let to = keys(2).public_key();
    let large = Cargo { attempt, to, index: 0, count: 1, digest: [0; 32], sealed: "x".repeat(MAX_MESSAGE) };
    let large = Envelope::sign(Message::Input(large), &keys(1), 1);
    assert!(matches!(Envelope::verified(large.event().clone()), Err(MessageError::TooLarge(_))));
    let many = (0..=u8::try_from(MAX_BIDDERS).unwrap()).map(|n| Entry {
        commitment: EventId::from_byte_array([n; 32]),
        bidder: keys(n + 1).public_key(),
        factor: Factor::MAX,
    });
    let mut entries: Vec<Entry> = many.collect();
    let set = |entries: &[Entry]| {
        let set = CommitmentSet { attempt, call: EventId::from_byte_array([0; 32]), entries: entries.to_vec() };
        Envelope::verified(Envelope::sign(Message::Set(set), &keys(1), 1).event().clone()).map(|_| ())
    };
    assert_eq!(set(&entries), Err(MessageError::TooMany("commitments")));
    entries.pop();
    assert_eq!(set(&entries), Ok(()));
    entries[1].bidder = entries[0].bidder;
    assert_eq!(set(&entries), Err(MessageError::Twice("c")));
}

#[test]
fn the_largest_part_fits_a_message() {
    let attempt = Attempt { task: TaskId::from_bytes([7; 32]), epoch: Epoch(u32::MAX) };
    let text = "x".repeat(nips::task::MAX_PAYLOAD);
    let (digest, parts) = split(&text).unwrap();
    let to = keys(2).public_key();
    let sealed = seal(&keys(1), &to, &attempt, parts[0]).unwrap();
    let part = Cargo { attempt, to, index: 0, count: u16::try_from(parts.len()).unwrap(), digest, sealed };
    let event = Envelope::sign(Message::Result(part), &keys(1), 1).event().clone();
    let size = event.as_json().len();
    assert!(size <= MAX_MESSAGE, "{size} bytes");
    assert!(Envelope::verified(event).is_ok());
    assert!(split(&"x".repeat(nips::task::MAX_PAYLOAD + 1)).is_none());
}

#[test]
fn a_part_opens_for_its_reader_alone() {
    let attempt = Attempt { task: TaskId::from_bytes([7; 32]), epoch: Epoch(1) };
    let sealed = seal(&keys(1), &keys(2).public_key(), &attempt, "secret").unwrap();
    assert_eq!(open(&keys(2), &keys(1).public_key(), &sealed).unwrap(), "secret");
    assert!(open(&keys(3), &keys(1).public_key(), &sealed).is_err());
    assert!(open(&keys(2), &keys(3).public_key(), &sealed).is_err());
    assert_eq!(seal(&keys(1), &keys(2).public_key(), &attempt, "secret").unwrap(), sealed);
    let next = Attempt { epoch: Epoch(2), ..attempt };
    assert_ne!(seal(&keys(1), &keys(2).public_key(), &next, "secret").unwrap()[..44], sealed[..44], "another nonce");
}

#[test]
fn a_label_comes_back_and_nobody_labels_themselves() {
    let label = Label {
        task: TaskId::from_bytes([7; 32]),
        subject: keys(2).public_key(),
        outcome: Outcome::Done,
        request: EventId::from_byte_array([1; 32]),
        result: Some(EventId::from_byte_array([2; 32])),
    };
    let event = label.to_event(keys(1).public_key(), 100).sign_with_keys(&keys(1)).unwrap();
    assert_eq!(Label::verified(&event), Ok((keys(1).public_key(), label.clone())));
    let own = label.to_event(keys(2).public_key(), 100).sign_with_keys(&keys(2)).unwrap();
    assert_eq!(Label::verified(&own), Err(LabelError::OwnLabel));
    let unproved = Label { result: None, ..label };
    let unproved = unproved.to_event(keys(1).public_key(), 100).sign_with_keys(&keys(1)).unwrap();
    assert_eq!(Label::verified(&unproved), Err(LabelError::Malformed("e")), "done without a result");
}

mod rank {
    use std::collections::BTreeSet;

    use nips::task::rank::{Heard, STEP_MS, Turn, rank, turn};

    use super::{JobId, PublicKey, keys};

    fn members() -> BTreeSet<PublicKey> {
        (1..=3).map(|n| keys(n).public_key()).collect()
    }

    fn job(n: u8) -> JobId {
        JobId::from_bytes([n; 32])
    }

    #[test]
    fn one_of_three_answers_each_of_200_broadcasts() {
        let members = members();
        let mut shares = [0; 3];
        for n in 0..200 {
            let turns: Vec<Turn> = members.iter().map(|me| turn(&job(n), me, &members, &Heard::default(), 0)).collect();
            assert_eq!(turns.iter().filter(|turn| **turn == Turn::Answer).count(), 1);
            shares[turns.iter().position(|turn| *turn == Turn::Answer).unwrap()] += 1;
            let mut ranks: Vec<u32> = members.iter().map(|me| rank(&job(n), me, &members).unwrap()).collect();
            ranks.sort_unstable();
            assert_eq!(ranks, [0, 1, 2]);
        }
        assert!(shares.iter().all(|share| *share > 30), "the work is shared: {shares:?}");
    }

    #[test]
    fn the_next_answers_when_nothing_was_heard_of_the_first() {
        let members = members();
        let by_rank = |n| *members.iter().find(|me| rank(&job(1), me, &members) == Some(n)).unwrap();
        let second = by_rank(1);
        let at = |waited, heard: Heard| turn(&job(1), &second, &members, &heard, waited);
        assert_eq!(at(500, Heard::default()), Turn::Wait { ms: STEP_MS - 500 });
        assert_eq!(at(STEP_MS, Heard::default()), Turn::Answer);
        let working = Heard { feedback: Some(by_rank(0)), result: false };
        assert_eq!(at(STEP_MS, working), Turn::Stand);
        assert_eq!(at(STEP_MS, Heard { result: true, ..working }), Turn::Never);
        // The first dies on it: among those that live the second is first.
        let mut alive = members.clone();
        alive.remove(&by_rank(0));
        assert_eq!(turn(&job(1), &second, &alive, &working, 0), Turn::Answer);
        assert_eq!(turn(&job(1), &by_rank(0), &alive, &Heard::default(), 0), Turn::Never);
    }
}
