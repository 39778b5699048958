//! The client for servers that speak OpenAI's chat completions: OpenAI, Ollama, llama.cpp, vLLM and the like. Reads a
//! stream, and also the plain JSON of servers that ignore `stream`.

use async_trait::async_trait;
use reqwest::{RequestBuilder, Response, header};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::answer::Answer;
use super::http::{BODY_BYTES_MAX, Server, unreachable};
use super::sse::SseLines;
use super::{ChatRequest, Model, ModelConfig, ModelError, Reply, Usage};

/// A model behind an OpenAI-compatible server.
pub struct OpenAiModel(Server);

impl OpenAiModel {
    /// Makes the client. Fails when the TLS part cannot start.
    pub fn new(config: ModelConfig) -> Result<Self, ModelError> {
        Server::new(config).map(Self)
    }

    fn authorised(&self, request: RequestBuilder) -> RequestBuilder {
        match &self.0.config.api_key {
            Some(key) => request.bearer_auth(key.expose()),
            None => request,
        }
    }

    fn body(&self, request: &ChatRequest, ask_usage: bool) -> Value {
        let mut body = json!({ "model": self.0.config.model, "messages": request.messages, "stream": true });
        if ask_usage {
            body["stream_options"] = json!({ "include_usage": true });
        }
        if let Some(n) = request.max_tokens {
            body["max_tokens"] = n.into();
        }
        if let Some(t) = request.temperature {
            body["temperature"] = f64::from(t).into();
        }
        if let Some(p) = request.top_p {
            body["top_p"] = f64::from(p).into();
        }
        body
    }

    async fn post(&self, request: &ChatRequest, ask_usage: bool) -> Result<Response, ModelError> {
        self.0.post("chat/completions", &self.body(request, ask_usage), |post| self.authorised(post)).await
    }
}

#[async_trait]
impl Model for OpenAiModel {
    async fn complete(&self, request: &ChatRequest, pieces: mpsc::Sender<String>) -> Result<Reply, ModelError> {
        let response = match self.post(request, true).await {
            // Some servers refuse fields that they do not know: `stream_options` is the only uncommon one.
            Err(ModelError::Rejected { .. }) => self.post(request, false).await?,
            other => other?,
        };
        let streamed = response
            .headers()
            .get(header::CONTENT_TYPE)
            .and_then(|v| v.to_str().ok())
            .is_some_and(|v| v.to_ascii_lowercase().starts_with("text/event-stream"));
        let answer =
            if streamed { read_stream(response, &pieces).await? } else { read_plain(response, &pieces).await? };
        answer.into_reply()
    }

    async fn probe(&self) -> Result<(), ModelError> {
        self.0.probe(|get| self.authorised(get)).await
    }
}

/// Takes one JSON object of the server; gives the new text for the reader.
fn take(answer: &mut Answer, payload: &str) -> Result<String, ModelError> {
    let chunk: Chunk = serde_json::from_str(payload).map_err(|_| ModelError::Garbled("not the expected JSON"))?;
    if chunk.error.is_some_and(|e| !e.is_null()) {
        return Err(ModelError::Server { status: 200, reason: "error inside the stream".to_owned() });
    }
    if let Some(usage) = chunk.usage {
        answer.usage = Some(Usage { prompt_tokens: usage.prompt_tokens, completion_tokens: usage.completion_tokens });
    }
    let mut new = String::new();
    if let Some(choice) = chunk.choices.unwrap_or_default().into_iter().next() {
        answer.finish = choice.finish_reason.or(answer.finish.take());
        if let Some(text) = choice.delta.or(choice.message).and_then(|m| m.content) {
            new = answer.push(&text)?;
        }
    }
    Ok(new)
}

#[derive(Deserialize)]
struct Chunk {
    choices: Option<Vec<Choice>>,
    usage: Option<WireUsage>,
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Choice {
    delta: Option<Said>,
    message: Option<Said>,
    finish_reason: Option<String>,
}

/// Reasoning fields are not read: they are the model's own business.
#[derive(Deserialize)]
struct Said {
    content: Option<String>,
}

#[derive(Deserialize)]
struct WireUsage {
    #[serde(default)]
    prompt_tokens: u64,
    #[serde(default)]
    completion_tokens: u64,
}

async fn read_stream(mut response: Response, pieces: &mpsc::Sender<String>) -> Result<Answer, ModelError> {
    let (mut lines, mut answer, mut read) = (SseLines::default(), Answer::default(), 0usize);
    while let Some(bytes) = response.chunk().await.map_err(unreachable)? {
        read += bytes.len();
        if read > BODY_BYTES_MAX {
            return Err(ModelError::TooLarge);
        }
        for payload in lines.push(&bytes).map_err(|_| ModelError::TooLarge)? {
            if payload.trim() == "[DONE]" {
                return Ok(answer);
            }
            let new = take(&mut answer, &payload)?;
            // A closed receiver: the caller drops this future in a moment.
            let _ = pieces.send(new).await;
        }
    }
    for payload in lines.finish() {
        if payload.trim() == "[DONE]" {
            return Ok(answer);
        }
        let _ = pieces.send(take(&mut answer, &payload)?).await;
    }
    if answer.finish.is_none() {
        return Err(ModelError::Garbled("the stream ended in the middle"));
    }
    Ok(answer)
}

async fn read_plain(mut response: Response, pieces: &mpsc::Sender<String>) -> Result<Answer, ModelError> {
    let mut body = Vec::new();
    while let Some(bytes) = response.chunk().await.map_err(unreachable)? {
        if body.len() + bytes.len() > BODY_BYTES_MAX {
            return Err(ModelError::TooLarge);
        }
        body.extend_from_slice(&bytes);
    }
    let text = String::from_utf8(body).map_err(|_| ModelError::Garbled("not UTF-8"))?;
    let mut answer = Answer::default();
    // Some servers stream under another content type.
    if text.trim_start().starts_with("data:") {
        let lines = text.lines().filter_map(|line| line.strip_prefix("data:")).map(str::trim);
        for payload in lines.take_while(|payload| *payload != "[DONE]") {
            let _ = pieces.send(take(&mut answer, payload)?).await;
        }
        return Ok(answer);
    }
    let new = take(&mut answer, &text)?;
    let _ = pieces.send(new).await;
    Ok(answer)
}
