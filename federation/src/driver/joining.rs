//! Invitations at work, on both sides.

use std::time::Duration;

use nips::PeerCard;
use nips::federation::{Answer, Code, InvitationId};
use nostr::{Event, PublicKey, UnsignedEvent};
use tokio::sync::oneshot;
use zeroize::Zeroizing;

use super::core::{Back, Core, Met};
use super::host::{Shelf, Write};
use super::members::Rng;
use super::{FederationError, Invitation};
use crate::invitation::{
    Frame, InviterEffect, InviterInput, InviterWorld, Joiner, JoinerEffect, JoinerInput, MAX_ASK_FRAME,
    MAX_WELCOME_FRAME, Offer, Source, may_join,
};
use crate::membership::Standing;
use crate::net::{Frames, Multiaddr, PeerId, PeerStream, Protocol};

/// How long an answer to an asking may take: the inviter's signer may be far away.
const ANSWER: Duration = Duration::from_secs(30);
/// How long a letter about an invitation may wait, seconds.
const LETTER_LIFE_S: u64 = 900;
/// Pause before the stream of an asking is tried again, ms.
const AGAIN_MS: u64 = 3_000;

/// A join under way.
pub(super) struct Joining {
    pub machine: Joiner,
    asked: Option<Event>,
    dial_at_ms: u64,
    reply: Option<oneshot::Sender<Result<Standing, FederationError>>>,
}

impl Joining {
    pub fn is_inviter(&self, peer: &PeerId) -> bool {
        self.machine.code().peer_id == *peer
    }
}

/// What the passport signed for an inviter.
pub(super) struct SignedFor {
    pub invitation: InvitationId,
    pub signed: Result<(Option<Box<Event>>, Box<Event>), super::HostError>,
}

/// The inviter.
impl Core {
    pub async fn invite(&mut self, is_guest: bool, readmit: Option<PublicKey>) -> Result<Invitation, FederationError> {
        self.found().await?;
        let addresses = self.me.addresses.iter().filter(|a| is_reachable(a)).cloned().collect();
        let offer = Offer { is_guest, readmit, addresses, relays: self.me.relays.clone() };
        let now = self.now_s();
        let Some(log) = &self.log else { return Err(FederationError::None) };
        let world = InviterWorld { me: &self.me, log, keyring: &self.keyring };
        let (code, effect) = self.inviter.open(rand::random(), &offer, &world, now)?;
        self.inviter_effects(vec![effect]).await;
        self.view.set_inviting(true);
        Ok(Invitation { code: code.print(), expires_at: code.expires_at, is_guest })
    }

    async fn inviter_input(&mut self, input: InviterInput<'_>) {
        let now = self.now_s();
        let Some(log) = &self.log else { return };
        let world = InviterWorld { me: &self.me, log, keyring: &self.keyring };
        let effects = self.inviter.handle(input, &world, now, &mut Rng::default());
        self.inviter_effects(effects).await;
    }

    async fn inviter_effects(&mut self, effects: Vec<InviterEffect>) {
        for effect in effects {
            match effect {
                InviterEffect::Journal(record) => {
                    let id = record.id();
                    let value = Zeroizing::new(record.to_json().as_bytes().to_vec());
                    let kept = self.keep(vec![Write::Put(Shelf::Invitations, id.0.to_vec(), value)]).await;
                    let input = if kept.is_ok() { InviterInput::Journaled(id) } else { InviterInput::Failed(id) };
                    Box::pin(self.inviter_input(input)).await;
                }
                InviterEffect::Forget(id) => {
                    let _ = self.keep(vec![Write::Delete(Shelf::Invitations, id.0.to_vec())]).await;
                }
                InviterEffect::Sign { invitation, entry, keys } => self.sign_for(invitation, entry, keys),
                InviterEffect::Entry(event) => {
                    self.take_entries(std::slice::from_ref(&*event)).await;
                }
                InviterEffect::Card(event) => self.note_card(*event).await,
                InviterEffect::Welcome { to, answer } => self.answer(to, &answer).await,
                InviterEffect::Refuse { to: Source::Stream(peer), refusal, .. } => {
                    if let Some(waiting) = self.asking.remove(&peer) {
                        let _ = waiting.send(Frame::No(refusal));
                    }
                }
                InviterEffect::Refuse { to: to @ Source::Letter(joiner), invitation, refusal } => {
                    self.answer(to, &Answer::Refused { invitation, joiner, refusal }).await;
                }
            }
        }
        self.view.set_inviting(self.inviter.is_answering(self.now_s()));
    }

