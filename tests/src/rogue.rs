//! A member that breaks the rules: it was invited, holds real keys, runs the real federation, and then lies on top of it until its
//! standard input closes. `rogue CODE`; prints a line when it has joined and one after each round of deeds.

#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs, dead_code)]

#[path = "../../federation/tests/driver/world.rs"]
mod world;

use std::io::Read;

use federation::membership::Standing;
use federation::{Host, Shelf};
use nips::Msat;
use nips::federation::{Act, Entry, FederationId};
use nips::memory::{ActorId, Change, DocumentId, Space};
use nips::task::{Attempt, Award, Envelope, Epoch, Lease, Message, TaskId};
use nostr::{Event, EventBuilder, EventId, JsonUtil, Keys, Kind, PublicKey};
use rand::RngCore;
use tokio::io::AsyncWriteExt;
use world::{House, Node};

/// Of each deed in a round.
const TIMES: usize = 50;
const LIFE_S: u64 = 60;

#[tokio::main]
async fn main() {
    let code = std::env::args().nth(1).expect("usage: rogue CODE");
    let abilities = ["5000", "5050", "5050/people", "5050/owner"].map(ToOwned::to_owned).to_vec();
    let node = Node::start(House::able(abilities)).await;
    assert_eq!(node.federation.join(&code).await.unwrap(), Standing::Sibling);
    println!("joined {}", nostr::ToBech32::to_bech32(&node.npub()).unwrap());
    let (closed, mut over) = tokio::sync::oneshot::channel::<()>();
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        drop(closed);
    });
    let mut round = 0_u64;
    while matches!(over.try_recv(), Err(tokio::sync::oneshot::error::TryRecvError::Empty)) {
        round += 1;
        let victims = node.federation.view().installs();
        for victim in victims.into_iter().filter(|one| *one != node.house.install.public_key()) {
            for envelope in deeds(&node, &victim, round).await {
                node.federation.send(victim, envelope, LIFE_S).await;
            }
        }
        for n in 0..TIMES {
            for victim in node.federation.view().installs() {
                node.federation.gossip(forged_change(&node.house.install, &victim, n)).await;
            }
            node.federation.gossip(forked_change(&node.house.install)).await;
        }
        babble(&node).await;
        // It bids less than anybody for work that it cannot do.
        let taken: Vec<_> = node.house.executions.lock().unwrap().drain(..).collect();
        for execution in &taken {
            node.federation.worked(execution.work, Err("no".to_owned())).await;
        }
        println!("round {round} took {}", taken.len());
    }
    node.stop().await;
}

/// Envelopes for one install: entries of the log that it may not make, tasks that are not its own, pieces of no stream, and noise.
async fn deeds(node: &Node, victim: &PublicKey, round: u64) -> Vec<Event> {
    let (passport, install) = (&node.house.passport, &node.house.install);
    let attempt = Attempt { task: TaskId::from_bytes(random()), epoch: Epoch(u32::try_from(round).unwrap()) };
    let acts = [
        Act::Admin { node: passport.public_key() },
        Act::Remove { node: *victim },
        Act::Owner { person: passport.public_key() },
    ];
    let log: Vec<Event> = node
        .house
        .load(Shelf::Entries)
        .await
        .unwrap()
        .into_iter()
        .map(|(_, e)| Event::from_json(&*e).unwrap())
        .collect();
    let mut all = Vec::new();
    for act in acts {
        let federation = Some(FederationId(log[0].id));
        let heads: Vec<EventId> = log.last().map(|entry| entry.id).into_iter().collect();
        let entry = Entry::to_event(&act, federation, &heads, passport.public_key(), round);
        all.push(entry.sign_with_keys(passport).unwrap());
    }
    let award = Award {
        attempt,
        set: EventId::from_byte_array(random()),
        winner: *victim,
        price: Msat(0),
        lease_ms: u64::MAX,
        reveals: vec![],
        transcript: random(),
    };
    all.push(Envelope::sign(Message::Award(award), install, u64::MAX / 2).event().clone());
    let lease = Lease::release(attempt, *victim, "it is mine", true);
    all.push(Envelope::sign(Message::Lease(lease), install, 0).event().clone());
    for kind in 9760..=9779 {
        let noise: String = (0..2_000).map(|_| char::from(b' ' + random::<1>()[0] % 90)).collect();
        all.push(EventBuilder::new(Kind::from_u16(kind), noise).sign_with_keys(install).unwrap());
    }
    all
}

/// A change of somebody else's shard, under its own signature.
fn forged_change(keys: &Keys, writer: &PublicKey, n: usize) -> Event {
    let part = u32::try_from(n).unwrap();
    let document =
        DocumentId::Shard { space: Space::fleet(), writer: *writer, month: "2026-11".parse().unwrap(), part };
    let actor = ActorId::new(&keys.public_key(), [1; 16]);
    Change::to_event(&document, &actor, 1, &random(), &[7; 900]).sign_with_keys(keys).unwrap()
}

/// Two of these are two changes under one number.
fn forked_change(keys: &Keys) -> Event {
    let document = DocumentId::Page { space: Space::fleet(), name: "list".parse().unwrap(), generation: 0 };
    let actor = ActorId::new(&keys.public_key(), [1; 16]);
    Change::to_event(&document, &actor, 1, &random(), &random::<64>()).sign_with_keys(keys).unwrap()
}

/// Speaks nonsense on every stream of the memory that it was given, and keeps the last one open in silence.
async fn babble(node: &Node) {
    let streams: Vec<_> = node.house.linked.lock().unwrap().drain(..).collect();
    for mut linked in streams {
        let _ = linked.stream.write_all(&random::<4_096>()).await;
    }
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::rng().fill_bytes(&mut bytes);
    bytes
}
