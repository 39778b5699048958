//! Where members are: said by each, heard by all. mDNS ends at the router, and at the first machine without multicast.

use nips::federation::{KIND_PRESENCE, Presence};
use nostr::Event;

use super::core::{Core, Met, TASKS};
use crate::keyring::Circle;
use crate::net::Multiaddr;

/// How often it is said again when nothing changes, ms: a newcomer hears it when it comes, by those who see it come.
const AGAIN_MS: u64 = 300_000;
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
        if now < self.presence_due_ms || self.log.is_none() || self.meshed.is_empty() {
            return;
        }
        self.presence_due_ms = now + AGAIN_MS;
        let presence = Presence {
            card: Box::new(self.me.card.clone()),
            addresses: self.me.addresses.clone(),
            relays: self.me.relays.clone(),
        };
        if let Ok(event) = presence.to_event().sign_with_keys(&self.install) {
            self.publish(TASKS, Circle::Everybody, &event).await;
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
        let addresses: Vec<Multiaddr> = presence.addresses.iter().filter_map(|a| a.parse().ok()).collect();
        let is_news = known.is_none_or(|met| met.card != card || met.addresses != addresses);
        let peer = card.peer_id;
        if is_news {
            let relays = presence.relays;
            self.keep_card(Met { card, event: *presence.card, addresses: addresses.clone(), relays, last_seen: now })
                .await;
        }
        if !self.connected.contains(&peer) {
            let _ = self.net.dial(Some(peer), addresses).await;
        }
    }
}
