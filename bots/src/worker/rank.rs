//! An extractive summary without a model: the sentences that say most, in their order. Pure.
//!
//! Each sentence is a bag of words weighted by log term frequency × inverse sentence frequency. Its score is the cosine to
//! the centroid of all sentences (Radev et al. 2000, MEAD) plus a bonus for its position. Sentences are picked greedily by
//! maximal marginal relevance (Carbonell and Goldstein 1998), so that none says again what was said.

use std::collections::{BTreeMap, BTreeSet};

use unicode_segmentation::UnicodeSegmentation;

/// Sentences beyond this are not looked at.
const SENTENCES_MAX: usize = 1000;
/// Sentences of a summary at most.
const PICKS_MAX: usize = 60;
/// A sentence with fewer words is a heading or a fragment.
const WORDS_MIN: usize = 4;
/// What being like a picked sentence costs.
const REDUNDANCY: f64 = 0.6;
/// What being first in the text is worth; the bonus fades with the place.
const POSITION: f64 = 0.25;

/// How long a summary should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Length {
    /// So many sentences.
    Sentences(usize),
    /// At most so many words, but one sentence at least.
    Words(usize),
}

impl Length {
    /// Reads `short`, `medium`, `long`, `5`, `3 sentences`, `100 words`, `2 paragraphs`; anything else is medium.
    pub(crate) fn parse(text: Option<&str>) -> Self {
        let text = text.unwrap_or("medium").to_ascii_lowercase();
        let number = text.split(|c: char| !c.is_ascii_digit()).find_map(|d| d.parse::<usize>().ok()).map(|n| n.max(1));
        match number {
            Some(n) if text.contains("word") => Self::Words(n),
            Some(n) if text.contains("paragraph") => Self::Sentences((n.min(PICKS_MAX) * 3).min(PICKS_MAX)),
            Some(n) if text.contains("sentence") || n <= 30 => Self::Sentences(n.min(PICKS_MAX)),
            Some(n) => Self::Words(n),
            None if text.contains("short") => Self::Sentences(2),
            None if text.contains("long") => Self::Sentences(10),
            None => Self::Sentences(5),
        }
    }

    /// The length in words for a model's prompt.
    pub(crate) fn describe(self) -> String {
        match self {
            Self::Sentences(n) => format!("at most {n} sentences"),
            Self::Words(n) => format!("at most {n} words"),
        }
    }
}

type Bag = BTreeMap<String, f64>;

struct Sentence<'a> {
    text: &'a str,
    words: usize,
    bag: Bag,
}

/// The sentences of `text` that say most, in their order. A text that is short enough comes back as it is.
pub(crate) fn summarise(text: &str, length: Length) -> String {
    let mut sentences = split(text);
    if sentences.is_empty() {
        return text.trim().to_owned();
    }
    weigh(&mut sentences);
    let scores = scores(&sentences);
    let picks = pick(&sentences, &scores, length);
    picks.iter().map(|i| sentences[*i].text).collect::<Vec<_>>().join(" ")
}

fn split(text: &str) -> Vec<Sentence<'_>> {
    let pieces = text.split("\n\n").flat_map(str::unicode_sentences).map(str::trim);
    let all: Vec<Sentence<'_>> = pieces.map(sentence).filter(|s| s.words > 0).take(SENTENCES_MAX).collect();
    let (whole, fragments): (Vec<_>, Vec<_>) = all.into_iter().partition(|s| s.words >= WORDS_MIN);
    if whole.is_empty() { fragments } else { whole }
}

fn sentence(text: &str) -> Sentence<'_> {
    let mut bag = Bag::new();
    let mut words = 0;
    for word in text.unicode_words() {
        words += 1;
        *bag.entry(word.to_lowercase()).or_default() += 1.0;
    }
    Sentence { text, words, bag }
}

