//! Labels of tasks: signed, kept, told, and folded into reputations.

use std::collections::{BTreeMap, BTreeSet};

use nips::task::{LABEL_KIND, Label};
use nostr::{Event, EventId, JsonUtil, PublicKey};
use sha2::{Digest, Sha256};

use super::core::{Back, Core};
use super::host::{HostError, Shelf};
use super::tasks::TASK_LIFE_S;
use crate::membership::Standing;
use crate::reputation::Reputation;

/// Labels that are handed on to a member that lacks some: the newest.
const MAX_LABELS: usize = 2_000;
/// The same in letters.
const MAX_LABELS_BY_LETTER: usize = 32;

/// All labels that this node knows.
#[derive(Default)]
pub(super) struct Labels {
    events: BTreeMap<EventId, Event>,
    reputation: Reputation,
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
}

impl Core {
    /// Takes the labels up that were kept.
    pub async fn load_labels(&mut self) -> Result<(), HostError> {
        for (_, bytes) in self.host.load(Shelf::Labels).await? {
            let event = super::core::event_of(&bytes)?;
            if self.labels.reputation.add(&event).is_ok() {
                self.labels.events.insert(event.id, event);
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
        if with.add(event).is_err() {
            return false;
        }
        if let Err(error) = self.keep(vec![super::members::put_event(Shelf::Labels, event)]).await {
            tracing::warn!(%error, "a label could not be kept");
            return false;
        }
        self.labels.reputation = with;
        self.labels.events.insert(event.id, event.clone());
        true
    }

    /// A member whose labels are others than ours gets ours; it does the same.
    pub async fn share_labels(&mut self, passport: PublicKey) {
        let mut labels: Vec<Event> = self.labels.events.values().cloned().collect();
        labels.sort_by_key(|event| std::cmp::Reverse((event.created_at, event.id)));
        let Some(peer) = self.cards.get(&passport).map(|met| met.card.peer_id) else { return };
        if !self.meshed.contains(&peer) {
            labels.truncate(MAX_LABELS_BY_LETTER);
            for label in labels {
                self.tell(passport, label, TASK_LIFE_S).await;
            }
            return;
        }
        labels.truncate(MAX_LABELS);
        let frames: Vec<String> = labels.iter().map(JsonUtil::as_json).collect();
        self.send_frames(peer, frames);
    }
}
