//! The joiner's side.

use nips::PeerCard;
use nips::federation::{Answer, Ask, Code, Joiner as Bound, Message, Opened, Refusal, Role, Welcome, same, verified};
use nostr::{Event, Keys};

use super::Source;
use crate::handshake::Me;
use crate::keyring::{Keyring, SealedKeys};
use crate::membership::{Log, Standing};

/// How long the joiner waits before it asks again, seconds: a letter may be lost, and a restarted inviter has forgotten who asked.
const AGAIN_S: u64 = 20;

/// Why a node does not come to belong. For the person who typed the code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// The inviter refused.
    #[error("{0}")]
    Refused(Refusal),
    /// The code's time ran out without an answer.
    #[error(
        "the node that made the code did not answer. Is it running, on this network or on a relay that both reach? \
         Then make a new code there with `timmy peer invite`"
    )]
    NoAnswer,
    /// An answer came that is not what the code promises.
    #[error(
        "an answer came that is not by the node that made the code ({0}); nothing was joined. Make a new code with `timmy peer invite`"
    )]
    Welcome(&'static str),
    /// This node belongs elsewhere.
    #[error(
        "this node already belongs to a federation of {0} nodes; leave it first with `timmy peer remove` of its own npub"
    )]
    Elsewhere(usize),
}

/// Whether a node with this log may join another federation: only one that is alone in its own, which is then given up.
///
/// # Errors
/// [`JoinError::Elsewhere`].
pub fn may_join(own: Option<&Log>, me: &nostr::PublicKey, inviter: &nostr::PublicKey) -> Result<(), JoinError> {
    let Some(own) = own.filter(|own| own.standing(me).is_member()) else { return Ok(()) };
    let members = own.members().len();
    // A code of one of its own: it was removed, and nobody told it.
    if members > 1 && !own.standing(inviter).is_member() { Err(JoinError::Elsewhere(members)) } else { Ok(()) }
}

/// What comes to a joiner.
#[derive(Debug, Clone, Copy)]
pub enum JoinerInput<'a> {
    /// An answer (kind 9770).
    Heard {
        /// By which carrier.
        from: Source,
        /// The event, unverified.
        event: &'a Event,
    },
    /// [`super::Frame::No`] on a stream.
    Refused {
        /// By which carrier.
        from: Source,
        /// Why.
        refusal: Refusal,
    },
    /// Time has passed.
    Tick,
}

/// What a joiner wants done.
pub enum JoinerEffect {
    /// Ask by every carrier: a stream to the code's PeerId, a letter to its passport. The install key signs [`Answer::to_event`].
    Ask(Box<Answer>),
    /// This node belongs.
    Joined(Box<Joined>),
    /// It does not.
    Failed(JoinError),
}

/// What a node has that has joined. To be journaled before anything is done with it.
pub struct Joined {
    /// Who belongs.
    pub log: Log,
    /// The keys.
    pub keyring: Keyring,
    /// The sealed ones.
    pub sealed: SealedKeys,
    /// What this node is.
    pub standing: Standing,
    /// The inviter's card, as it was signed.
    pub inviter: Box<Event>,
}

/// One joining.
pub struct Joiner {
    code: Code,
    me: Me,
    nonce: [u8; 32],
    asked_at: u64,
    is_over: bool,
}

impl Joiner {
    /// Begins at `now` (Unix seconds) with a code that [`Code::read`] took.
    pub fn new(code: Code, me: Me, nonce: [u8; 32], now: u64) -> (Self, Vec<JoinerEffect>) {
        let joiner = Self { code, me, nonce, asked_at: now, is_over: false };
        let ask = JoinerEffect::Ask(Box::new(joiner.ask()));
        (joiner, vec![ask])
    }

    /// The code that is used.
    pub fn code(&self) -> &Code {
        &self.code
    }

    fn role(&self) -> Role {
        if self.code.is_guest { Role::Guest } else { Role::Sibling }
    }

    fn ask(&self) -> Answer {
        let me = &self.me;
        let bound = Bound { passport: &me.passport, install: &me.install, peer_id: &me.peer_id };
        Answer::Ask(Ask {
            invitation: self.code.id(),
            inviter: self.code.inviter,
            nonce: self.nonce,
            proof: Ask::proof(&self.code, &bound, self.role(), &self.nonce),
            role: self.role(),
            card: Box::new(me.card.clone()),
            addresses: me.addresses.iter().take(8).cloned().collect(),
            relays: me.relays.iter().take(8).cloned().collect(),
        })
    }

