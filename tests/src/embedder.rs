//! A double of an OpenAI-compatible embedding server: a text's vector counts its words, so that texts with common words are near.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use serde_json::{Value, json};

use crate::double::Pages;

/// How it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// With vectors of this length, in the wrong order, each with its number.
    Vectors(usize),
    /// With one vector too few.
    TooFew,
    /// With HTTP 500, and the key that it was given.
    Broken,
    /// With HTML.
    Html,
}

struct Script {
    manner: Mutex<Manner>,
    batches: Mutex<Vec<usize>>,
    texts: AtomicUsize,
    keys: Mutex<Vec<String>>,
}

/// An embedding server.
pub struct EmbedderDouble {
    pages: Pages,
    script: Arc<Script>,
}

impl EmbedderDouble {
    pub async fn start(manner: Manner) -> Self {
        let script = Script {
            manner: Mutex::new(manner),
            batches: Mutex::default(),
            texts: AtomicUsize::new(0),
            keys: Mutex::default(),
        };
        let script = Arc::new(script);
        let routes = Router::new().route("/v1/embeddings", post(embed)).with_state(Arc::clone(&script));
        Self { pages: Pages::serve(routes).await, script }
    }

    /// Answers otherwise from now on.
    pub fn be(&self, manner: Manner) {
        *self.script.manner.lock().unwrap() = manner;
    }

    /// Texts that it was given so far.
    pub fn texts(&self) -> usize {
        self.script.texts.load(Ordering::SeqCst)
    }

    /// The most texts of one call.
    pub fn largest_batch(&self) -> usize {
        self.script.batches.lock().unwrap().iter().copied().max().unwrap_or(0)
    }

    /// Authorisations that it was shown.
    pub fn keys(&self) -> Vec<String> {
        self.script.keys.lock().unwrap().clone()
    }

    /// An `[embedder]` section for it, with `more` lines.
    pub fn config(&self, more: &str) -> String {
        let address = self.pages.address;
        format!("[embedder]\nkind = \"openai\"\nbase_url = \"http://{address}/v1\"\nmodel = \"double\"\n{more}")
    }
}

async fn embed(State(script): State<Arc<Script>>, headers: HeaderMap, Json(body): Json<Value>) -> Response {
    let texts: Vec<String> = serde_json::from_value(body["input"].clone()).unwrap();
    let key = headers.get("authorization").map(|v| v.to_str().unwrap().to_owned()).unwrap_or_default();
    script.keys.lock().unwrap().push(key.clone());
    script.batches.lock().unwrap().push(texts.len());
    script.texts.fetch_add(texts.len(), Ordering::SeqCst);
    let manner = *script.manner.lock().unwrap();
    let dimensions = if let Manner::Vectors(n) = manner { n } else { 8 };
    let mut data: Vec<Value> = texts
        .iter()
        .enumerate()
        .map(|(at, text)| json!({ "object": "embedding", "index": at, "embedding": vector(text, dimensions) }))
        .collect();
    data.reverse();
    match manner {
        Manner::Vectors(_) => {}
        Manner::TooFew => drop(data.pop()),
        Manner::Broken => {
            let said = json!({ "error": { "message": format!("no luck with {key}") } });
            return (StatusCode::INTERNAL_SERVER_ERROR, Json(said)).into_response();
        }
        Manner::Html => return "<html>hello</html>".into_response(),
    }
    Json(json!({ "object": "list", "data": data, "model": body["model"] })).into_response()
}

/// How often words fall into each of `dimensions` places; not of length 1.
fn vector(text: &str, dimensions: usize) -> Vec<f32> {
    let mut counts = vec![0.0; dimensions];
    for word in text.to_lowercase().split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()) {
        let place = word.bytes().fold(7usize, |all, b| all.wrapping_mul(31).wrapping_add(usize::from(b)));
        counts[place % dimensions] += 3.0;
    }
    counts
}
