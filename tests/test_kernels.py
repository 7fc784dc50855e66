"""Fused kernels compute what the plain ones specify, and masks hide what they mask."""

import inspect
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import erf

import strict_device
from gradcheck import C, assert_within, is_floating, kappa
from kernel_arguments import HYPER, arguments, drawing
from oracle import torch_ops
from strategies import NASTY, OFFSETS, SCALES
from tinydistill import RowSparse, Tensor, kernels, ops
from tinydistill.errors import WrongUsage
from tinydistill.kernels import gelu as gelu_file

rng = np.random.default_rng(0)
UNIT = {np.float64: 2.0 ** -53, np.float32: 2.0 ** -24}
both_sets = pytest.mark.parametrize("kernel", [kernels.plain, kernels.fused_numpy], ids=["plain", "fused"])


# ---------------------------------------------------------------- choosing

def test_every_fused_kernel_has_the_name_and_the_signature_of_a_plain_one():
    assert vars(kernels.plain).keys() == vars(kernels.fused_numpy).keys()
    assert not [name for name in vars(kernels.plain) if name.endswith(kernels.SUFFIX)]
    for name, plain in vars(kernels.plain).items():
        fused = getattr(kernels.fused_numpy, name)
        assert inspect.signature(plain) == inspect.signature(fused), name
        assert fused is plain or fused.__name__ == name + kernels.SUFFIX
        assert inspect.getmodule(plain) is inspect.getmodule(fused)
    fused = [name for name, f in vars(kernels.plain).items() if f is not getattr(kernels.fused_numpy, name)]
    assert {"softmax", "layer_norm", "bias_gelu", "attention", "kl_divergence", "adamw"} <= set(fused)


def test_plain_kernels_are_used_when_asked_for(monkeypatch, strict_cupy):
    def refuse(scores, mask):
        raise AssertionError("a fused kernel ran")
    x = rng.standard_normal((2, 3))
    expected = ops.softmax(x).array
    assert kernels.of(x) is kernels.fused_numpy and kernels.of(strict_cupy.asarray(x)) is kernels.plain
    monkeypatch.setattr(kernels.fused_numpy, "softmax", refuse)
    with pytest.raises(AssertionError, match="a fused kernel ran"):
        ops.softmax(x)
    with kernels.use("plain"):
        np.testing.assert_allclose(ops.softmax(x).array, expected, rtol=1e-14)
        with kernels.use("fused"):
            assert kernels.of(x) is kernels.fused_numpy
        assert kernels.of(x) is kernels.plain
    with pytest.raises(ZeroDivisionError), kernels.use("plain"):
        raise ZeroDivisionError
    assert kernels.of(x) is kernels.fused_numpy


def test_an_unknown_choice_is_wrong_usage_and_changes_nothing():
    with pytest.raises(WrongUsage, match="need kernels fused or plain, got 'fast'"):
        kernels.choose("fast")
    assert kernels.of(np.zeros(1)) is kernels.fused_numpy


# ---------------------------------------------------------------- plain = fused

def optimizer(kernel):
    """The same without effects: (parameter, moments) after the step."""
    def step(parameter, gradient, m, v, *settings):
        after = [a.copy() for a in (parameter, m, v)]
        kernel(after[0], gradient, *after[1:], *settings)
        return tuple(after)
    return step


def sum_rows(kernel):
    """As the table's gradient: which rows are listed how often is each version's own affair."""
    return lambda rows, values: RowSparse(*kernel(rows, values), (9, values.shape[1])).dense()


ADAPTED = dict.fromkeys(["adamw", "adam_weight_decay", "lamb", "adadelta"], optimizer) | {"sum_rows": sum_rows}
FLOOR = dict.fromkeys("kl_divergence cross_entropy smoothed_cross_entropy bias_gelu".split(), 1)    # 1 - 1 of ones
def results(name, kernel_set, given):
    """What a kernel returns, as a tuple."""
    found = ADAPTED.get(name, lambda kernel: kernel)(getattr(kernel_set, name))(*given)
    return found if isinstance(found, tuple) else (found,)


