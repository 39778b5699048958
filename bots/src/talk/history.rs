//! What was said before, as much as fits.

use crate::model::{Message, Role, tokens};

/// Tokens that what was said before may take of a prompt, whatever the model takes: each answer pays for them. The chain leaves out more
/// where a model's window is smaller.
pub const HISTORY_TOKENS: u64 = 8_000;
/// The longest single answer that is repeated, characters: the rest of it is cut.
const ANSWER_CHARS: usize = 1_500;

/// One message of a person and what was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// What the person said.
    pub said: String,
    /// What a file said that they sent with it: others' words.
    pub shown: Option<String>,
    /// The answer.
    pub answered: String,
    /// The model that wrote it; none for answers by rule or out of the memory.
    pub model: Option<String>,
}

impl Turn {
    /// All that a model was asked.
    fn asked(&self) -> String {
        let parts = [Some(self.said.as_str()), self.shown.as_deref()].into_iter().flatten();
        parts.filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n\n")
    }
}

/// The newest turns that fit in `tokens_max`, oldest first, as messages. `turns` is oldest first. A turn is there whole or not at all, and
/// there is no gap.
pub fn recent(turns: &[Turn], tokens_max: u64) -> Vec<Message> {
    let mut left = tokens_max;
    let mut from = turns.len();
    for turn in turns.iter().rev() {
        let cost = tokens(&turn.asked()) + tokens(&cut(&turn.answered)) + 8;
        if cost > left {
            break;
        }
        left -= cost;
        from -= 1;
    }
    turns[from..]
        .iter()
        .flat_map(|turn| [Message::new(Role::User, turn.asked()), Message::new(Role::Assistant, cut(&turn.answered))])
        .collect()
}

fn cut(text: &str) -> String {
    if text.chars().count() <= ANSWER_CHARS {
        return text.to_owned();
    }
    text.chars().take(ANSWER_CHARS).chain([' ', '…']).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn turn(said: &str, answered: &str) -> Turn {
        Turn { said: said.to_owned(), shown: None, answered: answered.to_owned(), model: None }
    }

    #[test]
    fn the_newest_turns_come_whole_and_in_order() {
        let turns = [turn("one", "first"), turn("two", "second"), turn("three", "third")];
        let all: Vec<String> = recent(&turns, 10_000).into_iter().map(|m| m.content).collect();
        assert_eq!(all, ["one", "first", "two", "second", "three", "third"]);
        let few: Vec<String> = recent(&turns, 14).into_iter().map(|m| m.content).collect();
        assert_eq!(few, ["three", "third"]);
        assert!(recent(&turns, 5).is_empty());
        let with_file = [Turn { shown: Some("a plan".to_owned()), ..turn("", "read") }];
        assert_eq!(recent(&with_file, 100)[0].content, "a plan");
    }

    proptest! {
        #[test]
        fn it_never_takes_more_than_it_may(texts in prop::collection::vec(("\\PC{0,400}", "\\PC{0,4000}"), 0..20), most in 0u64..3_000) {
            let turns: Vec<Turn> = texts.iter().map(|(said, answered)| turn(said, answered)).collect();
            let messages = recent(&turns, most);
            prop_assert!(messages.iter().map(|m| tokens(&m.content)).sum::<u64>() <= most);
            prop_assert_eq!(messages.len() % 2, 0);
        }
    }
}
