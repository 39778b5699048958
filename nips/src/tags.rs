//! Small helpers to read and write tags.

use nostr::{Event, Tag};

/// A tag from its parts. Parts are never empty here, so parsing cannot fail; an impossible failure yields an empty custom tag.
pub(crate) fn tag<const N: usize>(parts: [&str; N]) -> Tag {
    Tag::custom(nostr::TagKind::Custom(parts[0].to_owned().into()), parts[1..].iter().map(|p| (*p).to_owned()))
}

/// All tags of `event` as slices of strings whose first item is `name`.
pub(crate) fn named<'a>(event: &'a Event, name: &'a str) -> impl Iterator<Item = &'a [String]> + 'a {
    event.tags.iter().map(Tag::as_slice).filter(move |t| t.first().is_some_and(|n| n == name))
}

/// The second item of the first tag called `name`.
pub(crate) fn value<'a>(event: &'a Event, name: &'a str) -> Option<&'a str> {
    named(event, name).find_map(|t| t.get(1)).map(String::as_str)
}
