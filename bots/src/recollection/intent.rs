//! What a message asks of memory, by the plain forms in which people say it, in a few languages. Everything else is for the model.

/// What a message asks of memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Intent {
    /// Keep this.
    Remember(String),
    /// Say what is known of this.
    Recall(String),
    /// Change the list of this name.
    List(String, ListEdit),
    /// Read the list of this name out.
    ShowList(String),
}

/// A change of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListEdit {
    /// These are on it now.
    Add(Vec<String>),
    /// These are off it now.
    Remove(Vec<String>),
}

/// Longest message that is looked at, in bytes; what is longer is no order of this kind.
const LONGEST: usize = 8 * 1024;
/// Most items that one message puts on a list.
const ITEMS: usize = 50;

const REMEMBER: &[&str] = &[
    "please remember that ",
    "please remember ",
    "remember that ",
    "remember: ",
    "!remember ",
    "note that ",
    "keep in mind that ",
    "don't forget that ",
    "do not forget that ",
    "merke dir, dass ",
    "merk dir, dass ",
    "merke dir: ",
    "merk dir: ",
    "bitte merke dir, dass ",
    "souviens-toi que ",
    "retiens que ",
    "recuerda que ",
    "ricorda che ",
    "lembra que ",
    "onthoud dat ",
];

const RECALL: &[&str] = &[
    "what do you remember about ",
    "what do you remember of ",
    "what do you know about ",
    "do you remember ",
    "!recall ",
    "recall ",
    "was weißt du über ",
    "erinnerst du dich an ",
    "que sais-tu de ",
    "qué sabes de ",
    "cosa sai di ",
    "o que sabes de ",
    "wat weet je over ",
];

const ADD: &[&str] = &["please add ", "add ", "put ", "please put ", "setze ", "setz ", "schreibe ", "schreib "];
const REMOVE: &[&str] = &["please remove ", "remove ", "take ", "delete ", "cross ", "streiche ", "streich ", "nimm "];
const ONTO: &[&str] = &[
    " to the ",
    " to my ",
    " to our ",
    " on the ",
    " on my ",
    " on our ",
    " onto the ",
    " auf die ",
    " auf meine ",
    " auf unsere ",
];
const OFF: &[&str] = &[
    " from the ",
    " from my ",
    " from our ",
    " off the ",
    " off my ",
    " off our ",
    " von der ",
    " von meiner ",
    " von unserer ",
];
const SHOW: &[&str] = &[
    "what is on the ",
    "what is on my ",
    "what is on our ",
    "what's on the ",
    "what's on my ",
    "what's on our ",
    "show the ",
    "show me the ",
    "show my ",
    "show me my ",
    "read the ",
    "read me the ",
    "was steht auf der ",
    "was steht auf meiner ",
    "zeige die ",
    "zeig mir die ",
];

/// What `text` asks of memory, if it asks anything of it.
pub fn intent(text: &str) -> Option<Intent> {
    let text = text.trim();
    if text.is_empty() || text.len() > LONGEST {
        return None;
    }
    if let Some(what) = after(text, REMEMBER) {
        return said(what).map(Intent::Remember);
    }
    if let Some(what) = after(text, RECALL) {
        return said(what.trim_end_matches(['?', '!', '.', ' '])).map(Intent::Recall);
    }
    let plain = text.trim_end_matches(['?', '!', '.', ' ']);
    if let Some(name) = after(plain, SHOW).and_then(list_name) {
        return Some(Intent::ShowList(name));
    }
    let changed = |begins: &[&str], between: &[&str]| -> Option<(Vec<String>, String)> {
        let (what, name) = split_last(after(plain, begins)?, between)?;
        Some((items(what), list_name(name)?)).filter(|(items, _)| !items.is_empty())
    };
    if let Some((items, name)) = changed(ADD, ONTO) {
        return Some(Intent::List(name, ListEdit::Add(items)));
    }
    let (items, name) = changed(REMOVE, OFF)?;
    Some(Intent::List(name, ListEdit::Remove(items)))
}

