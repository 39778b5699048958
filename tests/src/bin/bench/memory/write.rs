//! Remembering: one by one, many askers at once, in bulk. Everything is on disk when it counts.

use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt};
use memory::{Draft, Memory};
use nips::memory::EntryId;

use super::texts::Texts;

/// Entries handed over together, as an import does.
const BATCH: usize = 1_000;
/// Entries one by one, and by many at once.
pub const SINGLE: usize = 500;
pub const SHARED: usize = 5_000;
/// How many add at once.
pub const AT_ONCE: usize = 64;

/// What adding took.
pub struct Added {
    /// Each of [`SINGLE`].
    pub single: Vec<Duration>,
    /// Entries a second by [`AT_ONCE`] at once.
    pub shared_per_s: f64,
}

/// Fills a memory with texts; their ids, and entries a second.
pub async fn fill(memory: &Memory, texts: &[String]) -> (Vec<EntryId>, f64) {
    let mut ids = Vec::with_capacity(texts.len());
    let started = Instant::now();
    for batch in texts.chunks(BATCH) {
        let drafts = batch.iter().map(Draft::new).collect();
        let added = memory.add_all(drafts).await.unwrap();
        ids.extend(added.into_iter().map(|added| added.expect("nothing was forgotten").id));
    }
    (ids, texts.len() as f64 / started.elapsed().as_secs_f64())
}

/// Adds one by one, then by many at once.
pub async fn add(memory: &Memory, texts: &mut Texts) -> Added {
    let mut single = Vec::with_capacity(SINGLE);
    for _ in 0..SINGLE {
        let draft = Draft::new(texts.entry());
        let started = Instant::now();
        memory.add(draft).await.unwrap();
        single.push(started.elapsed());
    }
    let drafts: Vec<Draft> = (0..SHARED).map(|_| Draft::new(texts.entry())).collect();
    let started = Instant::now();
    let adds = stream::iter(drafts).map(|draft| memory.add(draft)).buffer_unordered(AT_ONCE);
    adds.for_each(|added| async move { added.map(|_| ()).unwrap() }).await;
    Added { single, shared_per_s: SHARED as f64 / started.elapsed().as_secs_f64() }
}
