//! Spreadsheets: each row a line.

use std::fmt::Write;
use std::io::Cursor;

use calamine::{Data, Error, Reader, Sheets, XlsError, XlsxError, open_workbook_auto_from_rs};

use super::{DocumentError, ENOUGH};

pub(super) fn text(bytes: &[u8]) -> Result<String, DocumentError> {
    let mut book = open(bytes)?;
    let names = book.sheet_names();
    let mut text = String::new();
    for name in &names {
        let Ok(range) = book.worksheet_range(name) else { continue };
        if names.len() > 1 && !range.is_empty() {
            let _ = writeln!(text, "\n{name}:");
        }
        for row in range.rows() {
            let cells: Vec<String> = row.iter().map(cell).collect();
            let used = cells.iter().rposition(|cell| !cell.is_empty()).map_or(0, |last| last + 1);
            if used > 0 {
                text.push_str(&cells[..used].join("\t"));
                text.push('\n');
            }
            if text.len() > ENOUGH {
                return Ok(text);
            }
        }
    }
    Ok(text)
}

fn open(bytes: &[u8]) -> Result<Sheets<Cursor<&[u8]>>, DocumentError> {
    // Word and PowerPoint of the time before 2007 are compound files too, without a workbook in them.
    let is_compound = bytes.starts_with(&[0xd0, 0xcf]);
    if is_compound && let Err(error) = calamine::Xls::new(Cursor::new(bytes)) {
        let is_locked = matches!(error, XlsError::Password) || holds_wide(bytes, "EncryptedPackage");
        return Err(if is_locked {
            DocumentError::Locked
        } else if holds_wide(bytes, "Workbook") {
            DocumentError::Damaged
        } else {
            DocumentError::Old
        });
    }
    open_workbook_auto_from_rs(Cursor::new(bytes)).map_err(|error| {
        let is_locked = matches!(error, Error::Xlsx(XlsxError::Password));
        if is_locked { DocumentError::Locked } else { DocumentError::Damaged }
    })
}

/// Whether a name stands in the directory of a compound file, which is in UTF-16.
fn holds_wide(bytes: &[u8], name: &str) -> bool {
    let wide: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
    bytes.windows(wide.len()).any(|part| part == wide)
}

fn cell(data: &Data) -> String {
    if let Data::DateTime(at) = data
        && at.is_datetime()
    {
        let (year, month, day, hour, minute, second, _) = at.to_ymd_hms_milli();
        let date = format!("{year:04}-{month:02}-{day:02}");
        return if (hour, minute, second) == (0, 0, 0) {
            date
        } else {
            format!("{date} {hour:02}:{minute:02}:{second:02}")
        };
    }
    // What stands in one cell stays on one line.
    data.to_string().replace(['\n', '\r', '\t'], " ").trim().to_owned()
}
