//! Keys: circles, epochs, tags, files; and sealed ones on their way.

use nips::federation::{Act, EpochKey, EpochSecrets, Opened, Role, Terms};
use nostr::secp256k1::rand::SeedableRng;
use nostr::secp256k1::rand::rngs::StdRng;
use nostr::{Event, Keys};
use proptest::prelude::*;

use super::{Circle, Keyring, KeyringError, MAX_KEPT, MAX_OF_EPOCH, SealedError, SealedKeys};
use crate::membership::Log;

fn keys(n: u8) -> Keys {
    Keys::parse(&hex::encode([n; 32])).unwrap()
}

fn log() -> Log {
    let event = Log::founding("home", None, keys(1).public_key(), 1).sign_with_keys(&keys(1)).unwrap();
    let mut log = Log::found(&event).unwrap();
    for (n, role) in [(2, Role::Sibling), (3, Role::Guest), (4, Role::Sibling)] {
        act(&mut log, 1, &Act::Join { node: keys(n).public_key(), role, invitation: None });
    }
    act(&mut log, 1, &Act::Admin { node: keys(4).public_key() });
    log
}

fn act(log: &mut Log, by: u8, act: &Act) {
    let event = log.draft(act, keys(by).public_key(), 2).unwrap().sign_with_keys(&keys(by)).unwrap();
    log.take(&event).unwrap();
}

fn opened(terms: Terms, n: u8) -> Opened {
    Opened { terms, secrets: EpochSecrets::new(&[n; 64]) }
}

fn distinct(n: u8) -> EpochSecrets {
    let mut bytes = [n; 64];
    bytes[..32].fill(n ^ 0x80);
    EpochSecrets::new(&bytes)
}

fn sealed(by: u8, terms: Terms, secrets: &EpochSecrets, to: &[(nostr::PublicKey, Role)]) -> Event {
    let mut rng = StdRng::seed_from_u64(7);
    let event = EpochKey::seal(&terms, secrets, to, keys(by).public_key(), 3, &keys(99), &mut rng).unwrap();
    event.sign_with_keys(&keys(by)).unwrap()
}

#[test]
fn a_guest_opens_tasks_and_not_memory() {
    let terms = log().terms();
    let secrets = distinct(7);
    let (mut sibling, mut guest) = (Keyring::default(), Keyring::default());
    assert!(sibling.add(&Opened { terms, secrets: secrets.clone() }));
    assert!(guest.add(&Opened { terms, secrets: secrets.for_guest() }));
    let tasks = sibling.seal(&terms, Circle::Everybody, "tasks", b"call", &[1; 24]).unwrap();
    let memory = sibling.seal(&terms, Circle::Siblings, "memory", b"change", &[2; 24]).unwrap();
    assert_eq!(guest.open(&terms, Circle::Everybody, "tasks", &tasks).unwrap(), b"call");
    assert_eq!(sibling.open(&terms, Circle::Siblings, "memory", &memory).unwrap(), b"change");
    assert_eq!(guest.open(&terms, Circle::Siblings, "memory", &memory), Err(KeyringError::Sealed));
    assert_eq!(guest.open(&terms, Circle::Everybody, "memory", &memory), Err(KeyringError::Sealed));
    assert_eq!(guest.seal(&terms, Circle::Siblings, "memory", b"x", &[3; 24]), Err(KeyringError::NoKey));
    // Bound to its topic, and to each byte.
    assert_eq!(sibling.open(&terms, Circle::Everybody, "other", &tasks), Err(KeyringError::Sealed));
    for at in 0..tasks.len() {
        let mut bad = tasks.clone();
        bad[at] ^= 1;
        assert!(sibling.open(&terms, Circle::Everybody, "tasks", &bad).is_err(), "byte {at}");
        assert!(sibling.open(&terms, Circle::Everybody, "tasks", &tasks[..at]).is_err());
    }
    assert!(!guest.is_empty() && guest.add(&Opened { terms, secrets }), "the siblings' key comes later");
    assert_eq!(guest.open(&terms, Circle::Siblings, "memory", &memory).unwrap(), b"change");
}

#[test]
fn a_removal_known_stops_the_old_key_at_once() {
    let mut log = log();
    let old = log.terms();
    let mut ring = Keyring::default();
    ring.add(&opened(old, 1));
    let before = ring.seal(&old, Circle::Everybody, "tasks", b"x", &[0; 24]).unwrap();
    act(&mut log, 1, &Act::Remove { node: keys(2).public_key() });
    let new = log.terms();
    assert!(!ring.is_current(&new));
    assert_eq!(ring.seal(&new, Circle::Everybody, "tasks", b"x", &[0; 24]), Err(KeyringError::NoKey));
    assert_eq!(ring.open(&new, Circle::Everybody, "tasks", &before).unwrap(), b"x", "one epoch back is understood");
    ring.add(&opened(new, 2));
    let now = ring.seal(&new, Circle::Everybody, "tasks", b"y", &[0; 24]).unwrap();
    assert_eq!(ring.open(&new, Circle::Everybody, "tasks", &now).unwrap(), b"y");
    assert_eq!(ring.open(&old, Circle::Everybody, "tasks", &now), Err(KeyringError::Epoch(2)));
    act(&mut log, 1, &Act::Remove { node: keys(3).public_key() });
    assert_eq!(ring.open(&log.terms(), Circle::Everybody, "tasks", &before), Err(KeyringError::Epoch(1)));
}

