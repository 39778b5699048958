//! What is remembered and what is asked: the same for the same seed.

use std::path::Path;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::quality::set::Set;

/// The seed of everything.
pub const SEED: u64 = 1980;
/// Words of a phrase; an entry is one to three of them.
const PHRASE: std::ops::RangeInclusive<usize> = 8..=14;
/// Words of a question: a piece of some phrase.
const QUESTION: std::ops::RangeInclusive<usize> = 3..=7;
/// Phrases and words that are made up when there is no retrieval set.
const MADE_UP: usize = 20_000;
/// The most frequent words of a language are in no index.
const MOST_FREQUENT: f64 = 30.0;

/// A source of texts.
pub struct Texts {
    phrases: Vec<Vec<String>>,
    rng: StdRng,
    /// Where the words come from, for the report.
    pub source: &'static str,
}

impl Texts {
    /// Pieces of the retrieval set's passages; without it, made-up words as frequent as those of a language.
    pub fn new(set: Option<&Path>) -> Self {
        let mut rng = StdRng::seed_from_u64(SEED);
        let (phrases, source) = match set {
            Some(set) => (pieces(&Set::read(set).passages, &mut rng), "pieces of Debian's descriptions"),
            None => (made_up(&mut rng), "made-up words"),
        };
        Self { phrases, rng, source }
    }

    /// The text of another entry: one to three phrases.
    pub fn entry(&mut self) -> String {
        let count = self.rng.random_range(1..=3);
        (0..count).map(|_| self.phrase().join(" ")).collect::<Vec<_>>().join(". ")
    }

    /// Another question: successive words of some phrase.
    pub fn question(&mut self) -> String {
        let count = self.rng.random_range(QUESTION);
        let phrase = self.phrase();
        let first = self.rng.random_range(0..=phrase.len().saturating_sub(count));
        phrase.iter().skip(first).take(count).cloned().collect::<Vec<_>>().join(" ")
    }

    fn phrase(&mut self) -> Vec<String> {
        let at = self.rng.random_range(0..self.phrases.len());
        self.phrases[at].clone()
    }
}

fn pieces(passages: &[String], rng: &mut StdRng) -> Vec<Vec<String>> {
    let mut phrases = Vec::new();
    for passage in passages {
        let mut words = passage.split_whitespace().map(str::to_owned).peekable();
        while words.peek().is_some() {
            let length = rng.random_range(PHRASE);
            let phrase: Vec<String> = words.by_ref().take(length).collect();
            if phrase.len() >= *PHRASE.start() {
                phrases.push(phrase);
            }
        }
    }
    phrases
}

/// The n-th word is 1/n as frequent as the first.
fn made_up(rng: &mut StdRng) -> Vec<Vec<String>> {
    const SYLLABLES: [&str; 15] =
        ["ka", "to", "mi", "ran", "del", "so", "ven", "li", "mor", "pa", "shi", "gar", "en", "tu", "bel"];
    let word = |rng: &mut StdRng| -> String {
        (0..rng.random_range(1..=4)).map(|_| SYLLABLES[rng.random_range(0..SYLLABLES.len())]).collect()
    };
    let words: Vec<String> = (0..MADE_UP).map(|_| word(rng)).collect();
    let one = |rng: &mut StdRng| {
        let log = rng.random_range(MOST_FREQUENT.ln()..(MADE_UP as f64).ln());
        words[(log.exp() as usize).min(MADE_UP - 1)].clone()
    };
    (0..MADE_UP).map(|_| (0..rng.random_range(PHRASE)).map(|_| one(rng)).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_texts_of_the_lengths_it_says() {
        let (mut one, mut other) = (Texts::new(None), Texts::new(None));
        for _ in 0..200 {
            let (entry, question) = (one.entry(), one.question());
            assert_eq!((other.entry(), other.question()), (entry.clone(), question.clone()));
            assert!((8..=42).contains(&entry.split(' ').count()), "{entry}");
            assert!(QUESTION.contains(&question.split(' ').count()), "{question}");
        }
    }
}
