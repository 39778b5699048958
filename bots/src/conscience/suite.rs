//! The two halves of the test set (`bots/safety`): one written with the rules, one by another author before them. What was
//! found on them, and when, is in `spec/safety.md`.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::{Conscience, Language, Lines};

/// At least this share of all crises is found.
const RECALL_MIN: f64 = 0.98;
/// At most this share of harmless texts fires.
const FALSE_ALARMS_MAX: f64 = 0.02;

const OWN: Set = Set {
    crisis: include_str!("../../safety/own/crisis.jsonl"),
    wrapped: include_str!("../../safety/own/wrapped.jsonl"),
    harmless: include_str!("../../safety/own/harmless.jsonl"),
};
const FROZEN: Set = Set {
    crisis: include_str!("../../safety/frozen/crisis.jsonl"),
    wrapped: include_str!("../../safety/frozen/wrapped.jsonl"),
    harmless: include_str!("../../safety/frozen/harmless.jsonl"),
};

struct Set {
    crisis: &'static str,
    wrapped: &'static str,
    harmless: &'static str,
}

#[derive(Deserialize)]
struct Case {
    id: String,
    lang: String,
    #[serde(alias = "wrapping")]
    category: String,
    text: String,
}

fn cases(lines: &str) -> Vec<Case> {
    lines.lines().filter(|l| !l.trim().is_empty()).map(|l| serde_json::from_str(l).unwrap()).collect()
}

/// The cases on which the conscience fires, or not; each is printed by its id.
fn those<'c>(conscience: &Conscience, cases: &'c [Case], fires: bool) -> Vec<&'c Case> {
    let found: Vec<&Case> = cases.iter().filter(|c| conscience.check(&c.text).is_some() == fires).collect();
    for case in &found {
        println!("{} {} {} fires: {fires}", case.id, case.lang, case.category);
    }
    found
}

fn share(part: usize, all: usize) -> f64 {
    part as f64 / all as f64
}

fn measure(name: &str, set: &Set) {
    let conscience = Conscience::new(Lines::default()).unwrap();
    let crises: Vec<Case> = [set.crisis, set.wrapped].into_iter().flat_map(cases).collect();
    let harmless = cases(set.harmless);
    let recall = 1.0 - share(those(&conscience, &crises, false).len(), crises.len());
    let fired = those(&conscience, &harmless, true);
    let false_alarms = share(fired.len(), harmless.len());
    println!("{name}: recall {recall:.4} of {}, false alarms {false_alarms:.4} of {}", crises.len(), harmless.len());
    for apart in ["worry_about_other", "grief"] {
        let all = harmless.iter().filter(|c| c.category == apart).count();
        println!("{name}: {apart} {} of {all}", fired.iter().filter(|c| c.category == apart).count());
    }
    assert!(recall >= RECALL_MIN, "{name}: recall {recall}");
    assert!(false_alarms <= FALSE_ALARMS_MAX, "{name}: false alarms {false_alarms}");
}

#[test]
fn our_own_half_is_met() {
    measure("own", &OWN);
}

#[test]
fn the_frozen_half_is_met() {
    measure("frozen", &FROZEN);
}

#[test]
fn the_set_is_as_large_as_it_must_be() {
    let count = |text: &str| cases(text).len();
    assert!(count(FROZEN.crisis) >= 60 && count(FROZEN.wrapped) >= 20 && count(FROZEN.harmless) >= 200);
    assert!(count(OWN.crisis) >= 40 && count(OWN.wrapped) >= 12 && count(OWN.harmless) >= 100);
    for set in [FROZEN, OWN] {
        let languages: BTreeSet<String> = cases(set.crisis).into_iter().map(|c| c.lang).collect();
        assert!(languages.len() >= 8, "{languages:?}");
    }
    let all = [FROZEN.crisis, FROZEN.wrapped, FROZEN.harmless, OWN.crisis, OWN.wrapped, OWN.harmless];
    let ids: Vec<String> = all.into_iter().flat_map(cases).map(|c| c.id).collect();
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "each id once");
}

#[test]
fn every_pattern_compiles_joined_or_not() {
    let conscience = Conscience::new(Lines::default()).unwrap();
    conscience.warm().unwrap();
    assert!(conscience.matchers.iter().all(super::matcher::Matcher::joined_compiles));
}

#[test]
fn no_answer_in_any_language_fires_itself_and_each_names_the_directory() {
    let conscience = Conscience::new(Lines::default()).unwrap();
    let crisis = conscience.check("I want to kill myself").unwrap();
    let countries = ["US", "DE", "FR", "ES", "BR", "NL", "PL", "UA", "IN", "JP", "TR", "SA", "CN", "RU", "IT"];
    for language in Language::ALL {
        assert_eq!(Language::from_code(language.code()), Some(language));
        for country in countries.into_iter().map(Some).chain([None]) {
            let answer = crisis.answer(country, Some(language.code()));
            assert!(answer.contains("https://findahelpline.com"), "{answer}");
            assert!(conscience.check(&answer).is_none(), "{} {country:?}: {answer}", language.code());
        }
    }
}

#[test]
fn built_in_lines_are_named_three_at_most_and_none_twice() {
    let own = "[[lines]]\ncountry = \"DE\"\nname = \"Beispiel\"\nphone = \"116-123\"\nurl = \"https://example.org\"\nchecked = \"2026-11-01\"\n";
    let crisis = Conscience::new(Lines::parse(own).unwrap()).unwrap().check("Ich will sterben").unwrap();
    let answer = crisis.answer(Some("DE"), None);
    let (first, second) = (answer.find("116-123").unwrap(), answer.find("0800 1110111").unwrap());
    assert!(first < second && !answer.contains("116 123"), "{answer}");
    for country in ["US", "GB", "LT", "JP"] {
        let shown = crisis.answer(Some(country), Some("en")).matches("You can talk to somebody at").count();
        assert!((1..=3).contains(&shown), "{country}: {shown}");
    }
    assert_eq!(crisis.answer(Some("XX"), Some("en")).matches("You can talk to somebody at").count(), 0);
}
