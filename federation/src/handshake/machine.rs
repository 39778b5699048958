//! The machine: one side of one handshake.

use libp2p::PeerId;
use nips::PeerCard;
use nips::federation::{Role as Grade, Secret, Terms, same};
use nostr::{Event, EventId, JsonUtil};

use super::message::{MAX_PLACE, MAX_PLACES, Message, Shown, Tag, Turn};
use super::{Effect, Input, MAX_EARLY_FRAME, MAX_FRAME, Peer, Refusal, TAGS, TIMEOUT_MS, World};
use crate::keyring::Circle;
use crate::membership::{Log, Standing};

/// The largest peer card that is read, bytes.
const MAX_CARD: usize = 16 * 1024;
/// Label of the dialer's proof.
const DIALER: &[u8] = b"timmy/hello/1/dialer";
/// Label of the listener's proof.
const LISTENER: &[u8] = b"timmy/hello/1/listener";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Dialer,
    Listener,
}

/// Where a handshake is.
enum State {
    /// For the other's nonce.
    Hello,
    /// The dialer: for the listener's proof. The listener: for the dialer's.
    Proof { theirs: [u8; 32] },
    /// The listener, after its proof: the dialer shows its card, or asks to be shown one.
    Turn { common: Common },
    /// For the other's card.
    Card { common: Common, has_shown: bool },
    /// For what is lacking; the other is known.
    More { peer: Box<Peer> },
    /// Over.
    Over,
}

/// The key that both have.
#[derive(Clone, Copy)]
struct Common {
    terms: Terms,
    circle: Circle,
    /// Of exactly the terms of the log here.
    is_current: bool,
}

/// One side of a handshake. Deterministic: the nonce comes from outside.
pub struct Handshake {
    role: Role,
    peer_id: PeerId,
    nonce: [u8; 32],
    filler: Secret,
    state: State,
    until_ms: u64,
}

impl Handshake {
    /// Begins as the one who dialed, at `now_ms` of a monotonic clock. `random`: 32 bytes of nonce, 32 to fill up the tags.
    pub fn dial(peer_id: PeerId, random: [u8; 64], now_ms: u64) -> (Self, Vec<Effect>) {
        let machine = Self::new(Role::Dialer, peer_id, random, now_ms);
        let hello = Effect::Send(Message::Hello(machine.nonce).encode());
        (machine, vec![hello])
    }

    /// Begins as the one who was dialed. `peer_id` is what the transport has authenticated.
    pub fn listen(peer_id: PeerId, random: [u8; 64], now_ms: u64) -> Self {
        Self::new(Role::Listener, peer_id, random, now_ms)
    }

    fn new(role: Role, peer_id: PeerId, random: [u8; 64], now_ms: u64) -> Self {
        let (mut nonce, mut filler) = ([0; 32], [0; 32]);
        nonce.copy_from_slice(&random[..32]);
        filler.copy_from_slice(&random[32..]);
        let until_ms = now_ms.saturating_add(TIMEOUT_MS);
        Self { role, peer_id, nonce, filler: Secret::new(filler), state: State::Hello, until_ms }
    }

    /// The largest frame that is to be read now.
    pub fn max_frame(&self) -> usize {
        if self.is_proven() { MAX_FRAME } else { MAX_EARLY_FRAME }
    }

    /// When [`Input::Tick`] ends it, milliseconds.
    pub fn deadline_ms(&self) -> u64 {
        self.until_ms
    }

    /// True when nothing more comes of it.
    pub fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    fn is_proven(&self) -> bool {
        matches!(self.state, State::Turn { .. } | State::Card { .. } | State::More { .. })
    }

    /// Takes an input, at `now_ms` (monotonic) and `now_s` (Unix seconds, for the ends of cards).
    pub fn handle(&mut self, input: &Input<'_>, world: &World<'_>, now_ms: u64, now_s: u64) -> Vec<Effect> {
        if self.is_over() {
            return vec![];
        }
        if now_ms >= self.until_ms {
            return self.end(Refusal::Timeout, false);
        }
        let Input::Frame(frame) = input else { return vec![] };
        match Message::parse(frame, self.is_proven()) {
            Some(message) => self.message(message, world, now_s),
            None => self.end(Refusal::Protocol, false),
        }
    }

