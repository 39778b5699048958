//! The soul: the values and the voice of the agent, one for all models.

use sha2::{Digest, Sha256};

/// The soul of an agent that was given none of its own.
const DEFAULT: &str = include_str!("../SOUL.md");
/// The longest soul, bytes: it stands before every talk.
pub const SOUL_BYTES_MAX: usize = 16 * 1024;

/// Why a text is no soul.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SoulError {
    /// Nothing in it.
    #[error("it is empty")]
    Empty,
    /// More than [`SOUL_BYTES_MAX`].
    #[error("it has {0} bytes; at most {SOUL_BYTES_MAX} stand before every talk")]
    TooLong(usize),
}

/// Values and voice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Soul(String);

impl Default for Soul {
    fn default() -> Self {
        Self(DEFAULT.to_owned())
    }
}

impl Soul {
    /// From the text of a `SOUL.md`.
    ///
    /// # Errors
    /// When there is nothing in it, or too much.
    pub fn new(text: &str) -> Result<Self, SoulError> {
        match text.len() {
            _ if text.trim().is_empty() => Err(SoulError::Empty),
            bytes if bytes > SOUL_BYTES_MAX => Err(SoulError::TooLong(bytes)),
            _ => Ok(Self(text.to_owned())),
        }
    }

    /// Its text, as models are given it.
    pub fn text(&self) -> &str {
        &self.0
    }

    /// SHA-256 of its text, hex: what is published.
    pub fn sha256(&self) -> String {
        format!("{:x}", Sha256::digest(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_soul_has_words_and_not_too_many() {
        assert!(Soul::default().text().contains("Timmy"));
        assert_eq!(Soul::default().sha256().len(), 64);
        assert_eq!(Soul::new(" \n"), Err(SoulError::Empty));
        assert_eq!(Soul::new(&"a".repeat(SOUL_BYTES_MAX + 1)), Err(SoulError::TooLong(SOUL_BYTES_MAX + 1)));
        assert_ne!(Soul::new("Be kind.").unwrap().sha256(), Soul::new("Be kind!").unwrap().sha256());
    }
}