def assert_both_sets_agree(name, given):
    """Fused and plain, in float32 and float64, are what plain computes in float64: by the tolerance rule."""
    places = [i for i, a in enumerate(given) if isinstance(a, np.ndarray) and is_floating(a)]
    floats = [given[i].astype(np.float32).astype(np.float64) for i in places]   # the same numbers for both dtypes

    def computed(kernel_set, *inputs):
        replaced = dict(zip(places, inputs, strict=True))
        return [np.asarray(r) for r in results(name, kernel_set, [replaced.get(i, a) for i, a in enumerate(given)])]

    def plain(*inputs):
        return computed(kernels.plain, *inputs)

    truth = plain(*floats)
    units = [max(unit, FLOOR.get(name, 0)) for unit in kappa(plain, floats, truth)]
    for chosen, dtype in itertools.product([kernels.plain, kernels.fused_numpy], UNIT):
        for got, t, unit in zip(computed(chosen, *[x.astype(dtype) for x in floats]), truth, units, strict=True):
            assert got.dtype == dtype, f"{name}: {dtype.__name__} became {got.dtype}"
            assert_within(got, t, C * UNIT[dtype] * unit, f"{name} {dtype.__name__}")


@pytest.mark.parametrize("name", vars(kernels.plain))
@given(seed=st.integers(0, 2 ** 32 - 1), scale=st.sampled_from(SCALES), offset=st.sampled_from(OFFSETS),
       nasty=st.sampled_from([None, *NASTY]))
def test_plain_and_fused_agree_for_any_numbers(name, seed, scale, offset, nasty):
    random = np.random.default_rng(seed)
    assert_both_sets_agree(name, arguments(name, drawing(random, scale, offset, nasty), random))


@pytest.mark.parametrize("name", vars(kernels.plain))
def test_plain_kernels_run_on_the_device_without_making_the_host_wait(name, strict_cupy):
    for seed in range(4):
        random = np.random.default_rng(seed)
        given = arguments(name, drawing(random, 1.0, 0.0, None), random)
        on_device = [strict_cupy.asarray(a) if isinstance(a, np.ndarray) else a for a in given]
        with strict_device.no_sync():
            found = results(name, kernels.plain, on_device)
        for got, expected in zip(found, results(name, kernels.plain, given), strict=True):
            np.testing.assert_allclose(got.get(), expected, rtol=1e-10, atol=1e-13)


def test_more_than_one_block():
    """Kernels that work block by block: what lies beyond the first block, and a last block that is not full."""
    n, width = drawing(rng, 1.0, 0.0, None), 257
    rows = gelu_file.BLOCK // width * 2 + 3
    assert_both_sets_agree("bias_gelu", (n(rows, width), n(width)))
    assert_both_sets_agree("gelu_new", (n(rows, width),))
    shape = (2 * kernels.adamw.CHUNK + 3,)
    state = n(*shape), n(*shape), n(*shape) ** 2, n(*shape) ** 2
    for name, settings in {"adamw": (3, *HYPER), "adam_weight_decay": HYPER, "lamb": (None, *HYPER),
                           "adadelta": (1.0, 0.95, 1e-6, 0.1)}.items():
        assert_both_sets_agree(name, (*state, *settings))


def test_equal_rows_are_summed_once_each():
    rows, values = np.array([3, 1, 3, 3]), rng.standard_normal((4, 2)).astype(np.float32)
    distinct, sums = kernels.fused_numpy.sum_rows(rows, values)
    assert distinct.tolist() == [1, 3] and sums.dtype == np.float32
    np.testing.assert_allclose(sums, [values[1], values[[0, 2, 3]].sum(axis=0)], rtol=1e-6)
    assert kernels.fused_numpy.sum_rows(rows[:0], values[:0])[1].shape == (0, 2)


# ---------------------------------------------------------------- masks

