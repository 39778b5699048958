//! What a node says in a talk: by a model when one serves the person, else by the embedded answerer, which has no model
//! and says so.

use std::collections::BTreeSet;
use std::sync::Arc;

use nips::Audience;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::model::{ChainError, ChatRequest, Delta, Message, Role, ToolCall};
use crate::recollection::{Memories, RECALLED, Recollection, for_model, obey, quoted};
use crate::talk::{HISTORY_TOKENS, Turn, recent};
use crate::tools::{Arguments, Asked, Tool, TurnOutput, take_turn};
use crate::worker::{
    KIND_EXTRACT, KIND_GENERATE, KIND_SEARCH_NOTES, KIND_SEARCH_PEOPLE, KIND_SUMMARY, KIND_TRANSLATE, Output, Task,
    TaskInput, WorkError, Workshop,
};

/// What a node knows about itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NodeFacts {
    /// Its name.
    pub name: String,
    /// Its public key, bech32.
    pub npub: String,
    /// The kinds of jobs it does now.
    pub kinds: BTreeSet<u16>,
    /// The address of its relay, as others reach it.
    pub relay_url: String,
}

/// The answerer without a model.
#[derive(Debug, Clone, Copy, Default)]
pub struct Answerer;

impl Answerer {
    /// A short, honest answer to `text`: that there is no model, and what can be done without.
    pub fn answer(self, text: &str, facts: &NodeFacts, audience: Audience) -> String {
        // To a stranger nothing is said about models: there may be one, for others.
        let why = match audience {
            Audience::Stranger => "I talk freely only with people whom my owner named",
            Audience::Owner | Audience::Person(_) | Audience::Member => {
                "I have no language model at the moment, so I cannot talk freely"
            }
        };
        let mut lines = vec![format!("I am {}. {why}.", facts.name)];
        if let Some(url) = first_url(text).filter(|_| audience.is_known()) {
            lines.push(format!(
                "There is an address in your message. Send me {url} alone, and I answer with a summary of the page."
            ));
        } else if audience.is_known() {
            lines.push("Send me the address of a page alone, and I answer with a summary of it.".to_owned());
        }
        let jobs: Vec<String> = facts.kinds.iter().filter_map(|kind| describe(*kind)).collect();
        if !jobs.is_empty() {
            lines.push(format!("As Nostr jobs (NIP-90) I do:\n{}", jobs.join("\n")));
            lines.push(format!("Publish one with [\"p\", my key] to {}. My key: {}", facts.relay_url, facts.npub));
        }
        if audience == Audience::Owner {
            lines.push(
                "To give me a model, add a [[models]] section to config.toml; `timmy doctor` tells whether it answers."
                    .to_owned(),
            );
        }
        lines.join("\n\n")
    }
}

