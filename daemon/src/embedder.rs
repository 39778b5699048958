//! The embedder that the configuration names; and vectors from a server that speaks OpenAI's `/v1/embeddings`: OpenAI, Ollama,
//! llama.cpp, vLLM and the like.
//!
//! The server reads everything that is remembered; the owner names it, and `timmy doctor` says so when it is not this machine.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context, Result};
use async_trait::async_trait;
use memory::{EmbedError, Embedder, MiniLmEmbedder, StaticEmbedder};
use reqwest::{Client, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;

use crate::config::{self, EmbedderKind};

/// Texts of one request: what most servers take at once, and a bound on what is lost when one fails.
const BATCH: usize = 64;
/// Bytes of a text that are sent: servers refuse more than their model's window, often 8,192 tokens, and a token is a byte or more.
const TEXT_BYTES_MAX: usize = 8 * 1024;
/// The longest vector that is taken.
const DIMENSIONS_MAX: usize = 8 * 1024;
/// The most bytes read of one answer: a batch of long vectors, written out.
const BODY_BYTES_MAX: usize = 32 * 1024 * 1024;
/// The most bytes read of an error.
const ERROR_BYTES_MAX: usize = 4 * 1024;
/// The most characters of an error that are shown.
const REASON_CHARS_MAX: usize = 200;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a batch may take; a large model on a slow machine needs most of it.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The embedder that the configuration names.
///
/// # Errors
/// When MiniLM's files are missing or damaged, the key cannot be read, or the TLS part cannot start.
pub(crate) fn open(config: &config::Embedder) -> Result<Arc<dyn Embedder>> {
    let server = match (config.kind, &config.base_url, &config.model) {
        (EmbedderKind::Openai, Some(url), Some(model)) => (url, model),
        (EmbedderKind::Minilm, _, _) => return minilm(config),
        (EmbedderKind::Openai | EmbedderKind::Static, _, _) => return Ok(Arc::new(StaticEmbedder::new())),
    };
    let read = |path: &std::path::PathBuf| {
        std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the embedder's key from {}", path.display()))
            .map(|key| Key(key.trim().to_owned()))
    };
    let key = config.api_key_file.as_ref().map(read).transpose()?;
    Ok(Arc::new(OpenAiEmbedder::new(server.0.clone(), server.1.clone(), key).context("the embedder cannot be used")?))
}

fn minilm(config: &config::Embedder) -> Result<Arc<dyn Embedder>> {
    let dir = config.model_dir.as_deref().context("embedder.model_dir is not set")?;
    let opened = MiniLmEmbedder::open(dir).context(
        "the embedder cannot be used: embedder.model_dir must hold a copy of memory/model/minilm-256 from timmy's sources (or set kind = \"static\")",
    )?;
    Ok(Arc::new(opened))
}

/// The server's key. It has no `Debug` to show itself by.
struct Key(String);

impl Key {
    /// `text` without the key: a server that echoes it puts it into no log.
    fn redacted(&self, text: &str) -> String {
        if self.0.is_empty() { text.to_owned() } else { text.replace(&self.0, "***") }
    }
}

/// A client of an embedding server.
struct OpenAiEmbedder {
    client: Client,
    url: Url,
    model: String,
    key: Option<Key>,
    /// The length of the first vector that came.
    dimensions: OnceLock<usize>,
}

#[derive(Deserialize)]
struct Answer {
    data: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    #[serde(default)]
    index: Option<usize>,
    embedding: Vec<f32>,
}

impl OpenAiEmbedder {
    /// A client that has asked nothing yet.
    ///
    /// # Errors
    /// When the TLS part cannot start.
    fn new(url: Url, model: String, key: Option<Key>) -> Result<Self> {
        let mut builder = Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(TIMEOUT)
            // A redirect would carry what is remembered, and perhaps the key, to an address that the owner did not name.
            .redirect(reqwest::redirect::Policy::none());
        if config::is_loopback(&url) {
            builder = builder.no_proxy();
        }
        Ok(Self { client: builder.build()?, url, model, key, dimensions: OnceLock::new() })
    }

    fn unreachable(&self, why: impl Into<String>) -> EmbedError {
        EmbedError::Unreachable { embedder: self.id(), why: why.into() }
    }

    fn garbled(&self, why: impl Into<String>) -> EmbedError {
        EmbedError::Garbled { embedder: self.id(), why: why.into() }
    }

    fn failed(&self, error: reqwest::Error) -> EmbedError {
        let error = error.without_url();
        let mut cause: &dyn std::error::Error = &error;
        while let Some(deeper) = cause.source() {
            cause = deeper;
        }
        self.unreachable(cause.to_string())
    }

    async fn batch(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, EmbedError> {
        let url = format!("{}/embeddings", self.url.as_str().trim_end_matches('/'));
        let mut request = self.client.post(url).json(&json!({ "model": self.model, "input": texts }));
        if let Some(key) = &self.key {
            request = request.bearer_auth(&key.0);
        }
        let response = request.send().await.map_err(|e| self.failed(e))?;
        if !response.status().is_success() {
            return Err(self.refusal(response).await);
        }
        let body = self.body(response, BODY_BYTES_MAX).await?;
        let answer: Answer =
            serde_json::from_slice(&body).map_err(|_| self.garbled("not the expected JSON of /embeddings"))?;
        self.vectors(answer, texts.len())
    }

    /// The vectors in the order of the texts, each made one of length 1.
    fn vectors(&self, answer: Answer, count: usize) -> Result<Vec<Vec<f32>>, EmbedError> {
        if answer.data.len() != count {
            return Err(self.garbled(format!("{count} texts gave {} vectors", answer.data.len())));
        }
        let mut placed: Vec<Option<Vec<f32>>> = vec![None; count];
        for (at, item) in answer.data.into_iter().enumerate() {
            let length = item.embedding.len();
            let expected = *self.dimensions.get_or_init(|| length);
            if length != expected || length == 0 || length > DIMENSIONS_MAX {
                return Err(self.garbled(format!("a vector of length {length} instead of {expected}")));
            }
            let place = placed.get_mut(item.index.unwrap_or(at)).filter(|place| place.is_none());
            let place = place.ok_or_else(|| self.garbled("the numbers of its vectors do not fit"))?;
            *place = Some(self.normalised(item.embedding)?);
        }
        Ok(placed.into_iter().flatten().collect())
    }

    fn normalised(&self, mut vector: Vec<f32>) -> Result<Vec<f32>, EmbedError> {
        let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
        if !length.is_finite() {
            return Err(self.garbled("a vector without a length"));
        }
        if length > 0.0 {
            vector.iter_mut().for_each(|x| *x /= length);
        }
        Ok(vector)
    }

    async fn body(&self, mut response: Response, most: usize) -> Result<Vec<u8>, EmbedError> {
        let mut body = Vec::new();
        while let Some(bytes) = response.chunk().await.map_err(|e| self.failed(e))? {
            if body.len() + bytes.len() > most {
                return Err(self.garbled("the answer is too large"));
            }
            body.extend_from_slice(&bytes);
        }
        Ok(body)
    }

    /// What the server says against it, without the key.
    async fn refusal(&self, response: Response) -> EmbedError {
        let status = response.status();
        let body = self.body(response, ERROR_BYTES_MAX).await.unwrap_or_default();
        let text = String::from_utf8_lossy(&body).into_owned();
        let told = serde_json::from_str::<Value>(&text).ok().and_then(|value| {
            let error = value.get("error")?;
            error.get("message").unwrap_or(error).as_str().map(str::to_owned)
        });
        let told = told.unwrap_or(text);
        let told = self.key.as_ref().map_or_else(|| told.clone(), |key| key.redacted(&told));
        let told: String = told.chars().filter(|c| !c.is_control()).take(REASON_CHARS_MAX).collect();
        self.unreachable(format!("HTTP {}: {told}", status.as_u16()))
    }
}

fn beginning(text: &str) -> &str {
    let end = (0..=TEXT_BYTES_MAX.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    &text[..end]
}

#[async_trait]
impl Embedder for OpenAiEmbedder {
    fn id(&self) -> String {
        // An address may hold a password; vectors are known by the server's name alone.
        let host = self.url.host_str().unwrap_or_default();
        let port = self.url.port().map(|port| format!(":{port}")).unwrap_or_default();
        format!("openai:{host}{port}{}:{}", self.url.path().trim_end_matches('/'), self.model)
    }

    fn dimensions(&self) -> Option<usize> {
        self.dimensions.get().copied()
    }

    async fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, EmbedError> {
        // Servers refuse empty texts.
        let said: Vec<&str> = texts.iter().filter(|text| !text.trim().is_empty()).map(|text| beginning(text)).collect();
        let mut vectors = Vec::with_capacity(said.len());
        for batch in said.chunks(BATCH) {
            vectors.extend(self.batch(batch).await?);
        }
        let mut vectors = vectors.into_iter();
        let one = |text: &String| {
            if text.trim().is_empty() { self.dimensions().map(|n| vec![0.0; n]) } else { vectors.next() }
        };
        let all: Option<Vec<_>> = texts.iter().map(one).collect();
        all.ok_or_else(|| self.garbled("the length of its vectors is not known yet"))
    }
}
