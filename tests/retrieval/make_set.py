#!/usr/bin/env python3
"""Makes a retrieval set from the descriptions of Debian packages. Only the standard library is used.

    python3 make_set.py FOLDER        # writes FOLDER/set.jsonl, and keeps the archive's indexes (25 MB) there

A question is a package's one-line description; the passage that answers it is the package's long description, from which that line, the
package's name and paragraphs that other packages have too ("This package contains the development files") are cut out. One package
a source package.

Which packages: those of Debian 13 whose *source package* Debian 12 did not have. The static model was fitted, among others, to sentences
of Debian 12, so it has seen neither these questions nor these passages, though it knows the sort of text.

Paraphrases are questions of which less than a fifth of the words (stems, without stop words) occur in the whole long description. New
packages have about a hundred; packages that Debian 12 had too lend theirs, with their passages, up to 4,000 passages in all. These
are marked `known`: the model may have seen their sentences, but never which question belongs to which passage.

Output, one JSON value a line: first {"about": …} with the counts and the SHA-256 of what was read, then
{"passage": number, "package": name, "text": …}, then {"query": text, "answer": number, "paraphrase": bool, "known": bool}. The same
archive gives the same bytes.
"""

import argparse
import hashlib
import json
import lzma
import random
import re
import sys
import urllib.request
from collections import Counter
from functools import lru_cache
from pathlib import Path

from porter import stem

MIRROR = "http://deb.debian.org/debian"
# What is asked, and what the model's training text was taken from.
SUITE, TRAINED_ON = "trixie", "bookworm"
INDEXES = {"packages": "main/binary-amd64/Packages.xz", "texts": "main/i18n/Translation-en.xz"}
# The indexes are 6 to 10 MB, and 30 to 50 MB unpacked; a server that sends more is not the archive.
MAX_DOWNLOAD = 40_000_000
MAX_UNPACKED = 400_000_000
MAX_PASSAGES = 4_000
# A passage says something: so many bytes and different words are left of it. A question too.
MIN_PASSAGE = 100
MIN_PASSAGE_WORDS = 10
MIN_QUERY_WORDS = 3
# A paragraph that so many source packages have is boilerplate.
SHARED = 3
PARAPHRASE = 0.2
SEED = 1980

# The stop words of Lucene's English analyser and of Lance, and what every description of a package says.
STOP = set(
    "a an and are as at be but by for from has have if in into is it its no not of on or such that the their then there these they this to"
    " was which will with you your can use used using all also".split()
)
SAID_EVERYWHERE = set("package library file tool program support provide contain".split())
DULL = re.compile(r"\b(transitional|dummy|meta-?package|debug(ging)? symbols)\b", re.I)


def fetched(suite, path, cache):
    """The unpacked index, from the cache or the mirror; and the SHA-256 of what was sent."""
    kept = cache / f"{suite}-{Path(path).name}"
    if not kept.exists():
        part = kept.with_suffix(".part")
        with urllib.request.urlopen(f"{MIRROR}/dists/{suite}/{path}", timeout=60) as answer, part.open("wb") as out:
            total, got = int(answer.headers.get("Content-Length") or 0), 0
            while block := answer.read(1 << 18):
                got += len(block)
                if got > MAX_DOWNLOAD:
                    sys.exit(f"{suite}/{path} is larger than {MAX_DOWNLOAD} bytes: not read")
                out.write(block)
                print(f"\r{kept.name}: {got / 1e6:.1f} of {total / 1e6:.1f} MB", end="", file=sys.stderr)
        print(file=sys.stderr)
        part.rename(kept)
    packed = kept.read_bytes()
    text = lzma.LZMADecompressor().decompress(packed, max_length=MAX_UNPACKED)
    return text.decode(), hashlib.sha256(packed).hexdigest()


def stanzas(index):
    """The paragraphs of an index as dictionaries; a value keeps its continuation lines."""
    for block in index.split("\n\n"):
        fields = dict(re.findall(r"^(\S+?): ?(.*(?:\n .*)*)", block, re.M))
        if "Package" in fields:
            yield fields


def sources(index):
    """Package → its source package."""
    return {f["Package"]: f.get("Source", f["Package"]).split()[0] for f in stanzas(index)}


def descriptions(index):
    """Package → (one-line description, the long one's paragraphs)."""
    found = {}
    for fields in stanzas(index):
        title, _, body = fields.get("Description-en", "").partition("\n")
        paragraphs = re.split(r"^ \.$", body, flags=re.M)
        found[fields["Package"]] = (title.strip(), [" ".join(p.split()) for p in paragraphs if p.strip()])
    return found


def words(text):
    """The stems of a text's words without stop words."""
    plain = re.findall(r"[^\W_]+", text.lower())
    return {stem(w) for w in plain if w not in STOP and len(w) > 1}


EVERYWHERE = {stem(w) for w in SAID_EVERYWHERE}


def telling(text):
    """Those of them that not every package has."""
    return words(text) - EVERYWHERE


