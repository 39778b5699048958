//! Members that break the rules. They hold real keys, run the real machine, and then lie on top of it.

use nips::Msat;
use nips::task::{
    Act, Attempt, Award, Cargo, CommitmentSet, Envelope, Epoch, Lease, Message, Reason, Refusal, Reveal, split,
    transcript_hash,
};
use nostr::PublicKey;
use rand::Rng;
use rand::rngs::StdRng;

use crate::world::{Event, UNIX, World};

/// What a liar does.
#[derive(Debug, Clone, Default)]
pub struct Liar {
    pub bids_nothing: bool,
    pub hides_price: bool,
    pub other_price: bool,
    pub commits_twice: bool,
    pub takes_and_sleeps: bool,
    pub garbage_result: bool,
    pub changes_set: bool,
    pub awards_at_will: bool,
    pub keeps_input: bool,
    pub forges: bool,
    pub replays: bool,
}

impl Liar {
    pub fn random(rng: &mut StdRng) -> Self {
        let mut coin = || rng.random_bool(0.3);
        Self {
            bids_nothing: coin(),
            hides_price: coin(),
            other_price: coin(),
            commits_twice: coin(),
            takes_and_sleeps: coin(),
            garbage_result: coin(),
            changes_set: coin(),
            awards_at_will: coin(),
            keeps_input: coin(),
            forges: coin(),
            replays: coin(),
        }
    }

    /// What becomes of a message that a node's machine wants to send: others, more, or nothing.
    pub fn twist(world: &mut World, from: usize, to: usize, envelope: &Envelope) -> Option<Vec<Envelope>> {
        let Some(liar) = world.nodes[from].liar.clone() else { return Some(vec![envelope.clone()]) };
        let sign = |message| Envelope::sign(message, &world.nodes[from].keys, UNIX);
        let all = match envelope.message().clone() {
            Message::Reveal(_) if liar.hides_price => return None,
            Message::Reveal(reveal) if liar.other_price => {
                vec![sign(Message::Reveal(Reveal { price: Msat(reveal.price.0 / 2 + 1), ..reveal }))]
            }
            Message::Commitment(mut commitment) if liar.commits_twice => {
                commitment.hash = [u8::try_from(to).unwrap(); 32];
                vec![sign(Message::Commitment(commitment)), envelope.clone()]
            }
            Message::Lease(Lease { act: Act::Renew { .. }, .. }) | Message::Result(_) if liar.takes_and_sleeps => {
                return None;
            }
            Message::Result(cargo) if liar.garbage_result => {
                vec![sign(Message::Result(Cargo { sealed: "garbage".into(), ..cargo }))]
            }
            Message::Set(mut set) if liar.changes_set => {
                set.entries.retain(|entry| Some(entry.bidder) != world.nodes.get(to).map(|n| n.install()));
                vec![envelope.clone(), sign(Message::Set(set))]
            }
            Message::Award(award) if liar.awards_at_will => {
                let winner = world.nodes[to].install();
                vec![envelope.clone(), sign(Message::Award(Award { winner, price: Msat(1), ..award }))]
            }
            Message::Input(_) if liar.keeps_input => return None,
            _ => vec![envelope.clone()],
        };
        Some(all)
    }

    /// Something out of nothing.
    pub fn lie(world: &mut World, node: usize) {
        let Some(liar) = world.nodes[node].liar.clone() else { return };
        if liar.replays && !world.seen.is_empty() {
            for _ in 0..3 {
                let which = world.rng.random_range(0..world.seen.len());
                let to = world.rng.random_range(0..world.nodes.len());
                let envelope = world.seen[which].clone();
                world.post(node, to, &envelope);
            }
        }
        if liar.forges && !world.seen.is_empty() {
            let which = world.rng.random_range(0..world.seen.len());
            let attempt = world.seen[which].message().attempt();
            let to = world.rng.random_range(0..world.nodes.len());
            let forged = forge(world, node, to, attempt);
            let envelope = Envelope::sign(forged, &world.nodes[node].keys, UNIX);
            world.post(node, to, &envelope);
        }
        if world.faults.crash > 0.0 || world.faults.loss > 0.0 {
            let wait = world.rng.random_range(50..2_000);
            world.after(wait, Event::Lie { node });
        }
    }
}

/// A message about somebody else's task.
fn forge(world: &mut World, node: usize, to: usize, seen: Attempt) -> Message {
    let victim = world.nodes[to].install();
    let shift = world.rng.random_range(0..3_u32);
    let attempt = Attempt { task: seen.task, epoch: Epoch((seen.epoch.0 + shift).saturating_sub(1).max(1)) };
    let last = world.seen[world.rng.random_range(0..world.seen.len())].id();
    match world.rng.random_range(0..8) {
        0 => Message::Award(Award {
            attempt,
            set: last,
            winner: victim,
            price: Msat(u64::MAX),
            lease_ms: world.rng.random_range(0..20_000),
            reveals: vec![last],
            transcript: transcript_hash(&last, &last, &[last]),
        }),
        1 => Message::Lease(Lease { attempt, to: victim, act: Act::Grant { turn: world.rng.random_range(0..4) } }),
        2 => Message::Lease(Lease { attempt, to: victim, act: Act::Renew { turn: world.rng.random_range(0..4) } }),
        3 => Message::Lease(Lease::release(attempt, victim, "forged", world.rng.random_bool(0.5))),
        4 => Message::Refusal(Refusal { attempt, to: victim, reason: Reason::OldEpoch, newest: Epoch(9) }),
        5 => Message::Set(CommitmentSet { attempt, call: last, entries: Vec::new() }),
        6 => Message::Input(cargo(world, node, attempt, victim, "{\"output\":\"forged\"}")),
        _ => Message::Result(cargo(world, node, attempt, victim, "{\"output\":\"forged\"}")),
    }
}

fn cargo(world: &World, node: usize, attempt: Attempt, to: PublicKey, text: &str) -> Cargo {
    let (digest, _) = split(text).unwrap();
    let sealed = nips::task::seal(&world.nodes[node].keys, &to, &attempt, text).unwrap();
    Cargo { attempt, to, index: 0, count: 1, digest, sealed }
}
