//! The carriers at work: gossip, streams of envelopes, letters; and who gets what came in.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use nips::federation::{
    Answer, KIND_ANSWER, KIND_DIGEST, KIND_ENTRY, KIND_EPOCH_KEY, KIND_PIECE, KIND_PRESENCE, Message, letter,
};
use nips::memory::KIND_MEMORY;
use nips::task::{KIND_CALL, KIND_RESULT, LABEL_KIND};
use nostr::{Event, JsonUtil, PublicKey, RelayUrl};
use zeroize::Zeroizing;

use super::Command;
use super::core::{Back, Core, MEMORY, TASKS};
use super::host::{Post, Shelf, Write};
use crate::invitation::{JoinerInput, Source};
use crate::keyring::Circle;
use crate::letters::{Dropped, Effect, Input, Item, Urgency, receipt, receipt_ids};
use crate::net::{Frames, PeerId, PeerStream, Protocol, Ticket, Verdict};

/// The largest envelope on a stream, bytes: a memory change of 256 KiB in JSON.
const MAX_ENVELOPE: usize = 512 * 1024;
/// The largest envelope in gossip, bytes: 64 KiB less the seal.
const MAX_GOSSIP: usize = 60 * 1024;
/// How long a frame of an envelope's stream may take.
const FRAME: Duration = Duration::from_secs(10);

/// Who is alive is not told anew for each letter, seconds.
const HEARD_STEP_S: u64 = 60;
/// How long a change waits for a member that only relays reach, seconds; later a sync brings it.
const CHANGE_LIFE_S: u64 = 3600;

fn outbox_key(to: &PublicKey, id: &nostr::EventId) -> Vec<u8> {
    [to.as_bytes().as_slice(), id.as_bytes()].concat()
}

/// Out.
impl Core {
    /// Puts an envelope for one member.
    pub async fn post(&mut self, item: Item) {
        self.inbox.sent(item.envelope.id, self.now_s());
        match self.outbox.put(item, self.now_s()) {
            Ok(effects) => self.outbox_effects(effects).await,
            Err(error) => tracing::warn!(%error, "an envelope was not put"),
        }
    }

    pub async fn outbox_input(&mut self, input: Input) {
        let (now_ms, now_s) = (self.now_ms(), self.now_s());
        let effects = self.outbox.handle(input, now_ms, now_s);
        self.outbox_effects(effects).await;
    }

    async fn outbox_effects(&mut self, effects: Vec<Effect>) {
        let mut waiting: VecDeque<Effect> = effects.into();
        while let Some(effect) = waiting.pop_front() {
            match effect {
                Effect::Journal(item) => {
                    let (to, id) = (item.to, item.envelope.id);
                    let value = Zeroizing::new(serde_json::to_vec(&item).unwrap_or_default());
                    if let Err(error) = self.keep(vec![Write::Put(Shelf::Outbox, outbox_key(&to, &id), value)]).await {
                        tracing::warn!(%error, "an envelope could not be kept; it is sent all the same");
                    }
                    let (now_ms, now_s) = (self.now_ms(), self.now_s());
                    waiting.extend(self.outbox.handle(Input::Journaled { to, id }, now_ms, now_s));
                }
                Effect::Forget { to, id } => {
                    let _ = self.keep(vec![Write::Delete(Shelf::Outbox, outbox_key(&to, &id))]).await;
                }
                Effect::Lan { to, envelope } => self.send_envelope(&to, &envelope),
                Effect::Letter { to, envelope, expires_at } => {
                    let relays = self.cards.get(&to).map(|met| met.relays.clone()).unwrap_or_default();
                    self.send_letter(to, relays, &envelope, expires_at);
                }
            }
        }
    }

    /// Sends an envelope on a stream of its own; the receipt comes back on it.
    fn send_envelope(&self, to: &PublicKey, envelope: &Event) {
        let Some(peer) = self.cards.get(to).map(|met| met.card.peer_id) else { return };
        self.send_frames(peer, vec![envelope.as_json()]);
    }

