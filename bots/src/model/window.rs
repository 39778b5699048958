//! Keeps what is asked within a model's window.
//!
//! Tokens are counted by a guess, a token for three bytes, which is set right by what the model's own tokenizer makes of it: servers say how
//! many tokens each prompt came to. A vocabulary of our own would be that of one maker, and costs 70 MB
//! (`spec/decisions/014-tokens.md`).

use super::{ChatRequest, Message, ToolOffer};

/// Tokens of a model on this machine of which nobody says how many it takes: what home servers give when nothing is set.
pub(super) const WINDOW_HERE: u64 = 4_096;
/// The same for one elsewhere: the smallest of those that are rented today.
pub(super) const WINDOW_AWAY: u64 = 32_768;
/// Tokens that are kept for an answer whose length is not limited.
const ANSWER_TOKENS: u64 = 1_024;
/// Tokens that frame a message.
const FRAME: u64 = 4;
/// The least that is left of a message that is cut, tokens.
const CUT_MIN: u64 = 64;
const CUT_MARK: &str = "\n[the rest is left out]";

/// What is learned of a model's tokenizer: its tokens for one of the guess's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Ratio(f64);

impl Default for Ratio {
    fn default() -> Self {
        Self(1.0)
    }
}

impl Ratio {
    /// Prompts that are shorter say too little: templates of the server weigh more than the text.
    const LEARNS_FROM: u64 = 100;

    /// The server says what a prompt of `guess` came to. A lie or a slip moves it within bounds, and not for long.
    pub fn learn(&mut self, guess: u64, counted: u64) {
        if guess >= Self::LEARNS_FROM && counted > 0 {
            let seen = (as_f64(counted) / as_f64(guess)).clamp(0.4, 4.0);
            self.0 = 0.5f64.mul_add(self.0, 0.5 * seen);
        }
    }

    /// Tokens of the model for so many of the guess.
    pub fn of(self, guess: u64) -> u64 {
        // Both are small and not negative.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let tokens = (as_f64(guess) * self.0).ceil() as u64;
        tokens
    }
}

/// How many tokens a model takes, and who says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Window {
    pub tokens: u64,
    /// By the owner or the server. What is only supposed limits what was said before, and nothing that was asked.
    pub is_known: bool,
}

/// A guess that is seldom too low.
pub(crate) fn tokens(text: &str) -> u64 {
    (text.len() as u64).div_ceil(3)
}

impl Message {
    /// A guess at its tokens.
    pub(super) fn tokens(&self) -> u64 {
        let calls: u64 = self.calls.iter().map(|call| FRAME + tokens(&call.arguments.to_string())).sum();
        FRAME + tokens(&self.content) + calls
    }
}

/// The guess for what a model is told of tools.
fn offers(request: &ChatRequest) -> u64 {
    let offer = |tool: &ToolOffer| {
        FRAME + tokens(&tool.name) + tokens(&tool.description) + tokens(&tool.parameters.to_string())
    };
    request.tools.iter().map(offer).sum()
}

/// The guess for everything in a request.
pub(super) fn total(request: &ChatRequest) -> u64 {
    offers(request) + request.messages.iter().map(Message::tokens).sum::<u64>()
}

/// Tools may take half the room: the last ones are left out, but none that was called already.
fn fit_tools(request: &mut ChatRequest, room: u64, ratio: Ratio) {
    while ratio.of(offers(request)) > room / 2 {
        let is_called = |name: &str| request.messages.iter().any(|m| m.calls.iter().any(|call| call.name == name));
        let Some(at) = request.tools.iter().rposition(|tool| !is_called(&tool.name)) else { return };
        let tool = request.tools.remove(at);
        tracing::debug!(tool = tool.name, "left out: the model takes too few tokens");
    }
}

/// Takes the oldest of what was said before out of `request` until it fits, a message and its answer together. Where the window is known
/// tools give way too, and if that is not enough, its longest text is cut.
pub(super) fn fit(request: &mut ChatRequest, window: Window, ratio: Ratio) {
    let answer = request.max_tokens.map_or(ANSWER_TOKENS, u64::from).min(window.tokens / 4);
    let room = window.tokens.saturating_sub(answer);
    if window.is_known {
        fit_tools(request, room, ratio);
    }
    while request.history >= 2 && ratio.of(total(request)) > room {
        request.messages.drain(1..3);
        request.history -= 2;
    }
    if !window.is_known {
        return;
    }
    for _ in 0..request.messages.len() {
        let over = ratio.of(total(request)).saturating_sub(room);
        // The first is the system's.
        let longest = request.messages.iter_mut().skip(1).max_by_key(|message| message.content.len());
        let Some(longest) = longest.filter(|_| over > 0) else { return };
        let has = ratio.of(tokens(&longest.content)).max(1);
        let may = has.saturating_sub(over + FRAME * 4).max(CUT_MIN);
        if may >= has {
            return;
        }
        // Below its length, which is a usize.
        #[allow(clippy::cast_possible_truncation)]
        let bytes = (longest.content.len() as u64 * may / has) as usize;
        longest.content.truncate(longest.content.floor_char_boundary(bytes));
        longest.content.push_str(CUT_MARK);
    }
}

