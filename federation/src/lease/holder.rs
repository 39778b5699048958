//! The worker's side of one lease: from the award to the accepted result.

use std::collections::BTreeMap;

use nips::task::{Act, Added, Attempt, Cargo, Envelope, Lease, Message, Output, Parts, Reason, Work, split};
use nostr::PublicKey;

use super::{MARGIN_DIVISOR, RENEWALS};
use crate::tasks::{Now, Signer};

/// How often a result is sent before the worker gives up on a requester that says nothing: about ten minutes with
/// [`MAX_BACKOFF_MS`].
const MAX_DELIVERIES: u32 = 16;
/// The longest pause between two sendings of the same thing, ms.
const MAX_BACKOFF_MS: u64 = 60_000;
/// Renewals that may be out without a grant: more than fit into a lease.
const MAX_TURNS_OUT: usize = 64;

/// What happens to a lease on the worker's side. All but the first, the last and those of the own worker come from the requester.
#[derive(Debug, Clone, Copy)]
pub enum Input<'a> {
    /// The award came again: the requester wants to know how it stands, unless it was told just now.
    Asked,
    /// A grant, or the end of the lease.
    Act(&'a Act),
    /// A part of the input.
    Part(&'a Cargo),
    /// Something was refused.
    Refused(Reason),
    /// The own worker has an output.
    Done(&'a str),
    /// The own worker gave up.
    Failed(&'a str),
    /// The requester has gone on to a newer epoch.
    Superseded,
    /// Time has passed.
    Timer,
}

/// Why a worker stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Its lease ends.
    Fence,
    /// The requester has gone on to a newer epoch.
    Superseded,
    /// The requester does not want it any more.
    Released,
    /// The requester refused a word of ours.
    Refused(Reason),
}

/// What a lease wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Tell the requester.
    Send(Envelope),
    /// Begin; stop at `fence_ms` (boottime) unless it is extended.
    Execute {
        /// What to do.
        work: Box<Work>,
        /// When to stop.
        fence_ms: u64,
    },
    /// The fence has moved.
    Extend {
        /// When to stop.
        fence_ms: u64,
    },
    /// Stop at once.
    Stop(Stop),
    /// Keep the output before anything else is done with it.
    Produced {
        /// It.
        output: String,
        /// Date of the result's events, Unix seconds.
        at: u64,
    },
    /// The result was accepted.
    Accepted,
    /// The result was not accepted: refused, or never answered.
    NotAccepted(Option<Reason>),
    /// It is over: forget it.
    Ended,
}

#[derive(Debug)]
enum Stage {
    Waiting { parts: Parts, work: Option<Box<Work>> },
    Executing,
    Delivering { result: Vec<Envelope>, sent: u32 },
    Over,
}

/// A lease that this node holds, or the result that it still owes.
#[derive(Debug)]
pub struct Holder {
    attempt: Attempt,
    requester: PublicKey,
    lease_ms: u64,
    resend_ms: u64,
    /// When each turn that is not granted yet was sent first.
    out: BTreeMap<u32, u64>,
    next_turn: u32,
    granted: bool,
    fence_ms: u64,
    wake_ms: u64,
    said_ms: u64,
    backoff_ms: u64,
    stage: Stage,
}

impl Holder {
    /// Takes a lease that was won. The caller has journaled it.
    pub fn take(
        attempt: Attempt,
        requester: PublicKey,
        lease_ms: u64,
        resend_ms: u64,
        signer: &Signer,
        now: Now,
    ) -> (Self, Vec<Effect>) {
        let stage = Stage::Waiting { parts: Parts::default(), work: None };
        let mut holder = Self::new(attempt, requester, lease_ms, resend_ms, stage, now);
        holder.out.insert(0, now.boot_ms);
        holder.fence_ms = holder.fence_of(now.boot_ms);
        let mut effects = Vec::new();
        holder.accept(signer, now, &mut effects);
        (holder, effects)
    }

    /// Goes on, after a restart, with the delivery of an output that was journaled.
    ///
    /// # Errors
    /// `None` when the output cannot be sealed; then it never could.
    pub fn redeliver(
        attempt: Attempt,
        requester: PublicKey,
        output: &str,
        at: u64,
        resend_ms: u64,
        signer: &Signer,
        now: Now,
    ) -> Option<(Self, Vec<Effect>)> {
        let result = result(attempt, requester, output, signer, Now { unix_s: at, ..now })?;
        let mut holder = Self::new(attempt, requester, 0, resend_ms, Stage::Delivering { result, sent: 0 }, now);
        let mut effects = Vec::new();
        holder.deliver(now, &mut effects);
        Some((holder, effects))
    }

    fn new(attempt: Attempt, requester: PublicKey, lease_ms: u64, resend_ms: u64, stage: Stage, now: Now) -> Self {
        Self {
            attempt,
            requester,
            lease_ms,
            resend_ms,
            out: BTreeMap::new(),
            next_turn: 1,
            granted: false,
            fence_ms: now.boot_ms,
            wake_ms: now.boot_ms,
            said_ms: now.boot_ms,
            backoff_ms: resend_ms,
            stage,
        }
    }

    /// What is leased.
    pub fn attempt(&self) -> Attempt {
        self.attempt
    }

    /// True while the own worker is on it.
    pub fn is_executing(&self) -> bool {
        matches!(self.stage, Stage::Executing)
    }

    /// True while it takes a worker's place: before the output is there.
    pub fn is_busy(&self) -> bool {
        matches!(self.stage, Stage::Waiting { .. } | Stage::Executing)
    }

    /// When it wants [`Input::Timer`], ms of boottime.
    pub fn deadline_ms(&self) -> u64 {
        match self.stage {
            Stage::Waiting { .. } | Stage::Executing => self.wake_ms.min(self.fence_ms),
            Stage::Delivering { .. } | Stage::Over => self.wake_ms,
        }
    }

    /// Takes one input. An input that does not fit is ignored. Whatever comes, a lease whose fence has passed is over.
    pub fn handle(&mut self, input: Input<'_>, signer: &Signer, now: Now) -> Vec<Effect> {
        let mut effects = Vec::new();
        if self.is_busy() && now.boot_ms >= self.fence_ms {
            self.give_back("the lease ran out", Stop::Fence, signer, now, &mut effects);
            return effects;
        }
        match input {
            Input::Asked if now.boot_ms < self.said_ms.saturating_add(self.resend_ms) => {}
            Input::Asked => self.say_how(signer, now, &mut effects),
            Input::Act(Act::Grant { turn }) => self.granted(*turn, now, &mut effects),
            Input::Act(Act::Release { accepted, .. }) => self.released(*accepted, &mut effects),
            Input::Act(Act::Accept | Act::Renew { .. }) => {}
            Input::Part(cargo) => self.part(cargo, signer, now, &mut effects),
            Input::Refused(reason) => self.end(Stop::Refused(reason), &mut effects),
            Input::Done(output) => self.done(output, signer, now, &mut effects),
            Input::Failed(word) if self.is_executing() => {
                effects.push(Effect::Send(self.release(word, signer, now)));
                self.over(&mut effects);
            }
            Input::Failed(_) => {}
            Input::Superseded => self.end(Stop::Superseded, &mut effects),
            Input::Timer if now.boot_ms < self.wake_ms => {}
            Input::Timer => self.say_how(signer, now, &mut effects),
        }
        effects
    }

    fn fence_of(&self, sent_ms: u64) -> u64 {
        sent_ms.saturating_add(self.lease_ms - self.lease_ms / MARGIN_DIVISOR)
    }

    /// Says how it stands.
    fn say_how(&mut self, signer: &Signer, now: Now, effects: &mut Vec<Effect>) {
        self.said_ms = now.boot_ms;
        match self.stage {
            Stage::Waiting { .. } => self.accept(signer, now, effects),
            Stage::Executing => self.renew(signer, now, effects),
            Stage::Delivering { .. } => self.deliver(now, effects),
            Stage::Over => {}
        }
    }

    /// The acceptance is turn 0 however often it is said: its lease counts from the first time.
    fn accept(&mut self, signer: &Signer, now: Now, effects: &mut Vec<Effect>) {
        effects.push(Effect::Send(self.say(Act::Accept, signer, now)));
        self.wake_ms = now.boot_ms.saturating_add(self.backoff_ms);
        self.backoff_ms = self.backoff_ms.saturating_mul(2).min(MAX_BACKOFF_MS);
    }

    fn renew(&mut self, signer: &Signer, now: Now, effects: &mut Vec<Effect>) {
        if self.out.len() >= MAX_TURNS_OUT {
            return;
        }
        let turn = self.next_turn;
        self.next_turn += 1;
        self.out.insert(turn, now.boot_ms);
        effects.push(Effect::Send(self.say(Act::Renew { turn }, signer, now)));
        self.wake_ms = now.boot_ms.saturating_add(self.resend_ms.max(self.lease_ms / 10));
    }

    fn granted(&mut self, turn: u32, now: Now, effects: &mut Vec<Effect>) {
        let Some(sent_ms) = self.out.remove(&turn) else { return };
        self.out.retain(|out, _| *out > turn);
        self.granted = true;
        let fence_ms = self.fence_of(sent_ms);
        match &self.stage {
            Stage::Executing if fence_ms > self.fence_ms => {
                self.fence_ms = fence_ms;
                self.wake_ms = sent_ms.saturating_add(self.lease_ms / RENEWALS);
                effects.push(Effect::Extend { fence_ms });
            }
            Stage::Waiting { .. } => self.begin(now, effects),
            Stage::Executing | Stage::Delivering { .. } | Stage::Over => {}
        }
    }

    fn part(&mut self, cargo: &Cargo, signer: &Signer, now: Now, effects: &mut Vec<Effect>) {
        let Stage::Waiting { parts, work } = &mut self.stage else { return };
        if work.is_some() || !parts.wants(cargo) {
            return;
        }
        let Ok(text) = signer.open(&self.requester, &cargo.sealed) else { return };
        match parts.add(cargo, text) {
            Added::More | Added::Bad => {}
            Added::Whole(text) => {
                let Ok(read) = serde_json::from_str(&text) else {
                    return self.give_back("the input is malformed", Stop::Released, signer, now, effects);
                };
                *work = Some(Box::new(read));
                self.begin(now, effects);
            }
        }
    }

    /// Begins once the acceptance is granted and the input is whole.
    fn begin(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let Stage::Waiting { work, .. } = &mut self.stage else { return };
        if !self.granted {
            return;
        }
        let Some(work) = work.take() else { return };
        self.stage = Stage::Executing;
        let accepted_ms = self.fence_ms - (self.lease_ms - self.lease_ms / MARGIN_DIVISOR);
        self.wake_ms = accepted_ms.saturating_add(self.lease_ms / RENEWALS).max(now.boot_ms);
        effects.push(Effect::Execute { work, fence_ms: self.fence_ms });
    }

    fn done(&mut self, output: &str, signer: &Signer, now: Now, effects: &mut Vec<Effect>) {
        if !self.is_executing() {
            return;
        }
        let Some(result) = result(self.attempt, self.requester, output, signer, now) else {
            effects.push(Effect::Send(self.release("the output is too large", signer, now)));
            return self.over(effects);
        };
        effects.push(Effect::Produced { output: output.to_owned(), at: now.unix_s });
        self.stage = Stage::Delivering { result, sent: 0 };
        self.backoff_ms = self.resend_ms;
        self.deliver(now, effects);
    }

    fn deliver(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let Stage::Delivering { result, sent } = &mut self.stage else { return };
        if *sent >= MAX_DELIVERIES {
            effects.push(Effect::NotAccepted(None));
            return self.over(effects);
        }
        *sent += 1;
        effects.extend(result.iter().cloned().map(Effect::Send));
        self.backoff_ms = self.backoff_ms.saturating_mul(2).min(MAX_BACKOFF_MS);
        self.wake_ms = now.boot_ms.saturating_add(self.backoff_ms);
    }

    fn released(&mut self, accepted: bool, effects: &mut Vec<Effect>) {
        match self.stage {
            Stage::Delivering { .. } if accepted => {
                effects.push(Effect::Accepted);
                self.over(effects);
            }
            Stage::Delivering { .. } | Stage::Waiting { .. } | Stage::Executing | Stage::Over => {
                self.end(Stop::Released, effects);
            }
        }
    }

    /// Ends what the requester does not want any more.
    fn end(&mut self, stop: Stop, effects: &mut Vec<Effect>) {
        match self.stage {
            Stage::Executing => effects.push(Effect::Stop(stop)),
            Stage::Delivering { .. } => effects.push(Effect::NotAccepted(match stop {
                Stop::Refused(reason) => Some(reason),
                Stop::Superseded => Some(Reason::OldEpoch),
                Stop::Released | Stop::Fence => None,
            })),
            Stage::Waiting { .. } => {}
            Stage::Over => return,
        }
        self.over(effects);
    }

    fn give_back(&mut self, word: &str, stop: Stop, signer: &Signer, now: Now, effects: &mut Vec<Effect>) {
        if self.is_executing() {
            effects.push(Effect::Stop(stop));
        }
        effects.push(Effect::Send(self.release(word, signer, now)));
        self.over(effects);
    }

    fn over(&mut self, effects: &mut Vec<Effect>) {
        self.stage = Stage::Over;
        effects.push(Effect::Ended);
    }

    fn release(&self, word: &str, signer: &Signer, now: Now) -> Envelope {
        signer.sign(Message::Lease(Lease::release(self.attempt, self.requester, word, false)), now)
    }

    fn say(&self, act: Act, signer: &Signer, now: Now) -> Envelope {
        signer.sign(Message::Lease(Lease { attempt: self.attempt, to: self.requester, act }), now)
    }
}

/// The signed parts of a result; the same output and date give the same bytes.
fn result(attempt: Attempt, to: PublicKey, output: &str, signer: &Signer, now: Now) -> Option<Vec<Envelope>> {
    let text = serde_json::to_string(&Output { output: output.to_owned() }).ok()?;
    let cargo = signer.pack(attempt, to, &text)?;
    Some(cargo.into_iter().map(|part| signer.sign(Message::Result(part), now)).collect())
}

impl Signer {
    /// Cuts a text into sealed parts; `None` when it is larger than a payload may be, or the reader's key is none.
    pub(crate) fn pack(&self, attempt: Attempt, to: PublicKey, text: &str) -> Option<Vec<Cargo>> {
        let (digest, parts) = split(text)?;
        let count = u16::try_from(parts.len()).ok()?;
        let cargo = (0..).zip(parts).map(|(index, part)| {
            let sealed = self.seal(&to, &attempt, part)?;
            Some(Cargo { attempt, to, index, count, digest, sealed })
        });
        cargo.collect()
    }
}
