//! PDF: page by page, until it is enough.

use std::panic::{AssertUnwindSafe, catch_unwind};

use pdf_extract::{Document, PlainTextOutput, output_doc_page};

use super::{DocumentError, ENOUGH};

/// Pages that are looked at.
const PAGES: u32 = 2_000;

pub(super) fn text(bytes: &[u8]) -> Result<String, DocumentError> {
    let mut document = Document::load_mem(bytes).map_err(|_| DocumentError::Damaged)?;
    // One that everybody may open is encrypted too, with an empty password.
    if document.is_encrypted() && document.decrypt("").is_err() {
        return Err(DocumentError::Locked);
    }
    let mut text = String::new();
    let (mut read, mut failed) = (0, 0);
    for number in document.get_pages().into_keys().take(PAGES as usize) {
        let mut page = String::new();
        // One page with a font that its reader does not know must not hide the others.
        let outcome =
            catch_unwind(AssertUnwindSafe(|| output_doc_page(&document, &mut PlainTextOutput::new(&mut page), number)));
        match outcome {
            Ok(Ok(())) => read += 1,
            Ok(Err(_)) | Err(_) => failed += 1,
        }
        text.push_str(page.trim());
        text.push_str("\n\n");
        if text.len() > ENOUGH {
            break;
        }
    }
    if read == 0 && failed > 0 { Err(DocumentError::Damaged) } else { Ok(text) }
}
