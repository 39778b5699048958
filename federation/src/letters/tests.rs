//! Once in, and out until somebody has it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use nostr::secp256k1::rand::rngs::StdRng;
use nostr::secp256k1::rand::{Rng, SeedableRng};
use nostr::{Event, EventBuilder, EventId, JsonUtil, Keys, Kind, Timestamp};
use proptest::prelude::*;

use super::*;

const NOW: u64 = 1_800_000_000;

fn keys(n: u8) -> Keys {
    Keys::parse(&hex::encode([n; 32])).unwrap()
}

fn envelope(text: &str, kind: u16, at: u64) -> Event {
    let builder = EventBuilder::new(Kind::from_u16(kind), text).custom_created_at(Timestamp::from_secs(at));
    builder.sign_with_keys(&keys(1)).unwrap()
}

fn badly_signed(event: &Event) -> Event {
    let mut json: serde_json::Value = serde_json::from_str(&event.as_json()).unwrap();
    json["sig"] = serde_json::Value::String("11".repeat(64));
    Event::from_json(json.to_string()).unwrap()
}

fn item(n: u64, urgency: Urgency) -> Item {
    let envelope = envelope(&format!("{n}"), 9767, NOW);
    Item { to: keys(2).public_key(), envelope, urgency, expires_at: NOW + 3600 }
}

#[test]
fn a_badly_signed_copy_that_comes_first_suppresses_nothing() {
    let mut inbox = Inbox::default();
    let real = envelope("award", 9765, NOW);
    let bad = badly_signed(&real);
    assert_eq!(bad.id, real.id);
    assert_eq!(inbox.take(&bad, NOW), Err(Dropped::Signature));
    assert_eq!(inbox.take(&real, NOW), Ok(()));
    assert_eq!(inbox.take(&real, NOW), Err(Dropped::Known));
    assert_eq!(inbox.take(&bad, NOW), Err(Dropped::Known));
    assert_eq!(inbox.take(&envelope("hi", 1, NOW), NOW), Err(Dropped::Kind(1)));
    let sent = envelope("mine", 9761, NOW);
    inbox.sent(sent.id, NOW);
    assert_eq!(inbox.take(&sent, NOW), Err(Dropped::Known));
}

#[test]
fn dates_are_bounded_where_twice_would_matter() {
    let mut inbox = Inbox::default();
    let old = NOW - MAX_AGE_S - 1;
    assert_eq!(inbox.take(&envelope("result", 9769, old), NOW), Err(Dropped::Date));
    assert_eq!(inbox.take(&envelope("change", 9760, old), NOW), Ok(()));
    assert_eq!(inbox.take(&envelope("later", 9761, NOW + MAX_AHEAD_S + 1), NOW), Err(Dropped::Date));
    // Nothing is forgotten while it could come again: what was taken at once is too old when it is forgotten.
    let early = envelope("early", 9769, NOW + MAX_AHEAD_S);
    assert_eq!(inbox.take(&early, NOW), Ok(()));
    for day in 0..20 {
        assert!(inbox.take(&early, NOW + day * 86_400).is_err(), "day {day}");
    }
    assert!(inbox.is_empty());
}

#[test]
fn memory_of_envelopes_is_bounded() {
    let mut inbox = Inbox::default();
    for n in 0..MAX_REMEMBERED + 10 {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&n.to_be_bytes());
        inbox.sent(EventId::from_byte_array(id), NOW);
    }
    assert_eq!(inbox.len(), MAX_REMEMBERED);
}

