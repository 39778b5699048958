//! Words as the reference methods see them.

use frostem::{Algorithm, Stemmer};

/// Lucene's English stop words, which Lance's full text leaves out too.
const STOP: [&str; 33] = [
    "a", "an", "and", "are", "as", "at", "be", "but", "by", "for", "if", "in", "into", "is", "it", "no", "not", "of",
    "on", "or", "such", "that", "the", "their", "then", "there", "these", "they", "this", "to", "was", "will", "with",
];

/// Lower-case runs of letters and digits.
pub fn words(text: &str) -> impl Iterator<Item = String> {
    text.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()).map(str::to_lowercase)
}

/// Snowball's English stems, without stop words.
pub struct Stems(Stemmer);

impl Stems {
    /// Ready to use.
    pub fn new() -> Self {
        Self(Stemmer::new(Algorithm::English))
    }

    /// The stems of a text in their order.
    pub fn of(&self, text: &str) -> Vec<String> {
        words(text).filter(|w| !STOP.contains(&w.as_str())).map(|w| self.0.stem(&w).into()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_become_stems_without_stop_words() {
        assert_eq!(Stems::new().of("The parsers are parsing IPv6-addresses"), ["parser", "pars", "ipv6", "address"]);
    }
}
