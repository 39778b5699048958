//! The memory as sync sees it.

use nips::memory::Space;
use nostr::{Event, EventId, PublicKey};

use crate::memory::{Memory, lock};
use crate::sync::{Batch, Outcome, Refusal, Replica, ReplicaError, Snapshot};
use crate::truth::{self, TruthError};

fn failed(operation: &'static str) -> impl FnOnce(TruthError) -> ReplicaError {
    move |source| ReplicaError::Store { operation, source: Box::new(source) }
}

impl From<truth::Refusal> for Refusal {
    fn from(refusal: truth::Refusal) -> Self {
        match refusal {
            truth::Refusal::Malformed => Self::Invalid,
            truth::Refusal::UnknownWriter | truth::Refusal::Space | truth::Refusal::Author => Self::NotAllowed,
            truth::Refusal::Forgotten => Self::Forgotten,
            truth::Refusal::Full => Self::Full,
        }
    }
}

impl From<truth::Outcome> for Outcome {
    fn from(outcome: truth::Outcome) -> Self {
        match outcome {
            truth::Outcome::New => Self::New,
            truth::Outcome::Known => Self::Known,
            truth::Outcome::Refused(refusal) => Self::Refused(refusal.into()),
        }
    }
}

impl Replica for Memory {
    /// A quarantined writer brings and gets nothing by itself; what it wrote before travels among the others.
    fn may_sync(&self, peer: &PublicKey, space: &Space) -> Result<bool, ReplicaError> {
        if !self.directory().may_share(peer, space) {
            return Ok(false);
        }
        let named =
            self.worker().write_blocking(|truth| truth.quarantined()).map_err(failed("name the quarantined"))?;
        Ok(named.iter().all(|(writer, ..)| writer != peer))
    }

    fn snapshot(&self, space: &Space) -> Result<Snapshot, ReplicaError> {
        let known = lock(self.snapshots()).get(space).cloned();
        let seen = known.as_ref().map(|(version, _)| *version);
        let wanted = space.clone();
        let work = move |truth: &mut truth::Truth| {
            let version = truth.version();
            let ids = if seen == Some(version) { None } else { Some(truth.event_ids(&wanted)?) };
            Ok((version, ids))
        };
        let (version, ids) = self.worker().write_blocking(work).map_err(failed("list its changes"))?;
        match (ids, known) {
            (None, Some((_, snapshot))) => Ok(snapshot),
            (ids, _) => {
                let snapshot = Snapshot::new(ids.unwrap_or_default())?;
                lock(self.snapshots()).insert(space.clone(), (version, snapshot.clone()));
                Ok(snapshot)
            }
        }
    }

    fn events(&self, space: &Space, ids: &[EventId], max_bytes: usize) -> Result<Batch, ReplicaError> {
        let (space, ids) = (space.clone(), ids.to_vec());
        let work = move |truth: &mut truth::Truth| truth.batch(&space, &ids, max_bytes);
        self.worker().write_blocking(work).map_err(failed("read changes"))
    }

    fn take(&self, _from: &PublicKey, space: &Space, events: Vec<Event>) -> Result<Vec<Outcome>, ReplicaError> {
        let vetted = crate::check::vetted(events);
        // An event of another space than the session's is refused, not smuggled in.
        let is_here: Vec<bool> = vetted.iter().map(|one| one.space() == Some(space)).collect();
        let ours = vetted.into_iter().zip(&is_here).filter(|(_, here)| **here).map(|(one, _)| one).collect();
        let taken = self
            .take_vetted(ours)
            .map_err(|source| ReplicaError::Store { operation: "keep changes", source: Box::new(source) })?;
        let mut taken = taken.into_iter().map(Outcome::from);
        let one = |here: bool| if here { taken.next() } else { None };
        Ok(is_here.into_iter().map(one).map(|o| o.unwrap_or(Outcome::Refused(Refusal::Invalid))).collect())
    }
}
