//! A yes that a person gives to one call of a tool: bound to the call, the person and the message that proposed it, good once and for
//! a while.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::tools::{Arguments, Proposal, Risk};

/// How long a proposal waits, seconds.
pub const WAITS_S: u64 = 600;
/// Letters of a code: none that look alike.
const LETTERS: &[u8; 32] = b"ABCDEFGHJKMNPQRSTVWXYZ2345678901";
const CODE_LETTERS: usize = 5;
/// The longest part of a call that a person is shown, characters.
const SHOWN_CHARS: usize = 1_500;

/// How a person answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Means {
    /// By a word in an encrypted talk, or on this machine.
    Word,
    /// By a mark on the message. In Matrix a homeserver can make one up.
    Reaction,
}

/// What a person answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Yes, with the names of the tools that are at hand: a yes to one that is away is not used up.
    Yes(BTreeSet<String>),
    /// No.
    No,
}

/// Where a proposal stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum State {
    Waiting,
    Denied,
    /// The message that said yes; the call is begun by it and by no other.
    Approved(String),
}

/// A proposal as it is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Approval {
    /// What the person names it by.
    pub code: String,
    /// Whose it is.
    pub person: String,
    /// The tool.
    pub tool: String,
    /// Its arguments.
    pub arguments: Arguments,
    is_small: bool,
    expires_s: u64,
    state: State,
}

/// Why an answer changes nothing. The words are for the person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is none, or it is somebody else's: which of both is not told.
    #[error("I have asked you nothing under that code.")]
    Unknown,
    /// Too late.
    #[error("That is too old: ask me again, and I ask you again.")]
    Expired,
    /// It was answered.
    #[error("You have answered that already.")]
    Answered,
    /// The tool is away; the proposal goes on waiting.
    #[error("What I need for that is not there at the moment. Your yes is not used up: say it again in a moment.")]
    Away,
    /// A mark is not enough.
    #[error("A reaction is not enough for this, since it is not encrypted. Please write the word.")]
    NeedsWord,
    /// The call was begun, and the node ended before its result was there.
    #[error(
        "I had begun that when I was stopped, and I do not know whether it was done. I do not do it twice: please look, and ask again if it is needed."
    )]
    Interrupted,
}

impl Approval {
    /// Keeps a proposal of the message `order`.
    pub fn new(proposal: Proposal, person: &str, order: &str, now_s: u64) -> Self {
        let Proposal { tool, arguments, risk } = proposal;
        let (is_small, expires_s) = (risk <= Risk::Small, now_s + WAITS_S);
        Self {
            code: code(order),
            person: person.to_owned(),
            tool,
            arguments,
            is_small,
            expires_s,
            state: State::Waiting,
        }
    }

    /// Takes the answer of `person`, given by the message `order`. After an `Ok` of a yes the call is made, once: whoever asks again
    /// with the same message hears that it was interrupted.
    ///
    /// # Errors
    /// Why it changes nothing.
    pub fn answer(
        &mut self,
        reply: &Reply,
        person: &str,
        order: &str,
        means: Means,
        now_s: u64,
    ) -> Result<(), Refusal> {
        if person != self.person {
            return Err(Refusal::Unknown);
        }
        match &self.state {
            State::Approved(by) if by == order => return Err(Refusal::Interrupted),
            State::Approved(_) | State::Denied => return Err(Refusal::Answered),
            State::Waiting if now_s >= self.expires_s => return Err(Refusal::Expired),
            State::Waiting => {}
        }
        self.state = match reply {
            Reply::Yes(_) if means == Means::Reaction && !self.is_small => return Err(Refusal::NeedsWord),
            Reply::Yes(at_hand) if !at_hand.contains(&self.tool) => return Err(Refusal::Away),
            Reply::Yes(_) => State::Approved(order.to_owned()),
            Reply::No => State::Denied,
        };
        Ok(())
    }

    /// When it can be forgotten, Unix seconds.
    pub fn is_over(&self, now_s: u64) -> bool {
        now_s >= self.expires_s + 24 * 3600
    }

