"""A small student and its teacher, batches for them, and a run directory in memory: what tests of training share."""

import json

import numpy as np

from gradcheck import assert_within
from tinydistill.features import IGNORED, Batch
from tinydistill.methods import METHODS
from tinydistill.methods.stage import Recipe
from tinydistill.students.bert import Bert
from tinydistill.students.configs import BertConfig

MINILM, = METHODS["minilm"].stages()
RECIPE = Recipe(steps=10, batch_size=4, learning_rate=0.02, warmup=3, clip=0.1, decay=0.1)
VOCABULARY = 19


def toy(hidden, layers, seed, dtype=np.float64, **changes):
    """A small BERT with attention that is far from uniform."""
    config = BertConfig(layers, hidden, heads=2, feed_forward=2 * hidden, vocabulary=VOCABULARY, positions=8,
                        initial_std=0.4, dropout=0.3, attention_dropout=0.2)
    return Bert(config.but(**changes), seed).to(np, dtype)


def pair(dtype=np.float64, **changes):
    """(student, teacher) of different depth and width."""
    return toy(8, 2, 0, dtype, **changes), toy(12, 3, 1, dtype)


def batch_at(step, B=5, T=6):
    """The batch of a step: random tokens but 0, which transformers teaches nothing; lengths from 1 to T."""
    rng = np.random.default_rng(100 + step)
    mask = np.arange(T) < np.append(T, rng.integers(1, T + 1, B - 1))[:, None]
    return Batch(ids=rng.integers(1, VOCABULARY, (B, T)), mask=mask, rows=np.arange(B))


def masked_batch_at(step):
    """The same with labels at some tokens."""
    batch = batch_at(step)
    labels = np.where(batch.mask & (np.arange(6) % 2 == step % 2), batch.ids, IGNORED)
    return Batch(ids=batch.ids, mask=batch.mask, rows=batch.rows, labels=labels,
                 positions=np.flatnonzero(labels != IGNORED))


def assert_all_within(got, want, relative):
    """Two dicts of arrays agree up to rounding of their largest entry; None only where None is."""
    assert got.keys() == want.keys()
    largest = max(np.abs(x).max() for x in want.values() if x is not None)
    for name, x in want.items():
        assert (x is None) == (got[name] is None), name
        if x is not None:
            assert_within(got[name], x, relative * largest, name)


class Memory:
    """A run directory that is none: what the loop logs and saves, kept as a disk would."""

    path = "memory"

    def __init__(self):
        self.lines, self.saved = [], {}

    def log(self, step, **metrics):
        self.lines.append({"step": step, **metrics})

    def save(self, step, arrays, meta):
        self.saved[step] = {name: a.copy() for name, a in arrays.items()}, json.dumps(meta)

    def load_latest(self):
        if not self.saved:
            return None
        arrays, meta = self.saved[max(self.saved)]
        return max(self.saved), {name: a.copy() for name, a in arrays.items()}, json.loads(meta)
