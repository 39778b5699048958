//! The federation's loop with real sockets on loopback and a node around it that is a table.

#![allow(clippy::unwrap_used)]

mod world;

use federation::auction::Figures;
use federation::membership::Standing;
use federation::tasks::{Lapse, Reach, Submission};
use federation::{FederationError, PeerState, TaskEnd};
use nips::memory::{Change, DocumentId};
use nips::task::{Ability, AudienceClass, TaskId, verify_transcript};
use nips::{Audience, Msat};
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
    // It ends while the connection stays: another one takes its place.
    b.house.linked.lock().unwrap().clear();
    let mut old = std::mem::take(&mut *a.house.linked.lock().unwrap());
    for one in &mut old {
        let read = tokio::io::AsyncReadExt::read(&mut one.stream, &mut [0]).await;
        assert!(!matches!(read, Ok(1..)), "nobody wrote anything");
    }
    drop(old);
    until("a new link on both sides", async || {
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

fn submission(task: [u8; 32]) -> Submission {
    Submission {
        task: TaskId::from_bytes(task),
        ability: Ability::of_kind(5000).unwrap(),
        audience: Audience::Owner,
        input: "something to work on".to_owned(),
        guests: false,
        only: None,
        reach: Reach::Lan,
        may_self: false,
        expires_at: None,
        publish: true,
    }
}

async fn pair() -> (Node, Node) {
    let (a, b) = (Node::new().await, Node::new().await);
    let code = a.federation.invite(false).await.unwrap();
    b.federation.join(&code.code).await.unwrap();
    are_members(&a, &b).await;
    until("who can do what", async || a.federation.view().able(5000, AudienceClass::Stranger).contains(&b.npub()))
        .await;
    (a, b)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_is_auctioned_done_by_the_other_and_labelled_and_all_know_how_it_went() {
    let (a, b) = pair().await;
    *a.house.figures.lock().unwrap() = None;
    let task = submission([7; 32]);
    a.federation.submit(task.clone()).await.unwrap();
    until("a worker begins", async || !b.house.executions.lock().unwrap().is_empty()).await;
    let work = b.house.executions.lock().unwrap()[0].clone();
    assert_eq!(work.what.input, "something to work on");
    b.federation.worked(work.work, Ok("done".to_owned())).await;
    until("a result", async || !a.house.ended.lock().unwrap().is_empty()).await;
    let ended = a.house.ended.lock().unwrap()[0].clone();
    let TaskEnd::Done(done) = ended else { panic!("{ended:?}") };
    assert_eq!((done.output.as_str(), done.executed_by), ("done", b.npub()));
    a.federation.settled(task.task).await;
    for node in [&a, &b] {
        until("the transcript", async || !node.federation.transcript(task.task).await.unwrap().is_empty()).await;
        let transcript = node.federation.transcript(task.task).await.unwrap();
        let verified = verify_transcript(&transcript).unwrap();
        assert_eq!((verified.winner, Some(verified.price)), (b.house.install.public_key(), done.price));
    }
    until("a label", async || !a.house.published.lock().unwrap().is_empty()).await;
    // What others say of it is known to both: to the requester, and by gossip to the one it is about.
    let of_b = async |node: &Node| {
        let peers = node.federation.peers().await.unwrap();
        peers.into_iter().find(|peer| peer.passport == Some(b.npub())).and_then(|peer| peer.reputation)
    };
    assert_eq!(of_b(&a).await.map(|record| record.done), Some(1));
    // A third that comes later learns it as well.
    let c = Node::new().await;
    let code = a.federation.invite(false).await.unwrap();
    c.federation.join(&code.code).await.unwrap();
    are_members(&a, &c).await;
    until("the newcomer knows the label", async || of_b(&c).await.is_some_and(|record| record.done == 1)).await;
    // The transcript outlives a restart of the requester.
    let house = a.stop().await;
    let a = Node::start(house).await;
    assert!(verify_transcript(&a.federation.transcript(task.task).await.unwrap()).is_ok());
    assert_eq!(a.house.ended.lock().unwrap().len(), 1, "a settled task does not end again");
    for node in [a, b, c] {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_requester_that_dies_takes_its_task_up_again_and_accepts_one_result() {
    let (a, b) = pair().await;
    let task = submission([8; 32]);
    a.federation.submit(task.clone()).await.unwrap();
    until("a worker begins", async || !b.house.executions.lock().unwrap().is_empty()).await;
    let house = a.stop().await;
    let work = b.house.executions.lock().unwrap()[0].work;
    b.federation.worked(work, Ok("done".to_owned())).await;
    let a = Node::start(house).await;
    // Asking again for what is under way asks for nothing new.
    a.federation.submit(task.clone()).await.unwrap();
    until("a result", async || !a.house.ended.lock().unwrap().is_empty()).await;
    assert_eq!(b.house.executions.lock().unwrap().len(), 1, "it was done once");
    let house = a.stop().await;
    let a = Node::start(house).await;
    until("it is said again until it is settled", async || a.house.ended.lock().unwrap().len() == 2).await;
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_does_lapses_or_is_done_at_home_and_one_may_be_asked_alone() {
    let (a, b) = pair().await;
    let c = Node::new().await;
    let code = a.federation.invite(false).await.unwrap();
    c.federation.join(&code.code).await.unwrap();
    are_members(&a, &c).await;
    are_members(&b, &c).await;
    // The other is cheaper, and is not asked.
    *c.house.figures.lock().unwrap() = Some(Figures { queued: 9, slots: 1, typical_ms: 9_000, cost: Msat(1_000_000) });
    a.federation.submit(Submission { only: Some(c.npub()), ..submission([1; 32]) }).await.unwrap();
    until("the dear one works", async || !c.house.executions.lock().unwrap().is_empty()).await;
    assert!(b.house.executions.lock().unwrap().is_empty());
    *b.house.figures.lock().unwrap() = None;
    *c.house.figures.lock().unwrap() = None;
    a.federation.submit(Submission { may_self: true, ..submission([2; 32]) }).await.unwrap();
    until("it works itself", async || !a.house.executions.lock().unwrap().is_empty()).await;
    let own = a.house.executions.lock().unwrap()[0].work;
    a.federation.worked(own, Ok("by myself".to_owned())).await;
    let of = |task: [u8; 32]| {
        let ended = a.house.ended.lock().unwrap();
        ended.iter().find_map(|ended| match ended {
            TaskEnd::Done(done) if done.task == TaskId::from_bytes(task) => Some(Ok(done.clone())),
            TaskEnd::Lapsed(of, why) if *of == TaskId::from_bytes(task) => Some(Err(why.clone())),
            TaskEnd::Done(_) | TaskEnd::Lapsed(..) => None,
        })
    };
    until("its own result", async || of([2; 32]).is_some_and(|done| done.unwrap().executed_by == a.npub())).await;
    a.federation.submit(submission([3; 32])).await.unwrap();
    until("a lapse", async || of([3; 32]).is_some()).await;
    assert_eq!(of([3; 32]).unwrap().unwrap_err(), Lapse::NoBidder);
    for node in [a, b, c] {
        node.stop().await;
    }
}