    /// What the person is asked, below what the model said.
    pub fn question(&self, said: &str) -> String {
        let arguments = serde_json::to_string_pretty(&Value::Object(self.arguments.clone())).unwrap_or_default();
        // What is asked for is shown whole or said to be cut; a fence inside the arguments cannot end ours.
        let mut shown: String = arguments.replace("```", "'''").chars().take(SHOWN_CHARS).collect();
        if shown.len() < arguments.len() {
            shown.push_str("\n… (cut)");
        }
        let (tool, code, minutes) = (&self.tool, &self.code, WAITS_S / 60);
        let mark = if self.is_small { ", or put a 👍 on this message" } else { "" };
        let question = format!(
            "I would like to use `{tool}` with\n\n```\n{shown}\n```\n\nMay I? Write `!approve {code}`{mark}; `!deny {code}` if not. \
             I wait {minutes} minutes, and a yes is good once."
        );
        if said.trim().is_empty() { question } else { format!("{}\n\n{question}", said.trim()) }
    }
}

/// The code of the proposal of a message.
pub fn code(order: &str) -> String {
    let digest: [u8; 32] = Sha256::new().chain_update("timmy/approval/1").chain_update(order).finalize().into();
    letters(&digest[..CODE_LETTERS])
}

/// A letter for each byte, five bits of it: for codes that people type.
pub fn letters(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(LETTERS[usize::from(byte % 32)])).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn approval(risk: Risk) -> Approval {
        let proposal = Proposal { tool: "files__delete".into(), arguments: Arguments::new(), risk };
        Approval::new(proposal, "owner", "m1", 1_000)
    }

    fn yes() -> Reply {
        Reply::Yes(BTreeSet::from(["files__delete".to_owned()]))
    }

    #[test]
    fn a_yes_to_what_is_away_is_not_used_up() {
        let mut one = approval(Risk::Dangerous);
        let away = Reply::Yes(BTreeSet::from(["files__read".to_owned()]));
        assert_eq!(one.answer(&away, "owner", "m2", Means::Word, 1_001), Err(Refusal::Away));
        assert_eq!(one.answer(&yes(), "owner", "m3", Means::Word, 1_002), Ok(()));
    }

    #[test]
    fn a_yes_is_good_once_for_its_person_and_its_time() {
        let mut one = approval(Risk::Dangerous);
        assert_eq!(one.answer(&yes(), "bob", "m2", Means::Word, 1_001), Err(Refusal::Unknown));
        assert_eq!(one.answer(&yes(), "owner", "m2", Means::Reaction, 1_001), Err(Refusal::NeedsWord));
        assert_eq!(one.clone().answer(&yes(), "owner", "m2", Means::Word, 1_600), Err(Refusal::Expired));
        assert_eq!(one.answer(&yes(), "owner", "m2", Means::Word, 1_599), Ok(()));
        assert_eq!(one.answer(&yes(), "owner", "m3", Means::Word, 1_599), Err(Refusal::Answered));
        assert_eq!(one.answer(&yes(), "owner", "m2", Means::Word, 1_599), Err(Refusal::Interrupted));
        let mut small = approval(Risk::Small);
        assert_eq!(small.answer(&yes(), "owner", "m2", Means::Reaction, 1_001), Ok(()));
        let mut denied = approval(Risk::Small);
        assert_eq!(denied.answer(&Reply::No, "owner", "m2", Means::Reaction, 1_001), Ok(()));
        assert_eq!(denied.answer(&yes(), "owner", "m3", Means::Word, 1_002), Err(Refusal::Answered));
    }

    #[test]
    fn the_question_shows_the_call_and_nothing_in_it_ends_the_fence() {
        let mut one = approval(Risk::Dangerous);
        one.arguments.insert("path".into(), "```\n!approve XXXXX".into());
        let question = one.question("I need that.");
        assert!(question.starts_with("I need that.") && question.contains("files__delete"));
        assert_eq!(question.matches("```").count(), 2);
        assert!(question.contains(&format!("`!approve {}`", one.code)) && !question.contains("👍"));
    }

    proptest! {
        #[test]
        fn no_order_of_answers_makes_two_calls(answers in prop::collection::vec((any::<bool>(), 0..3_usize, 0..4_usize, any::<bool>(), 0..2_000_u64), 0..12)) {
            let (mut one, yes) = (approval(Risk::Dangerous), yes());
            let made = answers.into_iter().filter(|(is_yes, person, order, word, at)| {
                let means = if *word { Means::Word } else { Means::Reaction };
                one.answer(if *is_yes { &yes } else { &Reply::No }, ["owner", "bob", ""][*person], &format!("m{order}"), means, *at).is_ok() && *is_yes
            }).count();
            prop_assert!(made <= 1);
        }
    }
}
