//! Two lists become one: full text and vectors, by score.
//!
//! ```text
//! fused = trust · text² + nearness
//! text     = BM25 over the best hit's
//! nearness = cosine, stretched over the span of all candidates
//! trust    = 0.4 … 1.5, by the share of the question's words that the best text hits say
//! ```
//!
//! Adding scores keeps how much better a hit is than the next; adding ranks throws that away, and with a small model was measured
//! to be worse than BM25 alone. BM25's best hit scores 1 even when it shares one stray word with the question, so what the full text
//! weighs is asked of the texts themselves: where the best hits say little of the question, the vectors lead. The square makes what
//! BM25 finds far behind its best count for little. The constants were chosen on one half of a retrieval set and hold on the other
//! (`spec/benchmarks.md`). A paraphrase shares no word with the question, so a sum buries it: some places are kept for what the
//! vectors alone found.

use std::cmp::Ordering;

use super::query::Place;

/// What the full text weighs beside the vectors: when its best hits say little of the question, and when they say most of it.
pub(crate) const TRUST: (f32, f32) = (0.4, 1.5);
/// Little and most, as shares of the question's words. The least trust is not zero: questions in whole sentences ("when did she
/// move?") say much that no answer says.
const COVERAGE: (f32, f32) = (0.5, 0.7);
/// Of ten places, so many are kept for what only the vectors found.
const DENSE_PLACES_OF_TEN: usize = 3;

/// Something that one of the legs has found, by a key of the caller's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Candidate {
    pub key: u32,
    /// BM25, as it comes; none when no word was found.
    pub bm25: Option<f32>,
    /// None when it has no vector, or the question has none.
    pub cosine: Option<f32>,
    /// What age and importance make of the score.
    pub weight: f32,
}

/// A candidate with its score.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Scored {
    pub key: u32,
    /// BM25 over the best one's.
    pub text: Option<f32>,
    pub cosine: Option<f32>,
    /// The cosine over the span of all candidates, 0 to 1.
    pub nearness: Option<f32>,
    /// Text and vectors together, 0 to 2.5.
    pub fused: f32,
    /// Weighted.
    pub score: f32,
}

/// What the full text weighs when its best hits say this share of the question; without a share, which is when nobody could read
/// them, it is trusted.
pub(crate) fn trust(coverage: Option<f32>) -> f32 {
    let share = coverage.filter(|share| share.is_finite()).unwrap_or(1.0);
    let part = ((share - COVERAGE.0) / (COVERAGE.1 - COVERAGE.0)).clamp(0.0, 1.0);
    TRUST.0 + (TRUST.1 - TRUST.0) * part
}

/// Scores every candidate with this trust in the full text; the best comes first, and equals are ordered by their keys.
pub(crate) fn fuse(candidates: &[Candidate], trust: f32) -> Vec<Scored> {
    let finite = |x: Option<f32>| x.filter(|x| x.is_finite());
    let best_text = candidates.iter().filter_map(|c| finite(c.bm25)).fold(0.0_f32, f32::max);
    let cosines = || candidates.iter().filter_map(|c| finite(c.cosine));
    let (low, high) = cosines().fold((f32::MAX, f32::MIN), |(low, high), c| (low.min(c), high.max(c)));
    let stretched = |cosine: f32| if high - low > 1e-6 { (cosine - low) / (high - low) } else { 1.0 };
    let score = |candidate: &Candidate| {
        let text = finite(candidate.bm25).filter(|_| best_text > 0.0).map(|b| (b / best_text).clamp(0.0, 1.0));
        let cosine = finite(candidate.cosine);
        let nearness = cosine.map(stretched);
        let fused = text.map_or(0.0, |text| trust * text * text) + nearness.unwrap_or(0.0);
        let score = fused * finite(Some(candidate.weight)).unwrap_or(1.0);
        Scored { key: candidate.key, text, cosine, nearness, fused, score }
    };
    let mut scored: Vec<Scored> = candidates.iter().map(score).collect();
    scored.sort_by(by_score);
    scored
}

