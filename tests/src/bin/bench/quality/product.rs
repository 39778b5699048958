//! The product's own index and embedder on the set: what an owner's recall gives.

use std::path::Path;
use std::sync::Arc;

use memory::{
    Clock, Draft, Embedder, Entry, Index, IndexOptions, Mode, Query, Sight, Source, SourceError, SourceRow,
    StaticEmbedder,
};
use nips::memory::EntryId;
use nostr::Keys;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::PLACES;
use super::hashing::dot;
use super::judge::best;
use super::set::Set;

/// When everything was written, and when it is asked: age shall not matter here.
const NOW: u64 = 1_790_000_000;
/// Texts embedded together.
const BATCH: usize = 256;

/// The answers of both legs and of both together.
pub struct Legs {
    /// Full text.
    pub text: Vec<Vec<usize>>,
    /// Vectors.
    pub vector: Vec<Vec<usize>>,
    /// The product's recall.
    pub hybrid: Vec<Vec<usize>>,
}

/// The passages as entries of a memory; the truth that the index is made from.
struct Passages(Vec<Entry>);

impl Passages {
    fn of(set: &Set) -> Self {
        let author = Keys::generate().public_key();
        let entry = |(number, text): (usize, &String)| {
            let draft = Draft::new(text.clone());
            Entry {
                id: id(number),
                text: draft.text,
                kind: draft.kind,
                space: draft.space,
                author,
                created_at: NOW,
                person: None,
                tags: draft.tags,
                importance: draft.importance,
                valid_from: None,
                valid_until: None,
                supersedes: draft.supersedes,
            }
        };
        Self(set.passages.iter().enumerate().map(entry).collect())
    }
}

impl Source for Passages {
    fn rows(&self, after: i64, limit: usize) -> Result<Vec<SourceRow>, SourceError> {
        let rows = (1_i64..).zip(&self.0).map(|(row, entry)| SourceRow { row, entry: entry.clone() });
        Ok(rows.filter(|row| row.row > after).take(limit).collect())
    }

    fn entries(&self, ids: &[EntryId]) -> Result<Vec<Entry>, SourceError> {
        Ok(ids.iter().filter_map(|id| self.0.get(number(*id))).cloned().collect())
    }
}

fn id(number: usize) -> EntryId {
    EntryId::from_bytes((number as u128).to_be_bytes())
}

fn number(id: EntryId) -> usize {
    usize::try_from(u128::from_be_bytes(*id.as_bytes())).unwrap()
}

/// Fills an index with the passages and asks it everything, by each leg and by both.
pub async fn answers(set: &Set, dir: &Path) -> Legs {
    let (tracker, cancel) = (TaskTracker::new(), CancellationToken::new());
    let clock: Clock = Arc::new(|| NOW);
    let options = IndexOptions::new(dir.join("quality"), clock);
    let (source, embedder) = (Arc::new(Passages::of(set)), Arc::new(StaticEmbedder::new()));
    let index = Index::open(options, source, embedder, &tracker, cancel.clone()).unwrap();
    index.healed().await.unwrap();
    index.flush().await.unwrap();
    let legs = Legs {
        text: asked(&index, set, Mode::Text).await,
        vector: asked(&index, set, Mode::Vector).await,
        hybrid: asked(&index, set, Mode::Hybrid).await,
    };
    cancel.cancel();
    tracker.close();
    tracker.wait().await;
    legs
}

async fn asked(index: &Index, set: &Set, mode: Mode) -> Vec<Vec<usize>> {
    let mut answers = Vec::with_capacity(set.questions.len());
    for question in &set.questions {
        let query = Query { limit: PLACES, ..Query::new(&question.text) };
        let hits = index.search_by(&query, &Sight::All, NOW, mode).await.unwrap();
        answers.push(hits.into_iter().map(|hit| number(hit.id)).collect());
    }
    answers
}

/// The static embedding alone, every passage compared.
pub async fn nearest(set: &Set) -> Vec<Vec<usize>> {
    let embedder = StaticEmbedder::new();
    let passages = embedded(&embedder, &set.passages).await;
    let questions: Vec<String> = set.questions.iter().map(|question| question.text.clone()).collect();
    let near = |asked: &Vec<f32>| best(&passages.iter().map(|passage| dot(asked, passage)).collect::<Vec<f32>>());
    embedded(&embedder, &questions).await.iter().map(near).collect()
}

async fn embedded(embedder: &StaticEmbedder, texts: &[String]) -> Vec<Vec<f32>> {
    let mut vectors = Vec::with_capacity(texts.len());
    for batch in texts.chunks(BATCH) {
        vectors.extend(embedder.embed(batch).await.unwrap());
    }
    vectors
}
