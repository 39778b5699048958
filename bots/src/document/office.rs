//! Word, PowerPoint (ECMA-376) and OpenDocument (ISO 26300): archives of XML.

use std::io::{BufReader, Cursor, Read};

use quick_xml::Reader;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesStart, Event};
use zip::ZipArchive;

use super::{DocumentError, DocumentKind, ENOUGH};

/// Bytes of one part of the archive after inflating. A part that is larger is read up to here.
const PART_BYTES: u64 = 64 * 1024 * 1024;
/// Slides that are looked at.
const SLIDES: usize = 500;

type Archive<'a> = ZipArchive<Cursor<&'a [u8]>>;

pub(super) fn kind(bytes: &[u8]) -> Option<DocumentKind> {
    let archive = ZipArchive::new(Cursor::new(bytes)).ok()?;
    let has = |name: &str| archive.index_for_name(name).is_some();
    if has("word/document.xml") {
        Some(DocumentKind::Word)
    } else if has("ppt/presentation.xml") {
        Some(DocumentKind::Slides)
    } else if has("xl/workbook.xml") || has("xl/workbook.bin") {
        Some(DocumentKind::Sheet)
    } else if has("content.xml") && has("mimetype") {
        Some(DocumentKind::OpenDocument)
    } else {
        None
    }
}

pub(super) fn text(bytes: &[u8], kind: DocumentKind) -> Result<String, DocumentError> {
    let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(|_| DocumentError::Damaged)?;
    match kind {
        DocumentKind::Slides => slides(&mut archive),
        DocumentKind::OpenDocument => {
            // An encrypted part is no XML, and the manifest says so.
            if part(&mut archive, "META-INF/manifest.xml", |xml| Ok(holds(xml, "encryption-data"))).unwrap_or(false) {
                return Err(DocumentError::Locked);
            }
            part(&mut archive, "content.xml", |xml| words(xml, kind))
        }
        DocumentKind::Word | DocumentKind::Pdf | DocumentKind::Sheet => {
            let mut text = part(&mut archive, "word/document.xml", |xml| words(xml, kind))?;
            for notes in ["word/footnotes.xml", "word/endnotes.xml"] {
                if archive.index_for_name(notes).is_some() && text.len() < ENOUGH {
                    text.push_str(&part(&mut archive, notes, |xml| words(xml, kind)).unwrap_or_default());
                }
            }
            Ok(text)
        }
    }
}

fn slides(archive: &mut Archive<'_>) -> Result<String, DocumentError> {
    let number = |name: &str| name.strip_prefix("ppt/slides/slide")?.strip_suffix(".xml")?.parse::<u32>().ok();
    let mut numbers: Vec<u32> = archive.file_names().filter_map(|name| number(&name.ok()?)).collect();
    numbers.sort_unstable();
    let mut text = String::new();
    for number in numbers.into_iter().take(SLIDES) {
        text.push_str(&part(archive, &format!("ppt/slides/slide{number}.xml"), |xml| {
            words(xml, DocumentKind::Slides)
        })?);
        text.push('\n');
        if text.len() > ENOUGH {
            break;
        }
    }
    Ok(text)
}

type Xml<'a> = Reader<BufReader<&'a mut dyn Read>>;

