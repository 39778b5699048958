//! All that can be known of an event from outside without the store. It is found out on any thread, so that the one writer is left with
//! the writing.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use nips::memory::{Change, DocumentId, Message, Space, Tombstone, verified};
use nostr::Event;

use super::shard::{BadChange, entry_of, parsed};
use super::{Refusal, event, guard};
use crate::entry::Entry;

/// An event, and what was found of it.
pub(crate) struct Vetted {
    pub(super) event: Event,
    /// None when the signature or the form is wrong.
    pub(super) found: Option<Found>,
}

/// What a well-signed event says.
pub(super) enum Found {
    Tombstone(Tombstone),
    /// A change, opened or refused.
    Change(Change, Result<Box<Opened>, Refusal>),
}

/// A change whose bytes are good.
pub(super) struct Opened {
    /// As automerge has it.
    pub change: automerge::Change,
    /// What a change of a shard puts; none for one of a page.
    pub entry: Option<Result<Entry, BadChange>>,
    /// The bytes as they came: the event is made again from them.
    pub frame: Vec<u8>,
}

impl Vetted {
    /// Checks the signature and opens what was signed. This takes some hundred microseconds.
    pub(crate) fn new(event: Event) -> Self {
        let found = verified(&event).ok().map(|message| match message {
            Message::Tombstone(tombstone) => Found::Tombstone(tombstone),
            Message::Change(change) => {
                let opened = open(&event, &change).map(Box::new);
                Found::Change(change, opened)
            }
        });
        Self { event, found }
    }

    /// The space that it is of; none when it is not well signed.
    pub(crate) fn space(&self) -> Option<&Space> {
        self.found.as_ref().map(Found::space)
    }
}

impl Found {
    pub(super) fn space(&self) -> &Space {
        match self {
            Self::Tombstone(tombstone) => &tombstone.space,
            Self::Change(change, _) => change.document.space(),
        }
    }
}

fn open(event: &Event, change: &Change) -> Result<Opened, Refusal> {
    if !event::is_canonical(event, change) {
        return Err(Refusal::Malformed);
    }
    let opened = parsed(change)?;
    let expanded = guard::decoded(&opened).map_err(|_| Refusal::Malformed)?;
    let entry = match &change.document {
        DocumentId::Shard { space, .. } => Some(entry_of(&expanded, space)),
        DocumentId::Page { .. } | DocumentId::Forgotten { .. } => None,
    };
    if !guard::is_canonical(&opened, expanded) {
        return Err(Refusal::Malformed);
    }
    let frame = STANDARD.decode(&event.content).map_err(|_| Refusal::Malformed)?;
    Ok(Opened { change: opened, entry, frame })
}
