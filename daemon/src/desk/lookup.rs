//! Asks outside relays for events without waiting for the slowest: a relay that is silent costs nobody more than a moment.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use nostr::{Event, Filter, RelayUrl};
use relay::Pool;
use relay::pool::Link;

/// After the first relay that has something, the others get this long to add a newer version.
const GRACE: Duration = Duration::from_millis(300);

/// Those of `relays` whose connection stands: the others would only be waited for.
pub fn connected(pool: &Pool, relays: &[RelayUrl]) -> Vec<RelayUrl> {
    let standing: Vec<RelayUrl> =
        pool.states().into_iter().filter(|s| s.link == Link::Connected).map(|s| s.url).collect();
    relays.iter().filter(|url| standing.contains(url)).cloned().collect()
}

/// Asks `relays` at the same time, each for at most `limit`. Ends a moment after the first answer that is not empty, or when all
/// have answered or given up. The answers of all are together, unordered.
pub async fn ask(pool: &Pool, relays: &[RelayUrl], filter: &Filter, limit: Duration) -> Vec<Event> {
    let mut asked: FuturesUnordered<_> =
        relays.iter().map(|url| pool.fetch(url, vec![filter.clone()], limit)).collect();
    let mut found = Vec::new();
    while found.is_empty() {
        match asked.next().await {
            Some(answer) => found.extend(answer.unwrap_or_default()),
            None => return found,
        }
    }
    let others = async {
        while let Some(answer) = asked.next().await {
            found.extend(answer.unwrap_or_default());
        }
    };
    let _ = tokio::time::timeout(GRACE, others).await;
    found
}