    /// Takes an input at `now` (Unix seconds). `install` opens the keys.
    pub fn handle(&mut self, input: JoinerInput<'_>, install: &Keys, now: u64) -> Vec<JoinerEffect> {
        if self.is_over {
            return vec![];
        }
        match input {
            JoinerInput::Tick => self.tick(now),
            JoinerInput::Refused { from, refusal } => self.refused(from, refusal),
            JoinerInput::Heard { from, event } => self.heard(from, event, install, now),
        }
    }

    fn tick(&mut self, now: u64) -> Vec<JoinerEffect> {
        if now >= self.code.expires_at {
            return self.fail(JoinError::NoAnswer);
        }
        if now < self.asked_at.saturating_add(AGAIN_S) {
            return vec![];
        }
        self.asked_at = now;
        vec![JoinerEffect::Ask(Box::new(self.ask()))]
    }

    /// Only the inviter can refuse: others on the way cannot end a joining.
    fn is_inviter(&self, from: Source) -> bool {
        match from {
            Source::Stream(peer_id) => peer_id == self.code.peer_id,
            Source::Letter(passport) => passport == self.code.inviter,
        }
    }

    fn refused(&mut self, from: Source, refusal: Refusal) -> Vec<JoinerEffect> {
        // "Could not finish" and "too many wrong tries" pass: the joiner asks again until the code ends.
        if !self.is_inviter(from) || matches!(refusal, Refusal::Failed | Refusal::Busy) {
            return vec![];
        }
        self.fail(JoinError::Refused(refusal))
    }

    fn heard(&mut self, from: Source, event: &Event, install: &Keys, now: u64) -> Vec<JoinerEffect> {
        let Ok(Message::Answer(answer)) = verified(event) else { return vec![] };
        if !self.is_inviter(from) || answer.invitation() != self.code.id() {
            return vec![];
        }
        match *answer {
            Answer::Ask(_) => vec![],
            Answer::Refused { refusal, .. } => self.refused(from, refusal),
            Answer::Welcome(welcome) => match self.welcome(event, &welcome, install, now) {
                Ok(joined) => {
                    self.is_over = true;
                    vec![JoinerEffect::Joined(Box::new(joined))]
                }
                Err(why) => self.fail(JoinError::Welcome(why)),
            },
        }
    }

    fn welcome(&self, event: &Event, welcome: &Welcome, install: &Keys, now: u64) -> Result<Joined, &'static str> {
        let proof = Welcome::proof(&self.code.secret(), &self.nonce, welcome.federation, welcome.entry);
        if welcome.joiner != self.me.passport || !same(&proof, &welcome.proof) {
            return Err("its proof is wrong");
        }
        welcome.card.verify().map_err(|_| "its peer card is not good")?;
        let card = PeerCard::read(&welcome.card, now).map_err(|_| "its peer card is not good")?;
        if card.passport != self.code.inviter || card.peer_id != self.code.peer_id || card.install != event.pubkey {
            return Err("its peer card is of another node");
        }
        let mut log = Log::new(welcome.federation);
        for entry in &welcome.log {
            log.take(entry).map_err(|_| "its membership log is not good")?;
        }
        let standing = log.standing(&self.me.passport);
        let is_enough = standing.acts_for_owner() || (standing == Standing::Guest && self.code.is_guest);
        if !log.contains(&welcome.entry) || !is_enough {
            return Err("its membership log does not name this node");
        }
        let (keyring, sealed) = open(welcome, &log, install)?;
        Ok(Joined { log, keyring, sealed, standing, inviter: welcome.card.clone() })
    }

    fn fail(&mut self, error: JoinError) -> Vec<JoinerEffect> {
        self.is_over = true;
        vec![JoinerEffect::Failed(error)]
    }
}

fn open(welcome: &Welcome, log: &Log, install: &Keys) -> Result<(Keyring, SealedKeys), &'static str> {
    let (mut keyring, mut sealed) = (Keyring::default(), SealedKeys::default());
    for event in &welcome.keys {
        let opened: Option<Opened> = sealed.take(event, log, install).map_err(|_| "its keys are not good")?;
        opened.iter().for_each(|opened| {
            keyring.add(opened);
        });
    }
    let secrets = keyring.secrets(&log.terms()).ok_or("it brought no keys")?;
    let is_sibling = log.recipients().iter().any(|(npub, role)| *role == Role::Sibling && welcome.joiner == *npub);
    if is_sibling && secrets.sibling.is_none() {
        Err("it brought no keys for a sibling")
    } else {
        Ok((keyring, sealed))
    }
}
