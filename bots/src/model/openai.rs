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
use super::{ChatRequest, Message, Model, ModelConfig, ModelError, Reply, Role, ToolCall, ToolOffer, Usage};

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

    fn body(&self, request: &ChatRequest, extras: Extras) -> Value {
        let mut messages: Vec<Value> = request.messages.iter().map(message).collect();
        if let (Some(picture), Some(last)) = (&request.picture, messages.last_mut()) {
            let url = format!("data:{};base64,{}", picture.mime, picture.base64());
            let text = json!({ "type": "text", "text": last["content"] });
            last["content"] = json!([text, { "type": "image_url", "image_url": { "url": url } }]);
        }
        let mut body = json!({ "model": self.0.config.model, "messages": messages, "stream": true });
        if extras == Extras::All {
            body["stream_options"] = json!({ "include_usage": true });
        }
        if extras != Extras::None && !request.tools.is_empty() {
            body["tools"] = request.tools.iter().map(tool).collect();
            if request.must_answer {
                body["tool_choice"] = "none".into();
            }
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

    async fn post(&self, request: &ChatRequest, extras: Extras) -> Result<Response, ModelError> {
        self.0.post("chat/completions", &self.body(request, extras), |post| self.authorised(post)).await
    }

    /// Asks with all fields, and with fewer where the server refuses: some know no `stream_options`, some models no tools.
    async fn ask(&self, request: &ChatRequest) -> Result<Response, ModelError> {
        let mut answer = self.post(request, Extras::All).await;
        let knows_tools = request.tools.is_empty() || request.messages.iter().any(|m| m.role == Role::Tool);
        let fewer: &[Extras] = if knows_tools { &[Extras::Tools] } else { &[Extras::Tools, Extras::None] };
        for extras in fewer {
            let Err(ModelError::Rejected { .. }) = answer else { break };
            answer = self.post(request, *extras).await;
        }
        answer
    }
}

/// Fields that not every server knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extras {
    All,
    Tools,
    None,
}

fn message(message: &Message) -> Value {
    let role = match message.role {
        Role::System => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::Tool => "tool",
    };
    let mut wire = json!({ "role": role, "content": message.content });
    if let Some(id) = &message.answers {
        wire["tool_call_id"] = id.as_str().into();
    }
    if !message.calls.is_empty() {
        let call = |call: &ToolCall| {
            let function = json!({ "name": call.name, "arguments": call.arguments.to_string() });
            json!({ "id": call.id, "type": "function", "function": function })
        };
        wire["tool_calls"] = message.calls.iter().map(call).collect();
    }
    wire
}

fn tool(offer: &ToolOffer) -> Value {
    let function = json!({ "name": offer.name, "description": offer.description, "parameters": offer.parameters });
    json!({ "type": "function", "function": function })
}

#[async_trait]
impl Model for OpenAiModel {
    async fn complete(&self, request: &ChatRequest, pieces: mpsc::Sender<String>) -> Result<Reply, ModelError> {
        let response = self.ask(request).await?;
        let streamed = response
            .headers()
            .get(header::CONTENT_TYPE)
            .and_then(|v| v.to_str().ok())
            .is_some_and(|v| v.to_ascii_lowercase().starts_with("text/event-stream"));
        let answer =
            if streamed { read_stream(response, &pieces).await? } else { read_plain(response, &pieces).await? };
        answer.into_reply()
    }

    async fn probe(&self) -> Result<Option<u64>, ModelError> {
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
        let said = choice.delta.or(choice.message).unwrap_or_default();
        if let Some(text) = said.content {
            new = answer.push(&text)?;
        }
        for (place, call) in said.tool_calls.unwrap_or_default().into_iter().enumerate() {
            let (index, function) = (call.index.unwrap_or(place), call.function.unwrap_or_default());
            let (id, name) = (call.id.unwrap_or_default(), function.name.unwrap_or_default());
            // Ollama gives the object itself.
            let arguments = match function.arguments {
                Some(Value::String(text)) => text,
                Some(Value::Null) | None => String::new(),
                Some(object) => object.to_string(),
            };
            answer.push_call(index, &id, &name, &arguments)?;
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
#[derive(Deserialize, Default)]
struct Said {
    content: Option<String>,
    tool_calls: Option<Vec<CallPart>>,
}

#[derive(Deserialize)]
struct CallPart {
    index: Option<usize>,
    id: Option<String>,
    function: Option<FunctionPart>,
}

#[derive(Deserialize, Default)]
struct FunctionPart {
    name: Option<String>,
    arguments: Option<Value>,
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
