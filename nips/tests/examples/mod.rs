//! The JSON blocks of a page in `spec/`: each stands behind `<!-- example: NAME -->`, is what the code writes, and none is unchecked.

use std::path::Path;

/// True while the pages are written anew (`UPDATE_SPEC=1`).
pub fn is_update() -> bool {
    std::env::var_os("UPDATE_SPEC").is_some()
}

/// The page before an example, the example, and the page after it.
pub fn cut<'a>(document: &'a str, name: &str) -> (&'a str, &'a str, &'a str) {
    let open = format!("<!-- example: {name} -->\n```json\n");
    let start = document.find(&open).unwrap_or_else(|| panic!("no example `{name}`")) + open.len();
    let end = start + document[start..].find("```").unwrap();
    (&document[..start], &document[start..end], &document[end..])
}

/// Holds a page against what the code writes; with `UPDATE_SPEC=1` the page becomes that.
pub fn check<S: AsRef<str>>(page: &Path, examples: &[(S, String)]) {
    for (name, expected) in examples {
        let document = std::fs::read_to_string(page).unwrap();
        let (before, inside, after) = cut(&document, name.as_ref());
        if is_update() {
            std::fs::write(page, format!("{before}{expected}\n{after}")).unwrap();
        } else {
            assert_eq!(inside.trim_end(), expected, "example `{}`; after a change: UPDATE_SPEC=1", name.as_ref());
        }
    }
    let document = std::fs::read_to_string(page).unwrap();
    assert_eq!(document.matches("```json").count(), examples.len(), "a JSON block that nobody checks");
}
