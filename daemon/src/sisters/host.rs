//! The node as the federation sees it.

use std::time::Duration;

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use federation::auction::{Ask, Figures};
use federation::lease::Stop;
use federation::tasks::{Execution, Notice, WorkId};
use federation::{Host, HostError, Linked, Post, Shelf, TaskEnd, Write};
use memory::Memory;
use nips::PeerCard;
use nips::dm;
use nips::federation::{KIND_DIGEST, letter};
use nostr::nips::nip44;
use nostr::{Event, JsonUtil, Keys, NostrSigner, PublicKey, SecretKey, UnsignedEvent};
use relay::pool::PublishReply;
use relay::{Outbox, Pool, Target};
use std::sync::Arc;
use tokio_util::task::TaskTracker;
use zeroize::Zeroizing;

use super::digests::Digests;
use super::errands::Errands;
use super::hands::Hands;
use super::sync::Links;
use crate::desk::speaker::word;
use crate::journal::{Journal, ShelfWrite, now_ms};
use crate::keys::NodeKeys;
use crate::passport::PassportWatch;

/// How long one relay may take to store a letter.
const LETTER: Duration = Duration::from_secs(8);

/// How long a label is sent again to a relay that is away, seconds.
const LABEL_S: u64 = 7 * 24 * 3600;

/// What the federation asks things of.
pub struct House {
    pub signer: Arc<dyn NostrSigner>,
    pub keys: NodeKeys,
    pub journal: Journal,
    pub passport: PassportWatch,
    pub memory: Memory,
    pub pool: Pool,
    pub owner: Option<PublicKey>,
    pub links: Links,
    pub digests: Digests,
    pub hands: Hands,
    pub errands: Errands,
    pub outbox: Outbox,
    /// Where labels are published beside our own relay; none when the owner does not want that.
    pub labels_to: Option<Vec<nostr::RelayUrl>>,
    pub tracker: TaskTracker,
}

fn failed(error: impl std::fmt::Display) -> HostError {
    HostError(error.to_string())
}

impl House {
    /// Secrets rest sealed under a key that a backup brings back with them, and whose file a passphrase encrypts.
    fn rest(&self) -> Result<Keys, HostError> {
        let secret = SecretKey::from_slice(&self.keys.memory.derive("federation")).map_err(failed)?;
        Ok(Keys::new(secret))
    }

    fn close(&self, shelf: Shelf, value: &[u8]) -> Result<Vec<u8>, HostError> {
        if !shelf.is_secret() {
            return Ok(value.to_vec());
        }
        let (rest, text) = (self.rest()?, STANDARD.encode(value));
        nip44::encrypt(rest.secret_key(), &rest.public_key(), text, nip44::Version::V2)
            .map(String::into_bytes)
            .map_err(failed)
    }

    fn open(&self, shelf: Shelf, value: Vec<u8>) -> Result<Zeroizing<Vec<u8>>, HostError> {
        if !shelf.is_secret() {
            return Ok(Zeroizing::new(value));
        }
        let rest = self.rest()?;
        let sealed = String::from_utf8(value).map_err(failed)?;
        let text = nip44::decrypt(rest.secret_key(), &rest.public_key(), sealed).map_err(|_| {
            HostError(
                "a secret of the federation does not open: the key file `memory` is not the one it was sealed with"
                    .to_owned(),
            )
        })?;
        STANDARD.decode(text).map(Zeroizing::new).map_err(failed)
    }

    /// Seals and wraps one part of a letter.
    async fn wrap(&self, post: &Post, rumor: &UnsignedEvent) -> Result<Event, HostError> {
        let now = now_ms() / 1000;
        let sealed = self.signer.nip44_encrypt(&post.to, &rumor.as_json()).await.map_err(failed)?;
        let mut rng = nostr::secp256k1::rand::rngs::OsRng;
        let unsigned = dm::seal(rumor.pubkey, &sealed, now);
        let seal = self.signer.sign_event(unsigned).await.map_err(failed)?;
        letter::wrap(&seal, &post.to, &Keys::generate(), (now, post.expires_at), &mut rng).map_err(failed)
    }

    /// True when one relay has all parts.
    async fn publish(&self, post: &Post, wraps: &[Event]) -> bool {
        for relay in &post.relays {
            let mut is_whole = true;
            for wrap in wraps {
                is_whole &= matches!(self.pool.publish(relay, wrap, LETTER).await, PublishReply::Accepted);
            }
            if is_whole {
                return true;
            }
        }
        false
    }
}