#[test]
fn nothing_is_sent_before_it_is_written_down() {
    let mut outbox = Outbox::default();
    let to = keys(2).public_key();
    outbox.handle(Input::Reach { peer: to, reach: Reach { lan: true, relay: true } }, 0, NOW);
    let item = item(1, Urgency::Sure);
    let id = item.envelope.id;
    assert_eq!(outbox.put(item.clone(), NOW).unwrap(), [Effect::Journal(Box::new(item.clone()))]);
    assert!(outbox.put(item.clone(), NOW).unwrap().is_empty());
    assert!(outbox.handle(Input::Tick, 60_000, NOW).is_empty());
    let sent = outbox.handle(Input::Journaled { to, id }, 60_000, NOW);
    assert!(matches!(sent.as_slice(), [Effect::Lan { .. }, Effect::Letter { .. }]), "both for what must arrive");
    assert_eq!(outbox.handle(Input::Receipt { from: to, ids: vec![id] }, 60_000, NOW), [Effect::Forget { to, id }]);
    assert_eq!(outbox.waiting_for(&to), 0);
    // After a restart everything is tried again.
    let mut outbox = Outbox::restore([item]);
    let sent = outbox.handle(Input::Reach { peer: to, reach: Reach { lan: false, relay: true } }, 0, NOW);
    assert!(matches!(sent.as_slice(), [Effect::Letter { .. }]));
}

#[test]
fn the_usual_goes_one_way_and_the_other_when_nothing_is_heard() {
    let mut outbox = Outbox::default();
    let to = keys(2).public_key();
    let item = item(1, Urgency::Usual);
    let id = item.envelope.id;
    outbox.put(item, NOW).unwrap();
    assert!(outbox.handle(Input::Journaled { to, id }, 0, NOW).is_empty(), "not reached");
    let sent = outbox.handle(Input::Reach { peer: to, reach: Reach { lan: true, relay: true } }, 10, NOW);
    assert!(matches!(sent.as_slice(), [Effect::Lan { .. }]));
    assert!(outbox.handle(Input::Tick, RECEIPT_MS + 9, NOW).is_empty());
    let sent = outbox.handle(Input::Tick, RECEIPT_MS + 10, NOW);
    assert!(matches!(sent.as_slice(), [Effect::Letter { .. }]));
    assert!(outbox.handle(Input::Tick, 10_000, NOW).is_empty(), "the relays' word is awaited");
    assert!(outbox.handle(Input::Letter { to, id, is_taken: false }, 10_000, NOW).is_empty());
    assert!(outbox.handle(Input::Tick, 10_999, NOW).is_empty());
    assert_eq!(outbox.handle(Input::Tick, 11_000, NOW).len(), 1);
    // A receipt of somebody else counts for nothing.
    assert!(outbox.handle(Input::Receipt { from: keys(3).public_key(), ids: vec![id] }, 11_000, NOW).is_empty());
    assert_eq!(outbox.handle(Input::Letter { to, id, is_taken: true }, 11_000, NOW), [Effect::Forget { to, id }]);
}

#[test]
fn queues_are_bounded_and_end() {
    let mut outbox = Outbox::default();
    let to = keys(2).public_key();
    for n in 0..MAX_WAITING_FOR_ONE {
        outbox.put(item(u64::try_from(n).unwrap(), Urgency::Usual), NOW).unwrap();
    }
    assert_eq!(outbox.put(item(9_999, Urgency::Usual), NOW), Err(Rejected::Full));
    assert_eq!(outbox.put(Item { expires_at: NOW, ..item(9_999, Urgency::Usual) }, NOW), Err(Rejected::Expired));
    assert_eq!(outbox.handle(Input::Tick, 0, NOW + 3600).len(), MAX_WAITING_FOR_ONE);
    outbox.put(Item { expires_at: NOW + 9_000, ..item(1, Urgency::Usual) }, NOW).unwrap();
    assert_eq!(outbox.handle(Input::Gone(to), 0, NOW).len(), 1);
    assert_eq!(outbox.waiting_for(&to), 0);
}

/// A sender, a receiver, and two carriers between them that lose everything while they are down.
struct Line {
    outbox: Outbox,
    inbox: Inbox,
    rng: StdRng,
    wire: VecDeque<(u64, Effect)>,
    arrived: BTreeMap<EventId, usize>,
    lan_up: bool,
    relay_up: bool,
    step: u64,
}