    async fn note_card(&mut self, event: Event) {
        let now = self.now_s();
        if let Ok(card) = PeerCard::read(&event, now) {
            let known = self.cards.get(&card.passport);
            let addresses = known.map(|met| met.addresses.clone()).unwrap_or_default();
            let asked_from = self.letter_relays.get(&card.passport).cloned();
            let relays = asked_from.or_else(|| known.map(|met| met.relays.clone())).unwrap_or_default();
            self.keep_card(Met { card, event, addresses, relays, last_seen: now }).await;
            self.plan_presence();
        }
    }

    fn sign_for(&self, invitation: InvitationId, entry: Option<Box<UnsignedEvent>>, keys: Box<UnsignedEvent>) {
        let (host, back) = (std::sync::Arc::clone(&self.host), self.back.clone());
        self.tracker.spawn(async move {
            let both = async {
                let entry = match entry {
                    Some(entry) => Some(Box::new(host.sign(*entry).await?)),
                    None => None,
                };
                Ok((entry, Box::new(host.sign(*keys).await?)))
            };
            let signed = both.await;
            let _ = back.send(Back::Signed(SignedFor { invitation, signed })).await;
        });
    }

    pub async fn on_signed(&mut self, signed: SignedFor) {
        let invitation = signed.invitation;
        match signed.signed {
            Ok((entry, keys)) => self.inviter_input(InviterInput::Signed { invitation, entry, keys }).await,
            Err(error) => {
                tracing::warn!(%error, "a newcomer's entry could not be signed");
                self.inviter_input(InviterInput::Failed(invitation)).await;
            }
        }
    }

    /// Signs an answer with the install key and sends it back the way the question came.
    async fn answer(&mut self, to: Source, answer: &Answer) {
        let Ok(event) = answer.to_event().sign_with_keys(&self.install) else { return };
        match to {
            Source::Stream(peer) => {
                if let Some(waiting) = self.asking.remove(&peer) {
                    let _ = waiting.send(Frame::Event(Box::new(event)));
                }
            }
            Source::Letter(passport) => {
                let of_asking = self.letter_relays.get(&passport).cloned();
                let relays = of_asking.or_else(|| self.cards.get(&passport).map(|met| met.relays.clone()));
                let relays = relays.unwrap_or_default();
                self.send_letter(passport, relays, &event, self.now_s() + LETTER_LIFE_S);
            }
        }
    }

    pub fn serve_joiner(&self, peer: PeerId, stream: PeerStream) {
        let back = self.back.clone();
        self.tracker.spawn(async move {
            let mut frames = Frames::new(stream, MAX_WELCOME_FRAME, ANSWER);
            frames.set_max_read(MAX_ASK_FRAME);
            let Ok(Some(frame)) = frames.next().await else { return };
            let Some(Frame::Event(event)) = Frame::parse(&frame, MAX_ASK_FRAME) else { return };
            let (answer, answered) = oneshot::channel();
            if back.send(Back::Asked(peer, event, answer)).await.is_err() {
                return;
            }
            if let Ok(Ok(frame)) = tokio::time::timeout(ANSWER, answered).await {
                let _ = frames.send(&frame.encode()).await;
                let _ = frames.close().await;
                let _ = frames.next().await;
            }
        });
    }

    pub async fn on_asked(&mut self, peer: PeerId, event: &Event, answer: oneshot::Sender<Frame>) {
        self.asking.insert(peer, answer);
        self.inviter_input(InviterInput::Asked { from: Source::Stream(peer), event }).await;
        self.asking.retain(|_, waiting| !waiting.is_closed());
    }

    pub async fn inviter_tick(&mut self) {
        self.inviter_input(InviterInput::Tick).await;
    }

    /// An asking by letter.
    pub async fn asked_by_letter(&mut self, from: PublicKey, event: &Event) {
        self.inviter_input(InviterInput::Asked { from: Source::Letter(from), event }).await;
    }
}

/// The joiner.
impl Core {
    pub async fn join(&mut self, text: &str, reply: oneshot::Sender<Result<Standing, FederationError>>) {
        if let Err(error) = self.begin_join(text).await {
            let _ = reply.send(Err(error));
        } else if let Some(joining) = &mut self.joining {
            joining.reply = Some(reply);
        }
    }

