//! Jobs that wait for one of this node's own workers.

use std::collections::VecDeque;

use nips::job::JobId;

/// A job under which the process died this often is a suspect.
const SUSPECT_CRASHES: u32 = 2;

/// The order in which jobs get a worker: fresh ones and the backlog take turns, suspects go one at a time.
///
/// Whatever runs when the process dies is charged with it. Suspects that run alone do not pay for each other: the job that
/// brings the process down is soon the only one that is charged and given up.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    fresh: VecDeque<JobId>,
    /// Asked for a while ago, and came by a catch-up or a restart.
    backlog: VecDeque<JobId>,
    suspects: VecDeque<JobId>,
    backlog_is_next: bool,
}

impl Waiting {
    /// `crashes`: how often the process died under it. `late`: it was asked for a while ago.
    pub(super) fn push(&mut self, id: JobId, crashes: u32, late: bool) {
        let line = match (crashes >= SUSPECT_CRASHES, late) {
            (true, _) => &mut self.suspects,
            (false, true) => &mut self.backlog,
            (false, false) => &mut self.fresh,
        };
        line.push_back(id);
    }

    pub(super) fn remove(&mut self, id: JobId) {
        for line in [&mut self.fresh, &mut self.backlog, &mut self.suspects] {
            line.retain(|waiting| *waiting != id);
        }
    }

    /// The next job that is no suspect.
    pub(super) fn next(&mut self) -> Option<JobId> {
        self.backlog_is_next = !self.backlog_is_next;
        if self.backlog_is_next {
            self.backlog.pop_front().or_else(|| self.fresh.pop_front())
        } else {
            self.fresh.pop_front().or_else(|| self.backlog.pop_front())
        }
    }

    /// The next suspect; to be asked for when none runs.
    pub(super) fn next_suspect(&mut self) -> Option<JobId> {
        self.suspects.pop_front()
    }

    /// How many fresh jobs wait.
    pub(super) fn fresh(&self) -> usize {
        self.fresh.len()
    }

    /// How many jobs wait.
    pub(super) fn len(&self) -> usize {
        self.fresh.len() + self.backlog.len() + self.suspects.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> JobId {
        JobId::from_bytes([n; 32])
    }

    #[test]
    fn fresh_and_late_take_turns_and_suspects_wait_to_be_asked_for() {
        let mut waiting = Waiting::default();
        for (n, crashes, late) in
            [(1, 0, false), (2, 1, false), (3, 0, true), (4, 0, true), (5, 2, false), (6, 4, true)]
        {
            waiting.push(id(n), crashes, late);
        }
        assert_eq!((waiting.fresh(), waiting.len()), (2, 6));
        waiting.remove(id(6));
        let order: Vec<Option<JobId>> = (0..5).map(|_| waiting.next()).collect();
        assert_eq!(order, [Some(id(3)), Some(id(1)), Some(id(4)), Some(id(2)), None]);
        assert_eq!((waiting.next_suspect(), waiting.next_suspect(), waiting.len()), (Some(id(5)), None, 0));
    }
}
