//! Says what the journal holds for Matrix: in order, again until it stands there, each once.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bots::matrix::{Door, MAX_PART, SayError, Saying};
use bots::talk::code;
use bots::talk::parts;
use bots::voice::Voice;
use nips::job::JobId;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Matrix;
use crate::desk::order::{Order, Origin, Work};
use crate::desk::{DeskHandle, Message, Tools};
use crate::journal::{DueWord, Word, WordState, now_ms};

/// The target of these words.
pub const TARGET: &str = "matrix";
/// How long an answer is tried, seconds.
const DEADLINE_S: u64 = 7 * 24 * 3600;
/// Words taken from the journal at a time.
const BATCH: usize = 64;
/// How long the mouth waits when nothing is due.
const IDLE: Duration = Duration::from_secs(30);
/// The longest pause between tries, seconds.
const PAUSE_MAX_S: u64 = 300;

/// One part of an answer, as the journal keeps it.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    room: String,
    answers: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    thread: Option<String>,
    text: String,
    part: usize,
    is_notice: bool,
    /// It is spoken too: it answers something that was.
    #[serde(default)]
    is_spoken: bool,
}

/// An answer to `order` in parts; nothing where it came by another door.
pub fn words(order: &Order, text: &str, is_notice: bool, at_ms: u64) -> Vec<Word> {
    let Origin::Matrix { room, event, thread, .. } = &order.origin else { return vec![] };
    let was_spoken = matches!(&order.work, Work::Talk { file: Some(file), .. } if file.is_voice);
    let note = |(part, text): (usize, &str)| {
        let note = Note {
            room: room.clone(),
            answers: event.clone(),
            thread: thread.clone(),
            text: text.to_owned(),
            part,
            is_notice,
            is_spoken: part == 0 && was_spoken,
        };
        let id = Sha256::new().chain_update("timmy/matrix-word/1").chain_update(order.id.as_bytes());
        Word {
            id: id.chain_update(part.to_be_bytes()).finalize().into(),
            job: Some(order.id),
            event: serde_json::to_string(&note).unwrap_or_default(),
            targets: vec![(TARGET.to_owned(), at_ms / 1000 + DEADLINE_S)],
        }
    };
    parts(text, MAX_PART).into_iter().enumerate().map(note).collect()
}

