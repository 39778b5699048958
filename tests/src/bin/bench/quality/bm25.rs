//! BM25 (Robertson and Zaragoza 2009) of our own, plain and exact: what a full-text search can do without meaning.

use std::collections::{BTreeMap, BTreeSet};

use super::judge::best;
use super::set::Set;
use super::text::Stems;

/// Lucene's and Lance's constants.
const K1: f32 = 1.2;
const B: f32 = 0.75;

/// Word → the passages that have it, and how often.
struct Inverted {
    postings: BTreeMap<String, Vec<(usize, f32)>>,
    /// Words of each passage, over their mean.
    lengths: Vec<f32>,
}

impl Inverted {
    fn of(passages: &[Vec<String>]) -> Self {
        let mut postings: BTreeMap<String, Vec<(usize, f32)>> = BTreeMap::new();
        for (number, words) in passages.iter().enumerate() {
            let mut counts: BTreeMap<&String, f32> = BTreeMap::new();
            for word in words {
                *counts.entry(word).or_default() += 1.0;
            }
            for (word, count) in counts {
                postings.entry(word.clone()).or_default().push((number, count));
            }
        }
        let total: usize = passages.iter().map(Vec::len).sum();
        let mean = total as f32 / passages.len().max(1) as f32;
        let lengths = passages.iter().map(|words| words.len() as f32 / mean).collect();
        Self { postings, lengths }
    }

    fn scores(&self, asked: &BTreeSet<String>) -> Vec<f32> {
        let mut scores = vec![0.0; self.lengths.len()];
        for found in asked.iter().filter_map(|word| self.postings.get(word)) {
            let having = found.len() as f32;
            let rarity = (1.0 + (self.lengths.len() as f32 - having + 0.5) / (having + 0.5)).ln();
            for (number, count) in found {
                let length = 1.0 - B + B * self.lengths[*number];
                scores[*number] += rarity * count * (K1 + 1.0) / (count + K1 * length);
            }
        }
        scores
    }
}

/// For each question the best passages.
pub fn answers(set: &Set) -> Vec<Vec<usize>> {
    let stems = Stems::new();
    let passages: Vec<Vec<String>> = set.passages.iter().map(|text| stems.of(text)).collect();
    let inverted = Inverted::of(&passages);
    let asked = |text: &str| stems.of(text).into_iter().collect();
    set.questions.iter().map(|question| best(&inverted.scores(&asked(&question.text)))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scores(passages: &[&str], asked: &[&str]) -> Vec<f32> {
        let split = |text: &&str| text.split(' ').map(str::to_owned).collect();
        let passages: Vec<Vec<String>> = passages.iter().map(split).collect();
        Inverted::of(&passages).scores(&asked.iter().map(|w| (*w).to_owned()).collect())
    }

    #[test]
    fn it_is_the_formula() {
        // Two passages of the mean length; the word stands in one, once: ln(1 + 1.5 / 1.5) × 2.2 / 2.2.
        let found = scores(&["cat dog", "cow pig"], &["cat"]);
        assert!((found[0] - 2.0_f32.ln()).abs() < 1e-6, "{found:?}");
        assert_eq!(found[1], 0.0);
    }

    #[test]
    fn rare_words_and_short_passages_weigh_more() {
        let found = scores(&["cat dog", "cat cow", "cat ant bee fly"], &["cat", "dog"]);
        assert!(found[0] > found[1] && found[1] > found[2], "{found:?}");
    }
}
