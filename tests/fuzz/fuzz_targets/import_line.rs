//! A line of an import, and a Markdown file.
#![no_main]

use fuzz::line::{Item, MAX_LINE, read_line};
use libfuzzer_sys::fuzz_target;
use nips::memory::Space;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(Some(Item::Entry(draft))) = read_line(bytes, &Space::fleet()) {
        assert!(bytes.len() <= MAX_LINE);
        assert!(!draft.text.trim().is_empty() && draft.text.len() <= fuzz::entry::MAX_TEXT);
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        for piece in fuzz::markdown::pieces(text) {
            assert!(!piece.trim().is_empty() && piece.len() <= text.len());
        }
    }
});
