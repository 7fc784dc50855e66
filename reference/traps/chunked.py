"""Losses of logits that are made some rows at a time: how they have been got wrong."""

import numpy as np

from tinydistill_reference.chunked import linear_cross_entropy_gradient, linear_kl_divergence_gradient
from tinydistill_reference.conventions import IGNORED
from tinydistill_reference.mistakes import computes, derives, ignores_upstream, reads, scaled, sets


def _chunk(i, a):
    return a.get("rows_per_chunk", 256)


def _whole_chunks(i, a):
    """True at rows of chunks that are full; all, where none is."""
    n = np.arange(len(i["hidden"]))
    return n < max(len(n) // _chunk(i, a) * _chunk(i, a), 1) if len(n) > _chunk(i, a) else n >= 0


def _first_chunk(i, a):
    return np.arange(len(i["hidden"])) < _chunk(i, a)


def _last_chunk(i, a):
    n = np.arange(len(i["hidden"]))
    return n >= (len(n) - 1) // _chunk(i, a) * _chunk(i, a)


def _weights(rows):
    return lambda i, a: i["row_weights"] * rows(i, a)


def _labels(rows):
    return lambda i, a: np.where(rows(i, a), i["labels"], IGNORED)


def _overwritten(gradient, name, of_rows):
    """Gradients of weight and bias of the last chunk alone."""
    def change(g, i, a, u):
        last = gradient(u, **(i | {name: of_rows(_last_chunk)(i, a)}), **a)
        return {n: last[n[1:]] for n in ("dweight", "dbias")}
    return change


def _sum_of_means(hidden, weight, bias, labels, rows_per_chunk, biased):
    """The mean loss of each chunk's rows that have a label."""
    z = hidden @ weight.T + biased * bias
    z = z - z.real.max(axis=1, keepdims=True)
    rows = np.flatnonzero(labels != IGNORED)
    _, chunk, count = np.unique(rows // rows_per_chunk, return_inverse=True, return_counts=True)
    each = np.log(np.exp(z).sum(axis=1))[rows] - z[rows, labels[rows]]
    return (each / count[chunk].astype(hidden.real.dtype)).sum()


E, C = "linear_kl_divergence", "linear_cross_entropy"
SHORT = "the last rows of every batch do not learn"
TRAPS = (
    reads(E, "last_chunk_dropped", "a chunk that is not full is left out", SHORT, "constructed",
          row_weights=_weights(_whole_chunks)),
    reads(E, "first_chunk_only", "the loop returns after its first chunk", "most rows do not learn", "constructed",
          row_weights=_weights(_first_chunk)),
    derives(E, "bwd_overwritten", "gradients of weight and bias are overwritten by each chunk",
            "they learn from the last chunk alone", "constructed",
            _overwritten(linear_kl_divergence_gradient, "row_weights", _weights)),
    reads(E, "weights_ignored", "every row counts alike", "padding counts", "constructed",
          row_weights=lambda i, a: np.ones_like(i["row_weights"])),
    sets(E, "no_temperature", "logits are not divided by the temperature", "targets are as sharp as at T = 1",
         "constructed", temperature=1.0),
    scaled(E, "T2", "T^2 is multiplied in", "the soft loss has another weight", "constructed",
           value=lambda i, a: a.get("temperature", 1.0) ** 2, gradient=lambda i, a: a.get("temperature", 1.0) ** 2),
    ignores_upstream(E, "ignores_upstream", "the chunks' own gradients, not times that from above",
                     "weights of the loss have no effect", "constructed"),
    reads(C, "last_chunk_dropped", "a chunk that is not full is left out", SHORT, "constructed",
          labels=_labels(_whole_chunks)),
    reads(C, "first_chunk_only", "the loop returns after its first chunk", "most rows do not learn", "constructed",
          labels=_labels(_first_chunk)),
    derives(C, "bwd_overwritten", "gradients of weight and bias are overwritten by each chunk",
            "they learn from the last chunk alone", "constructed",
            _overwritten(linear_cross_entropy_gradient, "labels", _labels)),
    reads(C, "ignored_counts", "-100 is taken for class 0", "padding learns to be class 0", "constructed",
          labels=lambda i, a: np.maximum(i["labels"], 0)),
    scaled(C, "mean", "a mean over the rows that have a label", "divided again outside, the gradient is too small",
           "constructed", value=lambda i, a: 1 / (i["labels"] != IGNORED).sum(),
           gradient=lambda i, a: 1 / (i["labels"] != IGNORED).sum()),
    computes(C, "sum_of_means", "each chunk has a mean of its own, and these are added up",
             "the loss grows with the number of chunks", "https://github.com/NVIDIA-NeMo/Automodel/pull/3804",
             _sum_of_means),
    ignores_upstream(C, "ignores_upstream", "the chunks' own gradients, not times that from above",
                     "weights of the loss have no effect", "constructed"),
)
