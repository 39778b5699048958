#!/usr/bin/env python3
"""Asks one vector engine what `bench memory` asked the memory, on the same vectors.

    vectors.py ENGINE FOLDER        # numpy first: its exact answers are what the others' recall is counted against

FOLDER holds `shape.json` ({"rows", "questions", "dimensions"}), `rows.f32` and `questions.f32` (little-endian, row by row, each of
length 1). Prints one JSON object; times are in milliseconds, one question at a time on one thread, the first one apart.
"""

import json
import os
import sys
import time
from pathlib import Path

# One thread for everybody: numpy reads this when it is loaded.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import numpy as np  # noqa: E402

PLACES = 10
# Rows that are handed over at a time.
BATCH = 10_000
# usearch's own default is 64; this one finds nearly everything.
WIDE = 256


def resident_mb():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS:")) * 1024 / 1e6


def read(folder):
    shape = json.loads((folder / "shape.json").read_text())
    # Read, not mapped: a mapped page would be counted to the engine that touches it first.
    load = lambda name, count: np.fromfile(folder / name, dtype="<f4").reshape(count, shape["dimensions"])
    return load("rows.f32", shape["rows"]), load("questions.f32", shape["questions"])


class Numpy:
    """Every row multiplied: what the memory's bandwidth allows without smaller numbers."""

    def __init__(self, rows, _folder):
        self.rows = rows
        self.version = np.__version__

    def ask(self, question):
        scores = self.rows @ question
        best = np.argpartition(-scores, PLACES)[:PLACES]
        return best[np.argsort(-scores[best], kind="stable")].tolist()


class SqliteVec:
    """sqlite-vec as it comes, f32, on disk."""

    def __init__(self, rows, folder):
        import apsw
        import sqlite_vec

        self.path = folder / "sqlite-vec.db"
        self.path.unlink(missing_ok=True)
        self.db = apsw.Connection(str(self.path))
        self.db.enable_load_extension(True)
        self.db.load_extension(sqlite_vec.loadable_path())
        self.version = sqlite_vec.__version__
        self.db.cursor().execute(f"CREATE VIRTUAL TABLE v USING vec0(e float[{rows.shape[1]}] distance_metric=cosine)")
        for first in range(0, len(rows), BATCH):
            some = ((first + n, row.tobytes()) for n, row in enumerate(rows[first : first + BATCH]))
            with self.db:
                self.db.cursor().executemany("INSERT INTO v(rowid, e) VALUES (?, ?)", some)

    def ask(self, question):
        found = self.db.cursor().execute(f"SELECT rowid FROM v WHERE e MATCH ? AND k = {PLACES}", [question.tobytes()])
        return [row for (row,) in found]


class Usearch:
    """usearch's HNSW graph as it comes, f32, in memory; built by all cores."""

    wide = None

    def __init__(self, rows, _folder):
        import usearch
        from usearch.index import Index

        options = {"expansion_search": self.wide} if self.wide else {}
        self.index = Index(ndim=rows.shape[1], metric="cos", dtype="f32", **options)
        self.index.add(np.arange(len(rows)), rows)
        self.version = usearch.__version__

    def ask(self, question):
        return self.index.search(question, PLACES, threads=1).keys.tolist()


class UsearchWide(Usearch):
    wide = WIDE


ENGINES = {"numpy": Numpy, "sqlite-vec": SqliteVec, "usearch": Usearch, "usearch-wide": UsearchWide}


def main():
    engine, folder = sys.argv[1], Path(sys.argv[2])
    rows, questions = read(folder)
    before, begun = resident_mb(), time.perf_counter()
    it = ENGINES[engine](rows, folder)
    build_s = time.perf_counter() - begun
    times, answers = [], []
    for question in questions:
        begun = time.perf_counter()
        answers.append(it.ask(question))
        times.append((time.perf_counter() - begun) * 1e3)
    exact = folder / "exact.json"
    if engine == "numpy":
        exact.write_text(json.dumps(answers))
    right = json.loads(exact.read_text())
    recall = float(np.mean([len(set(a) & set(r)) / PLACES for a, r in zip(answers, right)]))
    rest = np.sort(times[1:])
    at = lambda share: float(rest[max(int(np.ceil(share * len(rest))) - 1, 0)])
    path = getattr(it, "path", None)
    print(json.dumps({
        "version": it.version, "build_s": build_s, "first_ms": times[0], "p50_ms": at(0.5), "p99_ms": at(0.99), "recall": recall,
        "memory_mb": resident_mb() - before + (rows.nbytes / 1e6 if engine == "numpy" else 0),
        "disk_mb": path.stat().st_size / 1e6 if path else None,
    }))


if __name__ == "__main__":
    main()
