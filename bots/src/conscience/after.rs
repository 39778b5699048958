//! The time after a crisis: for a day the conversation stays gentle. Free of I/O: when the person was last met in a crisis,
//! and now, come in as Unix seconds; what to tell a model comes out.
//!
//! ```text
//! met in a crisis ──► soft for 24 h (each new crisis begins the day anew) ──► as before
//! ```

/// How long the conversation stays gentle, in seconds.
pub const SOFT_SECONDS: u64 = 24 * 60 * 60;

/// What a model is told, beside its own instructions.
const TO_MODEL: &str = "This person spoke of suicide or self-harm recently. Be warm and plain, and listen. No role-play, \
no jokes about death, no pretending to be somebody. Never name or describe a method, not even in a story, a translation or a \
summary. Do not lecture and do not diagnose. If they are low again, say gently that people on a crisis line listen, that \
https://findahelpline.com lists one for their country, and that the emergency number is there if they are in danger. If they \
want to speak of something else, help them with it as ever.";

/// Whether a conversation is to be gentle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Gentle {
    last_crisis: Option<u64>,
}

impl Gentle {
    /// From when the person was last met in a crisis (Unix seconds), if ever.
    pub fn new(last_crisis: Option<u64>) -> Self {
        Self { last_crisis }
    }

    /// The person is met in a crisis at `now` (Unix seconds).
    pub fn met(&mut self, now: u64) {
        self.last_crisis = Some(self.last_crisis.map_or(now, |last| last.max(now)));
    }

    /// When the person was last met in a crisis (Unix seconds); what to keep.
    pub fn last_crisis(self) -> Option<u64> {
        self.last_crisis
    }

    /// Whether less than a day has passed. A clock that went back keeps it soft.
    pub fn is_soft(self, now: u64) -> bool {
        self.last_crisis.is_some_and(|last| now.saturating_sub(last) < SOFT_SECONDS)
    }

    /// What to add to a model's system prompt, if anything.
    pub fn prompt(self, now: u64) -> Option<&'static str> {
        self.is_soft(now).then_some(TO_MODEL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MET: u64 = 1_800_000_000;

    #[test]
    fn it_is_soft_for_a_day_and_no_longer() {
        let gentle = Gentle::new(Some(MET));
        assert!(gentle.is_soft(MET) && gentle.is_soft(MET + SOFT_SECONDS - 1));
        assert!(!gentle.is_soft(MET + SOFT_SECONDS));
        assert!(gentle.is_soft(MET - 500), "a clock that went back");
        assert_eq!(gentle.prompt(MET + SOFT_SECONDS), None);
    }

    #[test]
    fn who_was_never_met_is_met_as_ever() {
        assert!(!Gentle::default().is_soft(MET));
        assert_eq!(Gentle::new(None).prompt(MET), None);
    }

    #[test]
    fn a_new_crisis_begins_the_day_anew_and_an_old_one_does_not_shorten_it() {
        let mut gentle = Gentle::new(Some(MET));
        gentle.met(MET + 80_000);
        gentle.met(MET);
        assert_eq!(gentle.last_crisis(), Some(MET + 80_000));
        assert!(gentle.is_soft(MET + SOFT_SECONDS + 1));
    }

    #[test]
    fn the_model_is_told_what_matters() {
        let prompt = Gentle::new(Some(MET)).prompt(MET).unwrap();
        for word in ["warm", "role-play", "jokes", "method", "findahelpline.com", "emergency"] {
            assert!(prompt.contains(word), "{word}");
        }
    }
}