#[async_trait]
impl Host for House {
    async fn sign(&self, unsigned: UnsignedEvent) -> Result<Event, HostError> {
        self.signer.sign_event(unsigned).await.map_err(failed)
    }

    async fn card(&self) -> Result<Event, HostError> {
        let now = now_ms() / 1000;
        let unsigned = self.passport.renewed(&self.keys, now).map_err(failed)?;
        self.sign(unsigned).await
    }

    fn owner(&self) -> Option<PublicKey> {
        self.owner
    }

    async fn load(&self, shelf: Shelf) -> Result<Vec<(Vec<u8>, Zeroizing<Vec<u8>>)>, HostError> {
        let rows = self.journal.shelf(shelf.name()).await.map_err(failed)?;
        rows.into_iter().map(|(key, value)| Ok((key, self.open(shelf, value)?))).collect()
    }

    async fn keep(&self, writes: Vec<Write>) -> Result<(), HostError> {
        let writes: Result<Vec<ShelfWrite>, HostError> = writes
            .into_iter()
            .map(|write| {
                Ok(match write {
                    Write::Put(shelf, key, value) => ShelfWrite::Put(shelf.name(), key, self.close(shelf, &value)?),
                    Write::Delete(shelf, key) => ShelfWrite::Delete(shelf.name(), key),
                    Write::Clear(shelf) => ShelfWrite::Clear(shelf.name()),
                })
            })
            .collect();
        self.journal.shelve(writes?).await.map_err(failed)
    }

    async fn post(&self, letter: Post) -> bool {
        let mut wraps = Vec::with_capacity(letter.rumors.len());
        for rumor in &letter.rumors {
            match self.wrap(&letter, rumor).await {
                Ok(wrap) => wraps.push(wrap),
                Err(error) => {
                    tracing::debug!(%error, "a letter could not be sealed");
                    return false;
                }
            }
        }
        self.publish(&letter, &wraps).await
    }

    fn linked(&self, linked: Linked) {
        self.links.add(linked);
    }

    fn heard(&self, said: Event) {
        if said.kind.as_u16() == KIND_DIGEST {
            return self.digests.heard(&said);
        }
        let (memory, change) = (self.memory.clone(), said);
        self.tracker.spawn(async move {
            if let Err(error) = memory.take(vec![change]).await {
                tracing::debug!(%error, "a change that came by gossip was not taken; sync brings it");
            }
        });
    }

    fn twin(&self, card: &PeerCard) {
        self.passport.twin(card);
    }

    async fn figures(&self, ask: Ask) -> Option<Figures> {
        self.hands.figures(&ask)
    }

    fn execute(&self, execution: Execution) {
        self.hands.execute(execution, &self.tracker);
    }

    fn extend(&self, work: WorkId, fence_ms: u64) {
        self.hands.extend(&work, fence_ms);
    }

    fn stop(&self, work: WorkId, why: Stop) {
        tracing::debug!(task = %work.attempt.task, ?why, "work for a sister node is stopped");
        self.hands.stop(&work);
    }

    fn ended(&self, ended: TaskEnd) {
        self.errands.ended(ended);
    }

    fn publish(&self, label: Event) {
        let Some(relays) = &self.labels_to else { return };
        let until = now_ms() / 1000 + LABEL_S;
        let targets = std::iter::once(Target::Local).chain(relays.iter().cloned().map(Target::Relay));
        let words = vec![word(None, &label, targets.map(|target| (target, until)).collect())];
        let (journal, outbox) = (self.journal.clone(), self.outbox.clone());
        self.tracker.spawn(async move {
            match journal.add_words(words, now_ms()).await {
                Ok(()) => outbox.wake(),
                Err(error) => tracing::warn!(%error, "a label is not published"),
            }
        });
    }

    fn auctioned(&self, took: Duration) {
        self.hands.auctioned(took);
    }

    fn notice(&self, notice: Notice) {
        match notice {
            Notice::LateResult { attempt, from, reason } => {
                tracing::info!(task = %attempt.task, from = %from.to_hex(), ?reason, "a result came too late and is not taken");
            }
            Notice::Marked { subject, outcome, attempt } => {
                tracing::info!(task = %attempt.task, node = %subject.to_hex(), outcome = outcome.as_str(), "a sister node did not do what it had said");
            }
            Notice::BrokenRules { requester, attempt, reason } => {
                tracing::warn!(task = %attempt.task, requester = %requester.to_hex(), ?reason, "a sister node broke the rules of an auction");
            }
            other @ (Notice::Accepted(_) | Notice::NotAccepted(..) | Notice::Suspected(..)) => {
                tracing::debug!(?other, "a task between sister nodes");
            }
        }
    }
}
