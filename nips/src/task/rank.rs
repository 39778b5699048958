//! Who of several sister nodes answers a job that names nobody (DESIGN §6, Offers).
//!
//! Every live member that can do the job computes the same order. The first answers at once; each next one waits two seconds more,
//! and answers only if nothing was heard of those before it. Two halves of a partition each have a first: such a job may get two
//! answers.

use std::collections::BTreeSet;

use nostr::PublicKey;
use sha2::{Digest, Sha256};

use crate::JobId;

/// How long each place in the order waits for the one before it, ms.
pub const STEP_MS: u64 = 2_000;

/// The place of `me` among the live members that can do the job: 0 answers first. `None` when it is not among them.
pub fn rank(job: &JobId, me: &PublicKey, able: &BTreeSet<PublicKey>) -> Option<u32> {
    let mine = place(job, able.get(me)?);
    let before = able.iter().filter(|other| place(job, other) < mine).count();
    u32::try_from(before).ok()
}

/// How long this node waits before it answers, ms from when the job came in.
pub fn delay_ms(job: &JobId, me: &PublicKey, able: &BTreeSet<PublicKey>) -> Option<u64> {
    rank(job, me, able).map(|rank| u64::from(rank) * STEP_MS)
}

/// SHA-256(job id ‖ npub), the npub as its 32 bytes.
fn place(job: &JobId, npub: &PublicKey) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(job.as_bytes());
    hash.update(npub.to_bytes());
    hash.finalize().into()
}

/// What was heard about the job from others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Heard {
    /// A result (6xxx) is out.
    pub result: bool,
    /// Whoever said last that it is on it (7000).
    pub feedback: Option<PublicKey>,
}

/// Whether to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Now.
    Answer,
    /// Look again after so many ms, or when the live members change or something is heard.
    Wait {
        /// How long.
        ms: u64,
    },
    /// Another member is on it: look again when the live members change.
    Stand,
    /// It is answered, or this node cannot do it.
    Never,
}

/// Decides `waited_ms` after the job came in. Feedback of a member that is no longer alive does not count: whoever takes a job and
/// dies is followed by the next.
pub fn turn(job: &JobId, me: &PublicKey, able: &BTreeSet<PublicKey>, heard: &Heard, waited_ms: u64) -> Turn {
    let Some(delay) = delay_ms(job, me, able) else { return Turn::Never };
    match heard {
        Heard { result: true, .. } => Turn::Never,
        Heard { feedback: Some(other), .. } if other != me && able.contains(other) => Turn::Stand,
        Heard { .. } if waited_ms >= delay => Turn::Answer,
        Heard { .. } => Turn::Wait { ms: delay - waited_ms },
    }
}
