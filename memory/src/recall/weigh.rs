//! What age and importance make of a score.

use crate::entry::EntryKind;

const DAY_S: f32 = 86_400.0;
/// What happened is half as telling after a month, what is so after two years; how things are done does not age.
const EPISODIC_HALF_LIFE_S: f32 = 30.0 * DAY_S;
const SEMANTIC_HALF_LIFE_S: f32 = 730.0 * DAY_S;
/// Without a question, everything ages alike: what matters is what is on somebody's mind.
const NEWEST_HALF_LIFE_S: f32 = 30.0 * DAY_S;
/// The least weight of age. The fused score of a perfect hit is 2.5, so however old it is it keeps 1.5, more than anything of this
/// minute that has only half of its words and meaning.
const OLDEST: f32 = 0.6;
/// The weights of the least and of the greatest importance; 0.5, of which nobody said anything, weighs 1.
const IMPORTANCE: (f32, f32) = (0.75, 1.25);

/// The weight of age: 1 for what is new, never less than 0.6.
pub(crate) fn recency(kind: EntryKind, created_at: u64, now: u64) -> f32 {
    let half_life = match kind {
        EntryKind::Episodic => EPISODIC_HALF_LIFE_S,
        EntryKind::Semantic => SEMANTIC_HALF_LIFE_S,
        EntryKind::Procedural => return 1.0,
    };
    OLDEST + (1.0 - OLDEST) * halved(created_at, now, half_life)
}

/// The weight of importance, 0.75 to 1.25.
pub(crate) fn importance(importance: f32) -> f32 {
    IMPORTANCE.0 + (IMPORTANCE.1 - IMPORTANCE.0) * bounded(importance)
}

/// How much an entry comes to mind unasked, 0 to 1: half its newness, half its importance.
pub(crate) fn unasked(importance: f32, created_at: u64, now: u64) -> f32 {
    (halved(created_at, now, NEWEST_HALF_LIFE_S) + bounded(importance)) / 2.0
}

fn bounded(importance: f32) -> f32 {
    if importance.is_nan() { crate::entry::DEFAULT_IMPORTANCE } else { importance.clamp(0.0, 1.0) }
}

#[allow(clippy::cast_precision_loss)]
fn halved(created_at: u64, now: u64, half_life: f32) -> f32 {
    0.5_f32.powf(now.saturating_sub(created_at) as f32 / half_life)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: u64 = 1_800_000_000;
    const DAY: u64 = 86_400;

    #[test]
    fn half_lives_are_by_kind_and_end_at_the_floor() {
        let near = |a: f32, b: f32| assert!((a - b).abs() < 1e-3, "{a} {b}");
        near(recency(EntryKind::Episodic, NOW, NOW), 1.0);
        near(recency(EntryKind::Episodic, NOW - 30 * DAY, NOW), 0.8);
        near(recency(EntryKind::Semantic, NOW - 730 * DAY, NOW), 0.8);
        near(recency(EntryKind::Procedural, 0, NOW), 1.0);
        near(recency(EntryKind::Episodic, 0, NOW), 0.6);
        near(recency(EntryKind::Episodic, NOW + DAY, NOW), 1.0);
    }

    #[test]
    fn an_old_exact_hit_beats_a_fresh_half_one() {
        let perfect = |text: f32, nearness: f32| text * text * crate::recall::fuse::TRUST.1 + nearness;
        let old = perfect(1.0, 1.0) * recency(EntryKind::Episodic, 0, NOW);
        let fresh = perfect(0.5, 0.5) * recency(EntryKind::Episodic, NOW, NOW);
        assert!(old > fresh);
    }

    #[test]
    fn unasked_the_new_and_the_important_come_first() {
        let new = unasked(0.5, NOW, NOW);
        assert!(new > unasked(0.5, NOW - DAY, NOW));
        assert!(unasked(1.0, NOW - 365 * DAY, NOW) > unasked(0.5, NOW - 180 * DAY, NOW));
        assert!(unasked(1.0, NOW, NOW) > new);
    }

    proptest! {
        #[test]
        fn weights_are_bounded_and_never_rise_with_age(created in any::<u64>(), now in any::<u64>(), later in any::<u64>(), i in any::<f32>()) {
            for kind in EntryKind::ALL {
                let r = recency(kind, created, now);
                prop_assert!((0.6..=1.0).contains(&r));
                prop_assert!(recency(kind, created, now.saturating_add(later)) <= r);
            }
            prop_assert!((0.75..=1.25).contains(&importance(i)));
            prop_assert!((0.0..=1.0).contains(&unasked(i, created, now)));
        }
    }
}
