//! Automerge, held.
//!
//! Automerge takes a change for what it says: one that names an object or an actor that is nowhere makes it panic (0.12.0:
//! `op_set2/change/batch.rs`, four places; found by fuzzing in seconds). Such a change can be well signed. Here a panic is an error
//! like another, and the change is refused. The document is half changed then: whoever gets an error drops it and loads it again.

use std::panic::{AssertUnwindSafe, catch_unwind};

use automerge::{AutoCommit, Change, ExpandedChange};

/// Why automerge did not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unfit {
    #[error("{0}")]
    Refused(String),
    #[error("automerge panicked")]
    Panicked,
}

/// Reads a plain chunk.
pub(super) fn opened(bytes: Vec<u8>) -> Result<Change, Unfit> {
    held(|| Change::from_bytes(bytes).map_err(|error| Unfit::Refused(error.to_string())))
}

/// What a change does.
pub(super) fn decoded(change: &Change) -> Result<ExpandedChange, Unfit> {
    held(|| Ok(change.decode()))
}

/// Applies changes. After an error the document must not be used.
pub(super) fn apply(document: &mut AutoCommit, changes: Vec<Change>) -> Result<(), Unfit> {
    held(|| document.apply_changes(changes).map_err(|error| Unfit::Refused(error.to_string())))
}

fn held<T>(work: impl FnOnce() -> Result<T, Unfit>) -> Result<T, Unfit> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or(Err(Unfit::Panicked))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use automerge::transaction::Transactable;
    use automerge::{ObjType, ROOT};
    use proptest::prelude::*;

    use super::*;

    /// The data of an honest change, its first bytes being its dependencies and its actor.
    fn honest() -> Vec<Vec<u8>> {
        let mut document = AutoCommit::new().with_actor(automerge::ActorId::from([7; 48]));
        let list = document.put_object(ROOT, "items", ObjType::List).unwrap();
        document.commit();
        for at in 0..3 {
            document.insert(&list, at, format!("item {at}")).unwrap();
            document.delete(ROOT, "none").unwrap();
            document.commit();
        }
        document.get_changes(&[]).into_iter().map(|change| change.raw_bytes().to_vec()).collect()
    }

    #[test]
    fn honest_changes_apply() {
        let mut document = AutoCommit::new();
        let changes = honest().into_iter().map(|bytes| opened(bytes).unwrap()).collect();
        apply(&mut document, changes).unwrap();
        assert_eq!(document.get_heads().len(), 1);
    }

    proptest! {
        /// Bitten changes, with a right checksum and hash as a hostile writer would give them.
        #[test]
        fn no_change_gets_out_of_hand(which in 0..4_usize, bites in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3)) {
            let mut bytes = honest().swap_remove(which);
            for (at, byte) in bites {
                let at = 10 + at.index(bytes.len() - 10);
                bytes[at] = byte;
            }
            let hash = <sha2::Sha256 as sha2::Digest>::digest(&bytes[8..]);
            bytes[4..8].copy_from_slice(&hash[..4]);
            if let Ok(change) = opened(bytes) {
                let _ = decoded(&change);
                let mut document = AutoCommit::new();
                if apply(&mut document, vec![change]).is_ok() {
                    let saved = document.save();
                    prop_assert!(AutoCommit::load(&saved).is_ok());
                }
            }
        }
    }
}
