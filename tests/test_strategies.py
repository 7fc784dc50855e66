"""The strategies draw what they say, and the bugs they are made for do not pass them."""

import numpy as np
import pytest
from hypothesis import Phase, find, given, settings

import gradcheck
import strategies
from tinydistill.tensor import op


DRAWS = settings(max_examples=200, derandomize=True, deadline=None, database=None, phases=[Phase.generate])


def drawn(strategy):
    """200 examples of a strategy."""
    found = []

    @DRAWS
    @given(strategy)
    def draw(example):
        found.append(example)
    draw()
    return found


def test_arrays_have_scales_offsets_and_nasty_cells():
    plain = drawn(strategies.arrays(shape=(5, 5), nasty=()))
    for scale in strategies.SCALES:
        for offset in strategies.OFFSETS:
            assert any(0.3 * scale < np.abs(x - offset).mean() < 3 * scale for x in plain), (scale, offset)
    nasty = list(strategies.NASTY.values())
    cells = [np.isin(x, nasty).sum() for x in drawn(strategies.arrays(shape=(6, 7), scales=(1.0,), offsets=(-300.0,)))]
    assert set(cells) == {0, 1, 2, 3}
    single = drawn(strategies.arrays(dtype=np.float32))
    assert {x.dtype for x in single} == {np.dtype(np.float32)} and {x.ndim for x in single} == {1, 2, 3, 4}
    assert {side for x in single for side in x.shape} == set(range(1, 8))


@given(strategies.arrays(shape=()))
def test_an_array_without_axes_is_an_array(x):
    assert isinstance(x, np.ndarray) and x.shape == ()


def test_nasty_numbers_are_what_they_are_called():
    nasty, half, single = strategies.NASTY, np.finfo(np.float16), np.finfo(np.float32)
    assert {"zero", "minus zero"} == {name for name, x in nasty.items() if x == 0}
    assert np.signbit(nasty["minus zero"]) and not np.signbit(nasty["zero"])
    assert nasty["largest half"] == -nasty["largest half negative"] == half.max
    assert 0 < np.float32(nasty["subnormal"]) < single.tiny <= nasty["smallest normal"] < 1.1 * single.tiny
    assert -nasty["large negative"] == nasty["large"] < nasty["larger"] < half.max
    every = np.concatenate([x.ravel() for x in drawn(strategies.arrays())])
    assert all(((every == x) & (np.signbit(every) == np.signbit(x))).any() for x in nasty.values())


def test_sequences_have_prefix_masks():
    for shortest in (0, 1):
        found = drawn(strategies.sequences(shortest=shortest))
        assert {mask.shape[0] for _, mask in found} == {1, 2, 3, 4} and {x.ndim for x, _ in found} == {3}
        for length in range(1, 8):
            masks = [mask for x, mask in found if x.shape[:2] == mask.shape and mask.shape[1] == length]
            lengths = {int(n) for mask in masks for n in mask.sum(axis=1)}
            assert (min(lengths), max(lengths)) == (shortest, length)
            assert all((np.diff(mask.astype(int), axis=1) <= 0).all() for mask in masks)


def test_pairs_broadcast_and_not_only_trivially():
    pairs = drawn(strategies.broadcast_pairs())
    shapes = [np.broadcast_shapes(*pair) for pair in pairs]
    assert {len(a) - len(b) for a, b in pairs} >= {-2, -1, 0, 1, 2} and max(map(len, shapes)) == 4
    assert any(a != b and len(a) == len(b) for a, b in pairs) and max(max(s, default=1) for s in shapes) == 5


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
