//! The guarded fetch against servers and resolvers that mean harm.

#![allow(clippy::unwrap_used, reason = "a test that cannot set its scene should fail")]

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::response::{Redirect, Response};
use axum::routing::get;
use bots::fetch::{FetchError, FetchLimits, Fetcher, Kind, Resolver};
use futures_util::StreamExt;
use nips::guard::Refusal;

/// Answers `answers[0]` first, then the next, and the last one for ever.
struct Fixed {
    answers: Vec<Vec<SocketAddr>>,
    asked: AtomicUsize,
}

impl Fixed {
    fn new(answers: Vec<Vec<SocketAddr>>) -> Arc<Self> {
        Arc::new(Self { answers, asked: AtomicUsize::new(0) })
    }
}

#[async_trait]
impl Resolver for Fixed {
    async fn resolve(&self, _: &str, _: u16) -> std::io::Result<Vec<SocketAddr>> {
        let n = self.asked.fetch_add(1, Ordering::SeqCst);
        Ok(self.answers[n.min(self.answers.len() - 1)].clone())
    }
}

fn page(mime: &str, body: impl Into<Body>) -> Response {
    Response::builder().header("content-type", mime).body(body.into()).unwrap()
}

fn bomb() -> Response {
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    for _ in 0..64 {
        gz.write_all(&vec![b'a'; 1 << 20]).unwrap();
    }
    let mut response = page("text/plain", gz.finish().unwrap());
    response.headers_mut().insert("content-encoding", "gzip".parse().unwrap());
    response
}

fn forever(piece: &'static str) -> Body {
    Body::from_stream(futures_util::stream::repeat(piece).map(Ok::<_, std::convert::Infallible>))
}

fn drip() -> Body {
    let start = futures_util::stream::once(async { Ok::<_, std::convert::Infallible>("slow") });
    Body::from_stream(start.chain(futures_util::stream::pending()))
}

/// Serves the pages of the tests; counts calls.
async fn serve() -> (SocketAddr, Arc<AtomicUsize>) {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let app = Router::new()
        .route("/html", get(|| async { page("text/html; charset=iso-8859-1", &b"<p>caf\xe9</p>"[..]) }))
        .route("/png", get(|| async { page("image/png", "x") }))
        .route(
            "/br",
            get(|| async {
                let mut r = page("text/plain", "x");
                r.headers_mut().insert("content-encoding", "br".parse().unwrap());
                r
            }),
        )
        .route("/bomb", get(|| async { bomb() }))
        .route("/endless", get(|| async { page("text/plain", forever("more and more and more ")) }))
        .route("/slow", get(|| async { page("text/plain", drip()) }))
        .route("/to-loopback", get(|| async { Redirect::temporary("http://127.0.0.1:1/secret") }))
        .route("/to-v6", get(|| async { Redirect::temporary("http://[::ffff:169.254.169.254]/latest") }))
        .route("/to-file", get(|| async { Redirect::temporary("file:///etc/passwd") }))
        .route("/to-name", get(|| async { Redirect::temporary("http://rebind.example/html") }))
        .route("/loop", get(|| async { Redirect::temporary("/loop") }))
        .route("/to-html", get(|| async { Redirect::permanent("/html") }))
        .layer(axum::middleware::map_request(move |request: axum::extract::Request| {
            counted.fetch_add(1, Ordering::SeqCst);
            async move { request }
        }));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    #[allow(clippy::disallowed_methods, reason = "ends with the test's runtime")]
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    (address, calls)
}

fn limits(total: Duration) -> FetchLimits {
    FetchLimits { total, ..FetchLimits::default() }
}

/// A fetcher that may reach `address`, and no other address that is not public.
fn allowed(address: SocketAddr, total: Duration) -> Fetcher {
    Fetcher::new(Fixed::new(vec![vec![]]), limits(total), vec![("127.0.0.1".into(), address.port())])
}

const LONG: Duration = Duration::from_secs(120);

#[tokio::test]
async fn pages_are_read_with_their_character_set_and_through_redirects() {
    let (address, _) = serve().await;
    let page = allowed(address, LONG).get(&format!("http://{address}/to-html")).await.unwrap();
    assert_eq!((page.text.as_str(), page.kind, page.url.path()), ("<p>café</p>", Kind::Html, "/html"));
}

