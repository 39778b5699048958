//! Writes, encrypts and signs what is said, and decides where it goes. An encrypted request never gets a clear word.

use std::sync::Arc;
use std::time::Duration;

use bots::talk::parts;
use nips::dm;
use nips::identity;
use nips::job::JobId;
use nips::job::reply::{self, Feedback, MAX_SEALED_BYTES, Status};
use nostr::{Event, Filter, JsonUtil, Keys, Kind, NostrSigner, PublicKey, RelayUrl, SignerError, UnsignedEvent};
use relay::{Pool, Server, Target};

use super::dictation::Told;
use super::lookup;
use super::order::{Order, Origin, Work};
use crate::journal::Word;

/// How long a result is sent again to relays that the owner configured, seconds.
const DEADLINE_S: u64 = 3 * 24 * 3600;
/// The same for relays that a stranger named.
const HINTED_DEADLINE_S: u64 = 24 * 3600;
/// Relays that one order's answer goes to.
const MAX_TARGETS: usize = 12;
/// The longest message, bytes: three layers of JSON and base64 must stay under NIP-44's limit. Longer answers are said in several.
const MAX_REPLY_BYTES: usize = 12 * 1024;
/// The most messages of one answer; what is more is cut.
const MAX_REPLY_PARTS: usize = 12;
/// How long a look-up of somebody's relays may take.
const LOOKUP: Duration = Duration::from_secs(4);

/// What cannot be said.
#[derive(Debug, thiserror::Error)]
pub enum SpeakError {
    /// The signer does not sign or encrypt.
    #[error("the signer did not answer: {0}")]
    Signer(#[from] SignerError),
    /// The text does not fit into an encrypted event.
    #[error("the answer is larger than an encrypted event may be")]
    TooLarge,
}

/// What is signed and goes out.
#[derive(Debug, Default)]
pub struct Spoken {
    /// It, for the outbox.
    pub words: Vec<Word>,
    /// The id by which its reader knows it, where that is known before it goes out.
    pub name: Option<String>,
    /// The date of its last message, Unix seconds.
    pub last_s: u64,
}

impl From<Vec<Word>> for Spoken {
    fn from(words: Vec<Word>) -> Self {
        Self { words, ..Self::default() }
    }
}

/// What a message answers, and how.
#[derive(Debug, Clone, Copy, Default)]
pub struct Reply<'a> {
    /// The message.
    pub to: Option<JobId>,
    /// The outside relay it came by.
    pub came_by: Option<&'a RelayUrl>,
    /// How long the answer lasts, seconds.
    pub lasts_s: Option<u64>,
    /// How much of it went out before it was whole.
    pub told: Option<Told>,
}

/// Says things in the node's name.
#[derive(Clone)]
pub struct Speaker {
    /// The passport.
    pub node: PublicKey,
    /// Holds the key.
    pub signer: Arc<dyn NostrSigner>,
    /// The embedded relay.
    pub server: Server,
    /// Outside relays.
    pub pool: Pool,
    /// The owner's outside relays.
    pub configured: Vec<RelayUrl>,
    /// Where others find our events, for hints: with outside relays and no public address of our own, one of those.
    pub hint: Option<RelayUrl>,
    /// The embedded relay's own addresses.
    pub own: Vec<RelayUrl>,
}