@both_sets
def test_what_stands_behind_a_mask_changes_no_bit(kernel):
    B, T = 5, 7
    x, t, dy, weight = (rng.standard_normal(s) for s in [(B, T), (B, T), (B, T), (B,)])
    mask = rng.random((B, T)) < 0.6
    mask[0], mask[1], weight[2] = False, True, 0.0
    counted = mask & (weight != 0)[:, None]
    labels = np.array([2, -100, 0, -100, 6])
    for poison in (np.nan, np.inf, -np.inf, 65504.0):
        bad, clean = np.where(mask, x, poison), np.where(mask, x, 0.0)
        for name in ("softmax", "log_softmax"):
            y = getattr(kernel, name)(bad, mask)
            np.testing.assert_array_equal(y, getattr(kernel, name)(clean, mask))
            assert not y[~mask].any() and (y[1:] * mask[1:]).any()
        student, teacher = np.where(counted, x, poison), np.where(counted, t, poison)
        value, gradient = kernel.kl_divergence(student, teacher, mask, weight, 1.0)
        assert value == kernel.kl_divergence(clean, np.where(mask, t, 0.0), mask, weight, 1.0)[0] != 0
        assert not gradient[~counted].any() and gradient[counted].any()
        value, gradient = kernel.cross_entropy(np.where((labels != -100)[:, None], x, poison), labels, -100)
        assert value == kernel.cross_entropy(np.where((labels != -100)[:, None], x, 1.0), labels, -100)[0] != 0
        assert not gradient[labels == -100].any() and gradient[labels != -100].all()
        rows, out = weight[:, None] != 0, np.full((B, T), poison)
        value, gradient = kernel.squared_error(np.where(rows, x, out), np.where(rows, t, out), weight)
        np.testing.assert_allclose(value, (weight[:, None] * (x - t) ** 2).sum(), rtol=1e-12)
        assert not gradient[2].any() and gradient[weight != 0].all()
        masked = ops.masked(Tensor(bad), mask=mask).array
        np.testing.assert_array_equal(masked, np.where(mask, x, 0.0))
    y = kernel.log_softmax(x, mask)
    assert not kernel.log_softmax_pullback(dy, y, mask)[~mask].any()


@both_sets
@pytest.mark.parametrize("masked", [False, True])
def test_entropy_is_summed_over_what_is_seen(kernel, masked):
    x, weight = rng.standard_normal((4, 5)), np.array([0.3, 0.0, 1.0, 2.0])
    mask = np.arange(5) < np.array([5, 5, 2, 3])[:, None] if masked else None
    seen, want = np.broadcast_to(weight[:, None] != 0 if mask is None else mask & (weight[:, None] != 0), x.shape), 0.0
    for row, of_row, w in zip(x, seen, weight):
        e = np.exp(row[of_row] / 2.5)
        want -= w * (e / e.sum() * np.log(e / e.sum())).sum()
    for poison in (0.0, np.nan, np.inf):
        np.testing.assert_allclose(kernel.entropy(np.where(seen, x, poison), mask, weight, 2.5), want, rtol=1e-13)


@both_sets
def test_a_row_without_a_key_is_zero_and_has_gradient_zero(kernel):
    B, A, T, K = 2, 2, 4, 3
    q, k, v, dy = rng.standard_normal((4, B, A, T, K))
    mask = np.ones((B, 1, T, T), bool)
    mask[1, 0, 2] = False                           # one query sees nothing
    mask[..., 3] = False                            # one key is seen by nobody
    k[..., 3, :] = v[..., 3, :] = 1e6
    context, p = kernel.attention(q, k, v, mask, None, 1.0)
    dq, dk, dv = kernel.attention_pullback(dy, q, k, v, p, None, 1.0)
    for zero, rest in [(context, dq), (dq, context), (p, p)]:
        assert not zero[1, :, 2].any() and rest[0].any(axis=(0, 2)).all()
    assert not dk[..., 3, :].any() and not dv[..., 3, :].any() and dk[..., :3, :].all() and dv[..., :3, :].all()
    np.testing.assert_allclose(p.sum(axis=-1), np.broadcast_to(mask.any(axis=-1), (B, A, T)), rtol=1e-12)


@both_sets
def test_a_nan_stays_in_its_row(kernel):
    x, gamma = rng.standard_normal((4, 5)), rng.standard_normal(5)
    bad = x.copy()
    bad[2, 1] = np.nan
    for function in (lambda x: kernel.softmax(x, None), lambda x: kernel.softmax(x, np.ones(5, bool)),
                     lambda x: kernel.log_softmax(x, None), lambda x: kernel.layer_norm(x, None, gamma, gamma, 1e-3)[0],
                     lambda x: kernel.bias_gelu(x, gamma)[0], lambda x: kernel.linear(x, x[:1], None)):
        y, clean = function(bad), function(x)
        assert np.isnan(y[2]).any()
        np.testing.assert_array_equal(np.delete(y, 2, axis=0), np.delete(clean, 2, axis=0))


