//! What every model server has in common: one client, one key, bounded reading, errors without secrets.

use std::time::Duration;

use reqwest::{Client, RequestBuilder, Response, StatusCode};
use serde_json::Value;

use super::types::is_loopback;
use super::{ModelConfig, ModelError};

/// The most bytes read of one response, framing included.
pub(super) const BODY_BYTES_MAX: usize = 8 * 1024 * 1024;
/// The most bytes read of an error.
const ERROR_BYTES_MAX: usize = 4 * 1024;
/// The most bytes read of a list of models.
const LIST_BYTES_MAX: usize = 2 * 1024 * 1024;
/// A window that is smaller is a slip.
const WINDOW_MIN: u64 = 512;
/// The most characters of an error that are shown.
const REASON_CHARS_MAX: usize = 200;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);

/// A model server.
pub(super) struct Server {
    client: Client,
    pub config: ModelConfig,
}

impl Server {
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

    /// Posts `body`; `authorised` adds the key.
    pub async fn post(
        &self,
        path: &str,
        body: &Value,
        authorised: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<Response, ModelError> {
        let post = self.client.post(self.url(path)).json(body);
        let response = authorised(post).send().await.map_err(unreachable)?;
        if response.status().is_success() { Ok(response) } else { Err(self.refusal(response).await) }
    }

    /// Looks whether the server is there and takes the key. Gives the window of the model, tokens, where the list of models has it.
    pub async fn probe(
        &self,
        authorised: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<Option<u64>, ModelError> {
        let get = authorised(self.client.get(self.url("models"))).timeout(PROBE_TIMEOUT);
        let response = get.send().await.map_err(unreachable)?;
        let status = response.status();
        // A server without this path is there all the same.
        if status.is_success() {
            let list = read_start(response, LIST_BYTES_MAX).await;
            return Ok(serde_json::from_str(&list).ok().and_then(|list| window_of(&list, &self.config.model)));
        }
        if matches!(status, StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED) {
            return Ok(None);
        }
        Err(self.refusal(response).await)
    }

    /// Turns a response that is no success into an error, without the key in its text.
    async fn refusal(&self, response: Response) -> ModelError {
        let status = response.status();
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            return ModelError::Unauthorised(status.as_u16());
        }
        let body = read_start(response, ERROR_BYTES_MAX).await;
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

async fn read_start(mut response: Response, bytes_max: usize) -> String {
    let mut body = Vec::new();
    while body.len() < bytes_max {
        let Ok(Some(bytes)) = response.chunk().await else { break };
        body.extend_from_slice(&bytes);
    }
    body.truncate(bytes_max);
    String::from_utf8_lossy(&body).into_owned()
}

/// The window of `model` in a list of models, by the names that vLLM, OpenRouter, Groq, Mistral, Anthropic and llama.cpp have for it.
fn window_of(list: &Value, model: &str) -> Option<u64> {
    const NAMES: [&str; 5] =
        ["max_model_len", "context_length", "context_window", "max_context_length", "max_input_tokens"];
    let entry = list.get("data")?.as_array()?.iter().find(|entry| entry["id"] == model)?;
    let told = NAMES.iter().find_map(|name| entry[*name].as_u64()).or_else(|| entry["meta"]["n_ctx"].as_u64());
    told.filter(|tokens| *tokens >= WINDOW_MIN)
}

fn error_text(value: &Value) -> Option<String> {
    let error = value.get("error")?;
    error.get("message").unwrap_or(error).as_str().map(str::to_owned)
}

/// The cause of a failed exchange, without the URL (which may hold a secret).
pub(super) fn unreachable(error: reqwest::Error) -> ModelError {
    let error = error.without_url();
    let mut cause: &dyn std::error::Error = &error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    ModelError::Unreachable(cause.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_server_says_the_window_of_its_model() {
        let list = json!({ "data": [
            { "id": "a", "max_model_len": 40_960 },
            { "id": "b", "meta": { "n_ctx": 8_192 } },
            { "id": "c", "context_length": 3 },
        ] });
        let of = |model: &str| window_of(&list, model);
        assert_eq!((of("a"), of("b"), of("c"), of("d")), (Some(40_960), Some(8_192), None, None));
        assert_eq!(window_of(&json!({ "data": 3 }), "a"), None);
    }
}
