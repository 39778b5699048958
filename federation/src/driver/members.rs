//! Membership at work: entries and keys in, acts of this node out, and who is who for everybody else.

use nips::PeerCard;
use nips::federation::Act;
use nostr::{Event, JsonUtil, Keys, PublicKey, UnsignedEvent};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::FederationError;
use super::core::{Core, Met};
use super::hello;
use super::host::{Shelf, Write};
use super::peers::{Peer, PeerState, Via};
use super::view::{Abilities, Known, Member};
use crate::handshake::{self, Effect};
use crate::keyring::{self, KeyringError};
use crate::letters::{Input as Letters, Item, Reach, Urgency};
use crate::liveness::LivenessState;
use crate::membership::{Log, Standing, Taken};
use crate::net::{Multiaddr, PeerId};

/// How long entries and keys wait for a member that is away, seconds.
const NEWS_LIFE_S: u64 = 14 * 24 * 3600;

/// Who said something over a relay so lately is alive, seconds: two sayings of where it is, and a minute.
const HEARD_S: u64 = 660;

/// A random source of the line that the Nostr crates take.
pub(super) type Rng = nostr::secp256k1::rand::rngs::OsRng;

#[derive(Serialize, Deserialize)]
struct Kept {
    card: Event,
    addresses: Vec<Multiaddr>,
    relays: Vec<nostr::RelayUrl>,
    last_seen: u64,
}

/// A card as it was kept. Whether it has ended is asked where it matters.
pub(super) fn met_from(bytes: &[u8]) -> Option<Met> {
    let kept: Kept = serde_json::from_slice(bytes).ok()?;
    let card = PeerCard::read(&kept.card, kept.card.created_at.as_secs()).ok()?;
    Some(Met { card, event: kept.card, addresses: kept.addresses, relays: kept.relays, last_seen: kept.last_seen })
}

fn put(shelf: Shelf, key: &[u8], value: &[u8]) -> Write {
    Write::Put(shelf, key.to_vec(), Zeroizing::new(value.to_vec()))
}

pub(super) fn put_event(shelf: Shelf, event: &Event) -> Write {
    put(shelf, event.id.as_bytes(), event.as_json().as_bytes())
}

impl Core {
    pub fn standing(&self, who: &PublicKey) -> Standing {
        self.log.as_ref().map_or(Standing::Unknown, |log| log.standing(who))
    }

    /// What this node shows in mDNS.
    pub fn tag(&self) -> Vec<u8> {
        let day = self.now_s() / 86_400;
        self.log.as_ref().map(|log| self.keyring.tags(&log.terms(), day).concat()).unwrap_or_default()
    }

    /// Tells gate, directory and mDNS who is who now.
    pub async fn see(&mut self) {
        let all = self.cards.values().map(|met| {
            let known = Known { passport: met.card.passport, standing: self.standing(&met.card.passport) };
            (met.card.peer_id, met.card.install, known)
        });
        let changed = self.view.set(all);
        self.see_alive();
        self.view.set_inviting(self.inviter.is_answering(self.now_s()));
        for peer in changed {
            self.net.reconsider(peer).await;
        }
        if let Some(discovery) = &self.discovery {
            let _ = discovery.set_tag(self.tag()).await;
        }
    }

    /// A handshake ended: what was learnt is kept, and a member is shown in.
    pub async fn on_hello(&mut self, ended: hello::Ended) {
        self.greeting.remove(&ended.peer_id);
        for effect in ended.learnt {
            self.learn(effect).await;
        }
        match ended.peer {
            Ok(peer) => self.meet(*peer).await,
            Err(refusal) => self.told(ended.peer_id, refusal),
        }
    }

    fn told(&self, peer: PeerId, refusal: handshake::Refusal) {
        if refusal == handshake::Refusal::Removed {
            tracing::warn!(%peer, "a member says that this node was removed from the federation");
        } else {
            tracing::debug!(%peer, %refusal, "a handshake ended");
        }
    }

    async fn learn(&mut self, effect: Effect) {
        match effect {
            Effect::Entries(events) => {
                self.take_entries(&events).await;
            }
            Effect::Keys(events) => self.take_keys(&events).await,
            Effect::Card(event) => {
                let now = self.now_s();
                if let Ok(card) = PeerCard::read(&event, now) {
                    let old = self.cards.get(&card.passport);
                    let (addresses, relays) =
                        old.map(|met| (met.addresses.clone(), met.relays.clone())).unwrap_or_default();
                    self.keep_card(Met { card, event: *event, addresses, relays, last_seen: now }).await;
                }
            }
            Effect::SealTo { install, role } => self.seal_to(install, role).await,
            Effect::Twin(card) => self.host.twin(&card),
            Effect::Send(_) | Effect::Done(_) | Effect::Refused(_) => {}
        }
    }

