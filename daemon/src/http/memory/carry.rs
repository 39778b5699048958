//! Import and export: lines in, lines out.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use memory::transfer::{Item, MAX_LINE, exported, read_line};
use memory::{Draft, Memory, MemoryError, Outcome, Refusal, TruthError};
use nips::memory::{Message, Space};
use nostr::Event;
use serde::{Deserialize, Serialize};

use super::super::Shared;
use super::super::api::Failure;

/// Lines of one call.
const MAX_LINES: usize = 500;
/// Bytes of one call: what the command line gathers, and one line that goes over it.
const MAX_BYTES: usize = 3 * MAX_LINE;
/// Bad lines that are named in an answer.
const NAMED: usize = 10;
/// Events read at a time for an export.
const PAGE: usize = 500;

pub(super) fn router() -> Router<Arc<Shared>> {
    Router::new().route("/import", post(import).layer(DefaultBodyLimit::max(MAX_BYTES))).route("/export", get(export))
}

#[derive(Deserialize)]
struct Within {
    space: Option<Space>,
}

/// What became of the lines.
#[derive(Debug, Default, Serialize)]
struct Taken {
    /// Remembered now.
    added: usize,
    /// There before.
    known: usize,
    /// Forgotten earlier; not taken again.
    forgotten: usize,
    /// Not understood, or not to be taken.
    bad: usize,
    /// The first of them: number of the line in this call, from 0, and why.
    named: Vec<(usize, String)>,
}

impl Taken {
    fn bad(&mut self, at: usize, why: &dyn std::fmt::Display) {
        self.bad += 1;
        if self.named.len() < NAMED {
            self.named.push((at, why.to_string()));
        }
    }

    fn event(&mut self, at: usize, outcome: Outcome) {
        match outcome {
            Outcome::New => self.added += 1,
            Outcome::Known => self.known += 1,
            Outcome::Refused(Refusal::Forgotten) => self.forgotten += 1,
            Outcome::Refused(other) => self.bad(at, &other),
        }
    }
}

/// Takes at most [`MAX_LINES`] lines. What is bad is counted and named, the rest is taken all the same.
async fn import(
    State(shared): State<Arc<Shared>>,
    Query(within): Query<Within>,
    body: Bytes,
) -> Result<Json<Taken>, Failure> {
    let space = within.space.unwrap_or_else(Space::fleet);
    let lines: Vec<&[u8]> = body.split(|byte| *byte == b'\n').collect();
    if lines.len() > MAX_LINES + 1 {
        let words = format!("at most {MAX_LINES} lines at a time");
        return Err(Failure(StatusCode::PAYLOAD_TOO_LARGE, words));
    }
    let mut taken = Taken::default();
    let (mut drafts, mut events) = (Vec::new(), Vec::new());
    for (at, line) in lines.into_iter().enumerate() {
        match read_line(line, &space) {
            Ok(None) => {}
            Ok(Some(Item::Entry(draft))) => drafts.push((at, *draft)),
            Ok(Some(Item::Event(event))) => events.push((at, *event)),
            Err(bad) => taken.bad(at, &bad),
        }
    }
    let memory = &shared.tools.memory;
    restore(memory, events, &mut taken).await?;
    add(memory, drafts, &mut taken).await?;
    taken.named.sort();
    Ok(Json(taken))
}

async fn restore(memory: &Memory, events: Vec<(usize, Event)>, taken: &mut Taken) -> Result<(), MemoryError> {
    let (places, events): (Vec<usize>, Vec<Event>) = events.into_iter().unzip();
    if events.is_empty() {
        return Ok(());
    }
    let outcomes = memory.restore(events).await?;
    places.into_iter().zip(outcomes).for_each(|(at, outcome)| taken.event(at, outcome));
    Ok(())
}

async fn add(memory: &Memory, drafts: Vec<(usize, Draft)>, taken: &mut Taken) -> Result<(), MemoryError> {
    if drafts.is_empty() {
        return Ok(());
    }
    let all: Vec<Draft> = drafts.iter().map(|(_, draft)| draft.clone()).collect();
    match memory.add_all(all).await {
        Ok(outcomes) => outcomes.into_iter().for_each(|outcome| count(taken, outcome)),
        // One of them breaks a bound, and all were refused for it: it is found, and the others are taken.
        Err(MemoryError::Truth(TruthError::Entry(_))) => {
            for (at, draft) in drafts {
                match memory.add_all(vec![draft]).await {
                    Ok(outcomes) => outcomes.into_iter().for_each(|outcome| count(taken, outcome)),
                    Err(MemoryError::Truth(TruthError::Entry(why))) => taken.bad(at, &why),
                    Err(error) => return Err(error),
                }
            }
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

fn count(taken: &mut Taken, outcome: Option<memory::Added>) {
    match outcome {
        Some(added) if added.is_new => taken.added += 1,
        Some(_) => taken.known += 1,
        None => taken.forgotten += 1,
    }
}

/// Where an export stands.
enum Stage {
    /// After the change of this number.
    Changes(i64),
    Tombstones,
    Over,
}

/// Everything, or one space: changes in the order they came, then tombstones.
async fn export(State(shared): State<Arc<Shared>>, Query(within): Query<Within>) -> Response {
    let memory = shared.tools.memory.clone();
    let space = within.space;
    let stream = futures_util::stream::unfold(Stage::Changes(0), move |stage| {
        let (memory, space) = (memory.clone(), space.clone());
        async move {
            let (events, next) = match step(&memory, stage).await? {
                Ok(done) => done,
                Err(error) => return Some((Err(std::io::Error::other(error)), Stage::Over)),
            };
            Some((Ok(written(&events, space.as_ref())), next))
        }
    });
    ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(stream)).into_response()
}

async fn step(memory: &Memory, stage: Stage) -> Option<Result<(Vec<Event>, Stage), MemoryError>> {
    match stage {
        Stage::Changes(after) => Some(memory.events_after(after, PAGE).await.map(|found| {
            let next = found.last().map_or(Stage::Tombstones, |(number, _)| Stage::Changes(*number));
            (found.into_iter().map(|(_, event)| event).collect(), next)
        })),
        Stage::Tombstones => Some(memory.tombstones().await.map(|events| (events, Stage::Over))),
        Stage::Over => None,
    }
}

fn written(events: &[Event], space: Option<&Space>) -> String {
    let mut text = String::new();
    for event in events {
        let is_wanted = space.is_none_or(|wanted| Message::parse(event).is_ok_and(|m| m.space() == wanted));
        match is_wanted.then(|| exported(event)).transpose() {
            Ok(line) => line.iter().for_each(|line| {
                text.push_str(line);
                text.push('\n');
            }),
            Err(error) => tracing::error!(event = %event.id, %error, "a change cannot be exported"),
        }
    }
    text
}
