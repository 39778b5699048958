//! The crisis patterns, language by language, and the idioms and titles that are none.
//!
//! They are regular expressions over a reading (`normalise`), words one space apart: small letters without accents or
//! apostrophes for Latin letters, small letters as written for other scripts, no spaces at all for Chinese and Japanese.
//! `_` stands for up to three words of any kind, `__` for up to nine (in Chinese and Japanese `_` for eight characters), a name in capitals for a
//! list. Filling words of the language are left out of a second reading, so patterns need not name them.
//! Whoever adds a pattern adds a sentence that it must find, and one that it must not, to the tests.

mod east_asian;
mod english;
mod germanic;
mod idioms;
mod romance;
mod slavic;
mod southern;

use super::Language;
use super::normalise::squeeze;
use super::scripts::{fold_dense_char, fold_native_char};

/// What a language's patterns are written over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    /// Folded words in Latin letters.
    Latin,
    /// Words as written, in a script with spaces.
    Native,
    /// Characters as written, without spaces.
    Dense,
}

/// The patterns of one language over one reading.
pub(super) struct Source {
    /// Regular expressions.
    pub(super) patterns: &'static [&'static str],
    /// Names used in them, and what they stand for. A later one may not use an earlier one.
    pub(super) lists: &'static [(&'static str, &'static str)],
    /// Words, and phrases of up to three, that may stand anywhere.
    pub(super) fillers: &'static [&'static str],
}

/// All pattern sets, in the order in which they are tried. Hindi is written in two scripts.
pub(super) const SETS: [(Language, Reading, &Source); 16] = [
    (Language::En, Reading::Latin, &english::EN),
    (Language::De, Reading::Latin, &germanic::DE),
    (Language::Fr, Reading::Latin, &romance::FR),
    (Language::Es, Reading::Latin, &romance::ES),
    (Language::Pt, Reading::Latin, &romance::PT),
    (Language::It, Reading::Latin, &romance::IT),
    (Language::Nl, Reading::Latin, &germanic::NL),
    (Language::Pl, Reading::Latin, &slavic::PL),
    (Language::Tr, Reading::Latin, &southern::TR),
    (Language::Hi, Reading::Latin, &southern::HI_LATIN),
    (Language::Ru, Reading::Native, &slavic::RU),
    (Language::Uk, Reading::Native, &slavic::UK),
    (Language::Ar, Reading::Native, &southern::AR),
    (Language::Hi, Reading::Native, &southern::HI),
    (Language::Ja, Reading::Dense, &east_asian::JA),
    (Language::Zh, Reading::Dense, &east_asian::ZH),
];

/// The expression for a set over its reading, bounded by words where the reading has any.
pub(super) fn expression(source: &Source, reading: Reading) -> String {
    bounded(&expand(source.patterns, source.lists, reading), reading)
}

/// The expression for a text whose words were run together.
pub(super) fn joined_expression(source: &Source, reading: Reading) -> String {
    let spaced = expand(source.patterns, source.lists, reading);
    let gaps = spaced.replace(r"(?: [^ ]+)", "\u{1}{0,12}").replace(r"(?: \w+)", r"\w{0,6}").replace("[^ ]", "\u{1}");
    gaps.replace(" ?", "").replace(' ', "").replace('\u{1}', "[^ ]")
}

/// The expression for the idioms of a reading.
pub(super) fn idioms(reading: Reading) -> String {
    let (patterns, lists) = match reading {
        Reading::Latin => (idioms::LATIN, idioms::LATIN_LISTS),
        Reading::Native => (idioms::NATIVE, idioms::NATIVE_LISTS),
        Reading::Dense => (idioms::DENSE, idioms::DENSE_LISTS),
    };
    bounded(&expand(patterns, lists, reading), reading)
}

fn bounded(pattern: &str, reading: Reading) -> String {
    match reading {
        Reading::Latin => format!(r"\b(?:{pattern})\b"),
        Reading::Native => format!(r"(?:^| )(?:{pattern})(?: |$)"),
        Reading::Dense => pattern.to_owned(),
    }
}

fn expand(patterns: &[&str], lists: &[(&str, &str)], reading: Reading) -> String {
    let mut all = patterns.join("|");
    for (name, list) in lists {
        all = all.replace(name, &format!("(?:{list})"));
    }
    match reading {
        Reading::Latin => squeeze(&all).replace("__", r"(?: \w+){0,9}").replace('_', r"(?: \w+){0,3}"),
        Reading::Native => squeeze(&all.chars().filter_map(fold_native_char).collect::<String>())
            .replace("__", r"(?: [^ ]+){0,9}")
            .replace('_', r"(?: [^ ]+){0,3}"),
        Reading::Dense => {
            squeeze(&all.chars().filter_map(fold_dense_char).collect::<String>()).replace('_', r"[^ ]{0,24}")
        }
    }
}