impl Speaker {
    /// The answer to `order`, signed, with its targets; of one that was `told` in part the rest. Nothing for the local door: its
    /// listeners hear it from the desk.
    ///
    /// # Errors
    /// When the signer does not answer.
    pub async fn result(
        &self,
        order: &Order,
        output: &str,
        told: Option<Told>,
        at_ms: u64,
    ) -> Result<Spoken, SpeakError> {
        // A mark that answers nothing is answered by nothing.
        if output.is_empty() && matches!(order.work, Work::Mark { .. }) {
            return Ok(Spoken::default());
        }
        match &order.origin {
            Origin::Nostr { request, cipher, .. } => {
                let unsigned = match cipher {
                    None => reply::result(self.node, request, self.hint(), output, at_ms / 1000),
                    Some(_) => {
                        let sealed = self.seal_for(&request.pubkey, &shorten(output, MAX_SEALED_BYTES)).await?;
                        reply::sealed_result(self.node, request, self.hint(), &sealed, at_ms / 1000)
                    }
                };
                Ok(vec![self.word(order, unsigned, at_ms).await?].into())
            }
            Origin::Message { author, came_by, lasts_s } => {
                let reply = Reply { to: Some(order.id), came_by: came_by.as_ref(), lasts_s: *lasts_s, told };
                self.message(author, output, reply, at_ms).await
            }
            Origin::Matrix { .. } => {
                let is_notice = matches!(order.work, Work::Say { .. });
                Ok(crate::matrix::words(order, output, is_notice, at_ms).into())
            }
            Origin::Local => Ok(Spoken::default()),
        }
    }

    /// The reason why there is no answer.
    ///
    /// # Errors
    /// When the signer does not answer.
    pub async fn error(&self, order: &Order, reason: &str, at_ms: u64) -> Result<Vec<Word>, SpeakError> {
        match &order.origin {
            Origin::Nostr { .. } => {
                let word = Feedback {
                    status: Status::Error,
                    message: Some(reason.to_owned()),
                    content: String::new(),
                    expires_at: None,
                };
                let unsigned = self.feedback(order, &word, at_ms).await?;
                match unsigned {
                    Some(unsigned) => Ok(vec![self.word(order, unsigned, at_ms).await?]),
                    None => Ok(vec![]),
                }
            }
            Origin::Message { author, came_by, lasts_s } => {
                let text = format!("I could not answer that: {reason}.");
                let reply = Reply { to: Some(order.id), came_by: came_by.as_ref(), lasts_s: *lasts_s, told: None };
                Ok(self.message(author, &text, reply, at_ms).await?.words)
            }
            Origin::Matrix { .. } => {
                let text = format!("I could not answer that: {reason}.");
                Ok(crate::matrix::words(order, &text, true, at_ms))
            }
            Origin::Local => Ok(vec![]),
        }
    }

    /// Feedback that is worth something only now (`processing`, `partial`): sent once, never outboxed.
    ///
    /// # Errors
    /// When the signer does not answer.
    pub async fn passing_word(&self, order: &Order, feedback: &Feedback, at_ms: u64) -> Result<(), SpeakError> {
        let Some(unsigned) = self.feedback(order, feedback, at_ms).await? else { return Ok(()) };
        let event = self.signer.sign_event(unsigned).await?;
        let targets = self.targets(order);
        let sent = targets.iter().map(|target| self.send_once(target, &event));
        futures_util::future::join_all(sent).await;
        Ok(())
    }

    async fn send_once(&self, target: &Target, event: &Event) {
        match target {
            Target::Local => {
                if let Err(error) = self.server.publish(event.clone()).await {
                    tracing::debug!(%error, "a passing word was not stored");
                }
            }
            Target::Relay(url) => {
                let reply = self.pool.publish(url, event, LOOKUP).await;
                tracing::debug!(relay = %url, ?reply, "a passing word");
            }
        }
    }

    async fn feedback(&self, order: &Order, word: &Feedback, at_ms: u64) -> Result<Option<UnsignedEvent>, SpeakError> {
        let Origin::Nostr { request, cipher, .. } = &order.origin else { return Ok(None) };
        let at = at_ms / 1000;
        Ok(Some(match cipher {
            None => reply::feedback(self.node, request, self.hint(), word, at),
            Some(_) => {
                let sealed = self.seal_for(&request.pubkey, &reply::sealed_feedback_payload(word)).await?;
                reply::sealed_feedback(self.node, request, self.hint(), word, &sealed, at)
            }
        }))
    }

