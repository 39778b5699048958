//! Opens sealed events: gift wraps and encrypted requests. The signer may be a remote one, so this runs beside the desk.

use std::sync::Arc;
use std::time::Duration;

use nips::JobRequest;
use nips::dm::{self, OpenError, WRAP_KIND};
use nips::federation::letter;
use nips::job::{Cipher, ParseError, request};
use nostr::nips::nip44;
use nostr::{Event, JsonUtil, NostrSigner, PublicKey, RelayUrl};

use super::{Desk, Message, Opened, Tools};
use crate::journal::{Arrival, now_ms};

/// Waits between tries while a remote signer is silent.
const WAITS: [Duration; 5] = [
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(30),
    Duration::from_secs(120),
    Duration::from_secs(600),
];

impl Desk {
    /// Opens `arrival` in a task of its own; what was in it comes back as a message.
    pub(super) fn open(&self, arrival: Arrival) {
        let (tools, handle) = (Arc::clone(&self.tools), self.handle.clone());
        let cancel = tools.cancel.clone();
        self.tools.tracker.spawn(async move {
            let opened = tokio::select! {
                () = cancel.cancelled() => return,
                opened = open_in_turn(&tools, &arrival) => opened,
            };
            match opened {
                Some(content) => drop(handle.send(Message::Opened { id: arrival.id, content }).await),
                None => tracing::warn!("the signer is silent; a sealed event stays in the inbox until the next start"),
            }
        });
    }
}

async fn open_in_turn(tools: &Tools, arrival: &Arrival) -> Option<Opened> {
    let _turn = tools.openers.acquire().await.ok()?;
    open(tools, arrival).await
}

/// None when the signer stayed silent.
async fn open(tools: &Tools, arrival: &Arrival) -> Option<Opened> {
    let Ok(event) = Event::from_json(&arrival.event) else { return Some(Opened::Dropped) };
    let came_by = arrival.came_by.as_deref().and_then(|url| RelayUrl::parse(url).ok());
    if event.kind.as_u16() == WRAP_KIND {
        return Some(match open_wrap(tools, &event).await? {
            Ok(message) => Opened::Message(Box::new(message), came_by),
            Err(error) => {
                tracing::debug!(%error, "a wrap was dropped");
                Opened::Dropped
            }
        });
    }
    let cipher = request::cipher_of(&event.content);
    let parsed = match decrypt(tools, &event.pubkey, &event.content, cipher).await? {
        Some(plaintext) => JobRequest::parse_sealed(&event, &plaintext, cipher).map(Box::new),
        None => Err(ParseError::Undecryptable),
    };
    Some(Opened::Job(Box::new(event), parsed, came_by))
}

async fn open_wrap(tools: &Tools, wrap: &Event) -> Option<Result<nips::DirectMessage, OpenError>> {
    let Some(layer) = decrypt(tools, &wrap.pubkey, &wrap.content, Cipher::Nip44).await? else {
        return Some(Err(OpenError::Layer("wrap")));
    };
    let seal = match dm::read_seal(wrap, &layer) {
        Ok(seal) => seal,
        Err(error) => return Some(Err(error)),
    };
    let Some(rumor) = decrypt(tools, &seal.pubkey, &seal.content, Cipher::Nip44).await? else {
        return Some(Err(OpenError::Layer("seal")));
    };
    // A letter between sister nodes: not for the desk.
    if letter::is_letter(&rumor) {
        if let Some(sisters) = &tools.sisters {
            sisters.federation.letter(seal, rumor).await;
        }
        return Some(Err(OpenError::Kind(0)));
    }
    let message = dm::read_rumor(&seal, &rumor, now_ms() / 1000);
    Some(message.map(|message| {
        let ends = wrap.tags.expiration().map(|at| at.as_secs()).into_iter().chain(message.expires_at).min();
        nips::DirectMessage { expires_at: ends, ..message }
    }))
}

/// `Some(None)`: the signer says that this cannot be decrypted. `None`: the signer is silent.
async fn decrypt(tools: &Tools, from: &PublicKey, content: &str, cipher: Cipher) -> Option<Option<String>> {
    let signer = &tools.speaker.signer;
    if cipher == Cipher::Nip44 && !looks_like_nip44(content) {
        return Some(None);
    }
    for wait in WAITS {
        let result = match cipher {
            Cipher::Nip04 => signer.nip04_decrypt(from, content).await,
            Cipher::Nip44 => signer.nip44_decrypt(from, content).await,
        };
        match result {
            Ok(plaintext) => return Some(Some(plaintext)),
            // A key on this machine never needs a second try.
            Err(_) if is_local(signer.as_ref()) => return Some(None),
            Err(error) => {
                tracing::debug!(%error, "the signer did not decrypt");
                if !is_silence(&error.to_string()) {
                    return Some(None);
                }
                tokio::time::sleep(wait).await;
            }
        }
    }
    None
}

fn is_local(signer: &dyn NostrSigner) -> bool {
    matches!(signer.backend(), nostr::signer::SignerBackend::Keys)
}

/// A remote signer that answers "no" has spoken; one that cannot be reached has not.
fn is_silence(error: &str) -> bool {
    let error = error.to_ascii_lowercase();
    ["timeout", "timed out", "time-out", "reach", "connect", "relay"].iter().any(|word| error.contains(word))
}

/// NIP-44's own bounds, before anybody computes anything: base64 of 99 bytes or more, version 2.
fn looks_like_nip44(content: &str) -> bool {
    const MAX: usize = 90_000;
    (132..=MAX).contains(&content.len()) && content.starts_with('A') && nip44::Version::V2.as_u8() == 2
}
