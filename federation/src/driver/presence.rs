//! Where members are: said by each, heard by all. mDNS ends at the router, and at the first machine without multicast.

use nips::federation::{KIND_PRESENCE, Presence};
use nostr::{Event, PublicKey, Timestamp};

use super::core::{Core, Met, TASKS};
use crate::keyring::Circle;
use crate::letters::{Item, Urgency};
use crate::net::Multiaddr;

/// How often it is said again when nothing changes, ms: a newcomer hears it when it comes, by those who see it come.
const AGAIN_MS: u64 = 300_000;
/// How long such a word is worth anything in a letter, seconds: two of them.
const LETTER_LIFE_S: u64 = 600;
/// Who was silent for so long is told seldom, seconds.
const LONG_S: u64 = 24 * 3600;
/// One saying in so many.
const SELDOM: u64 = 12;
/// The pause between two sayings, ms: ten members that come at once are one reason.
const PAUSE_MS: u64 = 500;

impl Core {
    /// Something happened after which others should hear where this node is.
    pub fn plan_presence(&mut self) {
        let soon = self.now_ms() + PAUSE_MS;
        self.presence_due_ms = self.presence_due_ms.min(soon);
    }

    pub async fn say_presence_when_due(&mut self) {
        let now = self.now_ms();
        if now < self.presence_due_ms || self.log.is_none() {
            return;
        }
        self.presence_due_ms = now + AGAIN_MS;
        let presence = Presence {
            card: Box::new(self.me.card.clone()),
            addresses: self.me.addresses.clone(),
            relays: self.me.relays.clone(),
            labels: Some(self.labels.digest()),
        };
        // Two sayings of one second could not be told apart: the later one is dated later.
        let said = self.said_at.get(&self.me.passport).map_or(0, |at| at + 1).max(self.now_s());
        self.said_at.insert(self.me.passport, said);
        let dated = presence.to_event().custom_created_at(Timestamp::from_secs(said));
        let Ok(event) = dated.sign_with_keys(&self.install) else { return };
        if !self.meshed.is_empty() {
            self.publish(TASKS, Circle::Everybody, &event).await;
        }
        self.sayings += 1;
        for to in self.away() {
            let expires_at = self.now_s() + LETTER_LIFE_S;
            self.post(Item { to, envelope: event.clone(), urgency: Urgency::Usual, expires_at }).await;
        }
    }

    /// Members that have no connection and are told by letter where this node is. One that was silent for long is told less often.
    fn away(&self) -> Vec<PublicKey> {
        let now = self.now_s();
        let is_told = |met: &&Met| {
            let passport = &met.card.passport;
            let heard = self.heard_by_relay.get(passport).copied().unwrap_or_default().max(met.last_seen);
            *passport != self.me.passport
                && !self.is_here(&met.card.peer_id)
                && !met.relays.is_empty()
                && self.standing(passport).is_member()
                && (heard + LONG_S > now || self.sayings.is_multiple_of(SELDOM))
        };
        self.cards.values().filter(is_told).map(|met| met.card.passport).collect()
    }

    /// Where only letters reach, who knows a member tells the others of it.
    async fn pass_on(&mut self, presence: &Event, of: PublicKey) {
        for to in self.away().into_iter().filter(|to| *to != of) {
            let expires_at = self.now_s() + LETTER_LIFE_S;
            self.post(Item { to, envelope: presence.clone(), urgency: Urgency::Usual, expires_at }).await;
        }
    }

    /// A member says where it is.
    pub async fn hear_presence(&mut self, event: &Event) {
        debug_assert_eq!(event.kind.as_u16(), KIND_PRESENCE);
        let now = self.now_s();
        let Ok((presence, card)) = Presence::read(event, now) else { return };
        if card.passport == self.me.passport || !self.standing(&card.passport).is_member() {
            return;
        }
        let known = self.cards.get(&card.passport);
        if known.is_some_and(|met| met.card.revokes(&card) || met.card.sequence > card.sequence) {
            return;
        }
        let (presence_labels, passport, card_id) = (presence.labels, card.passport, presence.card.id);
        let addresses: Vec<Multiaddr> = presence.addresses.iter().filter_map(|a| a.parse().ok()).collect();
        if self.said_at.get(&passport).is_some_and(|at| *at > event.created_at.as_secs()) {
            return;
        }
        let is_news =
            known.is_none_or(|met| met.card != card || met.addresses != addresses || met.relays != presence.relays);
        self.said_at.insert(passport, event.created_at.as_secs());
        let peer = card.peer_id;
        if is_news {
            let relays = presence.relays;
            self.keep_card(Met { card, event: *presence.card, addresses: addresses.clone(), relays, last_seen: now })
                .await;
            self.reach(passport).await;
            if !self.meshed.contains(&peer) {
                // It came by letter: whoever says where it is wants to hear the same.
                self.plan_presence();
            }
        }
        let is_passed = self.passed.insert(passport, card_id) == Some(card_id);
        if !self.is_here(&peer) && !is_passed {
            self.pass_on(event, passport).await;
        }
        if !self.connected.contains(&peer) {
            let _ = self.net.dial(Some(peer), addresses).await;
        }
        if presence_labels.is_some_and(|labels| labels != self.labels.digest()) {
            self.share_labels(passport).await;
        }
    }
}
