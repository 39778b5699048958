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

/// True when the change, read and written again, is the same. Automerge applies some that are not (columns that it passes over), but
/// names what it then holds by another hash: the saved document does not load, and asking for its changes panics.
pub(super) fn is_canonical(change: &Change, decoded: ExpandedChange) -> bool {
    held(|| Ok(Change::from(decoded).hash() == change.hash())).unwrap_or(false)
}

/// Applies one change from outside whose causes are there. After an error the document must not be used.
pub(super) fn apply_next(document: &mut AutoCommit, change: Change) -> Result<(), Unfit> {
    if !follows(document, &change) {
        return Err(Unfit::Refused("it does nothing, or does not count on from its causes".to_owned()));
    }
    apply(document, vec![change])
}

/// Automerge numbers operations on from all that the writer saw, and an honest commit has some. It applies a change with a gap, but
/// a document that holds one may not load when it was saved.
fn follows(document: &mut AutoCommit, change: &Change) -> bool {
    let last =
        change.deps().iter().map(|dep| document.get_change_meta_by_hash(dep).map_or(0, |meta| meta.max_op)).max();
    !change.is_empty() && change.start_op().get() == last.unwrap_or(0) + 1
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

    /// Found by fuzzing: it applies, the document saves, and what was saved does not load.
    #[test]
    fn a_change_that_hides_columns_is_not_canonical() {
        let data = concat!(
            "00306e93a7b41779593d3fdaae82488587d7e4c4feb37f597393615ad2302093a67c0707070707070707",
            "07070707070707070101000000021506340142025602a30170027f046d696c6b017f017f16327f00"
        );
        let data = hex::decode(data).unwrap();
        let mut body = vec![1, u8::try_from(data.len()).unwrap()];
        body.extend(data);
        let hash = <sha2::Sha256 as sha2::Digest>::digest(&body);
        let change = opened([&[0x85, 0x6f, 0x4a, 0x83], &hash[..4], &body].concat()).unwrap();
        assert!(!is_canonical(&change, decoded(&change).unwrap()));
        let mut document = AutoCommit::new();
        apply(&mut document, vec![change]).unwrap();
        assert!(AutoCommit::load(&document.save()).is_err(), "automerge has learnt it: the check may go");
    }

    #[test]
    fn honest_changes_are_canonical_and_apply() {
        let mut document = AutoCommit::new();
        let changes: Vec<_> = honest().into_iter().map(|bytes| opened(bytes).unwrap()).collect();
        assert!(changes.iter().all(|change| is_canonical(change, decoded(change).unwrap())));
        let mut one_by_one = AutoCommit::new();
        changes.iter().for_each(|change| apply_next(&mut one_by_one, change.clone()).unwrap());
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
            if let Ok(change) = opened(bytes)
                && decoded(&change).is_ok_and(|decoded| is_canonical(&change, decoded))
            {
                decoded(&change).unwrap();
                let mut document = AutoCommit::new();
                if apply_next(&mut document, change).is_ok() {
                    let saved = document.save();
                    prop_assert!(AutoCommit::load(&saved).is_ok());
                    prop_assert_eq!(document.get_changes(&[]).len(), 1);
                }
            }
        }
    }
}
