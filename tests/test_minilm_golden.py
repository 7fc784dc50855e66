"""MiniLM's golden values, and the test of the tests: 21 losses that are wrong in one thing must each be caught.

The golden inputs are sines, so that anybody can make them; the second sequence has one token of padding.
"""

import functools

import numpy as np
import pytest

from oracle import minilm as oracle
from test_minilm import UPSTREAM, attention, both, differentiated, value_relation
from tinydistill_reference import minilm as reference


def det(shape, a, b):
    """sin(a k + b), k the row-major index."""
    return np.sin(a * np.arange(np.prod(shape)) + b).reshape(shape)


GOLDEN_STUDENT = [det((2, 2, 4, 2), a, b) for a, b in ((0.29, 0.0), (0.43, 0.2), (0.67, 0.4))]
GOLDEN_TEACHER = [det((2, 2, 4, 3), a, b) for a, b in ((0.31, 0.0), (0.47, 0.1), (0.73, 0.2))]
GOLDEN_MASK = np.array([[1, 1, 1, 1], [1, 1, 1, 0]], bool)
GOLDEN = np.array([0.192633174505666, 0.233702649184125, 0.426335823689792])           # L_AT, L_VR, their sum


@functools.cache
def golden_gradients():
    """The derivative of the printed sum by every number of the student, by complex step."""
    found, moved = [np.zeros_like(x) for x in GOLDEN_STUDENT], [x.astype(complex) for x in GOLDEN_STUDENT]
    for x, dx in zip(moved, found):
        for place in np.ndindex(x.shape):
            x[place] += 1e-40j
            dx[place] = UPSTREAM * reference.minilm(*moved, *GOLDEN_TEACHER, GOLDEN_MASK).imag / 1e-40
            x[place] = x[place].real
    return found


def what_is_wrong(at, vr, found):
    """The checks that a candidate fails on the golden example: "value", "gradient", both or neither."""
    def right(g, truth):
        padded = ~np.broadcast_to(GOLDEN_MASK[:, None, :], (2, 2, 4))
        return g is not None and np.abs(g - truth).max() <= 1e-10 * np.abs(truth).max() and (g[padded] == 0).all()

    failed = ["value"] * bool(np.abs(np.array([at, vr, at + vr]) - GOLDEN).max() > 1e-12)
    if any(g is not None for g in found[3:]) or not all(map(right, found[:3], golden_gradients())):
        failed.append("gradient")
    return " and ".join(failed)


def test_golden_values_and_gradients_are_ours():
    at, vr = (loss(*GOLDEN_STUDENT, *GOLDEN_TEACHER, GOLDEN_MASK).item() for loss in (attention, value_relation))
    assert what_is_wrong(at, vr, differentiated(both, GOLDEN_STUDENT, GOLDEN_TEACHER, GOLDEN_MASK)[1]) == ""
    for other_normaliser in (0.201978812041288, 0.186472987385091):             # padded rows counted; mean over tokens
        assert abs(at - other_normaliser) > 1e-3


@pytest.mark.parametrize("wrong", [None, *oracle.WRONG])
def test_every_known_wrong_loss_is_caught_and_the_right_one_is_not(wrong):
    candidate = oracle.batched_with_gradients(GOLDEN_STUDENT, GOLDEN_TEACHER, GOLDEN_MASK, UPSTREAM, wrong)
    assert what_is_wrong(*candidate) == oracle.WRONG.get(wrong, "")
