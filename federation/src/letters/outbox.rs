//! What goes out: a queue for each peer, free of I/O.
//!
//! ```text
//!            ┌ reachable on the LAN ──► Lan ── receipt ──────────────────► done
//!  put ──────┤        └ Sure: Letter as well   └ no receipt in 1.5 s ──► Letter ── a relay has it ─► done
//!            └ not reachable ─────────► Letter                                └ refused: again, up to a minute apart
//! ```
//!
//! A dead TCP peer looks connected for a minute: only a receipt says that something arrived. A relay that took a letter keeps it until it is
//! fetched, so its word is as good. What is put is journaled first, and after a restart everything is tried again: receivers
//! take an envelope once.

use std::collections::BTreeMap;

use nostr::{Event, EventId, PublicKey};
use serde::{Deserialize, Serialize};

use super::{MAX_RECEIPT, MAX_WAITING, MAX_WAITING_FOR_ONE, RECEIPT_MS};

/// The first pause after a relay did not take a letter, milliseconds; it doubles.
const FIRST_PAUSE_MS: u64 = 1_000;
/// The longest pause, milliseconds.
const LAST_PAUSE_MS: u64 = 60_000;

/// How much an envelope matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Urgency {
    /// One carrier, and the other when the first says nothing.
    Usual,
    /// Both at once: awards, results, removals.
    Sure,
}

/// How a peer is reached now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reach {
    /// By a connection that is alive.
    pub lan: bool,
    /// By relays that both know.
    pub relay: bool,
}

/// One envelope for one peer, as it is journaled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// To whom: a passport.
    pub to: PublicKey,
    /// What.
    pub envelope: Event,
    /// How much it matters.
    pub urgency: Urgency,
    /// Unix seconds; then it is dropped.
    pub expires_at: u64,
}

/// Why an envelope is not put.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// More wait for this peer, or in all, than are kept.
    #[error("too many envelopes wait for this peer")]
    Full,
    /// It is over already.
    #[error("the envelope has ended")]
    Expired,
}

/// What comes in.
#[derive(Debug, Clone)]
pub enum Input {
    /// How a peer is reached has changed.
    Reach {
        /// Which.
        peer: PublicKey,
        /// How.
        reach: Reach,
    },
    /// [`Effect::Journal`] was done.
    Journaled {
        /// To whom.
        to: PublicKey,
        /// Which envelope.
        id: EventId,
    },
    /// The peer has these, it says.
    Receipt {
        /// Who says so, authenticated by the carrier.
        from: PublicKey,
        /// Which envelopes.
        ids: Vec<EventId>,
    },
    /// A relay has all parts of the letter, or did not take them.
    Letter {
        /// To whom.
        to: PublicKey,
        /// Which envelope.
        id: EventId,
        /// True when at least one relay has all of it.
        is_taken: bool,
    },
    /// The peer is no member any more: nothing waits for it.
    Gone(PublicKey),
    /// Time has passed.
    Tick,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Write it down, then say [`Input::Journaled`].
    Journal(Box<Item>),
    /// It waits no more.
    Forget {
        /// To whom it was.
        to: PublicKey,
        /// Which envelope.
        id: EventId,
    },
    /// Send on the LAN, by a stream or by gossip if it is for all.
    Lan {
        /// To whom.
        to: PublicKey,
        /// What.
        envelope: Box<Event>,
    },
    /// Send as a letter, to the relays that both know.
    Letter {
        /// To whom.
        to: PublicKey,
        /// What.
        envelope: Box<Event>,
        /// For the letter's `expiration`.
        expires_at: u64,
    },
}