    /// Sends envelopes on one stream, each after the receipt of the one before.
    pub fn send_frames(&self, peer: PeerId, envelopes: Vec<String>) {
        let (net, back) = (self.net.clone(), self.back.clone());
        self.tracker.spawn(async move {
            let sent = async {
                let stream = net.open(peer, Protocol::ENVELOPE).await.ok()?;
                let mut frames = Frames::new(stream, MAX_ENVELOPE, FRAME);
                for json in envelopes {
                    frames.send(json.as_bytes()).await.ok()?;
                    let ids = receipt_ids(&frames.next().await.ok()??)?;
                    back.send(Back::Receipt(peer, ids)).await.ok()?;
                }
                Some(())
            };
            if sent.await.is_none() {
                tracing::debug!(%peer, "an envelope was not received");
            }
        });
    }

    /// Hands a letter to the node, which seals, wraps and publishes it.
    pub fn send_letter(&self, to: PublicKey, relays: Vec<RelayUrl>, envelope: &Event, expires_at: u64) {
        let rumors = match letter::rumors(envelope, self.me.passport, &to, expires_at, self.now_s()) {
            Ok(rumors) => rumors,
            Err(error) => return tracing::warn!(%error, "an envelope does not go into a letter"),
        };
        let (host, commands, id) = (Arc::clone(&self.host), self.commands.clone(), envelope.id);
        self.tracker.spawn(async move {
            let is_taken = !relays.is_empty() && host.post(Post { to, relays, rumors, expires_at }).await;
            let _ = commands.send(Command::Settled { to, id, is_taken }).await;
        });
    }

    /// Gossips a change of the memory to the siblings.
    pub async fn gossip(&mut self, change: &Event) {
        self.publish(MEMORY, Circle::Siblings, change).await;
        for to in self.by_relay_only() {
            if self.standing(&to).acts_for_owner() {
                self.tell(to, change.clone(), CHANGE_LIFE_S).await;
            }
        }
    }

    /// Puts an envelope for one member, as long as it is worth something.
    pub async fn tell(&mut self, to: PublicKey, envelope: Event, life_s: u64) {
        let expires_at = self.now_s() + life_s;
        self.post(Item { to, envelope, urgency: Urgency::Usual, expires_at }).await;
    }

    pub async fn publish(&mut self, topic: &str, circle: Circle, envelope: &Event) {
        let json = envelope.as_json();
        let Some(log) = &self.log else { return };
        if json.len() > MAX_GOSSIP {
            return;
        }
        let mut nonce = [0; 24];
        nonce.copy_from_slice(&rand::random::<[u8; 32]>()[..24]);
        match self.keyring.seal(&log.terms(), circle, topic, json.as_bytes(), &nonce) {
            Ok(frame) => {
                self.inbox.sent(envelope.id, self.now_s());
                if let Err(error) = self.net.publish(topic, frame).await {
                    tracing::debug!(%error, "an envelope was not gossiped; sync brings it");
                }
            }
            Err(error) => tracing::debug!(%error, "nothing is gossiped now"),
        }
    }
}

/// In.
impl Core {
    pub async fn on_gossip(&mut self, topic: &str, data: &[u8], ticket: Ticket) {
        let verdict = self.take_gossip(topic, data).await;
        self.net.verdict(ticket, verdict).await;
    }

    async fn take_gossip(&mut self, topic: &str, data: &[u8]) -> Verdict {
        let circle = match topic {
            MEMORY => Circle::Siblings,
            TASKS => Circle::Everybody,
            _ => return Verdict::Reject,
        };
        let Some(log) = &self.log else { return Verdict::Ignore };
        // Under keys that are not here (a guest's node passes on what it cannot read): nobody's fault.
        let Ok(plain) = self.keyring.open(&log.terms(), circle, topic, data) else {
            return if circle == Circle::Siblings { Verdict::Accept } else { Verdict::Ignore };
        };
        let Ok(event) = Event::from_json(&plain) else { return Verdict::Reject };
        match self.inbox.take(&event, self.now_s()) {
            Ok(()) => {}
            Err(Dropped::Known) => return Verdict::Ignore,
            Err(Dropped::Date) => return Verdict::Ignore,
            Err(Dropped::Kind(_) | Dropped::Signature) => return Verdict::Reject,
        }
        self.dispatch(event).await;
        Verdict::Accept
    }

