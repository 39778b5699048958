//! The text of documents that are no text: PDF, and what office programs write.
//!
//! Their formats are large, and their readers are known to panic, to recurse without end and to fill the memory. Whoever calls this on
//! a stranger's bytes does so in a process of its own, with limits.

mod office;
mod pdf;
mod sheet;

use std::panic::{AssertUnwindSafe, catch_unwind};

/// So much text is enough, bytes: the reader stops at the next page, slide or row.
pub const ENOUGH: usize = 64 * 1024;

/// What a document is, by its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DocumentKind {
    /// PDF.
    Pdf,
    /// Word (`.docx`).
    Word,
    /// PowerPoint (`.pptx`).
    Slides,
    /// Excel (`.xlsx`, `.xlsb`, `.xls`).
    Sheet,
    /// OpenDocument: text, sheets, slides.
    OpenDocument,
}

/// Why a document gave no text. The words are for the person.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// It has a password.
    #[error("it is locked with a password")]
    Locked,
    /// It is broken, or more peculiar than its reader knows.
    #[error("it is damaged, or written in a way that I do not understand")]
    Damaged,
    /// A document of the time before 2007.
    #[error("it is an old office document; saved as PDF, .docx or .odt I can read it")]
    Old,
    /// No words in it.
    #[error("there is no text in it; pages that were scanned are pictures, and I read no text off them")]
    Empty,
}

impl DocumentKind {
    /// What these bytes are; none when they are no document that is read here. An office document is known by the names in its archive,
    /// whatever the file is called.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        // The header may stand within the first kilobyte (PDF 1.7, implementation note 13).
        let head = &bytes[..bytes.len().min(1024)];
        if head.windows(5).any(|five| five == b"%PDF-") && !head.starts_with(b"PK") {
            return Some(Self::Pdf);
        }
        if bytes.starts_with(&[0xd0, 0xcf, 0x11, 0xe0, 0xa1, 0xb1, 0x1a, 0xe1]) {
            return Some(Self::Sheet);
        }
        if bytes.starts_with(b"PK\x03\x04") { office::kind(bytes) } else { None }
    }

    /// What people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pdf => "PDF",
            Self::Word => "Word document",
            Self::Slides => "presentation",
            Self::Sheet => "spreadsheet",
            Self::OpenDocument => "OpenDocument file",
        }
    }
}

/// The text of a document, a little more than [`ENOUGH`] bytes at most: paragraphs and rows as lines, cells parted by tabs.
///
/// # Errors
/// When there is none, or it cannot be read.
pub fn text(bytes: &[u8], kind: DocumentKind) -> Result<String, DocumentError> {
    let read = || match kind {
        DocumentKind::Pdf => pdf::text(bytes),
        DocumentKind::Sheet => sheet::text(bytes),
        DocumentKind::Word | DocumentKind::Slides | DocumentKind::OpenDocument => office::text(bytes, kind),
    };
    let text = catch_unwind(AssertUnwindSafe(read)).unwrap_or(Err(DocumentError::Damaged))?;
    let text = tidy(&text);
    if text.is_empty() { Err(DocumentError::Empty) } else { Ok(text) }
}