impl Line {
    fn new(seed: u64) -> Self {
        let rng = StdRng::seed_from_u64(seed);
        let (outbox, inbox) = (Outbox::default(), Inbox::default());
        let (wire, arrived) = (VecDeque::new(), BTreeMap::new());
        Self { outbox, inbox, rng, wire, arrived, lan_up: true, relay_up: true, step: 0 }
    }

    fn input(&mut self, input: Input) {
        let effects = self.outbox.handle(input, self.step * 20, NOW);
        self.carry_out(effects);
    }

    fn reach(&mut self, lan: bool) {
        self.input(Input::Reach { peer: keys(2).public_key(), reach: Reach { lan, relay: true } });
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Journal(item) => self.input(Input::Journaled { to: item.to, id: item.envelope.id }),
                Effect::Forget { .. } => {}
                sent @ (Effect::Lan { .. } | Effect::Letter { .. }) => {
                    self.wire.push_back((self.step + self.rng.gen_range(1..10), sent));
                }
            }
        }
    }

    /// Delivers what is due.
    fn deliver(&mut self) {
        let (due, later): (Vec<_>, Vec<_>) = self.wire.drain(..).partition(|(at, _)| *at <= self.step);
        self.wire.extend(later);
        for (_, effect) in due {
            match effect {
                Effect::Lan { to, envelope } => {
                    self.take(&envelope, self.lan_up);
                    // Receipts are lost too.
                    if self.lan_up && self.rng.gen_ratio(9, 10) {
                        self.input(Input::Receipt { from: to, ids: vec![envelope.id] });
                    }
                }
                Effect::Letter { to, envelope, .. } => {
                    self.take(&envelope, self.relay_up);
                    self.input(Input::Letter { to, id: envelope.id, is_taken: self.relay_up });
                }
                Effect::Journal(_) | Effect::Forget { .. } => {}
            }
        }
    }

    fn take(&mut self, envelope: &Event, is_up: bool) {
        if is_up && self.inbox.take(envelope, NOW).is_ok() {
            *self.arrived.entry(envelope.id).or_default() += 1;
        }
    }
}

/// Each carrier is cut in turn, unnoticed at first. All arrive, and each is let through once.
#[test]
fn a_thousand_envelopes_with_each_carrier_cut_in_turn() {
    for seed in 0..5_u64 {
        let mut line = Line::new(seed);
        let mut all = BTreeSet::new();
        line.reach(true);
        while line.step < 4_000 && (line.step < 1_000 || line.outbox.waiting_for(&keys(2).public_key()) > 0) {
            match line.step {
                200 => line.lan_up = false,
                // Seconds later the death of the connection is noticed.
                350 => line.reach(false),
                500 => {
                    line.lan_up = true;
                    line.reach(true);
                }
                600 => line.relay_up = false,
                900 => line.relay_up = true,
                _ => {}
            }
            if line.step < 1_000 {
                let urgency = if line.step.is_multiple_of(7) { Urgency::Sure } else { Urgency::Usual };
                let item = item(line.step, urgency);
                all.insert(item.envelope.id);
                let effects = line.outbox.put(item, NOW).unwrap();
                line.carry_out(effects);
            }
            line.input(Input::Tick);
            line.deliver();
            line.step += 1;
        }
        assert_eq!(line.outbox.waiting_for(&keys(2).public_key()), 0, "seed {seed}");
        assert_eq!(line.arrived.keys().copied().collect::<BTreeSet<_>>(), all, "seed {seed}");
        assert!(line.arrived.values().all(|times| *times == 1), "seed {seed}");
    }
}

proptest! {
    #[test]
    fn receipts_come_back_and_no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), count in 0..300usize) {
        let _ = receipt_ids(&bytes);
        let ids: Vec<EventId> = (0..count).map(|n| EventId::from_byte_array([u8::try_from(n % 256).unwrap(); 32])).collect();
        let read = receipt_ids(&receipt(&ids)).unwrap();
        prop_assert_eq!(read.len(), count.min(MAX_RECEIPT));
        prop_assert_eq!(read.as_slice(), &ids[..count.min(MAX_RECEIPT)]);
    }
}