    /// A member has proved itself.
    async fn meet(&mut self, peer: handshake::Peer) {
        let addresses = peer.addresses.iter().filter_map(|a| a.parse().ok()).collect();
        let passport = peer.card.passport;
        // The card that the handshake began with may be older than one that came meanwhile.
        let Some(known) = self.cards.get(&passport) else { return };
        let (card, event) = (known.card.clone(), known.event.clone());
        let now = self.now_s();
        self.keep_card(Met { card, event, addresses, relays: peer.relays, last_seen: now }).await;
        self.reach(passport).await;
    }

    /// Keeps what is known of a member. Of two cards of one install the newer one stays, whichever comes last.
    pub async fn keep_card(&mut self, met: Met) {
        let newer = self.cards.get(&met.card.passport).filter(|known| {
            let is_same = known.card.install == met.card.install && known.card.sequence == met.card.sequence;
            is_same && known.event.created_at > met.event.created_at
        });
        let met = match newer {
            Some(known) => Met { card: known.card.clone(), event: known.event.clone(), ..met },
            None => met,
        };
        let kept = Kept {
            card: met.event.clone(),
            addresses: met.addresses.clone(),
            relays: met.relays.clone(),
            last_seen: met.last_seen,
        };
        let bytes = serde_json::to_vec(&kept).unwrap_or_default();
        let passport = met.card.passport;
        if let Err(error) = self.keep(vec![put(Shelf::Cards, passport.as_bytes(), &bytes)]).await {
            tracing::warn!(%error, "a peer card could not be kept; it comes again with the next handshake");
        }
        let (peer, is_linked) = (met.card.peer_id, self.meshed.contains(&met.card.peer_id));
        self.cards.insert(passport, met);
        self.see().await;
        self.reach(passport).await;
        if is_linked {
            self.strangers.remove(&peer);
        }
    }

    /// Takes entries, keeps the new ones and passes them on. True when something was new.
    pub async fn take_entries(&mut self, events: &[Event]) -> bool {
        let Some(log) = &mut self.log else { return false };
        let mut next = log.clone();
        let mut new = Vec::new();
        for event in events {
            match next.take(event) {
                Ok(Taken::New(admitted)) => new.extend(admitted),
                Ok(Taken::Known | Taken::Waiting) => {}
                Err(error) => tracing::debug!(%error, "a membership entry is not admitted"),
            }
        }
        if new.is_empty() {
            *log = next;
            return false;
        }
        let writes = new.iter().map(|event| put_event(Shelf::Entries, event)).collect();
        if let Err(error) = self.keep(writes).await {
            tracing::warn!(%error, "membership entries could not be kept; they come again with the next handshake");
            return false;
        }
        self.log = Some(next);
        self.see().await;
        self.plan_keys();
        for event in &new {
            self.tell_all(event, Urgency::Sure).await;
        }
        self.drop_the_removed().await;
        true
    }

    /// Nothing waits for those who belong no more, and their connections end.
    async fn drop_the_removed(&mut self) {
        let gone: Vec<(PublicKey, PeerId)> = self
            .cards
            .values()
            .filter(|met| matches!(self.standing(&met.card.passport), Standing::Removed { .. }))
            .map(|met| (met.card.passport, met.card.peer_id))
            .collect();
        for (passport, peer) in gone {
            self.outbox_input(Letters::Gone(passport)).await;
            if let Some(live) = &self.live {
                live.forget(peer).await;
            }
        }
    }

    pub async fn take_keys(&mut self, events: &[Event]) {
        let Some(log) = self.log.clone() else { return };
        let mut is_new = false;
        let mut writes = Vec::new();
        for event in events {
            let was_there = self.sealed.contains(&event.id);
            match self.sealed.take(event, &log, &self.install) {
                Ok(Some(opened)) => is_new |= self.keyring.add(&opened),
                Ok(None) => {}
                Err(error) => {
                    tracing::debug!(%error, "sealed keys are not taken");
                    continue;
                }
            }
            if !was_there {
                writes.push(put_event(Shelf::Sealed, event));
                self.tell_all(event, Urgency::Sure).await;
            }
        }
        if is_new {
            writes.push(put(Shelf::Keyring, b"keys", &self.keyring.to_bytes()));
        }
        if let Err(error) = self.keep(writes).await {
            tracing::warn!(%error, "keys could not be kept; they come again with the next handshake");
        }
        if is_new {
            self.keys_due_ms = None;
            self.see().await;
        }
    }

    /// When this node has to make new keys, if it has to.
    pub fn plan_keys(&mut self) {
        let Some(log) = &self.log else { return };
        let turn = keyring::turn_ms(log, &self.keyring, &self.me.passport);
        self.keys_due_ms = turn.map(|turn| self.now_ms().saturating_add(turn));
    }

