"""Long short-term memory in one direction, and its derivative back through time.

    i, f, g, o = x_t W^T + b + h_{t-1} U^T + b'             i, f, o through a sigmoid, g through tanh
    c_t = f * c_{t-1} + i * g        h_t = o * tanh(c_t)    h, c = 0 before the first token

A masked token leaves h and c as they are, so that the last state of a padded sequence is that of its last real token.
Shapes: x (B, T, D) · input weight W (4H, D), hidden weight U (4H, H), input bias b and hidden bias b' (4H,), their rows
in PyTorch's order i, f, g, o · mask (B, T), True at real tokens · states h, cells c (B, T, H) ·
gates (B, T, 4H): i, f, g, o after their nonlinearities, 0 at masked tokens.
"""

import numpy as np

from tinydistill.backend import xp_of
from tinydistill.kernels.row_sums import row_sums_numpy


def lstm(x, input_weight, hidden_weight, input_bias, hidden_bias, mask):
    """Returns states, and what the pullback needs: cells and gates."""
    xp = xp_of(x)
    h = c = xp.zeros((len(x), hidden_weight.shape[1]), x.dtype)
    states, cells, gates = [], [], []
    for t in range(x.shape[1]):
        real = mask[:, t, None]                                         # (B, 1)
        i, f, g, o = xp.split(x[:, t] @ input_weight.T + input_bias + h @ hidden_weight.T + hidden_bias, 4, axis=1)
        i, f, g, o = _sigmoid(i), _sigmoid(f), xp.tanh(g), _sigmoid(o)  # each (B, H)
        c = xp.where(real, f * c + i * g, c)
        h = xp.where(real, o * xp.tanh(c), h)
        states.append(h)
        cells.append(c)
        gates.append(xp.where(real, xp.concatenate([i, f, g, o], axis=1), 0))
    return xp.stack(states, axis=1), xp.stack(cells, axis=1), xp.stack(gates, axis=1)


def lstm_pullback(dstates, x, input_weight, hidden_weight, states, cells, gates, mask):
    """Returns dx, then the derivatives by both weights and both biases."""
    xp = xp_of(x)
    start = xp.zeros_like(states[:, 0])
    dh = dc = start
    dinput_weight, dhidden_weight, dbias, dx = 0, 0, 0, []
    for t in reversed(range(x.shape[1])):
        real = mask[:, t, None]                                         # (B, 1)
        h, c = (states[:, t - 1], cells[:, t - 1]) if t else (start, start)     # before this token
        i, f, g, o = xp.split(gates[:, t], 4, axis=1)
        tanh_c = xp.tanh(cells[:, t])
        dh = dh + dstates[:, t]
        dc_t = dc + dh * o * (1 - tanh_c * tanh_c)                      # h_t = o tanh(c_t)
        dgates = xp.concatenate([dc_t * g * i * (1 - i),                # c_t = f c + i g
                                 dc_t * c * f * (1 - f),
                                 dc_t * i * (1 - g * g),
                                 dh * tanh_c * o * (1 - o)], axis=1)    # (B, 4H): 0 at masked tokens, as gates are
        dinput_weight = dinput_weight + dgates.T @ x[:, t]
        dhidden_weight = dhidden_weight + dgates.T @ h
        dbias = dbias + dgates.sum(axis=0)
        dx.append(dgates @ input_weight)
        dh = xp.where(real, dgates @ hidden_weight, dh)
        dc = xp.where(real, dc_t * f, dc)
    return xp.stack(dx[::-1], axis=1), dinput_weight, dhidden_weight, dbias, dbias


def _sigmoid(a):
    """1 / (1 + exp(-a)), in a form that cannot overflow."""
    return 0.5 + 0.5 * xp_of(a).tanh(0.5 * a)


# ---------------------------------------------------------------- fused NumPy: step by step there is only what needs
# the step before. The input's product is one for all steps, and so are both weights' derivatives; arrays lie in the
# order of time, and the factor 1/2 of three sigmoids in the weights, so that one tanh serves all four gates.

def lstm_numpy(x, input_weight, hidden_weight, input_bias, hidden_bias, mask):
    B, T, D = x.shape
    H = hidden_weight.shape[1]
    scale = np.repeat(np.array([0.5, 0.5, 1, 0.5], x.dtype), H)         # (4H,)
    recurrent = np.ascontiguousarray((hidden_weight * scale[:, None]).T)
    gates = x.swapaxes(0, 1).reshape(T * B, D) @ (input_weight * scale[:, None]).T
    gates += (input_bias + hidden_bias) * scale
    gates = gates.reshape(T, B, 4 * H)
    states, cells = np.empty((T, B, H), x.dtype), np.empty((T, B, H), x.dtype)
    h = c = np.zeros((B, H), x.dtype)
    for t, real in enumerate(mask.T):
        a = gates[t]
        a += h @ recurrent
        np.tanh(a, out=a)
        a *= scale                                                      # sigmoid(2a) = 1/2 + 1/2 tanh(a)
        a += 1 - scale
        i, f, g, o = np.split(a, 4, axis=1)
        np.multiply(f, c, out=cells[t])
        cells[t] += i * g
        np.tanh(cells[t], out=states[t])
        states[t] *= o
        if not real.all():
            states[t, ~real], cells[t, ~real], a[~real] = h[~real], c[~real], 0
        h, c = states[t], cells[t]
    return states.swapaxes(0, 1), cells.swapaxes(0, 1), gates.swapaxes(0, 1)            # (B, T, ...)


def lstm_pullback_numpy(dstates, x, input_weight, hidden_weight, states, cells, gates, mask):
    B, T, D = x.shape
    H = hidden_weight.shape[1]
    dstates, states, cells, gates = (a.swapaxes(0, 1) for a in (dstates, states, cells, gates))     # (T, B, ...)
    before = np.concatenate([np.zeros((1, B, H), x.dtype), states[:-1]])
    tanh_c = np.tanh(cells)
    slope = gates * (1 - gates)
    slope[..., 2 * H:3 * H] = 1 - gates[..., 2 * H:3 * H] ** 2
    dgates = np.empty((T, B, 4 * H), x.dtype)
    start = np.zeros((B, H), x.dtype)
    dh = dc = start
    for t in reversed(range(T)):
        i, f, g, o = np.split(gates[t], 4, axis=1)
        dh = dh + dstates[t]
        dc_t = dc + dh * o * (1 - tanh_c[t] ** 2)
        c = cells[t - 1] if t else start
        np.concatenate([dc_t * g, dc_t * c, dc_t * i, dh * tanh_c[t]], axis=1, out=dgates[t])
        dgates[t] *= slope[t]
        dh_before, dc_before, real = dgates[t] @ hidden_weight, dc_t * f, mask[:, t]
        if not real.all():
            dh_before[~real], dc_before[~real] = dh[~real], dc[~real]
        dh, dc = dh_before, dc_before
    dgates = dgates.reshape(T * B, 4 * H)
    dx = (dgates @ input_weight).reshape(T, B, D).swapaxes(0, 1)
    dbias = row_sums_numpy(dgates.T)
    return dx, dgates.T @ x.swapaxes(0, 1).reshape(T * B, D), dgates.T @ before.reshape(T * B, H), dbias, dbias
