//! Speech, by a server that speaks OpenAI's `/v1/audio`: what people say is written down, what the agent says is spoken.

use std::time::Duration;

use reqwest::{Client, RequestBuilder, Response};
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest, Sha256};
use url::Url;

use crate::model::Secret;

/// The longest text that is spoken, bytes: about two minutes.
pub const SPOKEN_MAX: usize = 2_000;
/// The largest sound that is taken from the server, bytes.
const SOUND_BYTES_MAX: usize = 8 * 1024 * 1024;
const TEXT_BYTES_MAX: usize = 256 * 1024;
const CONNECT: Duration = Duration::from_secs(10);
const TOTAL: Duration = Duration::from_secs(120);

/// A speech server as the owner configured it.
#[derive(Debug, Clone)]
pub struct VoiceConfig {
    /// Up to and including `/v1`.
    pub base_url: Url,
    /// Sent as a bearer token.
    pub api_key: Option<Secret>,
    /// The model that writes speech down.
    pub hears: Option<String>,
    /// The model that speaks, and its voice.
    pub speaks: Option<(String, String)>,
}

/// Why there is no speech. The words are for the person.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VoiceError {
    /// The owner has not configured it.
    #[error("no speech server is configured")]
    NotConfigured,
    /// The server cannot be reached or refuses.
    #[error("the speech server {0}")]
    Server(String),
    /// There is nothing in it.
    #[error("there are no words in it")]
    Silent,
}

/// A speech server.
#[derive(Debug, Clone)]
pub struct Voice {
    client: Client,
    config: VoiceConfig,
}

impl Voice {
    /// Makes the client.
    ///
    /// # Errors
    /// When the TLS part cannot start.
    pub fn new(config: VoiceConfig) -> Result<Self, VoiceError> {
        let none = reqwest::redirect::Policy::none();
        let client = Client::builder().connect_timeout(CONNECT).timeout(TOTAL).redirect(none).build();
        Ok(Self { client: client.map_err(|error| failed(&error))?, config })
    }

    /// What is said in a sound.
    ///
    /// # Errors
    /// [`VoiceError`].
    pub async fn hear(&self, sound: &[u8], name: &str, mime: &str) -> Result<String, VoiceError> {
        #[derive(Deserialize)]
        struct Heard {
            text: String,
        }
        let model = self.config.hears.as_deref().ok_or(VoiceError::NotConfigured)?;
        let (content_type, body) = form(model, sound, name, mime);
        let post = self.post("audio/transcriptions").header("content-type", content_type).body(body);
        let answer = bytes(sent(post).await?, TEXT_BYTES_MAX).await?;
        let heard: Heard =
            serde_json::from_slice(&answer).map_err(|_| VoiceError::Server("gave a garbled answer".to_owned()))?;
        let text = heard.text.trim().to_owned();
        if text.is_empty() { Err(VoiceError::Silent) } else { Ok(text) }
    }

    /// True when it speaks.
    pub fn can_speak(&self) -> bool {
        self.config.speaks.is_some()
    }

    /// A text as a sound: Opus in Ogg, as phones record.
    ///
    /// # Errors
    /// [`VoiceError`].
    pub async fn speak(&self, text: &str) -> Result<Vec<u8>, VoiceError> {
        let (model, voice) = self.config.speaks.as_ref().ok_or(VoiceError::NotConfigured)?;
        let text = &text[..text.floor_char_boundary(SPOKEN_MAX)];
        let body = json!({ "model": model, "voice": voice, "input": text, "response_format": "opus" });
        let sound = bytes(sent(self.post("audio/speech").json(&body)).await?, SOUND_BYTES_MAX).await?;
        if sound.is_empty() { Err(VoiceError::Silent) } else { Ok(sound) }
    }

    fn post(&self, path: &str) -> RequestBuilder {
        let post = self.client.post(format!("{}/{path}", self.config.base_url.as_str().trim_end_matches('/')));
        match &self.config.api_key {
            Some(key) => post.bearer_auth(key.expose()),
            None => post,
        }
    }
}

async fn sent(request: RequestBuilder) -> Result<Response, VoiceError> {
    let response = request.send().await.map_err(|error| failed(&error))?;
    let status = response.status();
    if status.is_success() {
        Ok(response)
    } else {
        Err(VoiceError::Server(format!("answers HTTP {}", status.as_u16())))
    }
}

async fn bytes(mut response: Response, most: usize) -> Result<Vec<u8>, VoiceError> {
    let mut all = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| failed(&error))? {
        if all.len() + chunk.len() > most {
            return Err(VoiceError::Server("answers more than is taken".to_owned()));
        }
        all.extend_from_slice(&chunk);
    }
    Ok(all)
}

fn failed(error: &reqwest::Error) -> VoiceError {
    VoiceError::Server(if error.is_timeout() { "took too long" } else { "cannot be reached" }.to_owned())
}

/// A form of two parts (RFC 7578). Its boundary is made of the sound, so that it is not in it.
fn form(model: &str, sound: &[u8], name: &str, mime: &str) -> (String, Vec<u8>) {
    let boundary = format!("timmy-{}", hex::encode(&Sha256::digest(sound)[..16]));
    let plain = |text: &str, spare: &str| -> String {
        text.chars().filter(|c| c.is_ascii_alphanumeric() || spare.contains(*c)).take(80).collect()
    };
    let (name, mime) = (plain(name, "._-"), plain(mime, "/.+-"));
    let mut body = format!(
        "--{boundary}\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\n{model}\r\n\
         --{boundary}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\nContent-Type: {mime}\r\n\r\n"
    )
    .into_bytes();
    body.extend_from_slice(sound);
    body.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    (format!("multipart/form-data; boundary={boundary}"), body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_add_headers_to_the_form() {
        let (kind, body) = form("whisper", b"sound", "a\"\r\nX: y.ogg", "audio/ogg\r\nX: y");
        let text = String::from_utf8(body).unwrap();
        assert!(kind.starts_with("multipart/form-data; boundary=timmy-"));
        assert!(text.contains("filename=\"aXy.ogg\"") && text.contains("Content-Type: audio/oggXy\r\n"), "{text}");
        assert!(text.contains("\r\n\r\nsound\r\n--"));
    }
}
