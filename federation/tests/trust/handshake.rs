//! The first stream between nodes of one federation, of two, and of none.

use federation::handshake::{Effect, Handshake, Input, Refusal, TIMEOUT_MS};
use federation::keyring::Circle;
use federation::membership::Standing;
use nips::federation::{Act, Role};
use nostr::ToBech32;

use super::world::{NOW, Node, admit, card, meet, npub};

fn remove(n: u8) -> Act {
    Act::Remove { node: npub(n) }
}

/// Everything that tells who somebody is.
fn names(node: &Node) -> Vec<Vec<u8>> {
    let me = &node.me;
    let keys = [me.passport, me.install];
    let hex = keys.iter().map(|key| key.to_hex().into_bytes());
    let bech32 = keys.iter().map(|key| key.to_bech32().unwrap().into_bytes());
    let raw = keys.iter().map(|key| key.to_bytes().to_vec());
    let log = node.log.iter().map(|log| log.federation().to_string().into_bytes());
    hex.chain(bech32)
        .chain(raw)
        .chain(log)
        .chain([me.card.id.to_hex().into_bytes(), me.card.sig.to_string().into_bytes()])
        .collect()
}

fn assert_silent(frames: &[Vec<u8>], node: &Node) {
    for name in names(node) {
        for frame in frames {
            let found = frame.windows(name.len()).any(|part| part.eq_ignore_ascii_case(&name));
            assert!(!found, "{} in {}", String::from_utf8_lossy(&name), String::from_utf8_lossy(frame));
        }
    }
}

#[test]
fn two_siblings_meet() {
    let mut a = Node::new(1).found(None);
    let mut b = admit(&mut a, Node::new(2), Role::Sibling);
    for met in [meet(&mut a, &mut b), meet(&mut b, &mut a)] {
        let (x, y) = (met.dialer.unwrap().unwrap(), met.listener.unwrap().unwrap());
        assert_eq!((x.circle, y.circle, x.is_current), (Circle::Siblings, Circle::Siblings, true));
        assert!(!x.addresses.is_empty());
        assert_eq!(
            met.others
                .iter()
                .filter(|e| matches!(e, Effect::Entries(_) | Effect::Keys(_) | Effect::SealTo { .. }))
                .count(),
            0
        );
    }
    let met = meet(&mut b, &mut a);
    let peer = met.dialer.unwrap().unwrap();
    assert_eq!((peer.card.passport, peer.card.install, peer.standing), (a.npub(), a.me.install, Standing::Admin));
}

#[test]
fn a_guest_proves_the_guests_key_alone() {
    let mut a = Node::new(1).found(None);
    let mut guest = admit(&mut a, Node::new(2), Role::Guest);
    let mut sibling = admit(&mut a, Node::new(3), Role::Sibling);
    let met = meet(&mut guest, &mut a);
    let seen = met.listener.unwrap().unwrap();
    assert_eq!((seen.circle, seen.standing), (Circle::Everybody, Standing::Guest));
    // The guest has never heard of the third: what it brings tells.
    let met = meet(&mut sibling, &mut guest);
    assert_eq!(met.listener.unwrap().unwrap().standing, Standing::Sibling);
    assert_eq!(guest.log().members().len(), 3);
}

