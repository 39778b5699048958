//! Makes texts comparable: one case, no accents, no invisible characters, no look-alikes, no letters spread out, no letter
//! twice. The crisis patterns are written for what comes out of here, and squeezed in the same way.
//!
//! Three readings stand beside each other: one folded to Latin letters; one in the script as it is written, for Cyrillic,
//! Arabic and Devanagari, whose marks are letters too; and one without spaces, for Chinese and Japanese.

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

use super::markup;
use super::scripts::{Scripts, fold_dense_char, fold_native_char, is_dense, native_letter};
use super::typos;

/// Single letters in a row that are a word spread out (`d i e`).
const RUN_MIN: usize = 3;
/// Single letters in a row that may be several words spread out (`k i l l m y s e l f`).
const SPREAD_MIN: usize = 4;

/// The readings of one text that the patterns are tried on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Readings {
    /// The scripts that it holds.
    pub(super) scripts: Scripts,
    /// Words in Latin letters with one space between, in several readings: `1` as `i` and as `l`, spread letters joined,
    /// misspelt words mended, markup taken out.
    pub(super) latin: Vec<String>,
    /// Words as written, if there are letters of Cyrillic, Arabic or Devanagari.
    pub(super) native: Vec<String>,
    /// Characters as written, a space only where a sentence or clause ends, if there are any Chinese or Japanese ones.
    pub(super) dense: Vec<String>,
    /// Stretches of spread-out Latin letters, each as one word.
    pub(super) latin_joined: Option<String>,
    /// Stretches of spread-out letters as written.
    pub(super) native_joined: Option<String>,
}

/// Reads `text` as it is, and once more without markup and escapes if it has any.
pub(super) fn readings(text: &str) -> Readings {
    let mut readings = Readings { scripts: Scripts::of(text), ..Readings::default() };
    readings.add(text);
    if let Some(plain) = markup::strip(text) {
        readings.scripts = readings.scripts.and(Scripts::of(&plain));
        readings.add(&plain);
    }
    readings
}

impl Readings {
    fn add(&mut self, text: &str) {
        let folded = fold(text);
        let first = words(&folded, 'i');
        push_new(&mut self.latin, words(&folded, 'l'));
        push_new(&mut self.latin, join_runs(&first));
        if let Some(mended) = typos::mend(&first) {
            push_new(&mut self.latin, mended);
        }
        if self.latin_joined.is_none() {
            self.latin_joined = joined(&first);
        }
        push_new(&mut self.latin, first);
        if self.scripts.native() {
            let native = native(text);
            if self.native_joined.is_none() {
                self.native_joined = joined(&native);
            }
            push_new(&mut self.native, join_runs(&native));
            push_new(&mut self.native, native);
        }
        if self.scripts.dense() {
            push_new(&mut self.dense, dense(text));
        }
    }
}

fn push_new(list: &mut Vec<String>, reading: String) {
    if !list.contains(&reading) {
        list.push(reading);
    }
}

/// The stretches of very short words that hold letters spread out, each as one word.
fn joined(words: &str) -> Option<String> {
    let tokens: Vec<&str> = words.split(' ').collect();
    let stretches = tokens.chunk_by(|a, b| is_short(a) && is_short(b));
    let spread = stretches.filter(|s| s.windows(SPREAD_MIN).any(|w| w.iter().all(|t| is_single(t))));
    let joined: Vec<String> = spread.map(|s| squeeze(&s.concat())).collect();
    (!joined.is_empty()).then(|| joined.join(" "))
}

fn is_short(token: &str) -> bool {
    token.chars().count() <= 2
}

fn is_single(token: &str) -> bool {
    let mut chars = token.chars();
    chars.next().is_some() && chars.next().is_none()
}

/// Makes one word of each run of single letters.
fn join_runs(words: &str) -> String {
    let tokens: Vec<&str> = words.split(' ').collect();
    let mut out: Vec<String> = Vec::with_capacity(tokens.len());
    for run in tokens.chunk_by(|a, b| is_single(a) && is_single(b)) {
        if run.len() >= RUN_MIN {
            out.push(squeeze(&run.concat()));
        } else {
            out.extend(run.iter().map(|t| (*t).to_owned()));
        }
    }
    out.join(" ")
}

