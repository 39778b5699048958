//! Markdown cut into entries: one for each section, larger ones by groups of paragraphs.

/// The longest piece, in characters.
pub const MAX_PIECE: usize = 2_000;
/// The longest heading, in characters, that every piece of its section begins with; what is longer is a paragraph.
const MAX_HEADING: usize = 300;

/// The texts that a Markdown file is remembered as, in its order. Front matter is left out; each piece of a section begins with its
/// heading. Nothing inside a fenced block is taken for a heading or cut at an empty line.
pub fn pieces(markdown: &str) -> Vec<String> {
    let mut all = Vec::new();
    for section in sections(without_front_matter(markdown)) {
        section.cut(&mut all);
    }
    all
}

fn without_front_matter(markdown: &str) -> &str {
    let markdown = markdown.trim_start_matches('\u{feff}');
    let mut at = 0;
    for (number, line) in markdown.split_inclusive('\n').enumerate() {
        at += line.len();
        let is_fence = line.trim_end() == "---";
        if number == 0 && !is_fence {
            return markdown;
        }
        if number > 0 && is_fence {
            return &markdown[at..];
        }
    }
    markdown
}

/// A heading and the paragraphs below it.
#[derive(Default)]
struct Section {
    heading: String,
    paragraphs: Vec<String>,
}

fn sections(text: &str) -> Vec<Section> {
    let mut all = vec![Section::default()];
    let mut paragraph = String::new();
    let mut fence: Option<char> = None;
    for line in text.lines() {
        let opened = fence;
        fence = fence_after(line, fence);
        let is_plain = opened.is_none() && fence.is_none();
        if is_plain && let Some(heading) = heading(line).filter(|h| length(h) <= MAX_HEADING) {
            end_paragraph(&mut all, &mut paragraph);
            all.push(Section { heading: heading.to_owned(), paragraphs: Vec::new() });
        } else if is_plain && line.trim().is_empty() {
            end_paragraph(&mut all, &mut paragraph);
        } else {
            paragraph.push_str(line.trim_end());
            paragraph.push('\n');
        }
    }
    end_paragraph(&mut all, &mut paragraph);
    all
}

fn end_paragraph(all: &mut [Section], paragraph: &mut String) {
    let text = std::mem::take(paragraph);
    if let Some(section) = all.last_mut()
        && !text.trim().is_empty()
    {
        section.paragraphs.push(text.trim_end().to_owned());
    }
}

/// The fence that is open after this line.
fn fence_after(line: &str, open: Option<char>) -> Option<char> {
    let line = line.trim_start();
    let begun = ['`', '~'].into_iter().find(|c| line.chars().take_while(|x| x == c).count() >= 3);
    match (open, begun) {
        (None, begun) => begun,
        (Some(open), Some(closing)) if open == closing => None,
        (open, _) => open,
    }
}

fn heading(line: &str) -> Option<&str> {
    let marks = line.bytes().take_while(|b| *b == b'#').count();
    let rest = line.get(marks..)?;
    let is_heading = (1..=6).contains(&marks) && (rest.is_empty() || rest.starts_with([' ', '\t']));
    is_heading.then(|| rest.trim().trim_end_matches('#').trim_end())
}

fn length(text: &str) -> usize {
    text.chars().count()
}

impl Section {
    /// Groups of paragraphs as long as a piece may be; a heading alone is a piece when nothing stands below it.
    fn cut(self, all: &mut Vec<String>) {
        if self.paragraphs.is_empty() {
            all.extend((!self.heading.is_empty()).then_some(self.heading));
            return;
        }
        let begin = if self.heading.is_empty() { String::new() } else { format!("{}\n\n", self.heading) };
        let room = MAX_PIECE - length(&begin);
        let mut group = String::new();
        for part in self.paragraphs.iter().flat_map(|paragraph| split(paragraph, room)) {
            if !group.is_empty() && length(&group) + 2 + length(&part) > room {
                all.push(format!("{begin}{}", std::mem::take(&mut group)));
            }
            if !group.is_empty() {
                group.push_str("\n\n");
            }
            group.push_str(&part);
        }
        all.push(format!("{begin}{group}"));
    }
}

/// A paragraph in parts of at most `room` characters, cut at a line's end, else at white space, else anywhere.
fn split(paragraph: &str, room: usize) -> Vec<String> {
    let mut parts = Vec::new();
    let mut rest = paragraph;
    while let Some((end, _)) = rest.char_indices().nth(room) {
        let head = &rest[..end];
        let cut = head.rfind('\n').or_else(|| head.rfind(char::is_whitespace)).filter(|at| *at > 0).unwrap_or(end);
        parts.push(rest[..cut].trim_end().to_owned());
        rest = rest[cut..].trim_start();
    }
    parts.push(rest.to_owned());
    parts.retain(|part| !part.trim().is_empty());
    parts
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sections_become_pieces_with_their_headings() {
        let text = "---\ntitle: x\ntags: [a]\n---\nPreface.\n\n# Boats\n\nThe *Mary* leaks.\nSlowly.\n\n## Repairs ##\n```sh\n# no heading\n\nsand\n```\n\nTar.\n# Later\n#nothing\n";
        assert_eq!(
            pieces(text),
            [
                "Preface.",
                "Boats\n\nThe *Mary* leaks.\nSlowly.",
                "Repairs\n\n```sh\n# no heading\n\nsand\n```\n\nTar.",
                "Later\n\n#nothing",
            ]
        );
        assert_eq!(pieces("# Alone"), ["Alone"]);
        assert_eq!(pieces("a rule\n\n---\n\nafter it"), ["a rule\n\n---\n\nafter it"]);
        assert_eq!(pieces("---\nno end of it"), ["---\nno end of it"]);
        assert!(pieces("").is_empty() && pieces("---\na: b\n---\n").is_empty());
    }

    #[test]
    fn long_sections_are_cut_between_paragraphs_and_nothing_is_lost() {
        let paragraph = "wave ".repeat(150);
        let text = format!("# Sea\n\n{}", [paragraph.trim(); 6].join("\n\n"));
        let all = pieces(&text);
        assert_eq!(all.len(), 3);
        assert!(all.iter().all(|p| p.starts_with("Sea\n\n") && length(p) <= MAX_PIECE));
        assert_eq!(all.iter().map(|p| p.matches("wave").count()).sum::<usize>(), 900);
        let unbroken = "ß".repeat(5_000);
        let all = pieces(&unbroken);
        assert_eq!(all.concat(), unbroken);
    }

    proptest! {
        #[test]
        fn no_text_breaks_it_and_every_word_stays(text in "[#`~ \\-a-z\\n]{0,600}") {
            let all = pieces(&text);
            prop_assert!(all.iter().all(|p| length(p) <= MAX_PIECE && !p.trim().is_empty()));
            if !text.starts_with("---") {
                for word in text.split(|c: char| !c.is_ascii_lowercase()).filter(|w| !w.is_empty()) {
                    prop_assert!(all.iter().any(|p| p.contains(word)), "{word:?} of {text:?} in {all:?}");
                }
            }
        }

        #[test]
        fn any_text_is_cut(text in any::<String>()) {
            prop_assert!(pieces(&text).iter().all(|p| length(p) <= MAX_PIECE));
        }
    }
}
