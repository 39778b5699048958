//! Nodes without I/O: keys from a number, and what a driver does with effects.

use std::collections::BTreeMap;

use federation::handshake::{Effect, Handshake, Input, KnownCards, Me, Peer, Refusal, World};
use federation::keyring::{Keyring, SealedKeys, make, seal_to};
use federation::membership::{Log, Standing, Taken};
use libp2p::identity::Keypair;
use nips::PeerCard;
use nips::federation::{Act, Role};
use nostr::secp256k1::Message;
use nostr::secp256k1::rand::rngs::StdRng;
use nostr::secp256k1::rand::{RngCore, SeedableRng};
use nostr::{Event, Keys, PublicKey, UnsignedEvent};

pub const NOW: u64 = 1_800_000_000;

#[derive(Default, Clone)]
pub struct Cards(pub BTreeMap<PublicKey, PeerCard>);

impl KnownCards for Cards {
    fn newest(&self, passport: &PublicKey) -> Option<PeerCard> {
        self.0.get(passport).cloned()
    }
}

pub struct Node {
    pub passport: Keys,
    pub install: Keys,
    pub transport: Keypair,
    pub me: Me,
    pub log: Option<Log>,
    pub keyring: Keyring,
    pub sealed: SealedKeys,
    pub cards: Cards,
    pub rng: StdRng,
}

pub fn keys(kind: u8, n: u8) -> Keys {
    let mut bytes = [kind; 32];
    bytes[31] = n;
    Keys::new(nostr::SecretKey::from_slice(&bytes).unwrap())
}

pub fn npub(n: u8) -> PublicKey {
    keys(1, n).public_key()
}

/// Signs without randomness, so that examples stay the same.
pub fn sign(mut event: UnsignedEvent, keys: &Keys) -> Event {
    let id = event.id();
    let pair = nostr::secp256k1::Keypair::from_secret_key(nostr::SECP256K1, keys.secret_key());
    let sig = nostr::SECP256K1.sign_schnorr_no_aux_rand(&Message::from_digest(id.to_bytes()), &pair);
    Event::new(id, event.pubkey, event.created_at, event.kind, event.tags, event.content, sig)
}

/// A card that all three keys signed.
pub fn card(passport: &Keys, install: &Keys, transport: &Keypair, sequence: u64, not_after: u64) -> Event {
    let card = PeerCard {
        passport: passport.public_key(),
        install: install.public_key(),
        peer_id: transport.public().to_peer_id(),
        abilities: vec![],
        sequence,
        not_after,
    };
    let pair = nostr::secp256k1::Keypair::from_secret_key(nostr::SECP256K1, install.secret_key());
    let sig = nostr::SECP256K1.sign_schnorr_no_aux_rand(&Message::from_digest(card.statement()), &pair);
    sign(card.event(&sig, transport, NOW - 10).unwrap(), passport)
}

impl Node {
    pub fn new(n: u8) -> Self {
        Self::with_install(n, n)
    }

    /// A passport on another install: a restored node.
    pub fn with_install(n: u8, install_number: u8) -> Self {
        let (passport, install) = (keys(1, n), keys(2, install_number));
        let transport = Keypair::ed25519_from_bytes(keys(3, install_number).secret_key().to_secret_bytes()).unwrap();
        let card = card(&passport, &install, &transport, 1 + u64::from(install_number), NOW + 86_400);
        let me = Me {
            passport: passport.public_key(),
            install: install.public_key(),
            peer_id: transport.public().to_peer_id(),
            card,
            addresses: vec![format!("/ip4/192.0.2.{n}/udp/4001/quic-v1")],
            relays: vec![],
        };
        let rng = StdRng::seed_from_u64(u64::from(n));
        let (keyring, sealed, cards) = (Keyring::default(), SealedKeys::default(), Cards::default());
        Self { passport, install, transport, me, log: None, keyring, sealed, cards, rng }
    }

