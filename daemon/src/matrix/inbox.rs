//! The desk, as the Matrix door sees it.

use std::sync::{Arc, PoisonError};

use async_trait::async_trait;
use bots::matrix::{Inbox, Incoming, Place};
use tokio::sync::oneshot;

use crate::desk::{DeskHandle, Message, Tools};

/// Hands messages to the desk, and keeps the rooms' places in the journal.
pub(super) struct DeskInbox {
    pub tools: Arc<Tools>,
    pub desk: DeskHandle,
}

fn key(room: &str) -> String {
    format!("matrix-place:{room}")
}

#[async_trait]
impl Inbox for DeskInbox {
    fn is_allowed(&self, mxid: &str) -> bool {
        self.tools.people.read().unwrap_or_else(PoisonError::into_inner).lets_in(mxid)
    }

    async fn take(&self, incoming: Incoming) {
        let (written, is_written) = oneshot::channel();
        if self.desk.send(Message::Written(Box::new(incoming), written)).await {
            // The desk that ends has not written it down: then the place must not move, and it does not, since this never returns.
            if is_written.await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    async fn place(&self, room: &str) -> Option<Place> {
        let found = self.tools.journal.meta(&key(room)).await;
        found.ok().flatten().and_then(|text| serde_json::from_str(&text).ok())
    }

    async fn set_place(&self, room: &str, place: Place) {
        let text = serde_json::to_string(&place).unwrap_or_default();
        if let Err(error) = self.tools.journal.set_meta(&key(room), text).await {
            tracing::warn!(%error, "a room's place was not written down; it is read again after a restart");
        }
    }
}
