//! An answer as it grows, whichever server it comes from.

use serde_json::Value;

use super::sse::ThinkFilter;
use super::{ANSWER_BYTES_MAX, ModelError, Reply, ToolCall, Usage};

/// Tools that one answer may call.
const CALLS_MAX: usize = 16;

/// A call as it grows.
#[derive(Default)]
struct Call {
    id: String,
    name: String,
    arguments: String,
}

/// The answer as it grows.
#[derive(Default)]
pub(super) struct Answer {
    text: String,
    calls: Vec<Call>,
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

    /// Takes more of the call with this number, counted from 0. A part that says nothing new is empty.
    pub fn push_call(&mut self, index: usize, id: &str, name: &str, arguments: &str) -> Result<(), ModelError> {
        if index >= CALLS_MAX {
            return Err(ModelError::TooLarge);
        }
        if self.calls.len() <= index {
            self.calls.resize_with(index + 1, Call::default);
        }
        let Some(call) = self.calls.get_mut(index) else { return Ok(()) };
        call.id.push_str(id);
        call.name.push_str(name);
        call.arguments.push_str(arguments);
        let bytes = call.id.len() + call.name.len() + call.arguments.len();
        if bytes > ANSWER_BYTES_MAX { Err(ModelError::TooLarge) } else { Ok(()) }
    }

    /// The whole, if there is one.
    pub fn into_reply(self) -> Result<Reply, ModelError> {
        let text = format!("{}{}", self.text, self.think.finish());
        let calls: Vec<ToolCall> =
            self.calls.into_iter().enumerate().filter(|(_, call)| !call.name.is_empty()).map(whole).collect();
        if !calls.is_empty() {
            return Ok(Reply { text, calls, usage: self.usage });
        }
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
        Ok(Reply { text, calls, usage: self.usage })
    }
}

/// A call that has ended. Servers that number their calls give no ids; a call without arguments means an empty object.
fn whole((index, call): (usize, Call)) -> ToolCall {
    let Call { id, name, arguments } = call;
    let arguments = match arguments.trim() {
        "" => Value::Object(serde_json::Map::new()),
        text => serde_json::from_str(text).unwrap_or_else(|_| arguments.clone().into()),
    };
    ToolCall { id: if id.is_empty() { format!("call_{index}") } else { id }, name, arguments }
}