/// One waiting envelope.
#[derive(Debug)]
struct Waiting {
    item: Item,
    order: u64,
    is_journaled: bool,
    /// When a receipt was due that did not come; none when the LAN was not tried since the peer was last reached so.
    lan_until_ms: Option<u64>,
    letter: LetterState,
    pause_ms: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LetterState {
    /// Not needed yet.
    Idle,
    /// Handed over; the relays' word is awaited.
    Sent,
    /// Not taken: again at this time.
    Again(u64),
}

/// The queues.
#[derive(Debug, Default)]
pub struct Outbox {
    waiting: BTreeMap<(PublicKey, EventId), Waiting>,
    reach: BTreeMap<PublicKey, Reach>,
    next: u64,
}

impl Outbox {
    /// With what the journal kept: everything is tried again as peers are reached.
    pub fn restore(items: impl IntoIterator<Item = Item>) -> Self {
        let mut outbox = Self::default();
        for item in items {
            outbox.insert(item, true);
        }
        outbox
    }

    fn insert(&mut self, item: Item, is_journaled: bool) {
        let key = (item.to, item.envelope.id);
        let waiting = Waiting {
            item,
            order: self.next,
            is_journaled,
            lan_until_ms: None,
            letter: LetterState::Idle,
            pause_ms: FIRST_PAUSE_MS,
        };
        self.next += 1;
        self.waiting.entry(key).or_insert(waiting);
    }

    /// Puts an envelope for a peer, at `now_s` (Unix seconds). Putting it twice is once.
    ///
    /// # Errors
    /// When the queue is full, or the envelope is over.
    pub fn put(&mut self, item: Item, now_s: u64) -> Result<Vec<Effect>, Rejected> {
        if item.expires_at <= now_s {
            return Err(Rejected::Expired);
        }
        if self.waiting.contains_key(&(item.to, item.envelope.id)) {
            return Ok(vec![]);
        }
        if self.waiting.len() >= MAX_WAITING || self.waiting_for(&item.to) >= MAX_WAITING_FOR_ONE {
            return Err(Rejected::Full);
        }
        self.insert(item.clone(), false);
        Ok(vec![Effect::Journal(Box::new(item))])
    }

    /// How many envelopes wait for a peer.
    pub fn waiting_for(&self, peer: &PublicKey) -> usize {
        self.waiting.range(of_peer(peer)).count()
    }

    /// Takes an input, at `now_ms` (monotonic) and `now_s` (Unix seconds, for ends).
    pub fn handle(&mut self, input: Input, now_ms: u64, now_s: u64) -> Vec<Effect> {
        match input {
            Input::Reach { peer, reach } => self.reached(peer, reach, now_ms),
            Input::Journaled { to, id } => {
                let Some(waiting) = self.waiting.get_mut(&(to, id)) else { return vec![] };
                waiting.is_journaled = true;
                let reach = self.reach.get(&to).copied().unwrap_or_default();
                waiting.send(reach, now_ms)
            }
            Input::Receipt { from, ids } => ids.into_iter().filter_map(|id| self.done(from, id)).collect(),
            Input::Letter { to, id, is_taken: true } => self.done(to, id).into_iter().collect(),
            Input::Letter { to, id, is_taken: false } => {
                if let Some(waiting) = self.waiting.get_mut(&(to, id)) {
                    waiting.letter = LetterState::Again(now_ms.saturating_add(waiting.pause_ms));
                    waiting.pause_ms = (waiting.pause_ms * 2).min(LAST_PAUSE_MS);
                }
                vec![]
            }
            Input::Gone(peer) => self.gone(peer),
            Input::Tick => self.tick(now_ms, now_s),
        }
    }

    fn reached(&mut self, peer: PublicKey, reach: Reach, now_ms: u64) -> Vec<Effect> {
        let before = self.reach.insert(peer, reach).unwrap_or_default();
        let mut of_peer: Vec<&mut Waiting> = self.waiting.range_mut(of_peer(&peer)).map(|(_, w)| w).collect();
        of_peer.sort_by_key(|waiting| waiting.order);
        let mut effects = Vec::new();
        for waiting in of_peer {
            if reach.lan && !before.lan {
                waiting.lan_until_ms = None;
            }
            effects.extend(waiting.send(reach, now_ms));
        }
        effects
    }

