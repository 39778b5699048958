//! How the command line talks with the running node.

use anyhow::{Context, Result, anyhow, bail};
use futures_util::StreamExt;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::home::Home;

/// No node runs on the data folder: exit status 3.
#[derive(Debug, thiserror::Error)]
#[error("no node runs on {0}; start it with `timmy run`")]
pub struct NotRunning(String);

/// A client of the node on the same data folder.
pub struct Client {
    base: String,
    token: String,
    http: reqwest::Client,
}

impl Client {
    /// Finds the running node.
    ///
    /// # Errors
    /// [`NotRunning`], or the token cannot be read.
    pub fn connect(home: &Home) -> Result<Self> {
        let ready = home.running().ok_or_else(|| NotRunning(home.dir().display().to_string()))?;
        let token = std::fs::read_to_string(home.token())
            .context("cannot read the API token; are you the user who runs the node?")?;
        // The node is on this machine: a proxy of the environment is not asked.
        let http = reqwest::Client::builder().no_proxy().build()?;
        Ok(Self { base: format!("{}/api/v1", ready.http), token: token.trim().to_owned(), http })
    }

    /// GETs a JSON value.
    ///
    /// # Errors
    /// The node's own words, or that it cannot be reached.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let response = self.http.get(format!("{}{path}", self.base)).bearer_auth(&self.token).send().await;
        Ok(checked(response).await?.json().await?)
    }

    /// GETs JSON lines; each goes to `on_line` as it is, without its line break.
    ///
    /// # Errors
    /// The node's own words, that it cannot be reached, or what `on_line` says.
    pub async fn lines(&self, path: &str, mut on_line: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let response = self.http.get(format!("{}{path}", self.base)).bearer_auth(&self.token).send().await;
        let mut stream = checked(response).await?.bytes_stream();
        let mut pending = Vec::new();
        while let Some(chunk) = stream.next().await {
            pending.extend_from_slice(&chunk.context("the node went away in the middle of the answer")?);
            let mut begin = 0;
            while let Some(length) = pending[begin..].iter().position(|b| *b == b'\n') {
                on_line(&pending[begin..begin + length])?;
                begin += length + 1;
            }
            pending.drain(..begin);
        }
        if pending.is_empty() { Ok(()) } else { on_line(&pending) }
    }

    /// POSTs bytes as they are; gives the answer.
    ///
    /// # Errors
    /// The node's own words, or that it cannot be reached.
    pub async fn send<T: DeserializeOwned>(&self, path: &str, body: Vec<u8>) -> Result<T> {
        let request = self.http.post(format!("{}{path}", self.base)).bearer_auth(&self.token).body(body);
        Ok(checked(request.send().await).await?.json().await?)
    }

    /// POSTs a JSON value; gives the answer.
    ///
    /// # Errors
    /// The node's own words, or that it cannot be reached.
    pub async fn ask<T: DeserializeOwned>(&self, path: &str, body: &Value) -> Result<T> {
        let request = self.http.post(format!("{}{path}", self.base)).bearer_auth(&self.token).json(body);
        Ok(checked(request.send().await).await?.json().await?)
    }

    /// POSTs `body`; each line of the answer goes to `on_line`.
    ///
    /// # Errors
    /// The node's own words, or that it cannot be reached.
    pub async fn post(&self, path: &str, body: &Value, mut on_line: impl FnMut(Value)) -> Result<()> {
        let request = self.http.post(format!("{}{path}", self.base)).bearer_auth(&self.token).json(body);
        let mut stream = checked(request.send().await).await?.bytes_stream();
        let mut pending = Vec::new();
        while let Some(chunk) = stream.next().await {
            pending.extend_from_slice(
                &chunk.context(
                    "the node went away in the middle of the answer; `timmy job list` shows what became of it",
                )?,
            );
            while let Some(end) = pending.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = pending.drain(..=end).collect();
                on_line(serde_json::from_slice(&line)?);
            }
        }
        if !pending.is_empty() {
            on_line(serde_json::from_slice(&pending)?);
        }
        Ok(())
    }
}

async fn checked(response: reqwest::Result<reqwest::Response>) -> Result<reqwest::Response> {
    let response = response.map_err(|e| anyhow!("the node does not answer: {}", e.without_url()))?;
    if response.status().is_success() {
        return Ok(response);
    }
    let status = response.status();
    let body: Value = response.json().await.unwrap_or_default();
    match body["error"].as_str() {
        Some(words) => bail!("{words}"),
        None => bail!("the node answered HTTP {status}"),
    }
}
