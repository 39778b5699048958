//! What happens between serving and working: whose passport is it, what was left undone, what came meanwhile.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Result;
use nostr::{Alphabet, Filter, Kind, SingleLetterTag};
use relay::Incoming;
use relay::pool::{LookBack, Role, Subscription};
use tokio::sync::mpsc;

use super::RESERVE_BYTES;
use crate::desk::{Desk, DeskHandle, Message, Rules, Tools, follow_pool, follow_relay, lookup};
use crate::home::Home;
use crate::journal::now_ms;
use crate::passport::PassportWatch;
use crate::publish::Publisher;

/// Where a restore writes down when the journal was made; emptied when every relay was asked for what was answered since.
const RESTORED_AT: &str = "restored_at_s";
/// How long outside relays are asked, before jobs are taken, whether another install speaks for the passport.
const CARD_LOOKUP: Duration = Duration::from_secs(2);
/// How long model servers may take to say whether they are there, before jobs are judged.
const PROBE: Duration = Duration::from_secs(5);
/// How often the disk is looked at, and old rows are pruned.
const HOUSEKEEPING: Duration = Duration::from_secs(10);
/// Finished jobs are kept this long, ms.
const KEEP_MS: u64 = 30 * 24 * 3600 * 1000;

/// What the pool and the outbox bring.
pub(super) struct Streams {
    pub incoming: mpsc::Receiver<Incoming>,
    pub settled: mpsc::Receiver<relay::Settled>,
}

/// The node's first task.
pub(super) struct Beginning {
    pub tools: Arc<Tools>,
    pub rules: Rules,
    pub take_over: bool,
    pub publisher: Publisher,
    pub desk: Desk,
    pub handle: DeskHandle,
    pub streams: Streams,
}

impl Beginning {
    /// Works until the node ends.
    pub(super) async fn run(self) {
        let cancel = self.tools.cancel.clone();
        if let Err(error) = self.begin().await {
            tracing::error!(error = format!("{error:#}"), "the node cannot work; it stops");
            cancel.cancel();
        }
    }

    async fn begin(mut self) -> Result<()> {
        let Self { tools, .. } = &self;
        for url in &tools.speaker.configured {
            tools.pool.add_relay(url, Role::Configured);
        }
        let restored = tools.journal.meta(RESTORED_AT).await?.filter(|at| !at.is_empty());
        self.check_passport(restored.is_some()).await?;
        if let Some(at) = restored {
            self.fetch_own_results(at.parse().unwrap_or_default()).await?;
        }
        // What came meanwhile is judged by what can be done: a model that is slow to answer is waited for here, not at the start.
        let _ = tokio::time::timeout(PROBE, tools.workshop.chain().probe()).await;
        // A rule that does not compile is found here and not at somebody's message; nothing waits for it.
        let (conscience, cancel) = (tools.conscience.clone(), tools.cancel.clone());
        tools.tracker.spawn_blocking(move || {
            if let Err(error) = conscience.warm() {
                tracing::error!(%error, "the rules of the conscience do not compile; the node stops");
                cancel.cancel();
            }
        });
        let count = self.desk.recover().await?;
        if count > 0 {
            tracing::info!(count, "taking up unfinished jobs");
        }
        self.subscribe();
        let tools = Arc::clone(&self.tools);
        let after = tools.journal.meta("relay_sequence").await?.and_then(|s| s.parse().ok());
        let after = after.unwrap_or(0).min(tools.server.last_sequence());
        let (watch, cancel) = (tools.passport.clone(), tools.cancel.clone());
        tools.tracker.spawn(follow_relay(
            tools.server.follow(after),
            self.handle.clone(),
            watch.clone(),
            cancel.clone(),
        ));
        tools.tracker.spawn(follow_pool(self.streams.incoming, self.handle.clone(), watch, cancel));
        tools.tracker.spawn(forward_settled(self.streams.settled, self.handle.clone()));
        if let Some(matrix) = &tools.matrix {
            tools.tracker.spawn(Box::pin(matrix.clone().run(Arc::clone(&tools), self.handle)));
        }
        tools.tracker.spawn(self.publisher.run());
        self.desk.run().await;
        Ok(())
    }

    /// Asks our own and the owner's relays whether a newer card speaks for the passport. A restored node takes a higher number.
    async fn check_passport(&self, restored: bool) -> Result<()> {
        let tools = &self.tools;
        let filter = PassportWatch::filter(tools.speaker.node);
        let own = tools.server.query(vec![filter.clone()]).await.unwrap_or_default();
        let found = lookup::ask(&tools.pool, &tools.speaker.configured, &filter, CARD_LOOKUP).await;
        own.iter().chain(&found).for_each(|card| tools.passport.saw(card));
        let highest = tools.passport.highest_seen();
        let first = restored && tools.journal.meta("restored_taken").await?.is_none();
        if self.take_over || first {
            let sequence = highest.max(tools.passport.sequence()) + 1;
            tools.passport.take_over(sequence);
            tools.journal.set_meta("card_sequence", sequence.to_string()).await?;
            tools.journal.set_meta("restored_taken", "1".to_owned()).await?;
            tracing::info!(sequence, "this install speaks for the passport now");
        }
        Ok(())
    }