#[test]
fn tags_are_blind_and_change_by_day_and_epoch() {
    let mut log = log();
    let mut ring = Keyring::default();
    ring.add(&Opened { terms: log.terms(), secrets: distinct(1) });
    let tags = ring.tags(&log.terms(), 20_000);
    assert_eq!(tags.len(), 2);
    assert_eq!(
        tags.iter().map(|t| ring.knows(t, 20_000)).collect::<Vec<_>>(),
        [Some(Circle::Siblings), Some(Circle::Everybody)]
    );
    assert!(ring.knows(&tags[0], 20_001).is_some() && ring.knows(&tags[0], 19_999).is_some());
    assert!(ring.knows(&tags[0], 20_002).is_none());
    assert!(ring.knows(&[0; 16], 20_000).is_none());
    let mut guest = Keyring::default();
    guest.add(&Opened { terms: log.terms(), secrets: distinct(1).for_guest() });
    assert_eq!((guest.knows(&tags[0], 20_000), guest.knows(&tags[1], 20_000)), (None, Some(Circle::Everybody)));
    // After a removal the old tag is known for one epoch more.
    for (round, is_known) in [(3, true), (2, false)] {
        act(&mut log, 1, &Act::Remove { node: keys(round).public_key() });
        ring.add(&Opened { terms: log.terms(), secrets: distinct(round) });
        assert!(!ring.tags(&log.terms(), 20_000).contains(&tags[0]));
        assert_eq!(ring.knows(&tags[0], 20_000).is_some(), is_known);
    }
}

#[test]
fn files_come_back_and_damage_is_an_error() {
    let mut ring = Keyring::default();
    let base = log().terms();
    for epoch in 1..=40 {
        ring.add(&opened(Terms { epoch, ..base }, u8::try_from(epoch).unwrap()));
    }
    ring.add(&Opened { terms: Terms { epoch: 41, ..base }, secrets: distinct(9).for_guest() });
    assert_eq!((ring.len(), ring.newest()), (MAX_KEPT, Some(41)));
    let bytes = ring.to_bytes();
    let back = Keyring::from_bytes(&bytes).unwrap();
    assert_eq!(back.to_bytes(), bytes);
    for at in 0..bytes.len() {
        let mut bad = bytes.to_vec();
        bad[at] ^= 4;
        assert!(Keyring::from_bytes(&bad).is_err_and(|e| e == KeyringError::Damaged));
        assert!(Keyring::from_bytes(&bytes[..at]).is_err());
    }
    // Many keys of one epoch do not push out the others.
    for n in 0..20 {
        ring.add(&opened(Terms { epoch: 41, ..base }, 100 + n));
    }
    assert_eq!(
        ring.keys()
            .filter(|(terms, ..)| terms.epoch == 41)
            .map(|(_, c, _)| c)
            .filter(|c| *c == Circle::Everybody)
            .count(),
        MAX_OF_EPOCH
    );
    assert_eq!(ring.len(), MAX_KEPT);
}

#[test]
fn sealed_keys_are_an_admin_s_and_open_for_members_alone() {
    let mut log = log();
    act(&mut log, 1, &Act::Remove { node: keys(2).public_key() });
    let secrets = distinct(5);
    let event = sealed(1, log.terms(), &secrets, &log.recipients());
    let mut kept = SealedKeys::default();
    assert!(kept.take(&event, &log, &keys(4)).unwrap().unwrap().secrets == secrets);
    assert!(kept.take(&event, &log, &keys(3)).unwrap().unwrap().secrets == secrets.for_guest());
    assert!(kept.take(&event, &log, &keys(2)).unwrap().is_none(), "nothing for the removed one");
    assert_eq!(kept.events().count(), 1);
    assert_eq!(kept.for_member(&[keys(3).public_key()], 1).len(), 1);
    assert_eq!(
        kept.for_member(&[keys(2).public_key()], 1).len() + kept.for_member(&[keys(3).public_key()], 3).len(),
        0
    );
    // A guest, a stranger and the removed make none; nor does an admin for an epoch after its own removal.
    for n in [3, 8, 2] {
        let event = sealed(n, log.terms(), &secrets, &log.recipients());
        assert!(matches!(kept.take(&event, &log, &keys(4)), Err(SealedError::Author { .. })), "{n}");
    }
    let early = sealed(4, log.terms(), &secrets, &log.recipients());
    act(&mut log, 1, &Act::Remove { node: keys(4).public_key() });
    let late = sealed(4, log.terms(), &secrets, &log.recipients());
    assert!(kept.take(&early, &log, &keys(3)).is_ok());
    assert!(matches!(kept.take(&late, &log, &keys(3)), Err(SealedError::Author { .. })));
    let far = sealed(1, Terms { epoch: 1000, ..log.terms() }, &secrets, &log.recipients());
    assert_eq!(kept.take(&far, &log, &keys(3)).err(), Some(SealedError::Ahead(1000)));
}

#[test]
fn keys_other_than_those_named_are_refused() {
    let log = log();
    let event = sealed(1, log.terms(), &distinct(5), &log.recipients());
    let other = sealed(1, log.terms(), &distinct(6), &log.recipients());
    // The tags of one, the seals of the other: an admin that gives each member another key.
    let mixed = nostr::EventBuilder::new(event.kind, other.content).tags(event.tags.to_vec());
    let mixed = mixed.sign_with_keys(&keys(1)).unwrap();
    assert!(matches!(SealedKeys::default().take(&mixed, &log, &keys(4)), Err(SealedError::Envelope(_))));
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let log = log();
        let mut ring = Keyring::default();
        ring.add(&opened(log.terms(), 1));
        prop_assert!(ring.open(&log.terms(), Circle::Everybody, "tasks", &bytes).is_err());
        prop_assert!(Keyring::from_bytes(&bytes).is_err());
    }
}
