//! Reading a response: its type, its bytes up to the cap, its characters.

use encoding_rs::{Encoding, UTF_8, WINDOWS_1252};
use reqwest::{Response, header};
use url::Url;

use super::{FetchError, Page, transport};

/// How far into a page its own word on its character set is looked for.
const PROLOGUE_BYTES: usize = 1024;

/// What kind of text a page is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// HTML or XHTML.
    Html,
    /// Other XML (feeds, for instance).
    Xml,
    /// JSON.
    Json,
    /// Any other text.
    Plain,
}

pub(super) async fn read(response: Response, url: Url, bytes_max: usize) -> Result<Page, FetchError> {
    let declared = response
        .headers()
        .get(header::CONTENT_TYPE)
        .and_then(|v| v.to_str().ok())
        .unwrap_or_default()
        .to_ascii_lowercase();
    let kind = kind_of(&declared)?;
    // reqwest takes the header away when it decodes; what is left is an encoding that nobody asked for.
    if let Some(encoding) = response.headers().get(header::CONTENT_ENCODING).filter(|v| *v != "identity") {
        return Err(FetchError::Encoding(encoding.to_str().unwrap_or("unreadable").chars().take(40).collect()));
    }
    let bytes = bytes(response, &url, bytes_max).await?;
    let kind = kind.unwrap_or_else(|| guessed_kind(&bytes));
    let text = decode(&bytes, &declared);
    Ok(Page { url, kind, text })
}

/// A body, up to the cap.
pub(super) async fn bytes(mut response: Response, url: &Url, bytes_max: usize) -> Result<Vec<u8>, FetchError> {
    if response.content_length().is_some_and(|n| n > bytes_max as u64) {
        return Err(FetchError::TooLarge(bytes_max));
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|e| transport(url.host_str().unwrap_or_default(), e))? {
        if bytes.len() + chunk.len() > bytes_max {
            return Err(FetchError::TooLarge(bytes_max));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// The text of a file: as [`decode`], and what is not UTF-8 and says nothing of itself is of the West.
pub(crate) fn decoded(bytes: &[u8], declared: &str) -> String {
    let text = decode(bytes, declared);
    if text.contains('\u{fffd}') && std::str::from_utf8(bytes).is_err() {
        return WINDOWS_1252.decode(bytes).0.into_owned();
    }
    text
}

/// The kind that a content type names; `None` when there is no content type.
fn kind_of(declared: &str) -> Result<Option<Kind>, FetchError> {
    let mime = declared.split(';').next().unwrap_or_default().trim();
    match mime {
        "" => Ok(None),
        "text/html" | "application/xhtml+xml" => Ok(Some(Kind::Html)),
        "application/json" | "text/json" => Ok(Some(Kind::Json)),
        "application/xml" | "text/xml" => Ok(Some(Kind::Xml)),
        m if m.starts_with("application/") && m.ends_with("+json") => Ok(Some(Kind::Json)),
        m if m.starts_with("application/") && m.ends_with("+xml") => Ok(Some(Kind::Xml)),
        m if m.starts_with("text/") => Ok(Some(Kind::Plain)),
        m => Err(FetchError::Type(m.chars().take(80).collect())),
    }
}

fn guessed_kind(bytes: &[u8]) -> Kind {
    let start = bytes.iter().position(|b| !b.is_ascii_whitespace()).unwrap_or(0);
    if bytes[start.min(bytes.len())..].starts_with(b"<") { Kind::Html } else { Kind::Plain }
}

/// Decodes by byte order mark, then the header, then the page's own word, then UTF-8.
fn decode(bytes: &[u8], declared: &str) -> String {
    let named = charset(declared).or_else(|| {
        let prologue = &bytes[..bytes.len().min(PROLOGUE_BYTES)];
        charset(&String::from_utf8_lossy(prologue).to_ascii_lowercase())
    });
    let (text, _, _) = named.unwrap_or(UTF_8).decode(bytes);
    text.into_owned()
}

fn charset(text: &str) -> Option<&'static Encoding> {
    let at = text
        .find("charset=")
        .map(|i| i + "charset=".len())
        .or_else(|| text.find("encoding=").map(|i| i + "encoding=".len()))?;
    let label: String = text[at..]
        .trim_start_matches(['"', '\'', ' '])
        .chars()
        .take_while(|c| c.is_ascii_alphanumeric() || "-_:.".contains(*c))
        .collect();
    Encoding::for_label(label.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn character_sets_are_honoured() {
        assert_eq!(decode(b"caf\xe9", "text/html; charset=iso-8859-1"), "café");
        assert_eq!(decode(b"<meta charset='windows-1252'>\x80", "text/html"), "<meta charset='windows-1252'>€");
        assert_eq!(decode("naïve".as_bytes(), "text/html"), "naïve");
        assert_eq!(decode(b"\xef\xbb\xbfhi", "text/plain; charset=latin1"), "hi");
        assert_eq!(
            decode(b"<?xml version='1.0' encoding='iso-8859-15'?>\xa4", "application/xml"),
            "<?xml version='1.0' encoding='iso-8859-15'?>€"
        );
    }

    #[test]
    fn types_are_sorted() {
        assert_eq!(kind_of("text/html; charset=utf-8"), Ok(Some(Kind::Html)));
        assert_eq!(kind_of("application/ld+json"), Ok(Some(Kind::Json)));
        assert_eq!(kind_of("application/rss+xml"), Ok(Some(Kind::Xml)));
        assert_eq!(kind_of("text/markdown"), Ok(Some(Kind::Plain)));
        assert!(kind_of("image/png").is_err());
        assert!(kind_of("application/octet-stream").is_err());
    }
}
