//! Feature hashing (Weinberger et al. 2009): what an embedding without a model comes to. Each word adds 1 or -1 to one of 256 places.

use sha2::{Digest, Sha256};

use super::judge::best;
use super::set::Set;
use super::text::words;

const PLACES: usize = 256;

/// For each question the nearest passages by cosine.
pub fn answers(set: &Set) -> Vec<Vec<usize>> {
    let passages: Vec<_> = set.passages.iter().map(|text| vector(text)).collect();
    let nearest = |text: &str| {
        let asked = vector(text);
        best(&passages.iter().map(|passage| dot(&asked, passage)).collect::<Vec<f32>>())
    };
    set.questions.iter().map(|question| nearest(&question.text)).collect()
}

fn vector(text: &str) -> [f32; PLACES] {
    let mut vector = [0.0; PLACES];
    for word in words(text) {
        let hash = Sha256::digest(word.as_bytes());
        vector[usize::from(hash[0])] += if hash[1].is_multiple_of(2) { 1.0 } else { -1.0 };
    }
    let length = dot(&vector, &vector).sqrt().max(f32::MIN_POSITIVE);
    vector.map(|x| x / length)
}

/// The scalar product of two vectors.
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_words_are_near_in_any_order_and_others_are_not() {
        let [a, b, c] = ["reads compressed files", "files, compressed: READS", "telescope mirrors shine"].map(vector);
        assert!((dot(&a, &b) - 1.0).abs() < 1e-6);
        assert!(dot(&a, &c) < 0.5);
        assert!(vector("").iter().all(|x| *x == 0.0));
    }
}
