//! How much of a question a text says: the share of the question's words that stand in it.
//!
//! Two words are the same when they begin alike, which for this purpose does as well as stems and needs no language. Scripts that
//! write no spaces are compared by pairs of letters.

use std::collections::BTreeSet;

use crate::embed::beginning;

/// Bytes of a text that are looked at: what the question is about is said early.
const TEXT_BYTES: usize = 4 * 1024;
/// So many letters at least must be the same at the beginning of two words that differ at their ends.
const SAME_AT_LEAST: usize = 4;
/// So many letters may differ at the end of the longer and of the shorter word: moving, moved.
const ENDINGS: (usize, usize) = (3, 2);
/// A word of so many letters is the same as one with one letter more: key, keys.
const LENGTHENED: usize = 3;
/// Words and pairs that are looked for: a pasted page is not a question that one text answers.
const PARTS: usize = 64;
/// Words that ask or join and that an answer need not say. English alone, as the stop words of the full-text index; where others
/// are counted in, the full text is trusted a little less.
const ASKING: [&str; 71] = [
    "a", "about", "after", "an", "and", "are", "as", "at", "be", "because", "before", "but", "by", "can", "could",
    "did", "do", "does", "during", "ever", "for", "from", "had", "has", "have", "he", "her", "his", "how", "i", "if",
    "in", "into", "is", "it", "may", "me", "my", "not", "of", "on", "or", "our", "she", "should", "such", "that",
    "the", "their", "then", "there", "these", "they", "this", "to", "us", "was", "we", "were", "what", "when", "where",
    "which", "who", "why", "will", "with", "would", "you", "your", "no",
];

/// The words of a text as they stand in it.
pub(crate) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric() && !is_inner(c)).filter(|word| !word.is_empty())
}

/// Marks that belong to a letter, in scripts that write vowels as such.
fn is_inner(c: char) -> bool {
    !c.is_ascii() && !c.is_whitespace() && !c.is_control()
}

/// What is looked for in a text.
enum Part {
    /// A word, as its letters.
    Word(Vec<char>),
    /// Two letters of a script without spaces.
    Pair(String),
}

/// The greatest share of the question's words that one of the texts says, 0 to 1; none without words or texts.
pub(crate) fn coverage<'a>(question: &str, texts: impl IntoIterator<Item = &'a str>) -> Option<f32> {
    let parts = parts(question);
    if parts.is_empty() {
        return None;
    }
    let share = |text: &str| {
        let text = beginning(text, TEXT_BYTES).to_lowercase();
        let said: Vec<Vec<char>> =
            words(&text).collect::<BTreeSet<_>>().into_iter().map(|w| w.chars().collect()).collect();
        let says = |part: &&Part| match part {
            Part::Word(word) => said.iter().any(|said| is_same(word, said)),
            Part::Pair(pair) => text.contains(pair.as_str()),
        };
        #[allow(clippy::cast_precision_loss)]
        let share = parts.iter().filter(says).count() as f32 / parts.len() as f32;
        share
    };
    texts.into_iter().map(share).reduce(f32::max)
}

/// What to look for: the question's words without those that only ask, or all of them when it has no others.
fn parts(question: &str) -> Vec<Part> {
    let question = question.to_lowercase();
    let all: BTreeSet<&str> = words(&question).collect();
    let telling: BTreeSet<&str> = all.iter().copied().filter(|word| !ASKING.contains(word)).collect();
    let chosen = if telling.is_empty() { all } else { telling };
    chosen.into_iter().flat_map(of_word).take(PARTS).collect()
}

fn of_word(word: &str) -> Vec<Part> {
    let letters: Vec<char> = word.chars().collect();
    if letters.len() > 1 && letters.iter().any(|c| is_unspaced(*c)) {
        return letters.windows(2).map(|pair| Part::Pair(pair.iter().collect())).collect();
    }
    vec![Part::Word(letters)]
}

/// Scripts from Thai to Burmese, Khmer, and those of China, Japan and Korea.
fn is_unspaced(c: char) -> bool {
    matches!(c, '\u{0e00}'..='\u{109f}' | '\u{1780}'..='\u{17ff}' | '\u{2e80}'..='\u{a4cf}' | '\u{ac00}'..='\u{d7ff}'
        | '\u{f900}'..='\u{faff}' | '\u{20000}'..)
}

fn is_same(a: &[char], b: &[char]) -> bool {
    let alike = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    let (shorter, longer) = (a.len().min(b.len()), a.len().max(b.len()));
    let is_longer = alike == shorter && shorter >= LENGTHENED && longer == shorter + 1;
    let has_ending = alike >= SAME_AT_LEAST && longer - alike <= ENDINGS.0 && shorter - alike <= ENDINGS.1;
    alike == longer || is_longer || has_ending
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn share(question: &str, text: &str) -> f32 {
        coverage(question, [text]).unwrap()
    }

    #[test]
    fn words_that_begin_alike_are_the_same_and_asking_words_do_not_count() {
        assert_eq!(share("Where are the spare keys?", "The spare key lies under the flower pot"), 1.0);
        assert_eq!(share("which houses did we visit", "We visited the house of Ulm"), 1.0);
        assert_eq!(share("cart", "cord cares"), 0.0);
        assert_eq!(share("red boat", "a red house"), 0.5);
        assert_eq!(share("what is it", "it"), 1.0 / 3.0, "a question of asking words alone is looked for as it is");
    }

    #[test]
    fn the_best_text_counts_and_nothing_gives_none() {
        assert_eq!(coverage("red boat", ["a red house", "the red boat", ""]), Some(1.0));
        assert_eq!(coverage("red boat", []), None);
        assert_eq!(coverage("?!", ["a red house"]), None);
    }

    #[test]
    fn scripts_without_spaces_are_compared_by_pairs() {
        assert_eq!(share("猫の名前", "うちの猫の名前はミケです"), 1.0);
        assert!(share("猫の名前", "犬の散歩は朝です") < 0.5);
        assert_eq!(share("кота зовут", "нашего кота зовут Мурзик"), 1.0);
    }

    proptest! {
        #[test]
        fn it_is_a_share_whatever_is_asked(question in any::<String>(), texts in proptest::collection::vec(any::<String>(), 0..4)) {
            let found = coverage(&question, texts.iter().map(String::as_str));
            prop_assert!(found.is_none_or(|share| (0.0..=1.0).contains(&share)));
            let itself = coverage(&question, [question.as_str()]);
            prop_assert!(itself.is_none_or(|share| share == 1.0 || question.to_lowercase().len() > TEXT_BYTES), "{:?}", itself);
        }
    }
}
