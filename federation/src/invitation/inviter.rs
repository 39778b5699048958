//! The inviter's side.

use std::collections::BTreeMap;

use nips::PeerCard;
use nips::federation::{Act, Answer, Ask, Code, InvitationId, Joiner, Message, Refusal, Role, Welcome, parse, same};
use nostr::{Event, Keys, PublicKey, RelayUrl};
use rand_core::{CryptoRng, RngCore};

use super::limit::Limit;
use super::record::{Record, State};
use super::{InviterEffect as Effect, InviterInput as Input, MAX_OPEN, MAX_WRONG_PROOFS, REMEMBER_S, Source};
use crate::handshake::Me;
use crate::keyring::{Keyring, seal_to};
use crate::membership::{Log, Refused, Standing, Taken};

/// What the inviter looks things up in.
#[derive(Clone, Copy)]
pub struct InviterWorld<'a> {
    /// This node.
    pub me: &'a Me,
    /// Who belongs.
    pub log: &'a Log,
    /// The keys.
    pub keyring: &'a Keyring,
}

/// What is offered by a code.
#[derive(Debug, Clone, Default)]
pub struct Offer {
    /// True for a guest.
    pub is_guest: bool,
    /// A passport that was removed and may come back by this code.
    pub readmit: Option<PublicKey>,
    /// Where the inviter listens.
    pub addresses: Vec<String>,
    /// Where it reads.
    pub relays: Vec<RelayUrl>,
}

/// Why no code is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Ended {
    /// Not an admin.
    #[error("this node may not invite: it is no admin of the federation. On a node that is: `timmy peer admin NPUB`")]
    NotAllowed,
    /// As many codes as can be are open.
    #[error("{MAX_OPEN} codes are open already; wait until one ends")]
    TooMany,
}

/// A joiner whose welcome is being made.
struct Pending {
    from: Source,
    ask: Ask,
    card: PeerCard,
    is_journaled: bool,
}

/// The inviter: its open codes, and joiners on their way in.
#[derive(Default)]
pub struct Inviter {
    records: BTreeMap<InvitationId, Record>,
    pending: BTreeMap<InvitationId, Pending>,
    limit: Limit,
}

impl Inviter {
    /// With what the journal kept.
    pub fn restore(records: impl IntoIterator<Item = Record>) -> Self {
        let records = records.into_iter().map(|record| (record.id, record)).collect();
        Self { records, ..Self::default() }
    }

    /// Makes a code of 128 random bits at `now` (Unix seconds), to be shown once the record is journaled.
    ///
    /// # Errors
    /// When this node may not invite, or too many codes are open.
    pub fn open(
        &mut self,
        random: [u8; 16],
        offer: &Offer,
        world: &InviterWorld<'_>,
        now: u64,
    ) -> Result<(Code, Effect), Ended> {
        if !world.log.standing(&world.me.passport).may_admit() {
            return Err(Ended::NotAllowed);
        }
        if self.open_codes(now) >= MAX_OPEN {
            return Err(Ended::TooMany);
        }
        let code = Code::new(random, world.me.passport, world.me.peer_id, offer.is_guest, now)
            .at(&offer.addresses, &offer.relays);
        let record = Record::new(&code, offer.readmit);
        self.records.insert(record.id, record.clone());
        Ok((code, Effect::Journal(record)))
    }

    /// How many codes are open at `now`: while there is one, streams of the joining protocol are taken from strangers.
    pub fn open_codes(&self, now: u64) -> usize {
        self.records.values().filter(|record| record.state == State::Open && record.expires_at > now).count()
    }

    /// True while a code that was made here has not reached its end, spent or not: whoever brings it is told what became of it.
    pub fn is_answering(&self, now: u64) -> bool {
        self.records.values().any(|record| record.expires_at > now)
    }

    /// Takes a code back.
    pub fn withdraw(&mut self, invitation: &InvitationId) -> Option<Effect> {
        let record = self.records.get_mut(invitation).filter(|record| record.state == State::Open)?;
        record.state = State::Burnt;
        Some(Effect::Journal(record.clone()))
    }

    /// Takes an input at `now` (Unix seconds). `rng` makes the key that seals.
    pub fn handle<R: RngCore + CryptoRng>(
        &mut self,
        input: Input<'_>,
        world: &InviterWorld<'_>,
        now: u64,
        rng: &mut R,
    ) -> Vec<Effect> {
        match input {
            Input::Asked { from, event } => self.asked(from, event, world, now, rng),
            Input::Journaled(id) => self.journaled(id, world, now, rng),
            Input::Signed { invitation, entry, keys } => self.signed(invitation, entry, &keys, world),
            Input::Failed(id) => self.refuse_pending(id, Refusal::Failed).into_iter().collect(),
            Input::Tick => self.tick(now),
        }
    }

    fn tick(&mut self, now: u64) -> Vec<Effect> {
        let is_over = |record: &&Record| record.expires_at.saturating_add(REMEMBER_S) <= now;
        let over: Vec<InvitationId> = self.records.values().filter(is_over).map(|record| record.id).collect();
        for id in &over {
            self.records.remove(id);
            self.pending.remove(id);
        }
        over.into_iter().map(Effect::Forget).collect()
    }