    fn message(&mut self, message: Message, world: &World<'_>, now_s: u64) -> Vec<Effect> {
        let state = std::mem::replace(&mut self.state, State::Over);
        match (state, message, self.role) {
            (_, Message::No(refusal), _) => vec![Effect::Refused(refusal)],
            (State::Hello, Message::Hello(theirs), Role::Listener) => {
                self.state = State::Proof { theirs };
                vec![Effect::Send(Message::Hello(self.nonce).encode())]
            }
            (State::Hello, Message::Hello(theirs), Role::Dialer) => self.prove(theirs, world),
            (State::Proof { theirs }, Message::Proofs(tags), Role::Listener) => self.check_tags(theirs, &tags, world),
            (State::Proof { theirs }, Message::Proof { mac, turn, heads }, Role::Dialer) => {
                self.check_proof(theirs, &mac, turn, &heads, world)
            }
            (State::Turn { common }, Message::YouFirst(heads), _) if common.is_current => {
                self.state = State::Card { common, has_shown: true };
                vec![Effect::Send(show(world, world.log, &heads, vec![]))]
            }
            (State::Turn { common }, Message::Card(shown), _) => self.card(common, false, &shown, world, now_s),
            (State::Card { common, has_shown }, Message::Card(shown), _) => {
                self.card(common, has_shown, &shown, world, now_s)
            }
            (State::More { peer }, Message::More { log, keys }, _) => {
                let mut effects = news(world.log, &log).1;
                effects.extend(some_keys(keys));
                effects.push(Effect::Done(peer));
                effects
            }
            (_, _, _) => self.end(Refusal::Protocol, false),
        }
    }

    /// The dialer's tags: one for each key, the rest random, so that their number tells nothing.
    fn prove(&mut self, theirs: [u8; 32], world: &World<'_>) -> Vec<Effect> {
        let me = &world.me.peer_id;
        let mut tags: Vec<Tag> =
            world.keyring.keys().take(TAGS).map(|(_, _, key)| self.tag(key, me, &theirs)).collect();
        while tags.len() < TAGS {
            tags.push(half(&self.filler.mac(&[&tags.len().to_be_bytes()])));
        }
        self.state = State::Proof { theirs };
        vec![Effect::Send(Message::Proofs(tags).encode())]
    }

    /// The dialer's tag under a key.
    fn tag(&self, key: &Secret, me: &PeerId, theirs: &[u8; 32]) -> Tag {
        half(&self.mac(DIALER, key, me, theirs, &[]))
    }

    /// HMAC over role, dialer's and listener's PeerId, dialer's and listener's nonce, and more.
    fn mac(&self, label: &[u8], key: &Secret, me: &PeerId, theirs: &[u8; 32], more: &[u8]) -> [u8; 32] {
        let (me, peer) = (me.to_bytes(), self.peer_id.to_bytes());
        let key = key.derive("hello");
        match self.role {
            Role::Dialer => key.mac(&[label, &me, &peer, &self.nonce, theirs, more]),
            Role::Listener => key.mac(&[label, &peer, &me, theirs, &self.nonce, more]),
        }
    }

    fn check_tags(&mut self, theirs: [u8; 32], tags: &[Tag], world: &World<'_>) -> Vec<Effect> {
        let me = &world.me.peer_id;
        let now = world.log.terms();
        let found = world.keyring.keys().find(|(_, _, key)| {
            let wanted = self.tag(key, me, &theirs);
            tags.iter().fold(false, |found, tag| same(&wanted, tag) | found)
        });
        let Some((terms, circle, key)) = found else { return self.end(Refusal::Stranger, true) };
        let common = Common { terms: *terms, circle, is_current: *terms == now };
        let turn = if common.is_current { Turn::Any } else { Turn::First };
        let mac = self.mac(LISTENER, key, me, &theirs, turn_byte(turn));
        self.state = State::Turn { common };
        // Names of entries tell nothing without the entries; all the same, only one that is up to date gets them.
        let heads = if common.is_current { world.log.heads() } else { vec![] };
        vec![Effect::Send(Message::Proof { mac, turn, heads }.encode())]
    }

    fn check_proof(
        &mut self,
        theirs: [u8; 32],
        mac: &[u8; 32],
        turn: Turn,
        heads: &[EventId],
        world: &World<'_>,
    ) -> Vec<Effect> {
        let me = &world.me.peer_id;
        let is_it = |key: &Secret| same(&self.mac(LISTENER, key, me, &theirs, turn_byte(turn)), mac);
        let Some((terms, circle, _)) = world.keyring.keys().find(|(_, _, key)| is_it(key)) else {
            return self.end(Refusal::Stranger, false);
        };
        let common = Common { terms: *terms, circle, is_current: *terms == world.log.terms() };
        // Ahead of the listener: it shows first, unless it says the same of us.
        if turn == Turn::Any && !common.is_current {
            self.state = State::Card { common, has_shown: false };
            return vec![Effect::Send(Message::YouFirst(vec![]).encode())];
        }
        self.state = State::Card { common, has_shown: true };
        vec![Effect::Send(show(world, world.log, heads, vec![]))]
    }