fn part<T>(
    archive: &mut Archive<'_>,
    name: &str,
    read: impl FnOnce(Xml<'_>) -> Result<T, DocumentError>,
) -> Result<T, DocumentError> {
    let file = archive.by_name(name).map_err(|_| DocumentError::Damaged)?;
    let mut inflated = file.take(PART_BYTES);
    read(Reader::from_reader(BufReader::new(&mut inflated)))
}

fn holds(mut xml: Xml<'_>, name: &str) -> bool {
    let mut buffer = Vec::new();
    loop {
        buffer.clear();
        match xml.read_event_into(&mut buffer) {
            Ok(Event::Start(tag) | Event::Empty(tag)) if tag.local_name().into_inner() == name => return true,
            Ok(Event::Eof) | Err(_) => return false,
            Ok(_) => {}
        }
    }
}

/// The words of one part. All three formats call a paragraph `p`, and differ in little else.
fn words(mut xml: Xml<'_>, kind: DocumentKind) -> Result<String, DocumentError> {
    let mut writer = Writer::new(kind);
    let mut buffer = Vec::new();
    loop {
        buffer.clear();
        match xml.read_event_into(&mut buffer) {
            Ok(Event::Start(tag)) => writer.open(&tag),
            Ok(Event::Empty(tag)) => writer.empty(&tag),
            Ok(Event::End(tag)) => writer.close(tag.local_name().into_inner()),
            Ok(Event::Text(text)) => writer.say(&text.xml10_content()),
            Ok(Event::CData(text)) => writer.say(&text),
            Ok(Event::GeneralRef(name)) => match name.resolve_char_ref() {
                Ok(Some(char)) => writer.say(char.encode_utf8(&mut [0; 4])),
                _ => writer.say(resolve_predefined_entity(&name).unwrap_or_default()),
            },
            Ok(Event::Eof) => return Ok(writer.text),
            Ok(_) => {}
            // What was read of a damaged or very large part is better than nothing.
            Err(_) if !writer.text.trim().is_empty() => return Ok(writer.text),
            Err(_) => return Err(DocumentError::Damaged),
        }
        if writer.text.len() > ENOUGH {
            return Ok(writer.text);
        }
    }
}

struct Writer {
    kind: DocumentKind,
    text: String,
    /// Depth within what is not part of the text: what was deleted, comments, the other rendering of the same thing, phonetic signs.
    silent: usize,
    paragraphs: usize,
    cells: usize,
    /// Depth within runs, and within their words. OpenDocument has neither: its words stand in the paragraph itself.
    runs: usize,
    spoken: usize,
}

impl Writer {
    fn new(kind: DocumentKind) -> Self {
        Self { kind, text: String::new(), silent: 0, paragraphs: 0, cells: 0, runs: 0, spoken: 0 }
    }

    fn is_open(&self) -> bool {
        self.kind == DocumentKind::OpenDocument
    }

    fn is_silent(&self, name: &str) -> bool {
        if self.is_open() {
            matches!(name, "tracked-changes" | "annotation" | "ruby-text" | "title" | "desc")
        } else {
            matches!(name, "Fallback" | "delText" | "rt")
        }
    }

    fn open(&mut self, tag: &BytesStart<'_>) {
        match tag.local_name().into_inner() {
            name if self.is_silent(name) => self.silent += 1,
            "p" | "h" => self.paragraphs += 1,
            "tc" | "table-cell" => self.cells += 1,
            "r" => self.runs += 1,
            "t" => self.spoken += 1,
            _ => self.empty(tag),
        }
    }

    fn empty(&mut self, tag: &BytesStart<'_>) {
        if self.silent > 0 {
            return;
        }
        // Where tabs *stand* is said by elements of the same name outside of runs.
        let in_words = if self.is_open() { self.paragraphs > 0 } else { self.runs > 0 };
        match tag.local_name().into_inner() {
            "p" | "h" => self.end_line(),
            "tc" | "table-cell" | "covered-table-cell" => self.text.push('\t'),
            "tab" if in_words => self.text.push('\t'),
            "br" | "cr" | "line-break" if self.paragraphs > 0 => self.end_line(),
            // Several spaces in a row.
            "s" if self.is_open() && in_words => {
                let count = tag.try_get_attribute("text:c").ok().flatten();
                let count = count.and_then(|count| count.value.parse().ok()).unwrap_or(1_usize);
                self.text.extend(std::iter::repeat_n(' ', count.min(100)));
            }
            _ => {}
        }
    }

    fn close(&mut self, name: &str) {
        match name {
            name if self.is_silent(name) => self.silent = self.silent.saturating_sub(1),
            "p" | "h" => {
                self.paragraphs = self.paragraphs.saturating_sub(1);
                self.end_line();
            }
            "tc" | "table-cell" => {
                self.cells = self.cells.saturating_sub(1);
                self.end_with('\t', &[' ']);
            }
            "tr" | "table-row" => self.end_with('\n', &['\t', ' ']),
            "r" => self.runs = self.runs.saturating_sub(1),
            "t" => self.spoken = self.spoken.saturating_sub(1),
            _ => {}
        }
    }

    fn say(&mut self, words: &str) {
        let is_text = if self.is_open() { self.paragraphs > 0 } else { self.spoken > 0 };
        if is_text && self.silent == 0 {
            self.text.push_str(words);
        }
    }

    /// Ends a line; within a cell, where a line is a row, with a space.
    fn end_line(&mut self) {
        if self.silent == 0 {
            self.text.push(if self.cells > 0 { ' ' } else { '\n' });
        }
    }

    fn end_with(&mut self, end: char, instead_of: &[char]) {
        if self.silent == 0 {
            self.text.truncate(self.text.trim_end_matches(instead_of).len());
            self.text.push(end);
        }
    }
}
