//! Takes tags, entities and escapes out of a text that has any, so that a word broken up by them is read as one.

/// The longest tag, entity or escape, in bytes; what is longer is text.
const TAG_BYTES_MAX: usize = 120;

/// The text without markup, or `None` if it has none.
pub(super) fn strip(text: &str) -> Option<String> {
    if !text.contains(['<', '&', '\\']) {
        return None;
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['<', '&', '\\']) {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let (meant, used) = meaning(from);
        out.push_str(&meant);
        rest = from.get(used..).unwrap_or_default();
    }
    out.push_str(rest);
    (out != text).then_some(out)
}

/// What stands at the begin of `text`, and how many bytes it takes.
fn meaning(text: &str) -> (String, usize) {
    let window =
        text.char_indices().take_while(|(i, _)| *i < TAG_BYTES_MAX).last().map_or(0, |(i, c)| i + c.len_utf8());
    let head = text.get(..window).unwrap_or_default();
    let found = match head.as_bytes().first() {
        Some(b'<') => tag(head),
        Some(b'&') => entity(head),
        _ => escape(head),
    };
    found.unwrap_or_else(|| (head.chars().take(1).collect(), head.chars().next().map_or(1, char::len_utf8)))
}

fn tag(head: &str) -> Option<(String, usize)> {
    if head.starts_with("<!--") {
        // What a comment says is read.
        return Some((" ".to_owned(), 4));
    }
    let named = head.as_bytes().get(1).is_some_and(|b| b.is_ascii_alphabetic() || matches!(b, b'/' | b'!'));
    let end = head.find('>').filter(|_| named)?;
    let name: String = head.trim_start_matches(['<', '/']).chars().take_while(char::is_ascii_alphanumeric).collect();
    let inline = matches!(
        name.as_str(),
        "b" | "i" | "u" | "s" | "em" | "strong" | "span" | "font" | "mark" | "small" | "wbr" | "a"
    );
    Some((if inline { "" } else { " " }.to_owned(), end + 1))
}

fn entity(head: &str) -> Option<(String, usize)> {
    let end = head.find(';')?;
    let name = head.get(1..end)?;
    let meant = match name {
        "nbsp" | "ensp" | "emsp" | "thinsp" => ' ',
        "shy" | "zwj" | "zwnj" => return Some((String::new(), end + 1)),
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        "quot" => '"',
        "apos" | "rsquo" | "lsquo" => '\'',
        _ => {
            let number = name.strip_prefix('#')?;
            let code = match number.strip_prefix(['x', 'X']) {
                Some(hex) => u32::from_str_radix(hex, 16).ok()?,
                None => number.parse().ok()?,
            };
            char::from_u32(code)?
        }
    };
    Some((meant.to_string(), end + 1))
}

fn escape(head: &str) -> Option<(String, usize)> {
    match head.as_bytes().get(1)? {
        b'n' | b't' | b'r' => Some((" ".to_owned(), 2)),
        b'"' | b'\'' | b'*' | b'_' => Some((String::new(), 2)),
        b'u' => {
            let code = u32::from_str_radix(head.get(2..6)?, 16).ok()?;
            Some((char::from_u32(code).map(String::from).unwrap_or_default(), 6))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_entities_and_escapes_go() {
        assert_eq!(strip("plain"), None);
        assert_eq!(strip("a < b"), None);
        assert_eq!(strip("d<b>i</b>e<br>now").as_deref(), Some("die now"));
        assert_eq!(strip("d&#105;&#x65; &nbsp;x &copy; & y").as_deref(), Some("die  x &copy; & y"));
        assert_eq!(strip(r"want\nto d\u0069e \u12").as_deref(), Some(r"want to die \u12"));
        assert_eq!(strip("<!-- d<i></i>ie -->").as_deref(), Some("  die -->"));
        assert_eq!(strip("<ü").as_deref(), None);
    }
}
