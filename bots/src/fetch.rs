//! A GET for addresses that strangers name (DESIGN §4, the address guard).
//!
//! Each hop (the first URL and each redirect) goes the same way: the URL is judged, its name is resolved *once*, every
//! address that is not public is dropped, and only the addresses left over are dialled. So what is dialled is what was
//! checked, whatever DNS says a moment later. No proxy of the environment is used, and no connection is kept.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use nips::guard::{Refusal, check_url, is_public};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Client, Response, header};
use url::{Host, Url};

mod body;

pub use body::Kind;
pub(crate) use body::decoded;

/// The schemes that are fetched.
const SCHEMES: [&str; 2] = ["http", "https"];
/// The most addresses of one name that are tried.
const ADDRESSES_MAX: usize = 8;
/// The longest URL taken.
const URL_BYTES_MAX: usize = 4096;
const USER_AGENT: &str = concat!("timmy/", env!("CARGO_PKG_VERSION"));
const ACCEPT: &str =
    "text/html, application/xhtml+xml, text/plain, text/*;q=0.9, application/json, application/xml;q=0.8";

/// The bounds of one fetch.
#[derive(Debug, Clone, Copy)]
pub struct FetchLimits {
    /// The most bytes of a body, after decompression.
    pub bytes_max: usize,
    /// The longest time, redirects and body included.
    pub total: Duration,
    /// The most redirects that are followed.
    pub redirects_max: usize,
}

impl Default for FetchLimits {
    fn default() -> Self {
        Self { bytes_max: 5 * 1024 * 1024, total: Duration::from_secs(20), redirects_max: 5 }
    }
}

/// Why nothing was fetched. The texts are fit for the customer of a job.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// The address is not one that a stranger may name.
    #[error("this address is not fetched: {0}")]
    Refused(#[from] Refusal),
    /// A port below 1024 that is not the web's.
    #[error("this address is not fetched: port {0} is not a web port")]
    Port(u16),
    /// The name has no address.
    #[error("the name {0} cannot be resolved")]
    NoSuchName(String),
    /// No connection, or it broke.
    #[error("{host} cannot be fetched: {reason}")]
    Transport {
        /// The host asked.
        host: String,
        /// The innermost cause.
        reason: String,
    },
    /// An HTTP status that is no success.
    #[error("the server answered HTTP {0}")]
    Status(u16),
    /// A redirect without a usable target.
    #[error("the server redirects to nowhere")]
    BadRedirect,
    /// Too many redirects.
    #[error("the server redirects more than {0} times")]
    TooManyRedirects(usize),
    /// Not text.
    #[error("the content type {0} is not text")]
    Type(String),
    /// An encoding that was not asked for.
    #[error("the content encoding {0} is not understood")]
    Encoding(String),
    /// Too large.
    #[error("the page is larger than {0} bytes")]
    TooLarge(usize),
    /// Too slow.
    #[error("the page did not come within {0} s")]
    TimedOut(u64),
}

/// A fetched document as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The address after redirects.
    pub url: Url,
    /// What kind of text it is.
    pub kind: Kind,
    /// The text, decoded.
    pub text: String,
}

/// Turns names into addresses.
#[async_trait]
pub trait Resolver: Send + Sync {
    /// All addresses of `host`.
    async fn resolve(&self, host: &str, port: u16) -> std::io::Result<Vec<SocketAddr>>;
}

/// The resolver of the system.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemResolver;

#[async_trait]
impl Resolver for SystemResolver {
    async fn resolve(&self, host: &str, port: u16) -> std::io::Result<Vec<SocketAddr>> {
        Ok(tokio::net::lookup_host((host, port)).await?.collect())
    }
}

/// Fetches pages. Cheap to clone.
#[derive(Clone)]
pub struct Fetcher {
    resolver: Arc<dyn Resolver>,
    limits: FetchLimits,
    allow: Arc<[(String, u16)]>,
}

impl Default for Fetcher {
    fn default() -> Self {
        Self::new(Arc::new(SystemResolver), FetchLimits::default(), Vec::new())
    }
}

impl Fetcher {
    /// Makes a fetcher. `allow` lists host (as a URL writes it, lower-case) and port of what may be dialled though it is
    /// not public: the owner's own.
    pub fn new(resolver: Arc<dyn Resolver>, limits: FetchLimits, allow: Vec<(String, u16)>) -> Self {
        Self { resolver, limits, allow: allow.into() }
    }

    /// Judges an address without asking the network.
    pub fn check(&self, url: &str) -> Result<Url, FetchError> {
        if url.len() > URL_BYTES_MAX {
            return Err(Refusal::Malformed("too long".to_owned()).into());
        }
        if let Ok(parsed) = Url::parse(url.trim())
            && self.is_exempt(&parsed)
        {
            // The scheme and credentials of an exempt address are judged all the same.
            if !SCHEMES.contains(&parsed.scheme()) {
                return Err(Refusal::Scheme(parsed.scheme().to_owned()).into());
            }
            let bare = parsed.username().is_empty() && parsed.password().is_none();
            return if bare { Ok(parsed) } else { Err(Refusal::Credentials.into()) };
        }
        let parsed = check_url(url, &SCHEMES)?;
        let port = parsed.port_or_known_default().unwrap_or(0);
        // Lower ports speak mail, SSH and the like: an HTTP request there is somebody's trick.
        if port < 1024 && port != 80 && port != 443 { Err(FetchError::Port(port)) } else { Ok(parsed) }
    }

