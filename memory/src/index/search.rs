//! A search: full text and vectors side by side, then fused, weighed, folded and placed.

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::FutureExt;
use nips::memory::EntryId;

use super::codes::Question;
use super::driver::Shared;
use super::error::{IndexError, RecallError};
use super::filter::Filter;
use super::generation::Generation;
use super::scan::{Scan, Slot};
use super::stats::Work;
use super::{Hit, Mode};
use crate::embed::beginning;
use crate::recall::cover::{self, coverage};
use crate::recall::fold::{self, Group};
use crate::recall::fuse::{self, Candidate, Scored};
use crate::recall::{MAX_LIMIT, Place, Query, Reasons, Sight, weigh};

/// The best so many of each leg are fused.
const EACH_LEG: usize = 100;
/// A filter that lets fewer through than this part of all rows is asked for as if it let so many.
const LEAST_SHARE: f32 = 0.001;
/// Bytes of a question that are looked at: of a pasted document the beginning is the question.
const QUESTION_BYTES: usize = 8 * 1024;
/// Different words of a question that the full text is searched for. Each costs a posting list.
const QUESTION_WORDS: usize = 48;
/// The best so many hits of the full text are read, to see how much of the question they say.
const COVERING: usize = 5;
/// Bytes of one word. Scripts without spaces write a sentence as one.
const WORD_BYTES: usize = 1_024;

impl Shared {
    pub(super) async fn search(
        &self,
        query: &Query,
        sight: &Sight,
        now: u64,
        mode: Mode,
    ) -> Result<Vec<Hit>, RecallError> {
        let query = Query { limit: query.limit.min(MAX_LIMIT), text: clean(&query.text), ..query.clone() };
        if query.limit == 0 {
            return Ok(Vec::new());
        }
        // What was acknowledged before a crash is found after it. A long healing is not waited for: something is better than nothing.
        let _ = tokio::time::timeout(self.options.heal_patience, self.healed()).await;
        loop {
            let generation = self.serving().await?;
            let hits = self.search_in(&generation, &query, sight, now, mode).await?;
            // A generation that was replaced meanwhile may have lost its table on the way.
            if !generation.is_retired() || self.cancel.is_cancelled() {
                return Ok(hits);
            }
        }
    }

    async fn search_in(
        &self,
        generation: &Arc<Generation>,
        query: &Query,
        sight: &Sight,
        now: u64,
        mode: Mode,
    ) -> Result<Vec<Hit>, IndexError> {
        let filter = Filter::new(query, sight, now, &generation.read().scan.names);
        if query.text.is_empty() {
            return on_a_thread(generation, {
                let limit = query.limit;
                move |scan| newest(scan, &filter, limit, now)
            })
            .await;
        }
        let each_leg = EACH_LEG.max(query.limit);
        let by_text = async {
            match mode {
                Mode::Hybrid => {
                    let found = self.by_text(generation, &query.text, &filter, each_leg).await;
                    let share = self.covered(&query.text, &found).await;
                    (found, share)
                }
                Mode::Text => (self.by_text(generation, &query.text, &filter, each_leg).await, None),
                Mode::Vector => (Vec::new(), None),
            }
        };
        let by_vector = async {
            match mode {
                Mode::Hybrid | Mode::Vector => self.by_vector(generation, query, &filter, each_leg).await,
                Mode::Text => Ok((None, Vec::new())),
            }
        };
        let ((text, share), dense) = tokio::join!(by_text, by_vector);
        let (question, dense) = dense?;
        // A leg that is off must not speak through the other's hits.
        let question = question.filter(|_| mode != Mode::Text);
        let trust = fuse::trust(share);
        let legs = Legs { text, trust, dense, question, filter };
        let limit = query.limit;
        if mode == Mode::Hybrid {
            return on_a_thread(generation, move |scan| legs.hits(scan, limit, now, fuse::place)).await;
        }
        on_a_thread(generation, move |scan| legs.hits(scan, limit, now, best_scores)).await
    }

    /// The best entries by full text that may be shown. A failure is counted and finds nothing.
    async fn by_text(
        &self,
        generation: &Arc<Generation>,
        text: &str,
        filter: &Filter,
        most: usize,
    ) -> Vec<(EntryId, f32)> {
        let words = words(text);
        if words.is_empty() {
            return Vec::new();
        }
        let found = self.text_hits(generation, &words, filter, most).await;
        if found.is_err() && !generation.is_retired() {
            self.counters.note(Work::Other, &found, (self.options.clock)());
            self.suspect.store(true, Ordering::Release);
            self.wake.notify_one();
        }
        found.unwrap_or_default()
    }

