//! The client for Anthropic's Messages API (version 2023-06-01), always streamed.

use async_trait::async_trait;
use reqwest::{RequestBuilder, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::answer::Answer;
use super::http::{BODY_BYTES_MAX, Server, unreachable};
use super::sse::SseLines;
use super::{ChatRequest, Message, Model, ModelConfig, ModelError, Reply, Role, ToolCall, ToolOffer, Usage};

const VERSION: &str = "2023-06-01";
/// The API wants a limit; what is asked where nobody set one.
const MAX_TOKENS: u32 = 4_096;

/// A model behind the Messages API. `base_url` is `https://api.anthropic.com/v1`.
pub struct AnthropicModel(Server);

impl AnthropicModel {
    /// Makes the client. Fails when the TLS part cannot start.
    pub fn new(config: ModelConfig) -> Result<Self, ModelError> {
        Server::new(config).map(Self)
    }

    fn authorised(&self, request: RequestBuilder) -> RequestBuilder {
        let request = request.header("anthropic-version", VERSION);
        match &self.0.config.api_key {
            Some(key) => request.header("x-api-key", key.expose()),
            None => request,
        }
    }

    fn body(&self, request: &ChatRequest) -> Value {
        let (rules, said): (Vec<&Message>, Vec<&Message>) =
            request.messages.iter().partition(|m| m.role == Role::System);
        let system = rules.iter().map(|m| m.content.as_str()).collect::<Vec<_>>().join("\n\n");
        let mut said: Vec<Value> = said.into_iter().map(message).collect();
        if let (Some(picture), Some(last)) = (&request.picture, said.last_mut()) {
            let source = json!({ "type": "base64", "media_type": picture.mime, "data": picture.base64() });
            let text = json!({ "type": "text", "text": last["content"] });
            last["content"] = json!([{ "type": "image", "source": source }, text]);
        }
        let max_tokens = request.max_tokens.unwrap_or(MAX_TOKENS);
        let mut body =
            json!({ "model": self.0.config.model, "messages": said, "max_tokens": max_tokens, "stream": true });
        if !system.is_empty() {
            body["system"] = system.into();
        }
        if !request.tools.is_empty() {
            body["tools"] = request.tools.iter().map(tool).collect();
            if request.must_answer {
                body["tool_choice"] = json!({ "type": "none" });
            }
        }
        // Newer models refuse both at once.
        if let Some(t) = request.temperature {
            body["temperature"] = f64::from(t.min(1.0)).into();
        } else if let Some(p) = request.top_p {
            body["top_p"] = f64::from(p).into();
        }
        body
    }
}

/// Calls and their answers are blocks of content; an answer stands in the person's turn.
fn message(message: &Message) -> Value {
    if let Some(id) = &message.answers {
        let block = json!({ "type": "tool_result", "tool_use_id": id, "content": message.content });
        return json!({ "role": "user", "content": [block] });
    }
    let role = if message.role == Role::Assistant { "assistant" } else { "user" };
    if message.calls.is_empty() {
        return json!({ "role": role, "content": message.content });
    }
    let text = (!message.content.is_empty()).then(|| json!({ "type": "text", "text": message.content }));
    let call =
        |call: &ToolCall| json!({ "type": "tool_use", "id": call.id, "name": call.name, "input": call.arguments });
    let blocks: Vec<Value> = text.into_iter().chain(message.calls.iter().map(call)).collect();
    json!({ "role": role, "content": blocks })
}

fn tool(offer: &ToolOffer) -> Value {
    json!({ "name": offer.name, "description": offer.description, "input_schema": offer.parameters })
}

#[async_trait]
impl Model for AnthropicModel {
    async fn complete(&self, request: &ChatRequest, pieces: mpsc::Sender<String>) -> Result<Reply, ModelError> {
        let response = self.0.post("messages", &self.body(request), |post| self.authorised(post)).await?;
        read(response, &pieces).await?.into_reply()
    }

    async fn probe(&self) -> Result<Option<u64>, ModelError> {
        self.0.probe(|get| self.authorised(get)).await
    }
}

/// One event of the stream. Kinds that are not named here (`ping`, blocks that begin and end) say nothing that is needed.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Chunk {
    MessageStart {
        message: Started,
    },
    ContentBlockStart {
        index: usize,
        content_block: Block,
    },
    ContentBlockDelta {
        #[serde(default)]
        index: usize,
        delta: Piece,
    },
    MessageDelta {
        delta: Stopped,
        usage: Option<Cost>,
    },
    MessageStop,
    Error {
        error: Failure,
    },
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
struct Started {
    usage: Option<Cost>,
}

/// A block that begins; text and thinking have neither id nor name.
#[derive(Deserialize)]
struct Block {
    #[serde(default)]
    id: String,
    #[serde(default)]
    name: String,
}

/// Text, or more of a call's arguments; thinking and others have neither.
#[derive(Deserialize)]
struct Piece {
    text: Option<String>,
    partial_json: Option<String>,
}

#[derive(Deserialize)]
struct Stopped {
    stop_reason: Option<String>,
}

#[derive(Deserialize)]
struct Cost {
    #[serde(default)]
    input_tokens: u64,
    #[serde(default)]
    output_tokens: u64,
}

#[derive(Deserialize)]
struct Failure {
    #[serde(default)]
    r#type: String,
}

/// Takes one event; gives the new text, none when the message has ended.
fn take(answer: &mut Answer, payload: &str) -> Result<Option<String>, ModelError> {
    let chunk: Chunk = serde_json::from_str(payload).map_err(|_| ModelError::Garbled("not the expected JSON"))?;
    match chunk {
        Chunk::MessageStart { message } => {
            let prompt_tokens = message.usage.map_or(0, |cost| cost.input_tokens);
            answer.usage = Some(Usage { prompt_tokens, completion_tokens: 0 });
        }
        Chunk::ContentBlockStart { index, content_block: Block { id, name } } if !name.is_empty() => {
            answer.push_call(index, &id, &name, "")?;
        }
        Chunk::ContentBlockDelta { index, delta } => {
            if let Some(more) = delta.partial_json {
                answer.push_call(index, "", "", &more)?;
            }
            return answer.push(&delta.text.unwrap_or_default()).map(Some);
        }
        Chunk::MessageDelta { delta, usage } => {
            answer.finish = delta.stop_reason.or(answer.finish.take());
            if let (Some(known), Some(cost)) = (&mut answer.usage, usage) {
                known.completion_tokens = cost.output_tokens;
            }
        }
        Chunk::MessageStop => return Ok(None),
        Chunk::Error { error } => {
            return Err(ModelError::Server {
                status: 200,
                reason: format!("error inside the stream: {}", error.r#type),
            });
        }
        Chunk::ContentBlockStart { .. } | Chunk::Other => {}
    }
    Ok(Some(String::new()))
}

async fn read(mut response: Response, pieces: &mpsc::Sender<String>) -> Result<Answer, ModelError> {
    let (mut lines, mut answer, mut read) = (SseLines::default(), Answer::default(), 0_usize);
    while let Some(bytes) = response.chunk().await.map_err(unreachable)? {
        read += bytes.len();
        if read > BODY_BYTES_MAX {
            return Err(ModelError::TooLarge);
        }
        for payload in lines.push(&bytes).map_err(|_| ModelError::TooLarge)? {
            let Some(new) = take(&mut answer, &payload)? else { return Ok(answer) };
            // A closed receiver: the caller drops this future in a moment.
            let _ = pieces.send(new).await;
        }
    }
    Err(ModelError::Garbled("the stream ended in the middle"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: [&str; 8] = [
        r#"{"type":"message_start","message":{"id":"m","usage":{"input_tokens":25,"output_tokens":1}}}"#,
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
        r#"{"type":"ping"}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"hm"}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hel"}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"lo"}}"#,
        r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":15}}"#,
        r#"{"type":"message_stop"}"#,
    ];

    #[test]
    fn a_stream_is_read_to_its_end_and_counted() {
        let mut answer = Answer::default();
        let ends: Vec<bool> = STREAM.iter().map(|payload| take(&mut answer, payload).unwrap().is_none()).collect();
        assert_eq!(ends.iter().position(|end| *end), Some(7));
        let reply = answer.into_reply().unwrap();
        assert_eq!(reply.text, "Hello");
        assert_eq!(reply.usage, Some(Usage { prompt_tokens: 25, completion_tokens: 15 }));
    }

    #[test]
    fn a_call_comes_together_from_its_parts_and_its_answer_goes_back() {
        let mut answer = Answer::default();
        for payload in [
            r#"{"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"t1","name":"fetch","input":{}}}"#,
            r#"{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{\"url\":"}}"#,
            r#"{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"\"x\"}"}}"#,
        ] {
            take(&mut answer, payload).unwrap();
        }
        let reply = answer.into_reply().unwrap();
        let call = ToolCall { id: "t1".into(), name: "fetch".into(), arguments: json!({ "url": "x" }) };
        assert_eq!(reply.calls, [call]);
        let said = Message { calls: reply.calls, ..Message::new(Role::Assistant, "") };
        assert_eq!(message(&said)["content"][0]["input"]["url"], "x");
        let result = message(&Message::result("t1", "a page"));
        assert_eq!((&result["role"], &result["content"][0]["tool_use_id"]), (&json!("user"), &json!("t1")));
    }

    #[test]
    fn an_error_in_the_stream_and_an_empty_answer_are_failures() {
        let mut answer = Answer::default();
        let overloaded = r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#;
        assert!(matches!(take(&mut answer, overloaded), Err(ModelError::Server { .. })));
        assert!(matches!(take(&mut answer, "no json"), Err(ModelError::Garbled(_))));
        let spent = r#"{"type":"message_delta","delta":{"stop_reason":"max_tokens"},"usage":{"output_tokens":15}}"#;
        take(&mut answer, spent).unwrap();
        assert_eq!(answer.into_reply(), Err(ModelError::OutOfTokens));
    }
}