    async fn seal_for(&self, reader: &PublicKey, text: &str) -> Result<String, SpeakError> {
        if text.len() > MAX_SEALED_BYTES {
            return Err(SpeakError::TooLarge);
        }
        Ok(self.signer.nip44_encrypt(reader, text).await?)
    }

    async fn word(&self, order: &Order, unsigned: UnsignedEvent, at_ms: u64) -> Result<Word, SpeakError> {
        let event = self.signer.sign_event(unsigned).await?;
        let targets = self.targets(order);
        Ok(word(Some(order.id), &event, targets.into_iter().map(|t| self.with_deadline(t, at_ms)).collect()))
    }

    fn with_deadline(&self, target: Target, at_ms: u64) -> (Target, u64) {
        let known = match &target {
            Target::Local => true,
            Target::Relay(url) => self.configured.contains(url),
        };
        (target, at_ms / 1000 + if known { DEADLINE_S } else { HINTED_DEADLINE_S })
    }

    /// Our own relay, those that the request names, the one it came by; the owner's relays where it names none.
    fn targets(&self, order: &Order) -> Vec<Target> {
        let Origin::Nostr { relays, came_by, .. } = &order.origin else { return vec![Target::Local] };
        let fallback = if relays.is_empty() { self.configured.as_slice() } else { &[] };
        self.distinct(relays.iter().chain(came_by).chain(fallback))
    }

    fn distinct<'a>(&self, relays: impl IntoIterator<Item = &'a RelayUrl>) -> Vec<Target> {
        let mut targets = vec![Target::Local];
        for url in relays {
            let target = Target::Relay(url.clone());
            // Our own address named by a customer is our own relay.
            if !self.own.contains(url) && !targets.contains(&target) && targets.len() < MAX_TARGETS {
                targets.push(target);
            }
        }
        targets
    }

    /// A direct message, in parts where it is long: of each one wrap for its reader, one for ourselves (NIP-17). Its name is that of the last.
    ///
    /// # Errors
    /// When the signer does not answer.
    pub async fn message(
        &self,
        to: &PublicKey,
        text: &str,
        reply: Reply<'_>,
        at_ms: u64,
    ) -> Result<Spoken, SpeakError> {
        let text = shorten(&printable(text), MAX_REPLY_BYTES * MAX_REPLY_PARTS / 2);
        let (text, at) = match reply.told {
            Some(told) => told.ending(&text, at_ms / 1000),
            None => (Some(text), at_ms / 1000),
        };
        match text {
            Some(text) => self.letters(to, &text, reply, (at, at_ms)).await,
            None => Ok(Spoken::default()),
        }
    }

    /// A part of an answer that is still being written.
    ///
    /// # Errors
    /// When the signer does not answer.
    pub async fn part(&self, to: &PublicKey, text: &str, reply: Reply<'_>, at_ms: u64) -> Result<Spoken, SpeakError> {
        let at = reply.told.map_or(at_ms / 1000, |told| told.next_s(at_ms / 1000));
        self.letters(to, text, reply, (at, at_ms)).await
    }

    async fn letters(
        &self,
        to: &PublicKey,
        text: &str,
        reply: Reply<'_>,
        (at, at_ms): (u64, u64),
    ) -> Result<Spoken, SpeakError> {
        let order = reply.to;
        let reply_to = order.map(|id| nostr::EventId::from_byte_array(*id.as_bytes()));
        let ends = reply.lasts_s.map(|lasts| at.saturating_add(lasts));
        let theirs = self.dm_relays(to, reply.came_by).await;
        let mut spoken = Spoken::default();
        // A second apart: readers put messages in the order of their dates, which have no finer ones.
        for (part, at) in parts(text, MAX_REPLY_BYTES).into_iter().zip(at..) {
            let mut rumor = dm::rumor_until(self.node, to, part, reply_to, at, ends);
            (spoken.name, spoken.last_s) = (Some(rumor.id().to_hex()), at);
            for (reader, relays) in [(to, &theirs), (&self.node, &self.configured)] {
                let wrap = self.wrapped(reader, &rumor, at, ends).await?;
                let targets = self.distinct(relays).into_iter().map(|t| self.with_deadline(t, at_ms)).collect();
                spoken.words.push(word(order, &wrap, targets));
            }
        }
        Ok(spoken)
    }

    /// A rumor in its seal in its wrap, both dated back.
    async fn wrapped(
        &self,
        reader: &PublicKey,
        rumor: &UnsignedEvent,
        at: u64,
        ends: Option<u64>,
    ) -> Result<Event, SpeakError> {
        let sealed = self.seal_for(reader, &rumor.as_json()).await?;
        let date = dm::backdated(at, &mut nostr::secp256k1::rand::rngs::OsRng);
        let seal = self.signer.sign_event(dm::seal(self.node, &sealed, date)).await?;
        let date = dm::backdated(at, &mut nostr::secp256k1::rand::rngs::OsRng);
        let rng = &mut nostr::secp256k1::rand::rngs::OsRng;
        dm::wrap_until(&seal, reader, &Keys::generate(), date, ends, rng).map_err(|_| SpeakError::TooLarge)
    }

    /// Where `to` reads messages: their 10050, from our relay or the owner's relays.
    async fn dm_relays(&self, to: &PublicKey, came_by: Option<&RelayUrl>) -> Vec<RelayUrl> {
        let filter = Filter::new().author(*to).kind(Kind::from_u16(identity::DM_RELAYS_KIND)).limit(1);
        let mut lists = self.server.query(vec![filter.clone()]).await.unwrap_or_default();
        if lists.is_empty() {
            let standing = lookup::connected(&self.pool, &self.configured);
            lists.extend(lookup::ask(&self.pool, &standing, &filter, LOOKUP).await);
        }
        let newest = lists.iter().max_by_key(|e| e.created_at);
        let listed = newest.map(|e| identity::dm_relays(e, nips::job::request::MAX_RELAYS)).unwrap_or_default();
        dm::reply_relays(listed, came_by.cloned())
    }

    fn hint(&self) -> Option<&str> {
        self.hint.as_ref().map(RelayUrl::as_str_without_trailing_slash)
    }
}

