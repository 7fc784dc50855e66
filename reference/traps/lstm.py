"""LSTM: how it has been got wrong."""

import numpy as np

from tinydistill_reference.lstm import lstm_cell, lstm_gradient, sigmoid
from tinydistill_reference.mistakes import computes, derives, ignores_upstream, reads

ISSUES = "https://github.com/"
GATES = "weights of another library load without an error, and the states are wrong"
WEIGHTS = ("input_weight", "hidden_weight", "input_bias", "hidden_bias")


def _ordered(*order):
    """Every weight with its four parts in another order."""
    def rows(name):
        return lambda i, a: np.concatenate([np.split(i[name], 4)[k] for k in order])
    return {name: rows(name) for name in WEIGHTS}


def _cell(squash=sigmoid, forget=0.0, tanh=np.tanh, out=lambda h, c: (h, c), peep=None):
    """A forward with other nonlinearities."""
    def forward(x, hidden, cell, input_weight, hidden_weight, input_bias, hidden_bias):
        a = x @ input_weight.T + hidden @ hidden_weight.T + input_bias + hidden_bias
        a = a if peep is None else a + peep(input_bias + hidden_bias)
        i, f, g, o = np.split(a, 4, axis=1)
        c = squash(f + forget) * cell + squash(i) * np.tanh(g)
        return dict(zip(("next_hidden", "next_cell"), out(squash(o) * tanh(c), c)))
    return forward


def _hard_sigmoid(a):
    """Keras': 0.2 a + 0.5 between 0 and 1."""
    y = 0.2 * a + 0.5
    return np.where(y.real < 0, 0, np.where(y.real > 1, 1, y))


def _output_biases(total):
    """The output gate's bias for the gates i and f."""
    i, f, g, o = np.split(total, 4)
    return np.concatenate([o - i, o - f, 0 * g, 0 * o])


def _gate_gradients(i, u):
    """da by gate, and f and c."""
    a = i["x"] @ i["input_weight"].T + i["hidden"] @ i["hidden_weight"].T + i["input_bias"] + i["hidden_bias"]
    gi, f, g, o = np.split(a, 4, axis=1)
    gi, f, g, o = sigmoid(gi), sigmoid(f), np.tanh(g), sigmoid(o)
    tanh_c = np.tanh(f * i["cell"] + gi * g)
    dc = u["next_cell"] + u["next_hidden"] * o * (1 - tanh_c ** 2)
    return [dc * g * gi * (1 - gi), dc * i["cell"] * f * (1 - f), dc * gi * (1 - g * g),
            u["next_hidden"] * tanh_c * o * (1 - o)], f, dc


def _from_gates(i, das):
    da = np.concatenate(das, axis=1)
    return {"dx": da @ i["input_weight"], "dhidden": da @ i["hidden_weight"], "dinput_weight": da.T @ i["x"],
            "dhidden_weight": da.T @ i["hidden"], "dinput_bias": da.sum(axis=0), "dhidden_bias": da.sum(axis=0)}


def _forget_not_derived(g, i, a, u):
    """df = dc c f, without the sigmoid's 1 - f."""
    das, f, dc = _gate_gradients(i, u)
    das[1] = dc * i["cell"] * f
    return _from_gates(i, das)


def _cell_gradient_dropped(g, i, a, u):
    das, f, dc = _gate_gradients(i, u | {"next_cell": 0 * u["next_cell"]})
    return _from_gates(i, das) | {"dcell": dc * f}


def _hidden_path_missing(g, i, a, u):
    """dc' = dc_next: what comes through the hidden state does not reach the cell."""
    (di, df, dg, do), f, dc = _gate_gradients(i, u)
    share = np.where(dc == 0, 0, u["next_cell"] / np.where(dc == 0, 1, dc))
    return _from_gates(i, [di * share, df * share, dg * share, do]) | {"dcell": u["next_cell"] * f}


def _biases(g, i, a, u):
    (_, df, dg, _), _, _ = _gate_gradients(i, u)
    db = np.concatenate([df, df, dg, df], axis=1).sum(axis=0)
    return {"dinput_bias": db, "dhidden_bias": db}


def _sequence(reads=lambda mask: mask, padding=lambda old, new: old, backwards=False):
    """States of a sequence, with another idea of padding or direction."""
    def forward(x, input_weight, hidden_weight, input_bias, hidden_bias, mask, reverse):
        hidden = cell = 0 * (x[:, 0] @ input_weight.T)[:, :hidden_weight.shape[1]]
        order, states = range(x.shape[1])[::-1 if reverse else 1], []
        for t in order:
            read = reads(mask)[:, t, None]                                              # (B, 1)
            found = lstm_cell(x[:, t], hidden, cell, input_weight, hidden_weight, input_bias, hidden_bias)
            hidden = np.where(read, found["next_hidden"], padding(hidden, hidden))
            cell = np.where(read, found["next_cell"], padding(cell, cell))
            states.append(hidden)
        states = states[::-1] if reverse and not backwards else states
        return np.stack(states, axis=1)
    return forward


def _zeros_at_padding(**inputs):
    return _sequence()(**inputs) * inputs["mask"][..., None]


