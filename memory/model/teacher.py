"""all-MiniLM-L6-v2 in numpy: sentences → embeddings of length 1. Neither torch nor a network is needed.

The architecture is BERT's encoder (Devlin et al. 2019): 6 layers, 12 heads, 384 wide; the embedding is the mean over all tokens.
"""

import json

import numpy as np
from safetensors.numpy import load_file
from tokenizers import Tokenizer

# The model was trained on sentences of at most so many tokens.
MAX_TOKENS = 128
# Tokens of one batch: bounds the memory of attention, and keeps a batch inside the caches.
BATCH_TOKENS = 4_096


def erf(x):
    """Abramowitz and Stegun 7.1.26; wrong by at most 1.5e-7."""
    t = 1.0 / (1.0 + 0.3275911 * np.abs(x))
    poly = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    return np.sign(x) * (1.0 - poly * np.exp(-x * x))


def gelu(x):
    return 0.5 * x * (1.0 + erf(x * np.float32(0.7071067811865476)))


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


class Teacher:
    """The model of one folder in the layout of sentence-transformers."""

    def __init__(self, folder):
        config = json.loads((folder / "config.json").read_text())
        self.layers, self.heads, self.eps = config["num_hidden_layers"], config["num_attention_heads"], config["layer_norm_eps"]
        self.weights = load_file(folder / "model.safetensors")
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(MAX_TOKENS)

    def norm(self, x, name):
        x = x - x.mean(-1, keepdims=True)
        x = x / np.sqrt((x * x).mean(-1, keepdims=True) + self.eps)
        return x * self.weights[f"{name}.LayerNorm.weight"] + self.weights[f"{name}.LayerNorm.bias"]

    def linear(self, x, name):
        return x @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]

    def attention(self, x, hidden, name):
        batch, length, width = x.shape
        parts = []
        for part in ("query", "key", "value"):
            y = self.linear(x, f"{name}.self.{part}").reshape(batch, length, self.heads, -1)
            parts.append(y.transpose(0, 2, 1, 3))
        query, key, value = parts
        scores = query @ key.transpose(0, 1, 3, 2) / np.float32(np.sqrt(width // self.heads)) + hidden
        return self.linear((softmax(scores) @ value).transpose(0, 2, 1, 3).reshape(x.shape), f"{name}.output.dense")

    def forward(self, ids):
        """Lists of token ids, padded here → means over their tokens."""
        length = max(map(len, ids))
        tokens = np.array([row + [0] * (length - len(row)) for row in ids])
        mask = np.array([[1.0] * len(row) + [0.0] * (length - len(row)) for row in ids], np.float32)
        x = self.weights["embeddings.word_embeddings.weight"][tokens] + self.weights["embeddings.position_embeddings.weight"][:length]
        x = self.norm(x + self.weights["embeddings.token_type_embeddings.weight"][0], "embeddings")
        hidden = (1.0 - mask[:, None, None, :]) * np.float32(-1e9)
        for i in range(self.layers):
            name = f"encoder.layer.{i}"
            x = self.norm(x + self.attention(x, hidden, f"{name}.attention"), f"{name}.attention.output")
            inner = gelu(self.linear(x, f"{name}.intermediate.dense"))
            x = self.norm(x + self.linear(inner, f"{name}.output.dense"), f"{name}.output")
        return (x * mask[:, :, None]).sum(1) / mask.sum(1, keepdims=True)

    def embed_ids(self, rows, progress=lambda done: None):
        """One mean a row of ids, in their order; rows of like length share a batch."""
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        out = np.empty((len(rows), self.weights["embeddings.word_embeddings.weight"].shape[1]), np.float32)
        start = 0
        while start < len(order):
            # Rows grow: the batch is as large as its last row allows.
            end = start + 1
            while end < len(order) and (end + 1 - start) * len(rows[order[end]]) <= BATCH_TOKENS:
                end += 1
            chosen = order[start:end]
            out[chosen] = self.forward([rows[i] for i in chosen])
            start = end
            progress(start)
        return out

    def embed(self, texts, progress=lambda done: None):
        """One vector of length 1 a text."""
        rows = [encoding.ids for encoding in self.tokenizer.encode_batch(texts)]
        return unit(self.embed_ids(rows, progress))


def unit(x):
    """Rows of length 1; a row of zeros stays one."""
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)