    fn asked<R: RngCore + CryptoRng>(
        &mut self,
        from: Source,
        event: &Event,
        world: &InviterWorld<'_>,
        now: u64,
        rng: &mut R,
    ) -> Vec<Effect> {
        let ask = match parse(event) {
            Ok(Message::Answer(answer)) => *answer,
            Ok(Message::Entry(_) | Message::EpochKey(_)) | Err(_) => return vec![],
        };
        let Answer::Ask(ask) = ask else { return vec![] };
        let invitation = ask.invitation;
        let refuse = |refusal| Effect::Refuse { to: from, invitation, refusal };
        // Before any signature is checked: a flood costs a parse.
        if self.limit.is_over(from, now) {
            return vec![refuse(Refusal::Busy)];
        }
        match self.check(from, event, &ask, world, now) {
            Ok((card, is_to_join)) => {
                let pending = Pending { from, ask, card, is_journaled: false };
                self.accept(pending, is_to_join, world, now, rng)
            }
            Err(refusal) => {
                let mut effects = vec![refuse(refusal)];
                effects.extend(self.count_wrong(from, &ask, refusal, now));
                effects
            }
        }
    }

    /// Counts tries that only one without the code makes, and burns the code after some.
    fn count_wrong(&mut self, from: Source, ask: &Ask, refusal: Refusal, now: u64) -> Option<Effect> {
        if !matches!(refusal, Refusal::Unknown | Refusal::Forged | Refusal::Card) {
            return None;
        }
        self.limit.count(from, now);
        let record = self.records.get_mut(&ask.invitation).filter(|record| record.state == State::Open)?;
        if refusal != Refusal::Forged {
            return None;
        }
        record.wrong += 1;
        if record.wrong >= MAX_WRONG_PROOFS {
            record.state = State::Burnt;
        }
        Some(Effect::Journal(record.clone()))
    }

    /// Every check; the joiner's card, and whether a join is to be made by spending the code.
    fn check(
        &self,
        from: Source,
        event: &Event,
        ask: &Ask,
        world: &InviterWorld<'_>,
        now: u64,
    ) -> Result<(PeerCard, bool), Refusal> {
        let record = self.records.get(&ask.invitation).ok_or(Refusal::Unknown)?;
        let card = check_card(from, event, ask, now)?;
        let joiner = Joiner { passport: &card.passport, install: &card.install, peer_id: &card.peer_id };
        let me = world.me;
        let proof = Ask::proof_by(&record.secret, &me.passport, &me.peer_id, &joiner, ask.role, &ask.nonce);
        if ask.inviter != me.passport || !same(&proof, &ask.proof) {
            return Err(if record.state == State::Burnt { Refusal::Burnt } else { Refusal::Forged });
        }
        if ask.role != record.role {
            return Err(Refusal::Terms);
        }
        let is_again = match record.state {
            State::Burnt => return Err(Refusal::Burnt),
            State::Spent(by) if by != card.passport => return Err(Refusal::Used),
            State::Spent(_) => true,
            State::Open => false,
        };
        if !is_again && record.expires_at <= now {
            return Err(Refusal::Expired);
        }
        if !world.log.standing(&me.passport).may_admit() || card.passport == me.passport {
            return Err(Refusal::NotAllowed);
        }
        let standing = world.log.standing(&card.passport);
        let may_return = record.readmit == Some(card.passport) && world.log.redeemed(&record.id).is_none();
        if matches!(standing, Standing::Removed { .. }) && !may_return {
            return Err(Refusal::Removed);
        }
        if !world.keyring.is_current(&world.log.terms()) {
            return Err(Refusal::Failed);
        }
        let is_enough = standing.acts_for_owner() || (standing == Standing::Guest && record.role == Role::Guest);
        Ok((card, !is_enough))
    }

    /// Spends the code for a joiner that has to join; nothing is signed before that is on disk.
    fn accept<R: RngCore + CryptoRng>(
        &mut self,
        mut pending: Pending,
        is_to_join: bool,
        world: &InviterWorld<'_>,
        now: u64,
        rng: &mut R,
    ) -> Vec<Effect> {
        let invitation = pending.ask.invitation;
        if is_to_join && let Err(why) = world.log.draft(&pending.act(), world.me.passport, now) {
            return vec![Effect::Refuse { to: pending.from, invitation, refusal: reason(&why) }];
        }
        let Some(record) = self.records.get_mut(&invitation) else { return vec![] };
        let is_new = is_to_join && record.state == State::Open;
        // A joiner that asks again while its first asking is under way, by the other carrier perhaps: the journal's word is awaited once.
        let is_awaited = self.pending.get(&invitation).is_some_and(|pending| !pending.is_journaled);
        let mut effects = vec![Effect::Card(pending.ask.card.clone())];
        if is_new {
            record.state = State::Spent(pending.card.passport);
            effects.push(Effect::Journal(record.clone()));
        }
        pending.is_journaled = !is_new && !is_awaited;
        let is_ready = pending.is_journaled;
        self.pending.insert(invitation, pending);
        if is_ready {
            effects.extend(self.sign(invitation, world, now, rng));
        }
        effects
    }