def without(text, phrase):
    if phrase.lower() not in text.lower():
        return text
    return re.sub(rf"(?<!\w){re.escape(phrase)}(?!\w)", " ", text, flags=re.I)


@lru_cache(maxsize=1)
def names(package):
    """A package's name and what is left of it without the parts that only say what sort of package it is."""
    bare = re.sub(r"^(librust|golang|python3?|ruby|node|php|elpa|libghc|lib|r-(cran|bioc))-?", "", package)
    bare = re.sub(r"(-(dev|doc|perl|java|ruby|common|data|bin|utils|tools|examples|plugin|client|server))+$", "", bare)
    return [n for n in (package, bare, bare.replace("-", " ")) if len(n) > 2]


def question(package, title):
    """The one-line description without the package's name and without what sort of package it is: "(development files)"."""
    title = re.sub(r"\s*\([^)]*\)", "", title)
    title = re.sub(r"\s+--?\s+[^-]*$", "", title)
    for name in names(package):
        title = without(title, name)
    return " ".join(title.split()).strip(" .,:;-")


def nameless(package, paragraph):
    for name in names(package):
        paragraph = without(paragraph, name)
    return " ".join(paragraph.split()).strip(" .,:;-")


def says_enough(asked):
    return len(telling(asked)) >= MIN_QUERY_WORDS


def is_paraphrase(asked, paragraphs):
    """True when few of its words occur in the whole description: what was cut out of it afterwards makes no paraphrase."""
    own = words(asked)
    return len(own & words(" ".join(paragraphs))) < PARAPHRASE * len(own)


def boilerplate(texts, source_of):
    """The paragraphs that several source packages have."""
    having = {}
    for package, (_, paragraphs) in texts.items():
        for paragraph in paragraphs:
            having.setdefault(nameless(package, paragraph), set()).add(source_of.get(package))
    return {paragraph for paragraph, by in having.items() if len(by) >= SHARED}


def candidates(texts, source_of, packages, shared):
    """One (package, question, passage, is it a paraphrase) for each source package, in the order of the sources' names."""
    found = {}
    for package in sorted(packages, key=lambda p: (source_of[p], p != source_of[p], p)):
        title, paragraphs = texts[package]
        if source_of[package] in found or DULL.search(title):
            continue
        asked = question(package, title)
        own = [p for p in (nameless(package, p) for p in paragraphs) if p and p not in shared]
        text = " ".join(without(". ".join(own), title).split())
        if len(text) >= MIN_PASSAGE and len(telling(text)) >= MIN_PASSAGE_WORDS:
            found[source_of[package]] = (package, asked, text, is_paraphrase(asked, paragraphs))
    return list(found.values())


def chosen(found, size):
    """At most so many, of different text, by the seed; in the order of the packages' names."""
    pool = sorted({entry[2]: entry for entry in found}.values())
    return sorted(random.Random(SEED).sample(pool, min(size, len(pool))))


def asked_of(passages, known):
    """The questions, with the number of the passage, where the question says enough and is asked once."""
    often = Counter(frozenset(telling(entry[1])) for entry in passages)
    for number, (package, asked, _, paraphrase) in enumerate(passages):
        if says_enough(asked) and often[frozenset(telling(asked))] == 1:
            yield {"query": asked, "answer": number, "paraphrase": paraphrase, "known": package in known}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("cache", type=Path, help="folder for the archive's indexes and the set")
    cache = parser.parse_args().cache
    cache.mkdir(parents=True, exist_ok=True)
    read = {}
    indexes = {}
    for suite, name in ((SUITE, "packages"), (SUITE, "texts"), (TRAINED_ON, "packages")):
        indexes[suite, name], read[f"{suite}/{INDEXES[name]}"] = fetched(suite, INDEXES[name], cache)
    source_of = sources(indexes[SUITE, "packages"])
    before = sources(indexes[TRAINED_ON, "packages"])
    before = set(before) | set(before.values())
    texts = {p: text for p, text in descriptions(indexes[SUITE, "texts"]).items() if p in source_of}
    shared = boilerplate(texts, source_of)
    old = [p for p in texts if p in before or source_of[p] in before]
    new = sorted(set(texts) - set(old))
    passages = chosen(candidates(texts, source_of, new, shared), MAX_PASSAGES)
    # Few paraphrases are new; older packages lend theirs, and each of these says that it is known.
    lent = [entry for entry in candidates(texts, source_of, old, shared) if entry[3] and says_enough(entry[1])]
    passages += chosen(lent, MAX_PASSAGES - len(passages))
    queries = list(asked_of(passages, set(old)))
    about = {"passages": len(passages), "queries": len(queries), "paraphrases": sum(q["paraphrase"] for q in queries)}
    about |= {"paraphrases_known": sum(q["known"] for q in queries), "seed": SEED, "read": read}
    lines = [{"about": about}]
    lines += [{"passage": n, "package": package, "text": text} for n, (package, _, text, _) in enumerate(passages)]
    lines += queries
    out = cache / "set.jsonl"
    part = out.with_suffix(".part")
    part.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    part.rename(out)
    print(json.dumps(about))


if __name__ == "__main__":
    main()