    async fn text_hits(
        &self,
        generation: &Arc<Generation>,
        words: &str,
        filter: &Filter,
        most: usize,
    ) -> Result<Vec<(EntryId, f32)>, IndexError> {
        // One reads one's own writes; a table that refuses them can still be asked for what it has.
        let _ = generation.flush().await;
        self.wake.notify_one();
        let _reading = generation.store.reading().await;
        if generation.is_retired() {
            return Ok(Vec::new());
        }
        let share = generation.read().scan.share(filter).max(LEAST_SHARE);
        #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let mut asked = (most as f32 * 1.2 / share) as usize;
        loop {
            // What panics in there must not take the asker along: the vectors answer.
            let search = AssertUnwindSafe(generation.store.search(words, asked)).catch_unwind();
            let mut hits = Box::pin(search).await.map_err(|_| IndexError::Task("panicked".to_owned()))??;
            let found = hits.len();
            {
                let live = generation.read();
                hits.retain(|(id, _)| live.scan.slot(id).is_some_and(|slot| live.scan.allows(slot, filter)));
            }
            // What may not be shown took places of others: ask for more, until there are none.
            if hits.len() >= most || found < asked {
                hits.truncate(most);
                return Ok(hits);
            }
            asked *= 4;
        }
    }

    /// The share of the question that the best hits of the full text say; none when there is none or they cannot be read.
    async fn covered(&self, question: &str, found: &[(EntryId, f32)]) -> Option<f32> {
        let best: Vec<EntryId> = found.iter().take(COVERING).map(|(id, _)| *id).collect();
        if best.is_empty() {
            return None;
        }
        let (source, asked) = (self.source.clone(), words(question));
        let read = move || {
            let entries = source.entries(&best).ok()?;
            coverage(&asked, entries.iter().map(|entry| entry.text.as_str()))
        };
        tokio::task::spawn_blocking(read).await.ok().flatten()
    }

    async fn by_vector(
        &self,
        generation: &Arc<Generation>,
        query: &Query,
        filter: &Filter,
        most: usize,
    ) -> Result<(Option<Question>, Vec<(Slot, f32)>), IndexError> {
        let Some(embedder) = &generation.embedder else { return Ok((None, Vec::new())) };
        let asked = tokio::time::timeout(self.options.question_timeout, embedder.embed_question(&query.text)).await;
        let vector = match asked {
            Ok(Ok(vector)) => vector,
            Ok(Err(error)) => {
                self.counters.note(Work::Other, &Err::<(), _>(IndexError::Embed(error)), (self.options.clock)());
                return Ok((None, Vec::new()));
            }
            Err(_) => return Ok((None, Vec::new())),
        };
        let Some(question) = Question::of(&vector) else { return Ok((None, Vec::new())) };
        let (asked, filter) = (question.clone(), filter.clone());
        let near = on_a_thread(generation, move |scan| scan.nearest(&asked, &filter, most)).await?;
        Ok((Some(question), near))
    }
}

/// What both legs have found.
struct Legs {
    text: Vec<(EntryId, f32)>,
    trust: f32,
    dense: Vec<(Slot, f32)>,
    question: Option<Question>,
    filter: Filter,
}

impl Legs {
    /// The hits, best first. Rows may have changed since the legs looked: each is looked up again.
    fn hits(
        &self,
        scan: &Scan,
        limit: usize,
        now: u64,
        place: impl Fn(&[Scored], usize) -> Vec<(Scored, Place)>,
    ) -> Vec<Hit> {
        let weight = |slot: Slot| {
            let hot = scan.hot(slot);
            weigh::recency(hot.kind, hot.created_at, now) * weigh::importance(hot.importance)
        };
        let cosine = |slot: Slot| self.question.as_ref().and_then(|question| scan.cosine(slot, question));
        let texts = self.text.iter().filter_map(|(id, bm25)| Some((scan.slot(id)?, Some(*bm25))));
        let dense = self.dense.iter().map(|(slot, _)| (*slot, None));
        let mut seen = BTreeSet::new();
        let candidates: Vec<Candidate> = texts
            .chain(dense)
            .filter(|(slot, _)| scan.allows(*slot, &self.filter) && seen.insert(*slot))
            .map(|(key, bm25)| Candidate { key, bm25, cosine: cosine(key), weight: weight(key) })
            .collect();
        let scored = fuse::fuse(&candidates, self.trust);
        let groups = fold::fold(&scored, |s| scan.text_key(s.key), |a, b| scan.likeness(a.key, b.key));
        let best: Vec<Scored> = groups.iter().map(|group| group.best).collect();
        let hit = |(scored, place): (Scored, Place)| self.hit(scan, &scored, place, &groups, now);
        place(&best, limit).into_iter().map(hit).collect()
    }

