//! Files that people send: opened, and read where they are text.

use aes_gcm::aead::consts::{U12, U16};
use aes_gcm::aead::{Aead, KeyInit};
use aes_gcm::aes::{Aes128, Aes256};
use aes_gcm::{AesGcm, Nonce};
use nips::dm::SealedFile;
use sha2::{Digest, Sha256};

use crate::fetch::decoded;
use crate::worker::readable;

/// The largest file that is taken, bytes.
pub const FILE_BYTES_MAX: usize = 10 * 1024 * 1024;
/// The most of its text that is read to a model, bytes.
pub const FILE_TEXT_MAX: usize = 24 * 1024;
/// Endings of names whose files are text, whatever their MIME type says.
const TEXT_ENDINGS: [&str; 24] = [
    "txt", "md", "markdown", "csv", "tsv", "json", "xml", "yaml", "yml", "toml", "ini", "log", "rs", "py", "js", "ts",
    "c", "h", "cpp", "go", "sh", "sql", "tex", "srt",
];

/// Why a file is not read. The words are for the person.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// Too large.
    #[error("it is larger than 10 MB")]
    TooLarge,
    /// It is not what its sender said.
    #[error("it is not the file that was announced: its hash is another one")]
    Hash,
    /// The key does not open it.
    #[error("it cannot be decrypted")]
    Cipher,
    /// Another kind of file.
    #[error("I read text, PDF, Word, Excel, PowerPoint, OpenDocument, HTML, CSV, JSON and the like, and this is {0}")]
    NotText(String),
    /// A picture that no model saw, or a document that its reader gave up; in words for the person.
    #[error("{0}")]
    Unread(String),
    /// There is nothing in it.
    #[error("there is no text in it")]
    Empty,
    /// It could not be had.
    #[error("it could not be fetched: {0}")]
    Fetch(String),
}

/// Opens the file of a NIP-17 message (kind 15): checks its hash, then decrypts (AES-GCM, 128 or 256 bits, 12 or 16 bytes of nonce).
///
/// # Errors
/// When it is another file, or the key is wrong.
pub fn open_sealed(file: &SealedFile, bytes: &[u8]) -> Result<Vec<u8>, FileError> {
    if bytes.len() > FILE_BYTES_MAX {
        return Err(FileError::TooLarge);
    }
    if hex::encode(Sha256::digest(bytes)) != file.sha256 {
        return Err(FileError::Hash);
    }
    let key = hex::decode(&file.key).map_err(|_| FileError::Cipher)?;
    let nonce = hex::decode(&file.nonce).map_err(|_| FileError::Cipher)?;
    let opened = match (key.len(), nonce.len()) {
        (32, 12) => AesGcm::<Aes256, U12>::new_from_slice(&key)
            .map(|cipher| cipher.decrypt(Nonce::<U12>::from_slice(&nonce), bytes)),
        (32, 16) => AesGcm::<Aes256, U16>::new_from_slice(&key)
            .map(|cipher| cipher.decrypt(Nonce::<U16>::from_slice(&nonce), bytes)),
        (16, 12) => AesGcm::<Aes128, U12>::new_from_slice(&key)
            .map(|cipher| cipher.decrypt(Nonce::<U12>::from_slice(&nonce), bytes)),
        (16, 16) => AesGcm::<Aes128, U16>::new_from_slice(&key)
            .map(|cipher| cipher.decrypt(Nonce::<U16>::from_slice(&nonce), bytes)),
        _ => return Err(FileError::Cipher),
    };
    opened.map_err(|_| FileError::Cipher)?.map_err(|_| FileError::Cipher)
}

/// The text of a file, at most [`FILE_TEXT_MAX`] bytes of it. What it is, is told by its bytes first: a name is only a word.
///
/// # Errors
/// When it is no text.
pub fn text_of(bytes: &[u8], name: &str, mime: Option<&str>) -> Result<String, FileError> {
    if bytes.len() > FILE_BYTES_MAX {
        return Err(FileError::TooLarge);
    }
    let mime = mime.unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let ending = name.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase()).unwrap_or_default();
    let is_named_text = mime.starts_with("text/")
        || ["json", "xml", "yaml", "toml", "csv"].iter().any(|part| mime.contains(part))
        || TEXT_ENDINGS.contains(&ending.as_str())
        || ending.starts_with("htm");
    if let Some(kind) = binary_kind(bytes) {
        return Err(FileError::NotText(kind.to_owned()));
    }
    // Without a zero and in UTF-8 it is text, whatever it is called.
    let is_text = !bytes.contains(&0) && (is_named_text || std::str::from_utf8(bytes).is_ok());
    if !is_text && !starts_wide(bytes) {
        let kind = if mime.is_empty() { "something else".to_owned() } else { mime };
        return Err(FileError::NotText(kind));
    }
    let text = decoded(bytes, &mime);
    let is_html = mime.contains("html") || ending.starts_with("htm");
    shortened(&if is_html { readable(&text) } else { text })
}

