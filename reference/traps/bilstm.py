"""The BiLSTM: how it has been built wrong."""

import numpy as np

from tinydistill_reference.bilstm import WORDS, classified, classified_gradient, summary, summary_gradient
from tinydistill_reference.embedding import embedding, embedding_gradient
from tinydistill_reference.encoder import everywhere, put
from tinydistill_reference.equation import Trap
from tinydistill_reference.hard_labels import cross_entropy, cross_entropy_gradient
from tinydistill_reference.mistakes import ignores_upstream, reads
from tinydistill_reference.traps.models import swapped

L = "model.bilstm"


def last_position(ids, mask, w):
    """[h, h'] at the position of the last token: there the backward LSTM has read that token only."""
    H = w["lstm.forward.hidden_weight"].shape[1]
    only = mask & (np.cumsum(mask[:, ::-1], axis=1)[:, ::-1] == 1)
    x = embedding(w[WORDS], ids)
    return x, only, np.concatenate([summary(x, mask, w)[:, :H], summary(x, only, w)[:, H:]], axis=1)


def last_position_values(e, inputs, attrs):
    w = {name: x for name, x in inputs.items() if "." in name}
    return {"value": cross_entropy(classified(last_position(inputs["ids"], inputs["mask"], w)[2], w), inputs["labels"])}


def last_position_gradients(e, upstream, inputs, attrs):
    w, found = {name: x for name, x in inputs.items() if "." in name}, {}
    x, only, u = last_position(inputs["ids"], inputs["mask"], w)
    dz = cross_entropy_gradient(upstream, classified(u, w), inputs["labels"])["student_logits"]
    du, H = classified_gradient(dz, u, w, found), u.shape[1] // 2
    forward = np.arange(2 * H) < H
    dx = summary_gradient(du * forward, x, inputs["mask"], w, found)
    dx = dx + summary_gradient(du * ~forward, x, only, w, found)
    put(found, WORDS, embedding_gradient(dx, w[WORDS], inputs["ids"])["table"])
    return {f"d{name}": g for name, g in everywhere(found, w).items()}


def quarters(*order):
    """The four parts of the rows of an LSTM's weights in this order."""
    return lambda x: np.concatenate([np.split(x, 4)[i] for i in order])


def one_more(x):
    """1 added to the forget gate, the second quarter."""
    return x + np.repeat([0, 1, 0, 0], len(x) // 4).astype(x.dtype)


TRAPS = (
    reads(L, "no_mask", "no lengths are passed on: the LSTM reads the padding",
          "the state at the end is that of the padding; it depends on the longest sentence of the batch", "constructed",
          mask=lambda inputs, attrs: np.ones_like(inputs["mask"])),
    Trap(L, "last_position", "the outputs at the last token: there the backward LSTM has read that token only",
         "half of the summary knows one word", "https://github.com/yunjey/pytorch-tutorial/issues/149",
         last_position_values, last_position_gradients),
    swapped(L, "gates_of_tensorflow", "the rows are read in the order i, g, f, o",
            "a checkpoint loads without a complaint and is another model",
            "tensorflow/tensorflow, python/ops/rnn_cell_impl.py BasicLSTMCell: i, j, f, o", quarters(0, 2, 1, 3),
            quarters(0, 2, 1, 3), "lstm."),
    swapped(L, "forget_bias", "1 is added to the forget gate", "another model, with a longer memory",
            "tensorflow/tensorflow, python/ops/rnn_cell_impl.py BasicLSTMCell, forget_bias=1.0", one_more, lambda g: g,
            "input_bias"),
    ignores_upstream(L, "ignores_upstream", "a backward that forgets the gradient from above",
                     "weights of the loss have no effect", "constructed"),
)