/// Without white space at the ends of lines, control characters, and more than one empty line in a row.
fn tidy(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut empty = 0;
    for line in text.lines() {
        let line: String = line.chars().filter(|c| !c.is_control() || *c == '\t').collect();
        let line = line.trim_end();
        empty = if line.trim().is_empty() { empty + 1 } else { 0 };
        if empty < 2 {
            out.push_str(line);
            out.push('\n');
        }
    }
    out.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A sample, made by the script beside it.
    fn sample(name: &str) -> Vec<u8> {
        std::fs::read(format!("{}/tests/documents/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
    }

    fn read(name: &str) -> Result<String, DocumentError> {
        let bytes = sample(name);
        text(&bytes, DocumentKind::of(&bytes).expect(name))
    }

    #[test]
    fn what_real_programs_write_is_read() {
        for name in [
            "libreoffice.docx",
            "libreoffice.odt",
            "libreoffice.pdf",
            "python-docx.docx",
            "reportlab.pdf",
            "libreoffice.pptx",
            "libreoffice.odp",
        ] {
            let text = read(name).unwrap_or_else(|error| panic!("{name}: {error}"));
            for part in ["The boiler in the cellar", "Grüße aus Zürich", "naïve façade"] {
                assert!(text.contains(part), "{name} without {part:?}:\n{text}");
            }
        }
    }

    #[test]
    fn tables_stay_tables_and_what_was_deleted_stays_deleted() {
        for name in ["libreoffice.docx", "libreoffice.odt", "python-docx.docx"] {
            let text = read(name).unwrap();
            assert!(text.contains("Bread\t3.20\nMilk\t1.10"), "{name}:\n{text}");
        }
        let text = read("tracked.docx").unwrap();
        assert!(text.contains("We meet on Friday") && !text.contains("Thursday"), "{text}");
    }

    #[test]
    fn sheets_are_rows_with_dates_as_dates() {
        for name in ["libreoffice.xlsx", "openpyxl.xlsx", "libreoffice.xls"] {
            let text = read(name).unwrap();
            assert!(text.contains("Item\tPrice\tBought\nBread\t3.2\t2026-03-14"), "{name}:\n{text}");
            assert!(text.contains("Second sheet") && text.contains("Grüße aus Zürich"), "{name}:\n{text}");
        }
        let text = read("libreoffice.ods").unwrap();
        assert!(text.contains("Item\tPrice\tBought\nBread\t3.2") && text.contains("Grüße aus Zürich"), "{text}");
    }

    #[test]
    fn pages_are_read_in_their_order_until_it_is_enough() {
        let text = read("long.pdf").unwrap();
        let first = text.find("Page 1 of the ledger").unwrap();
        assert!(first < text.find("Page 2 of the ledger").unwrap());
        assert!(text.len() < ENOUGH + 16 * 1024, "{}", text.len());
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        assert_eq!(read("locked.pdf"), Err(DocumentError::Locked));
        assert_eq!(read("scan.pdf"), Err(DocumentError::Empty));
        assert_eq!(read("libreoffice.doc"), Err(DocumentError::Old));
        let whole = sample("libreoffice.docx");
        assert_eq!(DocumentKind::of(&whole[..400]), None, "an archive without its directory");
        let mut broken = sample("reportlab.pdf");
        broken.truncate(300);
        assert!(text(&broken, DocumentKind::Pdf).is_err());
        assert_eq!(DocumentKind::of(b"PK\x03\x04 and no archive"), None);
    }

    #[test]
    fn an_archive_that_inflates_without_end_is_read_to_a_limit() {
        use std::io::Write;
        let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        archive.start_file("word/document.xml", zip::write::SimpleFileOptions::default()).unwrap();
        archive.write_all(b"<w:document><w:body><w:p a='").unwrap();
        for _ in 0..200 {
            archive.write_all(&[b'x'; 1_000_000]).unwrap();
        }
        archive.write_all(b"'><w:r><w:t>after it</w:t></w:r></w:p></w:body></w:document>").unwrap();
        let bytes = archive.finish().unwrap().into_inner();
        assert!(bytes.len() < 500_000);
        assert_eq!(text(&bytes, DocumentKind::of(&bytes).unwrap()), Err(DocumentError::Damaged));
    }

    #[test]
    fn an_owners_password_alone_locks_nothing() {
        assert!(read("printable.pdf").unwrap().contains("The boiler in the cellar"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn damage_is_an_error_and_no_crash(at in 0.0..1.0_f64, byte: u8, cut in 0.0..1.0_f64, which in 0..6_usize) {
            let names = ["libreoffice.docx", "libreoffice.odt", "libreoffice.xlsx", "libreoffice.pptx", "reportlab.pdf", "libreoffice.ods"];
            let mut bytes = sample(names[which]);
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
            let place = |share: f64, len: usize| (share * len as f64) as usize;
            let at = place(at, bytes.len());
            bytes[at] = byte;
            bytes.truncate(bytes.len() - place(cut * cut * cut, bytes.len()));
            if let Some(kind) = DocumentKind::of(&bytes) {
                let _ = text(&bytes, kind);
            }
        }
    }
}
