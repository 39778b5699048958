//! What the end-to-end tests share: nodes as real processes on free ports of loopback, ended by their own pid, and clients that
//! wait for conditions, never for time to pass.

#![allow(clippy::unwrap_used, missing_docs)]

pub mod client;
pub mod double;
pub mod embedder;
pub mod matrix;
#[path = "../../federation/tests/common/netns.rs"]
pub mod netns;
pub mod node;
pub mod outside;
pub mod sisters;

pub use client::Client;
pub use double::ModelDouble;
pub use embedder::EmbedderDouble;
pub use node::{Node, NodeBuilder};
pub use outside::Outside;

use std::time::Duration;

/// The longest that any condition is waited for; reached only when something is broken.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `condition` gives something.
///
/// # Panics
/// When it never does; `what` names it.
pub async fn eventually<T>(what: &str, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(tokio::time::Instant::now() < deadline, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