/// A signed event with its targets, for the journal.
pub fn word(job: Option<JobId>, event: &Event, targets: Vec<(Target, u64)>) -> Word {
    Word {
        id: event.id.to_bytes(),
        job,
        event: event.as_json(),
        targets: targets.into_iter().map(|(target, deadline)| (target.to_string(), deadline)).collect(),
    }
}

fn shorten(text: &str, bytes_max: usize) -> String {
    const MARK: &str = "\n[…]";
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    let mut end = bytes_max - MARK.len();
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{MARK}", &text[..end])
}

/// Without control characters: JSON writes each of them as six bytes, three layers deep.
pub(super) fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The longest reply of the worst letters still fits: rumor in seal in wrap, each JSON inside NIP-44.
    #[test]
    fn the_longest_message_can_be_sealed_and_wrapped() {
        let (keys, reader) = (Keys::generate(), Keys::generate().public_key());
        for letter in ["\"", "\\", "\n", "\u{1}", "é", "😀"] {
            let text = shorten(&printable(&letter.repeat(60_000)), MAX_REPLY_BYTES);
            let rumor = dm::rumor(keys.public_key(), &reader, &text, None, 1);
            let v2 = nostr::nips::nip44::Version::V2;
            let sealed = nostr::nips::nip44::encrypt(keys.secret_key(), &reader, rumor.as_json(), v2).unwrap();
            let seal = dm::seal(keys.public_key(), &sealed, 1).sign_with_keys(&keys).unwrap();
            let rng = &mut nostr::secp256k1::rand::rngs::OsRng;
            dm::wrap(&seal, &reader, &Keys::generate(), 1, rng).unwrap();
        }
    }
}