    fn hit(&self, scan: &Scan, scored: &Scored, place: Place, groups: &[Group<Scored>], now: u64) -> Hit {
        let hot = scan.hot(scored.key);
        let group = groups.iter().find(|group| group.best.key == scored.key);
        let folded = group.map(|group| group.folded.iter().map(|folded| scan.id(folded.key)).collect());
        Hit {
            id: scan.id(scored.key),
            score: scored.score,
            reasons: Reasons {
                text: scored.text,
                trust: scored.text.map(|_| self.trust),
                cosine: scored.cosine,
                nearness: scored.nearness,
                fused: scored.fused,
                recency: weigh::recency(hot.kind, hot.created_at, now),
                importance: weigh::importance(hot.importance),
                place,
                folded: folded.unwrap_or_default(),
            },
        }
    }
}

fn best_scores(scored: &[Scored], limit: usize) -> Vec<(Scored, Place)> {
    let place = |scored: &Scored| (*scored, if scored.text.is_some() { Place::Fused } else { Place::Dense });
    scored.iter().take(limit).map(place).collect()
}

/// What comes to mind unasked.
fn newest(scan: &Scan, filter: &Filter, limit: usize, now: u64) -> Vec<Hit> {
    // Twice as many as asked for, so that folding duplicates leaves enough.
    let found = scan.highest(filter, limit * 2, |hot| weigh::unasked(hot.importance, hot.created_at, now));
    let groups = fold::fold(&found, |(slot, _)| scan.text_key(slot), |_, _| None);
    let hit = |group: &Group<(Slot, f32)>| {
        let (slot, score) = group.best;
        let hot = scan.hot(slot);
        Hit {
            id: scan.id(slot),
            score,
            reasons: Reasons {
                text: None,
                trust: None,
                cosine: None,
                nearness: None,
                fused: score,
                recency: weigh::recency(hot.kind, hot.created_at, now),
                importance: weigh::importance(hot.importance),
                place: Place::Newest,
                folded: group.folded.iter().map(|(slot, _)| scan.id(*slot)).collect(),
            },
        }
    };
    groups.iter().take(limit).map(hit).collect()
}

/// Runs something over all rows where it holds up no other task.
async fn on_a_thread<T: Send + 'static>(
    generation: &Arc<Generation>,
    work: impl FnOnce(&Scan) -> T + Send + 'static,
) -> Result<T, IndexError> {
    let generation = generation.clone();
    let done = tokio::task::spawn_blocking(move || work(&generation.read().scan)).await;
    done.map_err(|error| IndexError::Task(error.to_string()))
}

/// The beginning of a question, without spaces around it.
fn clean(text: &str) -> String {
    beginning(text.trim(), QUESTION_BYTES).trim_end().to_owned()
}

/// The different words of a question, as many as are looked for. There is no syntax: quotes, stars and braces are signs.
fn words(text: &str) -> String {
    let mut seen = BTreeSet::new();
    let words = cover::words(text).map(|word| beginning(word, WORD_BYTES));
    let words = words.filter(|word| seen.insert(word.to_lowercase()));
    words.take(QUESTION_WORDS).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_its_different_words_and_no_syntax() {
        assert_eq!(words(r#"{"a": ["Milk*", "milk", NOT (b AND c)]}"#), "a Milk NOT b AND c");
        assert_eq!(words("\"'*:^~-+()"), "");
        assert_eq!(words("नमस्ते दुनिया"), "नमस्ते दुनिया");
        let many: String = (0..1_000).map(|i| format!("w{i} ")).collect();
        assert_eq!(words(&many).split(' ').count(), QUESTION_WORDS);
        assert!(words(&"漢".repeat(50_000)).len() <= WORD_BYTES);
        assert_eq!(clean(&format!("  {}  ", "x".repeat(100_000))).len(), QUESTION_BYTES);
    }
}
