//! An answer as it grows, whichever server it comes from.

use super::sse::ThinkFilter;
use super::{ANSWER_BYTES_MAX, ModelError, Reply, Usage};

/// The answer as it grows.
#[derive(Default)]
pub(super) struct Answer {
    text: String,
    think: ThinkFilter,
    /// What the server says it cost.
    pub usage: Option<Usage>,
    /// Why the model stopped.
    pub finish: Option<String>,
}

impl Answer {
    /// Takes more text; gives what of it is for the reader.
    pub fn push(&mut self, text: &str) -> Result<String, ModelError> {
        let new = self.think.push(text);
        self.add(&new)?;
        Ok(new)
    }

    fn add(&mut self, new: &str) -> Result<(), ModelError> {
        self.text.push_str(new);
        if self.text.len() > ANSWER_BYTES_MAX { Err(ModelError::TooLarge) } else { Ok(()) }
    }

    /// The whole, if there is one.
    pub fn into_reply(self) -> Result<Reply, ModelError> {
        let text = format!("{}{}", self.text, self.think.finish());
        if text.trim().is_empty() {
            return Err(if matches!(self.finish.as_deref(), Some("length" | "max_tokens")) {
                ModelError::OutOfTokens
            } else {
                ModelError::Empty
            });
        }
        let odd = text.chars().filter(|c| *c == '\u{fffd}' || (c.is_control() && !c.is_whitespace())).count();
        if odd * 10 > text.chars().count() {
            return Err(ModelError::Garbled("mostly unreadable characters"));
        }
        Ok(Reply { text, usage: self.usage })
    }
}
