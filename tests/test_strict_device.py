"""The test of the tester: code that only works on NumPy must be caught on the stand-in, and clean code must pass."""

import math
import sys
import types

import numpy as np
import pytest
import scipy.special

import strict_device
from strict_device import HostSync, no_sync

# ---------------------------------------------------------------- leaks

def assigns_host_memory(xp, x):
    y = x.copy()
    y[0] = np.zeros(4)
    return y


def adds_to_repeated_rows(xp, x):
    table, rows = xp.zeros((2, 4)), xp.asarray([0, 1, 0])
    table[rows] = x[rows] + xp.arange(3)[:, None]
    return table


def relies_on_an_index_error(xp, x):
    try:
        return x[xp.asarray([0, 9])]
    except IndexError:
        return x


def relies_on_the_memory_order(xp, x):
    y = x * 2.0
    y.reshape(-1)[0] = 7.0                          # a view of an array in C order, a copy of others
    return y


LEAKS = {                                           # each runs on NumPy and may not on a device
    "NumPy's ufunc": lambda xp, x: np.exp(x),
    "NumPy's function": lambda xp, x: np.concatenate([x, x]),
    "implicit conversion": lambda xp, x: np.asarray(x).sum(),
    "SciPy's function": lambda xp, x: scipy.special.erf(x),
    "host operand": lambda xp, x: x + np.ones(4),
    "host operand on the left": lambda xp, x: np.ones(4) * x,
    "host argument": lambda xp, x: xp.where(np.array([True, False, True, False]), x, 0.0),
    "NumPy scalar": lambda xp, x: x / np.sqrt(np.float64(x.shape[-1])),
    "host index": lambda xp, x: x[:, np.array([0, 2])],
    "host assignment": assigns_host_memory,
    "item in the middle": lambda xp, x: x * (1.0 / x.max().item()),
    "branch on a value": lambda xp, x: x - x.max() if (x > 1).any() else x,
    "reduction as a number": lambda xp, x: x / math.sqrt((x * x).sum()),
    "boolean mask": lambda xp, x: x[x > 0].sum(),
    "repeated rows": adds_to_repeated_rows,
    "index error": relies_on_an_index_error,
    "negative to unsigned": lambda xp, x: (-xp.abs(x) - 1).astype(xp.uint16),
    "memory order": relies_on_the_memory_order,
}

# ---------------------------------------------------------------- clean code: the same on both, without a wait

def softmax(xp, x):
    e = xp.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def in_place_and_out(xp, x):
    y = z = xp.empty_like(x)
    assert xp.multiply(x, 2.0, out=y) is y and x.sum(axis=0, out=xp.empty(4)).shape == (4,)
    y += x
    y[0] = 0.0
    y[:, 1] *= 3
    x.sum(axis=0, out=y[1])
    return z


def scatter(xp, x):
    y = xp.zeros_like(x)
    y[xp.asarray([2, 0])] = x[:2]
    y[1, xp.asarray([3, 1])] += 5.0
    return y


def views(xp, x):
    y = x.copy()
    y.T[0] = 1.0
    y[..., -1:] = x[None, :, :1].swapaxes(0, 1)[:, 0]
    last, cell = y[2], y[0, 1, ...]
    last[...] = -3.0
    cell[...] = 9.0
    return y.reshape(2, 6).transpose(1, 0)[:, xp.newaxis]


def several_dtypes(xp, x):
    left, right = xp.split(x.astype(xp.float32), 2, axis=1)
    assert xp.isfinite(left).all().dtype == bool and len(left) == 3 and left.dtype == xp.float32
    return xp.sqrt(xp.square(left)) - abs(right) + sum(row for row in right)[None]


