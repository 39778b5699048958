//! Long answers are said in parts.

/// A text in parts of at most `bytes_max`, cut between paragraphs, else lines, else words.
pub fn parts(text: &str, bytes_max: usize) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = text.trim();
    while rest.len() > bytes_max {
        let head = &rest[..rest.floor_char_boundary(bytes_max)];
        let least = bytes_max / 2;
        let cut = ["\n\n", "\n", " "].iter().find_map(|mark| head.rfind(mark).filter(|at| *at >= least));
        let (part, after) = rest.split_at(cut.unwrap_or(head.len()));
        parts.push(part.trim_end());
        rest = after.trim_start();
    }
    if !rest.is_empty() || parts.is_empty() {
        parts.push(rest);
    }
    parts
}

/// What of a text that is still being written can be said now: its whole paragraphs, where they are `least` bytes or more. A block of
/// code (between lines of ```) is never parted.
pub fn finished(text: &str, least: usize) -> Option<&str> {
    let mut is_code = false;
    let (mut at, mut end) = (0, None);
    for line in text.split_inclusive('\n') {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
        }
        at += line.len();
        // A blank line ends a paragraph once it is ended itself.
        if !is_code && line.ends_with('\n') && line.trim().is_empty() {
            end = Some(at);
        }
    }
    let whole = text[..end?].trim();
    (whole.len() >= least).then_some(whole)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAX: usize = 1_000;

    proptest! {
        #[test]
        fn parts_are_short_and_lose_no_word(words in prop::collection::vec("[a-zäß😀]{1,40}[ \n]{1,2}", 0..500)) {
            let text = words.concat();
            let parts = parts(&text, MAX);
            prop_assert!(parts.iter().all(|part| part.len() <= MAX));
            let all = parts.join(" ");
            prop_assert!(all.split_whitespace().eq(text.split_whitespace()));
        }
    }

    #[test]
    fn only_whole_paragraphs_are_finished_and_code_stays_together() {
        assert_eq!(finished("one\n\ntwo\n\nthr", 3), Some("one\n\ntwo"));
        assert_eq!(finished("one\n\ntwo\n\nthr", 9), None, "too little");
        assert_eq!(finished("one\ntwo", 1), None);
        assert_eq!(finished("one\n\n```\nlet a;\n\nlet b;\n\n", 1), Some("one"));
        assert_eq!(finished("```\nlet a;\n\nlet b;\n```\n\n", 1), Some("```\nlet a;\n\nlet b;\n```"));
        assert_eq!(finished("", 0), None);
    }

    #[test]
    fn one_long_word_is_cut_all_the_same() {
        let text = "é".repeat(MAX);
        let parts = parts(&text, MAX);
        assert_eq!(parts.concat(), text);
        assert!(parts.iter().all(|part| part.len() <= MAX));
    }
}
