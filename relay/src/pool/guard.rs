//! Which addresses are dialled, and the dialling itself.
//!
//! A relay that a stranger named is resolved once for each connect; every resolved address is judged, and the socket is
//! opened to the judged address. DNS cannot give another answer in between, and there is nothing that follows redirects.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use nostr::RelayUrl;
use nostr::util::BoxedFuture;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{Connector, MaybeTlsStream, WebSocketStream, client_async_tls_with_config};
use url::{Host, Url};

use super::Role;

/// Turns names into addresses.
pub trait Resolver: Send + Sync {
    /// Gives every address of `host`.
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> BoxedFuture<'a, io::Result<Vec<SocketAddr>>>;
}

/// The resolver of the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemResolver;

impl Resolver for SystemResolver {
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> BoxedFuture<'a, io::Result<Vec<SocketAddr>>> {
        Box::pin(async move { Ok(tokio::net::lookup_host((host, port)).await?.collect()) })
    }
}

/// Says which addresses may be dialled for a relay that a stranger named.
pub trait DialPolicy: Send + Sync {
    /// True when `ip` may be dialled.
    fn allows(&self, ip: IpAddr) -> bool;
}

/// Allows public addresses only ([`nips::guard::is_public`]).
#[derive(Debug, Clone, Copy, Default)]
pub struct PublicOnly;

impl DialPolicy for PublicOnly {
    fn allows(&self, ip: IpAddr) -> bool {
        nips::guard::is_public(ip)
    }
}

