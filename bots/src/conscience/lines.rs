//! Crisis lines: the owner's own, from `[safety] lines_file`, and those built in, from `bots/safety/lines.toml`. A number is
//! named only with its source and the day it was checked, for a number that is wrong is worse than none. The owner's come
//! first. Where a country has none, the emergency number and the directory remain.

use std::sync::LazyLock;

use serde::Deserialize;

/// The most lines of a file.
const LINES_MAX: usize = 500;
/// The longest field, in characters.
const FIELD_CHARS_MAX: usize = 200;

/// The built-in lines.
const BUILT_IN: &str = include_str!("../../safety/lines.toml");

/// One crisis line.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CrisisLine {
    /// ISO 3166 code of the country it serves.
    pub country: String,
    /// What it is called.
    pub name: String,
    /// The number to call.
    pub phone: String,
    /// Where the number was read.
    pub url: String,
    /// The day it was checked, `YYYY-MM-DD`.
    pub checked: String,
}

impl CrisisLine {
    /// Whether it is the same number, however it is written.
    pub(super) fn same_phone(&self, other: &Self) -> bool {
        let digits = |line: &Self| line.phone.chars().filter(char::is_ascii_digit).collect::<String>();
        digits(self) == digits(other)
    }
}

/// Why a file of lines is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LinesError {
    /// Not the TOML that is expected.
    #[error("the crisis lines are not valid: {0}; each [[lines]] needs country, name, phone, url and checked")]
    Syntax(String),
    /// A field without sense.
    #[error("crisis line {place}: {reason}")]
    Field {
        /// Which one, counted from 1.
        place: usize,
        /// What is wrong.
        reason: &'static str,
    },
    /// Too many.
    #[error("more than {LINES_MAX} crisis lines")]
    TooMany,
}

/// All lines that are known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lines(Vec<CrisisLine>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    lines: Vec<CrisisLine>,
}

impl Lines {
    /// Reads the text of a lines file: a `[[lines]]` table for each line.
    pub fn parse(toml: &str) -> Result<Self, LinesError> {
        let file: File = toml::from_str(toml).map_err(|e| LinesError::Syntax(e.message().to_owned()))?;
        if file.lines.len() > LINES_MAX {
            return Err(LinesError::TooMany);
        }
        for (i, line) in file.lines.iter().enumerate() {
            check(line).map_err(|reason| LinesError::Field { place: i + 1, reason })?;
        }
        Ok(Self(file.lines))
    }

    /// The lines that come with the program, parsed once. A fault in the file, which the tests would find, leaves none.
    pub fn built_in() -> &'static Self {
        static LINES: LazyLock<Lines> = LazyLock::new(|| Lines::parse(BUILT_IN).unwrap_or_default());
        &LINES
    }

    /// The lines of a country.
    pub fn of(&self, country: &str) -> impl Iterator<Item = &CrisisLine> {
        self.0.iter().filter(move |line| line.country.eq_ignore_ascii_case(country))
    }
}

fn check(line: &CrisisLine) -> Result<(), &'static str> {
    let fields = [&line.name, &line.phone, &line.url, &line.checked];
    if fields
        .iter()
        .any(|f| f.trim().is_empty() || f.chars().count() > FIELD_CHARS_MAX || f.chars().any(char::is_control))
    {
        return Err("a field is empty or too long");
    }
    if line.country.len() != 2 || !line.country.chars().all(|c| c.is_ascii_alphabetic()) {
        return Err("country is a code of two letters, like US");
    }
    if !line.phone.chars().any(|c| c.is_ascii_digit()) {
        return Err("phone has no digit");
    }
    if !line.url.starts_with("https://") {
        return Err("url must begin with https://");
    }
    let day: Vec<usize> = line.checked.split('-').map(str::len).collect();
    let digits = line.checked.chars().all(|c| c.is_ascii_digit() || c == '-');
    if day != [4, 2, 2] || !digits { Err("checked is a day, like 2026-11-01") } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "[[lines]]\ncountry = \"XX\"\nname = \"Example line\"\nphone = \"000 111\"\nurl = \"https://example.org\"\nchecked = \"2026-11-01\"\n";

    #[test]
    fn a_line_needs_its_source_and_its_day() {
        assert_eq!(Lines::parse(FILE).unwrap().of("xx").count(), 1);
        assert_eq!(Lines::parse("").unwrap(), Lines::default());
        assert!(matches!(Lines::parse(&FILE.replace("checked = \"2026-11-01\"\n", "")), Err(LinesError::Syntax(_))));
        assert!(matches!(Lines::parse(&FILE.replace("2026-11-01", "lately")), Err(LinesError::Field { place: 1, .. })));
        assert!(matches!(
            Lines::parse(&FILE.replace("https://example.org", "x")),
            Err(LinesError::Field { place: 1, .. })
        ));
    }

    #[test]
    fn the_built_in_lines_are_valid_and_each_has_its_source_and_day() {
        let lines = Lines::parse(BUILT_IN).unwrap();
        assert!(lines.0.len() >= 40, "{}", lines.0.len());
        assert_eq!(&lines, Lines::built_in());
        let tables: Vec<&str> = BUILT_IN.split("[[lines]]").collect();
        assert_eq!(tables.len(), lines.0.len() + 1);
        for (line, before) in lines.0.iter().zip(&tables) {
            let comments = before.rsplit("\n\n").next().unwrap();
            assert!(comments.contains("# source: "), "{line:?} has no source");
            assert!(!comments.contains("index id"), "{line:?} has a source that nobody can find");
            assert!(line.checked.as_str() >= "2026-11-21", "{line:?}");
        }
    }

    #[test]
    fn a_number_is_the_same_however_it_is_written() {
        let written = |phone: &str| Lines::parse(&FILE.replace("000 111", phone)).unwrap().0.swap_remove(0);
        assert!(written("116 123").same_phone(&written("116-123")));
        assert!(!written("116 123").same_phone(&written("116 124")));
    }
}
