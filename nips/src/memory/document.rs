//! Names of spaces and documents.

use std::fmt;
use std::str::FromStr;

use nostr::PublicKey;
use serde::{Deserialize, Serialize};

/// Longest name of a space or a page, in bytes.
const MAX_NAME: usize = 64;

/// Why a name is no name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// A space is called otherwise.
    #[error("{0:?} is no name of a space: use a-z, 0-9 and -, at most {MAX_NAME} letters")]
    Space(String),
    /// A page is called otherwise.
    #[error("{0:?} is no name of a page: use letters, digits and -, at most {MAX_NAME} bytes")]
    Page(String),
    /// Not a document.
    #[error("{0:?} names no document")]
    Document(String),
}

/// Who shares a memory: `private` never leaves the node, `fleet` belongs to the siblings, others are shared one by one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Space(String);

impl Space {
    /// The space that never enters a digest and never leaves.
    pub fn private() -> Self {
        Self("private".to_owned())
    }

    /// The siblings' space: where an owner's memory goes unless said otherwise.
    pub fn fleet() -> Self {
        Self("fleet".to_owned())
    }

    /// True for `private`.
    pub fn is_private(&self) -> bool {
        self.0 == "private"
    }

    /// Its name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Space {
    type Err = DocumentError;

    fn from_str(name: &str) -> Result<Self, DocumentError> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let begins = name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
        if begins && name.len() <= MAX_NAME && name.chars().all(plain) {
            Ok(Self(name.to_owned()))
        } else {
            Err(DocumentError::Space(name.chars().take(MAX_NAME).collect()))
        }
    }
}

impl TryFrom<String> for Space {
    type Error = DocumentError;

    fn try_from(name: String) -> Result<Self, DocumentError> {
        name.parse()
    }
}

impl From<Space> for String {
    fn from(space: Space) -> Self {
        space.0
    }
}

impl fmt::Display for Space {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of a page: `shopping-list`. Letters of any script, small; digits; `-`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PageName(String);

impl PageName {
    /// The name as people say it, made into one: `Shopping list` becomes `shopping-list`.
    ///
    /// # Errors
    /// When nothing is left, or too much.
    pub fn from_title(title: &str) -> Result<Self, DocumentError> {
        let words = title.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty());
        words.map(str::to_lowercase).collect::<Vec<_>>().join("-").parse()
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PageName {
    type Err = DocumentError;

    fn from_str(name: &str) -> Result<Self, DocumentError> {
        let plain = |c: char| c.is_alphanumeric() || c == '-' || is_mark(c);
        let is_small = name.to_lowercase() == name;
        if !name.is_empty() && name.len() <= MAX_NAME && is_small && name.chars().all(plain) {
            Ok(Self(name.to_owned()))
        } else {
            Err(DocumentError::Page(name.chars().take(MAX_NAME).collect()))
        }
    }
}

/// Lower-casing `İ` leaves a combining dot, which is no letter by itself.
fn is_mark(c: char) -> bool {
    ('\u{300}'..='\u{36f}').contains(&c)
}

impl TryFrom<String> for PageName {
    type Error = DocumentError;

    fn try_from(name: String) -> Result<Self, DocumentError> {
        name.parse()
    }
}

impl From<PageName> for String {
    fn from(name: PageName) -> Self {
        name.0
    }
}

impl fmt::Display for PageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A month of the calendar (UTC), as shards are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Month {
    year: u16,
    month: u8,
}

impl Month {
    /// The month of a time in seconds since 1970.
    pub fn of(seconds: u64) -> Self {
        // Howard Hinnant's "civil from days": exact for every date of the proleptic calendar.
        let days = i64::try_from(seconds / 86_400).unwrap_or(i64::MAX / 2).min(2_932_896) + 719_468;
        let era = days / 146_097;
        let day_of_era = days % 146_097;
        let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted = (5 * day_of_year + 2) / 153;
        let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        Self { year: u16::try_from(year).unwrap_or(9_999), month: u8::try_from(month).unwrap_or(12) }
    }
}

impl FromStr for Month {
    type Err = DocumentError;

    fn from_str(text: &str) -> Result<Self, DocumentError> {
        let wrong = || DocumentError::Document(text.chars().take(MAX_NAME).collect());
        let (year, month) = text.split_once('-').ok_or_else(wrong)?;
        if year.len() != 4 || month.len() != 2 || !text.bytes().all(|b| b.is_ascii_digit() || b == b'-') {
            return Err(wrong());
        }
        let month: u8 = month.parse().map_err(|_| wrong())?;
        if !(1..=12).contains(&month) {
            return Err(wrong());
        }
        Ok(Self { year: year.parse().map_err(|_| wrong())?, month })
    }
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.year, self.month)
    }
}

