//! A passport that lives in a remote signer (NIP-46, `bunker://`).
//!
//! The keys never come here: each signature and each decryption is a request over a relay. Every request has a time-out, and
//! what comes back is checked, because the signer is another program.
//!
//! The library below writes whole requests to its debug log, the bunker's secret among them. Its futures therefore run
//! without a log.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nostr::nips::nip46::NostrConnectURI;
use nostr::signer::SignerBackend;
use nostr::util::BoxedFuture;
use nostr::{Event, Keys, NostrSigner, PublicKey, SignerError, UnsignedEvent, Url};
use nostr_connect::client::{AuthUrlHandler, NostrConnect};
use tracing::instrument::WithSubscriber;
use tracing::subscriber::NoSubscriber;

/// Why a remote signer cannot be used. No text holds the bunker's secret.
#[derive(Debug, thiserror::Error)]
pub enum RemoteSignerError {
    /// The text is no `bunker://` address with at least one relay.
    #[error("this is not a bunker:// address with a relay in it; copy it again from the signer")]
    NotABunker,
    /// None of the address's relays could be reached.
    #[error("none of the signer's relays can be reached ({relays}); check the network, then the address")]
    Unreachable {
        /// The relays, separated by commas.
        relays: String,
    },
    /// The signer said no.
    #[error("the signer refused: {0}; ask it for a new bunker:// address, each works once")]
    Refused(String),
    /// The signer wants its user to approve in a browser first.
    #[error("the signer asks for approval at {0}; approve there, then start again")]
    ApprovalNeeded(Url),
    /// No answer in time.
    #[error("the signer gave no answer within {0:?}; check that it is running and online")]
    TimedOut(Duration),
}

/// A remote signer (NIP-46).
#[derive(Debug)]
pub struct RemoteSigner {
    client: NostrConnect,
    public_key: PublicKey,
    timeout: Duration,
}

/// Keeps the address at which the signer wants to be asked.
#[derive(Debug, Default)]
struct Approval(Mutex<Option<Url>>);

#[derive(Debug, Clone)]
struct ApprovalHandler(Arc<Approval>);

impl AuthUrlHandler for ApprovalHandler {
    fn on_auth_url(&self, url: Url) -> BoxedFuture<'_, Result<(), Box<dyn std::error::Error>>> {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(url);
        Box::pin(async { Ok(()) })
    }
}

impl RemoteSigner {
    /// Connects to the signer that `bunker_uri` names and asks for its public key (NIP-46 `connect`, `get_public_key`).
    ///
    /// `app_keys` are the node's side of the conversation; the signer knows the node by them, so they should be kept.
    /// `timeout` holds for each request, this one included.
    ///
    /// # Errors
    ///
    /// [`RemoteSignerError`], each with what to do.
    pub async fn connect(
        bunker_uri: &str,
        app_keys: Keys,
        timeout: Duration,
    ) -> Result<Arc<dyn NostrSigner>, RemoteSignerError> {
        let uri = NostrConnectURI::parse(bunker_uri.trim()).map_err(|_| RemoteSignerError::NotABunker)?;
        if !uri.is_bunker() || uri.relays().is_empty() {
            return Err(RemoteSignerError::NotABunker);
        }
        let mut client = NostrConnect::new(uri, app_keys, timeout, None).map_err(|_| RemoteSignerError::NotABunker)?;
        let approval = Arc::new(Approval::default());
        client.auth_url_handler(ApprovalHandler(approval.clone()));
        let asked = tokio::time::timeout(timeout, quietly(client.get_public_key())).await;
        let error = match asked {
            Ok(Ok(public_key)) => return Ok(Arc::new(Self { client, public_key, timeout })),
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => None,
        };
        let failure = explain(&client, &approval, error, timeout).await;
        client.shutdown().await;
        Err(failure)
    }

    async fn within<T>(&self, request: impl Future<Output = Result<T, SignerError>> + Send) -> Result<T, SignerError> {
        match tokio::time::timeout(self.timeout, quietly(request)).await {
            Ok(answer) => answer,
            Err(_) => Err(SignerError::from(format!("the remote signer gave no answer within {:?}", self.timeout))),
        }
    }

    async fn sign_checked(&self, mut unsigned: UnsignedEvent) -> Result<Event, SignerError> {
        let wanted = unsigned.id();
        let event = self.within(self.client.sign_event(unsigned)).await?;
        if event.id != wanted || event.verify().is_err() {
            return Err(SignerError::from("the remote signer signed something else than it was asked for"));
        }
        Ok(event)
    }
}

/// Runs a request of the library without its log, which would show secrets.
fn quietly<F: Future>(request: F) -> impl Future<Output = F::Output> {
    request.with_subscriber(NoSubscriber::new())
}

async fn explain(
    client: &NostrConnect,
    approval: &Approval,
    error: Option<String>,
    timeout: Duration,
) -> RemoteSignerError {
    if let Some(url) = approval.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
        return RemoteSignerError::ApprovalNeeded(url);
    }
    let status = client.status().await;
    if !status.values().any(|relay| relay.to_string() == "Connected") {
        let relays: Vec<String> = client.relays().iter().map(ToString::to_string).collect();
        return RemoteSignerError::Unreachable { relays: relays.join(", ") };
    }
    match error {
        Some(error) if error != "timeout" => RemoteSignerError::Refused(error),
        Some(_) | None => RemoteSignerError::TimedOut(timeout),
    }
}

impl NostrSigner for RemoteSigner {
    fn backend(&self) -> SignerBackend<'_> {
        SignerBackend::NostrConnect
    }

    fn get_public_key(&self) -> BoxedFuture<'_, Result<PublicKey, SignerError>> {
        Box::pin(std::future::ready(Ok(self.public_key)))
    }

    fn sign_event(&self, unsigned: UnsignedEvent) -> BoxedFuture<'_, Result<Event, SignerError>> {
        Box::pin(self.sign_checked(unsigned))
    }

    fn nip04_encrypt<'a>(
        &'a self,
        public_key: &'a PublicKey,
        content: &'a str,
    ) -> BoxedFuture<'a, Result<String, SignerError>> {
        Box::pin(self.within(self.client.nip04_encrypt(public_key, content)))
    }

    fn nip04_decrypt<'a>(
        &'a self,
        public_key: &'a PublicKey,
        content: &'a str,
    ) -> BoxedFuture<'a, Result<String, SignerError>> {
        Box::pin(self.within(self.client.nip04_decrypt(public_key, content)))
    }

    fn nip44_encrypt<'a>(
        &'a self,
        public_key: &'a PublicKey,
        content: &'a str,
    ) -> BoxedFuture<'a, Result<String, SignerError>> {
        Box::pin(self.within(self.client.nip44_encrypt(public_key, content)))
    }

    fn nip44_decrypt<'a>(
        &'a self,
        public_key: &'a PublicKey,
        payload: &'a str,
    ) -> BoxedFuture<'a, Result<String, SignerError>> {
        Box::pin(self.within(self.client.nip44_decrypt(public_key, payload)))
    }
}
