"""The test of the testers: right pullbacks pass, wrong ones fail, and the tolerance rule tells the two apart."""

import numpy as np
import pytest

import gradcheck
from gradcheck import assert_close32, assert_close64, assert_within, check, kappa
from tinydistill.tensor import RowSparse, op


def softmax_with(pullback):
    @op
    def softmax(x):
        e = np.exp(x - x.max(axis=-1, keepdims=True))
        y = e / e.sum(axis=-1, keepdims=True)
        return y, lambda dy: (pullback(dy, y),)
    return softmax


softmax = softmax_with(lambda dy, y: y * (dy - (y * dy).sum(axis=-1, keepdims=True)))


def normalize_with(pullback):
    @op
    def normalize(x):
        std = np.sqrt(x.var(axis=-1, keepdims=True) + 1e-12)
        y = (x - x.mean(axis=-1, keepdims=True)) / std
        return y, lambda dy: (pullback(dy, y, std),)
    return normalize


normalize = normalize_with(lambda dy, y, std: (dy - dy.mean(axis=-1, keepdims=True)
                                               - y * (dy * y).mean(axis=-1, keepdims=True)) / std)


@op
def split_halves(x):
    """Two outputs, one of them used twice."""
    half = x.shape[-1] // 2
    return (x[..., :half] ** 2, x[..., half:]), lambda da, db: (np.concatenate([2 * x[..., :half] * da, db], axis=-1),)


@op
def look_up(table, ids):
    return table[ids], lambda dy: (RowSparse(ids.reshape(-1), dy.reshape(-1, table.shape[1]), table.shape), None)


@op
def distance(x, teacher):
    return ((x - teacher) ** 2).sum(), lambda dy: (dy * 2 * (x - teacher), None)


@op
def magnitude(x):
    """Takes complex arrays, but its absolute value is not holomorphic."""
    return np.abs(x) + 0j * x if np.iscomplexobj(x) else np.abs(x), lambda dy: (dy * np.sign(x),)


@op
def real_buffers(x):
    """Refuses complex arrays, as fused kernels do."""
    y = np.empty(x.shape)
    np.multiply(x, x, out=y)
    np.sin(y, out=y)
    return y, lambda dy: (dy * 2 * x * np.cos(x * x),)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


# ---------------------------------------------------------------- check

@op
def cubic(x, w):
    return x ** 3 * w, lambda dy: (3 * x ** 2 * w * dy, (x ** 3 * dy).sum(axis=0))


def off_by(function, relative):
    """The same op with a pullback that is wrong by a relative error."""
    @op
    def wrong(*inputs):
        y, pullback = function.__wrapped__(*inputs)
        return y, lambda dy: tuple(dx * (1 + relative) for dx in pullback(dy))
    return wrong


@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1.0, 40.0, 1e4])
def test_right_pullbacks_pass_at_every_scale(scale, rng):
    for _ in range(10):
        x = scale * rng.normal(size=(3, 5))
        check(softmax, [x + 3.0], rng)
        check(normalize, [x], rng)
        check(cubic, [x, rng.normal(size=5)], rng)


def test_bad_conditioning_is_no_bug(rng):
    for _ in range(10):
        check(normalize, [1000 + 1e-3 * rng.normal(size=(3, 5))], rng)


def test_the_complex_step_judges_to_twelve_digits_and_differences_to_eight(rng):
    x, w = rng.normal(size=(3, 5)), rng.normal(size=5)
    for function, inputs in ((softmax, [x]), (cubic, [x, w])):
        assert check(function, inputs, rng) == ["complex step"] * len(inputs)
        with pytest.raises(AssertionError, match="complex step"):
            check(off_by(function, 1e-12), inputs, rng)
    for function in (real_buffers, normalize):
        assert check(function, [x], rng) == ["central differences"]
        with pytest.raises(AssertionError, match="central differences"):
            check(off_by(function, 1e-8), [x], rng)


def test_float32_inputs_are_checked_in_float64(rng):
    assert check(softmax, [rng.normal(size=(3, 5)).astype(np.float32)], rng) == ["complex step"]


def test_tuples_row_sparse_gradients_and_undifferentiated_inputs(rng):
    check(split_halves, [rng.normal(size=(2, 6))], rng)
    check(look_up, [rng.normal(size=(5, 3)), np.array([[0, 4], [4, 4]])], rng)
    check(distance, [rng.normal(size=(2, 3)), rng.normal(size=(2, 3))], rng, without_gradient=[1])
    with pytest.raises(AssertionError, match="input 1: pullback says 0"):
        check(distance, [rng.normal(size=(2, 3)), rng.normal(size=(2, 3))], rng)
    with pytest.raises(AssertionError, match="input 0: need no gradient, got one"):
        check(distance, [rng.normal(size=(2, 3)), rng.normal(size=(2, 3))], rng, without_gradient=[0, 1])