/// A document of memory.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum DocumentId {
    /// Entries of one writer: `space/shard/writer/month/part`.
    Shard {
        /// Where it belongs.
        space: Space,
        /// The install key that alone may change it.
        writer: PublicKey,
        /// When its entries were written.
        month: Month,
        /// Counts from 0; a new one at 5,000 entries or 1 MB.
        part: u32,
    },
    /// A page of many writers: `space/page/generation/name`.
    Page {
        /// Where it belongs.
        space: Space,
        /// Its name.
        name: PageName,
        /// Counts from 0; a page that was forgotten begins anew in the next one.
        generation: u32,
    },
    /// The tombstones of a space: `space/forgotten`.
    Forgotten {
        /// Where it belongs.
        space: Space,
    },
}

impl DocumentId {
    /// Where it belongs.
    pub fn space(&self) -> &Space {
        match self {
            Self::Shard { space, .. } | Self::Page { space, .. } | Self::Forgotten { space } => space,
        }
    }
}

impl FromStr for DocumentId {
    type Err = DocumentError;

    fn from_str(text: &str) -> Result<Self, DocumentError> {
        let wrong = || DocumentError::Document(text.chars().take(MAX_NAME).collect());
        let number = |digits: &str| -> Result<u32, DocumentError> {
            let value: u32 = digits.parse().map_err(|_| wrong())?;
            if value.to_string() == digits { Ok(value) } else { Err(wrong()) }
        };
        let parts: Vec<&str> = text.splitn(6, '/').collect();
        match parts.as_slice() {
            [space, "shard", writer, month, part] => {
                let key = PublicKey::from_hex(writer).map_err(|_| wrong())?;
                if key.to_hex() != *writer {
                    return Err(wrong());
                }
                Ok(Self::Shard { space: space.parse()?, writer: key, month: month.parse()?, part: number(part)? })
            }
            [space, "page", generation, name] => {
                Ok(Self::Page { space: space.parse()?, name: name.parse()?, generation: number(generation)? })
            }
            [space, "forgotten"] => Ok(Self::Forgotten { space: space.parse()? }),
            _ => Err(wrong()),
        }
    }
}

impl TryFrom<String> for DocumentId {
    type Error = DocumentError;

    fn try_from(text: String) -> Result<Self, DocumentError> {
        text.parse()
    }
}

impl From<DocumentId> for String {
    fn from(document: DocumentId) -> Self {
        document.to_string()
    }
}

impl fmt::Display for DocumentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shard { space, writer, month, part } => {
                write!(f, "{space}/shard/{}/{month}/{part}", writer.to_hex())
            }
            Self::Page { space, name, generation } => write!(f, "{space}/page/{generation}/{name}"),
            Self::Forgotten { space } => write!(f, "{space}/forgotten"),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_month_is_the_calendar_s() {
        let cases = [
            (0, "1970-01"),
            (951_782_399, "2000-02"),
            (951_868_800, "2000-03"),
            (1_795_221_470, "2026-11"),
            (4_102_444_799, "2099-12"),
        ];
        for (seconds, month) in cases {
            assert_eq!(Month::of(seconds).to_string(), month);
            assert_eq!(month.parse::<Month>().unwrap(), Month::of(seconds));
        }
        assert_eq!(Month::of(u64::MAX).to_string(), "9999-12");
    }

    #[test]
    fn documents_have_one_spelling() {
        let key = "79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";
        let good = [
            format!("fleet/shard/{key}/2026-11/0"),
            "garden/page/3/shopping-list".to_owned(),
            "fleet/page/0/einkäufe".to_owned(),
            "private/forgotten".to_owned(),
        ];
        for text in good {
            assert_eq!(text.parse::<DocumentId>().unwrap().to_string(), text);
        }
        let bad = [
            format!("fleet/shard/{}/2026-11/0", key.to_uppercase()),
            format!("fleet/shard/{key}/2026-13/0"),
            format!("fleet/shard/{key}/2026-11/00"),
            format!("fleet/shard/{key}/2026-11/0/x"),
            "Fleet/forgotten".to_owned(),
            "../forgotten".to_owned(),
            "fleet/page/0/".to_owned(),
            "fleet/page/0/A".to_owned(),
            "fleet/page/+1/a".to_owned(),
            String::new(),
        ];
        for text in bad {
            assert!(text.parse::<DocumentId>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_title_becomes_a_name() {
        assert_eq!(PageName::from_title("  The Shopping   list! ").unwrap().as_str(), "the-shopping-list");
        assert_eq!(PageName::from_title("Einkäufe").unwrap().as_str(), "einkäufe");
        assert!(PageName::from_title(" ?! ").is_err());
        assert!(PageName::from_title(&"long ".repeat(40)).is_err());
        // Every title that is taken gives a name that is read back.
        for title in ["İstanbul", "買い物 リスト", "ǅ x"] {
            let name = PageName::from_title(title).unwrap();
            assert_eq!(name.as_str().parse::<PageName>().unwrap(), name);
        }
    }
}
