//! The client for servers that speak OpenAI's chat completions: OpenAI, Ollama, llama.cpp, vLLM and the like. Reads a
//! stream, and also the plain JSON of servers that ignore `stream`.

use std::time::Duration;

use async_trait::async_trait;
use reqwest::{Client, RequestBuilder, Response, StatusCode, header};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::sse::{SseLines, ThinkFilter};
use super::types::is_loopback;
use super::{ANSWER_BYTES_MAX, ChatRequest, Model, ModelConfig, ModelError, Reply, Usage};

/// The most bytes read of one response, framing included.
const BODY_BYTES_MAX: usize = 8 * 1024 * 1024;
/// The most bytes read of an error.
const ERROR_BYTES_MAX: usize = 4 * 1024;
/// The most characters of an error that are shown.
const REASON_CHARS_MAX: usize = 200;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);

/// A model behind an OpenAI-compatible server.
pub struct OpenAiModel {
    client: Client,
    config: ModelConfig,
}

impl OpenAiModel {
    /// Makes the client. Fails when the TLS part cannot start.
    pub fn new(config: ModelConfig) -> Result<Self, ModelError> {
        let mut builder = Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            // A redirect would carry the prompt, and perhaps the key, to an address that the owner did not name.
            .redirect(reqwest::redirect::Policy::none());
        if is_loopback(&config.base_url) {
            builder = builder.no_proxy();
        }
        let client = builder.build().map_err(unreachable)?;
        Ok(Self { client, config })
    }

    fn url(&self, path: &str) -> String {
        format!("{}/{path}", self.config.base_url.as_str().trim_end_matches('/'))
    }

    fn authorised(&self, request: RequestBuilder) -> RequestBuilder {
        match &self.config.api_key {
            Some(key) => request.bearer_auth(key.expose()),
            None => request,
        }
    }

    fn body(&self, request: &ChatRequest, ask_usage: bool) -> Value {
        let mut body = json!({ "model": self.config.model, "messages": request.messages, "stream": true });
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
        let post = self.client.post(self.url("chat/completions")).json(&self.body(request, ask_usage));
        let response = self.authorised(post).send().await.map_err(unreachable)?;
        if response.status().is_success() { Ok(response) } else { Err(self.refusal(response).await) }
    }

    /// Turns a response that is no success into an error, without the key in its text.
    async fn refusal(&self, response: Response) -> ModelError {
        let status = response.status();
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            return ModelError::Unauthorised(status.as_u16());
        }
        let body = read_start(response).await;
        let reason = serde_json::from_str::<Value>(&body).ok().and_then(|v| error_text(&v)).unwrap_or(body);
        let reason: String =
            self.redacted(&reason).chars().filter(|c| !c.is_control()).take(REASON_CHARS_MAX).collect();
        let at_fault = [StatusCode::BAD_REQUEST, StatusCode::PAYLOAD_TOO_LARGE, StatusCode::UNPROCESSABLE_ENTITY];
        let status_code = status.as_u16();
        if at_fault.contains(&status) {
            ModelError::Rejected { status: status_code, reason }
        } else {
            ModelError::Server { status: status_code, reason }
        }
    }

    fn redacted(&self, text: &str) -> String {
        self.config.api_key.as_ref().map_or_else(|| text.to_owned(), |key| key.redact(text))
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
        let get = self.authorised(self.client.get(self.url("models"))).timeout(PROBE_TIMEOUT);
        let response = get.send().await.map_err(unreachable)?;
        let status = response.status();
        // A server without this path is there all the same.
        if status.is_success() || matches!(status, StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED) {
            return Ok(());
        }
        Err(self.refusal(response).await)
    }
}

/// The answer as it grows.
#[derive(Default)]
struct Answer {
    text: String,
    think: ThinkFilter,
    usage: Option<Usage>,
    finish: Option<String>,
}

impl Answer {
    /// Takes one JSON object of the server; gives the new text for the reader.
    fn take(&mut self, payload: &str) -> Result<String, ModelError> {
        let chunk: Chunk = serde_json::from_str(payload).map_err(|_| ModelError::Garbled("not the expected JSON"))?;
        if chunk.error.is_some_and(|e| !e.is_null()) {
            return Err(ModelError::Server { status: 200, reason: "error inside the stream".to_owned() });
        }
        if let Some(usage) = chunk.usage {
            self.usage = Some(Usage { prompt_tokens: usage.prompt_tokens, completion_tokens: usage.completion_tokens });
        }
        let mut new = String::new();
        if let Some(choice) = chunk.choices.unwrap_or_default().into_iter().next() {
            self.finish = choice.finish_reason.or(self.finish.take());
            if let Some(text) = choice.delta.or(choice.message).and_then(|m| m.content) {
                new = self.think.push(&text);
            }
        }
        self.add(&new)?;
        Ok(new)
    }

    fn add(&mut self, new: &str) -> Result<(), ModelError> {
        self.text.push_str(new);
        if self.text.len() > ANSWER_BYTES_MAX { Err(ModelError::TooLarge) } else { Ok(()) }
    }

    fn into_reply(self) -> Result<Reply, ModelError> {
        let text = format!("{}{}", self.text, self.think.finish());
        if text.trim().is_empty() {
            return Err(if self.finish.as_deref() == Some("length") {
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
            let new = answer.take(&payload)?;
            // A closed receiver: the caller drops this future in a moment.
            let _ = pieces.send(new).await;
        }
    }
    for payload in lines.finish() {
        if payload.trim() == "[DONE]" {
            return Ok(answer);
        }
        let _ = pieces.send(answer.take(&payload)?).await;
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
            let _ = pieces.send(answer.take(payload)?).await;
        }
        return Ok(answer);
    }
    let new = answer.take(&text)?;
    let _ = pieces.send(new).await;
    Ok(answer)
}

async fn read_start(mut response: Response) -> String {
    let mut body = Vec::new();
    while body.len() < ERROR_BYTES_MAX {
        let Ok(Some(bytes)) = response.chunk().await else { break };
        body.extend_from_slice(&bytes);
    }
    body.truncate(ERROR_BYTES_MAX);
    String::from_utf8_lossy(&body).into_owned()
}

fn error_text(value: &Value) -> Option<String> {
    let error = value.get("error")?;
    error.get("message").unwrap_or(error).as_str().map(str::to_owned)
}

/// The cause of a failed exchange, without the URL (which may hold a secret).
fn unreachable(error: reqwest::Error) -> ModelError {
    let error = error.without_url();
    let mut cause: &dyn std::error::Error = &error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    ModelError::Unreachable(cause.to_string())
}
