"""Rounding to few levels: as printed, as PyTorch does it, and with the identity as its gradient."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradcheck import C, UNIT, assert_close64, assert_within
from oracle import q8bert as oracle
from strategies import arrays
from tinydistill import Tensor, gradients, kernels, ops
from tinydistill_reference import q8bert as printed

both_kernels = pytest.mark.parametrize("choice", ["fused", "plain"])
rng = np.random.default_rng(0)
X = (3 * np.sin(0.8 * np.arange(8) + 0.2)).reshape(2, 4)


def fake(x, largest=None, bits=8):
    return ops.fake_quantise(x, largest=np.abs(x).max() if largest is None else np.asarray(largest), bits=bits).array


@both_kernels
@pytest.mark.parametrize("largest, first_two", [(None, [0.5981111434, 2.530470222]), (1.5, [0.5905511811, 1.5])],
                         ids=["dynamic", "threshold 1.5"])
def test_golden_values(largest, first_two, choice):
    with kernels.use(choice):
        np.testing.assert_allclose(fake(X, largest).ravel()[:2], first_two, rtol=1e-9)


@both_kernels
@given(x=arrays(scales=(1e-4, 1.0, 1e2), offsets=(0.0, 1.0), nasty=("zero", "minus zero", "large")),
       bits=st.integers(2, 8), share=st.sampled_from([1.0, 0.4, 1.7]))
def test_every_number_is_rounded_as_printed(choice, x, bits, share):
    largest = np.abs(x).max() * share
    with kernels.use(choice):
        y, step = fake(x, largest, bits), largest / (2 ** (bits - 1) - 1)
        assert_close64(y, printed.fake(x, largest, bits))
        np.testing.assert_array_equal(fake(y, largest, bits), y)                        # once rounded, always rounded
        np.testing.assert_array_equal(fake(-x, largest, bits), -y)
        inside = np.abs(x) <= largest
        assert (np.abs(y - x)[inside] <= step / 2 * (1 + 1e-12)).all()
        assert np.abs(y).max() <= largest * (1 + 1e-15) and (np.diff(y.ravel()[np.argsort(x, axis=None)]) >= 0).all()
        codes = kernels.of(x).levels(x, np.asarray(largest), bits)
        assert (codes == np.rint(codes)).all() and np.abs(codes).max(initial=0) <= 2 ** (bits - 1) - 1


@both_kernels
def test_halves_go_to_the_even_level_and_zeros_stay(choice):
    with kernels.use(choice):
        x = np.array([0.5, 1.5, 2.5, -0.5, -1.5, 126.5, 127.5, -300])
        np.testing.assert_array_equal(fake(x, 127.0), [0, 2, 2, 0, -2, 126, 127, -127])
        for dtype in (np.float32, np.float64):
            y = fake(np.zeros((2, 3), dtype))
            assert not y.any() and y.dtype == dtype


@given(st.integers(0, 999), st.integers(2, 8))
def test_the_forward_is_pytorchs_and_the_backward_is_not(seed, bits):
    """But for its float32 scale, by which a half may go the other way. Where it clamps it gives no gradient, and we do."""
    x = np.random.default_rng(seed).standard_normal((4, 5)).astype(np.float32)
    largest = np.abs(x).max() * np.float32(0.5)
    theirs, gradient = oracle.own_fake_quantise(x, largest, bits)
    x = Tensor(x, requires_grad=True)
    y = ops.fake_quantise(x, largest=largest, bits=bits)
    codes = np.abs(x.array.astype(float)) * (2 ** (bits - 1) - 1) / float(largest)
    half = np.abs(codes % 1 - 0.5) < 1e-4
    assert_within(y.array[~half], theirs[~half], 8 * 2.0 ** -24 * float(largest))
    ours, = gradients(y.sum(), [x])
    np.testing.assert_array_equal(ours, np.ones_like(ours))
    clamped = codes > 2 ** (bits - 1) - 1 + 0.51
    assert clamped.any() and not gradient[clamped].any() and gradient[codes < 2 ** (bits - 1) - 1].all()


def test_the_gradient_is_the_complex_step_straight_through_of_the_printed_map():
    x, weight, bias = rng.standard_normal((5, 4)), rng.standard_normal((3, 4)), rng.standard_normal(3)
    upstream, largest = rng.standard_normal((5, 3)), 0.7                                # clamps a third
    tensors = [Tensor(a, requires_grad=True) for a in (x, weight, bias)]
    y = ops.linear(ops.fake_quantise(tensors[0], largest=np.array(largest), bits=8),
                   ops.fake_quantise(tensors[1], largest=np.abs(weight).max(), bits=8), tensors[2])
    assert_close64(y.array, printed.linear(x, weight, bias, largest))
    found = gradients((y * upstream).sum(), tensors)
    for i, gradient in enumerate(found):
        direction = rng.standard_normal(gradient.shape)
        moved = [a + 1j * 1e-40 * direction if i == j else a for j, a in enumerate((x, weight, bias))]
        exact = (printed.linear(*moved, largest) * upstream).sum().imag / 1e-40
        assert abs((gradient * direction).sum() - exact) <= C * UNIT * np.abs(gradient * direction).sum()
        assert abs(exact) > 1e-3


@both_kernels
def test_the_largest_magnitude_of_one_number_of_some_rows_and_of_none(choice):
    with kernels.use(choice):
        for dtype in (np.float32, np.float64):
            x, none = np.array([[-2.0, 1.0], [0.5, -0.7], [9.0, np.nan]], dtype), np.zeros((0, 4), dtype)
            kernel = kernels.of(x)
            found = [kernel.largest_magnitude(x[:2], None), kernel.largest_magnitude(x, np.array([False, True, False])),
                     kernel.largest_magnitude(x[:1, :1], None), kernel.largest_magnitude(none, None)]
            np.testing.assert_array_equal(found, np.array([2.0, 0.7, 2.0, 0.0], dtype))
            assert all(r.dtype == dtype and r.shape == () for r in found)
            assert fake(none, 1.0).shape == (0, 4)