fn describe(kind: u16) -> Option<String> {
    let (what, example) = match kind {
        KIND_EXTRACT => ("the readable text of a page", r#"["i", "https://example.com", "url"]"#),
        KIND_SUMMARY => ("a summary", r#"["i", "https://example.com", "url"], ["param", "length", "3 sentences"]"#),
        KIND_TRANSLATE => ("a translation", r#"["i", "Guten Tag", "text"], ["param", "language", "en"]"#),
        KIND_GENERATE => ("an answer to a prompt", r#"["i", "Tell me of relays", "text"]"#),
        KIND_SEARCH_NOTES => ("a search of notes", r#"["i", "relay", "text"]"#),
        KIND_SEARCH_PEOPLE => ("a search of people", r#"["i", "alice", "text"]"#),
        _ => return None,
    };
    Some(format!("- kind {kind}: {what}, e.g. {example}"))
}

/// The first web address in a text.
fn first_url(text: &str) -> Option<Url> {
    text.split_whitespace().find_map(|word| {
        let word = word.trim_matches(|c: char| "<>()[]\"'.,;!?".contains(c));
        let url = Url::parse(word).ok()?;
        matches!(url.scheme(), "http" | "https").then_some(url)
    })
}

/// One message of a known person, and whom it came from.
#[derive(Clone, Copy)]
pub struct Talk<'a> {
    /// What the person said; the conscience has read it already.
    pub text: &'a str,
    /// The person.
    pub audience: Audience,
    /// The system prompt: the soul of the node.
    pub system: &'a str,
    /// The memory; none where there is none.
    pub memories: Option<&'a dyn Memories>,
    /// What was said before, oldest first.
    pub history: &'a [Turn],
    /// Names the message: what it asks to be remembered is remembered once, however often it is worked on.
    pub key: &'a str,
    /// The person's tools; none for strangers.
    pub tools: &'a [Arc<dyn Tool>],
    /// What a file says that was sent with it, marked as others' words.
    pub attached: Option<&'a str>,
    /// Set when the message says yes to a call that was proposed.
    pub approved: Option<&'a Approved>,
}

/// A call that the person said yes to, and what came of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Approved {
    /// The tool.
    pub tool: String,
    /// Its arguments.
    pub arguments: Arguments,
    /// What it gave, or why it did not work.
    pub result: String,
}

impl std::fmt::Debug for Talk<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Talk").field("audience", &self.audience).field("key", &self.key).finish_non_exhaustive()
    }
}

/// Answers a message. What it asks of memory is done without a model ([`obey`]). An address alone is answered by a summary of its page; anything else by a model if one serves the
/// person, else by the [`Answerer`]. A stranger is never given a model here (issue line 14): the embedded answer alone.
/// Only a cancelled talk has no answer.
pub async fn converse(
    workshop: &Workshop,
    talk: Talk<'_>,
    facts: &NodeFacts,
    deltas: Option<&mpsc::Sender<Delta>>,
    cancel: &CancellationToken,
) -> Result<Output, WorkError> {
    if !talk.audience.is_known() {
        return Ok(Output::plain(Answerer.answer(talk.text, facts, talk.audience)));
    }
    if talk.approved.is_none() && talk.attached.is_none() {
        if let Some(url) = lone_url(talk.text) {
            return summary_of(workshop, url, talk.audience, cancel).await;
        }
        if let Some(memories) = talk.memories
            && let Some(said) = obey(memories, talk.text, talk.audience, talk.key).await
        {
            return Ok(Output { memories: said.memories, ..Output::plain(said.text) });
        }
    }
    let recalled = recall(&talk).await;
    match by_model(workshop, &talk, &recalled, deltas, cancel).await {
        Ok(output) => Ok(output),
        Err(ChainError::Cancelled) => Err(WorkError::Cancelled),
        Err(error) if let Some(done) = talk.approved => {
            tracing::debug!(%error, "no model reads what the tool gave");
            Ok(Output::plain(done.result.clone()))
        }
        Err(error) if let Some(file) = talk.attached => {
            tracing::debug!(%error, "no model reads the file");
            let said = summary(workshop, TaskInput::Text(file.to_owned()), talk.audience, cancel).await?;
            Ok(Output::plain(format!("In short, since I have no language model at the moment:\n\n{}", said.content)))
        }
        Err(error) => {
            tracing::debug!(%error, "the embedded answerer speaks");
            Ok(embedded(&talk, facts, &recalled))
        }
    }
}

/// What fits the message. A memory that cannot be asked keeps nobody from an answer.
async fn recall(talk: &Talk<'_>) -> Vec<Recollection> {
    let Some(memories) = talk.memories else { return Vec::new() };
    memories.recall(talk.text, talk.audience, RECALLED).await.unwrap_or_else(|error| {
        tracing::warn!(%error, "nothing can be recalled");
        Vec::new()
    })
}

/// A model answers, with memories if one that may see them serves the person, else without.
async fn by_model(
    workshop: &Workshop,
    talk: &Talk<'_>,
    recalled: &[Recollection],
    deltas: Option<&mpsc::Sender<Delta>>,
    cancel: &CancellationToken,
) -> Result<Output, ChainError> {
    let chain = workshop.chain();
    let said: Vec<&str> =
        talk.history.iter().map(|turn| turn.said.as_str()).chain(std::iter::once(talk.text)).collect();
    let has_files = talk.history.iter().any(|turn| turn.shown.is_some());
    let asked = Asked {
        audience: talk.audience,
        said: &said,
        key: talk.key,
        tools: talk.tools,
        is_tainted: talk.approved.is_some() || talk.attached.is_some() || has_files,
    };
    let told = for_model(recalled).unwrap_or_default();
    let knows_more = !told.text.is_empty() || !talk.history.is_empty() || talk.approved.is_some();
    if knows_more || talk.tools.iter().any(|tool| tool.card().is_private) {
        let system =
            if told.text.is_empty() { talk.system.to_owned() } else { format!("{}\n\n{}", talk.system, told.text) };
        let request = ChatRequest { carries_memory: true, ..request(talk, &system, talk.history) };
        match take_turn(chain, request, &asked, deltas, cancel).await {
            Ok(done) => return Ok(Output { memories: told.memories, ..written(done) }),
            Err(ChainError::Cancelled) => return Err(ChainError::Cancelled),
            Err(error) if talk.approved.is_some() => return Err(error),
            Err(error) => tracing::debug!(%error, "no model that may see memory; asked without"),
        }
    }
    // What a model that may see memory answered may hold some of it.
    let open = |turn: &&Turn| turn.model.as_deref().is_some_and(|model| !chain.sees_memory(model));
    let history: Vec<Turn> = talk.history.iter().filter(open).cloned().collect();
    let done = take_turn(chain, request(talk, talk.system, &history), &asked, deltas, cancel).await?;
    Ok(written(done))
}

fn written(done: TurnOutput) -> Output {
    Output { proposal: done.proposal, ..Output::written(done.text, done.model_name) }
}

/// The message with what was said before, and after it what an approved call gave.
fn request(talk: &Talk<'_>, system: &str, history: &[Turn]) -> ChatRequest {
    const ID: &str = "approved";
    let text = [Some(talk.text), talk.attached].into_iter().flatten().filter(|part| !part.is_empty());
    let mut request = ChatRequest::new(system, &text.collect::<Vec<_>>().join("\n\n"));
    let before = recent(history, HISTORY_TOKENS);
    request.history = before.len();
    request.messages.splice(1..1, before);
    if let Some(done) = talk.approved {
        let arguments = serde_json::Value::Object(done.arguments.clone());
        let call = ToolCall { id: ID.to_owned(), name: done.tool.clone(), arguments };
        request.messages.push(Message { calls: vec![call], ..Message::new(Role::Assistant, "") });
        request.messages.push(Message::result(ID, done.result.as_str()));
    }
    request
}

/// Without a model: what is remembered of it is quoted, and the rest said plainly.
fn embedded(talk: &Talk<'_>, facts: &NodeFacts, recalled: &[Recollection]) -> Output {
    let answer = Answerer.answer(talk.text, facts, talk.audience);
    let close: Vec<Recollection> = recalled.iter().filter(|one| one.is_close).cloned().collect();
    if close.is_empty() {
        return Output::plain(answer);
    }
    let said = quoted("From what I remember:", &close);
    Output { memories: said.memories, ..Output::plain(format!("{}\n\n{answer}", said.text)) }
}

fn lone_url(text: &str) -> Option<Url> {
    let text = text.trim();
    if text.contains(char::is_whitespace) { None } else { first_url(text) }
}

async fn summary_of(
    workshop: &Workshop,
    url: Url,
    audience: Audience,
    cancel: &CancellationToken,
) -> Result<Output, WorkError> {
    match summary(workshop, TaskInput::Url(url.into()), audience, cancel).await {
        Err(WorkError::Cancelled) => Err(WorkError::Cancelled),
        Err(error) => Ok(Output::plain(format!("I could not read that page: {error}."))),
        done => done,
    }
}

async fn summary(
    workshop: &Workshop,
    input: TaskInput,
    audience: Audience,
    cancel: &CancellationToken,
) -> Result<Output, WorkError> {
    let inputs = vec![input];
    let task = Task { id: "talk".to_owned(), kind: KIND_SUMMARY, inputs, params: Vec::new(), output: None, audience };
    let (progress, _nobody) = mpsc::channel(1);
    workshop.run(&task, &progress, cancel).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> NodeFacts {
        NodeFacts {
            name: "timmy".into(),
            npub: "npub1xyz".into(),
            kinds: [5000, 5001].into(),
            relay_url: "ws://127.0.0.1:7777".into(),
        }
    }

    #[test]
    fn the_answer_says_that_there_is_no_model_and_what_can_be_done() {
        let answer = Answerer.answer("hello", &facts(), Audience::Owner);
        assert!(answer.contains("no language model") && answer.contains("kind 5000") && answer.contains("[[models]]"));
        assert!(!answer.contains("5050"), "only what works is named");
        assert!(!Answerer.answer("hello", &facts(), Audience::Stranger).contains("config.toml"));
    }

    #[test]
    fn an_address_in_the_message_is_seen() {
        assert!(
            Answerer
                .answer("what is (https://example.com/a)?", &facts(), Audience::Owner)
                .contains("https://example.com/a")
        );
        assert!(lone_url(" https://example.com/a ").is_some());
        assert!(lone_url("see https://example.com/a").is_none());
        assert!(lone_url("file:///etc/passwd").is_none());
    }
}