CLEAN = {
    "softmax": softmax,
    "in place, out": in_place_and_out,
    "scatter": scatter,
    "views": views,
    "dtypes": several_dtypes,
    "numbers on the left": lambda xp, x: (2 - x) * (1.5 / x) + 3 * x + (2.0 ** x) - (-x) % 3,
    "products": lambda xp, x: xp.einsum("ij,kj->ik", x, x) + x @ x.T + xp.linalg.norm(x),
    "reductions": lambda xp, x: xp.where(x > x.mean(), x, -xp.inf).max() * 2 + x.sum() ** 2,
    "sorting": lambda xp, x: xp.take_along_axis(x, xp.argsort(x, axis=-1, kind="stable"), -1).cumsum(axis=-1),
    "integers": lambda xp, x: xp.asarray([7, -7]) // 2 + (xp.arange(2, dtype=xp.int32) << 1) + xp.full((2,), 1),
    "NumPy integers as shape and index": lambda xp, x: xp.ones((np.int64(3), 1)) * x[np.int64(1)],
    "tuples and lists": lambda xp, x: xp.stack(xp.broadcast_arrays(x, x[:1])) + xp.asarray([x[0], x[1]])[:, None],
    "to unsigned": lambda xp, x: (abs(x) * 100).astype(xp.uint8) + xp.asarray([0.0, 0.5, 254.5, 1]).astype(xp.uint8),
    "integers to unsigned": lambda xp, x: xp.asarray([-1, 0, 7]).astype(xp.uint16),
}


def noticed(function, x):
    """What betrays `function` on the device: an exception, or a "result" that differs from NumPy's; None if nothing."""
    on_host = function(np, x.copy())
    for seed in range(20):                          # where the device answers at random, one of them must show it
        with strict_device.installed(seed) as cupy:
            try:
                with no_sync():
                    on_device = function(cupy, cupy.asarray(x))
                assert type(on_device) is cupy.ndarray
            except (TypeError, HostSync) as error:
                return type(error).__name__
            on_device = cupy.asnumpy(on_device)
        if on_device.shape != np.shape(on_host) or not np.allclose(on_device, on_host, rtol=1e-12, atol=0):
            return "result"
    return None


X = np.random.default_rng(0).normal(size=(3, 4))
X[0, 0] = 2.0


def test_every_leak_is_caught(capsys):
    caught = {name: noticed(leak, X) for name, leak in LEAKS.items()}
    with capsys.disabled():
        print(f"\nstrict device: {sum(map(bool, caught.values()))}/{len(LEAKS)} leaks caught")
    assert len(caught) == 18 and all(caught.values()), caught
    by_sync = {name for name, how in caught.items() if how == "HostSync"}
    assert by_sync == {"item in the middle", "branch on a value", "reduction as a number", "boolean mask"}
    by_result = {name for name, how in caught.items() if how == "result"}
    assert by_result == {"repeated rows", "index error", "negative to unsigned", "memory order"}


@pytest.mark.parametrize("name", CLEAN)
def test_clean_code_passes(name):
    assert noticed(CLEAN[name], X) is None


INDICES = {                                         # of (2, 3, 4), where int arrays may point outside and wrap around
    "one axis": (lambda d: d([1, 3]), ([1, 1],)),
    "below": (lambda d: (slice(None), d([-4, 0])), (slice(None), [2, 0])),
    "after an ellipsis": (lambda d: (..., d([5, 0])), (..., [1, 0])),
    "after None": (lambda d: (None, d([2, 1]), None), (None, [0, 1], None)),
    "between": (lambda d: (0, ..., d([[4], [7]])), (0, ..., [[0], [3]])),
    "mask": (lambda d: d([True, False]), ([True, False],)),
    "mask of two axes": (lambda d: (d([[True, False, True], [False] * 3]), d([4, 1])),
                         ([[True, False, True], [False] * 3], [0, 1])),
    "ellipsis, mask": (lambda d: (..., d([[True, False, True, False]] * 3)), (..., [[True, False, True, False]] * 3)),
    "mask, ellipsis, array": (lambda d: (d([[True] * 3, [False] * 3]), ..., d([4, 3, 0])),
                              ([[True] * 3, [False] * 3], ..., [0, 3, 0])),
    "None, ellipsis, array": (lambda d: (None, ..., d([5])), (None, ..., [1])),
}


