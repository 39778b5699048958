//! Reading `param` tags leniently: names in any case, with `_` or `-`; a value that makes no sense counts as absent.

use nostr::PublicKey;
use nostr::Timestamp;
use serde_json::Value;

use super::Task;

/// The most authors of one search.
const USERS_MAX: usize = 100;
/// A `since` or `until` up to this many is days in the past (the kind's definition), above it a Unix time (what clients send).
const DAYS_MAX: u64 = 100_000;
const DAY_S: u64 = 86_400;

impl Task {
    /// The value of the parameter `name`, without white space around it; an empty one counts as absent.
    pub(crate) fn param(&self, name: &str) -> Option<&str> {
        let same = |key: &str| key.trim().replace('-', "_").eq_ignore_ascii_case(name);
        self.params.iter().find(|(key, _)| same(key)).map(|(_, value)| value.trim()).filter(|value| !value.is_empty())
    }

    /// A number, if it is one and within `range`.
    pub(crate) fn number(&self, name: &str, range: std::ops::RangeInclusive<f32>) -> Option<f32> {
        self.param(name)?.parse().ok().filter(|n| range.contains(n))
    }

    /// A whole number.
    pub(crate) fn count(&self, name: &str) -> Option<u64> {
        self.param(name)?.parse().ok()
    }

    /// A moment: days in the past, or a Unix time.
    pub(crate) fn moment(&self, name: &str, now: u64) -> Option<Timestamp> {
        let n = self.count(name)?;
        Some(Timestamp::from(if n <= DAYS_MAX { now.saturating_sub(n * DAY_S) } else { n }))
    }

    /// The users to look among: JSON (`[["p", hex], …]` or `[hex, …]`), or hex and npub separated by commas or spaces.
    /// Keys that are none are left out.
    pub(crate) fn users(&self) -> Vec<PublicKey> {
        let Some(text) = self.param("users") else { return Vec::new() };
        let words: Vec<String> = match serde_json::from_str::<Value>(text) {
            Ok(Value::Array(items)) => items.iter().filter_map(user_word).collect(),
            _ => text.split([',', ' ', ';', '"']).map(str::to_owned).collect(),
        };
        words.iter().filter_map(|w| PublicKey::parse(w.trim()).ok()).take(USERS_MAX).collect()
    }
}

fn user_word(item: &Value) -> Option<String> {
    let word = item.as_array().map_or(Some(item), |tag| tag.get(1))?;
    word.as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use nips::Audience;

    use super::*;

    const HEX: &str = "6e468422dfb74a5738702a8823b9b28168abab8655faacb6853cd0ee15deee93";

    fn task(params: &[(&str, &str)]) -> Task {
        let params = params.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Task { id: "x".into(), kind: 5302, inputs: vec![], params, output: None, audience: Audience::Stranger }
    }

    #[test]
    fn names_and_values_are_read_leniently() {
        let t = task(&[("top-p", " 0.7 "), ("Max_Tokens", "512"), ("temperature", "hot"), ("empty", " ")]);
        assert_eq!(t.number("top_p", 0.0..=1.0), Some(0.7));
        assert_eq!(t.count("max_tokens"), Some(512));
        assert_eq!(t.number("temperature", 0.0..=2.0), None);
        assert_eq!(t.param("empty"), None);
    }

    #[test]
    fn users_come_in_many_shapes() {
        for shape in
            [format!("[[\"p\", \"{HEX}\"]]"), format!("[\"{HEX}\", 7]"), format!("{HEX}, junk"), HEX.to_owned()]
        {
            assert_eq!(task(&[("users", &shape)]).users().len(), 1, "{shape}");
        }
        assert!(task(&[("users", "[[\"p\"]]")]).users().is_empty());
    }

    #[test]
    fn moments_are_days_or_unix_times() {
        let t = task(&[("since", "7"), ("until", "1700000000")]);
        assert_eq!(t.moment("since", 10 * DAY_S), Some(Timestamp::from(3 * DAY_S)));
        assert_eq!(t.moment("until", 10 * DAY_S), Some(Timestamp::from(1_700_000_000)));
    }
}