/// Higher scores first, then lower keys: a total order.
fn by_score(a: &Scored, b: &Scored) -> Ordering {
    b.score.total_cmp(&a.score).then(a.key.cmp(&b.key))
}

/// Gives the places: most to the best scores, the kept ones to the nearest that have no word of the question. The best hit of the
/// full text always has a place when there are two or more. `scored` is in the order of [`fuse`]; so is what is returned.
pub(crate) fn place(scored: &[Scored], limit: usize) -> Vec<(Scored, Place)> {
    let kept = limit * DENSE_PLACES_OF_TEN / 10;
    let mut left: Vec<&Scored> = scored.iter().collect();
    let mut placed: Vec<(Scored, Place)> = Vec::new();
    if let Some(at) = best_text(&left).filter(|_| limit >= 2) {
        placed.push((*left.remove(at), Place::Fused));
    }
    let first = left.len().min((limit - kept).saturating_sub(placed.len()));
    placed.extend(left.drain(..first).map(|s| (*s, Place::Fused)));
    for _ in 0..kept {
        if let Some(at) = nearest_without_words(&left) {
            placed.push((*left.remove(at), Place::Dense));
        }
    }
    let rest = left.len().min(limit - placed.len());
    placed.extend(left.drain(..rest).map(|s| (*s, Place::Fused)));
    placed.sort_by(|a, b| by_score(&a.0, &b.0));
    placed
}

fn best_text(scored: &[&Scored]) -> Option<usize> {
    greatest(scored, |s| s.text)
}

fn nearest_without_words(scored: &[&Scored]) -> Option<usize> {
    greatest(scored, |s| if s.text.is_none() { s.cosine } else { None })
}

