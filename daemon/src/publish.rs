//! Publishes who the node is and what it offers: at the start, when it changes, and when a relay lost it. Beats every five minutes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use federation::Abilities;
use nips::Audience;
use nips::identity::{Identity, SOUL_ID};
use nips::offer::{HEARTBEAT_S, Offer};
use nips::task::AudienceClass;
use nostr::{Filter, NostrSigner, UnsignedEvent};
use relay::Target;
use sha2::{Digest, Sha256};

use crate::desk::speaker::word;
use crate::desk::{DeskHandle, Message, Tools};
use crate::journal::now_ms;
use crate::keys::NodeKeys;

/// How often the health of the models, and with it the offer, is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(15);
/// How long identity documents are sent again to a relay that is away, seconds.
const DEADLINE_S: u64 = 3 * 24 * 3600;
/// Documents are dated anew and sent again after this time, seconds: relays forget.
const REFRESH_S: u64 = 7 * 24 * 3600;
/// How long a beat may wait for one relay.
const BEAT: Duration = Duration::from_secs(10);

/// Publishes documents and offers.
pub struct Publisher {
    /// Everything it works with.
    pub tools: Arc<Tools>,
    /// Install and transport key sign the peer card.
    pub keys: NodeKeys,
    /// Who the node is.
    pub identity: Identity,
    /// The owner's choice of kinds; empty = all.
    pub kinds: BTreeSet<u16>,
    /// Hears what is offered.
    pub desk: DeskHandle,
}

impl Publisher {
    /// Publishes until the node ends.
    pub async fn run(self) {
        let mut tick = tokio::time::interval(LOOK_EVERY);
        let mut last_beat = None;
        loop {
            tokio::select! {
                () = self.tools.cancel.cancelled() => break,
                _ = tick.tick() => {}
            }
            self.tools.workshop.chain().probe().await;
            let offered = self.offered();
            self.desk.send(Message::Offered(offered.clone())).await;
            if self.tools.passport.is_superseded() {
                continue;
            }
            self.tell_sisters(&offered).await;
            // What a sister node can do this one can have done.
            let offered = self.with_sisters(offered);
            if let Err(error) = self.publish(&offered).await {
                tracing::warn!(%error, "identity and offer are not published yet");
                continue;
            }
            let now = now_ms() / 1000;
            if !offered.is_empty() && last_beat.is_none_or(|at| now >= at + HEARTBEAT_S || now < at) {
                self.beat(&offered).await;
                last_beat = Some(now);
            }
        }
    }

    /// What can really be done for strangers, within the owner's choice.
    fn offered(&self) -> BTreeSet<u16> {
        self.possible(Audience::Stranger)
    }

    /// What can be done for such people, within the owner's choice.
    fn possible(&self, audience: Audience) -> BTreeSet<u16> {
        let possible = if self.tools.jobs_enabled { self.tools.workshop.kinds_for(audience) } else { BTreeSet::new() };
        possible.into_iter().filter(|k| self.kinds.is_empty() || self.kinds.contains(k)).collect()
    }

    /// The peer card follows what this node itself can do, and sister nodes hear of it.
    async fn tell_sisters(&self, offered: &BTreeSet<u16>) {
        let people = Audience::Person(self.identity.node);
        let abilities =
            Abilities { anyone: offered.clone(), people: self.possible(people), owner: self.possible(Audience::Owner) };
        if self.tools.passport.set_abilities(abilities.words())
            && let Some(sisters) = &self.tools.sisters
        {
            sisters.federation.card_changed().await;
        }
    }

    fn with_sisters(&self, mut offered: BTreeSet<u16>) -> BTreeSet<u16> {
        if let (Some(sisters), true) = (&self.tools.sisters, self.tools.jobs_enabled) {
            let theirs = sisters.view().abilities(AudienceClass::Stranger);
            offered.extend(theirs.into_iter().filter(|k| self.kinds.is_empty() || self.kinds.contains(k)));
        }
        offered
    }

    fn offer(&self, kinds: &BTreeSet<u16>) -> Offer {
        Offer {
            node: self.identity.node,
            name: self.identity.name.clone(),
            about: self.identity.about.clone(),
            kinds: kinds.clone(),
            soul: self.identity.souls.last().map(|soul| soul.sha256.clone()),
        }
    }