#[tokio::test]
async fn addresses_that_are_not_public_are_never_dialled() {
    let (address, calls) = serve().await;
    let port = address.port();
    let fetcher = Fetcher::new(Fixed::new(vec![vec![address]]), limits(LONG), Vec::new());
    for host in [
        "127.0.0.1",
        "localhost",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "10.0.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "2130706433",
        "[64:ff9b::7f00:1]",
        "named.example",
    ] {
        let error = fetcher.get(&format!("http://{host}:{port}/html")).await.unwrap_err();
        assert!(matches!(error, FetchError::Refused(Refusal::NotPublic(_))), "{host}: {error}");
    }
    assert!(matches!(fetcher.get("ftp://example.com/").await, Err(FetchError::Refused(Refusal::Scheme(_)))));
    assert!(matches!(fetcher.get("http://u:p@example.com/").await, Err(FetchError::Refused(Refusal::Credentials))));
    assert_eq!(fetcher.get("http://example.com:25/").await, Err(FetchError::Port(25)));
    assert_eq!(calls.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn of_mixed_answers_only_the_public_ones_are_used() {
    let (address, calls) = serve().await;
    // 192.0.2.0/24 and the like are not public either, so all that is left is refused.
    let answers = vec![address, "192.0.2.1:80".parse().unwrap(), "[fe80::1]:80".parse().unwrap()];
    let fetcher = Fetcher::new(Fixed::new(vec![answers]), limits(LONG), Vec::new());
    assert!(matches!(fetcher.get("http://mixed.example/html").await, Err(FetchError::Refused(_))));
    assert_eq!(calls.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_name_that_means_this_machine_at_its_second_lookup_is_refused() {
    let (address, calls) = serve().await;
    // At the first hop the name is exempt (it stands for a public server); the redirect leads to the same name, judged anew.
    let resolver = Fixed::new(vec![vec![address], vec![SocketAddr::from(([127, 0, 0, 1], 80))]]);
    let allow = vec![("rebind.example".into(), address.port())];
    let fetcher = Fetcher::new(Arc::clone(&resolver) as _, limits(LONG), allow);
    let error = fetcher.get(&format!("http://rebind.example:{}/to-name", address.port())).await.unwrap_err();
    assert!(matches!(error, FetchError::Refused(Refusal::NotPublic(_))), "{error}");
    assert_eq!((resolver.asked.load(Ordering::SeqCst), calls.load(Ordering::SeqCst)), (2, 1), "one lookup a hop");
}

#[tokio::test]
async fn redirects_are_judged_like_first_addresses() {
    let (address, _) = serve().await;
    let fetcher = allowed(address, LONG);
    let get = |path: &'static str| fetcher.get(format!("http://{address}{path}").leak());
    assert!(matches!(get("/to-loopback").await, Err(FetchError::Refused(Refusal::NotPublic(_)))));
    assert!(matches!(get("/to-v6").await, Err(FetchError::Refused(Refusal::NotPublic(_)))));
    assert!(matches!(get("/to-file").await, Err(FetchError::Refused(Refusal::Scheme(_)))));
    assert_eq!(get("/loop").await, Err(FetchError::TooManyRedirects(5)));
    assert_eq!(get("/nothing").await, Err(FetchError::Status(404)));
}

#[tokio::test]
async fn bombs_and_endless_bodies_are_cut() {
    let (address, _) = serve().await;
    let fetcher = allowed(address, LONG);
    for path in ["bomb", "endless"] {
        assert_eq!(fetcher.get(&format!("http://{address}/{path}")).await, Err(FetchError::TooLarge(5 * 1024 * 1024)));
    }
    assert!(matches!(fetcher.get(&format!("http://{address}/png")).await, Err(FetchError::Type(_))));
    assert!(matches!(fetcher.get(&format!("http://{address}/br")).await, Err(FetchError::Encoding(_))));
}

#[tokio::test]
async fn slow_bodies_are_left_in_time() {
    let (address, _) = serve().await;
    let result = allowed(address, Duration::from_millis(200)).get(&format!("http://{address}/slow")).await;
    assert_eq!(result, Err(FetchError::TimedOut(0)));
}