    fn gone(&mut self, peer: PublicKey) -> Vec<Effect> {
        self.reach.remove(&peer);
        let ids: Vec<EventId> = self.waiting.range(of_peer(&peer)).map(|((_, id), _)| *id).collect();
        ids.into_iter().filter_map(|id| self.done(peer, id)).collect()
    }

    fn done(&mut self, to: PublicKey, id: EventId) -> Option<Effect> {
        self.waiting.remove(&(to, id)).map(|_| Effect::Forget { to, id })
    }

    fn tick(&mut self, now_ms: u64, now_s: u64) -> Vec<Effect> {
        let is_over = |waiting: &Waiting| waiting.item.expires_at <= now_s;
        let over: Vec<_> = self.waiting.iter().filter(|(_, waiting)| is_over(waiting)).map(|(key, _)| *key).collect();
        let mut effects: Vec<Effect> = over.into_iter().filter_map(|(to, id)| self.done(to, id)).collect();
        let mut rest: Vec<(&PublicKey, &mut Waiting)> = self.waiting.iter_mut().map(|((to, _), w)| (to, w)).collect();
        rest.sort_by_key(|(_, waiting)| waiting.order);
        for (to, waiting) in rest {
            let reach = self.reach.get(to).copied().unwrap_or_default();
            effects.extend(waiting.send(reach, now_ms));
        }
        effects
    }
}

impl Waiting {
    /// What is to be sent now. Nothing before it is journaled.
    fn send(&mut self, reach: Reach, now_ms: u64) -> Vec<Effect> {
        if !self.is_journaled {
            return vec![];
        }
        let mut effects = Vec::new();
        let item = &self.item;
        if reach.lan && self.lan_until_ms.is_none() {
            self.lan_until_ms = Some(now_ms.saturating_add(RECEIPT_MS));
            effects.push(Effect::Lan { to: item.to, envelope: Box::new(item.envelope.clone()) });
        }
        let is_late = self.lan_until_ms.is_some_and(|until| until <= now_ms);
        if reach.lan && is_late && !reach.relay {
            // No relay to turn to: the LAN again.
            self.lan_until_ms = Some(now_ms.saturating_add(RECEIPT_MS));
            effects.push(Effect::Lan { to: item.to, envelope: Box::new(item.envelope.clone()) });
        }
        let is_needed = !reach.lan || is_late || item.urgency == Urgency::Sure;
        let is_due = match self.letter {
            LetterState::Idle => true,
            LetterState::Sent => false,
            LetterState::Again(at) => at <= now_ms,
        };
        if reach.relay && is_needed && is_due {
            self.letter = LetterState::Sent;
            let envelope = Box::new(item.envelope.clone());
            effects.push(Effect::Letter { to: item.to, envelope, expires_at: item.expires_at });
        }
        effects
    }
}

fn of_peer(peer: &PublicKey) -> std::ops::RangeInclusive<(PublicKey, EventId)> {
    (*peer, EventId::all_zeros())..=(*peer, EventId::from_byte_array([0xff; 32]))
}

/// The frame `["GOT", id…]` by which a peer says what it has; at most 256 ids.
pub fn receipt(ids: &[EventId]) -> Vec<u8> {
    let words: Vec<String> =
        std::iter::once("GOT".to_owned()).chain(ids.iter().take(MAX_RECEIPT).map(EventId::to_hex)).collect();
    serde_json::to_vec(&words).unwrap_or_default()
}

/// The ids of such a frame; none when it is none.
pub fn receipt_ids(frame: &[u8]) -> Option<Vec<EventId>> {
    // An id is 64 digits, two quotes and a comma.
    if frame.len() > 16 + MAX_RECEIPT * 67 {
        return None;
    }
    let words: Vec<String> = serde_json::from_slice(frame).ok()?;
    let (word, ids) = words.split_first()?;
    if word != "GOT" || ids.len() > MAX_RECEIPT {
        return None;
    }
    ids.iter().map(|id| EventId::from_hex(id).ok()).collect()
}
