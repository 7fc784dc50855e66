"""The strategies draw what they say, and the bugs they are made for do not pass them."""

import numpy as np
import pytest
from hypothesis import Phase, find, given, settings

import gradcheck
import strategies
from tinydistill.tensor import op


DRAWS = settings(max_examples=1000, derandomize=True, deadline=None, database=None, phases=[Phase.generate])


@given(x=strategies.arrays(dtype=np.float32), pair=strategies.broadcast_pairs(), mask=strategies.prefix_masks(3, 5))
def test_strategies_draw_what_they_say(x, pair, mask):
    assert x.dtype == np.float32 and np.isfinite(x).all()
    assert 1 <= x.ndim <= 4 and 1 <= min(x.shape) <= max(x.shape) <= 7
    assert len(pair) == 2 and np.broadcast_shapes(*pair) is not None
    assert mask.shape == (3, 5) and mask[:, 0].all() and (np.diff(mask.astype(int), axis=1) <= 0).all()


@pytest.mark.parametrize("name", strategies.NASTY)
def test_every_nasty_number_is_drawn(name):
    number = np.float32(strategies.NASTY[name])
    find(strategies.arrays(dtype=np.float32), lambda x: ((x == number) & (np.signbit(x) == np.signbit(number))).any(),
         settings=DRAWS)
    assert np.isfinite(number) and (number != 0 or "zero" in name)


@pytest.mark.parametrize("is_drawn", [
    lambda x, mask: 0 < np.abs(x).max() < 1e-5, lambda x, mask: 1e4 < np.abs(x).max() != np.float64(65504),
    lambda x, mask: -400 < x.min() < x.max() < -200, lambda x, mask: (x == 0).sum() == 3, lambda x, mask: mask.all(),
    lambda x, mask: not mask[0].any() and mask[1:].any(), lambda x, mask: x.shape[:2] == mask.shape == (4, 7),
    lambda x, mask: x.ndim == 3 and x.shape[-1] == 7])
def test_sequences_reach_the_corners(is_drawn):
    find(strategies.sequences(shortest=0), lambda found: is_drawn(*found), settings=DRAWS)


@given(sequence=strategies.sequences(width=(2,), nasty=(), scales=(1e-2, 1.0, 1e2)))
def test_right_pullbacks_pass_for_sequences(sequence):
    x, mask = sequence

    @op
    def masked_square(x):
        return x * x * mask[..., None], lambda dy: (2 * x * dy * mask[..., None],)
    assert gradcheck.check(masked_square, [x], np.random.default_rng(0)) == ["complex step"]


def test_the_strategy_finds_what_element_wise_floats_do_not():
    """A softmax without its maximum subtracted, and a clamped probability: both within 100 drawn examples."""
    def naive(x):
        with np.errstate(all="ignore"):
            e = np.exp(x)
            return e / e.sum(axis=-1, keepdims=True)

    def clamped(x):
        e = np.exp(x - x.max(axis=-1, keepdims=True))
        return np.maximum(e / e.sum(axis=-1, keepdims=True), 1e-7)

    def right(x):
        e = np.exp(x - x.max(axis=-1, keepdims=True))
        return e / e.sum(axis=-1, keepdims=True)

    for wrong in (naive, clamped):
        found = find(strategies.arrays(), lambda x: not np.allclose(wrong(x), right(x), rtol=1e-6, atol=1e-12),
                     settings=settings(DRAWS, max_examples=100))
        assert found.size


@pytest.mark.parametrize("layout", strategies.LAYOUTS)
def test_layouts_change_the_memory_and_no_number(layout):
    x = np.arange(12.0).reshape(3, 4)
    moved = strategies.LAYOUTS[layout](x)
    np.testing.assert_array_equal(moved, x)
    assert not moved.flags.writeable if layout == "read-only" else not moved.flags.c_contiguous