    pub fn npub(&self) -> PublicKey {
        self.passport.public_key()
    }

    pub fn log(&self) -> &Log {
        self.log.as_ref().unwrap()
    }

    pub fn log_mut(&mut self) -> &mut Log {
        self.log.as_mut().unwrap()
    }

    /// Founds a federation and makes its first keys.
    pub fn found(mut self, owner: Option<PublicKey>) -> Self {
        let event = Log::founding("home", owner, self.npub(), NOW).sign_with_keys(&self.passport).unwrap();
        self.log = Some(Log::found(&event).unwrap());
        self.rekey();
        self
    }

    /// Makes an entry, and keys when it was a removal.
    pub fn act(&mut self, act: &Act) -> bool {
        let Ok(draft) = self.log().draft(act, self.npub(), NOW) else { return false };
        let event = draft.sign_with_keys(&self.passport).unwrap();
        assert!(matches!(self.log_mut().take(&event).unwrap(), Taken::New(_)));
        if matches!(act, Act::Remove { .. }) && self.log().standing(&self.npub()).may_admit() {
            self.rekey();
        }
        true
    }

    pub fn rekey(&mut self) {
        let mut random = [0; 64];
        self.rng.fill_bytes(&mut random);
        let ephemeral = self.fresh_key();
        let installs = self.cards.0.values().map(|card| (card.passport, card.install));
        let installs = installs.chain([(self.npub(), self.me.install)]).collect();
        let log = self.log.clone().unwrap();
        let (opened, event) = make(&log, &installs, self.npub(), NOW, &random, &ephemeral, &mut self.rng).unwrap();
        let event = event.sign_with_keys(&self.passport).unwrap();
        self.keyring.add(&opened);
        self.sealed.take(&event, &log, &self.install).unwrap();
    }

    pub fn fresh_key(&mut self) -> Keys {
        let mut bytes = [0; 32];
        self.rng.fill_bytes(&mut bytes);
        Keys::new(nostr::SecretKey::from_slice(&bytes).unwrap())
    }

    pub fn random(&mut self) -> [u8; 64] {
        let mut random = [0; 64];
        self.rng.fill_bytes(&mut random);
        random
    }

    pub fn is_current(&self) -> bool {
        self.keyring.is_current(&self.log().terms())
    }

    pub fn standing(&self, n: u8) -> Standing {
        self.log().standing(&npub(n))
    }

    pub fn saw(&mut self, card: &Event) {
        let card = PeerCard::read(card, NOW).unwrap();
        let is_newer = self.cards.0.get(&card.passport).is_none_or(|known| card.sequence >= known.sequence);
        if is_newer {
            self.cards.0.insert(card.passport, card);
        }
    }

    pub fn step(&self, machine: &mut Handshake, input: &Input<'_>, now_ms: u64) -> Vec<Effect> {
        let world =
            World { me: &self.me, log: self.log(), keyring: &self.keyring, sealed: &self.sealed, cards: &self.cards };
        machine.handle(input, &world, now_ms, NOW)
    }

    /// What a driver does with sealed keys: opens the copy for its install, or has the signer open the one for its passport.
    pub fn take_keys(&mut self, event: &Event) {
        let log = self.log.clone().unwrap();
        let Ok(opened) = self.sealed.take(event, &log, &self.install) else { return };
        let opened = opened.or_else(|| match nips::federation::parse(event) {
            Ok(nips::federation::Message::EpochKey(key)) => key.open(&self.passport).unwrap(),
            _ => None,
        });
        if let Some(opened) = opened {
            self.keyring.add(&opened);
        }
    }

    /// What an admin's driver does for a member without the present keys; the next handshake brings them.
    fn seal_to(&mut self, install: PublicKey, role: Role) {
        let (ephemeral, log, npub) = (self.fresh_key(), self.log.clone().unwrap(), self.npub());
        let sealed = seal_to(&log, &self.keyring, (install, role), npub, NOW, &ephemeral, &mut self.rng).unwrap();
        if let Some(event) = sealed.filter(|_| log.standing(&npub).may_admit()) {
            let event = event.sign_with_keys(&self.passport).unwrap();
            self.sealed.take(&event, &log, &self.install).unwrap();
        }
    }

