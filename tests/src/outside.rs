//! An outside relay of another codebase (`nostr-relay-builder`), in this process: it can go away and come back on its port with
//! what it stored.

use std::net::TcpListener;

use nostr::{Event, Filter, RelayUrl};
use nostr_relay_builder::builder::{RateLimit, RelayBuilder};
use nostr_relay_builder::prelude::{MemoryDatabase, MemoryDatabaseOptions};
use nostr_relay_builder::{LocalRelay, MockRelay};
use tokio::runtime::Runtime;

use crate::Client;

/// A relay that this node does not own.
pub struct Outside {
    port: u16,
    store: MemoryDatabase,
    /// Its last clone stops the relay.
    running: Option<(Runtime, LocalRelay)>,
}

impl Outside {
    /// A relay that runs.
    pub async fn start() -> Self {
        let mut relay = Self::stopped();
        while !relay.try_run().await {
            relay.port = free_port();
        }
        relay
    }

    /// A relay on all addresses of the network that this process is in, for as long as the process lives.
    pub async fn serve_all(port: u16) {
        let limit = RateLimit { max_reqs: 500, notes_per_minute: 1_000_000 };
        let options = MemoryDatabaseOptions { events: true, max_events: None };
        let builder = RelayBuilder::default()
            .addr(std::net::IpAddr::from([0, 0, 0, 0]))
            .port(port)
            .rate_limit(limit)
            .database(MemoryDatabase::with_opts(options));
        let relay = LocalRelay::new(builder);
        relay.run().await.expect("the relay runs");
        std::future::pending::<()>().await;
    }

    /// A relay that is away; its address is known.
    pub fn stopped() -> Self {
        let options = MemoryDatabaseOptions { events: true, max_events: None };
        Self { port: free_port(), store: MemoryDatabase::with_opts(options), running: None }
    }

    /// Comes back on the same port.
    ///
    /// # Panics
    /// When another program took the port meanwhile.
    pub async fn run(&mut self) {
        crate::eventually("the outside relay has its port again", async || self.try_run().await.then_some(())).await;
    }

    async fn try_run(&mut self) -> bool {
        if self.running.is_some() {
            return true;
        }
        let runtime = Runtime::new().unwrap();
        let limit = RateLimit { max_reqs: 500, notes_per_minute: 100_000 };
        let builder = RelayBuilder::default().port(self.port).rate_limit(limit).database(self.store.clone());
        let relay = LocalRelay::new(builder);
        let run = runtime.spawn(async move {
            let outcome = relay.run().await;
            outcome.ok().map(|()| relay)
        });
        let Some(relay) = run.await.unwrap() else {
            runtime.shutdown_background();
            return false;
        };
        self.running = Some((runtime, relay));
        true
    }

    /// Goes away in the middle of everything.
    pub fn stop(&mut self) {
        if let Some((runtime, _)) = self.running.take() {
            runtime.shutdown_background();
        }
    }

    /// `ws://…`
    pub fn url(&self) -> String {
        format!("ws://127.0.0.1:{}", self.port)
    }

    pub async fn client(&self) -> Client {
        Client::connect(&self.url()).await
    }

    /// Publishes what must be taken.
    pub async fn must_publish(&self, event: &Event) {
        self.client().await.must_publish(event).await;
    }

    /// Stored events that match.
    pub async fn query(&self, filter: Filter) -> Vec<Event> {
        self.client().await.query(filter).await
    }

    /// The line for `[nostr]` in a configuration.
    pub fn config(relays: &[&Self]) -> String {
        let urls: Vec<String> = relays.iter().map(|r| format!("{:?}", r.url())).collect();
        format!("[nostr]\nrelays = [{}]", urls.join(", "))
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A relay that takes connections and never answers.
pub async fn unresponsive() -> (MockRelay, RelayUrl) {
    let silence = std::time::Duration::from_secs(3600);
    let options =
        nostr_relay_builder::builder::RelayTestOptions { unresponsive_connection: Some(silence), ..Default::default() };
    let relay = MockRelay::run_with_opts(options).await.unwrap();
    let url = relay.url().await;
    (relay, url)
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
