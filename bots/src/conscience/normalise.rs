//! Makes texts comparable: one case, no accents, no invisible characters, no look-alikes, no letters spread out, no letter
//! twice. The crisis patterns are written for what comes out of here, and squeezed in the same way.

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

/// Single letters in a row that are a word spread out (`k i l l`).
const SPREAD_MIN: usize = 4;

/// The readings of one text that the patterns are tried on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Readings {
    /// Words with one space between; `1` is read as `i` in the first and as `l` in the second, where that differs.
    pub(super) words: Vec<String>,
    /// All words without the spaces between them, if some were spread out.
    pub(super) joined: Option<String>,
}

pub(super) fn readings(text: &str) -> Readings {
    let folded = fold(text);
    let spread =
        folded.split(' ').collect::<Vec<_>>().windows(SPREAD_MIN).any(|w| w.iter().all(|t| t.chars().count() == 1));
    let mut words = vec![words(&folded, 'i')];
    let second = self::words(&folded, 'l');
    if second != words[0] {
        words.push(second);
    }
    let joined = spread.then(|| squeeze(&words[0].replace(' ', "")));
    Readings { words, joined }
}

/// Folds case, accents, invisible characters and punctuation; words stand one space apart.
fn fold(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.nfkd().flat_map(char::to_lowercase) {
        match c {
            c if is_combining_mark(c) || is_invisible(c) => {}
            // Apostrophes join: don't, l'idée.
            '\'' | '\u{2018}' | '\u{2019}' | '\u{02bc}' | '`' | '\u{b4}' | '\u{2032}' => {}
            'ł' => out.push('l'),
            'ß' => out.push_str("ss"),
            'ø' => out.push('o'),
            'đ' => out.push('d'),
            'ı' => out.push('i'),
            'æ' => out.push_str("ae"),
            'œ' => out.push_str("oe"),
            c if c.is_alphanumeric() || matches!(c, '@' | '$' | '!' | '|' | '€') => out.push(c),
            _ => out.push(' '),
        }
    }
    out.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180e}'
        | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
        | '\u{e0000}'..='\u{e01ef}')
}

fn words(folded: &str, one: char) -> String {
    let read: Vec<String> =
        folded.split(' ').map(|token| squeeze(&read_token(token, one))).filter(|t| !t.is_empty()).collect();
    read.join(" ")
}

/// Reads digits and signs inside a word as the letters they look like, and Cyrillic or Greek letters inside a Latin word
/// likewise.
fn read_token(token: &str, one: char) -> String {
    let trimmed = token.trim_matches(['!', '|', '€']);
    if trimmed == "2" {
        return "to".to_owned();
    }
    let passes_for_latin = trimmed.chars().all(|c| c.is_alphabetic() && look_alike(c).is_ascii());
    let latin = trimmed.chars().any(|c| c.is_ascii_alphabetic()) || passes_for_latin;
    if !latin {
        return trimmed.chars().filter(|c| c.is_alphanumeric()).collect();
    }
    trimmed.chars().map(|c| if c == '1' { one } else { look_alike(c) }).filter(|c| c.is_alphanumeric()).collect()
}

fn look_alike(c: char) -> char {
    match c {
        '0' | 'о' | 'ο' => 'o',
        '3' | '€' | 'е' | 'ε' => 'e',
        '4' | '@' | 'а' | 'α' => 'a',
        '5' | '$' | 'ѕ' => 's',
        '7' | 'т' | 'τ' => 't',
        '!' | '|' | 'і' | 'ι' => 'i',
        'р' | 'ρ' => 'p',
        'с' => 'c',
        'у' | 'υ' => 'y',
        'х' | 'χ' => 'x',
        'к' | 'κ' => 'k',
        'м' => 'm',
        'ѵ' | 'ν' => 'v',
        'ԁ' => 'd',
        'һ' => 'h',
        'ӏ' => 'l',
        c => c,
    }
}

/// Leaves one of several equal letters in a row: `killl` and `kill` become `kil`.
pub(super) fn squeeze(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut last = None;
    for c in text.chars() {
        if last != Some(c) || !c.is_alphabetic() {
            out.push(c);
        }
        last = Some(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(text: &str) -> String {
        readings(text).words.swap_remove(0)
    }

    #[test]
    fn disguises_fall() {
        assert_eq!(first("I WANT to D\u{200b}IE…"), "i want to die");
        assert_eq!(first("k1ll mys3lf"), "kil myself");
        assert_eq!(first("Ich kann’s nicht, müde"), "ich kans nicht mude");
        assert_eq!(first("ｋｉｌｌ 𝐦𝐲𝐬𝐞𝐥𝐟"), "kil myself");
        assert_eq!(first("kіll mуself"), "kil myself", "with Cyrillic letters");
        assert_eq!(first("want 2 dieeee!!"), "want to die");
        assert_eq!(readings("ki11").words, ["ki", "kil"]);
    }

    #[test]
    fn letters_spread_out_are_joined() {
        assert_eq!(readings("k.i.l.l m-y-s-e-l-f").joined.as_deref(), Some("kilmyself"));
        assert_eq!(readings("a plain sentence").joined, None);
    }
}
