"""Embeddings: how they have been got wrong."""

import numpy as np

from tinydistill_reference.mistakes import computes, derives, ignores_upstream

ISSUES = "https://github.com/"


def _added(table, ids, dy):
    """dE of these rows."""
    found = np.zeros_like(table)
    np.add.at(found, ids.ravel(), dy.reshape(ids.size, -1))                             # (N, D)
    return found


def _overwritten(i, u):
    """NumPy's dE[ids] += dy, which adds to a row once."""
    found = np.zeros_like(i["table"])
    found[i["ids"].ravel()] += u.reshape(i["ids"].size, -1)                             # (N, D)
    return found


def _count(i):
    return np.maximum(np.bincount(i["ids"].ravel(), minlength=len(i["table"])), 1)[:, None]


E = "embedding"
TRAPS = (
    derives(E, "bwd_overwritten", "dE[ids] += dy: of several readings of a row only one counts",
            "frequent words hardly learn",
            ISSUES + "HIPS/autograd/issues/39", lambda g, i, a, u: {"dtable": _overwritten(i, u)}),
    derives(E, "bwd_mean", "the sum over a row's readings is divided by their number (scale_grad_by_freq)",
            "frequent words learn no faster than rare ones", ISSUES + "pytorch/pytorch/issues/190063",
            lambda g, i, a, u: {"dtable": g["dtable"] / _count(i)}),
    derives(E, "bwd_padding_fixed", "row 0 gets no gradient (padding_idx = 0)",
            "harmless where nobody reads padding, or else its vector is never learned",
            "huggingface/transformers src/transformers/models/mobilebert/modeling_mobilebert.py: padding_idx",
            lambda g, i, a, u: {"dtable": np.where(np.arange(len(i["table"]))[:, None] == 0, 0, g["dtable"])}),
    derives(E, "bwd_first_sequence", "only the first sequence of the batch is added up",
            "the rest of the batch is for nothing",
            "constructed", lambda g, i, a, u: {"dtable": _added(i["table"], i["ids"][:1], u[:1])}),
    derives(E, "bwd_every_row", "rows that were not read get a gradient, too", "words that never occur drift",
            "constructed", lambda g, i, a, u: {"dtable": g["dtable"] + u.mean()}),
    computes(E, "scaled_by_width", "rows are multiplied by sqrt(D), as in the first Transformer",
             "a BERT's word vectors drown its positions", ISSUES + "d2l-ai/d2l-en/pull/2661",
             lambda table, ids: table[ids] * np.sqrt(table.shape[1])),
    computes(E, "shifted", "ids begin at 1, the table at 0", "every word has its neighbour's vector",
             ISSUES + "INK-USC/MHGRN/issues/5", lambda table, ids: table[(ids + 1) % len(table)]),
    computes(E, "zeros_at_padding", "row 0 is taken for zeros", "padding has no vector of its own", "constructed",
             lambda table, ids: table[ids] * (ids > 0)[..., None]),
    ignores_upstream(E, "ignores_upstream", "a backward that counts readings", "every word that occurs drifts",
                     "constructed"),
)
