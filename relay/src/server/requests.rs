//! REQ and COUNT (NIP-01, NIP-45, NIP-50).

use std::sync::Arc;

use serde_json::{Value, json};

use super::session::{End, SLOW_DOWN, Session, Subscription, event_message};
use super::{AuthPolicy, PAGE_BYTES};
use crate::store::{Query, StoreError};

impl Session {
    /// Answers a REQ: stored events, EOSE, then live ones.
    pub(crate) async fn req(&mut self, id: String, filters: Vec<Value>) -> Result<(), End> {
        let mut queries = match self.questions(&id, filters) {
            Ok(queries) => queries,
            Err(reason) => return self.closed(&id, &reason).await,
        };
        self.drop_subscription(&id);
        if self.subscriptions.len() >= self.shared.config.limits.subscriptions {
            return self.closed(&id, "error: too many subscriptions on this connection").await;
        }
        for query in &mut queries {
            self.bound(query);
        }
        let queries = Arc::new(queries);
        let selection = match self.shared.store.select(Arc::clone(&queries), self.sight()).await {
            Ok(selection) => selection,
            Err(error) => return self.closed(&id, &failure(&error)).await,
        };
        let name = json!(id).to_string();
        let head = format!("[\"EVENT\",{name},");
        if let Err(error) = self.deliver(&head, &selection.hits).await? {
            return self.closed(&id, &failure(&error)).await;
        }
        self.send(format!("[\"EOSE\",{name}]")).await?;
        self.subscriptions.insert(id, Subscription { queries, from: selection.snapshot, head });
        self.shared.counters.subscriptions.add();
        Ok(())
    }

    /// Answers a COUNT, which knows no limit.
    pub(crate) async fn count(&mut self, id: String, filters: Vec<Value>) -> Result<(), End> {
        let mut queries = match self.questions(&id, filters) {
            Ok(queries) => queries,
            Err(reason) => return self.closed(&id, &reason).await,
        };
        for query in &mut queries {
            query.limit = None;
        }
        match self.shared.store.select(Arc::new(queries), self.sight()).await {
            Ok(selection) => self.send(json!(["COUNT", id, { "count": selection.hits.len() }]).to_string()).await,
            Err(error) => self.closed(&id, &failure(&error)).await,
        }
    }

    /// Reads and checks the filters of a request.
    fn questions(&self, id: &str, filters: Vec<Value>) -> Result<Vec<Query>, String> {
        self.check_request(id)?;
        let limits = &self.shared.config.limits;
        if filters.is_empty() {
            return Err("invalid: there is no filter".to_owned());
        }
        if filters.len() > limits.filters {
            return Err(format!("invalid: more than {} filters", limits.filters));
        }
        let queries: Result<Vec<_>, _> = filters.into_iter().map(Query::parse).collect();
        let queries = queries.map_err(|reason| format!("invalid: {reason}"))?;
        self.check_wraps(&queries)?;
        Ok(queries)
    }

    /// Checks what holds for every request: its id, the rate, and who asks.
    pub(crate) fn check_request(&self, id: &str) -> Result<(), String> {
        self.shared.counters.requests.add();
        let chars = self.shared.config.limits.subscription_id_chars;
        if id.is_empty() || id.chars().nth(chars).is_some() {
            return Err(format!("invalid: a subscription id has 1 to {chars} characters"));
        }
        if !self.may_ask() {
            return Err(SLOW_DOWN.to_owned());
        }
        if self.shared.config.auth == AuthPolicy::All && self.keys.is_empty() {
            return Err("auth-required: this relay answers authenticated clients".to_owned());
        }
        Ok(())
    }

    /// Asks for authentication where nothing but gift wraps is asked for (NIP-17).
    pub(crate) fn check_wraps(&self, queries: &[Query]) -> Result<(), String> {
        let guarded = self.shared.config.auth != AuthPolicy::None && self.keys.is_empty();
        if guarded && queries.iter().all(Query::asks_only_for_wraps) {
            return Err("auth-required: gift wraps are given to their recipient only".to_owned());
        }
        Ok(())
    }

    fn bound(&self, query: &mut Query) {
        let limits = &self.shared.config.limits;
        let default = if query.ids.is_some() { limits.limit } else { limits.default_limit };
        query.limit = Some(query.limit.unwrap_or(default).min(limits.limit));
    }

    /// Sends stored events, a page at a time; the client's reading sets the pace.
    async fn deliver(&mut self, head: &str, hits: &[u64]) -> Result<Result<(), StoreError>, End> {
        let mut rest = hits;
        while !rest.is_empty() {
            let mut messages = Vec::new();
            let loaded = self.shared.store.load(rest, PAGE_BYTES, |json| messages.push(event_message(head, json)));
            match loaded {
                Ok(done) => rest = &rest[done..],
                Err(error) => return Ok(Err(error)),
            }
            for message in messages {
                self.send(message).await?;
            }
        }
        Ok(Ok(()))
    }

    fn drop_subscription(&mut self, id: &str) {
        if self.subscriptions.remove(id).is_some() {
            self.shared.counters.subscriptions.sub();
        }
    }

    /// Ends a subscription, or says why there is none. An endless id is cut.
    async fn closed(&mut self, id: &str, reason: &str) -> Result<(), End> {
        self.drop_subscription(id);
        let id = &id[..id.floor_char_boundary(256)];
        self.send(json!(["CLOSED", id, reason]).to_string()).await
    }
}

/// Words a failed question.
pub(crate) fn failure(error: &StoreError) -> String {
    match error {
        StoreError::TooBroad => format!("invalid: {error}"),
        StoreError::Search(_) => format!("error: {error}"),
        StoreError::Write(_) | StoreError::Read(_) | StoreError::Closed => {
            tracing::error!(%error, "a relay question failed");
            "error: the relay cannot read its store".to_owned()
        }
    }
}