    fn journaled<R: RngCore + CryptoRng>(
        &mut self,
        id: InvitationId,
        world: &InviterWorld<'_>,
        now: u64,
        rng: &mut R,
    ) -> Vec<Effect> {
        match self.pending.get_mut(&id) {
            Some(pending) if !pending.is_journaled => pending.is_journaled = true,
            Some(_) | None => return vec![],
        }
        self.sign(id, world, now, rng)
    }

    /// What the passport has to sign for a joiner whose spending is on disk.
    fn sign<R: RngCore + CryptoRng>(
        &mut self,
        id: InvitationId,
        world: &InviterWorld<'_>,
        now: u64,
        rng: &mut R,
    ) -> Vec<Effect> {
        let Some(pending) = self.pending.get(&id) else { return vec![] };
        let standing = world.log.standing(&pending.card.passport);
        let is_enough = standing.acts_for_owner() || (standing == Standing::Guest && pending.ask.role == Role::Guest);
        let entry = if is_enough {
            None
        } else {
            match world.log.draft(&pending.act(), world.me.passport, now) {
                Ok(draft) => Some(Box::new(draft)),
                Err(why) => return self.refuse_pending(id, reason(&why)).into_iter().collect(),
            }
        };
        let role = if is_enough && standing.acts_for_owner() { Role::Sibling } else { pending.ask.role };
        let mut secret = [0; 32];
        rng.fill_bytes(&mut secret);
        let ephemeral = nostr::SecretKey::from_slice(&secret).map(Keys::new);
        let keys = ephemeral.ok().and_then(|ephemeral| {
            let to = (pending.card.install, role);
            seal_to(world.log, world.keyring, to, world.me.passport, now, &ephemeral, rng).ok().flatten()
        });
        match keys {
            Some(keys) => vec![Effect::Sign { invitation: id, entry, keys: Box::new(keys) }],
            None => self.refuse_pending(id, Refusal::Failed).into_iter().collect(),
        }
    }

    fn signed(
        &mut self,
        id: InvitationId,
        entry: Option<Box<Event>>,
        keys: &Event,
        world: &InviterWorld<'_>,
    ) -> Vec<Effect> {
        let mut log = world.log.clone();
        if let Some(entry) = &entry
            && !matches!(log.take(entry), Ok(Taken::New(_) | Taken::Known))
        {
            return self.refuse_pending(id, Refusal::Failed).into_iter().collect();
        }
        let Some(pending) = self.pending.remove(&id) else { return vec![] };
        let Some((record, joined)) = self.records.get(&id).zip(log.join_of(&pending.card.passport)) else {
            return vec![];
        };
        let welcome = Welcome {
            invitation: id,
            joiner: pending.card.passport,
            federation: log.federation(),
            entry: joined,
            proof: Welcome::proof(&record.secret, &pending.ask.nonce, log.federation(), joined),
            card: Box::new(world.me.card.clone()),
            log: log.events(),
            keys: vec![keys.clone()],
        };
        let mut effects: Vec<Effect> = entry.map(Effect::Entry).into_iter().collect();
        effects.push(Effect::Welcome { to: pending.from, answer: Box::new(Answer::Welcome(welcome)) });
        effects
    }

    fn refuse_pending(&mut self, id: InvitationId, refusal: Refusal) -> Option<Effect> {
        let pending = self.pending.remove(&id)?;
        Some(Effect::Refuse { to: pending.from, invitation: id, refusal })
    }
}

impl Pending {
    fn act(&self) -> Act {
        Act::Join { node: self.card.passport, role: self.ask.role, invitation: Some(self.ask.invitation) }
    }
}

/// The joiner's card: its signatures, its end, the install that asks, and the carrier's word.
fn check_card(from: Source, event: &Event, ask: &Ask, now: u64) -> Result<PeerCard, Refusal> {
    event.verify().map_err(|_| Refusal::Forged)?;
    ask.card.verify().map_err(|_| Refusal::Card)?;
    let card = PeerCard::read(&ask.card, now).map_err(|_| Refusal::Card)?;
    let is_spoken_by = match from {
        Source::Stream(peer_id) => card.peer_id == peer_id,
        Source::Letter(passport) => card.passport == passport,
    };
    if card.install == event.pubkey && is_spoken_by { Ok(card) } else { Err(Refusal::Card) }
}

fn reason(why: &Refused) -> Refusal {
    match why {
        Refused::Members | Refused::Full => Refusal::Full,
        Refused::Author { .. } => Refusal::NotAllowed,
        Refused::Envelope(_) | Refused::Kind | Refused::Federation | Refused::Subject { .. } | Refused::Waiting => {
            Refusal::Failed
        }
    }
}