/// Words as they are written: compatibility forms, case and the spelling variants of a script folded, no marks dropped that
/// are letters.
fn native(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.nfkc().flat_map(char::to_lowercase) {
        match fold_native_char(c) {
            None => {}
            Some(c) if is_invisible(c) || is_apostrophe(c) => {}
            Some(c) if c.is_alphanumeric() || is_combining_mark(c) => out.push(c),
            Some(_) => out.push(' '),
        }
    }
    out.split_whitespace().map(|token| squeeze(&native_token(token))).collect::<Vec<_>>().join(" ")
}

/// Reads Latin look-alikes inside a Cyrillic word as Cyrillic.
fn native_token(token: &str) -> String {
    if token.chars().any(is_cyrillic) { token.chars().map(native_letter).collect() } else { token.to_owned() }
}

fn is_cyrillic(c: char) -> bool {
    matches!(c, '\u{400}'..='\u{4ff}')
}

/// Characters as they are written, without spaces; what ends a clause becomes a space.
fn dense(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.nfkc().flat_map(char::to_lowercase).filter_map(fold_dense_char) {
        if c.is_alphanumeric() || is_dense(c) {
            out.push(c);
        } else if !is_invisible(c) && !c.is_whitespace() && !is_separator(c) && !out.ends_with(' ') {
            out.push(' ');
        }
    }
    squeeze(out.trim())
}

/// Signs that people put between characters to break a word up.
fn is_separator(c: char) -> bool {
    matches!(
        c,
        '.' | '*'
            | '-'
            | '_'
            | '/'
            | '|'
            | '·'
            | '・'
            | '~'
            | '+'
            | '\''
            | '"'
            | '\\'
            | '「'
            | '」'
            | '『'
            | '』'
            | '“'
            | '”'
    )
}

/// Folds case, accents, invisible characters and punctuation; words stand one space apart.
fn fold(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.nfkd().flat_map(char::to_lowercase) {
        match c {
            c if is_combining_mark(c) || is_invisible(c) => {}
            // Apostrophes join: don't, l'idée.
            c if is_apostrophe(c) => {}
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

fn is_apostrophe(c: char) -> bool {
    matches!(c, '\'' | '\u{2018}' | '\u{2019}' | '\u{02bc}' | '`' | '\u{b4}' | '\u{2032}')
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

    fn has(text: &str, reading: &str) {
        let readings = readings(text);
        assert!(readings.latin.iter().any(|r| r == reading), "{:?}", readings.latin);
    }

    #[test]
    fn disguises_fall() {
        has("I WANT to D\u{200b}IE…", "i want to die");
        has("k1ll mys3lf", "kil myself");
        has("Ich kann’s nicht, müde", "ich kans nicht mude");
        has("ｋｉｌｌ 𝐦𝐲𝐬𝐞𝐥𝐟", "kil myself");
        has("kіll mуself", "kil myself");
        has("want 2 dieeee!!", "want to die");
        has("ki11", "ki");
        has("ki11", "kil");
        has("i want to d-i-e", "i want to die");
        has("k<b>i</b>ll&nbsp;me", "kil me");
    }

    #[test]
    fn letters_spread_out_are_joined() {
        assert_eq!(readings("k.i.l.l m-y-s-e-l-f").latin_joined.as_deref(), Some("kilmyself"));
        assert_eq!(readings("a plain sentence").latin_joined, None);
        assert_eq!(readings("у м е р е т ь").native_joined.as_deref(), Some("умереть"));
    }

    #[test]
    fn other_scripts_keep_their_letters() {
        assert_eq!(readings("Ёлка, вб’ю; вбью й ї").native, ["елка вбю вбью й ї"]);
        assert_eq!(readings("хoчу yмереть").native, ["хочу умереть"], "with Latin letters");
        assert_eq!(readings("मैं ज़िंदा हूँ।").native, ["मैं जिंदा हूं"]);
        assert_eq!(readings("أُريدُ أنْ").native, ["اريد ان"]);
        assert_eq!(readings("我 想·死。好累").dense, ["我想死 好累"]);
        assert_eq!(readings("シニタイ が").dense, ["しにたいが"]);
        assert!(readings("plain").native.is_empty() && readings("plain").dense.is_empty());
    }
}
