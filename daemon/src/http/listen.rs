//! Accepts connections: bounded in all and for each address, with a time limit for the request's head.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_service::Service;

use super::Ends;
use crate::config::Network;

/// How long a client may take to send its request's head.
const HEAD: Duration = Duration::from_secs(10);
/// Connections at one time; WebSockets count too and have their own, lower limit.
const MAX_CONNECTIONS: usize = 4096;
/// Connections of one address; this machine and trusted proxies speak for many.
const MAX_PER_ADDRESS: usize = 512;
/// Rest after the machine ran out of file descriptors.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// Counts connections by address.
#[derive(Clone, Default)]
struct Crowd(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// One counted connection.
struct Place(Crowd, IpAddr);

impl Crowd {
    fn enter(&self, ip: IpAddr) -> Option<Place> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = all.entry(ip).or_default();
        if *count >= MAX_PER_ADDRESS {
            return None;
        }
        *count += 1;
        Some(Place(self.clone(), ip))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut all = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = all.get_mut(&self.1) {
            *count -= 1;
            if *count == 0 {
                all.remove(&self.1);
            }
        }
    }
}

/// Serves one listener until `cancel`, then lets open requests end.
pub async fn serve(listener: TcpListener, router: Router, trusted: Vec<Network>, cancel: CancellationToken) {
    let (connections, crowd) = (TaskTracker::new(), Crowd::default());
    loop {
        let accepted = tokio::select! {
            () = cancel.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, remote) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_REST).await;
                continue;
            }
        };
        let ip = remote.ip().to_canonical();
        let speaks_for_many = ip.is_loopback() || trusted.iter().any(|n| n.contains(ip));
        let place = if speaks_for_many { None } else { crowd.enter(ip) };
        if connections.len() < MAX_CONNECTIONS && (speaks_for_many || place.is_some()) {
            let serving = connection(stream, remote, router.clone(), cancel.clone());
            connections.spawn(async move {
                serving.await;
                drop(place);
            });
        }
    }
    connections.close();
    connections.wait().await;
}
async fn connection(stream: TcpStream, remote: SocketAddr, router: Router, cancel: CancellationToken) {
    // Without it a small answer waits 40 ms for the client's acknowledgement.
    let _ = stream.set_nodelay(true);
    let ends = Ends { local: stream.local_addr().ok(), remote };
    let service = hyper::service::service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(ends);
        router.clone().call(request)
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD);
    let serving = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    tokio::pin!(serving);
    let ended = tokio::select! {
        ended = &mut serving => ended,
        () = cancel.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}