def test_a_composition_of_ops_is_checked_as_one(rng):
    def twice(x, *, times):
        for _ in range(times):
            x = softmax(x)
        return x
    check(twice, [rng.normal(size=(3, 5))], rng, times=2)


WRONG = {
    "forgets the sum": softmax_with(lambda dy, y: y * dy),
    "all zero": softmax_with(lambda dy, y: 0 * y),
    "sums over the batch": softmax_with(lambda dy, y: y * (dy - (y * dy).sum(axis=0, keepdims=True))),
    "upstream ignored": softmax_with(lambda dy, y: y * (1 - y.sum(axis=-1, keepdims=True))),
    "a relative error of 1e-9": softmax_with(lambda dy, y: (1 + 1e-9) * y * (dy - (y * dy).sum(-1, keepdims=True))),
    "one entry wrong": softmax_with(
        lambda dy, y: y * (dy - (y * dy).sum(axis=-1, keepdims=True)) * (1 + 1e-6 * (y == y.max()))),
    "the mean kept": normalize_with(lambda dy, y, std: (dy - y * (dy * y).mean(axis=-1, keepdims=True)) / std),
    "the std constant": normalize_with(lambda dy, y, std: (dy - dy.mean(axis=-1, keepdims=True)) / std),
    "float32 inside": normalize_with(lambda dy, y, std: (dy - dy.mean(axis=-1, keepdims=True) - y * (dy * y).mean(
        axis=-1, keepdims=True).astype(np.float32)) / std),
}


@pytest.mark.parametrize("bug", WRONG)
def test_wrong_pullbacks_fail(bug, rng):
    with pytest.raises(AssertionError, match="pullback says"):
        check(WRONG[bug], [rng.normal(size=(3, 5))], rng)


def test_a_seed_of_ones_would_have_passed_them():
    """Why u is random: with ones, four wrong softmax pullbacks and the right one all give the same zero."""
    y = np.array([[0.2, 0.3, 0.5]])
    for bug in ("all zero", "upstream ignored"):
        x = np.log(y)
        found = gradcheck.value_and_gradients(WRONG[bug], [x], [np.ones_like(y)])[1][0]
        np.testing.assert_allclose(found, 0, atol=1e-16)


def test_a_complex_step_that_differences_contradict_does_not_count(rng):
    """np.var of a complex array takes absolute values: its complex step agrees with the pullback that is wrong."""
    x = rng.normal(size=(4, 3))
    check(magnitude, [x], rng)
    check(normalize, [x], rng)
    with pytest.raises(AssertionError, match="pullback says .* central differences"):
        check(WRONG["the std constant"], [x], rng)


def test_a_point_where_nothing_can_be_judged_is_refused(rng):
    with pytest.raises(gradcheck.CannotJudge, match="need a smoother point"):
        check(magnitude, [np.array([0.0, 0.0])], rng)
    with pytest.raises(gradcheck.CannotJudge):
        check(normalize, [1000 + 1e-6 * rng.normal(size=(3, 5))], rng)
    with pytest.raises(AssertionError, match="value is not finite"):
        check(real_buffers, [np.array([1.0, np.nan])], rng)


def test_a_gradient_of_the_wrong_shape_or_dtype_fails(rng):
    for wrong in (lambda dy, y: (y * dy).sum(axis=0), lambda dy, y: (y * dy).astype(np.float32)):
        with pytest.raises(AssertionError, match="has a gradient"):
            check(softmax_with(wrong), [rng.normal(size=(3, 5))], rng)


# ---------------------------------------------------------------- the tolerance rule

def variance_in_one_pass(x):
    return [(x * x).mean(axis=-1) - x.mean(axis=-1) ** 2]


def variance(x):
    return [((x - x.mean(axis=-1, keepdims=True)) ** 2).mean(axis=-1)]


def test_kappa_is_four_times_the_largest_entry_where_all_is_well(rng):
    x = rng.normal(size=(3, 7)).astype(np.float32)
    truth = variance(x.astype(np.float64))
    assert kappa(variance, [x], truth) == [4 * truth[0].max()]


def test_kappa_grows_with_the_conditioning(rng):
    x = (1000 + rng.normal(size=(3, 7))).astype(np.float32)
    truth = variance(x.astype(np.float64))
    stable, = kappa(variance, [x], truth)
    naive, = kappa(variance_in_one_pass, [x], truth)
    assert 4 * truth[0].max() < stable < 0.2 * naive


