//! Doubles of what a node talks to over HTTP: an OpenAI-compatible model, and pages.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::ListenerExt;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

/// What opens the door in Anthropic's words.
pub const ANTHROPIC_KEY: &str = "sk-ant-of-a-test";

/// What the double was asked, and how it is to answer.
struct Script {
    pieces: Vec<String>,
    between: Duration,
    calls: AtomicUsize,
    hung_up: AtomicUsize,
    finished: AtomicUsize,
    bodies: Mutex<Vec<Value>>,
    /// When each of them came, and when its last word left.
    times: Mutex<Vec<(Instant, Option<Instant>)>>,
    /// Answers that call tools instead, in order: names and arguments.
    wishes: Mutex<VecDeque<Vec<(String, Value)>>>,
}

/// A model behind the OpenAI protocol. It streams its pieces one after the other.
pub struct ModelDouble {
    address: SocketAddr,
    script: Arc<Script>,
    running: Option<Runtime>,
}

impl ModelDouble {
    /// A model that answers `pieces`, each after a pause of `between`.
    pub async fn start(pieces: &[&str], between: Duration) -> Self {
        let script = Script {
            pieces: pieces.iter().map(|p| (*p).to_owned()).collect(),
            between,
            calls: AtomicUsize::new(0),
            hung_up: AtomicUsize::new(0),
            finished: AtomicUsize::new(0),
            bodies: Mutex::default(),
            times: Mutex::default(),
            wishes: Mutex::default(),
        };
        let mut double =
            Self { address: SocketAddr::from(([127, 0, 0, 1], 0)), script: Arc::new(script), running: None };
        double.run().await;
        double
    }

    /// The next answers that may call tools call these, one answer after the other; the one after them is text again.
    pub fn wish(&self, wishes: &[&[(&str, Value)]]) {
        let calls =
            |calls: &&[(&str, Value)]| calls.iter().map(|(name, with)| ((*name).to_owned(), with.clone())).collect();
        self.script.wishes.lock().unwrap().extend(wishes.iter().map(calls));
    }

    /// The names of the tools in the newest request.
    pub fn tools(&self) -> Vec<String> {
        let request = self.last_request();
        let tools = request["tools"].as_array().cloned().unwrap_or_default();
        tools.iter().map(|tool| tool["function"]["name"].as_str().unwrap().to_owned()).collect()
    }

    /// What the tools said in the newest request, in order.
    pub fn results(&self) -> Vec<String> {
        let said = self.last_prompt().into_iter().filter(|message| message["role"] == "tool");
        said.map(|message| message["content"].as_str().unwrap().to_owned()).collect()
    }

    /// Comes back at the same address.
    pub async fn run(&mut self) {
        let routes = Router::new()
            .route("/v1/models", get(async || Json(json!({ "data": [] }))))
            .route("/v1/chat/completions", post(complete))
            .route("/v1/messages", post(messages))
            .with_state(Arc::clone(&self.script));
        let (address, runtime) = serve(self.address, routes).await;
        self.address = address;
        self.running = Some(runtime);
    }

    /// Goes away, connections and all.
    pub fn stop(&mut self) {
        if let Some(runtime) = self.running.take() {
            runtime.shutdown_background();
        }
    }

    /// Calls so far.
    pub fn calls(&self) -> usize {
        self.script.calls.load(Ordering::SeqCst)
    }

    /// Calls whose caller hung up before the end.
    pub fn hung_up(&self) -> usize {
        self.script.hung_up.load(Ordering::SeqCst)
    }

    /// Calls that were answered to the end.
    pub fn finished(&self) -> usize {
        self.script.finished.load(Ordering::SeqCst)
    }

    /// The newest request.
    pub fn last_request(&self) -> Value {
        self.script.bodies.lock().unwrap().last().cloned().unwrap_or_default()
    }

    /// The messages of the newest prompt.
    pub fn last_prompt(&self) -> Vec<Value> {
        self.last_request()["messages"].as_array().cloned().unwrap_or_default()
    }

    /// Every request so far, in order.
    pub fn requests(&self) -> Vec<Value> {
        self.script.bodies.lock().unwrap().clone()
    }

    /// When each request came, and when the last word of its answer left; in the order of [`ModelDouble::requests`].
    pub fn times(&self) -> Vec<(Instant, Option<Instant>)> {
        self.script.times.lock().unwrap().clone()
    }

    /// The text of every prompt so far.
    pub fn prompts(&self) -> String {
        format!("{:?}", self.script.bodies.lock().unwrap())
    }

    /// A `[[models]]` section for it, with `more` lines.
    pub fn config(&self, more: &str) -> String {
        let address = self.address;
        format!("[[models]]\nname = \"double\"\nbase_url = \"http://{address}/v1\"\nmodel = \"d\"\n{more}")
    }
}

