//! The conscience: finds a person in a crisis (suicide, self-harm) by rule, before any model or worker sees the message
//! (DESIGN §7).
//!
//! ```text
//! text ─► readings (case, accents, invisible and look-alike characters, spread letters)
//!      ─► idioms and titles taken out ─► first-person patterns of eight languages ─► Crisis ─► answer
//! ```
//!
//! The patterns look for a person who speaks of *themself*, so news, research, and talk about others pass. A wrapping
//! (a role-play, a story, a quotation) does not hide the first person. In doubt it fires: a needless kind word costs less than
//! a missing one. It finds no crisis that is only hinted at, and none in other languages.

mod answer;
mod lines;
mod normalise;
mod patterns;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use regex::{Regex, RegexBuilder};

pub use lines::{CrisisLine, Lines, LinesError};

/// Memory that one compiled language may use while it matches.
const MATCHER_BYTES_MAX: usize = 1 << 20;

/// The languages that the patterns and answers are written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Language {
    /// English.
    En,
    /// German.
    De,
    /// French.
    Fr,
    /// Spanish.
    Es,
    /// Portuguese.
    Pt,
    /// Italian.
    It,
    /// Dutch.
    Nl,
    /// Polish.
    Pl,
}

impl Language {
    /// All of them.
    pub const ALL: [Self; 8] = [Self::En, Self::De, Self::Fr, Self::Es, Self::Pt, Self::It, Self::Nl, Self::Pl];

    /// Reads an ISO 639-1 code, with or without a region (`pt-BR`).
    pub fn from_code(code: &str) -> Option<Self> {
        let code: String = code.chars().take(2).collect::<String>().to_ascii_lowercase();
        Self::ALL.into_iter().find(|language| language.code() == code)
    }

    /// The ISO 639-1 code.
    pub fn code(self) -> &'static str {
        match self {
            Self::En => "en",
            Self::De => "de",
            Self::Fr => "fr",
            Self::Es => "es",
            Self::Pt => "pt",
            Self::It => "it",
            Self::Nl => "nl",
            Self::Pl => "pl",
        }
    }
}

/// The conscience could not be made: a fault of this program, at which a node must not start.
#[derive(Debug, thiserror::Error)]
#[error("the crisis patterns for {language} do not compile")]
pub struct ConscienceError {
    language: &'static str,
    #[source]
    cause: Box<regex::Error>,
}

struct Matcher {
    language: Language,
    words: Regex,
    joined: Regex,
}

/// Looks for a crisis in texts. Cheap to clone.
#[derive(Clone)]
pub struct Conscience {
    idioms: Arc<Regex>,
    matchers: Arc<[Matcher]>,
    lines: Arc<Lines>,
}

impl Conscience {
    /// Compiles the patterns. `lines` are the owner's crisis lines, named in answers.
    pub fn new(lines: Lines) -> Result<Self, ConscienceError> {
        let idioms = compile(&bounded(&patterns::idioms()), "idioms")?;
        let matchers = Language::ALL.into_iter().map(matcher).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { idioms: Arc::new(idioms), matchers: matchers.into(), lines: Arc::new(lines) })
    }

    /// Finds out whether the writer of `text` speaks of killing or harming themself. Time is linear in the text.
    pub fn check(&self, text: &str) -> Option<Crisis> {
        let readings = normalise::readings(text);
        let in_words = readings.words.iter().find_map(|words| {
            let plain = self.idioms.replace_all(words, "@");
            self.matchers.iter().find(|m| m.words.is_match(&plain))
        });
        let found = in_words
            .or_else(|| readings.joined.as_ref().and_then(|j| self.matchers.iter().find(|m| m.joined.is_match(j))));
        found.map(|m| Crisis { language: m.language, lines: Arc::clone(&self.lines) })
    }
}

fn matcher(language: Language) -> Result<Matcher, ConscienceError> {
    let pattern = patterns::of(language);
    let words = compile(&bounded(&pattern), language.code())?;
    let joined = compile(&patterns::without_spaces(&pattern), language.code())?;
    Ok(Matcher { language, words, joined })
}

fn bounded(pattern: &str) -> String {
    format!(r"\b(?:{pattern})\b")
}

fn compile(pattern: &str, language: &'static str) -> Result<Regex, ConscienceError> {
    let mut builder = RegexBuilder::new(pattern);
    builder.unicode(false).dfa_size_limit(MATCHER_BYTES_MAX);
    builder.build().map_err(|e| ConscienceError { language, cause: Box::new(e) })
}

/// A person in a crisis.
#[derive(Debug, Clone)]
pub struct Crisis {
    language: Language,
    lines: Arc<Lines>,
}

impl Crisis {
    /// The language that the crisis was found in.
    pub fn language(&self) -> Language {
        self.language
    }

    /// What to say: the person is heard, and told whom to call. `country` is the ISO 3166 code, where known; `language` an
    /// ISO 639-1 code, where the person's is known (else the one that the crisis was found in). Names a line only with its
    /// source and the day it was checked. Never a method, never a reproach.
    pub fn answer(&self, country: Option<&str>, language: Option<&str>) -> String {
        let language = language.and_then(Language::from_code).unwrap_or(self.language);
        answer::compose(language, country, &self.lines)
    }
}
