//! Mends misspelt key words: `myslef`, `sucide`. A word with one letter too many, too few or two swapped is read as the key
//! word; one with a wrong letter is not, for that is often another person (`matarte`).

/// Key words, as they leave `normalise`.
const KEYS: &[&str] = &[
    "myself",
    "suicide",
    "suicidal",
    "anymore",
    "umbringen",
    "sterben",
    "selbstmord",
    "suicider",
    "mourir",
    "suicidarme",
    "matarme",
    "quitarme",
    "zelfmoord",
    "samobojstwo",
    "uciderme",
    "amazarmi",
    "oldurmek",
    "intihar",
    "khudkushi",
];

/// Misspellings that are further away.
const KNOWN: &[(&str, &str)] = &[
    ("suiside", "suicide"),
    ("suicde", "suicide"),
    ("sucid", "suicide"),
    ("suisidal", "suicidal"),
    ("sucidal", "suicidal"),
    ("slef", "self"),
    ("mself", "myself"),
    ("meself", "myself"),
    ("myselg", "myself"),
    ("mysepf", "myself"),
    ("wnat", "want"),
    ("wnt", "want"),
    ("wan", "want"),
    ("wat", "want"),
    ("wnana", "wana"),
    ("whana", "wana"),
    ("tge", "the"),
    ("thr", "the"),
    ("liv", "live"),
    ("lif", "life"),
    ("lfie", "life"),
    ("kll", "kil"),
    ("kl", "kil"),
    ("klil", "kil"),
    ("dye", "die"),
    ("dei", "die"),
    ("ned", "end"),
    ("enf", "end"),
    ("cnt", "cant"),
    ("dnt", "dont"),
    ("dotn", "dont"),
    ("donut", "dont"),
    ("nomore", "anymore"),
    ("nymore", "anymore"),
    ("anymor", "anymore"),
    ("animore", "anymore"),
    ("evry", "every"),
    ("everyting", "everything"),
    ("iv", "ive"),
    ("u", "you"),
    ("hrt", "hurt"),
    ("hirt", "hurt"),
    ("cutin", "cuting"),
    ("kilin", "kiling"),
    ("livin", "living"),
    ("dyin", "dying"),
    ("endin", "ending"),
    ("goin", "going"),
    ("gna", "gona"),
    ("gunna", "gona"),
    ("tryna", "trying to"),
    ("fina", "going to"),
    ("bouta", "about to"),
    ("bout", "about"),
    ("ima", "i am gona"),
    ("felin", "feling"),
    ("thinkin", "thinking"),
    ("wud", "would"),
    ("shud", "should"),
    ("noone", "no one"),
    ("nobdy", "nobody"),
    ("wihtout", "without"),
    ("withot", "without"),
];

/// The words with misspelt ones mended, if there are any.
pub(super) fn mend(words: &str) -> Option<String> {
    let mut changed = false;
    let mended: Vec<&str> = words
        .split(' ')
        .map(|word| match mended(word) {
            Some(key) => {
                changed = true;
                key
            }
            None => word,
        })
        .collect();
    changed.then(|| mended.join(" "))
}

fn mended(word: &str) -> Option<&'static str> {
    if let Some((_, right)) = KNOWN.iter().find(|(wrong, _)| *wrong == word) {
        return (*right != word).then_some(*right);
    }
    if word.len() < 5 || !word.is_ascii() || KEYS.contains(&word) {
        return None;
    }
    KEYS.iter().copied().find(|key| one_slip(word.as_bytes(), key.as_bytes()))
}

/// Whether one letter is missing or too many, or two neighbours are swapped. The first letter must be right.
fn one_slip(word: &[u8], key: &[u8]) -> bool {
    if word.first() != key.first() {
        return false;
    }
    let same = word.iter().zip(key).take_while(|(a, b)| a == b).count();
    match word.len().wrapping_sub(key.len()) {
        0 => {
            same + 1 < key.len()
                && word[same] == key[same + 1]
                && word[same + 1] == key[same]
                && word[same + 2..] == key[same + 2..]
        }
        1 => word[same + 1..] == key[same..],
        usize::MAX => word[same..] == key[same + 1..],
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_mended_and_other_words_kept() {
        for slip in ["myslef", "mysef", "mysellf", "mysself", "msyelf"] {
            assert_eq!(mend(slip).as_deref(), Some("myself"), "{slip}");
        }
        assert_eq!(mend("i wana comit sucide").as_deref(), Some("i wana comit suicide"));
        for word in ["myself", "himself", "matarte", "suicidarse", "my shelf"] {
            assert_eq!(mend(word), None, "{word}");
        }
    }
}