impl Matrix {
    /// Works until the node ends.
    pub(super) async fn speak(self, tools: Arc<Tools>, desk: DeskHandle) {
        loop {
            let wait = match self.say_due(&tools, &desk).await {
                Some(next_s) => Duration::from_secs(next_s.saturating_sub(now_ms() / 1000).max(1)).min(IDLE),
                None => IDLE,
            };
            tokio::select! {
                () = tools.cancel.cancelled() => return,
                () = self.0.due.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Says what is due; gives when something is due next, Unix seconds.
    async fn say_due(&self, tools: &Tools, desk: &DeskHandle) -> Option<u64> {
        let door = self.door()?;
        loop {
            let due = match tools.journal.due_words(TARGET, BATCH).await {
                Ok(due) => due,
                Err(error) => {
                    tracing::error!(%error, "the journal does not tell what is to be said");
                    return None;
                }
            };
            let now_s = now_ms() / 1000;
            // What cannot be said yet holds up what comes after it in its room, and nothing else.
            let mut held = BTreeSet::new();
            let mut said = 0;
            for word in &due {
                let Ok(note) = serde_json::from_str::<Note>(&word.event) else { continue };
                if word.next_s > now_s {
                    held.insert(note.room.clone());
                }
                if held.contains(&note.room) {
                    continue;
                }
                let state = self.say_one(tools, door, word, &note, now_s).await;
                if matches!(state, WordState::Pending { .. }) {
                    held.insert(note.room.clone());
                } else {
                    said += 1;
                }
                let is_over = !matches!(state, WordState::Pending { .. });
                if let Err(error) = tools.journal.record_word(word.id, TARGET, state).await {
                    tracing::error!(%error, "what was said is not written down; it is said again under its number");
                    return Some(now_s + 5);
                }
                if is_over {
                    desk.send(Message::Delivered(word.id, TARGET.to_owned())).await;
                }
            }
            if said == 0 {
                return due.iter().map(|word| word.next_s).min();
            }
        }
    }

    async fn say_one(&self, tools: &Tools, door: &Door, word: &DueWord, note: &Note, now_s: u64) -> WordState {
        let said = match word.job {
            Some(job) if note.part == 0 => self.say_first(tools, door, job, note).await,
            job => self.say_plain(door, &format!("{}.{}", name(job, word), note.part), note, None).await,
        };
        match said {
            Ok(event) => {
                if let Some(code) = word.job.map(|job| code(&job.to_string())).filter(|code| note.text.contains(code))
                    && let Err(error) = tools.journal.name_proposal(code, event).await
                {
                    tracing::warn!(%error, "a mark on this question will not answer it");
                }
                if let (true, Some(voice)) = (note.is_spoken, tools.voice.as_ref().filter(|voice| voice.can_speak())) {
                    self.speak_aloud(door, voice, &name(word.job, word), note).await;
                }
                WordState::Done
            }
            Err(SayError::Never(why)) => {
                tracing::warn!(why, "an answer cannot be said");
                WordState::Refused(why)
            }
            Err(SayError::NotYet(why)) if now_s >= word.deadline_s => WordState::Expired(why),
            Err(SayError::NotYet(why)) => {
                tracing::debug!(why, "an answer is said later");
                let pause_s = (1_u64 << word.attempts.min(9)).min(PAUSE_MAX_S);
                WordState::Pending { next_s: now_s + pause_s, why }
            }
        }
    }

    /// The same as a sound. The words stand there already: what goes wrong here is no more than a word in the log.
    async fn speak_aloud(&self, door: &Door, voice: &Voice, name: &str, note: &Note) {
        let sound = match voice.speak(&note.text).await {
            Ok(sound) => sound,
            Err(error) => return tracing::warn!(%error, "an answer is not spoken"),
        };
        if let Err(error) = door.say_sound(&note.room, &format!("{name}.v"), sound).await {
            tracing::warn!(%error, "an answer is not spoken");
        }
    }

    /// The first part takes the place of what was shown while it was written.
    async fn say_first(&self, tools: &Tools, door: &Door, job: JobId, note: &Note) -> Result<String, SayError> {
        let writing = self.writing(job);
        // A part that is on its way is waited for: it must not come after the whole.
        let mut writing = writing.lock().await;
        writing.is_over = true;
        writing.typing.cancel();
        let shown = match &writing.event {
            Some(event) => Some(event.clone()),
            // Shown by an earlier life of this process: the homeserver gives the same event for the same number.
            None if tools.journal.is_shown(job).await => {
                Some(self.say_plain(door, &format!("{job}.0"), note, None).await?)
            }
            None => None,
        };
        let event = match shown {
            Some(event) => {
                self.say_plain(door, &format!("{job}.f"), note, Some(&event)).await?;
                event
            }
            None => self.say_plain(door, &format!("{job}.0"), note, None).await?,
        };
        if let Err(error) = tools.journal.forget_shown(job).await {
            tracing::debug!(%error, "a mark stays in the journal");
        }
        door.typing(&note.room, false).await;
        Ok(event)
    }

    async fn say_plain(
        &self,
        door: &Door,
        transaction: &str,
        note: &Note,
        replaces: Option<&str>,
    ) -> Result<String, SayError> {
        door.say(Saying {
            room: &note.room,
            transaction,
            text: &note.text,
            answers: &note.answers,
            thread: note.thread.as_deref(),
            replaces,
            is_notice: note.is_notice,
        })
        .await
    }
}

fn name(job: Option<JobId>, word: &DueWord) -> String {
    job.map_or_else(|| hex::encode(word.id), |job| job.to_string())
}
