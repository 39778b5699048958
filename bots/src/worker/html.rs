//! From a page to its readable text. Pure and heavy: run it on a blocking thread.

use dom_smoothie::{Config, Readability, TextMode};

/// The most elements of a page that the extractor looks at.
const ELEMENTS_MAX: usize = 50_000;
/// The most bytes of HTML given to the extractor; longer pages lose their end.
const HTML_BYTES_MAX: usize = 1024 * 1024;
/// Elements open at once beyond which a page is a trick to exhaust the stack, and only its tags are taken out.
const DEPTH_MAX: usize = 256;
/// Shorter than this, the extractor probably missed the text.
const ARTICLE_CHARS_MIN: usize = 1;

/// The readable text of an HTML page, its title first. `markdown` keeps headings, lists and links.
pub(super) fn readable(html: &str, url: &str, markdown: bool) -> String {
    let html = start_of(html, HTML_BYTES_MAX);
    if depth(html) > DEPTH_MAX {
        return stripped(html);
    }
    let text_mode = if markdown { TextMode::Markdown } else { TextMode::Formatted };
    let config = Config { max_elements_to_parse: ELEMENTS_MAX, text_mode, ..Config::default() };
    let Ok(mut reader) = Readability::new(html, Some(url), Some(config)) else { return stripped(html) };
    // The count above can be led astray (end tags inside comments); the tree cannot.
    if is_too_deep(&reader) {
        return stripped(html);
    }
    match reader.parse() {
        Ok(article) if article.text_content.trim().chars().count() >= ARTICLE_CHARS_MIN => {
            titled(article.title.trim(), article.text_content.trim(), markdown)
        }
        _ => stripped(html),
    }
}

/// Walks the parsed tree without recursion.
fn is_too_deep(reader: &Readability) -> bool {
    let (mut node, mut depth) = (reader.doc.root(), 0usize);
    loop {
        if let Some(child) = node.first_child() {
            depth += 1;
            if depth > DEPTH_MAX {
                return true;
            }
            node = child;
            continue;
        }
        loop {
            if let Some(sibling) = node.next_sibling() {
                node = sibling;
                break;
            }
            let Some(parent) = node.parent() else { return false };
            node = parent;
            depth = depth.saturating_sub(1);
        }
    }
}

fn titled(title: &str, text: &str, markdown: bool) -> String {
    let first_line = text.lines().next().unwrap_or_default().trim_start_matches(['#', ' ']);
    if title.is_empty() || first_line.trim() == title {
        return text.to_owned();
    }
    let mark = if markdown { "# " } else { "" };
    format!("{mark}{title}\n\n{text}")
}

fn start_of(text: &str, bytes_max: usize) -> &str {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Elements that have no end tag, or whose end tag people leave out and parsers add.
const UNCLOSED: [&str; 28] = [
    "area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source", "track", "wbr", "p",
    "li", "dt", "dd", "tr", "td", "th", "thead", "tbody", "tfoot", "option", "optgroup", "colgroup", "rp",
];

/// The largest number of elements open at once, roughly.
fn depth(html: &str) -> usize {
    let (mut open, mut most) = (0usize, 0usize);
    for tag in Tags(html) {
        if tag.closes {
            open = open.saturating_sub(1);
        } else if !UNCLOSED.contains(&tag.name.as_str()) {
            open += 1;
            most = most.max(open);
        }
    }
    most
}

struct Tag {
    name: String,
    closes: bool,
}

/// The tags of a page, in order.
struct Tags<'a>(&'a str);

impl Iterator for Tags<'_> {
    type Item = Tag;

    fn next(&mut self) -> Option<Tag> {
        loop {
            let at = self.0.find('<')?;
            self.0 = &self.0[at + 1..];
            let closes = self.0.starts_with('/');
            let rest = self.0.strip_prefix('/').unwrap_or(self.0);
            let name: String = rest.chars().take(16).take_while(char::is_ascii_alphanumeric).collect();
            if name.is_empty() || UNCLOSED.contains(&name.to_ascii_lowercase().as_str()) {
                continue;
            }
            return Some(Tag { name: name.to_ascii_lowercase(), closes });
        }
    }
}

/// The text of a page or of XML without its tags, scripts and styles: the last resort.
pub(super) fn stripped(html: &str) -> String {
    let mut text = String::with_capacity(html.len() / 2);
    let mut rest = html;
    while let Some(at) = rest.find('<') {
        push_text(&mut text, &rest[..at]);
        rest = after_tag(&rest[at..]);
        text.push(if rest.is_empty() { ' ' } else { '\n' });
    }
    push_text(&mut text, rest);
    let lines = text.lines().map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).filter(|l| !l.is_empty());
    lines.collect::<Vec<_>>().join("\n")
}

