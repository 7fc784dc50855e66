"""Long short-term memory (Hochreiter and Schmidhuber 1997; forget gate: Gers et al. 2000), as PyTorch has it.

    a       = x W^T + b + h U^T + b'                    in four parts of H rows: those of the gates i, f, g, o
    i, f, o = sigmoid(a_i), sigmoid(a_f), sigmoid(a_o)          g = tanh(a_g)
    c_next  = f c + i g                                 h_next = o tanh(c_next)

    dc'     = dc_next + dh_next o (1 - tanh^2 c_next)   all that comes back to the new cell
    da_i    = dc' g i (1 - i)                           da_f = dc' c f (1 - f)
    da_g    = dc' i (1 - g^2)                           da_o = dh_next tanh(c_next) o (1 - o)
    dx      = da W,  dh = da U,  dc = dc' f,  dW = sum_n da x^T,  dU = sum_n da h^T,  db = db' = sum_n da

A sequence is a chain of cells from h = c = 0; a masked token is passed over, and both states stay as they are.

Shapes: x (B, D), hidden h and cell c (B, H), input_weight W (4H, D), hidden_weight U (4H, H), input_bias b and
hidden_bias b' (4H,); of a sequence x (B, T, D), mask (B, T), states (B, T, H).

Traps
  - the order of the gates is i, f, g, o, as in PyTorch, Keras and tinydistill/kernels/lstm.py; TensorFlow's old cells
    have i, g, f, o, ONNX has i, o, f, g
  - no 1 is added to the forget gate's bias
  - the cell has two gradients, its own and that through the hidden state, and hands one on through the forget gate
"""

import numpy as np

from tinydistill_reference.conventions import need


def sigmoid(a):
    """1 / (1 + exp(-a)), which is (1 + tanh(a / 2)) / 2."""
    return (1 + np.tanh(a / 2)) / 2


def gates(x, hidden, input_weight, hidden_weight, input_bias, hidden_bias):
    """i, f, g, o. Shapes: (B, H) each."""
    H, D = hidden.shape[1], x.shape[1]
    shapes = [w.shape for w in (input_weight, hidden_weight, input_bias, hidden_bias)]
    need(shapes == [(4 * H, D), (4 * H, H), (4 * H,), (4 * H,)],
         f"weights (4H, D), (4H, H) and biases (4H,) whose shapes fit: x {x.shape}, hidden {hidden.shape}, {shapes}")
    a = x @ input_weight.T + input_bias + hidden @ hidden_weight.T + hidden_bias
    return sigmoid(a[:, :H]), sigmoid(a[:, H:2 * H]), np.tanh(a[:, 2 * H:3 * H]), sigmoid(a[:, 3 * H:])


def lstm_cell(x, hidden, cell, input_weight, hidden_weight, input_bias, hidden_bias):
    """One step: h_next and c_next."""
    i, f, g, o = gates(x, hidden, input_weight, hidden_weight, input_bias, hidden_bias)
    c = f * cell + i * g
    return {"next_hidden": o * np.tanh(c), "next_cell": c}


def lstm_cell_gradient(upstream, x, hidden, cell, input_weight, hidden_weight, input_bias, hidden_bias):
    """dx, dh, dc, dW, dU, db, db'."""
    i, f, g, o = gates(x, hidden, input_weight, hidden_weight, input_bias, hidden_bias)
    tanh_c = np.tanh(f * cell + i * g)
    dc = upstream["next_cell"] + upstream["next_hidden"] * o * (1 - tanh_c ** 2)
    da = np.concatenate([dc * g * i * (1 - i), dc * cell * f * (1 - f), dc * i * (1 - g ** 2),
                         upstream["next_hidden"] * tanh_c * o * (1 - o)], axis=1)       # (B, 4H)
    return {"x": da @ input_weight, "hidden": da @ hidden_weight, "cell": dc * f, "input_weight": da.T @ x,
            "hidden_weight": da.T @ hidden, "input_bias": da.sum(axis=0), "hidden_bias": da.sum(axis=0)}


def steps(x, weights, mask, reverse):
    """[(t, the rows that are read, hidden, cell)] before each step in the order of reading, and the states after it."""
    need(mask.shape == x.shape[:2], f"a mask (B, T): x {x.shape}, mask {mask.shape}")
    (B, T), H, taken = mask.shape, weights[1].shape[1], []
    hidden = cell = 0 * (x[:, 0] @ weights[0].T)[:, :H]
    states = [None] * T
    for t in (reversed(range(T)) if reverse else range(T)):
        read = mask[:, t, None]                                                         # (B, 1)
        taken.append((t, read, hidden, cell))
        found = lstm_cell(np.where(read, x[:, t], 0 * x[:, t]), hidden, cell, *weights)
        hidden, cell = np.where(read, found["next_hidden"], hidden), np.where(read, found["next_cell"], cell)
        states[t] = hidden
    return taken, np.stack(states, axis=1)


def lstm(x, input_weight, hidden_weight, input_bias, hidden_bias, mask, *, reverse=False):
    """The hidden state after each token; with reverse the tokens are read from the last to the first."""
    return steps(x, (input_weight, hidden_weight, input_bias, hidden_bias), mask, reverse)[1]


def lstm_gradient(upstream, x, input_weight, hidden_weight, input_bias, hidden_bias, mask, *, reverse=False):
    """Back through time: what comes to a state and to a cell goes on to those before it."""
    weights, dx = (input_weight, hidden_weight, input_bias, hidden_bias), 0 * x
    names, dh, dc = ("input_weight", "hidden_weight", "input_bias", "hidden_bias"), 0, 0
    dweights = {name: 0 * w for name, w in zip(names, weights)}
    for t, read, hidden, cell in reversed(steps(x, weights, mask, reverse)[0]):
        dh = dh + upstream[:, t]
        here = {"next_hidden": np.where(read, dh, 0 * dh), "next_cell": np.where(read, dc, 0 * dh)}
        found = lstm_cell_gradient(here, np.where(read, x[:, t], 0 * x[:, t]), hidden, cell, *weights)
        dx[:, t] = found["x"]
        dweights = {name: d + found[name] for name, d in dweights.items()}
        dh, dc = np.where(read, found["hidden"], dh), np.where(read, found["cell"], dc)
    return {"x": dx} | dweights
