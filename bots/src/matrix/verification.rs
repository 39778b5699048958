//! Verification by emoji (SAS), begun by a person whom the agent talks with. The agent's emojis stand in its log, where its owner can
//! compare them; it confirms by itself, since nobody sits before it.

use std::sync::Arc;

use futures_util::StreamExt;
use matrix_sdk::Client;
use matrix_sdk::encryption::verification::{
    SasState, SasVerification, Verification, VerificationRequest, VerificationRequestState,
};
use matrix_sdk::ruma::UserId;
use matrix_sdk::ruma::events::key::verification::request::ToDeviceKeyVerificationRequestEvent;
use matrix_sdk::ruma::events::room::message::{MessageType, OriginalSyncRoomMessageEvent};

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Inbox;

/// Answers requests from now on, in tasks of `tracker`, until `cancel`.
pub(super) fn answer(client: &Client, inbox: &Arc<dyn Inbox>, tracker: &TaskTracker, cancel: &CancellationToken) {
    let follower = Follower { inbox: Arc::clone(inbox), tracker: tracker.clone(), cancel: cancel.clone() };
    let in_room = follower.clone();
    client.add_event_handler(move |event: OriginalSyncRoomMessageEvent, client: Client| {
        let follower = in_room.clone();
        async move {
            if let MessageType::VerificationRequest(_) = &event.content.msgtype {
                follower.asked(&client, &event.sender, event.event_id.as_str()).await;
            }
        }
    });
    client.add_event_handler(move |event: ToDeviceKeyVerificationRequestEvent, client: Client| {
        let follower = follower.clone();
        async move { follower.asked(&client, &event.sender, event.content.transaction_id.as_str()).await }
    });
}

#[derive(Clone)]
struct Follower {
    inbox: Arc<dyn Inbox>,
    tracker: TaskTracker,
    cancel: CancellationToken,
}

impl Follower {
    async fn asked(&self, client: &Client, sender: &UserId, flow: &str) {
        if !self.inbox.is_allowed(sender.as_str()) {
            return;
        }
        let Some(request) = client.encryption().get_verification_request(sender, flow).await else { return };
        let cancel = self.cancel.clone();
        self.tracker.spawn(async move {
            tokio::select! {
                () = cancel.cancelled() => {}
                () = follow(request) => {}
            }
        });
    }
}

async fn follow(request: VerificationRequest) {
    if let Err(error) = request.accept().await {
        return tracing::debug!(%error, "a verification was not accepted");
    }
    let mut changes = request.changes();
    while let Some(state) = changes.next().await {
        match state {
            VerificationRequestState::Transitioned { verification: Verification::SasV1(sas) } => {
                return compare(sas).await;
            }
            VerificationRequestState::Done | VerificationRequestState::Cancelled(_) => return,
            VerificationRequestState::Created { .. }
            | VerificationRequestState::Requested { .. }
            | VerificationRequestState::Ready { .. }
            | VerificationRequestState::Transitioned { .. } => {}
        }
    }
}

async fn compare(sas: SasVerification) {
    if let Err(error) = sas.accept().await {
        return tracing::debug!(%error, "a comparison of emojis was not accepted");
    }
    let mut changes = sas.changes();
    while let Some(state) = changes.next().await {
        match state {
            SasState::KeysExchanged { emojis, .. } => {
                let shown = emojis.map(|all| all.emojis.map(|one| one.symbol).join(" ")).unwrap_or_default();
                let with = sas.other_user_id();
                tracing::info!(%with, emojis = shown, "verification: compare these with what the other client shows");
                if let Err(error) = sas.confirm().await {
                    return tracing::warn!(%error, "the emojis were not confirmed");
                }
            }
            SasState::Done { .. } => return tracing::info!(with = %sas.other_user_id(), "verified"),
            SasState::Cancelled(info) => {
                return tracing::info!(reason = info.reason(), "a verification was cancelled");
            }
            SasState::Created { .. } | SasState::Started { .. } | SasState::Accepted { .. } | SasState::Confirmed => {}
        }
    }
}
