//! The conscience: finds a person in a crisis (suicide, self-harm) by rule, before any model or worker sees the message
//! (DESIGN §7; what it promises and what not: `spec/safety.md`).
//!
//! ```text
//! text ─► readings (case, accents, invisible and look-alike characters, spread letters, markup; other scripts as written)
//!      ─► idioms and titles taken out ─► first-person patterns of fifteen languages ─► Crisis ─► answer
//! ```
//!
//! The patterns look for a person who speaks of *themself*, so news, research, and talk about others pass. A wrapping
//! (a role-play, a story, a quotation) does not hide the first person. In doubt it fires: a needless kind word costs less than
//! a missing one. It finds no crisis that is only hinted at, and none in other languages.
//!
//! Patterns are compiled when a text in their script first comes, or by `Conscience::warm`.

mod after;
mod answer;
mod lines;
mod markup;
mod matcher;
mod normalise;
mod patterns;
mod scripts;
#[cfg(test)]
mod suite;
#[cfg(test)]
mod tests;
mod typos;
mod words;

use std::sync::Arc;

use matcher::{Idioms, Matcher};
use patterns::Reading;

pub use after::{Gentle, SOFT_SECONDS};
pub use lines::{CrisisLine, Lines, LinesError};

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
    /// Russian.
    Ru,
    /// Ukrainian.
    Uk,
    /// Arabic.
    Ar,
    /// Hindi.
    Hi,
    /// Turkish.
    Tr,
    /// Japanese.
    Ja,
    /// Chinese.
    Zh,
}

impl Language {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::En,
        Self::De,
        Self::Fr,
        Self::Es,
        Self::Pt,
        Self::It,
        Self::Nl,
        Self::Pl,
        Self::Ru,
        Self::Uk,
        Self::Ar,
        Self::Hi,
        Self::Tr,
        Self::Ja,
        Self::Zh,
    ];

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
            Self::Ru => "ru",
            Self::Uk => "uk",
            Self::Ar => "ar",
            Self::Hi => "hi",
            Self::Tr => "tr",
            Self::Ja => "ja",
            Self::Zh => "zh",
        }
    }
}

/// The conscience could not be made: a fault of this program, at which a node must not start.
#[derive(Debug, thiserror::Error)]
#[error("the crisis patterns for {set} do not compile")]
pub struct ConscienceError {
    set: String,
    #[source]
    cause: Box<regex::Error>,
}

/// Looks for a crisis in texts. Cheap to clone.
#[derive(Clone)]
pub struct Conscience {
    idioms: Arc<[Idioms]>,
    matchers: Arc<[Matcher]>,
    lines: Arc<Lines>,
}

impl Conscience {
    /// Makes it ready. `lines` are the owner's crisis lines, named in answers before the built-in ones.
    ///
    /// Patterns are compiled when they are first needed; call `warm` where that may take its time.
    pub fn new(lines: Lines) -> Result<Self, ConscienceError> {
        let matchers =
            patterns::SETS.into_iter().map(|(language, reading, source)| Matcher::new(language, reading, source));
        let idioms = [Reading::Latin, Reading::Native, Reading::Dense].map(Idioms::new);
        Ok(Self { idioms: Arc::new(idioms), matchers: matchers.collect(), lines: Arc::new(lines) })
    }

    /// Compiles all patterns that are not compiled yet, so that no message waits for it.
    pub fn warm(&self) -> Result<(), ConscienceError> {
        self.idioms.iter().try_for_each(Idioms::warm)?;
        self.matchers.iter().try_for_each(Matcher::warm)
    }

    /// Finds out whether the writer of `text` speaks of killing or harming themself. Time is linear in the text.
    pub fn check(&self, text: &str) -> Option<Crisis> {
        let readings = normalise::readings(text);
        let found = self.idioms.iter().find_map(|idioms| {
            let matchers: Vec<&Matcher> =
                self.matchers.iter().filter(|m| m.fits(idioms.reading, readings.scripts)).collect();
            let list = match idioms.reading {
                Reading::Latin => &readings.latin,
                Reading::Native => &readings.native,
                Reading::Dense => &readings.dense,
            };
            list.iter().filter(|_| !matchers.is_empty()).find_map(|words| {
                let plain = idioms.take_out(words);
                matchers.iter().find(|m| m.finds(&plain)).map(|m| m.language)
            })
        });
        let found = found.or_else(|| {
            self.matchers.iter().find_map(|m| {
                let joined = match m.reading {
                    Reading::Latin => readings.latin_joined.as_deref(),
                    Reading::Native => readings.native_joined.as_deref(),
                    Reading::Dense => None,
                };
                joined.filter(|j| m.fits(m.reading, readings.scripts) && m.finds_joined(j)).map(|_| m.language)
            })
        });
        found.map(|language| Crisis { language, lines: Arc::clone(&self.lines) })
    }
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