    /// Carries out what is not sending; gives the outcome if there is one.
    pub fn apply(&mut self, effect: Effect) -> Option<Result<Peer, Refusal>> {
        match effect {
            Effect::Entries(entries) => entries.iter().for_each(|entry| {
                self.log_mut().take(entry).unwrap();
            }),
            Effect::Keys(keys) => keys.iter().for_each(|event| self.take_keys(event)),
            Effect::Card(event) => self.saw(&event),
            Effect::Done(peer) => return Some(Ok(*peer)),
            Effect::Refused(refusal) => return Some(Err(refusal)),
            Effect::SealTo { install, role } => self.seal_to(install, role),
            Effect::Twin(_) | Effect::Send(_) => {}
        }
        None
    }
}

/// What came of a handshake: both outcomes, the frames each sent, and effects that need a signer.
#[derive(Default)]
pub struct Met {
    pub dialer: Option<Result<Peer, Refusal>>,
    pub listener: Option<Result<Peer, Refusal>>,
    pub by_dialer: Vec<Vec<u8>>,
    pub by_listener: Vec<Vec<u8>>,
    pub others: Vec<Effect>,
}

/// Runs a handshake; `lose_after` frames the connection is cut.
pub fn meet_cut(dialer: &mut Node, listener: &mut Node, lose_after: usize) -> Met {
    let random = dialer.random();
    let (mut out, first) = Handshake::dial(listener.me.peer_id, random, 0);
    let mut inn = Handshake::listen(dialer.me.peer_id, listener.random(), 0);
    let mut met = Met::default();
    let mut to_listener: Vec<Effect> = first;
    let mut frames = 0;
    loop {
        let mut to_dialer = Vec::new();
        for effect in std::mem::take(&mut to_listener) {
            if let Effect::Send(frame) = effect {
                frames += 1;
                if frames > lose_after {
                    return met;
                }
                assert!(frame.len() <= inn.max_frame());
                to_dialer.extend(listener.step(&mut inn, &Input::Frame(&frame), 1));
                met.by_dialer.push(frame);
            } else {
                met.others.push(effect.clone());
                met.dialer = dialer.apply(effect).or(met.dialer.take());
            }
        }
        for effect in to_dialer {
            if let Effect::Send(frame) = effect {
                frames += 1;
                if frames > lose_after {
                    return met;
                }
                assert!(frame.len() <= out.max_frame());
                to_listener.extend(dialer.step(&mut out, &Input::Frame(&frame), 1));
                met.by_listener.push(frame);
            } else {
                met.others.push(effect.clone());
                met.listener = listener.apply(effect).or(met.listener.take());
            }
        }
        if to_listener.is_empty() {
            return met;
        }
    }
}

pub fn meet(dialer: &mut Node, listener: &mut Node) -> Met {
    meet_cut(dialer, listener, usize::MAX)
}

/// A second node that belongs, as if it had been invited.
pub fn admit(inviter: &mut Node, mut node: Node, role: Role) -> Node {
    assert!(inviter.act(&Act::Join { node: node.npub(), role, invitation: None }));
    let to = (node.me.install, role);
    let ephemeral = inviter.fresh_key();
    let (log, npub) = (inviter.log.clone().unwrap(), inviter.npub());
    let keys = seal_to(&log, &inviter.keyring, to, npub, NOW, &ephemeral, &mut inviter.rng);
    let keys = keys.unwrap().unwrap().sign_with_keys(&inviter.passport).unwrap();
    node.log = Some(log);
    node.take_keys(&keys);
    inviter.saw(&node.me.card);
    node.saw(&inviter.me.card);
    node
}