    pub async fn make_keys_when_due(&mut self) {
        if self.keys_due_ms.is_some_and(|due| due <= self.now_ms())
            && let Err(error) = self.make_keys().await
        {
            tracing::warn!(%error, "new keys could not be made; it is tried again");
            self.keys_due_ms = Some(self.now_ms().saturating_add(5_000));
        }
    }

    /// Makes the keys of the present epoch and seals them to every member.
    pub async fn make_keys(&mut self) -> Result<(), FederationError> {
        self.keys_due_ms = None;
        let Some(log) = self.log.clone() else { return Err(FederationError::None) };
        if self.keyring.is_current(&log.terms()) {
            return Ok(());
        }
        let mut random = [0; 64];
        random[..32].copy_from_slice(&rand::random::<[u8; 32]>());
        random[32..].copy_from_slice(&rand::random::<[u8; 32]>());
        let mut installs: std::collections::BTreeMap<PublicKey, PublicKey> =
            self.cards.iter().map(|(passport, met)| (*passport, met.card.install)).collect();
        installs.insert(self.me.passport, self.me.install);
        let ephemeral = Keys::generate();
        let made =
            keyring::make(&log, &installs, self.me.passport, self.now_s(), &random, &ephemeral, &mut Rng::default());
        let (_, unsigned) = made.map_err(|_| KeyringError::NoKey)?;
        let event = self.host.sign(unsigned).await?;
        self.take_keys(std::slice::from_ref(&event)).await;
        Ok(())
    }

    async fn seal_to(&mut self, install: PublicKey, role: nips::federation::Role) {
        let Some(log) = &self.log else { return };
        if !log.standing(&self.me.passport).may_admit() {
            return;
        }
        let (me, now, ephemeral) = (self.me.passport, self.now_s(), Keys::generate());
        let sealed = keyring::seal_to(log, &self.keyring, (install, role), me, now, &ephemeral, &mut Rng::default());
        let Ok(Some(unsigned)) = sealed else { return };
        match self.host.sign(unsigned).await {
            Ok(event) => self.take_keys(std::slice::from_ref(&event)).await,
            Err(error) => tracing::warn!(%error, "keys for a member could not be signed"),
        }
    }

    /// Signs an act of this node and lets everybody know.
    async fn act(&mut self, act: &Act) -> Result<(), FederationError> {
        let log = self.log.as_ref().ok_or(FederationError::None)?;
        let unsigned = log.draft(act, self.me.passport, self.now_s())?;
        let event = self.host.sign(unsigned).await?;
        self.take_entries(std::slice::from_ref(&event)).await;
        Ok(())
    }

    pub async fn make_admin(&mut self, npub: PublicKey) -> Result<(), FederationError> {
        self.act(&Act::Admin { node: npub }).await
    }

    /// Removes a node. Whoever removed somebody makes the new keys at once.
    pub async fn remove(&mut self, npub: PublicKey) -> Result<(), FederationError> {
        self.act(&Act::Remove { node: npub }).await?;
        if self.standing(&self.me.passport).may_admit() {
            self.make_keys().await?;
        }
        Ok(())
    }

    /// The first invitation founds the federation.
    pub async fn found(&mut self) -> Result<(), FederationError> {
        if self.log.is_some() {
            return Ok(());
        }
        let unsigned: UnsignedEvent = Log::founding(&self.name, self.host.owner(), self.me.passport, self.now_s());
        let event = self.host.sign(unsigned).await?;
        let log = Log::found(&event)?;
        self.keep(vec![put_event(Shelf::Entries, &event)]).await?;
        self.log = Some(log);
        self.make_keys().await
    }

    /// Takes another federation in the place of this node's own, which nobody else belonged to.
    pub async fn adopt(&mut self, joined: crate::invitation::Joined) -> Result<Standing, FederationError> {
        let crate::invitation::Joined { log, keyring, sealed, standing, inviter } = joined;
        let mut writes = vec![Write::Clear(Shelf::Entries), Write::Clear(Shelf::Sealed), Write::Clear(Shelf::Cards)];
        writes.extend(log.missing_for(&[]).iter().map(|event| put_event(Shelf::Entries, event)));
        writes.extend(sealed.events().map(|event| put_event(Shelf::Sealed, event)));
        writes.push(put(Shelf::Keyring, b"keys", &keyring.to_bytes()));
        self.keep(writes).await?;
        (self.log, self.keyring, self.sealed) = (Some(log), keyring, sealed);
        self.cards.clear();
        let now = self.now_s();
        if let Ok(card) = PeerCard::read(&inviter, now) {
            let code = self.joining.as_ref().map(|joining| joining.machine.code().clone());
            let addresses = code.iter().flat_map(|code| code.addresses.iter().filter_map(|a| a.parse().ok())).collect();
            let relays = code.map(|code| code.relays).unwrap_or_default();
            let peer = card.peer_id;
            self.keep_card(Met { card, event: *inviter, addresses, relays, last_seen: now }).await;
            // The connection of the asking is a stranger's; the handshake makes it a member's.
            self.greet(peer);
        }
        self.see().await;
        self.plan_presence();
        Ok(standing)
    }

