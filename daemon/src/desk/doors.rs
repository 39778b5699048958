//! The doors of the desk that are relays.

use std::sync::Arc;

use nips::card::CARD_KIND;
use nips::dm::WRAP_KIND;
use nips::job::REQUEST_KINDS;
use relay::{Follower, Incoming};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Arrived, DeskHandle, Message};
use crate::passport::PassportWatch;

/// Events of the embedded relay that are taken at a time.
const BATCH: usize = 256;

/// Follows the embedded relay: nothing that it stored is missed, whenever it was stored.
pub async fn follow_relay(mut follower: Follower, desk: DeskHandle, watch: PassportWatch, cancel: CancellationToken) {
    loop {
        let batch = tokio::select! {
            () = cancel.cancelled() => return,
            batch = follower.next_batch(BATCH) => batch,
        };
        let Some((last, _)) = batch.last() else { return };
        let last = *last;
        for (_, event) in batch {
            let kind = event.kind.as_u16();
            if kind == CARD_KIND {
                watch.saw(&event);
            }
            let ours = kind == 5 || kind == WRAP_KIND || REQUEST_KINDS.contains(&kind);
            if ours && !desk.send(Message::Arrived(Arrived { event, came_by: None, hold: None })).await {
                return;
            }
        }
        if !desk.send(Message::Followed(last)).await {
            return;
        }
    }
}

/// Takes what the outside relays bring.
pub async fn follow_pool(
    mut incoming: mpsc::Receiver<Incoming>,
    desk: DeskHandle,
    watch: PassportWatch,
    cancel: CancellationToken,
) {
    loop {
        let next = tokio::select! {
            () = cancel.cancelled() => return,
            next = incoming.recv() => next,
        };
        let Some(incoming) = next else { return };
        let event = Arc::clone(&incoming.event);
        if event.kind.as_u16() == CARD_KIND {
            watch.saw(&event);
            continue;
        }
        let came_by = Some(incoming.relay.clone());
        if !desk.send(Message::Arrived(Arrived { event, came_by, hold: Some(incoming) })).await {
            return;
        }
    }
}
