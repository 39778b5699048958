//! The answer to a person in a crisis: that they are heard, whom to call, where somebody listens.

use super::words::{self, Words};
use super::{CrisisLine, Language, Lines};

/// A directory of crisis lines of all countries.
const DIRECTORY: &str = "https://findahelpline.com";
/// The most lines named in one answer.
const LINES_SHOWN: usize = 3;

/// Where 112 is the emergency number (EU, EEA, Switzerland, United Kingdom, Ukraine).
const CALL_112: [&str; 33] = [
    "AT", "BE", "BG", "CH", "CY", "CZ", "DE", "DK", "EE", "ES", "FI", "FR", "GB", "GR", "HR", "HU", "IE", "IS", "IT",
    "LI", "LT", "LU", "LV", "MT", "NL", "NO", "PL", "PT", "RO", "SE", "SI", "SK", "UA",
];
/// Where 911 is.
const CALL_911: [&str; 3] = ["US", "CA", "MX"];
/// Other countries; where the ambulance has a number of its own, that one.
const CALL_OTHERS: [(&str, &str); 5] = [("AU", "000"), ("IN", "112"), ("JP", "119"), ("NZ", "111"), ("TR", "112")];

pub(super) fn compose(language: Language, country: Option<&str>, lines: &Lines) -> String {
    let words: Words = words::of(language);
    let number = country.and_then(emergency_number).unwrap_or(words.any_number);
    let mut parts = vec![words.heard.to_owned(), words.danger.replace("{}", number)];
    for line in country.map(|c| lines_for(c, lines)).unwrap_or_default() {
        parts.push(format!(
            "{} {}: {} ({}, {} {}).",
            words.line, line.name, line.phone, line.url, words.checked, line.checked
        ));
    }
    parts.push(format!("{} {DIRECTORY}", words.directory));
    parts.push(words.near.to_owned());
    parts.join("\n\n")
}

/// The owner's lines for a country, then the built-in ones that they do not name.
fn lines_for<'l>(country: &str, own: &'l Lines) -> Vec<&'l CrisisLine> {
    let mut named: Vec<&CrisisLine> = Vec::new();
    for line in own.of(country).chain(Lines::built_in().of(country)) {
        if named.len() < LINES_SHOWN && !named.iter().any(|known| known.same_phone(line)) {
            named.push(line);
        }
    }
    named
}

fn emergency_number(country: &str) -> Option<&'static str> {
    let is = |list: &[&str]| list.iter().any(|c| c.eq_ignore_ascii_case(country));
    if is(&CALL_112) {
        return Some("112");
    }
    if is(&CALL_911) {
        return Some("911");
    }
    CALL_OTHERS.iter().find(|(code, _)| code.eq_ignore_ascii_case(country)).map(|(_, number)| *number)
}
