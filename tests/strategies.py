"""Hypothesis strategies: numbers that find bugs.

Element by element, random floats never catch a softmax without its maximum subtracted or a clamped probability. A
shape, a seed, a scale over ten decades, an offset and up to three nasty cells do, and are faster to draw.
"""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

SCALES = (1e-6, 1e-4, 1e-2, 1.0, 1e2, 1e4)
OFFSETS = (0.0, 1.0, -300.0, 1000.0)

NASTY = {
    "zero": 0.0,
    "minus zero": -0.0,
    "large": 1e4,
    "large negative": -1e4,
    "larger": 3e4,
    "largest half": 65504.0,
    "largest half negative": -65504.0,
    "smallest normal": 1.2e-38,
    "subnormal": 1e-45,
}

LAYOUTS = {
    "fortran": np.asfortranarray,
    "negative strides": lambda x: np.flip(np.flip(x).copy()),
    "not contiguous": lambda x: np.stack([x, x], axis=-1)[..., 0],
    "read-only": lambda x: np.lib.stride_tricks.as_strided(x.copy(), writeable=False),
}


def shapes(min_dims=1, max_dims=4, max_side=7):
    return hnp.array_shapes(min_dims=min_dims, max_dims=max_dims, max_side=max_side)


def broadcast_pairs(max_dims=4, max_side=5):
    """Two shapes that broadcast against each other."""
    return hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=max_dims, max_side=max_side).map(
        lambda found: found.input_shapes)


@st.composite
def arrays(draw, shape=shapes(), dtype=np.float64, scales=SCALES, offsets=OFFSETS, nasty=tuple(NASTY)):
    """Normal numbers of some scale and offset, with 0 to 3 cells out of NASTY. `shape`: a tuple or a strategy."""
    shape = draw(shape) if isinstance(shape, st.SearchStrategy) else shape
    rng = np.random.default_rng(draw(st.integers(0, 2 ** 32 - 1)))
    x = rng.standard_normal(shape) * draw(st.sampled_from(scales)) + draw(st.sampled_from(offsets))
    x = np.asarray(x)                               # of shape (), NumPy returns a scalar
    cells = draw(st.lists(st.sampled_from(nasty), max_size=3)) if nasty else []
    for name in cells:
        x[tuple(rng.integers(0, side) for side in shape)] = NASTY[name]
    return x.astype(dtype)


@st.composite
def prefix_masks(draw, batch, length, shortest=1):
    """(B, T), True at the first tokens of each row: at least `shortest` of them; 0 lets a row be empty."""
    lengths = draw(st.lists(st.integers(shortest, length), min_size=batch, max_size=batch))
    return np.arange(length) < np.array(lengths)[:, None]


@st.composite
def sequences(draw, width=shapes(max_dims=1), shortest=1, **numbers):
    """(x, mask): x (B, T, *width) by `arrays`, mask (B, T) by `prefix_masks`."""
    batch, length = draw(st.integers(1, 4)), draw(st.integers(1, 7))
    width = draw(width) if isinstance(width, st.SearchStrategy) else width
    return (draw(arrays(shape=(batch, length, *width), **numbers)),
            draw(prefix_masks(batch, length, shortest)))
