//! Which install speaks for the passport (DESIGN §3): peer cards, and what happens when a restored backup runs beside its original.
//!
//! Each install publishes a card with a sequence number; a restore takes a higher one. An install that sees a card which revokes its
//! own has been replaced: it shuts its job doors and says so. The other one goes on.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use nips::PeerCard;
use nips::card::{CARD_KIND, MAX_LIFE_S};
use nostr::secp256k1::{Keypair, Message};
use nostr::{Event, Filter, Kind, PublicKey, UnsignedEvent};

use crate::installs::Installs;
use crate::journal::now_ms;
use crate::keys::NodeKeys;

/// Watches the cards of our own passport.
#[derive(Clone)]
pub struct PassportWatch(Arc<Inner>);

struct Inner {
    card: Mutex<PeerCard>,
    superseded: AtomicBool,
    /// The highest sequence number seen on another install's card.
    highest: Mutex<u64>,
    installs: Installs,
}

impl PassportWatch {
    /// Watches for cards that revoke the one with `sequence`.
    pub fn new(node: PublicKey, keys: &NodeKeys, sequence: u64, installs: Installs) -> Self {
        let card = PeerCard {
            passport: node,
            install: keys.install_key(),
            peer_id: keys.transport.public().to_peer_id(),
            abilities: vec![],
            sequence,
            not_after: 0,
        };
        Self(Arc::new(Inner {
            card: Mutex::new(card),
            superseded: AtomicBool::new(false),
            highest: Mutex::new(0),
            installs,
        }))
    }

    /// Finds every card of `node`.
    pub fn filter(node: PublicKey) -> Filter {
        Filter::new().author(node).kind(Kind::from_u16(CARD_KIND))
    }

    /// Looks at a verified card.
    pub fn saw(&self, event: &Event) {
        let ours = self.card();
        if event.pubkey != ours.passport {
            return;
        }
        let Ok(card) = PeerCard::read(event, now_ms() / 1000) else { return };
        if card.install == ours.install {
            return;
        }
        self.weigh(&card, &ours);
    }

    /// Another install has a card of our passport: it may write into our memory, and perhaps it speaks for the passport now.
    fn weigh(&self, card: &PeerCard, ours: &PeerCard) {
        self.0.installs.saw(card.install);
        let mut highest = self.0.highest.lock().unwrap_or_else(PoisonError::into_inner);
        *highest = (*highest).max(card.sequence);
        drop(highest);
        if card.revokes(ours) && !self.0.superseded.swap(true, Ordering::SeqCst) {
            tracing::error!(
                other_install = %card.install.to_hex(),
                "another install of this node speaks for its passport now (a restored backup?): the job doors are shut here. \
                 Stop one of the two; to make this one speak again, start it with `timmy run --take-over`"
            );
        }
    }

    /// True when another install speaks for the passport.
    pub fn is_superseded(&self) -> bool {
        self.0.superseded.load(Ordering::SeqCst)
    }

    /// The highest sequence number seen on other installs' cards.
    pub fn highest_seen(&self) -> u64 {
        *self.0.highest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Speaks for the passport from now on, with `sequence`.
    pub fn take_over(&self, sequence: u64) {
        self.0.card.lock().unwrap_or_else(PoisonError::into_inner).sequence = sequence;
        self.0.superseded.store(false, Ordering::SeqCst);
    }

    /// What this install can do from now on, for its next card; true when that is news.
    pub fn set_abilities(&self, abilities: Vec<String>) -> bool {
        let mut card = self.0.card.lock().unwrap_or_else(PoisonError::into_inner);
        let is_news = card.abilities != abilities;
        card.abilities = abilities;
        is_news
    }

    /// What its card says that it can do.
    pub fn abilities(&self) -> Vec<String> {
        self.card().abilities
    }

    /// The card of this install dated `at` (Unix seconds), for the passport to sign.
    ///
    /// # Errors
    /// When the transport key cannot sign.
    pub fn renewed(&self, keys: &NodeKeys, at: u64) -> Result<UnsignedEvent> {
        let mut card = self.0.card.lock().unwrap_or_else(PoisonError::into_inner);
        // Two cards of one second could not be told apart: the later one is dated later.
        let at = at.max((card.not_after + 1).saturating_sub(MAX_LIFE_S));
        card.not_after = at + MAX_LIFE_S;
        let pair = Keypair::from_secret_key(nostr::SECP256K1, keys.install.secret_key());
        let signature = nostr::SECP256K1.sign_schnorr(&Message::from_digest(card.statement()), &pair);
        card.event(&signature, &keys.transport, at).context("the peer card cannot be signed")
    }

    /// A sister node saw a card of our passport by another install.
    pub fn twin(&self, card: &PeerCard) {
        let ours = self.card();
        if card.passport == ours.passport && card.install != ours.install {
            self.weigh(card, &ours);
        }
    }

    /// The sequence number in force.
    pub fn sequence(&self) -> u64 {
        self.card().sequence
    }

    fn card(&self) -> PeerCard {
        self.0.card.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