    /// The other's card, and what it brought. Whoever has not shown its own does so now, with what the other lacks.
    fn card(&mut self, common: Common, has_shown: bool, shown: &Shown, world: &World<'_>, now_s: u64) -> Vec<Effect> {
        let (log, mut effects) = news(world.log, &shown.log);
        let card = match self.check_card(&shown.card, world, now_s) {
            Ok(card) => card,
            Err(refusal) => {
                let twin = PeerCard::read(&shown.card, now_s).ok().filter(|_| refusal == Refusal::Twin);
                let told = twin.map(|card| Effect::Twin(Box::new(card)));
                return told.into_iter().chain(self.end(refusal, true)).collect();
            }
        };
        let standing = log.standing(&card.passport);
        match standing {
            Standing::Removed { .. } => return self.end(Refusal::Removed, true),
            Standing::Unknown => return self.end(Refusal::Unknown, true),
            Standing::Owner | Standing::Admin | Standing::Sibling | Standing::Guest => {}
        }
        effects.extend(some_keys(shown.keys.clone()));
        effects.push(Effect::Card(Box::new(shown.card.clone())));
        let is_current = common.terms == log.terms();
        // One that was a guest proves the guests' key still.
        let has_keys = is_current && (common.circle == Circle::Siblings || !standing.acts_for_owner());
        let mut keys = vec![];
        if !has_keys {
            keys = world.sealed.for_member(&[card.install, card.passport], common.terms.epoch);
            let has_copy = !is_current && keys.iter().any(|event| terms_of(event) == Some(log.terms()));
            if !has_copy && world.keyring.is_current(&log.terms()) {
                let role = if standing.acts_for_owner() { Grade::Sibling } else { Grade::Guest };
                effects.push(Effect::SealTo { install: card.install, role });
            }
        }
        let peer = Peer {
            card,
            standing,
            circle: common.circle,
            is_current,
            addresses: shown.addresses.clone(),
            relays: shown.relays.clone(),
        };
        if has_shown {
            let more = Message::More { log: log.missing_for(&shown.heads), keys };
            effects.push(Effect::Send(more.encode()));
            effects.push(Effect::Done(Box::new(peer)));
        } else {
            effects.push(Effect::Send(show(world, &log, &shown.heads, keys)));
            self.state = State::More { peer: Box::new(peer) };
        }
        effects
    }

    fn check_card(&self, event: &Event, world: &World<'_>, now_s: u64) -> Result<PeerCard, Refusal> {
        if event.as_json().len() > MAX_CARD || event.verify().is_err() {
            return Err(Refusal::Card);
        }
        let card = PeerCard::read(event, now_s).map_err(|_| Refusal::Card)?;
        if card.peer_id != self.peer_id {
            return Err(Refusal::Card);
        }
        if card.passport == world.me.passport {
            return Err(Refusal::Twin);
        }
        let newest = world.cards.newest(&card.passport);
        let is_old = newest.is_some_and(|known| known.revokes(&card) || known.sequence > card.sequence);
        if is_old { Err(Refusal::Superseded) } else { Ok(card) }
    }

    fn end(&mut self, refusal: Refusal, is_told: bool) -> Vec<Effect> {
        self.state = State::Over;
        let told = is_told.then(|| Effect::Send(Message::No(refusal).encode()));
        told.into_iter().chain([Effect::Refused(refusal)]).collect()
    }
}

fn turn_byte(turn: Turn) -> &'static [u8] {
    match turn {
        Turn::Any => b"any",
        Turn::First => b"first",
    }
}

fn half(mac: &[u8; 32]) -> Tag {
    let mut tag = [0; 16];
    tag.copy_from_slice(&mac[..16]);
    tag
}

/// Our card, our heads, and what a peer with `heads` lacks.
fn show(world: &World<'_>, log: &Log, heads: &[EventId], keys: Vec<Event>) -> Vec<u8> {
    let me = world.me;
    let addresses = me.addresses.iter().filter(|address| address.len() <= MAX_PLACE).take(MAX_PLACES);
    let relays = me.relays.iter().filter(|relay| relay.as_str().len() <= MAX_PLACE).take(MAX_PLACES);
    let shown = Shown {
        card: me.card.clone(),
        addresses: addresses.cloned().collect(),
        relays: relays.cloned().collect(),
        heads: log.heads(),
        log: log.missing_for(heads),
        keys,
    };
    Message::Card(Box::new(shown)).encode()
}

/// The log with what the other brought, and the effect that keeps what was new. Entries that are not admitted are left out.
fn news(log: &Log, brought: &[Event]) -> (Log, Vec<Effect>) {
    let mut log = log.clone();
    let mut new = Vec::new();
    for event in brought {
        if let Ok(crate::membership::Taken::New(events)) = log.take(event) {
            new.extend(events);
        }
    }
    let effect = (!new.is_empty()).then_some(Effect::Entries(new));
    (log, effect.into_iter().collect())
}

fn terms_of(event: &Event) -> Option<Terms> {
    match nips::federation::parse(event) {
        Ok(nips::federation::Message::EpochKey(key)) => Some(key.terms),
        Ok(nips::federation::Message::Answer(_) | nips::federation::Message::Entry(_)) | Err(_) => None,
    }
}

fn some_keys(keys: Vec<Event>) -> Option<Effect> {
    (!keys.is_empty()).then_some(Effect::Keys(keys))
}