    /// A restored journal does not know what was answered after the backup: its own results say so.
    async fn fetch_own_results(&self, since_s: u64) -> Result<()> {
        let tools = &self.tools;
        let kinds = tools.workshop.kinds_for(nips::Audience::Owner).into_iter().map(|k| Kind::from_u16(k + 1000));
        let since = since_s.saturating_sub(self.rules.catch_up_s);
        let filter = Filter::new().author(tools.speaker.node).kinds(kinds).since(nostr::Timestamp::from_secs(since));
        let own = tools.server.query(vec![filter.clone()]).await.unwrap_or_default();
        let asked = tools
            .speaker
            .configured
            .iter()
            .map(|url| tools.pool.fetch(url, vec![filter.clone()], Duration::from_secs(15)));
        let found = futures_util::future::join_all(asked).await;
        for (url, reply) in tools.speaker.configured.iter().zip(&found) {
            if let Err(error) = reply {
                tracing::warn!(relay = %url, %error, "own results could not be fetched after the restore; a job may be answered twice");
            }
        }
        let results = own.iter().chain(found.iter().flatten().flatten());
        let answered: Vec<[u8; 32]> =
            results.filter_map(nips::job::reply::answered_job).map(|id| *id.as_bytes()).collect();
        tracing::info!(count = answered.len(), "found own results after the restore");
        tools.journal.mark_answered(answered, now_ms()).await?;
        if found.iter().all(Result::is_ok) {
            tools.journal.set_meta(RESTORED_AT, String::new()).await?;
        }
        Ok(())
    }

    fn subscribe(&self) {
        let tools = &self.tools;
        let node = tools.speaker.node;
        let since = self.rules.first_start_s.max((now_ms() / 1000).saturating_sub(self.rules.catch_up_s));
        let wanted = |id: &str, filters: Vec<Filter>, lookback| Subscription {
            id: id.to_owned(),
            filters,
            lookback,
            first_since_s: since,
        };
        if tools.jobs_enabled {
            let kinds: Vec<Kind> = self.watched_kinds().into_iter().map(Kind::from_u16).collect();
            let jobs = vec![
                Filter::new().kinds(kinds),
                Filter::new().kind(Kind::EventDeletion).custom_tags(
                    SingleLetterTag::lowercase(Alphabet::K),
                    self.watched_kinds().iter().map(u16::to_string),
                ),
            ];
            tools.pool.subscribe(wanted("jobs", jobs, LookBack::Minutes));
        }
        let wraps = vec![Filter::new().kind(Kind::GiftWrap).pubkey(node)];
        tools.pool.subscribe(wanted("messages", wraps, LookBack::GiftWraps));
        tools.pool.subscribe(wanted("passport", vec![PassportWatch::filter(node)], LookBack::Minutes));
    }

    /// Every kind that this node could do, whatever the health of its models now.
    fn watched_kinds(&self) -> BTreeSet<u16> {
        let all: BTreeSet<u16> = [5000, 5001, 5002, 5050, 5302, 5303].into();
        if self.rules.kinds.is_empty() { all } else { all.intersection(&self.rules.kinds).copied().collect() }
    }
}

async fn forward_settled(mut settled: mpsc::Receiver<relay::Settled>, desk: DeskHandle) {
    while let Some(one) = settled.recv().await {
        if !desk.send(Message::Settled(one)).await {
            return;
        }
    }
}

/// Looks at the disk and prunes what nobody asks for any more.
pub(super) async fn keep_house(home: Home, tools: Arc<Tools>) {
    let mut tick = tokio::time::interval(HOUSEKEEPING);
    let mut rounds = 0u64;
    loop {
        tokio::select! {
            () = tools.cancel.cancelled() => return,
            _ = tick.tick() => {}
        }
        let room = home.free_bytes().is_ok_and(|free| free > RESERVE_BYTES);
        if tools.room.swap(room, Ordering::Relaxed) != room {
            tools.server.set_accepting_strangers(room);
            if room {
                tracing::info!("there is room on the disk again; strangers are served");
            } else {
                tracing::error!(
                    "the disk is nearly full: strangers are refused so that the journal has room; free some space"
                );
            }
        }
        rounds += 1;
        if rounds % 6 == 1
            && let Err(error) = tools.journal.prune_vanished(now_ms()).await
        {
            tracing::warn!(%error, "messages that were to vanish are still in the journal");
        }
        if rounds % 360 == 1
            && let Err(error) = tools.journal.prune(now_ms().saturating_sub(KEEP_MS)).await
        {
            tracing::warn!(%error, "old rows were not pruned");
        }
    }
}
