//! Model servers that run on this machine, found by their usual ports: Ollama, llama.cpp, LM Studio, vLLM.

use std::time::Duration;

use futures_util::future::join_all;
use serde::Deserialize;
use url::Url;

/// Name and address of each.
pub const USUAL: [(&str, &str); 4] = [
    ("ollama", "http://127.0.0.1:11434/v1"),
    ("llama.cpp", "http://127.0.0.1:8080/v1"),
    ("lm-studio", "http://127.0.0.1:1234/v1"),
    ("vllm", "http://127.0.0.1:8000/v1"),
];
/// How long one may take to say what it has: it is on this machine, and the node's start waits for it.
const LOOK: Duration = Duration::from_millis(200);
/// The most bytes read of a list.
const LIST_BYTES_MAX: usize = 256 * 1024;

/// A server that was found, with the first model that it names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// What it is called.
    pub name: String,
    /// Where it is.
    pub base_url: Url,
    /// The model.
    pub model: String,
}

#[derive(Deserialize)]
struct List {
    data: Vec<Named>,
}

#[derive(Deserialize)]
struct Named {
    id: String,
}

/// Asks those of `places` (name and address) that are not `known` yet, all at once. What does not answer like a model server is none.
pub async fn find(places: &[(&str, &str)], known: &[Url]) -> Vec<Found> {
    let Ok(client) = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build() else {
        return vec![];
    };
    let asked = places.iter().filter_map(|(name, address)| {
        let url: Url = address.parse().ok()?;
        let same = |other: &Url| {
            other.host_str() == url.host_str() && other.port_or_known_default() == url.port_or_known_default()
        };
        (!known.iter().any(same)).then(|| look(&client, name, url))
    });
    join_all(asked).await.into_iter().flatten().collect()
}

async fn look(client: &reqwest::Client, name: &str, base_url: Url) -> Option<Found> {
    let list = tokio::time::timeout(LOOK, list(client, &base_url)).await.ok()??;
    // Models that only make vectors cannot talk.
    let model = list.data.into_iter().map(|one| one.id).find(|id| !id.contains("embed"))?;
    Some(Found { name: name.to_owned(), base_url, model })
}

async fn list(client: &reqwest::Client, base_url: &Url) -> Option<List> {
    let url = format!("{}/models", base_url.as_str().trim_end_matches('/'));
    let mut response = client.get(url).send().await.ok()?.error_for_status().ok()?;
    let mut body = Vec::new();
    while let Some(bytes) = response.chunk().await.ok()? {
        body.extend_from_slice(&bytes);
        if body.len() > LIST_BYTES_MAX {
            return None;
        }
    }
    serde_json::from_slice(&body).ok()
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::routing::get;
    use tokio::task::JoinSet;

    use super::*;

    async fn serve(servers: &mut JoinSet<std::io::Result<()>>, body: &'static str) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let routes = Router::new().route("/v1/models", get(async move || body));
        servers.spawn(async move { axum::serve(listener, routes).await });
        format!("http://{address}/v1")
    }

    #[tokio::test]
    async fn what_answers_like_a_model_server_is_found_and_what_is_configured_is_not_found_again() {
        let mut servers = JoinSet::new();
        let models = serve(&mut servers, r#"{"data":[{"id":"nomic-embed-text"},{"id":"llama3.1:8b"}]}"#).await;
        let other = serve(&mut servers, "<html>a web page</html>").await;
        let empty = serve(&mut servers, r#"{"data":[]}"#).await;
        let places = [("a", models.as_str()), ("b", &other), ("c", &empty), ("d", "http://127.0.0.1:9/v1")];
        let found = find(&places, &[]).await;
        assert_eq!(found.iter().map(|f| (&*f.name, &*f.model)).collect::<Vec<_>>(), [("a", "llama3.1:8b")]);
        assert!(find(&places, &[models.parse().unwrap()]).await.is_empty());
    }
}
