//! How well memory finds the right thing: recall by meaning beside what it is made of, on a retrieval set.
//!
//! The set comes from `tests/retrieval/make_set.py`. Each question has one right passage, so nDCG@10 of a question is
//! 1 / log2(1 + place) within the first ten places, else 0.

mod bm25;
mod hashing;
mod judge;
mod product;
pub mod set;
mod text;

use std::path::Path;

use judge::{Judged, Part};
use set::Set;

use crate::report::{Report, thousands};

/// Places that count.
const PLACES: usize = 10;
/// By how much recall must beat BM25 on paraphrases.
const GOAL_OVER_BM25: f64 = 1.5;

/// Measures and reports.
pub fn run(report: &mut Report, file: &Path, dir: &Path) {
    let set = Set::read(file);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let legs = runtime.block_on(product::answers(&set, dir));
    let methods = [
        ("feature hashing, 256 places", hashing::answers(&set)),
        ("BM25 (stems, stop words)", bm25::answers(&set)),
        ("static embedding, exact", runtime.block_on(product::nearest(&set))),
        ("memory: full text alone", legs.text),
        ("memory: vectors alone", legs.vector),
        ("**memory: recall (hybrid)**", legs.hybrid),
    ];
    let columns = ["method", "new questions", "paraphrases", "paraphrases, new"];
    report.table("Recall: nDCG@10 / recall@10", &columns);
    let judged: Vec<Judged> = methods.iter().map(|(_, answers)| Judged::of(&set, answers)).collect();
    for ((name, _), judged) in methods.iter().zip(&judged) {
        report.row(&[name, &both(judged.new), &both(judged.paraphrases), &both(judged.new_paraphrases)]);
    }
    describe(report, &set, &judged);
}

fn both(part: Part) -> String {
    format!("{:.3} / {:.3}", part.ndcg, part.recall)
}

/// What was asked, and what the goals come to.
fn describe(report: &mut Report, set: &Set, judged: &[Judged]) {
    let [_, bm25, .., hybrid] = judged else { unreachable!("there are six methods") };
    let parts = &judged[..judged.len() - 1];
    let beaten = parts.iter().all(|part| hybrid.new.ndcg > part.new.ndcg && hybrid.new.recall > part.new.recall);
    let count = |n: usize| thousands(n as f64);
    report.say(&format!(
        "{} passages; {} new questions, {} paraphrases, of these {} new. Recall beats each of the others on new questions: {}. \
         On paraphrases it finds {:.2} × what BM25 finds in ten places, and its nDCG is {:.2} × (goal: {GOAL_OVER_BM25} ×).",
        count(set.passages.len()),
        count(hybrid.new.questions),
        count(hybrid.paraphrases.questions),
        count(hybrid.new_paraphrases.questions),
        if beaten { "yes" } else { "no" },
        hybrid.paraphrases.recall / bm25.paraphrases.recall,
        hybrid.paraphrases.ndcg / bm25.paraphrases.ndcg,
    ));
    report.say(&format!("Made of: {}.", set.read.join(", ")));
}
