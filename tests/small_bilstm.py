"""A small BiLSTM, sentences and pairs for it, and what comes of them: what its tests share."""

import numpy as np

from small_bert import dense
from tinydistill.features import Batch, Needs, Pass
from tinydistill.students.bilstm import BiLstm, BiLstmConfig
from tinydistill.tensor import gradients

VOCABULARY, CLS, SEP, H, WIDTH, INNER = 23, 1, 2, 3, 4, 7
LABELS = ("a", "b", "c", "d", "e")
LENGTHS, OTHER_LENGTHS = (5, 1, 3, 2), (2, 4, 1, 3)
LOGITS = Pass(needs=Needs.of(logits=True))


def config_of(pair=False, **changes):
    return BiLstmConfig(H, INNER, word_width=WIDTH, vocabulary=VOCABULARY, pair=pair, head="sequence",
                        labels=LABELS).but(**changes)


def build(pair=False, seed=0, dtype=np.float64, vectors=None, **changes):
    """A small model with weights that are far from zero."""
    model = BiLstm(config_of(pair, **changes), seed, vectors).to(np, dtype)
    rng = np.random.default_rng(seed)
    for parameter in model.parameters():
        parameter.array = parameter.array + (0.5 * rng.standard_normal(parameter.shape)).astype(dtype)
    return model


def texts(pair=False, seed=1, lengths=LENGTHS, others=OTHER_LENGTHS):
    """[sentences], or [sentences, second sentences]: lists of ids."""
    rng = np.random.default_rng(seed)
    return [[rng.integers(3, VOCABULARY, n) for n in row] for row in ((lengths, others) if pair else (lengths,))]


def batch_of(texts, more=0, seed=2):
    """They as a padded batch, pairs with their special tokens; anything stands in the padding."""
    if len(texts) == 1:
        rows = [(ids, np.zeros(len(ids), int)) for ids in texts[0]]
    else:
        rows = [(np.concatenate([[CLS], a, [SEP], b, [SEP]]), np.repeat([0, 1], [len(a) + 2, len(b) + 1]))
                for a, b in zip(*texts, strict=True)]
    rng, length = np.random.default_rng(seed), max(len(ids) for ids, _ in rows) + more
    ids, types = rng.integers(0, VOCABULARY, (len(rows), length)), rng.integers(0, 2, (len(rows), length))
    for b, (of_row, types_of_row) in enumerate(rows):
        ids[b, :len(of_row)], types[b, :len(of_row)] = of_row, types_of_row
    mask = np.arange(length) < np.array([len(of_row) for of_row, _ in rows])[:, None]
    return Batch(ids, mask, types if len(texts) == 2 else None, rows=np.arange(len(rows)))


def upstream_of(count, seed=5):
    return np.random.default_rng(seed).standard_normal((count, len(LABELS)))


def logits_and_gradients(model, batch, upstream, run=LOGITS):
    logits = model(batch, run).logits
    found = gradients(logits, model.parameters(), upstream)
    return logits.array, dict(zip(model.named_parameters(), map(dense, found), strict=True))
