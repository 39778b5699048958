//! Labels of tasks: signed, kept, told, and folded into reputations.

use std::collections::{BTreeMap, BTreeSet};

use nips::task::{LABEL_KIND, Label};
use nostr::{Event, EventId, JsonUtil, PublicKey};
use sha2::{Digest, Sha256};

use super::core::{Back, Core};
use super::host::{HostError, Shelf, Write};
use super::tasks::TASK_LIFE_S;
use crate::membership::Standing;
use crate::reputation::Reputation;

/// Labels that are handed on at a time to a member that lacks some: the newest first, and the next time those behind them.
const MAX_LABELS: usize = 2_000;
/// The same in letters.
const MAX_LABELS_BY_LETTER: usize = 32;

/// All labels that this node knows.
#[derive(Default)]
pub(super) struct Labels {
    events: BTreeMap<EventId, Event>,
    /// Only of these: what it drops is dropped here too, so that nodes that were told the same keep the same.
    reputation: Reputation,
    /// How many of the newest each member was handed in this turn.
    handed: BTreeMap<PublicKey, usize>,
    /// Labels of this node whose signature is on its way.
    signing: BTreeSet<EventId>,
}

impl Labels {
    /// What they say.
    pub fn reputation(&self) -> &Reputation {
        &self.reputation
    }

    /// A hash of their set: equal for nodes that know the same.
    pub fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        self.events.keys().for_each(|id| hash.update(id.as_bytes()));
        hash.finalize().into()
    }

    /// The next labels for a member, at most `most`: the newest first, and around again after the oldest.
    fn next_for(&mut self, member: PublicKey, most: usize) -> Vec<Event> {
        let mut labels: Vec<&Event> = self.events.values().collect();
        labels.sort_by_key(|event| std::cmp::Reverse((event.created_at, event.id)));
        let handed = self.handed.entry(member).or_default();
        let from = if *handed < labels.len() { *handed } else { 0 };
        *handed = from + most;
        labels.into_iter().skip(from).take(most).cloned().collect()
    }
}

impl Core {
    /// Takes the labels up that were kept.
    pub async fn load_labels(&mut self) -> Result<(), HostError> {
        for (_, bytes) in self.host.load(Shelf::Labels).await? {
            let event = super::core::event_of(&bytes)?;
            if let Ok(dropped) = self.labels.reputation.add(&event) {
                self.labels.events.insert(event.id, event);
                if let Some(id) = dropped {
                    self.labels.events.remove(&id);
                }
            }
        }
        Ok(())
    }

    /// Has the passport sign what this node says about a task, once.
    pub fn sign_label(&mut self, label: &Label, at: u64, is_public: bool) {
        let mut unsigned = label.to_event(self.me.passport, at);
        let id = unsigned.id();
        if self.labels.events.contains_key(&id) || !self.labels.signing.insert(id) {
            return;
        }
        let (host, back) = (self.host.clone(), self.back.clone());
        self.tracker.spawn(async move {
            let signed = host.sign(unsigned).await;
            let _ = back.send(Back::Labelled(id, signed, is_public)).await;
        });
    }

    /// A label of this node is signed.
    pub async fn on_labelled(&mut self, id: EventId, signed: Result<Event, HostError>, public: bool) {
        self.labels.signing.remove(&id);
        match signed {
            Ok(event) => {
                if self.keep_label(&event).await {
                    self.broadcast(&event).await;
                    if public {
                        self.host.publish(event);
                    }
                }
            }
            // It comes again with the next start.
            Err(error) => tracing::warn!(%error, "a label could not be signed"),
        }
    }

    /// A label came from another member, or from one that was.
    pub async fn hear_label(&mut self, event: Event) {
        debug_assert_eq!(event.kind.as_u16(), LABEL_KIND);
        if self.standing(&event.pubkey) == Standing::Unknown {
            return;
        }
        self.keep_label(&event).await;
    }

    /// True when it is new, good and kept.
    async fn keep_label(&mut self, event: &Event) -> bool {
        if self.labels.events.contains_key(&event.id) {
            return false;
        }
        let mut with = self.labels.reputation.clone();
        let Ok(dropped) = with.add(event) else { return false };
        if dropped == Some(event.id) {
            return false;
        }
        let put = super::members::put_event(Shelf::Labels, event);
        let drop = dropped.map(|id| Write::Delete(Shelf::Labels, id.as_bytes().to_vec()));
        if let Err(error) = self.keep(std::iter::once(put).chain(drop).collect()).await {
            tracing::warn!(%error, "a label could not be kept");
            return false;
        }
        self.labels.reputation = with;
        self.labels.events.insert(event.id, event.clone());
        if let Some(id) = dropped {
            self.labels.events.remove(&id);
        }
        true
    }

    /// A member whose labels are others than ours gets ours; it does the same.
    pub async fn share_labels(&mut self, passport: PublicKey) {
        let Some(peer) = self.cards.get(&passport).map(|met| met.card.peer_id) else { return };
        if !self.meshed.contains(&peer) {
            for label in self.labels.next_for(passport, MAX_LABELS_BY_LETTER) {
                self.tell(passport, label, TASK_LIFE_S).await;
            }
            return;
        }
        let frames: Vec<String> = self.labels.next_for(passport, MAX_LABELS).iter().map(JsonUtil::as_json).collect();
        self.send_frames(peer, frames);
    }
}

#[cfg(test)]
mod tests {
    use nostr::{EventBuilder, Keys, Timestamp};

    use super::*;

    #[test]
    fn a_member_is_handed_all_labels_in_turns_the_newest_first() {
        let keys = Keys::generate();
        let label = |at: u64| {
            let event = EventBuilder::text_note(at.to_string()).custom_created_at(Timestamp::from_secs(at));
            event.sign_with_keys(&keys).unwrap()
        };
        let mut labels = Labels::default();
        labels.events.extend((0..7).map(label).map(|event| (event.id, event)));
        let (one, other) = (Keys::generate().public_key(), Keys::generate().public_key());
        let mut turn = |member| labels.next_for(member, 3).iter().map(|e| e.created_at.as_secs()).collect::<Vec<_>>();
        assert_eq!(
            [turn(one), turn(one), turn(one), turn(one)],
            [vec![6, 5, 4], vec![3, 2, 1], vec![0], vec![6, 5, 4]]
        );
        assert_eq!(turn(other), [6, 5, 4]);
    }
}
