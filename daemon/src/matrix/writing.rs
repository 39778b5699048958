//! An answer while it is written: that it was read, that somebody types, and how far it is.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use bots::matrix::{MAX_PART, Saying};
use nips::job::JobId;
use nips::job::reply::Status;
use tokio_util::sync::CancellationToken;

use super::Matrix;
use crate::desk::Tools;
use crate::desk::order::{Order, Origin};

/// Typing is shown for four seconds.
const TYPING_EVERY: Duration = Duration::from_secs(3);
/// After the n-th edit the next one waits n times this: a default homeserver allows ten messages at once and then one in five seconds.
const EDIT_PACE: Duration = Duration::from_millis(1_500);
/// The most edits of one answer: clients load them all.
const MAX_EDITS: u32 = 20;
/// How long a finished answer is remembered, so that a late part of it is not shown.
const REMEMBER: Duration = Duration::from_secs(60);
/// What follows a part.
const MORE: &str = " …";

/// One answer while it is written.
#[derive(Debug)]
pub(super) struct Writing {
    /// The event in which it is shown.
    pub event: Option<String>,
    /// The whole was said, or is about to be.
    pub is_over: bool,
    /// Ends the typing.
    pub typing: CancellationToken,
    is_typing: bool,
    edits: u32,
    next: Instant,
}

impl Matrix {
    /// The answer of a job.
    pub(super) fn writing(&self, job: JobId) -> Arc<tokio::sync::Mutex<Writing>> {
        let now = Instant::now();
        let mut all = self.0.writing.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|id, one| {
            *id == job || one.try_lock().map_or(true, |one| !one.is_over || one.next + REMEMBER > now)
        });
        let new = || Writing {
            event: None,
            is_over: false,
            typing: CancellationToken::new(),
            is_typing: false,
            edits: 0,
            next: now,
        };
        Arc::clone(all.entry(job).or_insert_with(|| Arc::new(tokio::sync::Mutex::new(new()))))
    }

    /// Shows that a message was read and is worked on, or how far its answer is.
    pub async fn pass(&self, tools: &Tools, order: &Order, status: Status, content: &str) {
        let (Origin::Matrix { room, event, .. }, Some(door)) = (&order.origin, self.door()) else { return };
        if status != Status::Partial {
            door.read(room, event).await;
            let typing = {
                let writing = self.writing(order.id);
                let mut writing = writing.lock().await;
                if writing.is_over || std::mem::replace(&mut writing.is_typing, true) {
                    return;
                }
                writing.typing.clone()
            };
            // Ends with the answer, or with the node.
            loop {
                door.typing(room, true).await;
                tokio::select! {
                    () = tools.cancel.cancelled() => return,
                    () = typing.cancelled() => return,
                    () = tokio::time::sleep(TYPING_EVERY) => {}
                }
            }
        }
        self.show(tools, order, content).await;
    }

    /// Nothing more is written for this job.
    pub async fn hush(&self, order: &Order) {
        let (Origin::Matrix { room, .. }, Some(door)) = (&order.origin, self.door()) else { return };
        let writing = self.writing(order.id);
        let mut writing = writing.lock().await;
        writing.is_over = true;
        writing.typing.cancel();
        door.typing(room, false).await;
    }

    async fn show(&self, tools: &Tools, order: &Order, content: &str) {
        let (Origin::Matrix { room, event, thread, .. }, Some(door)) = (&order.origin, self.door()) else { return };
        let writing = self.writing(order.id);
        // One on its way is enough: the next one is newer.
        let Ok(mut writing) = writing.try_lock() else { return };
        let text = content.trim();
        if writing.is_over || writing.next > Instant::now() || writing.edits >= MAX_EDITS || text.is_empty() {
            return;
        }
        let text = format!("{}{MORE}", &text[..text.floor_char_boundary(MAX_PART - MORE.len())]);
        if writing.event.is_none() && tools.journal.mark_shown(order.id).await.is_err() {
            return;
        }
        let transaction = match writing.event {
            None => format!("{}.0", order.id),
            Some(_) => format!("{}.e{}", order.id, writing.edits),
        };
        let saying = Saying {
            room,
            transaction: &transaction,
            text: &text,
            answers: event,
            thread: thread.as_deref(),
            replaces: writing.event.as_deref(),
            is_notice: false,
        };
        match door.say(saying).await {
            Ok(id) => drop(writing.event.get_or_insert(id)),
            Err(error) => tracing::debug!(%error, "a part of an answer is not shown"),
        }
        writing.edits += 1;
        writing.next = Instant::now() + EDIT_PACE * writing.edits;
    }
}