    fn is_exempt(&self, url: &Url) -> bool {
        let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else { return false };
        self.allow.iter().any(|(h, p)| h == host && *p == port)
    }

    /// Fetches `url` as text.
    pub async fn get(&self, url: &str) -> Result<Page, FetchError> {
        let seconds = self.limits.total.as_secs();
        tokio::time::timeout(self.limits.total, self.follow(url)).await.map_err(|_| FetchError::TimedOut(seconds))?
    }

    /// Fetches `url` as it is, of any type, at most `bytes_max` bytes.
    pub async fn get_bytes(&self, url: &str, bytes_max: usize) -> Result<Vec<u8>, FetchError> {
        let seconds = self.limits.total.as_secs();
        let fetched = async {
            let (response, url) = self.arrive(url).await?;
            body::bytes(response, &url, bytes_max).await
        };
        tokio::time::timeout(self.limits.total, fetched).await.map_err(|_| FetchError::TimedOut(seconds))?
    }

    async fn follow(&self, url: &str) -> Result<Page, FetchError> {
        let (response, url) = self.arrive(url).await?;
        body::read(response, url, self.limits.bytes_max).await
    }

    /// The response at the end of the redirects, and its address.
    async fn arrive(&self, url: &str) -> Result<(Response, Url), FetchError> {
        let mut url = self.check(url)?;
        for _ in 0..=self.limits.redirects_max {
            let response = self.hop(&url).await?;
            let status = response.status();
            if status.is_success() {
                return Ok((response, url));
            }
            if !status.is_redirection() {
                return Err(FetchError::Status(status.as_u16()));
            }
            url = self.target(&url, &response)?;
        }
        Err(FetchError::TooManyRedirects(self.limits.redirects_max))
    }

    /// Where a redirect leads, judged like the first address.
    fn target(&self, from: &Url, response: &Response) -> Result<Url, FetchError> {
        let location = response.headers().get(header::LOCATION).and_then(|v| v.to_str().ok());
        let joined = location.and_then(|l| from.join(l).ok()).ok_or(FetchError::BadRedirect)?;
        self.check(joined.as_str())
    }

    async fn hop(&self, url: &Url) -> Result<Response, FetchError> {
        let host = url.host_str().unwrap_or_default().to_owned();
        let addresses = self.addresses(url).await?;
        let client = Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(USER_AGENT)
            .pool_max_idle_per_host(0)
            .referer(false)
            .dns_resolver(Arc::new(Pinned(addresses)))
            .build()
            .map_err(|e| transport(&host, e))?;
        client.get(url.clone()).header(header::ACCEPT, ACCEPT).send().await.map_err(|e| transport(&host, e))
    }

    /// The addresses that may be dialled for `url`. A literal address was judged with the URL and needs none.
    async fn addresses(&self, url: &Url) -> Result<Vec<SocketAddr>, FetchError> {
        let Some(Host::Domain(name)) = url.host() else { return Ok(Vec::new()) };
        let port = url.port_or_known_default().unwrap_or(80);
        let no_name = || FetchError::NoSuchName(name.to_owned());
        let mut found = self.resolver.resolve(name, port).await.map_err(|_| no_name())?;
        if found.is_empty() {
            return Err(no_name());
        }
        if !self.is_exempt(url) {
            found.retain(|a| is_public(a.ip()));
        }
        found.truncate(ADDRESSES_MAX);
        if found.is_empty() { Err(Refusal::NotPublic(name.to_owned()).into()) } else { Ok(found) }
    }
}

/// Answers each question of the HTTP client with the addresses that were checked.
struct Pinned(Vec<SocketAddr>);

impl Resolve for Pinned {
    fn resolve(&self, _: Name) -> Resolving {
        let addresses: Addrs = Box::new(self.0.clone().into_iter());
        Box::pin(std::future::ready(Ok(addresses)))
    }
}

fn transport(host: &str, error: reqwest::Error) -> FetchError {
    let error = error.without_url();
    let mut cause: &dyn std::error::Error = &error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    FetchError::Transport { host: host.to_owned(), reason: cause.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Two;

    #[async_trait]
    impl Resolver for Two {
        async fn resolve(&self, _: &str, port: u16) -> std::io::Result<Vec<SocketAddr>> {
            let ips = ["127.0.0.1", "8.8.8.8", "::ffff:10.0.0.1", "fe80::1", "2606:4700::1111"];
            Ok(ips.iter().filter_map(|ip| Some(SocketAddr::new(ip.parse().ok()?, port))).collect())
        }
    }

    #[tokio::test]
    async fn of_mixed_answers_only_the_public_ones_are_dialled() {
        let fetcher = Fetcher::new(Arc::new(Two), FetchLimits::default(), Vec::new());
        let url = fetcher.check("https://mixed.example/").unwrap();
        let dialled: Vec<String> = fetcher.addresses(&url).await.unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(dialled, ["8.8.8.8:443", "[2606:4700::1111]:443"]);
        let pinned = Pinned(fetcher.addresses(&url).await.unwrap());
        let told = pinned.resolve("mixed.example".parse().unwrap()).await.unwrap();
        assert_eq!(told.count(), 2, "the client hears the checked addresses and asks nobody else");
    }
}