// Exact below 2^53.
#[allow(clippy::cast_precision_loss)]
fn as_f64(n: u64) -> f64 {
    n as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use serde_json::json;

    use super::super::{Role, ToolCall};
    use super::*;

    fn asked(history: &[String], said: &str) -> ChatRequest {
        let mut request = ChatRequest::new("You are kind.", said);
        let before = history
            .iter()
            .enumerate()
            .map(|(at, text)| Message::new(if at % 2 == 0 { Role::User } else { Role::Assistant }, text.as_str()));
        request.messages.splice(1..1, before);
        request.history = history.len();
        request
    }

    #[test]
    fn the_oldest_goes_first_and_what_is_asked_stays() {
        let history: Vec<String> = (0..20).map(|n| format!("{n} {}", "word ".repeat(60))).collect();
        let mut request = asked(&history, "And now?");
        fit(&mut request, Window { tokens: 800, is_known: false }, Ratio::default());
        assert!(total(&request) <= 600);
        assert!(request.history > 0 && request.history.is_multiple_of(2));
        assert!(request.messages[1].content.starts_with(&(20 - request.history).to_string()));
        assert_eq!(request.messages.last().unwrap().content, "And now?");
    }

    #[test]
    fn what_is_asked_is_cut_only_where_the_window_is_known() {
        let long = "word ".repeat(4_000);
        let (mut known, mut supposed) = (asked(&[], &long), asked(&[], &long));
        fit(&mut supposed, Window { tokens: 1_000, is_known: false }, Ratio::default());
        assert_eq!(supposed.messages[1].content, long);
        fit(&mut known, Window { tokens: 1_000, is_known: true }, Ratio::default());
        assert!(known.messages[1].content.ends_with("left out]") && total(&known) <= 750);
    }

    #[test]
    fn tools_that_would_fill_the_window_give_way_to_what_is_asked() {
        let tool = |n: usize| ToolOffer::new(&format!("tool{n}"), &"it does much ".repeat(60), json!({}));
        let mut request = asked(&[], "what is on the list?");
        request.tools = (0..20).map(tool).collect();
        let call = ToolCall { id: "c".to_owned(), name: "tool19".to_owned(), arguments: json!({}) };
        request.messages.push(Message { calls: vec![call], ..Message::new(Role::Assistant, "") });
        request.messages.push(Message::result("c", "bread"));
        fit(&mut request, Window { tokens: 2_048, is_known: true }, Ratio::default());
        let names: Vec<&str> = request.tools.iter().map(|tool| tool.name.as_str()).collect();
        assert_eq!(names, ["tool0", "tool19"]);
        assert_eq!(request.messages[1].content, "what is on the list?");
    }

    #[test]
    fn the_server_says_how_long_a_prompt_is() {
        let mut ratio = Ratio::default();
        for _ in 0..10 {
            ratio.learn(1_000, 2_000);
        }
        assert!((1_900..=2_000).contains(&ratio.of(1_000)));
        ratio.learn(10, 4_000);
        assert!(ratio.of(1_000) <= 2_000, "a short prompt teaches nothing");
        ratio.learn(1_000, u64::MAX);
        assert!(ratio.of(1_000) <= 4_000);
    }

    proptest! {
        #[test]
        fn a_request_fits_and_keeps_its_pairs(
            history in prop::collection::vec("\\PC{0,300}", 0..24),
            said in "\\PC{1,3000}",
            window in 300u64..4_000,
        ) {
            let history = &history[..history.len() / 2 * 2];
            let mut request = asked(history, &said);
            fit(&mut request, Window { tokens: window, is_known: true }, Ratio::default());
            prop_assert!(total(&request) <= window);
            prop_assert_eq!(request.messages.len(), request.history + 2);
            prop_assert_eq!(request.messages[0].role, Role::System);
        }
    }
}
