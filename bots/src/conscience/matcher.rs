//! Compiled patterns. Each is compiled once, when it is first needed: fifteen languages at every start would cost more than
//! the rest of the start, and most people write in one script.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::OnceLock;

use regex::bytes::{Regex, RegexBuilder};

use super::normalise::squeeze;
use super::patterns::{self, Reading, Source};
use super::scripts::{Scripts, fold_native_char};
use super::{ConscienceError, Language};

/// Memory that one compiled pattern may use while it matches.
const MATCHER_BYTES_MAX: usize = 1 << 20;
/// The longest filling phrase, in words.
const FILLER_WORDS_MAX: usize = 3;
/// What stands in the place of an idiom.
const TAKEN_OUT: &[u8] = b" @ ";
/// The same in Latin letters, where a pattern is bounded by letters.
const TAKEN_OUT_LATIN: &[u8] = b" xqx ";

/// A pattern that is compiled when it is first used.
struct Lazy(OnceLock<Option<Regex>>);

impl Lazy {
    fn new() -> Self {
        Self(OnceLock::new())
    }

    /// Whether it matches. One that does not compile (a fault that `warm` reports) matches nothing.
    fn get(&self, expression: impl FnOnce() -> String) -> Option<&Regex> {
        self.0.get_or_init(|| compile(&expression()).ok()).as_ref()
    }

    fn warm(&self, set: &str, expression: impl FnOnce() -> String) -> Result<(), ConscienceError> {
        if self.0.get().is_none() {
            let regex =
                compile(&expression()).map_err(|e| ConscienceError { set: set.to_owned(), cause: Box::new(e) })?;
            // Another thread may have been faster; its pattern is the same.
            let _already = self.0.set(Some(regex));
        }
        Ok(())
    }
}

/// Readings have words one space apart and only the bytes of letters, so bytes do for what Unicode classes would.
fn compile(expression: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(expression).unicode(false).dfa_size_limit(MATCHER_BYTES_MAX).build()
}

/// The patterns of a language over one reading.
pub(super) struct Matcher {
    pub(super) language: Language,
    pub(super) reading: Reading,
    source: &'static Source,
    fillers: OnceLock<HashSet<String>>,
    words: Lazy,
    joined: Lazy,
}

impl Matcher {
    pub(super) fn new(language: Language, reading: Reading, source: &'static Source) -> Self {
        Self { language, reading, source, fillers: OnceLock::new(), words: Lazy::new(), joined: Lazy::new() }
    }

    pub(super) fn warm(&self) -> Result<(), ConscienceError> {
        let set = format!("{} ({:?})", self.language.code(), self.reading);
        self.words.warm(&set, || patterns::expression(self.source, self.reading))
    }

    /// Whether it is for this reading, and the text holds its script.
    pub(super) fn fits(&self, reading: Reading, scripts: Scripts) -> bool {
        let written = match (self.reading, self.language) {
            (Reading::Latin, _) => true,
            (Reading::Native, Language::Ar) => scripts.arabic,
            (Reading::Native, Language::Hi) => scripts.devanagari,
            (Reading::Native, _) => scripts.cyrillic,
            (Reading::Dense, Language::Ja) => scripts.kana,
            (Reading::Dense, _) => scripts.han && !scripts.kana,
        };
        written && self.reading == reading
    }

    /// Whether a pattern stands in `text`, as it is or without filling words.
    pub(super) fn finds(&self, text: &str) -> bool {
        let Some(regex) = self.words.get(|| patterns::expression(self.source, self.reading)) else { return false };
        regex.is_match(text.as_bytes()) || self.without_fillers(text).is_some_and(|t| regex.is_match(t.as_bytes()))
    }

    /// Whether a pattern stands in a text whose words were run together.
    pub(super) fn finds_joined(&self, text: &str) -> bool {
        let regex = self.joined.get(|| patterns::joined_expression(self.source, self.reading));
        regex.is_some_and(|r| r.is_match(text.as_bytes()))
    }

    #[cfg(test)]
    pub(super) fn joined_compiles(&self) -> bool {
        self.joined.get(|| patterns::joined_expression(self.source, self.reading)).is_some()
    }

    fn without_fillers(&self, text: &str) -> Option<String> {
        let fillers = self.fillers.get_or_init(|| {
            let folded = |f: &&str| squeeze(&f.chars().filter_map(fold_native_char).collect::<String>());
            self.source.fillers.iter().map(folded).collect()
        });
        if fillers.is_empty() {
            return None;
        }
        let tokens: Vec<&str> = text.split(' ').collect();
        let mut kept = Vec::with_capacity(tokens.len());
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            let phrase = (1..=FILLER_WORDS_MAX)
                .rev()
                .find(|n| tokens.get(at..at + n).is_some_and(|words| is_filler(fillers, words)));
            if phrase.is_none() {
                kept.push(*token);
            }
            at += phrase.unwrap_or(1);
        }
        (kept.len() < tokens.len()).then(|| kept.join(" "))
    }
}

fn is_filler(fillers: &HashSet<String>, words: &[&str]) -> bool {
    match words {
        [word] => fillers.contains(*word),
        words => fillers.contains(&words.join(" ")),
    }
}

/// The idioms of a reading.
pub(super) struct Idioms {
    pub(super) reading: Reading,
    pattern: Lazy,
}

impl Idioms {
    pub(super) fn new(reading: Reading) -> Self {
        Self { reading, pattern: Lazy::new() }
    }

    pub(super) fn warm(&self) -> Result<(), ConscienceError> {
        self.pattern.warm("idioms", || patterns::idioms(self.reading))
    }

    /// `text` with a mark in the place of each idiom.
    pub(super) fn take_out<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let Some(regex) = self.pattern.get(|| patterns::idioms(self.reading)) else { return Cow::Borrowed(text) };
        let with = match self.reading {
            Reading::Latin => TAKEN_OUT_LATIN,
            Reading::Native => TAKEN_OUT,
            Reading::Dense => b"@",
        };
        match regex.replace_all(text.as_bytes(), with) {
            Cow::Borrowed(_) => Cow::Borrowed(text),
            Cow::Owned(bytes) => {
                let text = String::from_utf8_lossy(&bytes).into_owned();
                Cow::Owned(text.split_whitespace().collect::<Vec<_>>().join(" "))
            }
        }
    }
}
