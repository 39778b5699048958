"""The text that the static model is fitted to: no labels, only sentences; the teacher says what they mean."""

import ast
import lzma
import random
import re
import sysconfig
from pathlib import Path

# A sentence carries something: fewer words say little, and the teacher reads no further than this many bytes.
MIN_WORDS = 3
MAX_BYTES = 600
# What people tell an agent and ask it. `{}` is a word of the teacher's vocabulary.
TEMPLATES = [
    "remember that {} {} {}", "I like {} and {}", "my {} is called {}", "we talked about {} yesterday", "what did I say about {}?",
    "the {} of {} is {}", "{} moved to {} because of {}", "on monday I have {} with {}", "how do I {} the {}?", "don't forget the {}",
    "she said the {} was too {}", "when is the {} {}?", "he works as a {} in {}", "we bought a {} for the {}", "to {} it, first {} the {}",
    "the meeting about {} is at {}", "I am allergic to {}", "who told me about {}?", "{}'s birthday", "the password of the {} is {}",
]


def sentences(text):
    """Sentences of a text: apart at a full stop before a capital, and without needless blanks."""
    for sentence in re.split(r"(?<=[.!?])\s+(?=[A-Z\"(])", " ".join(text.split())):
        if len(sentence.split()) >= MIN_WORDS and len(sentence) <= MAX_BYTES:
            yield sentence


def debian(index):
    """Titles and sentences of an archive's Translation-en.xz."""
    for block in lzma.open(index, "rt", encoding="utf-8").read().split("\n\n"):
        _, _, description = block.partition("\nDescription-en:")
        title, _, body = description.partition("\n")
        yield from sentences(title)
        for paragraph in re.split(r"^ \.$", body, flags=re.M):
            yield from sentences(paragraph)


def docstrings():
    """Sentences of the docstrings of Python's own library."""
    for file in sorted(Path(sysconfig.get_path("stdlib")).rglob("*.py")):
        if "site-packages" in file.parts or "test" in file.parts or "tests" in file.parts:
            continue
        try:
            tree = ast.parse(file.read_text(encoding="utf-8"))
        except (SyntaxError, UnicodeDecodeError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                for paragraph in re.split(r"\n\s*\n", ast.get_docstring(node) or ""):
                    yield from sentences(paragraph)


def synthetic(words, count, rng):
    """Sentences that no source has: half templates filled with any words, half word salads. They reach the words that the text
    above never uses."""
    for i in range(count):
        if i % 2 == 0:
            template = rng.choice(TEMPLATES)
            yield template.format(*rng.choices(words, k=template.count("{}")))
        else:
            yield " ".join(rng.choices(words, k=rng.randint(2, 10)))


def corpus(vocabulary, index, texts, limit, seed):
    """What to fit to: different sentences, at most `limit`, half of them synthetic; in an order of the seed."""
    rng = random.Random(seed)
    real = dict.fromkeys(debian(index))
    real |= dict.fromkeys(docstrings())
    for file in texts:
        real |= dict.fromkeys(s for line in file.read_text(encoding="utf-8").splitlines() for s in sentences(line))
    real = sorted(real)
    rng.shuffle(real)
    real = real[: limit // 2] if limit else real
    words = sorted(w for w in vocabulary if w.isalpha() and len(w) > 2)
    mixed = real + list(synthetic(words, len(real), rng))
    rng.shuffle(mixed)
    return mixed
