//! nDCG@10 and recall@10 over the parts of the set.

use super::PLACES;
use super::set::{Question, Set};

/// How good the answers to some questions are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Part {
    /// How many questions.
    pub questions: usize,
    /// Mean nDCG@10.
    pub ndcg: f64,
    /// Share of the questions whose passage is among the first ten.
    pub recall: f64,
}

/// One method, on each part of the set.
pub struct Judged {
    /// Questions that the model has not seen, paraphrases or not.
    pub new: Part,
    /// All paraphrases.
    pub paraphrases: Part,
    /// Those that the model has not seen.
    pub new_paraphrases: Part,
}

impl Judged {
    /// Judges answers: for each question the numbers of passages, best first.
    pub fn of(set: &Set, answers: &[Vec<usize>]) -> Self {
        assert_eq!(answers.len(), set.questions.len());
        let part = |wanted: fn(&Question) -> bool| {
            let asked = set.questions.iter().zip(answers).filter(|(question, _)| wanted(question));
            mean(asked.map(|(question, found)| place(question.answer, found)))
        };
        Self {
            new: part(|q| !q.is_known),
            paraphrases: part(|q| q.is_paraphrase),
            new_paraphrases: part(|q| q.is_paraphrase && !q.is_known),
        }
    }
}

/// Where the right passage stands among the first ten, counted from 0.
fn place(answer: usize, found: &[usize]) -> Option<usize> {
    found.iter().take(PLACES).position(|number| *number == answer)
}

fn mean(places: impl Iterator<Item = Option<usize>>) -> Part {
    let (mut questions, mut gain, mut hits) = (0, 0.0, 0);
    for place in places {
        questions += 1;
        if let Some(place) = place {
            gain += 1.0 / (place as f64 + 2.0).log2();
            hits += 1;
        }
    }
    let count = questions.max(1) as f64;
    Part { questions, ndcg: gain / count, recall: f64::from(hits) / count }
}

/// The numbers of the best scores, best first; equals by their numbers. What scores nothing is no answer.
pub fn best(scores: &[f32]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).filter(|i| scores[*i] > 0.0).collect();
    order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]).then(a.cmp(b)));
    order.truncate(PLACES);
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(answer: usize, is_paraphrase: bool, is_known: bool) -> Question {
        Question { text: String::new(), answer, is_paraphrase, is_known }
    }

    #[test]
    fn places_become_gains_on_each_part() {
        let questions = vec![asked(0, false, false), asked(1, true, false), asked(2, true, true)];
        let set = Set { passages: vec![String::new(); 3], questions, read: Vec::new() };
        let judged = Judged::of(&set, &[vec![0, 1], vec![0, 2, 1], vec![0, 1]]);
        // First place 1, third place 1 / log2(4) = 0.5, not found 0.
        assert_eq!(judged.new, Part { questions: 2, ndcg: 0.75, recall: 1.0 });
        assert_eq!(judged.paraphrases, Part { questions: 2, ndcg: 0.25, recall: 0.5 });
        assert_eq!(judged.new_paraphrases, Part { questions: 1, ndcg: 0.5, recall: 1.0 });
    }

    #[test]
    fn the_eleventh_place_does_not_count() {
        let found: Vec<usize> = (0..20).collect();
        assert_eq!((place(9, &found), place(10, &found)), (Some(9), None));
    }

    #[test]
    fn the_best_come_first_and_nothing_is_no_answer() {
        assert_eq!(best(&[0.0, 1.0, 3.0, 1.0, -1.0]), [2, 1, 3]);
    }
}
