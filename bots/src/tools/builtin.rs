//! Tools that every node has: the time, the memory, a page of the web.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{Arguments, Caller, Risk, Tool, ToolCard, ToolError};
use crate::model::ToolOffer;
use crate::recollection::{Memories, RECALLED};
use crate::worker::Workshop;

/// The longest thing that a model may have remembered, characters.
const REMEMBER_CHARS_MAX: usize = 2_000;

fn one_text(name: &str, what: &str) -> Value {
    json!({ "type": "object", "properties": { name: { "type": "string", "description": what } }, "required": [name] })
}

fn text<'a>(arguments: &'a Arguments, name: &str) -> Result<&'a str, ToolError> {
    let found = arguments.get(name).and_then(Value::as_str).map(str::trim).filter(|text| !text.is_empty());
    found.ok_or_else(|| ToolError::Arguments(format!("`{name}` must be a text")))
}

/// `time`: the date and the time.
#[derive(Debug, Clone, Copy, Default)]
pub struct Time;

#[async_trait]
impl Tool for Time {
    fn card(&self) -> ToolCard {
        let offer =
            ToolOffer::new("time", "The date and the time now, UTC.", json!({ "type": "object", "properties": {} }));
        ToolCard { offer, is_private: false, is_from_outside: false }
    }

    fn risk(&self, _: &Arguments, _: &Caller<'_>) -> Risk {
        Risk::None
    }

    async fn call(&self, _: &Arguments, _: &Caller<'_>) -> Result<String, ToolError> {
        const DAYS: [&str; 7] = ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"];
        let now = nostr::Timestamp::now();
        let day = usize::try_from(now.as_secs() / 86_400 % 7).unwrap_or_default();
        Ok(format!("{}, {}", DAYS.get(day).copied().unwrap_or_default(), now.to_human_datetime()))
    }
}

/// `recall`: the memory of this person.
pub struct Recall(pub Arc<dyn Memories>);

#[async_trait]
impl Tool for Recall {
    fn card(&self) -> ToolCard {
        let offer = ToolOffer::new(
            "recall",
            "Searches what you remember for this person. Each result begins with its id.",
            one_text("query", "what to look for"),
        );
        ToolCard { offer, is_private: true, is_from_outside: false }
    }

    fn risk(&self, _: &Arguments, _: &Caller<'_>) -> Risk {
        Risk::None
    }

    async fn call(&self, arguments: &Arguments, caller: &Caller<'_>) -> Result<String, ToolError> {
        let found = self.0.recall(text(arguments, "query")?, caller.audience, RECALLED).await;
        let found = found.map_err(ToolError::Failed)?;
        if found.is_empty() {
            return Ok("Nothing is remembered of that.".to_owned());
        }
        let lines: Vec<String> = found.iter().map(|one| format!("[{}] {} ({})", one.id, one.text, one.day)).collect();
        Ok(lines.join("\n"))
    }
}

/// `remember`: keeps something for this person.
pub struct Remember(pub Arc<dyn Memories>);

#[async_trait]
impl Tool for Remember {
    fn card(&self) -> ToolCard {
        let offer = ToolOffer::new(
            "remember",
            "Keeps something that the person told you and will want you to know later.",
            one_text("text", "one fact, in a sentence that can be understood by itself"),
        );
        ToolCard { offer, is_private: true, is_from_outside: false }
    }

    /// What a page says is not kept as if the person had said it.
    fn risk(&self, _: &Arguments, caller: &Caller<'_>) -> Risk {
        if caller.is_tainted { Risk::Small } else { Risk::None }
    }

    async fn call(&self, arguments: &Arguments, caller: &Caller<'_>) -> Result<String, ToolError> {
        let what = text(arguments, "text")?;
        if what.chars().count() > REMEMBER_CHARS_MAX {
            return Err(ToolError::Arguments(format!("`text` is longer than {REMEMBER_CHARS_MAX} characters")));
        }
        // The words are part of the key: two facts of one turn are two memories, one fact said twice is one.
        let key = format!("{}:{what}", caller.key);
        let id = self.0.remember(what, caller.audience, &key).await.map_err(ToolError::Failed)?;
        Ok(format!("Kept as {id}."))
    }
}

/// `fetch`: the readable text of a page, by the guarded fetcher.
pub struct Fetch(pub Arc<Workshop>);

#[async_trait]
impl Tool for Fetch {
    fn card(&self) -> ToolCard {
        let offer = ToolOffer::new("fetch", "The readable text of a web page.", one_text("url", "http or https"));
        ToolCard { offer, is_private: false, is_from_outside: true }
    }

    /// An address that the person did not write may carry what is private to whoever it belongs to.
    fn risk(&self, arguments: &Arguments, caller: &Caller<'_>) -> Risk {
        let Ok(url) = text(arguments, "url") else { return Risk::None };
        if caller.said.iter().any(|said| names(said, url)) { Risk::None } else { Risk::Small }
    }

    async fn call(&self, arguments: &Arguments, _: &Caller<'_>) -> Result<String, ToolError> {
        let page = self.0.read_url(text(arguments, "url")?, &CancellationToken::new()).await;
        page.map_err(|error| ToolError::Failed(error.to_string()))
    }
}

/// True when `said` holds the whole address, and not only its beginning.
fn names(said: &str, url: &str) -> bool {
    let wanted = url.trim_end_matches('/');
    said.split_whitespace().any(|word| {
        let word = word.trim_matches(|c: char| "<>()[]\"'`.,;:!?".contains(c)).trim_end_matches('/');
        let bare = word.trim_start_matches("https://").trim_start_matches("http://");
        !word.is_empty() && (word == wanted || wanted == format!("https://{bare}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_counts_as_said_when_it_is_said_whole() {
        let said = "read (https://example.com/a?x=1), please, and news.example";
        assert!(names(said, "https://example.com/a?x=1"));
        assert!(names(said, "https://news.example/"));
        for url in ["https://example.com/a", "https://example.com/a?x=1&secret=7", "https://example.com/", "https://x/"]
        {
            assert!(!names(said, url), "{url}");
        }
    }

    #[tokio::test]
    async fn the_time_is_a_day_and_a_time() {
        let caller = Caller { audience: nips::Audience::Owner, said: &[], key: "k", is_tainted: false };
        let said = Time.call(&Arguments::new(), &caller).await.unwrap();
        assert!(said.contains("day, 20"), "{said}");
    }
}