@pytest.mark.parametrize("name", INDICES)
def test_indices(strict_cupy, name):
    on_device, on_host = INDICES[name]
    x = np.arange(24.0).reshape(2, 3, 4)
    device, index = strict_cupy.asarray(x), on_device(strict_cupy.asarray)
    on_host = tuple(np.array(i) if isinstance(i, list) else i for i in on_host)
    np.testing.assert_array_equal(device[index].get(), x[on_host])
    device[index] = -1.0
    x[on_host] = -1.0
    np.testing.assert_array_equal(device.get(), x)


def test_take_wraps_around_and_a_random_one_of_several_values_wins(strict_cupy):
    x = strict_cupy.asarray(X)
    np.testing.assert_array_equal(x.take(strict_cupy.asarray([3, 7]), axis=0).get(), X[[0, 1]])
    np.testing.assert_array_equal(strict_cupy.take_along_axis(x, strict_cupy.asarray([[4], [5], [2]])).get(),
                                  [X[0, :1], X[1, 1:2], X[2, 2:3]])
    winners = set()
    for _ in range(30):
        x[strict_cupy.asarray([0, 0, 0]), 0] = strict_cupy.asarray([1.0, 2.0, 3.0])
        winners.add(float(x[0, 0]))
    assert winners == {1.0, 2.0, 3.0}


def test_layouts_are_drawn_only_where_cupy_leaves_them_open(strict_cupy):
    x = strict_cupy.asarray(X)
    for free in (lambda: x * 2, lambda: strict_cupy.exp(x), lambda: x[strict_cupy.asarray([0, 1])],
                 lambda: strict_cupy.where(x > 0, x, 0.0)):
        assert {free().flags.c_contiguous for _ in range(30)} == {True, False}
    for fixed in (lambda: strict_cupy.zeros((3, 4)), lambda: x.copy(), lambda: x.astype(strict_cupy.float32),
                  lambda: strict_cupy.array(x), lambda: x[1:], lambda: x.reshape(4, 3)):
        assert all(fixed().flags.c_contiguous for _ in range(30))
    y = strict_cupy.empty((3, 4))
    for _ in range(30):
        strict_cupy.multiply(x, 2.0, y)[0, 0] = 5.0                     # positional out: the same memory every time
        assert y[0, 0].item() == 5.0


def test_copies_and_the_same_object(strict_cupy):
    x = strict_cupy.asarray(X)
    assert strict_cupy.asarray(x) is x and x.astype(x.dtype, copy=False) is x
    for copy in (x.astype(x.dtype), strict_cupy.array(x), strict_cupy.asarray(X), x.copy(), x.astype("f4", copy=False)):
        copy[...] = 0.0
    assert (x.get() == X).all() and strict_cupy.asarray(x, "f4").dtype == np.float32
    cell = copy[0, 1]
    cell[...] = 9.0                                 # a view, where NumPy has a scalar
    assert copy[0, 1].item() == 9.0
    assert x.tolist() == X.tolist() and x[0].tobytes() == X[0].tobytes() and not hasattr(x, "nosuch")


def test_other_types_get_their_turn_as_operands(strict_cupy):
    other = type("Other", (), {"__radd__": lambda self, x: "mine"})()
    assert strict_cupy.zeros(3) + other == "mine"


def test_the_backend_runs_on_it_unchanged(strict_cupy):
    from tinydistill import backend
    cupy = backend.load("cupy")
    x = cupy.asarray(X)
    assert cupy is strict_cupy and backend.xp_of(x) is cupy and type(x).__module__ == "cupy"
    np.testing.assert_allclose(backend.to_host(backend.erf(x)), scipy.special.erf(X), rtol=1e-15)
    table = cupy.zeros((2, 4))
    backend.add_at(table, cupy.asarray([0, 1, 0]), x)
    np.testing.assert_allclose(backend.to_host(table), [X[0] + X[2], X[1]], rtol=1e-15)
    assert backend.xp_of(backend.asarray(X, like=x)) is cupy