fn said(what: &str) -> Option<String> {
    let what = what.trim();
    (!what.is_empty()).then(|| what.to_owned())
}

/// What follows one of `beginnings`, whatever its letters' case.
fn after<'a>(text: &'a str, beginnings: &[&str]) -> Option<&'a str> {
    beginnings.iter().find_map(|begin| {
        let head = text.get(..begin.len())?;
        (head.to_lowercase() == **begin).then(|| &text[begin.len()..])
    })
}

/// Cuts at the last of `between`: what is put on a list may itself have such words.
fn split_last<'a>(text: &'a str, between: &[&str]) -> Option<(&'a str, &'a str)> {
    let small = text.to_lowercase();
    if small.len() != text.len() {
        return None;
    }
    let at = between.iter().filter_map(|b| small.rfind(b).map(|at| (at, at + b.len()))).max()?;
    let (what, name) = (text.get(..at.0)?, text.get(at.1..)?);
    (!what.trim().is_empty()).then_some((what, name))
}

/// The name of a list: it must say that it is one, so that "put the cat on the mat" stays a sentence.
fn list_name(words: &str) -> Option<String> {
    let name = words.trim().trim_matches('"').to_lowercase();
    let is_list = ["list", "liste", "lijst", "lista"].iter().any(|word| name.ends_with(word));
    (is_list && name.len() <= 60 && name.split_whitespace().count() <= 5).then_some(name)
}

/// `milk, eggs and bread` are three.
fn items(words: &str) -> Vec<String> {
    let words = words.replace(" and ", ",").replace(" und ", ",");
    let all = words.split(',').map(|item| item.trim().trim_matches('"').to_owned());
    all.filter(|item| !item.is_empty()).take(ITEMS).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn add(items: &[&str], name: &str) -> Option<Intent> {
        Some(Intent::List(name.into(), ListEdit::Add(items.iter().map(|i| (*i).to_owned()).collect())))
    }

    #[test]
    fn what_is_to_be_remembered() {
        let keeps = |text: &str, what: &str| assert_eq!(intent(text), Some(Intent::Remember(what.into())), "{text}");
        keeps("Remember that the key is under the mat.", "the key is under the mat.");
        keeps("please remember my sister is called Eva", "my sister is called Eva");
        keeps("Merke dir, dass der Schlüssel unter der Matte liegt", "der Schlüssel unter der Matte liegt");
        for other in ["remember that ", "Remember when we met?", "I remember that", "", "that"] {
            assert_eq!(intent(other), None, "{other}");
        }
    }

    #[test]
    fn what_is_to_be_recalled() {
        assert_eq!(intent("What do you know about the key?"), Some(Intent::Recall("the key".into())));
        assert_eq!(intent("Was weißt du über Eva?"), Some(Intent::Recall("Eva".into())));
        assert_eq!(intent("What is the capital of France?"), None);
    }

    #[test]
    fn lists_are_changed_and_read() {
        assert_eq!(intent("Add milk to the shopping list"), add(&["milk"], "shopping list"));
        assert_eq!(
            intent("put milk, eggs and bread on my Shopping List."),
            add(&["milk", "eggs", "bread"], "shopping list")
        );
        assert_eq!(intent("Setze Milch auf die Einkaufsliste"), add(&["Milch"], "einkaufsliste"));
        assert_eq!(intent("add a note to the mayor to the to-do list"), add(&["a note to the mayor"], "to-do list"));
        let off = Intent::List("shopping list".into(), ListEdit::Remove(vec!["milk".into()]));
        assert_eq!(intent("take milk off the shopping list"), Some(off));
        assert_eq!(intent("What's on the shopping list?"), Some(Intent::ShowList("shopping list".into())));
        for other in ["put the cat on the mat", "add two to the three", "add to the list", "show the way"] {
            assert_eq!(intent(other), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,200}") {
            let _ = intent(&text);
            let _ = intent(&format!("add {text} to the {text} list"));
            let _ = intent(&format!("remember that {text}"));
        }
    }
}