def test_float32_passes_by_the_rule_and_a_bug_does_not(rng):
    x = rng.normal(size=(3, 7)).astype(np.float32)
    truth, = variance(x.astype(np.float64))
    unit, = kappa(variance, [x], [truth])
    got, = variance(x)
    assert_close32(got, truth, unit)
    with pytest.raises(AssertionError, match="off by"):
        assert_close32(got * np.float32(1 + 3e-5), truth, unit)
    with pytest.raises(AssertionError, match="need float32 to stay float32"):
        assert_close32(truth, truth, unit)


def test_kappa_is_the_largest_witness_error_over_a_unit():
    def function(x):
        return [x, x * (1 + (3e-3 if x.dtype == np.float32 else 0))]
    x = np.array([1.0, -2.0])
    assert kappa(function, [x], [x, x])[0] == 8.0
    np.testing.assert_allclose(kappa(function, [x], [x, x])[1], 2 * 3e-3 * 2 ** 24, rtol=1e-4)


def test_the_limits_are_32_units_of_kappa_and_ten_digits():
    one = np.ones(3)
    assert_close64(one + 0.99e-10, one)
    assert_close32((one + 31 * 2.0 ** -23).astype(np.float32), one, kappa=2.0)
    for close, wrong, limits in ((assert_close64, one + 1.01e-10, {}),
                                 (assert_close32, (one + 33 * 2.0 ** -23).astype(np.float32), {"kappa": 2.0})):
        with pytest.raises(AssertionError, match=r"at \(0,\) got .* off by"):
            close(wrong, one, **limits)


def test_comparisons_name_the_worst_entry_and_treat_infinities_and_nan_as_values():
    reference = np.array([[1.0, -np.inf], [100.0, 0.0]])
    assert_close64(reference * (1 + 1e-11), reference)
    for wrong, message in ([[1.0, -np.inf], [100.0, 2e-8]], r"at \(1, 1\) got 2e-08, need 0.0: off by 2.00e-08"), \
            ([[1.0, 5.0], [100.0, 0.0]], "result"), ([[np.nan, -np.inf], [100.0, 0.0]], r"at \(0, 0\) got nan"):
        with pytest.raises(AssertionError, match=message):
            assert_close64(np.array(wrong), reference)
    with pytest.raises(AssertionError, match="need shape"):
        assert_close64(reference[0], reference)
    with pytest.raises(AssertionError, match="off by"):             # an all-zero reference means exactly zero
        assert_close64(np.array([1e-300]), np.zeros(1))
    assert_within(np.zeros((0, 3)), np.zeros((0, 3)), 0.0)


def test_against_torch_accepts_the_twin_and_nothing_else(rng):
    from oracle.torch_check import against_torch
    x = 3 * rng.normal(size=(3, 5))
    against_torch(softmax, lambda x: x.softmax(-1), [x])
    against_torch(split_halves, lambda x: (x[:, :3] ** 2, x[:, 3:]), [rng.normal(size=(2, 6))])
    against_torch(look_up, lambda table, ids: table[ids], [rng.normal(size=(5, 3)), np.array([1, 1, 4])])
    against_torch(distance, lambda x, t: ((x - t) ** 2).sum(), [x, x[::-1]], without_gradient=[1])
    for wrong in ("forgets the sum", "one entry wrong", "a relative error of 1e-9"):
        with pytest.raises(AssertionError, match="softmax float64 gradient of input 0: at"):
            against_torch(WRONG[wrong], lambda x: x.softmax(-1), [x])
    with pytest.raises(AssertionError, match="softmax float64 output 0"):
        against_torch(softmax, lambda x: x.softmax(0), [x])
    with pytest.raises(AssertionError, match="gradient None of input 1"):
        against_torch(distance, lambda x, t: ((x - t) ** 2).sum(), [x, x[::-1]])

    @op
    def clumsy(x):
        """Right in float64; in float32 it loses what a stable softmax keeps."""
        e = np.exp(x - 30)
        y = (e + x.dtype.type(1)) - x.dtype.type(1)
        y = y / y.sum(axis=-1, keepdims=True)
        return y, lambda dy: (y * (dy - (y * dy).sum(axis=-1, keepdims=True)),)
    with pytest.raises(AssertionError, match="clumsy float32 output 0"):
        against_torch(clumsy, lambda x: x.softmax(-1), [22 + rng.normal(size=(3, 5))])
