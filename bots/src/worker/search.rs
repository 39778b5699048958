//! Kinds 5302 and 5303: search of notes and of people among the events that this node keeps. The content of the result
//! is a JSON list of tags, `[["e", id], …]` or `[["p", pubkey], …]`, best first.

use std::sync::Arc;

use async_trait::async_trait;
use nostr::Event;
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{EventSearch, KIND_SEARCH_PEOPLE, Library, LibraryError, Output, Task, WorkError, Worker};
use crate::model::Clock;

/// Kinds that are looked through: short notes and long articles.
const NOTE_KINDS: [u16; 2] = [1, 30_023];
const RESULTS_DEFAULT: u64 = 20;
/// The most results; their tags still fit into one event.
const RESULTS_MAX: u64 = 200;
/// The longest query.
const QUERY_CHARS_MAX: usize = 256;

/// Searches notes and people.
pub(super) struct SearchWorker {
    pub(super) library: Arc<dyn Library>,
    pub(super) clock: Arc<dyn Clock>,
}

impl SearchWorker {
    async fn notes(&self, task: &Task) -> Result<String, LibraryError> {
        let now = self.clock.unix_s();
        let search = EventSearch {
            text: query(task),
            kinds: NOTE_KINDS.to_vec(),
            authors: task.users(),
            since: task.moment("since", now),
            until: task.moment("until", now),
            limit: limit(task),
        };
        let events = self.library.search_events(&search).await?;
        Ok(tags(&events, "e", limit(task), |event| event.id.to_hex()))
    }

    async fn people(&self, task: &Task) -> Result<String, LibraryError> {
        let events = self.library.search_profiles(&query(task), limit(task)).await?;
        Ok(tags(&events, "p", limit(task), |event| event.pubkey.to_hex()))
    }
}

/// Says what is wrong with a search, before it is queued.
pub(super) fn validate(task: &Task) -> Result<(), String> {
    let by_users = task.kind != KIND_SEARCH_PEOPLE && !task.users().is_empty();
    if query(task).is_empty() && !by_users {
        return Err("no words to search for: add an `i` tag of type text, or a `search` param".to_owned());
    }
    Ok(())
}

fn query(task: &Task) -> String {
    let inputs: Vec<&str> = task.inputs.iter().filter_map(|i| i.text()).map(str::trim).collect();
    let text = task.param("search").map_or_else(|| inputs.join(" "), str::to_owned);
    text.trim().chars().take(QUERY_CHARS_MAX).collect()
}

#[allow(clippy::cast_possible_truncation, reason = "at most RESULTS_MAX")]
fn limit(task: &Task) -> usize {
    task.count("max_results").unwrap_or(RESULTS_DEFAULT).clamp(1, RESULTS_MAX) as usize
}

fn tags(events: &[Event], name: &str, limit: usize, value: impl Fn(&Event) -> String) -> String {
    let mut values: Vec<String> = Vec::new();
    for event in events {
        let value = value(event);
        if values.len() < limit && !values.contains(&value) {
            values.push(value);
        }
    }
    json!(values.iter().map(|v| [name, v]).collect::<Vec<_>>()).to_string()
}

#[async_trait]
impl Worker for SearchWorker {
    fn name(&self) -> &'static str {
        "search"
    }

    async fn run(
        &self,
        task: &Task,
        _: &mpsc::Sender<String>,
        cancel: &CancellationToken,
    ) -> Result<Output, WorkError> {
        validate(task).map_err(WorkError::BadInput)?;
        let found =
            async { if task.kind == KIND_SEARCH_PEOPLE { self.people(task).await } else { self.notes(task).await } };
        tokio::select! {
            () = cancel.cancelled() => Err(WorkError::Cancelled),
            found = found => found.map(Output::plain).map_err(|e| WorkError::Failed(e.to_string())),
        }
    }
}