/// Of equals the first, which has the better score.
fn greatest(scored: &[&Scored], of: impl Fn(&Scored) -> Option<f32>) -> Option<usize> {
    let values = scored.iter().enumerate().rev().filter_map(|(at, s)| Some((at, of(s)?)));
    values.max_by(|(_, a), (_, b)| a.total_cmp(b)).map(|(at, _)| at)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn hit(key: u32, bm25: Option<f32>, cosine: Option<f32>) -> Candidate {
        Candidate { key, bm25, cosine, weight: 1.0 }
    }

    #[test]
    fn scores_add_up_and_the_best_of_both_is_first() {
        let hits = [hit(1, Some(4.0), Some(0.2)), hit(2, Some(8.0), Some(0.6)), hit(3, None, Some(1.0))];
        let scored = fuse(&hits, 1.5);
        let find = |key| *scored.iter().find(|s| s.key == key).unwrap();
        assert_eq!(scored[0].key, 2);
        assert!((find(2).fused - 2.0).abs() < 1e-6);
        assert!((find(1).fused - 0.375).abs() < 1e-6);
        assert!((find(3).fused - 1.0).abs() < 1e-6);
        assert_eq!((find(3).text, find(2).text), (None, Some(1.0)));
        assert!((find(2).nearness.unwrap() - 0.5).abs() < 1e-6);
        // The same hits, where the best text says little of the question.
        assert_eq!(fuse(&hits, trust(Some(0.3)))[0].key, 3);
    }

    #[test]
    fn trust_grows_with_what_the_best_hits_say() {
        let near = |share, wanted: f32| assert!((trust(share) - wanted).abs() < 1e-6, "{share:?}");
        near(Some(0.0), 0.4);
        near(Some(0.5), 0.4);
        near(Some(0.6), 0.95);
        near(Some(0.7), 1.5);
        near(Some(1.0), 1.5);
        near(None, 1.5);
        near(Some(f32::NAN), 1.5);
    }

    #[test]
    fn a_paraphrase_without_a_common_word_has_a_place() {
        let mut candidates: Vec<Candidate> =
            (0..50_u8).map(|i| hit(u32::from(i), Some(50.0 - f32::from(i) / 10.0), Some(0.5))).collect();
        candidates.push(hit(99, None, Some(0.55)));
        candidates.push(hit(98, None, Some(0.1)));
        let placed = place(&fuse(&candidates, 1.5), 10);
        assert_eq!(placed.len(), 10);
        assert_eq!(placed.iter().find(|(s, _)| s.key == 99).map(|(_, place)| *place), Some(Place::Dense));
        assert_eq!(
            placed.iter().filter(|(_, place)| *place == Place::Fused).count(),
            8,
            "unused kept places are given on"
        );
    }

    #[test]
    fn one_place_goes_to_the_best_score() {
        let placed = place(&fuse(&[hit(1, Some(1.0), Some(0.0)), hit(2, None, Some(0.9))], 1.5), 1);
        assert_eq!(placed.len(), 1);
        assert!(place(&fuse(&[hit(1, Some(1.0), None)], 1.5), 0).is_empty());
    }

    fn number() -> impl Strategy<Value = Option<f32>> {
        prop_oneof![
            1 => Just(None),
            1 => prop_oneof![Just(Some(f32::NAN)), Just(Some(f32::INFINITY)), Just(Some(0.0)), Just(Some(-0.0))],
            6 => (-1.0_f32..1.0).prop_map(Some),
            2 => (0.0_f32..60.0).prop_map(Some),
        ]
    }

    fn candidates() -> impl Strategy<Value = Vec<Candidate>> {
        let one = (number(), number(), 0.4_f32..1.3);
        proptest::collection::vec(one, 0..60).prop_map(|parts| {
            let with_key = |(key, (bm25, cosine, weight)): (usize, (Option<f32>, Option<f32>, f32))| Candidate {
                key: u32::try_from(key).unwrap(),
                bm25,
                cosine,
                weight,
            };
            parts.into_iter().enumerate().map(with_key).collect()
        })
    }

    proptest! {
        #[test]
        fn every_score_is_a_number_in_its_bounds_and_the_order_is_total(candidates in candidates(), share in number()) {
            let trust = trust(share);
            prop_assert!((TRUST.0..=TRUST.1).contains(&trust));
            let scored = fuse(&candidates, trust);
            prop_assert_eq!(scored.len(), candidates.len());
            prop_assert!(scored.iter().all(|s| s.score.is_finite() && (0.0..=1.0 + trust).contains(&s.fused)));
            for s in &scored {
                let parts = trust * s.text.map_or(0.0, |text| text * text) + s.nearness.unwrap_or(0.0);
                prop_assert!((parts - s.fused).abs() < 1e-5, "the reasons are the score");
            }
            prop_assert!(scored.windows(2).all(|w| by_score(&w[0], &w[1]) == Ordering::Less));
            let turned: Vec<Candidate> = candidates.iter().rev().copied().collect();
            prop_assert_eq!(fuse(&turned, trust), scored);
        }

        #[test]
        fn the_best_text_hit_and_the_best_score_are_never_dropped(candidates in candidates(), limit in 2_usize..40, share in number()) {
            let scored = fuse(&candidates, trust(share));
            let placed = place(&scored, limit);
            let keys: BTreeSet<u32> = placed.iter().map(|(s, _)| s.key).collect();
            prop_assert_eq!(keys.len(), placed.len(), "none twice");
            prop_assert_eq!(placed.len(), limit.min(scored.len()));
            prop_assert!(placed.windows(2).all(|w| w[0].0.score >= w[1].0.score));
            if scored.iter().any(|s| s.text == Some(1.0)) {
                prop_assert!(placed.iter().any(|(s, _)| s.text == Some(1.0)));
            }
            if let Some(first) = scored.first().filter(|_| limit > 2) {
                prop_assert!(keys.contains(&first.key));
            }
        }

        #[test]
        fn a_kept_place_goes_to_the_nearest_without_a_word(candidates in candidates(), limit in 4_usize..40, share in number()) {
            let scored = fuse(&candidates, trust(share));
            let placed = place(&scored, limit);
            let nearest = scored.iter().filter(|s| s.text.is_none()).filter_map(|s| s.cosine).fold(f32::MIN, f32::max);
            if nearest > f32::MIN {
                prop_assert!(placed.iter().any(|(s, _)| s.text.is_none() && s.cosine == Some(nearest)));
            }
        }
    }
}
