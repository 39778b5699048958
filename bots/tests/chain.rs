//! The chain against real (tiny) HTTP servers: who is served, what is paid, what happens when a model fails.

#![allow(clippy::unwrap_used, reason = "a test that cannot set its scene should fail")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::routing::{get, post};
use bots::model::{
    Api, Breaker, BreakerState, Budget, Chain, ChainError, ChatRequest, Clock, Delta, MemoryBudget, ModelConfig,
    ModelError, Secret, Serves,
};
use futures_util::StreamExt;
use nips::Audience;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

const KEY: &str = "sk-test-do-not-print";

/// What a server of a test does when it is called.
#[derive(Clone, Copy)]
enum Act {
    Stream(&'static str),
    Plain(&'static str),
    Refuse(u16),
    StreamThenDie,
    Empty,
    Strays,
    Garbage,
    Hang,
    Endless,
}

struct Server {
    act: Act,
    calls: AtomicUsize,
    last_body: std::sync::Mutex<String>,
}

async fn answer(State(server): State<Arc<Server>>, headers: HeaderMap, body: String) -> Response {
    server.calls.fetch_add(1, Ordering::SeqCst);
    *server.last_body.lock().unwrap() = body;
    let key = headers.get("authorization").map(|v| v.to_str().unwrap_or_default().to_owned()).unwrap_or_default();
    let sse =
        |text: String| Response::builder().header("content-type", "text/event-stream").body(Body::from(text)).unwrap();
    let chunk = |text: &str| {
        format!(
            "data: {}\n\n",
            serde_json::json!({"choices":[{"delta":{"content":text,"reasoning_content":"secret"}}]})
        )
    };
    match server.act {
        Act::Stream(text) => {
            let mut out: String = text.split_inclusive(' ').map(chunk).collect();
            out.push_str("data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: {\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":3}}\n\ndata: [DONE]\n\n");
            sse(out)
        }
        Act::Plain(text) => {
            let body = serde_json::json!({"choices":[{"message":{"role":"assistant","content":text},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":2}});
            Response::builder().header("content-type", "application/json").body(Body::from(body.to_string())).unwrap()
        }
        Act::Refuse(code) => Response::builder()
            .status(code)
            .body(Body::from(format!("{{\"error\":{{\"message\":\"bad: {key}\"}}}}")))
            .unwrap(),
        Act::StreamThenDie => sse(chunk("half an ")),
        Act::Empty => {
            sse("data: {\"choices\":[{\"delta\":{\"content\":\" \"},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n"
                .into())
        }
        Act::Strays => {
            let call = serde_json::json!([{"index": 0, "id": "c", "function": {"name": "rm", "arguments": "{}"}}]);
            let chunk = serde_json::json!({"choices":[{"delta":{"tool_calls":call},"finish_reason":"tool_calls"}]});
            sse(format!("data: {chunk}\n\ndata: [DONE]\n\n"))
        }
        Act::Garbage => sse("data: {nonsense\n\n".into()),
        Act::Hang => std::future::pending().await,
        Act::Endless => {
            let part = chunk(&"x".repeat(60_000));
            let forever = futures_util::stream::repeat(part).map(Ok::<_, std::convert::Infallible>);
            Response::builder().header("content-type", "text/event-stream").body(Body::from_stream(forever)).unwrap()
        }
    }
}

async fn serve(act: Act) -> (Arc<Server>, String) {
    let server = Arc::new(Server { act, calls: AtomicUsize::new(0), last_body: std::sync::Mutex::default() });
    let status = if matches!(act, Act::Refuse(500)) { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::OK };
    let app = Router::new()
        .route("/v1/chat/completions", post(answer))
        .route("/v1/models", get(move || async move { (status, "{\"data\":[]}") }))
        .with_state(Arc::clone(&server));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    #[allow(clippy::disallowed_methods, reason = "ends with the test's runtime")]
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    (server, url)
}

fn config(name: &str, url: &str, serves: Serves) -> ModelConfig {
    ModelConfig {
        name: name.into(),
        api: Api::OpenAi,
        base_url: url.parse().unwrap(),
        model: "test".into(),
        api_key: Some(Secret::new(KEY)),
        timeout: Duration::from_secs(60),
        serves,
        sees_memory: false,
        sees_pictures: false,
        stranger_tokens_per_day: 10_000,
        context_tokens: None,
    }
}

#[derive(Default)]
struct TestClock(AtomicU64);

impl Clock for TestClock {
    fn monotonic(&self) -> Duration {
        Duration::from_secs(self.0.load(Ordering::SeqCst))
    }
    fn unix_s(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

struct Set {
    chain: Chain,
    budget: Arc<MemoryBudget>,
    clock: Arc<TestClock>,
}

fn set(models: Vec<ModelConfig>) -> Set {
    let (budget, clock) = (Arc::new(MemoryBudget::default()), Arc::new(TestClock::default()));
    let chain = Chain::new(models, Arc::clone(&budget) as _, Arc::clone(&clock) as _).unwrap();
    Set { chain, budget, clock }
}

async fn ask(chain: &Chain, audience: Audience) -> Result<bots::Completion, ChainError> {
    chain.complete(&ChatRequest::new("be kind", "hello"), audience, None, &CancellationToken::new()).await
}

async fn ask_with_deltas(chain: &Chain) -> (Result<bots::Completion, ChainError>, Vec<Delta>) {
    let (sender, mut receiver) = mpsc::channel(1000);
    let request = ChatRequest::new("be kind", "hello");
    let result = chain.complete(&request, Audience::Owner, Some(&sender), &CancellationToken::new()).await;
    drop(sender);
    let mut deltas = Vec::new();
    while let Some(delta) = receiver.recv().await {
        deltas.push(delta);
    }
    (result, deltas)
}

#[tokio::test]
async fn a_stream_comes_through_piece_by_piece_without_its_reasoning() {
    let (_, url) = serve(Act::Stream("good morning to you")).await;
    let set = set(vec![config("a", &url, Serves::Owner)]);
    let (result, deltas) = ask_with_deltas(&set.chain).await;
    let done = result.unwrap();
    assert_eq!((done.text.as_str(), done.model_name.as_str(), done.usage.total()), ("good morning to you", "a", 10));
    assert_eq!(deltas.len(), 4);
    assert!(!format!("{deltas:?}").contains("secret"));
}

#[tokio::test]
async fn a_server_that_ignores_stream_is_understood() {
    let (_, url) = serve(Act::Plain("<think>hm</think>plain text")).await;
    let set = set(vec![config("a", &url, Serves::Owner)]);
    assert_eq!(ask(&set.chain, Audience::Owner).await.unwrap().text, "plain text");
}

#[tokio::test]
async fn a_stranger_never_reaches_a_model_that_does_not_serve_anyone() {
    let (owners, owners_url) = serve(Act::Stream("x")).await;
    let (peoples, peoples_url) = serve(Act::Stream("x")).await;
    let set = set(vec![config("o", &owners_url, Serves::Owner), config("p", &peoples_url, Serves::People)]);
    set.chain.probe().await;
    assert_eq!(ask(&set.chain, Audience::Stranger).await, Err(ChainError::NoModel));
    assert!(!set.chain.can_serve(Audience::Stranger));
    assert!(set.chain.can_serve(Audience::Member));
    assert_eq!(owners.calls.load(Ordering::SeqCst) + peoples.calls.load(Ordering::SeqCst), 0);
    ask(&set.chain, Audience::Member).await.unwrap();
    assert_eq!((owners.calls.load(Ordering::SeqCst), peoples.calls.load(Ordering::SeqCst)), (0, 1));
}

#[tokio::test]
async fn memories_go_only_where_they_may_be_seen() {
    let (server, url) = serve(Act::Stream("x")).await;
    let set = set(vec![config("a", &url, Serves::Anyone)]);
    let request = ChatRequest { carries_memory: true, ..ChatRequest::new("s", "u") };
    let result = set.chain.complete(&request, Audience::Owner, None, &CancellationToken::new()).await;
    assert_eq!(result, Err(ChainError::NoModel));
    assert_eq!(server.calls.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn strangers_are_capped_and_pay_from_the_budget_of_the_day() {
    let (server, url) = serve(Act::Stream("fine")).await;
    let mut model = config("a", &url, Serves::Anyone);
    model.stranger_tokens_per_day = 1100;
    let set = set(vec![model]);
    let request = ChatRequest { max_tokens: Some(1_000_000), ..ChatRequest::new("s", "u") };
    let token = CancellationToken::new();
    set.chain.complete(&request, Audience::Stranger, None, &token).await.unwrap();
    assert!(server.last_body.lock().unwrap().contains("\"max_tokens\":1024"));
    assert_eq!(set.budget.used("a", 0), 10, "settled to what the server said");
    assert!(set.budget.reserve("a", 0, 900, 1100));
    assert_eq!(set.chain.complete(&request, Audience::Stranger, None, &token).await, Err(ChainError::BudgetSpent));
    assert_eq!(server.calls.load(Ordering::SeqCst), 1, "nothing is called on credit");
    set.chain.complete(&request, Audience::Owner, None, &token).await.unwrap();
    let long = ChatRequest::new("s", &"x".repeat(100_000));
    assert_eq!(set.chain.complete(&long, Audience::Stranger, None, &token).await, Err(ChainError::TooLong));
    set.chain.probe().await;
    assert!(!set.chain.can_serve(Audience::Stranger), "too little is left");
    set.clock.0.store(86_400, Ordering::SeqCst);
    assert!(set.chain.can_serve(Audience::Stranger), "a new day");
}

#[tokio::test]
async fn a_model_that_dies_in_the_middle_is_followed_by_a_restart() {
    let (_, bad) = serve(Act::StreamThenDie).await;
    let (_, good) = serve(Act::Stream("whole answer")).await;
    let set = set(vec![config("bad", &bad, Serves::Owner), config("good", &good, Serves::Owner)]);
    let (result, deltas) = ask_with_deltas(&set.chain).await;
    assert_eq!(result.unwrap().model_name, "good");
    assert_eq!(deltas[..2], [Delta::Text("half an ".into()), Delta::Restart]);
}

#[tokio::test]
async fn failures_of_all_sorts_lead_to_the_next_model_and_show_no_key() {
    for act in
        [Act::Refuse(500), Act::Refuse(401), Act::Refuse(400), Act::Refuse(302), Act::Empty, Act::Garbage, Act::Endless]
    {
        let (_, bad) = serve(act).await;
        let (_, good) = serve(Act::Plain("ok")).await;
        let pair = set(vec![config("bad", &bad, Serves::Owner), config("good", &good, Serves::Owner)]);
        assert_eq!(ask(&pair.chain, Audience::Owner).await.unwrap().model_name, "good");
        let alone = set(vec![config("bad", &bad, Serves::Owner)]);
        let error = ask(&alone.chain, Audience::Owner).await.unwrap_err();
        assert!(matches!(error, ChainError::AllFailed(_)));
        assert!(!format!("{error} {error:?} {:?}", alone.chain.states()).contains(KEY));
    }
}

#[tokio::test]
async fn three_failures_open_the_breaker_and_time_closes_it() {
    let (server, url) = serve(Act::Refuse(500)).await;
    let set = set(vec![config("a", &url, Serves::Owner)]);
    for _ in 0..3 {
        ask(&set.chain, Audience::Owner).await.unwrap_err();
    }
    assert_eq!(ask(&set.chain, Audience::Owner).await, Err(ChainError::AllResting));
    assert_eq!(server.calls.load(Ordering::SeqCst), 3);
    assert_eq!(set.chain.states()[0].breaker, BreakerState::Open { until: Duration::from_secs(30) });
    set.clock.0.store(30, Ordering::SeqCst);
    ask(&set.chain, Audience::Owner).await.unwrap_err();
    assert_eq!(server.calls.load(Ordering::SeqCst), 4);
    assert_eq!(Breaker::default().state(), BreakerState::Closed);
}

#[tokio::test]
async fn requests_that_are_at_fault_do_not_shut_a_model_for_others() {
    let (server, url) = serve(Act::Refuse(400)).await;
    let set = set(vec![config("a", &url, Serves::Anyone)]);
    for _ in 0..5 {
        ask(&set.chain, Audience::Stranger).await.unwrap_err();
    }
    assert_eq!(set.chain.states()[0].breaker, BreakerState::Closed);
    assert_eq!(server.calls.load(Ordering::SeqCst), 10, "once more without the uncommon field, each");
    assert_eq!(set.budget.used("a", 0), 0);
}

#[tokio::test]
async fn calls_that_nobody_offered_are_no_answer_and_do_not_shut_the_model() {
    let ((server, strays), (_, honest)) = (serve(Act::Strays).await, serve(Act::Stream("hello")).await);
    let set = set(vec![config("a", &strays, Serves::Anyone), config("b", &honest, Serves::Anyone)]);
    for _ in 0..5 {
        let done = ask(&set.chain, Audience::Stranger).await.unwrap();
        assert_eq!((done.text.as_str(), done.model_name.as_str(), done.calls.len()), ("hello", "b", 0));
    }
    assert_eq!((set.chain.states()[0].breaker, server.calls.load(Ordering::SeqCst)), (BreakerState::Closed, 5));
}

#[tokio::test]
async fn a_silent_model_is_left_in_time() {
    let (_, url) = serve(Act::Hang).await;
    let mut model = config("a", &url, Serves::Owner);
    model.timeout = Duration::from_millis(50);
    let set = set(vec![model]);
    let Err(ChainError::AllFailed(causes)) = ask(&set.chain, Audience::Owner).await else { panic!("must fail") };
    assert_eq!(causes[0].1, ModelError::TimedOut("first word"));
}

#[tokio::test]
async fn a_cancelled_call_ends_and_blames_nobody() {
    let (server, url) = serve(Act::Hang).await;
    let set = Arc::new(set(vec![config("a", &url, Serves::Owner)]));
    let cancel = CancellationToken::new();
    let request = ChatRequest::new("s", "u");
    let call = set.chain.complete(&request, Audience::Owner, None, &cancel);
    let stop = async {
        while server.calls.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        cancel.cancel();
    };
    let (result, ()) = tokio::join!(call, stop);
    assert_eq!(result, Err(ChainError::Cancelled));
    assert_eq!(set.chain.states()[0].breaker, BreakerState::Closed);
}

#[tokio::test]
async fn health_follows_the_probe() {
    let (_, url) = serve(Act::Plain("x")).await;
    let (_, sick) = serve(Act::Refuse(500)).await;
    let set = set(vec![
        config("well", &url, Serves::Anyone),
        config("sick", &sick, Serves::Owner),
        config("gone", "http://127.0.0.1:1/v1", Serves::Owner),
    ]);
    assert!(!set.chain.can_serve(Audience::Owner), "not before it was seen");
    set.chain.probe().await;
    let reachable: Vec<_> = set.chain.states().into_iter().map(|s| s.reachable).collect();
    assert_eq!(reachable, [Some(true), Some(false), Some(false)]);
    assert!(set.chain.can_serve(Audience::Stranger));
}
