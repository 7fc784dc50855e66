"""A small BERT, a padded batch for it, and its features as a table: what the tests of the whole model share."""

import numpy as np

from tinydistill.features import IGNORED, PER_LAYER, PER_MODEL, Batch, Needs
from tinydistill.students.bert import Bert
from tinydistill.students.configs import BertConfig
from tinydistill.tensor import RowSparse

DEPTH = 3
VOCABULARY = 37
LENGTHS = (9, 4, 7, 1)
LABELS = ("a", "b", "c", "d", "e")


def build(head="none", seed=0, dtype=np.float64, **changes):
    """A small BERT whose every parameter is some random number: biases and norms, too."""
    config = BertConfig(layers=DEPTH, hidden=12, heads=3, feed_forward=20, vocabulary=VOCABULARY, positions=11,
                        initial_std=0.4, head=head, labels=LABELS if head in ("sequence", "token") else ())
    model = Bert(config.but(**changes), seed).to(np, dtype)
    rng = np.random.default_rng(seed)
    for parameter in model.parameters():
        parameter.array = parameter.array + (0.3 * rng.standard_normal(parameter.shape)).astype(dtype)
    return model


def draw_batch(head="none", seed=1, lengths=LENGTHS, length=9, positions=True):
    """Random ids and token types, in the padding, too, and random labels for the head, read at their positions.

    For a pretraining head, whether the second sentence follows, too.
    """
    rng = np.random.default_rng(seed)
    shape = (len(lengths), length)
    mask = np.arange(length) < np.array(lengths)[:, None]
    labels, places = None, None
    if head == "sequence":
        labels = rng.integers(0, len(LABELS), len(lengths))
    elif head not in ("none", "span"):
        classes = len(LABELS) if head == "token" else VOCABULARY
        labels = np.where(mask & (rng.random(shape) < 0.6), rng.integers(0, classes, shape), IGNORED)
        places = np.flatnonzero(labels.ravel() != IGNORED) if positions else None
    return Batch(rng.integers(1, VOCABULARY, shape).astype(np.int32), mask, rng.integers(0, 2, shape).astype(np.int32),
                 labels, places, np.arange(len(lengths)),
                 next_sentence=rng.integers(0, 2, len(lengths)) if head == "pretraining" else None)


def everything(config):
    """All that this model can compute."""
    flags = {"embeddings": True, "pooled": config.pooler, "logits": config.head != "none",
             "next_sentence": config.head == "pretraining"}
    layers = dict.fromkeys(PER_LAYER, range(config.layers))
    return Needs.of(**layers, **{name: True for name, wanted in flags.items() if wanted})


def flat(features):
    """{(field, layer) or (field, None): Tensor} of all that was computed."""
    return {(name, l): x for name in PER_LAYER for l, x in getattr(features, name).items()} | \
        {(name, None): getattr(features, name) for name in PER_MODEL if getattr(features, name) is not None}


def dense(gradient):
    return gradient.dense() if isinstance(gradient, RowSparse) else gradient


def inner(features, upstream):
    """<u, f(e)> over all fields, for NumPy arrays u by place."""
    total = 0.0
    for place, x in flat(features).items():
        total = total + (x * upstream[place]).sum()
    return total


def at_real_tokens(place, x, mask):
    """The entries of a feature that belong to real tokens, in the order of the batch."""
    name, _ = place
    if name in ("hidden", "embeddings") or name == "logits" and x.shape[:2] == mask.shape:
        return x[mask]
    if name in ("queries", "keys", "values"):
        return x.transpose(0, 2, 1, 3)[mask]                            # (B, T, A, K) -> (n, A, K)
    if name == "scores":
        return x.transpose(0, 2, 3, 1)[mask[:, :, None] & mask[:, None, :]]
    return x