/// Why a connect did not come about.
#[derive(Debug, thiserror::Error)]
pub(super) enum DialError {
    #[error("the address is not dialled: {0}")]
    Refused(#[from] nips::guard::Refusal),
    #[error("{host} leads to no address that may be dialled")]
    NoPublicAddress { host: String },
    #[error("cannot find the address of {host}: {reason}")]
    Resolve { host: String, reason: io::Error },
    #[error("cannot connect to {address}: {reason}")]
    Connect { address: SocketAddr, reason: io::Error },
    #[error("the WebSocket handshake failed: {0}")]
    Handshake(String),
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    #[error("TLS cannot be used: {0}")]
    Tls(String),
}

pub(super) type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Everything a dial needs besides the address.
pub(super) struct Dialer {
    pub(super) resolver: Arc<dyn Resolver>,
    pub(super) policy: Arc<dyn DialPolicy>,
    pub(super) tls: Result<Arc<rustls::ClientConfig>, String>,
    pub(super) timeout: Duration,
    /// Above this many bytes a message ends the connection.
    pub(super) frame_bytes_max: usize,
}

/// Makes ring the process's TLS provider: libp2p brings another one, and who does not choose between two panics (remote signers' client).
pub fn choose_tls_provider() {
    // An error says that one was chosen before.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Makes the TLS configuration: ring, Mozilla's roots. The provider is named, because two providers in one binary leave
/// rustls without a default.
pub(super) fn tls_config() -> Result<Arc<rustls::ClientConfig>, String> {
    let roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

impl Dialer {
    /// Connects, within the time-out for all steps together.
    pub(super) async fn dial(&self, relay: &RelayUrl, role: Role) -> Result<Socket, DialError> {
        match tokio::time::timeout(self.timeout, self.dial_unbounded(relay, role)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(DialError::TimedOut(self.timeout)),
        }
    }

    async fn dial_unbounded(&self, relay: &RelayUrl, role: Role) -> Result<Socket, DialError> {
        let mut url: Url = relay.clone().into();
        url.set_fragment(None);
        let addresses = self.addresses(&url, role).await?;
        let stream = connect_first(&addresses).await?;
        // Requests are small and answers are waited for.
        stream.set_nodelay(true).map_err(|e| DialError::Handshake(e.to_string()))?;
        let connector = match url.scheme() {
            "wss" => Connector::Rustls(self.tls.clone().map_err(DialError::Tls)?),
            _ => Connector::Plain,
        };
        let limits = WebSocketConfig::default()
            .read_buffer_size(16 * 1024)
            .write_buffer_size(0)
            .max_message_size(Some(self.frame_bytes_max))
            .max_frame_size(Some(self.frame_bytes_max));
        let (socket, _) = client_async_tls_with_config(url.as_str(), stream, Some(limits), Some(connector))
            .await
            .map_err(|e| DialError::Handshake(super::wire::clip(e.to_string())))?;
        Ok(socket)
    }

    /// Resolves the URL's host and leaves out what this role may not reach.
    pub(super) async fn addresses(&self, url: &Url, role: Role) -> Result<Vec<SocketAddr>, DialError> {
        if role == Role::Hinted {
            nips::guard::check_url(url.as_str(), &["ws", "wss"])?;
        }
        let host = url.host_str().unwrap_or_default().to_owned();
        let port = url.port_or_known_default().unwrap_or(443);
        let mut found = match url.host() {
            Some(Host::Ipv4(ip)) => vec![SocketAddr::new(ip.into(), port)],
            Some(Host::Ipv6(ip)) => vec![SocketAddr::new(ip.into(), port)],
            Some(Host::Domain(name)) => self
                .resolver
                .resolve(name, port)
                .await
                .map_err(|reason| DialError::Resolve { host: host.clone(), reason })?,
            None => Vec::new(),
        };
        if role == Role::Hinted {
            found.retain(|address| self.policy.allows(address.ip()));
        }
        if found.is_empty() { Err(DialError::NoPublicAddress { host }) } else { Ok(found) }
    }
}

/// At most this many addresses of one name are tried in one connect.
const ADDRESSES_TRIED_MAX: usize = 4;

/// How long one address of several may take before the next one is tried.
const ADDRESS_TIMEOUT: Duration = Duration::from_secs(4);

async fn connect_first(addresses: &[SocketAddr]) -> Result<TcpStream, DialError> {
    let mut last = DialError::TimedOut(ADDRESS_TIMEOUT);
    for &address in addresses.iter().take(ADDRESSES_TRIED_MAX) {
        match tokio::time::timeout(ADDRESS_TIMEOUT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(reason)) => last = DialError::Connect { address, reason },
            Err(_) => last = DialError::TimedOut(ADDRESS_TIMEOUT),
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Gives its answers one after the other.
    struct Answers(Mutex<Vec<Vec<&'static str>>>);

    impl Resolver for Answers {
        fn resolve<'a>(&'a self, _: &'a str, port: u16) -> BoxedFuture<'a, io::Result<Vec<SocketAddr>>> {
            let answer = self.0.lock().unwrap().remove(0);
            Box::pin(async move { Ok(answer.iter().map(|ip| SocketAddr::new(ip.parse().unwrap(), port)).collect()) })
        }
    }

    fn dialer(answers: &[&[&'static str]]) -> Dialer {
        Dialer {
            resolver: Arc::new(Answers(Mutex::new(answers.iter().map(|a| a.to_vec()).collect()))),
            policy: Arc::new(PublicOnly),
            tls: tls_config(),
            timeout: Duration::from_secs(5),
            frame_bytes_max: 1 << 20,
        }
    }

    async fn hinted(dialer: &Dialer, url: &str) -> Result<Vec<SocketAddr>, DialError> {
        dialer.addresses(&Url::parse(url).unwrap(), Role::Hinted).await
    }

    #[test]
    fn tls_is_there() {
        assert!(tls_config().is_ok());
    }

    #[tokio::test]
    async fn literal_private_addresses_are_refused_without_a_lookup() {
        let dialer = dialer(&[]);
        for url in [
            "ws://127.0.0.1:7777",
            "ws://10.0.0.1",
            "ws://192.168.1.1",
            "ws://169.254.169.254",
            "ws://[::1]:80",
            "ws://[::ffff:127.0.0.1]",
            "ws://[::ffff:7f00:1]",
            "ws://[64:ff9b::7f00:1]",
            "ws://[fe80::1]",
            "wss://localhost",
            "wss://printer.local",
            "http://example.com",
            "ws://user:pw@example.com",
        ] {
            assert!(matches!(hinted(&dialer, url).await, Err(DialError::Refused(_))), "{url}");
        }
    }

    #[tokio::test]
    async fn resolved_private_addresses_are_left_out() {
        for ip in ["127.0.0.1", "10.1.2.3", "169.254.1.1", "::1", "::ffff:10.0.0.1", "fd00::1", "64:ff9b::a00:1"] {
            let dialer = dialer(&[&[ip]]);
            assert!(
                matches!(hinted(&dialer, "wss://relay.example").await, Err(DialError::NoPublicAddress { .. })),
                "{ip}"
            );
        }
        let mixed = dialer(&[&["10.0.0.1", "1.1.1.1", "::1"]]);
        let left = hinted(&mixed, "wss://relay.example").await.unwrap();
        assert_eq!(left, vec!["1.1.1.1:443".parse().unwrap()]);
    }

    #[tokio::test]
    async fn an_answer_that_changes_is_judged_again() {
        let dialer = dialer(&[&["1.1.1.1"], &["127.0.0.1"]]);
        assert!(hinted(&dialer, "ws://relay.example").await.is_ok());
        assert!(matches!(hinted(&dialer, "ws://relay.example").await, Err(DialError::NoPublicAddress { .. })));
    }

    #[tokio::test]
    async fn configured_relays_may_be_private() {
        let dialer = dialer(&[&["192.168.1.5"]]);
        let url = |text| Url::parse(text).unwrap();
        assert!(dialer.addresses(&url("ws://127.0.0.1:7777"), Role::Configured).await.is_ok());
        assert!(dialer.addresses(&url("ws://nas.lan"), Role::Configured).await.is_ok());
    }
}
