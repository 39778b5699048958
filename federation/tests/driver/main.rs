//! The federation's loop with real sockets on loopback and a node around it that is a table.

#![allow(clippy::unwrap_used)]

mod world;

use federation::membership::Standing;
use federation::{FederationError, PeerState};
use nips::memory::{Change, DocumentId};
use nostr::{Event, Keys};
use world::{Node, are_members, until};

/// A change of the fleet's memory, whatever it says: gossip looks at the signature alone.
fn change(keys: &Keys, seq: u64) -> Event {
    let id = DocumentId::Page { space: nips::memory::Space::fleet(), name: "list".parse().unwrap(), generation: 0 };
    let actor = nips::memory::ActorId::new(&keys.public_key(), [1; 16]);
    Change::to_event(&id, &actor, seq, &[7; 32], b"bytes").sign_with_keys(keys).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_invitation_makes_a_member_that_hears_of_memory_and_is_found_again_after_a_restart() {
    let (a, b) = (Node::new().await, Node::new().await);
    assert!(a.federation.peers().await.unwrap().is_empty());
    let code = a.federation.invite(false).await.unwrap();
    assert_eq!(b.federation.join(&code.code).await.unwrap(), Standing::Sibling);
    are_members(&a, &b).await;
    until("a link for the memory on both sides", async || {
        [&a, &b].iter().all(|node| !node.house.linked.lock().unwrap().is_empty())
    })
    .await;
    assert!(a.federation.view().install(&b.house.install.public_key()).is_some());
    let told = change(&a.house.install, 1);
    until("gossip", async || {
        a.federation.gossip(told.clone()).await;
        b.house.heard.lock().unwrap().contains(&told)
    })
    .await;
    assert_eq!(b.house.heard.lock().unwrap().iter().filter(|event| **event == told).count(), 1, "once");
    let house = b.stop().await;
    until("a lost member", async || a.states().await.values().all(|state| *state == PeerState::Lost)).await;
    let b = Node::start(house).await;
    are_members(&a, &b).await;
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_is_good_once_and_says_what_is_wrong_with_it() {
    let (a, b, c) = (Node::new().await, Node::new().await, Node::new().await);
    let code = a.federation.invite(true).await.unwrap();
    assert_eq!(b.federation.join(&code.code).await.unwrap(), Standing::Guest);
    let used = c.federation.join(&code.code).await.unwrap_err().to_string();
    assert!(used.contains("used"), "{used}");
    let cut = c.federation.join(&code.code[..40]).await.unwrap_err().to_string();
    assert!(cut.contains("cut"), "{cut}");
    let refused = b.federation.invite(false).await.unwrap_err();
    assert!(matches!(refused, FederationError::Invite(_)), "{refused}");
    for node in [a, b, c] {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_learn_of_each_other_and_a_removed_one_is_out_everywhere() {
    let (a, b, c) = (Node::new().await, Node::new().await, Node::new().await);
    let code = a.federation.invite(false).await.unwrap();
    b.federation.join(&code.code).await.unwrap();
    a.federation.admin(b.npub()).await.unwrap();
    // The second node invites as soon as it knows that it may.
    let code = std::cell::RefCell::new(None);
    until("an admin", async || {
        let made = b.federation.invite(false).await.ok();
        let is_made = made.is_some();
        code.replace(made);
        is_made
    })
    .await;
    let code = code.take().unwrap();
    c.federation.join(&code.code).await.unwrap();
    are_members(&b, &c).await;
    are_members(&a, &c).await;
    a.federation.remove(c.npub()).await.unwrap();
    until("a removed one is out", async || {
        let is_out = |node: &Node| node.federation.view().install(&c.house.install.public_key()).is_none();
        is_out(&a) && is_out(&b)
    })
    .await;
    // New keys: what is said now is for those who belong.
    let secret = change(&a.house.install, 9);
    until("gossip under the new keys", async || {
        a.federation.gossip(secret.clone()).await;
        b.house.heard.lock().unwrap().contains(&secret)
    })
    .await;
    assert!(!c.house.heard.lock().unwrap().contains(&secret));
    for node in [a, b, c] {
        node.stop().await;
    }
}
