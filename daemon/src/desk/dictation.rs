//! A long answer over NIP-17 while it is written. A message cannot be edited there, so finished paragraphs go out as messages of their own.
//! What went out is noted in the same transaction; when the answer is whole, what is left of it follows.

use std::time::Duration;

use bots::talk::finished;
use relay::Outbox;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::order::{Origin, Work};
use super::speaker::{Reply, printable};
use super::work::Bench;
use crate::journal::now_ms;

/// Less than this is not worth a message of its own, bytes.
const LEAST: usize = 1_200;
/// The least time between two messages of one answer.
const PAUSE: Duration = Duration::from_secs(5);
/// The most messages before the answer is whole: there are other people's telephones.
const MAX_EARLY: u32 = 6;
/// Before an answer of which another beginning was sent: its model failed in the middle, or the node did.
const AGAIN: &str = "I have to begin again:";

/// How much of an answer went out before it was whole. Its text is not kept: it may be forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    bytes: usize,
    digest: [u8; 32],
    /// The date of the newest message, Unix seconds.
    last_s: u64,
}

impl Told {
    /// The whole of `text` went out.
    pub(crate) fn new(text: &str, last_s: u64) -> Self {
        Self { bytes: text.len(), digest: Sha256::digest(text).into(), last_s }
    }

    /// What follows it in a text that begins so.
    fn rest<'a>(&self, text: &'a str) -> Option<&'a str> {
        let (told, rest) = text.split_at_checked(self.bytes)?;
        (Sha256::digest(told).as_slice() == self.digest).then_some(rest.trim_start())
    }

    /// What is to be said at the end, and no earlier than when: nothing where all was said.
    pub fn ending(&self, text: &str, now_s: u64) -> (Option<String>, u64) {
        let text = text.trim_start();
        let ending = match self.rest(text) {
            Some("") => None,
            Some(rest) => Some(rest.to_owned()),
            None => Some(format!("{AGAIN}\n\n{text}")),
        };
        (ending, self.next_s(now_s))
    }

    /// When the next message is dated: readers put them in the order of their dates.
    pub fn next_s(&self, now_s: u64) -> u64 {
        now_s.max(self.last_s.saturating_add(1))
    }
}

/// The outbox is told of what was put into it, whoever waits for that.
struct Wakes(Outbox);

impl Drop for Wakes {
    fn drop(&mut self) {
        self.0.wake();
    }
}

/// One answer that is being written.
pub(super) struct Dictation {
    told: Option<Told>,
    parts: u32,
    next: Instant,
    is_over: bool,
}

impl Bench {
    /// None where answers are not dictated, or where an earlier life of this process began to: another text comes of it now.
    pub(super) async fn dictation(&self) -> Option<Dictation> {
        let is_message = matches!(self.order.origin, Origin::Message { .. });
        if !is_message || !matches!(self.order.work, Work::Talk { .. }) || self.told().await.is_some() {
            return None;
        }
        Some(Dictation { told: None, parts: 0, next: Instant::now(), is_over: false })
    }

    /// How much of this order's answer went out.
    pub(super) async fn told(&self) -> Option<Told> {
        self.tools.journal.told(self.order.id).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "it is not known what was said of an answer; it is said whole");
            None
        })
    }

    /// Sends what is finished of an answer, where that is much.
    pub(super) async fn dictate(&self, so_far: &str, dictation: &mut Dictation) {
        let Origin::Message { author, came_by, lasts_s } = &self.order.origin else { return };
        if dictation.is_over || dictation.parts >= MAX_EARLY || Instant::now() < dictation.next {
            return;
        }
        let text = printable(so_far);
        let text = text.trim_start();
        let Some(rest) = dictation.told.map_or(Some(text), |told| told.rest(text)) else {
            // Another model began anew: what was said is no beginning of it.
            dictation.is_over = true;
            return;
        };
        let Some(part) = finished(rest, LEAST) else { return };
        let at_ms = now_ms();
        let reply =
            Reply { to: Some(self.order.id), came_by: came_by.as_ref(), lasts_s: *lasts_s, told: dictation.told };
        let spoken = match self.tools.speaker.part(author, part, reply, at_ms).await {
            Ok(spoken) => spoken,
            Err(error) => return tracing::debug!(%error, "a part of an answer cannot be signed now"),
        };
        let end = text.len() - rest.len() + part.len();
        let told = Told::new(&text[..end], spoken.last_s);
        let wakes = Wakes(self.tools.outbox.clone());
        if let Err(error) = self.tools.journal.tell(self.order.id, (spoken.words, told), at_ms, wakes).await {
            return tracing::warn!(%error, "a part of an answer cannot be kept; it is said with the rest");
        }
        dictation.told = Some(told);
        dictation.parts += 1;
        dictation.next = Instant::now() + PAUSE;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_told_is_not_told_again_and_another_beginning_is_said_so() {
        let told = Told::new("One.\n\nTwo.", 100);
        assert_eq!(told.ending(" One.\n\nTwo.\n\nThree.", 90), (Some("Three.".to_owned()), 101));
        assert_eq!(told.ending("One.\n\nTwo.\n", 200), (None, 200));
        let (again, _) = told.ending("One.\n\nToo.\n\nThree.", 90);
        assert_eq!(again.unwrap(), format!("{AGAIN}\n\nOne.\n\nToo.\n\nThree."));
        assert!(told.ending("ééééé é", 1).0.unwrap().starts_with(AGAIN), "cut inside a letter");
    }
}