def test_gradients_on_it_wait_for_nothing(strict_cupy):
    from tinydistill.tensor import Tensor, gradients, op

    @op
    def times(a, b):
        return a * b, lambda dy: (dy * b, dy * a)

    x = Tensor(strict_cupy.asarray(X), requires_grad=True)
    with no_sync():
        y = times(times(x, x), x)
        gradient, = gradients(y, [x], strict_cupy.ones((3, 4)))
    np.testing.assert_allclose(gradient.get(), 3 * X ** 2, rtol=1e-14)
    with pytest.raises(TypeError, match="times needs all arrays in one library, got cupy.ndarray, numpy.ndarray"):
        times(x, X)


def test_syncs_are_counted_and_budgeted(strict_cupy):
    x = strict_cupy.asarray(X)
    total = x.sum()
    assert strict_device.state.syncs == 0
    for wait in (float, bool, repr, str, lambda a: a.item(), lambda a: a.get(), strict_cupy.asnumpy, "{:.3f}".format):
        before = strict_device.state.syncs
        wait(total)
        assert strict_device.state.syncs == before + 1
    assert list(range(strict_cupy.asarray(2))) == [0, 1] and strict_cupy.where(x > 5)[0].shape == (0,)
    assert strict_device.state.syncs == before + 3
    with no_sync(budget=2):
        assert float(total) == float(total)
        with pytest.raises(HostSync, match="__float__ makes the host wait"):
            float(total)
    assert float(total) == X.sum()


@pytest.mark.parametrize("use", [lambda cupy: cupy.errstate, lambda cupy: cupy.random, lambda cupy: cupy.nosuch,
                                 lambda cupy: cupy.zeros(3).setflags, lambda cupy: cupy.zeros(3).data])
def test_what_cupy_lacks_it_lacks(strict_cupy, use):
    with pytest.raises(AttributeError):
        use(strict_cupy)


@pytest.mark.parametrize("use", [
    lambda cupy, x: x.max(initial=0), lambda cupy, x: cupy.sum(x, where=x > 0), lambda cupy, x: x + [1, 2, 3, 4],
    lambda cupy, x: cupy.maximum(x, [0.0] * 4), lambda cupy, x: cupy.add(x, x, out=np.empty((3, 4))),
    lambda cupy, x: cupy.concatenate([x, np.ones((1, 4))]), lambda cupy, x: x[[0, 1]],
    lambda cupy, x: sys.modules["cupyx"].scatter_add(cupy.zeros(3, dtype=cupy.int64), cupy.asarray([0]), 1),
    lambda cupy, x: np.add(np.ones(4), x), lambda cupy, x: np.ones((3, 4)).__setitem__(0, x[0]), lambda cupy, x: {x: 1},
    lambda cupy, x: x[np.array(1)], lambda cupy, x: x.__setitem__(0, np.float64(1)),
    lambda cupy, x: sys.modules["cupyx"].scatter_add(x, 0, [1.0] * 4)])
def test_what_cupy_refuses_it_refuses(strict_cupy, use):
    with pytest.raises(TypeError):
        use(strict_cupy, strict_cupy.asarray(X))


def test_it_is_gone_afterwards_and_what_was_there_is_back(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", real := types.ModuleType("cupy"))
    assert "cupyx" not in sys.modules
    with pytest.raises(KeyError), strict_device.installed() as cupy:
        assert sys.modules["cupy"] is cupy is not real and "cupyx.scipy.special" in sys.modules
        raise KeyError
    assert sys.modules["cupy"] is real and not [name for name in sys.modules if name.startswith("cupyx")]
