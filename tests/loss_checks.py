"""What every loss is checked for, whatever it reads: shared by the tests of single papers.

A loss is a function of arrays here, the floating ones first of all; it returns a scalar Tensor.
"""

import numpy as np

import strict_device
from gradcheck import C, UNIT, assert_within, is_floating
from tinydistill import Tensor, gradients
from tinydistill.backend import to_host
from tinydistill.features import Features

UPSTREAM = -2.5                                     # a gradient checked with 1 passes where the upstream is forgotten
POISONS = {"large": lambda x: 11 * x + 3.7, "NaN": lambda x: x * np.nan, "infinity": lambda x: x * 0 + np.inf}


def differentiated(loss, arrays, upstream=UPSTREAM):
    """(value, gradient of upstream * value for every array; None for those that get none)."""
    tensors = [Tensor(x, requires_grad=True) if is_floating(x) else x for x in arrays]
    value = loss(*tensors)
    found = iter(gradients(value * upstream, [t for t in tensors if isinstance(t, Tensor)]))
    return value.array, [next(found) if isinstance(t, Tensor) else None for t in tensors]


def assert_same(got, want, relative=1e-13):
    """Two (value, gradients) agree up to rounding; None only where None is."""
    assert_within(got[0], want[0], relative * abs(want[0]), "value")
    for g, w in zip(got[1], want[1], strict=True):
        assert (g is None) == (w is None)
        if w is not None:
            assert_within(g, w, relative * np.abs(w).max(), "gradient")


def check_complex_step(loss, printed, arrays, places, seed=0):
    """The gradients at `places` are the derivative of the printed sums, which are exact by a complex step."""
    _, found = differentiated(loss, arrays)
    rng = np.random.default_rng(seed)
    for i in places:
        direction, h = rng.standard_normal(arrays[i].shape), 1e-40
        moved = [x + 1j * h * direction if j == i else x for j, x in enumerate(arrays)]
        exact = UPSTREAM * printed(*moved).imag / h
        claimed = (found[i] * direction).sum()
        assert abs(claimed - exact) <= C * UNIT * np.abs(found[i] * direction).sum() and abs(exact) > 1e-3


def check_padding_never_matters(loss, arrays, outside, poison):
    """outside: {place of an array: bool array, True in its padding}; what stands there changes not a bit."""
    clean = differentiated(loss, arrays)
    dirty = differentiated(loss, [np.where(expand(outside[i], x), poison(x), x) if i in outside else x
                                  for i, x in enumerate(arrays)])
    assert dirty[0] == clean[0]
    for i, (g, was) in enumerate(zip(dirty[1], clean[1], strict=True)):
        assert (g is None) == (was is None)
        if g is not None:
            assert (g == was).all() and np.isfinite(g).all()
            if i in outside:
                assert (g[outside[i]] == 0).all() and (g[~outside[i]] != 0).any()


def expand(outside, x):
    """outside with axes of 1 behind it, as many as x has more."""
    return outside.reshape(outside.shape + (1,) * (x.ndim - outside.ndim))


def rows_of_padding(x, mask):
    """The padding of (B, A, T, K) or (B, T, D): bool (B, A, T) or (B, T)."""
    return ~(np.broadcast_to(mask[:, None, :], x.shape[:3]) if x.ndim == 4 else mask)


def padding_of(arrays, mask):
    """{place: where its padding is} of hidden states (B, T, D): rows; and of scores (B, A, T, T): rows and keys."""
    either = ~(mask[:, None, :, None] & mask[:, None, None, :])
    return {i: np.broadcast_to(either, x.shape) if x.ndim == 4 else ~mask for i, x in enumerate(arrays) if x.ndim > 2}


def check_shards(loss, count, arrays, parts, places):
    """Parts of the batch (lists of its rows) add up to the whole, value and gradient, by the whole batch's divisor.

    loss(*arrays, divisor=...); places: the arrays that have the batch as their first axis; count(mask of the batch).
    """
    whole = differentiated(lambda *x: loss(*x, divisor=None), arrays)
    divisor = count(next(arrays[i] for i in places if arrays[i].dtype == bool))

    def in_parts(*tensors):
        total = 0.0
        for rows in parts:
            total = loss(*[x[rows] if i in places else x for i, x in enumerate(tensors)], divisor=divisor) + total
        return total

    assert_same(differentiated(in_parts, arrays), whole)


def check_device(loss, arrays, cupy):
    """The strict device computes the same, and the host never waits for it. cupy: the fixture strict_cupy."""
    on_device = [cupy.asarray(x) for x in arrays]
    with strict_device.no_sync():
        value, found = differentiated(loss, on_device)
    found = [None if g is None else to_host(g) for g in found]
    assert_same((to_host(value), found), differentiated(loss, arrays))


def features(mask, **layers):
    """Features of a toy model: each field a list, layer by layer."""
    made = Features("toy", max(map(len, layers.values())), mask)
    for name, of_layers in layers.items():
        getattr(made, name).update(enumerate(of_layers))
    return made
