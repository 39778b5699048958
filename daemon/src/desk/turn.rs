//! Whose turn it is: of several sister nodes that could answer a job which names nobody, one does (DESIGN §6, Offers).

use std::collections::BTreeSet;
use std::time::Duration;

use nips::Audience;
use nips::job::FEEDBACK_KIND;
use nips::job::reply::Status;
use nips::task::AudienceClass;
use nips::task::rank::{self, Heard, Turn};
use nostr::{Event, EventId, Filter, Kind, PublicKey, RelayUrl};
use tokio::time::Instant;

use super::lookup;
use super::order::{Origin, Work};
use super::work::Bench;
use crate::sisters::Sisters;

/// How often it is looked who is alive, while another one is before this node.
const LOOK: Duration = Duration::from_millis(250);
/// How often it is looked whether one that is on it has answered.
const STAND: Duration = Duration::from_secs(2);
/// How long relays may take to say what was answered.
const ASK: Duration = Duration::from_secs(3);
/// How long one that is thought dead has to show that it is not, ms.
const DOUBT_MS: u64 = 1_000;
/// A request that was sent longer ago may have been answered by others, seconds.
const FRESH_S: u64 = 2;

/// How long the order of those who could answer has been the same.
struct Line {
    able: BTreeSet<PublicKey>,
    since: Instant,
    is_changed: bool,
}

impl Line {
    fn new() -> Self {
        Self { able: BTreeSet::new(), since: Instant::now(), is_changed: false }
    }

    /// When somebody has gone, the places behind them wait anew: they all see it at once, and would all answer.
    fn saw(&mut self, able: &BTreeSet<PublicKey>) {
        if !self.able.is_subset(able) {
            (self.since, self.is_changed) = (Instant::now(), true);
        }
        self.able.clone_from(able);
    }

    /// Since then, ms.
    fn waited_ms(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// The same for one's place in the order: not everybody sees at the same moment that somebody has gone.
    fn place_ms(&self) -> u64 {
        self.waited_ms().saturating_sub(if self.is_changed { DOUBT_MS } else { 0 })
    }
}

impl Bench {
    /// Waits for this node's turn; false when a sister node has answered.
    pub(super) async fn has_turn(&self) -> bool {
        let (Some(sisters), Work::Job { kind, .. }) = (&self.tools.sisters, &self.order.work) else { return true };
        let Origin::Nostr { request, came_by, .. } = &self.order.origin else { return true };
        if !self.order.is_broadcast() {
            return true;
        }
        let me = self.tools.speaker.node;
        let is_fresh = request.created_at.as_secs() + FRESH_S >= crate::journal::now_ms() / 1000;
        let mut line = Line::new();
        loop {
            let able = self.able(sisters, *kind);
            line.saw(&able);
            let waited_ms = line.waited_ms();
            let first = rank::turn(&self.order.id, &me, &able, &Heard::default(), line.place_ms());
            // First also among those that are thought dead: a node under load may be, and answers all the same.
            let mut all = sisters.view().able_dead_or_alive(*kind, crowd(self.order.audience));
            all.insert(me);
            let is_undisputed = is_fresh && rank::rank(&self.order.id, &me, &all) == Some(0);
            let wait = match first {
                Turn::Answer if is_undisputed && waited_ms < rank::STEP_MS => return true,
                Turn::Answer if waited_ms < DOUBT_MS => Duration::from_millis(DOUBT_MS - waited_ms).min(LOOK),
                Turn::Answer => {
                    let heard = self.heard(request, came_by.as_ref(), &sisters.view().members()).await;
                    match rank::turn(&self.order.id, &me, &able, &heard, line.place_ms()) {
                        Turn::Answer => return true,
                        Turn::Never => return false,
                        Turn::Stand => {
                            self.stand(sisters, *kind, &able).await;
                            continue;
                        }
                        Turn::Wait { ms } => Duration::from_millis(ms).min(LOOK),
                    }
                }
                Turn::Wait { ms } => Duration::from_millis(ms).min(LOOK),
                Turn::Never | Turn::Stand => return false,
            };
            tokio::time::sleep(wait).await;
        }
    }

    /// Who could answer, this node among them.
    fn able(&self, sisters: &Sisters, kind: u16) -> BTreeSet<PublicKey> {
        let mut able = sisters.view().able(kind, crowd(self.order.audience));
        able.insert(self.tools.speaker.node);
        able
    }

    /// Somebody is on it: waits until it is time to look whether they have answered, or somebody is gone.
    async fn stand(&self, sisters: &Sisters, kind: u16, able: &BTreeSet<PublicKey>) {
        let until = Instant::now() + STAND;
        while Instant::now() < until && self.able(sisters, kind) == *able {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// The next in the order must hear that somebody is on a job before its own turn comes, also when the job has to wait for a worker.
    pub(super) fn say_at_once(&self) {
        if self.order.is_broadcast() && self.tools.sisters.as_ref().is_some_and(|s| !s.view().members().is_empty()) {
            self.pass(Status::Processing, String::new());
        }
    }

    /// What members said about a request, at our own relay and at those where it may have been seen.
    async fn heard(&self, request: &Event, came_by: Option<&RelayUrl>, members: &BTreeSet<PublicKey>) -> Heard {
        let me = self.tools.speaker.node;
        let others: Vec<PublicKey> = members.iter().filter(|member| **member != me).copied().collect();
        let kinds = [self.order.kind() + 1000, FEEDBACK_KIND].map(Kind::from_u16);
        let filter = Filter::new().event(request.id).authors(others).kinds(kinds);
        let mut relays = lookup::connected(&self.tools.pool, &self.tools.speaker.configured);
        relays.extend(came_by.filter(|url| !relays.contains(url)).cloned());
        let own = self.tools.server.query(vec![filter.clone()]).await.unwrap_or_default();
        let found = lookup::ask(&self.tools.pool, &relays, &filter, ASK).await;
        said(request.id, own.iter().chain(&found))
    }
}

/// For whom the members that may answer must be able to work. Whom this node's owner allowed the others need not know.
pub(super) fn crowd(audience: Audience) -> AudienceClass {
    if audience == Audience::Owner { AudienceClass::Owner } else { AudienceClass::Stranger }
}

/// A member that says it failed is not on it any more.
fn is_on_it(event: &Event) -> bool {
    let status = event.tags.iter().map(nostr::Tag::as_slice).find(|tag| tag[0] == "status");
    status.and_then(|tag| tag.get(1)).is_none_or(|status| status != "error")
}

/// What the words of members about a request come to.
fn said<'a>(request: EventId, words: impl Iterator<Item = &'a Event>) -> Heard {
    let mut heard = Heard::default();
    let mut newest = None;
    for event in words.filter(|event| event.tags.event_ids().any(|id| *id == request)) {
        if event.kind.as_u16() != FEEDBACK_KIND {
            heard.result = true;
        } else if is_on_it(event) && newest.is_none_or(|at| at <= event.created_at) {
            newest = Some(event.created_at);
            heard.feedback = Some(event.pubkey);
        }
    }
    heard
}
