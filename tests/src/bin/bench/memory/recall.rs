//! Questions to a memory, one at a time.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use memory::{Memory, Mode, Query};
use nips::Audience;
use nips::memory::EntryId;

use super::PLACES;

/// Questions before those that count: caches are as warm as in a node that is used.
const WARM_UP: usize = 20;

/// How long each leg and both took, question by question, and what the vectors alone found.
pub struct Asked {
    pub vector: Vec<Duration>,
    pub text: Vec<Duration>,
    pub hybrid: Vec<Duration>,
    /// For each question, with near duplicates that a result stands for.
    pub nearest: Vec<BTreeSet<EntryId>>,
}

/// Asks everything by the vectors, by the full text, and by both.
pub async fn ask(memory: &Memory, questions: &[String]) -> Asked {
    let (vector, nearest) = by(memory, questions, Mode::Vector).await;
    let (text, _) = by(memory, questions, Mode::Text).await;
    let (hybrid, _) = by(memory, questions, Mode::Hybrid).await;
    Asked { vector, text, hybrid, nearest }
}

async fn by(memory: &Memory, questions: &[String], mode: Mode) -> (Vec<Duration>, Vec<BTreeSet<EntryId>>) {
    for question in questions.iter().rev().take(WARM_UP) {
        once(memory, question, mode).await;
    }
    let mut times = Vec::with_capacity(questions.len());
    let mut found = Vec::with_capacity(questions.len());
    for question in questions {
        let (time, ids) = once(memory, question, mode).await;
        times.push(time);
        found.push(ids);
    }
    (times, found)
}

async fn once(memory: &Memory, question: &str, mode: Mode) -> (Duration, BTreeSet<EntryId>) {
    let query = Query { limit: PLACES, ..Query::new(question) };
    let started = Instant::now();
    let recalls = memory.search_by(&query, Audience::Owner, mode).await.unwrap();
    let time = started.elapsed();
    let ids = recalls.iter().flat_map(|recall| recall.reasons.folded.iter().copied().chain([recall.entry.id]));
    (time, ids.collect())
}