impl Drop for ModelDouble {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Notes whether an answer was read to its end.
struct Reader {
    script: Arc<Script>,
    /// Which request this answers.
    number: usize,
    prompt_tokens: usize,
    done: AtomicBool,
}

impl Drop for Reader {
    fn drop(&mut self) {
        let ended = if self.done.load(Ordering::SeqCst) { &self.script.finished } else { &self.script.hung_up };
        ended.fetch_add(1, Ordering::SeqCst);
    }
}

impl Script {
    /// Notes a request; gives its number.
    fn note(&self, body: Value) -> usize {
        let mut bodies = self.bodies.lock().unwrap();
        self.times.lock().unwrap().push((Instant::now(), None));
        bodies.push(body);
        bodies.len() - 1
    }
}

async fn complete(State(script): State<Arc<Script>>, Json(body): Json<Value>) -> Response {
    script.calls.fetch_add(1, Ordering::SeqCst);
    let has_tools = body["tools"].as_array().is_some_and(|tools| !tools.is_empty());
    let may_call = has_tools && body["tool_choice"] != "none";
    // About what a tokenizer makes of English.
    let prompt_tokens = body["messages"].to_string().len() / 4;
    let number = script.note(body);
    let wish = if may_call { script.wishes.lock().unwrap().pop_front() } else { None };
    if let Some(wish) = wish {
        return ([(header::CONTENT_TYPE, "text/event-stream")], called(&wish)).into_response();
    }
    let reader = Reader { script, number, prompt_tokens, done: AtomicBool::new(false) };
    let lines = futures_util::stream::unfold((reader, 0), async |(reader, next)| {
        let count = reader.script.pieces.len();
        if next > count {
            return None;
        }
        let line = if next == count {
            reader.done.store(true, Ordering::SeqCst);
            reader.script.times.lock().unwrap()[reader.number].1 = Some(Instant::now());
            let usage = json!({ "prompt_tokens": reader.prompt_tokens, "completion_tokens": 10 });
            format!("data: {}\n\ndata: [DONE]\n\n", json!({ "choices": [], "usage": usage }))
        } else {
            tokio::time::sleep(reader.script.between).await;
            format!("data: {}\n\n", json!({ "choices": [{ "delta": { "content": reader.script.pieces[next] } }] }))
        };
        Some((Ok::<_, Infallible>(line), (reader, next + 1)))
    });
    ([(header::CONTENT_TYPE, "text/event-stream")], Body::from_stream(lines)).into_response()
}

/// An answer that calls tools, each in two parts as servers send them.
fn called(wish: &[(String, Value)]) -> String {
    let mut all = String::new();
    for (index, (name, with)) in wish.iter().enumerate() {
        let with = with.to_string();
        let (one, two) = with.split_at(with.len() / 2);
        let begin =
            json!({ "index": index, "id": format!("c{index}"), "function": { "name": name, "arguments": one } });
        let more = json!({ "index": index, "function": { "arguments": two } });
        for part in [begin, more] {
            all += &format!("data: {}\n\n", json!({ "choices": [{ "delta": { "tool_calls": [part] } }] }));
        }
    }
    all + &format!(
        "data: {}\n\ndata: [DONE]\n\n",
        json!({ "choices": [{ "delta": {}, "finish_reason": "tool_calls" }] })
    )
}

/// The same in Anthropic's words; the key is in a header of its own.
async fn messages(State(script): State<Arc<Script>>, headers: HeaderMap, Json(body): Json<Value>) -> Response {
    script.calls.fetch_add(1, Ordering::SeqCst);
    if headers.get("x-api-key").is_none_or(|key| key != ANTHROPIC_KEY) || headers.get("anthropic-version").is_none() {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    script.note(body);
    let event = |value: Value| format!("event: {}\ndata: {value}\n\n", value["type"].as_str().unwrap_or_default());
    let piece = |text: &String| {
        event(json!({ "type": "content_block_delta", "index": 0, "delta": { "type": "text_delta", "text": text } }))
    };
    let begin = event(json!({ "type": "message_start", "message": { "usage": { "input_tokens": 10 } } }));
    let end = [
        event(
            json!({ "type": "message_delta", "delta": { "stop_reason": "end_turn" }, "usage": { "output_tokens": 5 } }),
        ),
        event(json!({ "type": "message_stop" })),
    ];
    let all: String = std::iter::once(begin).chain(script.pieces.iter().map(piece)).chain(end).collect();
    ([(header::CONTENT_TYPE, "text/event-stream")], all).into_response()
}

/// A web server in a runtime of its own: dropping the runtime cuts its connections.
pub struct Pages {
    /// `ip:port`
    pub address: SocketAddr,
    running: Option<Runtime>,
}

impl Pages {
    pub async fn serve(routes: Router) -> Self {
        let (address, runtime) = serve(SocketAddr::from(([127, 0, 0, 1], 0)), routes).await;
        Self { address, running: Some(runtime) }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        if let Some(runtime) = self.running.take() {
            runtime.shutdown_background();
        }
    }
}

async fn serve(address: SocketAddr, routes: Router) -> (SocketAddr, Runtime) {
    let runtime = Runtime::new().unwrap();
    let listener = crate::eventually("the port is free", async || {
        runtime.spawn(tokio::net::TcpListener::bind(address)).await.unwrap().ok()
    })
    .await;
    let address = listener.local_addr().unwrap();
    // As model servers do: a word must not wait for the acknowledgement of the one before.
    let listener = listener.tap_io(|stream| stream.set_nodelay(true).unwrap());
    runtime.spawn(async move { axum::serve(listener, routes).await });
    (address, runtime)
}
