"""The test of the tester: code that only works on NumPy must be caught on the stand-in, and clean code must pass."""

import math
import sys

import numpy as np
import pytest
import scipy.special

import strict_device
from strict_device import HostSync, no_sync

# ---------------------------------------------------------------- 18 leaks: each runs on NumPy and may not on a device


def numpy_ufunc(xp, x):
    return np.exp(x)


def numpy_function(xp, x):
    return np.concatenate([x, x])


def implicit_conversion(xp, x):
    return np.asarray(x).sum()


def scipy_function(xp, x):
    return scipy.special.erf(x)


def host_operand(xp, x):
    return x + np.ones(4)


def host_operand_left(xp, x):
    return np.ones(4) * x


def host_argument(xp, x):
    return xp.where(np.array([True, False, True, False]), x, 0.0)


def numpy_scalar(xp, x):
    return x / np.sqrt(np.float64(x.shape[-1]))


def host_index(xp, x):
    return x[:, np.array([0, 2])]


def host_assignment(xp, x):
    y = x.copy()
    y[0] = np.zeros(4)
    return y


def hidden_item(xp, x):
    return x * (1.0 / x.max().item())


def hidden_branch(xp, x):
    return x - x.max() if (x > 1).any() else x


def reduction_as_python_number(xp, x):
    return x / math.sqrt((x * x).sum())


def boolean_mask(xp, x):
    return x[x > 0].sum()


def repeated_rows(xp, x):
    table, rows = xp.zeros((2, 4)), xp.asarray([0, 1, 0])
    table[rows] = x[rows] + xp.arange(3)[:, None]
    return table


def index_error_as_control_flow(xp, x):
    try:
        return x[xp.asarray([0, 9])]
    except IndexError:
        return x


def negative_to_unsigned(xp, x):
    return (-xp.abs(x) - 1).astype(xp.uint16)


def memory_order(xp, x):
    y = x * 2.0
    y.reshape(-1)[0] = 7.0                          # a view only of an array in C order
    return y


LEAKS = [numpy_ufunc, numpy_function, implicit_conversion, scipy_function, host_operand, host_operand_left, host_argument,
         numpy_scalar, host_index, host_assignment, hidden_item, hidden_branch, reduction_as_python_number, boolean_mask,
         repeated_rows, index_error_as_control_flow, negative_to_unsigned, memory_order]


# ---------------------------------------------------------------- clean code: equal on both

def softmax(xp, x):
    e = xp.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def in_place_and_out(xp, x):
    y = xp.empty_like(x)
    xp.multiply(x, 2.0, out=y)
    y += x
    y[0] = 0.0
    y[:, 1] *= 3
    x.sum(axis=0, out=y[1])
    return y


def gather(xp, x):
    ids = xp.asarray([2, 0, 2])
    return xp.stack([x[ids, 1], x.take(ids, axis=0)[:, 3], xp.take_along_axis(x, ids[:, None], 1)[:, 0]])


def unique_scatter(xp, x):
    y = xp.zeros_like(x)
    y[xp.asarray([2, 0])] = x[:2]
    y[1, xp.asarray([3, 1])] = 5.0
    return y


def products(xp, x):
    return xp.einsum("ij,kj->ik", x, x) + x @ x.T + xp.linalg.norm(x)


def order_and_sums(xp, x):
    order = xp.argsort(x, axis=-1, kind="stable")
    return xp.concatenate([xp.cumsum(xp.take_along_axis(x, order, -1), axis=-1), xp.argmax(x, axis=0)[None] * 1.0])


def zero_dimensional(xp, x):
    assert x.sum().shape == () and x[0, 0].shape == () and type(x.sum()) in (xp.ndarray, np.float64)
    return xp.where(x > x.mean(), x, -xp.inf).max() * 2 + x.sum() ** 2


def views(xp, x):
    y = x.copy()
    y.T[0] = 1.0
    y[..., -1:] = x[None, :, :1].swapaxes(0, 1)[:, 0]
    last = y[2]
    last[...] = -3.0
    return y.reshape(2, 6).transpose(1, 0)[:, xp.newaxis]


def integers(xp, x):
    return xp.asarray([7, -7]) // 2 + (xp.arange(2, dtype=xp.int32) << 1) + xp.full((2,), 1, dtype=xp.int64)


def split_and_dtype(xp, x):
    left, right = xp.split(x.astype(xp.float32), 2, axis=1)
    assert xp.isfinite(left).all().dtype == bool and len(left) == 3
    return xp.sqrt(xp.square(left)) - abs(right) + sum(row for row in right)[None]


CLEAN = [softmax, in_place_and_out, gather, unique_scatter, products, order_and_sums, zero_dimensional, views, integers,
         split_and_dtype]


def noticed(function, x):
    """What betrays `function` on the device: the exception, or "result" where it differs from NumPy's; None if nothing."""
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
    caught = {leak.__name__: noticed(leak, X) for leak in LEAKS}
    with capsys.disabled():
        print(f"\nstrict device: {sum(map(bool, caught.values()))}/{len(LEAKS)} leaks caught")
    assert len(caught) == 18 and all(caught.values()), caught
    by_sync = {name for name, how in caught.items() if how == "HostSync"}
    assert by_sync == {"hidden_item", "hidden_branch", "reduction_as_python_number", "boolean_mask"}
    by_result = {name for name, how in caught.items() if how == "result"}
    assert by_result == {"repeated_rows", "index_error_as_control_flow", "negative_to_unsigned", "memory_order"}


@pytest.mark.parametrize("function", CLEAN, ids=lambda f: f.__name__)
def test_clean_code_passes(function):
    assert noticed(function, X) is None


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
    assert list(range(strict_cupy.asarray(2))) == [0, 1]
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
    lambda cupy, x: np.add(np.ones(4), x), lambda cupy, x: np.ones((3, 4)).__setitem__(0, x[0]), lambda cupy, x: {x: 1}])
def test_what_cupy_refuses_it_refuses(strict_cupy, use):
    with pytest.raises(TypeError):
        use(strict_cupy, strict_cupy.asarray(X))


def test_the_device_has_memory_of_its_own(strict_cupy):
    host = X.copy()
    device = strict_cupy.asarray(host)
    device += 1
    assert (host == X).all() and strict_cupy.asarray(device) is device
    device.get()[...] = 0
    assert (device.get() == X + 1).all()


def test_it_is_gone_afterwards():
    before = {name: sys.modules.get(name) for name in ("cupy", "cupyx", "cupyx.scipy.special")}
    with pytest.raises(KeyError), strict_device.installed():
        assert sys.modules["cupy"] is not before["cupy"]
        raise KeyError
    assert {name: sys.modules.get(name) for name in before} == before