#[test]
fn a_stranger_learns_nothing() {
    let mut a = Node::new(1).found(None);
    let mut stranger = Node::new(2).found(None);
    let met = meet(&mut stranger, &mut a);
    assert_eq!(met.dialer, Some(Err(Refusal::Stranger)));
    assert_eq!(met.listener, Some(Err(Refusal::Stranger)));
    assert_silent(&met.by_listener, &a);
    assert_silent(&met.by_dialer, &stranger);
    assert_eq!(met.by_listener.last().unwrap(), br#"["NO","stranger"]"#);
    // Neither does one who is dialed: as many bytes whether there is one key or forty.
    let short = met.by_dialer.iter().map(Vec::len).collect::<Vec<_>>();
    for n in 10..30 {
        let gone = Node::new(n);
        assert!(stranger.act(&Act::Join { node: gone.npub(), role: Role::Guest, invitation: None }));
        assert!(stranger.act(&remove(n)));
    }
    let met = meet(&mut stranger, &mut a);
    assert_eq!(met.by_dialer.iter().map(Vec::len).collect::<Vec<_>>(), short);
    assert_silent(&met.by_dialer, &stranger);
}

#[test]
fn one_that_was_away_gets_what_it_missed_and_shows_its_card_first() {
    for is_dialer in [true, false] {
        let mut a = Node::new(1).found(None);
        let mut away = admit(&mut a, Node::new(2), Role::Sibling);
        let mut gone = admit(&mut a, Node::new(3), Role::Sibling);
        meet(&mut gone, &mut away);
        assert!(a.act(&remove(3)));
        let met = if is_dialer { meet(&mut away, &mut a) } else { meet(&mut a, &mut away) };
        let (of_away, of_a) = if is_dialer { (met.dialer, met.listener) } else { (met.listener, met.dialer) };
        assert!(of_away.unwrap().is_ok());
        assert!(!of_a.unwrap().unwrap().is_current, "it proved an older key");
        assert_eq!((away.log().epoch(), away.is_current()), (2, true));
        assert_eq!(away.standing(3), Standing::Removed { epoch: 2 });
        // The frame with a card that came first was the one of the node that was behind.
        let (first, other) =
            if is_dialer { (&met.by_dialer, &met.by_listener) } else { (&met.by_listener, &met.by_dialer) };
        let at = |frames: &[Vec<u8>]| frames.iter().position(|f| f.starts_with(b"[\"CARD\"")).unwrap();
        assert!(at(first) <= at(other) + usize::from(!is_dialer) && at(first) == 2);
        // The removed one is refused by both, whoever dials, and learns nothing from either.
        for node in [&mut a, &mut away] {
            let met = meet(&mut gone, node);
            assert_eq!((met.dialer, met.listener), (Some(Err(Refusal::Removed)), Some(Err(Refusal::Removed))));
            assert_silent(&met.by_listener, node);
            let met = meet(node, &mut gone);
            assert_eq!((met.dialer, met.listener), (Some(Err(Refusal::Removed)), Some(Err(Refusal::Removed))));
            assert_silent(&met.by_dialer, node);
        }
        assert_eq!((gone.log().epoch(), gone.keyring.newest()), (1, Some(1)));
    }
}

#[test]
fn a_removal_known_before_its_keys_is_enough_to_refuse() {
    let mut a = Node::new(1).found(None);
    let mut b = admit(&mut a, Node::new(2), Role::Sibling);
    let mut gone = admit(&mut a, Node::new(3), Role::Sibling);
    assert!(a.act(&remove(3)));
    // The entry came by another way, and the keys not yet.
    for entry in a.log().missing_for(&b.log().heads()) {
        b.log_mut().take(&entry).unwrap();
    }
    assert!(!b.is_current());
    let met = meet(&mut gone, &mut b);
    assert_eq!(met.listener, Some(Err(Refusal::Removed)));
    assert_silent(&met.by_listener, &b);
    let met = meet(&mut b, &mut gone);
    assert_eq!(met.dialer, Some(Err(Refusal::Removed)));
    assert_silent(&met.by_dialer, &b);
}

#[test]
fn a_new_member_is_let_in_by_one_that_has_not_heard_of_it() {
    let mut a = Node::new(1).found(None);
    let mut b = admit(&mut a, Node::new(2), Role::Sibling);
    let mut newcomer = admit(&mut a, Node::new(3), Role::Sibling);
    assert_eq!(b.standing(3), Standing::Unknown);
    let met = meet(&mut newcomer, &mut b);
    assert_eq!(met.listener.unwrap().unwrap().standing, Standing::Sibling);
    assert_eq!(b.standing(3), Standing::Sibling);
    // One who has the key and no entry anywhere is refused.
    let mut thief = Node::new(4);
    thief.log = Some(b.log().clone());
    thief.keyring = b.keyring.clone();
    assert_eq!(meet(&mut thief, &mut b).listener, Some(Err(Refusal::Unknown)));
}

#[test]
fn two_removals_made_apart_meet() {
    let mut a = Node::new(1).found(None);
    let mut b = admit(&mut a, Node::new(2), Role::Sibling);
    assert!(a.act(&Act::Admin { node: npub(2) }));
    meet(&mut a, &mut b);
    let mut x = admit(&mut a, Node::new(3), Role::Sibling);
    let mut y = admit(&mut a, Node::new(4), Role::Sibling);
    for (one, other) in [(1, 2), (1, 3), (2, 3)] {
        let _ = (one, other);
        meet(&mut x, &mut b);
        meet(&mut y, &mut b);
    }
    assert!(a.act(&remove(3)) && b.act(&remove(4)));
    let met = meet(&mut a, &mut b);
    assert!(met.dialer.unwrap().is_ok() && met.listener.unwrap().is_ok());
    assert_eq!((a.log().terms(), a.log().epoch()), (b.log().terms(), 3));
    // Neither's keys are the keys of what follows: 3 knows b's, 4 knows a's.
    assert!(!a.is_current() && !b.is_current());
    assert!(federation::keyring::turn_ms(a.log(), &a.keyring, &a.npub()).is_some());
    a.rekey();
    meet(&mut b, &mut a);
    assert!(b.is_current());
    for gone in [&mut x, &mut y] {
        assert_eq!(meet(gone, &mut b).dialer, Some(Err(Refusal::Removed)));
        assert!(gone.keyring.newest().unwrap() < 3);
    }
}

#[test]
fn a_restored_install_gets_keys_sealed_anew() {
    let mut a = Node::new(1).found(None);
    let mut b = admit(&mut a, Node::new(2), Role::Sibling);
    let mut third = admit(&mut a, Node::new(3), Role::Guest);
    meet(&mut b, &mut a);
    assert!(a.act(&remove(3)));
    // Restored: the same passport and what the backup held, another install.
    let mut restored = Node::with_install(2, 42);
    restored.log = Some(b.log().clone());
    restored.keyring = b.keyring.clone();
    let met = meet(&mut restored, &mut a);
    assert!(met.listener.unwrap().is_ok());
    assert!(met.others.contains(&Effect::SealTo { install: restored.me.install, role: Role::Sibling }));
    assert!(!restored.is_current());
    meet(&mut restored, &mut a);
    assert!(restored.is_current());
    // The older install is superseded from now on.
    assert_eq!(meet(&mut b, &mut a).listener, Some(Err(Refusal::Superseded)));
    assert_eq!(meet(&mut third, &mut a).listener, Some(Err(Refusal::Removed)));
    // And two copies that meet say so.
    let met = meet(&mut restored, &mut b);
    assert_eq!((met.dialer, met.listener), (Some(Err(Refusal::Twin)), Some(Err(Refusal::Twin))));
    assert!(met.others.iter().any(|effect| matches!(effect, Effect::Twin(card) if card.passport == npub(2))));
}

#[test]
fn a_guest_that_becomes_a_sibling_gets_the_siblings_key() {
    let mut a = Node::new(1).found(None);
    let mut b = admit(&mut a, Node::new(2), Role::Guest);
    assert!(a.act(&Act::Join { node: npub(2), role: Role::Sibling, invitation: None }));
    meet(&mut b, &mut a);
    let met = meet(&mut a, &mut b);
    assert_eq!(met.dialer.unwrap().unwrap().circle, Circle::Everybody);
    let met = meet(&mut a, &mut b);
    assert_eq!(met.dialer.unwrap().unwrap().circle, Circle::Siblings);
}

#[test]
fn cards_that_are_not_good_are_refused() {
    let mut a = Node::new(1).found(None);
    let mut b = admit(&mut a, Node::new(2), Role::Sibling);
    let good = b.me.card.clone();
    let other = libp2p::identity::Keypair::ed25519_from_bytes([9; 32]).unwrap();
    let ended = card(&b.passport, &b.install, &b.transport, 3, NOW);
    let elsewhere = card(&b.passport, &b.install, &other, 3, NOW + 100);
    let older = card(&b.passport, &b.install, &b.transport, 1, NOW + 100);
    let mut forged = good.clone();
    forged.sig = a.me.card.sig;
    let cases =
        [(ended, Refusal::Card), (elsewhere, Refusal::Card), (forged, Refusal::Card), (older, Refusal::Superseded)];
    for (card, refusal) in cases.into_iter().chain([(a.me.card.clone(), Refusal::Card)]) {
        b.me.card = card;
        let met = meet(&mut b, &mut a);
        assert_eq!(met.listener, Some(Err(refusal)));
        assert_silent(&met.by_listener, &a);
    }
    b.me.card = good;
    assert!(meet(&mut b, &mut a).listener.unwrap().is_ok());
}

#[test]
fn silence_ends_it() {
    let a = Node::new(1).found(None);
    let mut machine = Handshake::listen(Node::new(2).me.peer_id, [0; 64], 5);
    assert_eq!(machine.deadline_ms(), 5 + TIMEOUT_MS);
    assert!(a.step(&mut machine, &Input::Tick, TIMEOUT_MS).is_empty());
    assert_eq!(a.step(&mut machine, &Input::Tick, 5 + TIMEOUT_MS), [Effect::Refused(Refusal::Timeout)]);
    assert!(machine.is_over() && a.step(&mut machine, &Input::Tick, u64::MAX).is_empty());
}
