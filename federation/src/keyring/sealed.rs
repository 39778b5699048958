//! Sealed keys (kind 9772) as they are kept and handed on: any member carries them to any other, nobody can open another's copy.

use nips::federation::{EnvelopeError, EpochKey, Message, Opened, Terms, verified};
use nostr::{Event, EventId, Keys, PublicKey};

use super::MAX_SEALED_KEPT;
use crate::membership::{Log, Standing};

/// How far ahead of this log's epoch a key may be: its removals may still be on their way.
const MAX_AHEAD: u64 = 8;

/// Why sealed keys are not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealedError {
    /// No kind 9772, or badly signed.
    #[error("not sealed keys: {0}")]
    Envelope(#[from] EnvelopeError),
    /// Of another kind.
    #[error("not sealed keys")]
    Kind,
    /// Of another federation.
    #[error("the keys belong to another federation")]
    Federation,
    /// Made by somebody who is no admin, or was none any more.
    #[error("{author} may not make keys: it is no admin, or was removed before")]
    Author {
        /// Who signed.
        author: PublicKey,
    },
    /// Of an epoch that lies far ahead.
    #[error("the keys are of epoch {0}, far ahead of this log")]
    Ahead(u64),
}

/// The newest sealed keys, to be handed on. They are no secret.
#[derive(Debug, Clone, Default)]
pub struct SealedKeys {
    kept: Vec<(Terms, Event)>,
}

impl SealedKeys {
    /// Takes sealed keys that an admin made, and opens the copy for `install` if there is one. Keeps them when they are among the newest;
    /// the caller adds what was opened to the keyring.
    ///
    /// # Errors
    /// Says why they are refused.
    pub fn take(&mut self, event: &Event, log: &Log, install: &Keys) -> Result<Option<Opened>, SealedError> {
        let key = check(event, log)?;
        self.keep(key.terms, event);
        Ok(key.open(install)?)
    }

    fn keep(&mut self, terms: Terms, event: &Event) {
        if self.kept.iter().any(|(_, kept)| kept.id == event.id) {
            return;
        }
        self.kept.push((terms, event.clone()));
        self.kept.sort_by_key(|(terms, event)| (std::cmp::Reverse(terms.epoch), event.id));
        self.kept.truncate(MAX_SEALED_KEPT);
    }

    /// Those that hold a copy for one of these keys (an install key, a passport), from epoch `from` on, newest first.
    pub fn for_member(&self, to: &[PublicKey], from: u64) -> Vec<Event> {
        let is_for = |event: &Event| match nips::federation::parse(event) {
            Ok(Message::EpochKey(key)) => to.iter().any(|to| key.copy_for(to).is_some()),
            Ok(Message::Answer(_) | Message::Entry(_)) | Err(_) => false,
        };
        let newer = self.kept.iter().filter(|(terms, _)| terms.epoch >= from).map(|(_, event)| event);
        newer.filter(|event| is_for(event)).cloned().collect()
    }

    /// What is kept, newest first.
    pub fn events(&self) -> impl Iterator<Item = &Event> {
        self.kept.iter().map(|(_, event)| event)
    }

    /// True when it is kept.
    pub fn contains(&self, id: &EventId) -> bool {
        self.kept.iter().any(|(_, event)| event.id == *id)
    }
}

/// Checks who made sealed keys. For those who were removed since, what they made before counts.
pub(crate) fn check(event: &Event, log: &Log) -> Result<EpochKey, SealedError> {
    let Message::EpochKey(key) = verified(event)? else { return Err(SealedError::Kind) };
    if key.terms.federation != log.federation() {
        return Err(SealedError::Federation);
    }
    if key.terms.epoch > log.epoch().saturating_add(MAX_AHEAD) {
        return Err(SealedError::Ahead(key.terms.epoch));
    }
    let may = match log.standing(&key.author) {
        Standing::Owner | Standing::Admin => true,
        Standing::Removed { epoch } => key.terms.epoch < epoch && log.was_admin(&key.author),
        Standing::Sibling | Standing::Guest | Standing::Unknown => false,
    };
    if may { Ok(*key) } else { Err(SealedError::Author { author: key.author }) }
}
