"""Arguments for every kernel, of small random sizes: what the tests call each kernel of `tinydistill.kernels` with."""

import numpy as np

from strategies import NASTY
from tinydistill import kernels

HYPER = 1e-2, 0.9, 0.999, 1e-6, 0.1                 # of Adam's family: lr, beta1, beta2, eps, decay


def arguments(name, n, random):
    """Arguments of a kernel: n(*shape) draws its numbers; sizes are small and random, masks have empty rows."""
    B, A, T, K = random.integers(1, 4, 4)
    D = K + 2
    mask, keep = random.random((B, 1, T, T)) < 0.6, random.random((B, A, T, T)) < 0.8
    mask, keep = [None, mask, mask[:1, 0], mask[:, :, :1]][random.integers(4)], [None, keep][random.integers(2)]
    p = random.dirichlet(np.ones(T), (B, A, T))
    q, k, v, x, y, logits = n(B, A, T, K), n(B, A, T, K), n(B, A, T, K), n(B, T, D), n(B, T, D), n(A * T, D)
    seen, weight = [None, random.random((B, T, D)) < 0.6][random.integers(2)], random.choice([0.0, 0.3, 2.0], (B, T))
    if name in ("kl_divergence", "cross_entropy", "smoothed_cross_entropy"):    # one ordinary row: something is large
        x[0, 0], y[0, 0], weight[0, 0], logits[0] = *random.standard_normal((2, D)), 1.0, random.standard_normal(D)
        seen = None if seen is None else seen | (np.arange(B * T).reshape(B, T, 1) == 0)
    unit = 2.0 ** int(random.integers(-9, 3))       # so that no rounding moves a number to another level
    largest, between = np.array(127 * unit), np.array([[-100 * unit], [155 * unit]])
    lstm = x, n(4 * K, D), n(4 * K, K), n(4 * K), n(4 * K), random.random((B, T)) < random.choice([0.0, 0.6, 1.0])
    return {
        "softmax": (q, None if mask is None else random.random(q.shape) < 0.6),
        "softmax_pullback": (y, random.dirichlet(np.ones(D), (B, T))),
        "log_softmax": (x, seen),
        "log_softmax_pullback": (y, kernels.plain.log_softmax(x, seen), seen),
        "attention": (q, k, v, mask, keep, 0.8),
        "attention_pullback": (n(B, A, T, K), q, k, v, p, keep, 0.8),
        "layer_norm": (x, [None, y][random.integers(2)], n(D), n(D), [1e-12, 1e-3][random.integers(2)]),
        "layer_norm_pullback": (y, random.standard_normal((B, T, D)), np.abs(n(B, T, 1)), n(D)),
        "no_norm": (x, [None, y][random.integers(2)], n(D), n(D)),
        "no_norm_pullback": (y, x, n(D)),
        "bias_gelu": (x, n(D)),
        "gelu_new": (x,),
        "linear": (logits, n(K, D), [None, n(K)][random.integers(2)]),
        "grouped_linear": (n(A, B * T, D), n(A, K, D), [None, n(A * K)][random.integers(2)]),
        "lstm": lstm,
        "lstm_pullback": (n(B, T, K), *lstm[:3], *kernels.plain.lstm(*lstm), lstm[-1]),
        "row_sums": (x, float([1.0, 1 / D][random.integers(2)])),
        "dropout": (q, random.random(q.shape) < 0.7, 0.7),
        "cross_entropy": (logits, np.where(random.random(len(logits)) < 0.3, 1, random.integers(0, D, A * T)),
                          [-100, 1][random.integers(2)]),
        "smoothed_cross_entropy":
            (logits, np.where(random.random(len(logits)) < 0.3, -100, random.integers(1, D, A * T)), -100,
             *[(0.8, 0.2 / int(D - 2), 0), (0.9, 0.1 / int(D - 1), None)][random.integers(2)]),
        "kl_divergence": (x, y, seen, weight, [1.0, 2.0, 2.5][random.integers(3)]),
        "entropy": (x, seen, weight, [1.0, 2.5][random.integers(2)]),
        "squared_error": (x, y, weight),
        "unit_norm": (x, 1e-12),
        "unit_norm_pullback": (y, *kernels.plain.unit_norm(x, 1e-12), 1e-12),
        "sum_rows": (random.integers(0, 9, len(logits)), logits),
        "adamw": (x, y, n(B, T, D), n(B, T, D) ** 2 + 1e-30, int(random.integers(1, 1000)), *HYPER),
        "adam_weight_decay": (x, y, n(B, T, D), n(B, T, D) ** 2 + 1e-30, *HYPER),
        "lamb": (x, y, n(B, T, D), n(B, T, D) ** 2 + 1e-30, [None, int(random.integers(1, 1000))][random.integers(2)],
                 *HYPER),
        "largest_magnitude": (x, [None, weight > 0][random.integers(2)]),
        "levels": (x, largest, 8),
        "fake_quantise": (x, largest, 8),
        "levels_between": ((np.rint(logits) + 0.25) * unit, *between, 8),
        "fake_quantise_between": ((np.rint(logits) + 0.25) * unit, *between, 8),
        "integer_linear": (logits, largest, random.integers(-127, 128, (K, D)).astype(np.int8), np.array(0.25),
                           [None, n(K)][random.integers(2)], 8),
        "adadelta": (x, y, n(B, T, D) ** 2, n(B, T, D) ** 2, 1.0, 0.95, 1e-6, [0.0, 0.1][random.integers(2)]),
    }[name]


def drawing(random, scale, offset, nasty):
    """n(*shape): normal numbers of some scale and offset, one cell of them nasty."""
    def n(*shape):
        x = random.standard_normal(shape) * scale + offset
        if nasty is not None:
            x[tuple(random.integers(0, x.shape))] = NASTY[nasty]
        return x
    return n