    pub fn read_envelopes(&self, peer: PeerId, stream: PeerStream) {
        let back = self.back.clone();
        self.tracker.spawn(async move {
            let mut frames = Frames::new(stream, MAX_ENVELOPE, FRAME);
            while let Ok(Some(frame)) = frames.next().await {
                let Ok(event) = Event::from_json(&frame) else { return };
                let id = event.id;
                let (taken, is_taken) = tokio::sync::oneshot::channel();
                if back.send(Back::Envelope(peer, Box::new(event), taken)).await.is_err() || is_taken.await.is_err() {
                    return;
                }
                if frames.send(&receipt(&[id])).await.is_err() {
                    return;
                }
            }
        });
    }

    pub async fn on_envelope(&mut self, peer: PeerId, event: &Event) {
        let is_member = self.by_peer(&peer).is_some_and(|met| self.standing(&met.card.passport).is_member());
        if is_member && self.inbox.take(event, self.now_s()).is_ok() {
            self.dispatch(event.clone()).await;
        }
    }

    /// A letter came by a relay.
    pub async fn letter(&mut self, seal: &Event, plaintext: &str) {
        let now = self.now_s();
        let from = seal.pubkey;
        let whole = letter::read(seal, plaintext, now).and_then(|letter| self.parts.take(letter, now));
        let event = match whole {
            Ok(Some(event)) => event,
            Ok(None) => return,
            Err(error) => return tracing::debug!(%error, "a letter is dropped"),
        };
        if event.kind.as_u16() == KIND_ANSWER {
            return self.answer_by_letter(from, &event).await;
        }
        if self.standing(&from).is_member() {
            self.note_heard(from, event.created_at.as_secs().min(now));
            if self.inbox.take(&event, now).is_ok() {
                self.dispatch(event).await;
            }
        }
    }

    /// A member said something over a relay at this time, by its own date: a letter that lay there for days tells nothing about now.
    fn note_heard(&mut self, from: PublicKey, at: u64) {
        let before = self.heard_by_relay.get(&from).copied().unwrap_or_default();
        self.heard_by_relay.insert(from, before.max(at));
        // Only the connection had died. What this node said before the other one saw that tells the other one nothing: it is said again.
        let is_back = self.fallen.get(&from).is_some_and(|fell| before <= *fell && at > *fell);
        if is_back {
            self.plan_presence();
        }
        if is_back || at > before + HEARD_STEP_S {
            self.see_alive();
        }
    }

    async fn answer_by_letter(&mut self, from: PublicKey, event: &Event) {
        let Ok(Message::Answer(answer)) = nips::federation::parse(event) else { return };
        match *answer {
            Answer::Ask(ask) => {
                // Where the joiner reads is told in what it asks.
                if let Ok(card) = nips::PeerCard::read(&ask.card, self.now_s())
                    && card.passport == from
                {
                    self.letter_relays.insert(from, ask.relays.clone());
                }
                self.asked_by_letter(from, event).await;
            }
            Answer::Welcome(_) | Answer::Refused { .. } => {
                self.joiner_input(JoinerInput::Heard { from: Source::Letter(from), event }).await;
            }
        }
    }

    /// Gives an envelope, verified and new, to whom it concerns.
    async fn dispatch(&mut self, event: Event) {
        match event.kind.as_u16() {
            KIND_MEMORY | KIND_DIGEST => self.host.heard(event),
            KIND_PIECE => self.hear_piece(&event),
            KIND_ENTRY => {
                Box::pin(self.take_entries(std::slice::from_ref(&event))).await;
            }
            KIND_EPOCH_KEY => Box::pin(self.take_keys(std::slice::from_ref(&event))).await,
            KIND_PRESENCE => Box::pin(self.hear_presence(&event)).await,
            KIND_CALL..=KIND_RESULT => Box::pin(self.hear_task(event)).await,
            LABEL_KIND => Box::pin(self.hear_label(event)).await,
            kind => tracing::debug!(kind, "an envelope of a kind that nobody here takes"),
        }
    }
}