    async fn begin_join(&mut self, text: &str) -> Result<(), FederationError> {
        if self.joining.is_some() {
            return Err(FederationError::Busy);
        }
        let now = self.now_s();
        let code = Code::read(text, now).map_err(|error| super::HostError(error.to_string()))?;
        may_join(self.log.as_ref(), &self.me.passport, &code.inviter)?;
        self.me.card = self.host.card().await?;
        let (machine, effects) = Joiner::new(code, self.me.clone(), rand::random(), now);
        self.joining = Some(Joining { machine, asked: None, dial_at_ms: 0, reply: None });
        self.joiner_effects(effects).await;
        Ok(())
    }

    async fn joiner_effects(&mut self, effects: Vec<JoinerEffect>) {
        for effect in effects {
            match effect {
                JoinerEffect::Ask(answer) => self.ask(&answer).await,
                JoinerEffect::Joined(joined) => {
                    let standing = self.adopt(*joined).await;
                    self.end_join(standing);
                }
                JoinerEffect::Failed(error) => self.end_join(Err(error.into())),
            }
        }
    }

    fn end_join(&mut self, outcome: Result<Standing, FederationError>) {
        if let Some(reply) = self.joining.take().and_then(|joining| joining.reply) {
            let _ = reply.send(outcome);
        }
    }

    /// Asks by a stream, and by a letter where the code names relays.
    async fn ask(&mut self, answer: &Answer) {
        let Ok(event) = answer.to_event().sign_with_keys(&self.install) else { return };
        let Some(joining) = &mut self.joining else { return };
        joining.asked = Some(event.clone());
        let code = joining.machine.code().clone();
        if !code.relays.is_empty() {
            self.send_letter(code.inviter, code.relays.clone(), &event, self.now_s() + LETTER_LIFE_S);
        }
        self.dial_inviter(&code).await;
    }

    async fn dial_inviter(&mut self, code: &Code) {
        let now = self.now_ms();
        if let Some(joining) = &mut self.joining {
            joining.dial_at_ms = now + AGAIN_MS;
        }
        if self.connected.contains(&code.peer_id) {
            return self.ask_inviter(code.peer_id);
        }
        let addresses: Vec<Multiaddr> = code.addresses.iter().filter_map(|a| a.parse().ok()).collect();
        if let Err(error) = self.net.dial(Some(code.peer_id), addresses).await {
            tracing::debug!(%error, "the inviter could not be dialed");
        }
    }

    /// Asks on a stream; the answer comes back on it.
    pub fn ask_inviter(&self, peer: PeerId) {
        let Some(event) = self.joining.as_ref().and_then(|joining| joining.asked.clone()) else { return };
        let (net, back) = (self.net.clone(), self.back.clone());
        self.tracker.spawn(async move {
            let asked = async {
                let stream = net.open(peer, Protocol::JOIN).await.ok()?;
                let mut frames = Frames::new(stream, MAX_WELCOME_FRAME, ANSWER);
                frames.send(&Frame::Event(Box::new(event)).encode()).await.ok()?;
                let frame = frames.next().await.ok()??;
                Frame::parse(&frame, MAX_WELCOME_FRAME)
            };
            if let Some(frame) = asked.await {
                let _ = back.send(Back::Answered(peer, frame)).await;
            }
        });
    }

    pub async fn on_answered(&mut self, peer: PeerId, frame: Frame) {
        let from = Source::Stream(peer);
        match frame {
            Frame::Event(event) => self.joiner_input(JoinerInput::Heard { from, event: &event }).await,
            Frame::No(refusal) => self.joiner_input(JoinerInput::Refused { from, refusal }).await,
        }
    }

    pub async fn joiner_input(&mut self, input: JoinerInput<'_>) {
        let now = self.now_s();
        let Some(joining) = &mut self.joining else { return };
        let effects = joining.machine.handle(input, &self.install, now);
        self.joiner_effects(effects).await;
    }

    pub async fn joining_tick(&mut self) {
        if self.joining.is_none() {
            return;
        }
        if self.joining.as_ref().and_then(|joining| joining.reply.as_ref()).is_some_and(oneshot::Sender::is_closed) {
            // Whoever typed the code has gone away.
            self.joining = None;
            return;
        }
        self.joiner_input(JoinerInput::Tick).await;
        let now = self.now_ms();
        let due = self.joining.as_ref().filter(|joining| joining.dial_at_ms <= now);
        if let Some(code) = due.map(|joining| joining.machine.code().clone()) {
            self.dial_inviter(&code).await;
        }
    }
}

/// True for what another machine can dial.
fn is_reachable(address: &str) -> bool {
    !(address.contains("/ip6/::1/") || address.starts_with("/ip6/fe80"))
}
