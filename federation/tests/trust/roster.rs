//! Who is behind an install key, by cards that come in any order and by hostile hands; and what trust costs.

use federation::handshake::KnownCards;
use federation::membership::{MAX_INSTALLS, Roster, Standing};
use nips::federation::{Act, Role};

use super::world::{NOW, Node, admit, card, keys, npub};

#[test]
fn cards_tell_whose_an_install_is_and_was() {
    let mut a = Node::new(1).found(None);
    let b = admit(&mut a, Node::new(2), Role::Guest);
    let restored = Node::with_install(2, 42);
    let mut roster = Roster::default();
    // The newer card first: the older one tells whose the former install was, and no more.
    assert!(roster.saw(&restored.me.card, a.log(), NOW));
    assert!(roster.saw(&b.me.card, a.log(), NOW));
    assert!(!roster.saw(&b.me.card, a.log(), NOW), "no news");
    let now = roster.by_install(a.log(), &restored.me.install).unwrap();
    let before = roster.by_install(a.log(), &b.me.install).unwrap();
    assert_eq!((now.npub, now.standing, now.is_newest), (npub(2), Standing::Guest, true));
    assert_eq!((before.npub, before.is_newest), (npub(2), false));
    assert!(roster.by_peer(a.log(), &restored.me.peer_id).is_some());
    assert!(roster.by_peer(a.log(), &b.me.peer_id).is_none());
    assert_eq!(roster.newest(&npub(2)).unwrap().install, restored.me.install);
    assert_eq!(roster.installs(a.log()), [(npub(2), restored.me.install)].into());
    // Removed: still known, as removed.
    assert!(a.act(&Act::Remove { node: npub(2) }));
    assert_eq!(roster.by_install(a.log(), &b.me.install).unwrap().standing, Standing::Removed { epoch: 2 });
    assert!(roster.installs(a.log()).is_empty());
}

#[test]
fn strangers_thieves_and_floods_change_nothing() {
    let mut a = Node::new(1).found(None);
    let b = admit(&mut a, Node::new(2), Role::Sibling);
    let mut roster = Roster::default();
    assert!(!roster.saw(&Node::new(9).me.card, a.log(), NOW), "the log does not know it");
    assert!(roster.saw(&b.me.card, a.log(), NOW));
    let mut forged = b.me.card.clone();
    forged.sig = a.me.card.sig;
    assert!(!roster.saw(&forged, a.log(), NOW));
    // A member that claims another's install key, which it can only with that key's signature: first come, first kept.
    let claim = card(&a.passport, &b.install, &a.transport, 99, NOW + 100);
    assert!(!roster.saw(&claim, a.log(), NOW));
    assert!(!roster.saw(&card(&b.passport, &b.install, &b.transport, 99, NOW), a.log(), NOW), "ended");
    // Sequence numbers without end: bounded, and the newest stays.
    for n in 10..60 {
        assert!(roster.saw(&Node::with_install(2, n).me.card, a.log(), NOW));
    }
    let known = (0..=60).filter(|n| roster.by_install(a.log(), &keys(2, *n).public_key()).is_some()).count();
    assert_eq!(known, MAX_INSTALLS);
    assert_eq!(roster.newest(&npub(2)).unwrap().install, keys(2, 59).public_key());
}
