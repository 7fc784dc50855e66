"""The BiLSTM of Tang, Lu, Liu, Mou, Vechtomova and Lin 2019, a student of BERT: classes of a sentence.

    x_t   = E[ids_t]
    h, h' = LSTM(x_1 .. x_n), LSTM'(x_n .. x_1)             one in each direction, their last states; n real tokens
    u     = [h, h']
    z     = relu(u W + b) W' + b'
    L     = -1/B sum_b log softmax(z_b)[y_b]

The LSTM is that of `lstm.py`, with two bias vectors and the order of PyTorch: i, f, g, o.
Shapes: ids, mask (B, T); labels (B,); z (B, C).

Traps
  - the backward LSTM begins at the last real token, and its last state is that of the first token
  - padding leaves both states as they are: h is not that of position T
"""

import numpy as np

from tinydistill_reference.conventions import need
from tinydistill_reference.embedding import embedding, embedding_gradient
from tinydistill_reference.encoder import dense, dense_gradient, everywhere, put
from tinydistill_reference.hard_labels import cross_entropy, cross_entropy_gradient
from tinydistill_reference.lstm import lstm, lstm_gradient

WORDS = "embeddings.trained.weight"
LSTM = ("input_weight", "hidden_weight", "input_bias", "hidden_bias")
DIRECTIONS = (("forward", False, -1), ("backward", True, 0))        # name, whether in reverse, where its last state is


def direction(w, name):
    return [w[f"lstm.{name}.{kind}"] for kind in LSTM]


def summary(x, mask, w):
    """u. Shapes: x (B, T, E) -> (B, 2H)."""
    return np.concatenate([lstm(x, *direction(w, name), mask, reverse=reverse)[:, last]
                           for name, reverse, last in DIRECTIONS], axis=1)


def summary_gradient(du, x, mask, w, found):
    dx = 0 * x
    for (name, reverse, last), dlast in zip(DIRECTIONS, np.split(du, 2, axis=1)):
        dstates = np.zeros_like(x, shape=(*mask.shape, dlast.shape[1]))                 # (B, T, H)
        dstates[:, last] = dlast
        gradients = lstm_gradient(dstates, x, *direction(w, name), mask, reverse=reverse)
        dx = dx + gradients["x"]
        for kind in LSTM:
            put(found, f"lstm.{name}.{kind}", gradients[kind])
    return dx


def classified(u, w):
    """relu(u W + b) W' + b'."""
    inner = dense(u, w, "head.inner")
    return dense(inner * (inner.real > 0), w, "head.classifier")


def classified_gradient(dz, u, w, found):
    inner = dense(u, w, "head.inner")
    dinner = dense_gradient(dz, inner * (inner.real > 0), w, "head.classifier", found) * (inner.real > 0)
    return dense_gradient(dinner, u, w, "head.inner", found)


def logits(w, ids, mask):
    """z."""
    need(ids.shape == mask.shape, f"ids and mask of one shape (B, T): ids {ids.shape}, mask {mask.shape}")
    return classified(summary(embedding(w[WORDS], ids), mask, w), w)


def logits_gradient(dz, w, ids, mask):
    """{weight: gradient}."""
    found, x = {}, embedding(w[WORDS], ids)
    dx = summary_gradient(classified_gradient(dz, summary(x, mask, w), w, found), x, mask, w, found)
    put(found, WORDS, embedding_gradient(dx, w[WORDS], ids)["table"])
    return everywhere(found, w)


def bilstm(ids, mask, labels, **weights):
    """L."""
    return cross_entropy(logits(weights, ids, mask), labels)


def bilstm_gradient(upstream, ids, mask, labels, **weights):
    """dL/dW of every weight."""
    dz = cross_entropy_gradient(upstream, logits(weights, ids, mask), labels)["student_logits"]
    return logits_gradient(dz, weights, ids, mask)
