//! Reads a room back to its place.

use matrix_sdk::Room;
use matrix_sdk::deserialized_responses::TimelineEvent;
use matrix_sdk::room::MessagesOptions;
use serde_json::Value;

use super::door::Loop;

/// The most events that are read back; what is older was written to somebody who was away for very long.
const MAX_BACK: usize = 2_000;
/// Events a page.
const PAGE: u32 = 100;

impl Loop {
    /// What came after the room's place, oldest first; before `from`, or up to now. A room without a place is read back to where we were
    /// invited: what was written before was not written to us.
    pub(super) async fn since_place(
        &self,
        room: &Room,
        from: Option<String>,
    ) -> matrix_sdk::Result<Vec<TimelineEvent>> {
        let place = self.inbox.place(room.room_id().as_str()).await;
        let mut found = Vec::new();
        let mut from = from;
        loop {
            let mut options = MessagesOptions::backward();
            options.from = from;
            options.limit = PAGE.into();
            let page = room.messages(options).await?;
            let is_last = page.chunk.is_empty() || page.end.is_none();
            for event in page.chunk {
                let is_there = match &place {
                    Some(place) => event.event_id().is_some_and(|id| id.as_str() == place.event),
                    None => is_our_coming(&event, &self.me),
                };
                if is_there {
                    found.reverse();
                    return Ok(found);
                }
                found.push(event);
            }
            if is_last || found.len() >= MAX_BACK {
                break;
            }
            from = page.end;
        }
        // A place that cannot be found (a purged history): what the homeserver got after it. A room without one: nothing.
        found.retain(|event| match (&place, super::judge::place(event)) {
            (Some(place), Some(here)) => here.at_ms >= place.at_ms,
            (None, _) | (_, None) => false,
        });
        found.reverse();
        Ok(found)
    }
}

/// True for the event that invited us, or by which we came without one.
fn is_our_coming(event: &TimelineEvent, me: &str) -> bool {
    let Ok(json) = event.raw().deserialize_as_unchecked::<Value>() else { return false };
    let is_ours = json["type"] == "m.room.member" && json["state_key"] == me;
    is_ours && (json["content"]["membership"] == "invite" || json["unsigned"]["prev_content"]["membership"] != "invite")
}