/// What follows the tag (or comment, or script) that `html` begins with.
fn after_tag(html: &str) -> &str {
    let ends = [("<!--", "-->"), ("<script", "</script"), ("<style", "</style"), ("<![cdata[", "")];
    for (start, end) in ends {
        if !html.get(..start.len()).is_some_and(|s| s.eq_ignore_ascii_case(start)) {
            continue;
        }
        if end.is_empty() {
            return &html[start.len()..];
        }
        let Some(at) = find_ascii(html.as_bytes(), end.as_bytes()) else { return "" };
        return if end == "-->" { &html[at + 3..] } else { after_bracket(&html[at..]) };
    }
    after_bracket(html)
}

fn after_bracket(html: &str) -> &str {
    html.find('>').map_or("", |at| &html[at + 1..])
}

fn find_ascii(hay: &[u8], needle: &[u8]) -> Option<usize> {
    hay.windows(needle.len()).position(|w| w.eq_ignore_ascii_case(needle))
}

fn push_text(out: &mut String, text: &str) {
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        let entity = ENTITIES.iter().find(|(name, _)| rest[at..].starts_with(name));
        out.push_str(entity.map_or("&", |(_, value)| value));
        rest = &rest[at + entity.map_or(1, |(name, _)| name.len())..];
    }
    out.push_str(rest);
}

const ENTITIES: [(&str, &str); 8] = [
    ("&amp;", "&"),
    ("&lt;", "<"),
    ("&gt;", ">"),
    ("&quot;", "\""),
    ("&#39;", "'"),
    ("&apos;", "'"),
    ("&nbsp;", " "),
    ("]]&gt;", ""),
];

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "<html><head><title>On relays</title><style>p{color:red}</style></head><body>
        <nav><a href='/a'>Home</a> <a href='/b'>About</a></nav>
        <article><h1>On relays</h1><p>A relay keeps events and hands them to whoever asks, and it does so without an account.</p>
        <p>Many relays together make it hard to silence anybody, since a client may write to several of them at once.</p>
        <p>What one relay loses, another one still has; that is the whole trick, and it is a good one for small nodes.</p></article>
        <script>alert('x')</script><footer>Imprint</footer></body></html>";

    #[test]
    fn the_article_comes_out_with_its_title_first() {
        let text = readable(PAGE, "https://example.com/relays", false);
        assert!(text.starts_with("On relays"), "{text}");
        assert!(text.contains("hard to silence"));
        assert!(!text.contains("alert") && !text.contains("color:red"));
    }

    #[test]
    fn a_tower_of_elements_harms_nobody() {
        let tower = format!("<html><body>{}hello{}</body></html>", "<div>".repeat(100_000), "</div>".repeat(100_000));
        assert_eq!(readable(&tower, "https://example.com/", false), "hello");
    }

    #[test]
    fn a_hidden_tower_harms_nobody() {
        let tower = format!("<body>{}hello", "<div><!--</div>-->".repeat(5_000));
        let worker = std::thread::Builder::new()
            .stack_size(2 * 1024 * 1024)
            .spawn(move || readable(&tower, "https://example.com/", false));
        assert_eq!(worker.unwrap().join().unwrap(), "hello");
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]
        #[test]
        fn a_soup_of_tags_harms_nobody(pieces in proptest::collection::vec(proptest::sample::select(SOUP.to_vec()), 0..60)) {
            readable(&pieces.concat(), "https://example.com/a", true);
            readable(&pieces.concat(), "https://example.com/a", false);
        }
    }

    const SOUP: [&str; 26] = [
        "<div>",
        "</div>",
        "<p>",
        "<table><tr>",
        "<td>",
        "</table>",
        "<a href='//['>",
        "</a>",
        "<b>",
        "<i>",
        "</b>",
        "text, more text. ",
        "<br><br>",
        "<script type='application/ld+json'>{\"@type\":\"Article\",\"name\":1}</script>",
        "<svg><title>",
        "</svg>",
        "<template>",
        "<img src='data:x'>",
        "<h1 class='title'>",
        "<ul><li>",
        "&#xD800;&#0;",
        "<!--",
        "-->",
        "<noscript><img src=x></noscript>",
        "<base href='::'>",
        "<pre>ü\u{1f642}\n\n",
    ];

    #[test]
    fn just_below_the_bound_the_stack_of_a_blocking_thread_is_enough() {
        let n = DEPTH_MAX - 4;
        let tower =
            format!("<html><body>{}<p>hello there, you all</p>{}</body></html>", "<div>".repeat(n), "</div>".repeat(n));
        let worker = std::thread::Builder::new()
            .stack_size(2 * 1024 * 1024)
            .spawn(move || readable(&tower, "https://example.com/", false));
        assert!(worker.unwrap().join().unwrap().contains("hello there"));
    }

    #[test]
    fn tags_scripts_and_entities_are_taken_out() {
        assert_eq!(stripped("<p>a &amp; b</p><SCRIPT>x<y</SCRIPT><!-- <p>no</p> --><b>c</b>"), "a & b\nc");
        assert_eq!(stripped("<rss><title><![CDATA[Hi]]></title></rss>").replace("]]>", ""), "Hi");
        assert_eq!(stripped("no tags < here"), "no tags");
    }
}
