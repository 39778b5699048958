//! What was said before, as much as fits.

use crate::model::{Message, Role};

/// Tokens that what was said before may take of a prompt, by the guess of a token for three characters: half of the smallest window
/// that is common on a home machine (4,096).
pub const HISTORY_TOKENS: usize = 2_000;
/// The longest single answer that is repeated, characters: the rest of it is cut.
const ANSWER_CHARS: usize = 1_500;

/// One message of a person and what was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// What the person said.
    pub said: String,
    /// The answer.
    pub answered: String,
    /// The model that wrote it; none for answers by rule or out of the memory.
    pub model: Option<String>,
}

/// The newest turns that fit in `tokens`, oldest first, as messages. `turns` is oldest first. A turn is there whole or not at all, and
/// there is no gap.
pub fn recent(turns: &[Turn], tokens: usize) -> Vec<Message> {
    let mut left = tokens;
    let mut from = turns.len();
    for turn in turns.iter().rev() {
        let cost = (turn.said.chars().count() + cut(&turn.answered).chars().count()).div_ceil(3) + 8;
        if cost > left {
            break;
        }
        left -= cost;
        from -= 1;
    }
    turns[from..]
        .iter()
        .flat_map(|turn| {
            [Message::new(Role::User, turn.said.as_str()), Message::new(Role::Assistant, cut(&turn.answered))]
        })
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
        Turn { said: said.to_owned(), answered: answered.to_owned(), model: None }
    }

    #[test]
    fn the_newest_turns_come_whole_and_in_order() {
        let turns = [turn("one", "first"), turn("two", "second"), turn("three", "third")];
        let all: Vec<String> = recent(&turns, 10_000).into_iter().map(|m| m.content).collect();
        assert_eq!(all, ["one", "first", "two", "second", "three", "third"]);
        let few: Vec<String> = recent(&turns, 13).into_iter().map(|m| m.content).collect();
        assert_eq!(few, ["three", "third"]);
        assert!(recent(&turns, 5).is_empty());
    }

    proptest! {
        #[test]
        fn it_never_takes_more_than_it_may(texts in prop::collection::vec(("\\PC{0,400}", "\\PC{0,4000}"), 0..20), tokens in 0usize..3_000) {
            let turns: Vec<Turn> = texts.iter().map(|(said, answered)| turn(said, answered)).collect();
            let messages = recent(&turns, tokens);
            let chars: usize = messages.iter().map(|m| m.content.chars().count()).sum();
            prop_assert!(chars.div_ceil(3) <= tokens + 1);
            prop_assert_eq!(messages.len() % 2, 0);
        }
    }
}
