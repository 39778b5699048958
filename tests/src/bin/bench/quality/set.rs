//! The retrieval set as it stands in its file.

use std::path::Path;

use serde_json::Value;

/// One question.
pub struct Question {
    /// What is asked.
    pub text: String,
    /// The passage that answers it.
    pub answer: usize,
    /// Shares few words with its answer.
    pub is_paraphrase: bool,
    /// The model's training text may hold its sentences.
    pub is_known: bool,
}

/// Passages and questions.
pub struct Set {
    /// By their numbers.
    pub passages: Vec<String>,
    /// In the order of the file.
    pub questions: Vec<Question>,
    /// What the set was made of: names and the beginning of each one's SHA-256.
    pub read: Vec<String>,
}

impl Set {
    /// Reads the file that `make_set.py` writes.
    pub fn read(file: &Path) -> Self {
        Self::parse(&std::fs::read_to_string(file).unwrap())
    }

    fn parse(text: &str) -> Self {
        let mut set = Self { passages: Vec::new(), questions: Vec::new(), read: Vec::new() };
        for line in text.lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            if let Some(number) = line["passage"].as_u64() {
                assert_eq!(number, set.passages.len() as u64, "passages come in the order of their numbers");
                set.passages.push(line["text"].as_str().unwrap().to_owned());
            } else if let Some(text) = line["query"].as_str() {
                set.questions.push(Question {
                    text: text.to_owned(),
                    answer: usize::try_from(line["answer"].as_u64().unwrap()).unwrap(),
                    is_paraphrase: line["paraphrase"].as_bool().unwrap(),
                    is_known: line["known"].as_bool().unwrap(),
                });
            } else {
                let read = line["about"]["read"].as_object().unwrap();
                set.read = read.iter().map(|(name, hash)| format!("{name} {:.12}", hash.as_str().unwrap())).collect();
            }
        }
        assert!(set.questions.iter().all(|q| q.answer < set.passages.len()), "every answer is a passage");
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_what_the_script_writes() {
        let set = Set::parse(concat!(
            r#"{"about": {"passages": 1, "read": {"trixie/main/i18n/Translation-en.xz": "800dd225bc6fabe4dfc0"}}}"#,
            "\n",
            r#"{"passage": 0, "package": "kded6", "text": "KDED runs in the background"}"#,
            "\n",
            r#"{"query": "Extensible daemon", "answer": 0, "paraphrase": true, "known": false}"#,
        ));
        assert_eq!(set.passages, ["KDED runs in the background"]);
        assert_eq!(set.read, ["trixie/main/i18n/Translation-en.xz 800dd225bc6f"]);
        let [question] = set.questions.as_slice() else { panic!("one question") };
        assert_eq!((question.text.as_str(), question.answer), ("Extensible daemon", 0));
        assert_eq!((question.is_paraphrase, question.is_known), (true, false));
    }
}
