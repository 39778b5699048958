//! Who we are (NIP-42): the relay's challenge, our signed answer, and what waited for it.

use nostr::Event;

use super::{Auth, Effect, Effects, Machine, close_leg, millis};
use crate::pool::leg::Phase;
use crate::pool::reply::{FetchError, PublishReply};
use crate::pool::wire;

impl Machine {
    pub(super) fn challenged(&mut self, challenge: String, out: &mut Effects) {
        self.auth = Auth::Challenged(challenge);
        if self.eager_auth || self.somebody_waits_for_auth() {
            self.begin_auth(out);
        }
    }

    pub(super) fn somebody_waits_for_auth(&self) -> bool {
        self.legs.iter().any(|leg| matches!(leg.phase, Phase::Waiting { on_auth: true, .. }))
            || self.publishing.values().flatten().any(|p| p.waits_for_auth)
            || self.fetching.values().any(|f| f.waits_for_auth)
    }

    /// False when the relay knows us already, or refused us. Before a challenge came one may still come.
    pub(super) fn auth_can_help(&self) -> bool {
        !matches!(self.auth, Auth::Done | Auth::Failed { .. })
    }

    pub(super) fn begin_auth(&mut self, out: &mut Effects) {
        if let Auth::Challenged(challenge) = &self.auth {
            let challenge = challenge.clone();
            out.push(Effect::SignAuth { challenge: challenge.clone() });
            self.auth = Auth::Signing(challenge);
        }
    }

    /// Takes the signed kind-22242 event, or why there is none.
    pub(in crate::pool) fn auth_signed(&mut self, signed: Result<Event, String>, now_ms: u64, out: &mut Effects) {
        let Auth::Signing(challenge) = &self.auth else { return };
        match signed {
            Ok(event) => {
                out.push(Effect::Send(wire::auth(&event)));
                let deadline_ms = now_ms.saturating_add(millis(self.bounds.auth_timeout));
                self.auth = Auth::Sent { id: event.id, deadline_ms };
            }
            Err(message) => {
                let challenge = challenge.clone();
                self.auth_failed(&message, challenge, now_ms, out);
            }
        }
    }

    pub(super) fn auth_answered(&mut self, status: bool, message: &str, now_ms: u64, out: &mut Effects) {
        if !status {
            return self.auth_failed(message, String::new(), now_ms, out);
        }
        self.auth = Auth::Done;
        for leg in &mut self.legs {
            let refused = matches!(leg.phase, Phase::Waiting { on_auth: true, .. });
            // A relay may have shown a stranger less than it shows us, without a word.
            if refused || (leg.is_private() && leg.wire.is_some()) {
                close_leg(leg, out);
                leg.phase = Phase::Waiting { retry_at_ms: now_ms, on_auth: false };
            }
        }
        for publishing in self.publishing.values_mut().filter(|all| all.iter().any(|p| p.waits_for_auth)) {
            out.extend(publishing.first().map(|p| Effect::Send(p.frame.clone())));
            publishing.iter_mut().for_each(|p| p.waits_for_auth = false);
        }
        let again: Vec<String> =
            self.fetching.iter().filter(|(_, f)| f.waits_for_auth).map(|(wire, _)| wire.clone()).collect();
        for wire in again {
            if let Some(mut fetch) = self.fetching.remove(&wire) {
                fetch.waits_for_auth = false;
                self.open_fetch(fetch, out);
            }
        }
        self.tick(now_ms, out);
    }

    pub(super) fn auth_failed(&mut self, message: &str, challenge: String, now_ms: u64, out: &mut Effects) {
        tracing::debug!(message, "the relay did not take our authentication");
        let words = format!("auth-required: {message}");
        for waiting in self.publishing.values_mut() {
            for p in waiting.extract_if(.., |p| p.waits_for_auth) {
                let reply = PublishReply::Refused { permanent: false, message: words.clone() };
                out.push(Effect::Published { ticket: p.ticket, reply });
            }
        }
        self.publishing.retain(|_, waiting| !waiting.is_empty());
        let fetches = self.fetching.extract_if(|_, f| f.waits_for_auth);
        out.extend(
            fetches.map(|(_, f)| Effect::Fetched { ticket: f.ticket, result: Err(FetchError::Closed(words.clone())) }),
        );
        let retry_at_ms = now_ms.saturating_add(millis(self.bounds.closed_retry_max));
        self.auth = Auth::Failed { message: words, challenge, retry_at_ms };
    }

    pub(super) fn tick_auth(&mut self, now_ms: u64, out: &mut Effects) {
        match &self.auth {
            Auth::Sent { deadline_ms, .. } if *deadline_ms <= now_ms => {
                self.auth_failed("no answer to AUTH in time", String::new(), now_ms, out);
            }
            Auth::Failed { challenge, retry_at_ms, .. } if *retry_at_ms <= now_ms && !challenge.is_empty() => {
                let challenge = challenge.clone();
                self.challenged(challenge, out);
            }
            Auth::Unasked
            | Auth::Challenged(_)
            | Auth::Signing(_)
            | Auth::Sent { .. }
            | Auth::Done
            | Auth::Failed { .. } => {}
        }
    }
}