# ---------------------------------------------------------------- GELU in float32

DERIVATIVE = 2e-6                                   # 1 - tanh^2 keeps tanh's rounding, 3e-8: gelu' takes it 50 times


def test_float32_gelu_is_as_close_as_pytorchs():
    x = np.linspace(-12, 12, 240_001, dtype=np.float32)
    truth = x * 0.5 * (1 + erf(x.astype(np.float64) / np.sqrt(2)))
    slope = 0.5 * (1 + erf(x / np.sqrt(2.0))) + x * np.exp(-0.5 * x.astype(np.float64) ** 2) / np.sqrt(2 * np.pi)
    y, derivative = kernels.fused_numpy.bias_gelu(x, np.float32(0))
    assert np.abs(y - truth).max() <= 6e-7 <= 1.2e-6                # what its comment says, and what is allowed
    assert np.abs(derivative - slope).max() <= DERIVATIVE
    far = np.array([6.5, 12, 1e4, 65504], np.float32)
    np.testing.assert_array_equal(kernels.fused_numpy.bias_gelu(np.concatenate([far, -far]), np.float32(0)),
                                  [[*far, 0, 0, 0, 0], [1] * 4 + [0] * 4])


def test_the_derivative_of_float32_gelu_is_that_of_its_own_function():
    """The same polynomial in complex arithmetic: exact differentiation of what the kernel computes, not of GELU."""
    x = np.linspace(-5.9, 5.9, 5_000, dtype=np.float32)
    z = x.astype(np.float64) + 1e-30j
    y = 0.5 * z * (1 + np.tanh(z * gelu_file._polynomial(gelu_file.P, z * z)))
    truth = 0.5 * x * (1 + erf(x.astype(np.float64) / np.sqrt(2)))
    assert np.abs(y.real - truth).max() <= 7e-8                     # what its comment says of exact arithmetic
    assert np.abs(kernels.fused_numpy.bias_gelu(x, np.float32(0))[1] - y.imag / 1e-30).max() <= DERIVATIVE


# ---------------------------------------------------------------- optimisers

@pytest.mark.parametrize("name", ["adamw", "adam_weight_decay", "lamb"])
def test_arrays_in_c_order_do_not_fall_back_to_the_plain_optimiser(name, monkeypatch):
    monkeypatch.setattr(getattr(kernels, name), name, None)
    getattr(kernels.fused_numpy, name)(*arguments(name, drawing(rng, 1.0, 0.0, None), rng))


@both_sets
@pytest.mark.parametrize("order", ["C", "F"])
def test_adamw_is_pytorchs_over_several_steps(kernel, order):
    parameter = np.array(rng.standard_normal((4, 3)), order=order)
    ours = [parameter, np.zeros_like(parameter), np.zeros_like(parameter)]
    theirs = [a.copy() for a in ours]
    for t in range(1, 6):
        gradient, settings = rng.standard_normal((4, 3)), (t, 0.1 / t, 0.8, 0.95, 1e-3, 0.2)
        kernel.adamw(ours[0], gradient, *ours[1:], *settings)
        torch_ops.adamw(theirs[0], gradient, *theirs[1:], *settings)
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-14)


@both_sets
def test_adamw_never_changes(kernel):
    """Two steps by hand: inputs s sin(a k + b), lr 0.1, betas 0.9 and 0.999, eps 1e-6, decay 0.01."""
    def g(a, b, s=1.0):
        return s * np.sin(a * np.arange(6.0) + b)
    parameter, m, v = g(0.5, 0.3), np.zeros(6), np.zeros(6)
    for t, gradient in enumerate([g(0.9, 0.1, 0.2), g(1.1, 0.4, 0.2)], 1):
        kernel.adamw(parameter, gradient, m, v, t, 0.1, 0.9, 0.999, 1e-6, 0.01)
    golden = [0.106319121680, 0.515940492011, 0.767286867030, 0.899113046330, 0.941271830485, 0.523143421181]
    np.testing.assert_allclose(parameter, golden, rtol=1e-10)
