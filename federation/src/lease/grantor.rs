//! The requester's side of one lease.

use nips::task::{Act, Attempt};

use crate::tasks::Party;

/// What a worker's message about its lease is answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// The lease counts from the sending of this turn. When `again`, the worker has said this before: it may lack its input.
    Grant {
        /// Which turn.
        turn: u32,
        /// True for a turn that was granted before.
        again: bool,
    },
    /// The worker has had all the time there is.
    OverTime,
    /// It gives the lease back.
    Released,
    /// Nothing: an old turn, or no word of a worker's.
    Nothing,
}

/// An awarded epoch, seen by its requester. It expires at [`Grantor::expires_ms`] and at no other time: a worker is not given up because
/// somebody thinks it dead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grantor {
    attempt: Attempt,
    winner: Party,
    lease_ms: u64,
    expires_ms: u64,
    hold_until_ms: u64,
    last_turn: Option<u32>,
}

impl Grantor {
    /// Offers the epoch to its winner. It has until `wait_ms` to accept, and `work_ms` in all.
    pub fn offer(attempt: Attempt, winner: Party, lease_ms: u64, wait_ms: u64, work_ms: u64, now_ms: u64) -> Self {
        Self {
            attempt,
            winner,
            lease_ms,
            expires_ms: now_ms.saturating_add(wait_ms),
            hold_until_ms: now_ms.saturating_add(work_ms),
            last_turn: None,
        }
    }

    /// What is leased.
    pub fn attempt(&self) -> Attempt {
        self.attempt
    }

    /// To whom.
    pub fn winner(&self) -> &Party {
        &self.winner
    }

    /// True once the winner has accepted.
    pub fn is_held(&self) -> bool {
        self.last_turn.is_some()
    }

    /// When it runs out, ms of boottime.
    pub fn expires_ms(&self) -> u64 {
        self.expires_ms
    }

    /// Takes a word of the winner's about its lease.
    pub fn act(&mut self, act: &Act, now_ms: u64) -> Reply {
        let turn = match act {
            Act::Accept => 0,
            Act::Renew { turn } => *turn,
            Act::Release { .. } => return Reply::Released,
            Act::Grant { .. } => return Reply::Nothing,
        };
        if now_ms >= self.expires_ms {
            return Reply::Nothing;
        }
        match self.last_turn {
            Some(last) if turn < last => Reply::Nothing,
            Some(last) if turn == last => Reply::Grant { turn, again: true },
            _ if now_ms >= self.hold_until_ms => Reply::OverTime,
            _ => {
                self.last_turn = Some(turn);
                self.expires_ms = now_ms.saturating_add(self.lease_ms);
                Reply::Grant { turn, again: false }
            }
        }
    }

    /// A part of the result came: as good as a renewal.
    pub fn prolong(&mut self, now_ms: u64) {
        if now_ms < self.expires_ms && now_ms < self.hold_until_ms {
            self.expires_ms = now_ms.saturating_add(self.lease_ms);
        }
    }
}
