"""Porter's stemmer (M. F. Porter, "An algorithm for suffix stripping", Program 14(3), 1980), as published.

Only the retrieval set needs it: whether a question shares words with its answer is asked of stems, so that `parses` and `parsing`
are one word.
"""

from functools import lru_cache

STEP_2 = [
    ("ational", "ate"), ("tional", "tion"), ("enci", "ence"), ("anci", "ance"), ("izer", "ize"), ("abli", "able"), ("alli", "al"),
    ("entli", "ent"), ("eli", "e"), ("ousli", "ous"), ("ization", "ize"), ("ation", "ate"), ("ator", "ate"), ("alism", "al"),
    ("iveness", "ive"), ("fulness", "ful"), ("ousness", "ous"), ("aliti", "al"), ("iviti", "ive"), ("biliti", "ble"),
]
STEP_3 = [("icate", "ic"), ("ative", ""), ("alize", "al"), ("iciti", "ic"), ("ical", "ic"), ("ful", ""), ("ness", "")]
STEP_4 = [
    "al", "ance", "ence", "er", "ic", "able", "ible", "ant", "ement", "ment", "ent", "ion", "ou", "ism", "ate", "iti", "ous", "ive",
    "ize",
]


def consonants(word):
    """A list that says of each letter whether it is a consonant; `y` is one at the start and after a vowel."""
    flags = []
    for i, letter in enumerate(word):
        flags.append(letter not in "aeiou" and not (letter == "y" and i > 0 and flags[i - 1]))
    return flags


def measure(stem):
    """How often a vowel is followed by a consonant: Porter's m."""
    flags = consonants(stem)
    return sum(1 for before, here in zip(flags, flags[1:]) if here and not before)


def has_vowel(stem):
    return not all(consonants(stem))


def doubled(word):
    return len(word) > 1 and word[-1] == word[-2] and consonants(word)[-1]


def short_end(word):
    """Consonant, vowel, consonant other than w, x and y: Porter's *o."""
    return len(word) > 2 and consonants(word)[-3:] == [True, False, True] and word[-1] not in "wxy"


def replaced(word, rules):
    """The longest suffix of `rules` that fits is replaced when something is left before it (m > 0)."""
    for suffix, better in sorted(rules, key=lambda rule: -len(rule[0])):
        if word.endswith(suffix):
            stem = word[: -len(suffix)]
            return stem + better if measure(stem) > 0 else word
    return word


def step_1(word):
    """Plurals, -ed and -ing, and a final y."""
    if word.endswith(("sses", "ies")):
        word = word[:-2]
    elif word.endswith("s") and not word.endswith("ss"):
        word = word[:-1]
    if word.endswith("eed"):
        word = word[:-1] if measure(word[:-3]) > 0 else word
    else:
        for suffix in ("ed", "ing"):
            stem = word[: -len(suffix)]
            if word.endswith(suffix) and has_vowel(stem):
                word = restored(stem)
                break
    return word[:-1] + "i" if word.endswith("y") and has_vowel(word[:-1]) else word


def restored(stem):
    """What stood before -ed or -ing: `hop` of hopping, `file` of filing."""
    if stem.endswith(("at", "bl", "iz")):
        return stem + "e"
    if doubled(stem) and stem[-1] not in "lsz":
        return stem[:-1]
    return stem + "e" if measure(stem) == 1 and short_end(stem) else stem


def step_4(word):
    for suffix in sorted(STEP_4, key=len, reverse=True):
        if word.endswith(suffix):
            stem = word[: -len(suffix)]
            fits = measure(stem) > 1 and (suffix != "ion" or stem.endswith(("s", "t")))
            return stem if fits else word
    return word


def step_5(word):
    if word.endswith("e"):
        m = measure(word[:-1])
        if m > 1 or (m == 1 and not short_end(word[:-1])):
            word = word[:-1]
    return word[:-1] if word.endswith("ll") and measure(word) > 1 else word


@lru_cache(maxsize=1 << 20)
def stem(word):
    """The stem of a word in lower case; words of one or two letters and words with digits stay as they are."""
    if len(word) < 3 or not word.isalpha() or not word.isascii():
        return word
    return step_5(step_4(replaced(replaced(step_1(word), STEP_2), STEP_3)))