/// Turns counts into weights of length 1.
#[allow(clippy::cast_precision_loss, reason = "counts of sentences")]
fn weigh(sentences: &mut [Sentence<'_>]) {
    let mut holders: BTreeMap<String, f64> = BTreeMap::new();
    for word in sentences.iter().flat_map(|s| s.bag.keys()) {
        *holders.entry(word.clone()).or_default() += 1.0;
    }
    let total = sentences.len() as f64;
    for sentence in sentences {
        for (word, weight) in &mut sentence.bag {
            let idf = (1.0 + total / holders.get(word).copied().unwrap_or(1.0)).ln();
            *weight = (1.0 + weight.ln()) * idf;
        }
        normalise(&mut sentence.bag);
    }
}

fn normalise(bag: &mut Bag) {
    let norm = bag.values().map(|w| w * w).sum::<f64>().sqrt();
    if norm > 0.0 {
        bag.values_mut().for_each(|w| *w /= norm);
    }
}

#[allow(clippy::cast_precision_loss, reason = "counts of sentences")]
fn scores(sentences: &[Sentence<'_>]) -> Vec<f64> {
    let mut centroid = Bag::new();
    for (word, weight) in sentences.iter().flat_map(|s| &s.bag) {
        *centroid.entry(word.clone()).or_default() += weight;
    }
    normalise(&mut centroid);
    let total = sentences.len() as f64;
    let score = |(i, s): (usize, &Sentence<'_>)| {
        let early = POSITION * (1.0 - i as f64 / total).powi(3);
        cosine(&s.bag, &centroid) + early
    };
    sentences.iter().enumerate().map(score).collect()
}

fn cosine(a: &Bag, b: &Bag) -> f64 {
    a.iter().filter_map(|(word, weight)| b.get(word).map(|other| weight * other)).sum()
}

/// The places of the picked sentences, in the order of the text.
fn pick(sentences: &[Sentence<'_>], scores: &[f64], length: Length) -> BTreeSet<usize> {
    let (most, words_max) = match length {
        Length::Sentences(n) => (n, usize::MAX),
        Length::Words(n) => (PICKS_MAX, n),
    };
    let mut picked = BTreeSet::new();
    let mut likeness = vec![0.0f64; sentences.len()];
    let mut words = 0usize;
    while picked.len() < most.min(sentences.len()) {
        let value = |i: &usize| scores[*i] - REDUNDANCY * likeness[*i];
        let fits = |i: &usize| !picked.contains(i) && (picked.is_empty() || words + sentences[*i].words <= words_max);
        let Some(best) = (0..sentences.len()).filter(fits).max_by(|a, b| value(a).total_cmp(&value(b)).then(b.cmp(a)))
        else {
            break;
        };
        // What is all but a repetition adds nothing.
        if likeness[best] > 0.95 {
            likeness[best] = f64::INFINITY;
            if likeness.iter().enumerate().all(|(i, l)| picked.contains(&i) || l.is_infinite()) {
                break;
            }
            continue;
        }
        picked.insert(best);
        words += sentences[best].words;
        for (i, sentence) in sentences.iter().enumerate() {
            likeness[i] = likeness[i].max(cosine(&sentence.bag, &sentences[best].bag));
        }
    }
    picked
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TEXT: &str = "Relays are the servers of Nostr and they keep events for clients. A relay may refuse an event for any reason. \
        My cat is called Tom and sleeps all day. Clients write events to several relays and read events from several relays. \
        Relays are the servers of Nostr and they keep events for clients. Since relays do not talk to each other, clients \
        carry the events between relays. The weather was fine.";

    #[test]
    fn the_sentences_that_say_most_come_in_their_order_and_once() {
        let summary = summarise(TEXT, Length::Sentences(3));
        assert!(summary.starts_with("Relays are the servers"), "{summary}");
        assert_eq!(summary.matches("the servers of Nostr").count(), 1);
        assert!(!summary.contains("cat") && !summary.contains("weather"), "{summary}");
    }

    #[test]
    fn lengths_are_read_leniently() {
        assert_eq!(Length::parse(Some("short")), Length::Sentences(2));
        assert_eq!(Length::parse(Some("3 Sentences")), Length::Sentences(3));
        assert_eq!(Length::parse(Some("100 words")), Length::Words(100));
        assert_eq!(Length::parse(Some("10 paragraphs")), Length::Sentences(30));
        assert_eq!(Length::parse(Some("7")), Length::Sentences(7));
        assert_eq!(Length::parse(Some("250")), Length::Words(250));
        assert_eq!(Length::parse(Some("0")), Length::Sentences(1));
        assert_eq!(Length::parse(Some("99999999999999999999999")), Length::Sentences(5));
        assert_eq!(Length::parse(None), Length::Sentences(5));
    }

    #[test]
    fn words_are_a_bound() {
        let summary = summarise(TEXT, Length::Words(25));
        assert!(summary.unicode_words().count() <= 25, "{summary}");
        assert_eq!(summarise("One two three four five six.", Length::Words(1)), "One two three four five six.");
    }

    proptest! {
        #[test]
        fn any_text_has_a_summary_made_of_its_sentences(text in "\\PC{0,400}", n in 1usize..8) {
            let summary = summarise(&text, Length::Sentences(n));
            prop_assert!(summary.len() <= text.len() + n, "a space between sentences at most");
            prop_assert_eq!(summary.trim().is_empty(), text.trim().is_empty());
        }
    }
}