    /// Puts an envelope for every member that this node knows a card of.
    pub async fn tell_all(&mut self, event: &Event, urgency: Urgency) {
        let me = self.me.passport;
        let to: Vec<PublicKey> =
            self.cards.keys().filter(|p| **p != me && self.standing(p).is_member()).copied().collect();
        let expires_at = self.now_s() + NEWS_LIFE_S;
        for to in to {
            self.post(Item { to, envelope: event.clone(), urgency, expires_at }).await;
        }
    }

    /// How a member is reached has perhaps changed.
    pub async fn reach(&mut self, passport: PublicKey) {
        let Some(met) = self.cards.get(&passport) else { return };
        let reach = Reach { lan: self.is_here(&met.card.peer_id), relay: !met.relays.is_empty() };
        self.outbox_input(Letters::Reach { peer: passport, reach }).await;
        self.see_alive();
    }

    /// Tells who is alive and what they can do.
    pub fn see_alive(&self) {
        let members = self
            .cards
            .values()
            .filter(|met| met.card.passport != self.me.passport && self.standing(&met.card.passport).is_member());
        let known = |met: &Met| {
            let passport = met.card.passport;
            let member = Member {
                abilities: Abilities::read(&met.card.abilities),
                is_alive: self.is_here(&met.card.peer_id) || self.was_heard(&passport),
                is_guest: self.standing(&passport) == Standing::Guest,
            };
            (passport, member)
        };
        self.view.set_members(members.map(known).collect());
    }

    /// True for a member with a living connection.
    pub fn is_here(&self, peer: &PeerId) -> bool {
        self.meshed.contains(peer) && !self.is_dead(peer)
    }

    /// True for a member that said something over a relay lately, and after its connection fell silent.
    fn was_heard(&self, passport: &PublicKey) -> bool {
        let is_later = |at: &u64| self.fallen.get(passport).is_none_or(|before| at > before);
        self.heard_by_relay.get(passport).is_some_and(|at| is_later(at) && at + HEARD_S > self.now_s())
    }

    /// Members that are alive, and reached by relay only.
    pub fn by_relay_only(&self) -> Vec<PublicKey> {
        let far = self.cards.values().filter(|met| {
            let passport = &met.card.passport;
            *passport != self.me.passport
                && self.standing(passport).is_member()
                && !met.relays.is_empty()
                && !self.is_here(&met.card.peer_id)
                && self.was_heard(passport)
        });
        far.map(|met| met.card.passport).collect()
    }

    fn is_dead(&self, peer: &PeerId) -> bool {
        self.live.as_ref().and_then(|live| live.states().get(peer).copied()) == Some(LivenessState::Dead)
    }

    pub fn peers(&self) -> Vec<Peer> {
        let own = self.me.passport;
        let members = self.log.iter().flat_map(Log::members).filter(|member| member.npub != own);
        let mut all: Vec<Peer> = members
            .map(|member| {
                let met = self.cards.get(&member.npub);
                let peer_id = met.map(|met| met.card.peer_id);
                let is_here = peer_id.is_some_and(|peer| self.is_here(&peer));
                let is_far = !is_here && self.was_heard(&member.npub);
                Peer {
                    passport: Some(member.npub),
                    install: met.map(|met| met.card.install),
                    peer_id,
                    standing: member.standing,
                    state: if is_here || is_far { PeerState::Member } else { PeerState::Lost },
                    via: if is_here || met.is_none_or(|met| met.relays.is_empty()) { Via::Lan } else { Via::Relay },
                    last_seen: if is_here { self.now_s() } else { met.map_or(0, |met| met.last_seen) },
                    abilities: met.map(|met| met.card.abilities.clone()).unwrap_or_default(),
                    reputation: self.labels.reputation().record(&member.npub),
                }
            })
            .collect();
        all.extend(self.strangers.iter().filter(|(peer, _)| self.by_peer(peer).is_none()).map(|(peer, stranger)| {
            Peer {
                passport: None,
                install: None,
                peer_id: Some(*peer),
                standing: Standing::Unknown,
                state: PeerState::Seen,
                via: Via::Lan,
                last_seen: stranger.last_seen,
                abilities: vec![],
                reputation: None,
            }
        }));
        all
    }
}