def _truncated(g, i, a, u):
    """A gradient for every step as if its states were given."""
    weights, T = [i[n] for n in WEIGHTS], i["x"].shape[1]
    only = [np.where(np.arange(T)[:, None] == t, u, 0) for t in range(T)]
    steps = [lstm_gradient(dy, i["x"], *weights, i["mask"], reverse=a["reverse"])["x"] for dy in only]
    return {"dx": np.stack([steps[t][:, t] for t in range(T)], axis=1)}


E, S = "lstm_cell", "lstm"
TRAPS = (
    reads(E, "gates_igfo", "gates in the order i, g, f, o of TensorFlow's BasicLSTMCell", GATES,
          ISSUES + "tensorflow/tensorflow/issues/29308", **_ordered(0, 2, 1, 3)),
    reads(E, "gates_iofg", "gates in the order i, o, f, g of ONNX", GATES, ISSUES + "CrispStrobe/CrispASR/pull/106",
          **_ordered(0, 2, 3, 1)),
    reads(E, "gates_figo", "input and forget gate change places", GATES, ISSUES + "NX-AI/xlstm/issues/98",
          **_ordered(1, 0, 2, 3)),
    computes(E, "forget_bias", "1 is added to the forget gate, as by TensorFlow's BasicLSTMCell", GATES,
             "tensorflow/tensorflow tensorflow/python/ops/rnn_cell_impl.py: forget_bias = 1.0", _cell(forget=1.0)),
    computes(E, "no_tanh", "h = o c, without the tanh", "hidden states are not bounded",
             ISSUES + "nicodjimenez/lstm/issues/47", _cell(tanh=lambda c: c)),
    reads(E, "one_bias", "the hidden bias is left out", "weights of PyTorch do not fit",
          ISSUES + "google/flax/issues/3746", hidden_bias=lambda i, a: np.zeros_like(i["hidden_bias"])),
    computes(E, "output_bias_everywhere", "the gates i and f have the output gate's bias",
             "gates cannot learn when to open", ISSUES + "ddbourgin/numpy-ml/issues/42", _cell(peep=_output_biases)),
    computes(E, "hard_sigmoid", "Keras' old default of 0.2 a + 0.5 for a sigmoid", GATES,
             ISSUES + "minimaxir/textgenrnn/issues/153", _cell(squash=_hard_sigmoid)),
    computes(E, "hidden_for_cell", "the hidden state is returned as the cell, too", "the next step forgets its memory",
             ISSUES + "salesforce/decaNLP/issues/9", _cell(out=lambda h, c: (h, h))),
    derives(E, "bwd_cell_dropped", "the gradient that comes back to the cell is not used",
            "nothing is learned over many steps",
            ISSUES + "deeplearning4j/deeplearning4j/issues/8838", _cell_gradient_dropped),
    derives(E, "bwd_through_hidden_dropped", "the cell does not get the gradient of the hidden state",
            "only the output gate learns from the last step", "constructed", _hidden_path_missing),
    derives(E, "bwd_no_forget_path", "no gradient goes back to the cell before", "nothing is learned over two steps",
            "constructed", lambda g, i, a, u: {"dcell": np.zeros_like(g["dcell"])}),
    derives(E, "bwd_forget_not_derived", "the forget gate's sigmoid is not derived",
            "the forget gate learns where it is shut",
            ISSUES + "CaptainE/RNN-LSTM-in-numpy/issues/1", _forget_not_derived),
    derives(E, "bwd_biases_of_forget_gate", "biases of i and o get the forget gate's gradient",
            "gates cannot learn when to open", ISSUES + "hanbt/learn_dl/issues/53", _biases),
    ignores_upstream(E, "ignores_upstream", "a backward that forgets the gradient from above", "states pull up alike",
                     "constructed"),
    computes(S, "reads_padding", "padding is read like any token", "the last state depends on how long others are",
             ISSUES + "bentrevett/pytorch-sentiment-analysis/issues/86", _sequence(reads=np.ones_like)),
    computes(S, "zeros_at_padding", "the state of a masked token is 0",
             "the last position of a padded text has no state",
             ISSUES + "keras-team/keras/issues/1569", _zeros_at_padding),
    computes(S, "reset_at_padding", "padding sets both states back to 0", "a gap makes the text before it forgotten",
             "constructed", _sequence(padding=lambda old, new: 0 * old)),
    computes(S, "not_turned_back", "states of the reverse direction lie in the order of reading",
             "states of both directions are put together for different tokens",
             ISSUES + "qjadud1994/CRNN-Keras/issues/26", _sequence(backwards=True)),
    computes(S, "never_reversed", "the reverse direction reads forwards", "two copies of one direction",
             ISSUES + "stanfordmlgroup/nlc/issues/8", lambda reverse, **inputs: _sequence()(reverse=False, **inputs)),
    reads(S, "gates_igfo", "gates in the order i, g, f, o of TensorFlow's BasicLSTMCell", GATES,
          ISSUES + "tensorflow/tensorflow/issues/29308", **_ordered(0, 2, 1, 3)),
    derives(S, "bwd_truncated", "x gets the gradient of its own step alone", "words before the last one hardly learn",
            "constructed", _truncated),
    ignores_upstream(S, "ignores_upstream", "a backward that forgets the gradient from above", "states pull up alike",
                     "constructed"),
)