/// At most [`FILE_TEXT_MAX`] bytes of a text.
///
/// # Errors
/// When there is nothing in it.
pub fn shortened(text: &str) -> Result<String, FileError> {
    let mut text = text.trim().to_owned();
    if text.is_empty() {
        return Err(FileError::Empty);
    }
    if text.len() > FILE_TEXT_MAX {
        text.truncate(text.floor_char_boundary(FILE_TEXT_MAX));
        text.push_str("\n[the rest is left out]");
    }
    Ok(text)
}

/// The MIME type of a picture that models see, by its first bytes.
pub fn picture_type(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0x89, b'P', b'N', b'G', ..] => Some("image/png"),
        [0xff, 0xd8, 0xff, ..] => Some("image/jpeg"),
        [b'G', b'I', b'F', b'8', ..] => Some("image/gif"),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some("image/webp"),
        _ => None,
    }
}

/// A byte order mark of UTF-16.
fn starts_wide(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff])
}

/// What a file is by its first bytes, when that is no text.
fn binary_kind(bytes: &[u8]) -> Option<&'static str> {
    const KINDS: [(&[u8], &str); 12] = [
        (b"%PDF", "a damaged PDF"),
        (b"\x89PNG", "a picture"),
        (b"\xff\xd8\xff", "a picture"),
        (b"GIF8", "a picture"),
        (b"RIFF", "a picture or a sound"),
        (b"OggS", "a sound"),
        (b"ID3", "a sound"),
        (b"fLaC", "a sound"),
        (b"PK\x03\x04", "an archive"),
        (b"\x1f\x8b", "an archive"),
        (b"\x7fELF", "a program"),
        (b"\0asm", "a program"),
    ];
    KINDS.iter().find(|(start, _)| bytes.starts_with(start)).map(|(_, kind)| *kind)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sealed(key: &[u8], nonce: &[u8], bytes: &[u8]) -> SealedFile {
        SealedFile {
            url: "https://files.example/x".into(),
            mime: None,
            key: hex::encode(key),
            nonce: hex::encode(nonce),
            sha256: hex::encode(Sha256::digest(bytes)),
        }
    }

    #[test]
    fn a_sealed_file_opens_with_its_key_and_hash_alone() {
        let (key, nonce) = ([7; 32], [9; 12]);
        let cipher = AesGcm::<Aes256, U12>::new_from_slice(&key).unwrap();
        let bytes = cipher.encrypt(Nonce::<U12>::from_slice(&nonce), b"bread and milk".as_slice()).unwrap();
        assert_eq!(open_sealed(&sealed(&key, &nonce, &bytes), &bytes).unwrap(), b"bread and milk");
        assert_eq!(open_sealed(&sealed(&[8; 32], &nonce, &bytes), &bytes), Err(FileError::Cipher));
        assert_eq!(open_sealed(&sealed(&key, &nonce, b"other"), &bytes), Err(FileError::Hash));
        assert_eq!(open_sealed(&sealed(&[7; 5], &nonce, &bytes), &bytes), Err(FileError::Cipher));
        let cipher = AesGcm::<Aes128, U16>::new_from_slice(&[1; 16]).unwrap();
        let bytes = cipher.encrypt(Nonce::<U16>::from_slice(&[2; 16]), b"x".as_slice()).unwrap();
        assert_eq!(open_sealed(&sealed(&[1; 16], &[2; 16], &bytes), &bytes).unwrap(), b"x");
    }

    #[test]
    fn text_is_read_and_the_rest_is_named() {
        assert_eq!(text_of("Grüße".as_bytes(), "a.bin", None).unwrap(), "Grüße");
        assert_eq!(text_of(b"caf\xe9", "a.txt", Some("text/plain; charset=x")).unwrap(), "caf\u{e9}");
        assert_eq!(text_of(&[0xff, 0xfe, b'h', 0, b'i', 0], "a.txt", None).unwrap(), "hi");
        let page =
            text_of(b"<html><body><p>One thing that matters.</p><script>x()</script></body></html>", "a.html", None)
                .unwrap();
        assert!(page.contains("One thing") && !page.contains("x()"));
        assert_eq!(
            text_of(b"%PDF-1.7 x", "a.txt", Some("text/plain")),
            Err(FileError::NotText("a damaged PDF".into()))
        );
        assert_eq!(text_of(&[0, 1, 2, 3], "a", Some("application/x")), Err(FileError::NotText("application/x".into())));
        assert_eq!(text_of(b"  \n", "a.txt", None), Err(FileError::Empty));
        let long = text_of("word ".repeat(10_000).as_bytes(), "a.txt", None).unwrap();
        assert!(long.len() < FILE_TEXT_MAX + 40 && long.ends_with("left out]"));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), name in "\\PC{0,12}", mime in prop::option::of("\\PC{0,20}")) {
            let _ = text_of(&bytes, &name, mime.as_deref());
        }
    }
}