    /// Publishes each document whose content, or whose targets, changed since it was published last.
    async fn publish(&self, kinds: &BTreeSet<u16>) -> Result<()> {
        let now = now_ms() / 1000;
        let mut documents = self.identity.documents(now);
        documents.push(self.offer(kinds).event(now));
        documents.push(self.tools.passport.renewed(&self.keys, now)?);
        let published = self.tools.journal.meta("published").await?.unwrap_or_default();
        let mut published: BTreeMap<String, (String, u64)> = serde_json::from_str(&published).unwrap_or_default();
        let mut words = Vec::new();
        for document in documents {
            let (slot, hash) = self.describe(&document);
            let fresh =
                published.get(&slot).is_some_and(|(known, at)| *known == hash && *at + REFRESH_S > now && *at <= now);
            if fresh && self.is_stored(&document).await {
                continue;
            }
            // A newer document must be newer by its date too, also where two follow in one second.
            let mut document = document;
            if let Some((_, at)) = published.get(&slot) {
                document.created_at = document
                    .created_at
                    .max(nostr::Timestamp::from_secs(at + 1))
                    .min(nostr::Timestamp::from_secs(now + 60));
                document.id = None;
            }
            let at = document.created_at.as_secs();
            let event = self.tools.speaker.signer.sign_event(document).await?;
            words.push(word(None, &event, self.targets(now)));
            published.insert(slot, (hash, at));
        }
        if words.is_empty() {
            return Ok(());
        }
        tracing::info!(documents = words.len(), kinds = ?kinds, "publishing identity and offer");
        self.tools.journal.add_words(words, now_ms()).await?;
        self.tools.journal.set_meta("published", serde_json::to_string(&published)?).await?;
        self.tools.outbox.wake();
        Ok(())
    }

    /// Under which name a document is remembered, and the hash of what it says (its date left out, its targets included).
    fn describe(&self, document: &UnsignedEvent) -> (String, String) {
        let mut hash = Sha256::new();
        let is_soul = document.tags.identifier() == Some(SOUL_ID);
        let content = if document.kind.as_u16() == nips::card::CARD_KIND && !is_soul {
            // The card's signatures and end date differ each time; what it says is its sequence number and abilities.
            let watch = &self.tools.passport;
            format!("{} {} {:?}", watch.sequence(), self.keys.peer_id(), watch.abilities())
        } else {
            format!("{:?} {}", document.tags, document.content)
        };
        hash.update(content);
        hash.update(format!("{:?}", self.tools.speaker.configured));
        let slot = if is_soul { SOUL_ID.to_owned() } else { document.kind.as_u16().to_string() };
        (slot, hex::encode(hash.finalize()))
    }

    async fn is_stored(&self, document: &UnsignedEvent) -> bool {
        let mut filter = Filter::new().author(document.pubkey).kind(document.kind).limit(1);
        if let Some(id) = document.tags.identifier() {
            filter = filter.identifier(id);
        }
        self.tools.server.query(vec![filter]).await.is_ok_and(|found| !found.is_empty())
    }

    fn targets(&self, now: u64) -> Vec<(Target, u64)> {
        let outside = self.tools.speaker.configured.iter().cloned().map(Target::Relay);
        std::iter::once(Target::Local).chain(outside).map(|t| (t, now + DEADLINE_S)).collect()
    }

    /// A beat is worth something only now: it is sent once, to each relay at the same time.
    async fn beat(&self, kinds: &BTreeSet<u16>) {
        let unsigned = self.offer(kinds).heartbeat(now_ms() / 1000);
        let Ok(event) = self.tools.speaker.signer.sign_event(unsigned).await else { return };
        if let Err(error) = self.tools.server.publish(event.clone()).await {
            tracing::warn!(%error, "the heartbeat was not stored");
        }
        let sent = self.tools.speaker.configured.iter().map(|url| self.tools.pool.publish(url, &event, BEAT));
        for reply in futures_util::future::join_all(sent).await {
            tracing::debug!(?reply, "heartbeat");
        }
    }
}
