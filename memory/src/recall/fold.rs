//! Near duplicates: said twice, shown once.

use std::collections::HashMap;

/// From this cosine on, two texts say the same.
pub(crate) const SAME_COSINE: f32 = 0.97;
/// Of the best so many, vectors are compared; below, only texts, so that a recall of a thousand stays quick.
pub(crate) const COMPARED: usize = 300;

/// One group of near duplicates: the best of them, and those that it stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Group<K> {
    pub best: K,
    pub folded: Vec<K>,
}

/// Folds a list, best first, into groups in the same order. `text_key` names a text without its case, spaces and punctuation (none:
/// nothing is like it); `cosine` compares two.
pub(crate) fn fold<K: Copy>(
    ranked: &[K],
    text_key: impl Fn(K) -> Option<u64>,
    cosine: impl Fn(K, K) -> Option<f32>,
) -> Vec<Group<K>> {
    let mut groups: Vec<Group<K>> = Vec::new();
    let mut by_text: HashMap<u64, usize> = HashMap::new();
    for (rank, &item) in ranked.iter().enumerate() {
        let key = text_key(item);
        let by_words = key.and_then(|key| by_text.get(&key).copied());
        let same = |group: &Group<K>| cosine(group.best, item).is_some_and(|c| c >= SAME_COSINE);
        let into = by_words.or_else(|| if rank < COMPARED { groups.iter().position(same) } else { None });
        let at = into.unwrap_or(groups.len());
        match groups.get_mut(at) {
            Some(group) => group.folded.push(item),
            None => groups.push(Group { best: item, folded: Vec::new() }),
        }
        if let Some(key) = key {
            by_text.entry(key).or_insert(at);
        }
    }
    groups
}

/// The name of a text without case, spaces and punctuation (what stands between two digits is kept: 1.5 is not 15); none when it
/// has neither letters nor digits. It is the same in every build, since it is kept on disk.
pub(crate) fn text_key(text: &str) -> Option<u64> {
    let mut hash = Fnv::default();
    let mut last = None;
    let mut between = Vec::new();
    for letter in text.chars() {
        if !letter.is_alphanumeric() {
            // Only so much is needed to tell numbers apart, whatever a text is made of.
            if between.len() < 4 {
                between.push(letter);
            }
            continue;
        }
        if let Some(last) = last.filter(|_| !between.is_empty()) {
            let in_number = char::is_numeric(last) && letter.is_numeric();
            between.iter().take(if in_number { 4 } else { 0 }).for_each(|c| hash.letter(*c));
            hash.letter(' ');
        }
        between.clear();
        letter.to_lowercase().for_each(|c| hash.letter(c));
        last = Some(letter);
    }
    last.map(|_| hash.0)
}

/// The name of the numbers in a text. Texts whose numbers differ do not say the same, however near their vectors are.
pub(crate) fn numbers_key(text: &str) -> u64 {
    let mut hash = Fnv::default();
    for number in text.split(|c: char| !c.is_numeric()).filter(|n| !n.is_empty()) {
        number.chars().chain([' ']).for_each(|c| hash.letter(c));
    }
    hash.0
}

/// FNV-1a.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    fn letter(&mut self, letter: char) {
        for byte in letter.encode_utf8(&mut [0; 4]).bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_same_words_fold_whatever_their_dress() {
        assert_eq!(text_key("Buy milk!"), text_key("  buy\nMILK "));
        assert_ne!(text_key("buy milk"), text_key("buy silk"));
        assert_eq!(text_key("?! …"), None);
        assert_eq!(text_key("costs $1.50, he said"), text_key("Costs 1.50; he said."));
        assert_ne!(text_key("costs 1.50"), text_key("costs 150"));
        assert_ne!(numbers_key("room 12 on floor 3"), numbers_key("room 1 on floor 23"));
        assert_eq!(numbers_key("room 12"), numbers_key("the 12th room"));
        let texts = ["Buy milk!", "sell milk", "buy milk", "?!", "…"];
        let groups = fold(&[0, 1, 2, 3, 4], |i: usize| text_key(texts[i]), |_, _| None);
        assert_eq!(groups.len(), 4, "signs alone are like nothing");
        assert_eq!(groups[0], Group { best: 0, folded: vec![2] });
    }

    #[test]
    fn near_vectors_fold_into_the_best_one() {
        let places = [0.0_f32, 0.5, 0.01, 0.51];
        let groups = fold(&[0, 1, 2, 3], |_| None, |a: usize, b: usize| Some(1.0 - (places[a] - places[b]).abs()));
        assert_eq!(groups, vec![Group { best: 0, folded: vec![2] }, Group { best: 1, folded: vec![3] }]);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_or_doubled(keys in proptest::collection::vec(proptest::option::of(0_u64..5), 0..400)) {
            let ranked: Vec<usize> = (0..keys.len()).collect();
            let groups = fold(&ranked, |i| keys[i], |a, b| if a % 7 == b % 7 { Some(0.98) } else { None });
            let mut all: Vec<usize> = groups.iter().flat_map(|g| g.folded.iter().copied().chain([g.best])).collect();
            all.sort_unstable();
            prop_assert_eq!(all, ranked);
            prop_assert!(groups.iter().all(|g| g.folded.iter().all(|f| *f > g.best)));
            prop_assert!(groups.windows(2).all(|w| w[0].best < w[1].best));
        }
    }
}
