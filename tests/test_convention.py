"""Convention by hand: which rows count, what divides them, and what cannot be asked for."""

import dataclasses

import numpy as np
import pytest

import strict_device
from tinydistill.errors import WrongUsage
from tinydistill.losses.convention import PAPER, Convention, sequences

MASK = np.array([[True, True, True], [True, False, False]])
LABELLED = np.array([[False, True, False], [False, False, False]])
EMPTIED = np.array([[True], [False]])
CASES = [                                           # (what differs from the paper, divisor, weight of every row)
    ({}, 2, [[1 / 6] * 3, [1 / 2, 0, 0]]),
    ({"divisor": "row"}, 4, [[1 / 4] * 3, [1 / 4, 0, 0]]),
    ({"divisor": "element"}, 4, [[1 / 4] * 3, [1 / 4, 0, 0]]),
    ({"divisor": "none"}, 1, [[1] * 3, [1, 0, 0]]),
    ({"rows": "all"}, 2, [[1 / 6] * 3] * 2),
    ({"rows": "all", "divisor": "row"}, 6, [[1 / 6] * 3] * 2),
    ({"rows": "labelled"}, 2, [[0, 1 / 2, 0], [0, 0, 0]]),
    ({"rows": "labelled", "divisor": "row"}, 1, [[0, 1, 0], [0, 0, 0]]),
    ({"divisor": "row", "epsilon": 0.5}, 4.5, [[1 / 4.5] * 3, [1 / 4.5, 0, 0]]),
]


@pytest.mark.parametrize("changes, divisor, weights", CASES, ids=str)
def test_rows_are_weighed(changes, divisor, weights):
    rule = PAPER.but(**changes)
    labelled = LABELLED if rule.rows == "labelled" else None            # only then it is asked for
    assert rule.divides_by(MASK, labelled) == divisor
    for dtype in (np.float64, np.float32):
        got = rule.row_weights(MASK, None, dtype, labelled)
        assert got.dtype == dtype
        np.testing.assert_allclose(got, weights, rtol=1e-6 if dtype == np.float32 else 1e-15)
    of_a_shard = rule.row_weights(MASK, 8 * divisor, np.float64, labelled)      # the divisor of a larger batch
    np.testing.assert_allclose(of_a_shard, np.array(weights) / 8, rtol=1e-15)


@pytest.mark.parametrize("divisor", ["sequence", "row"])
def test_without_a_label_every_weight_is_zero(divisor):
    rule = Convention(rows="labelled", divisor=divisor)
    assert not rule.row_weights(MASK, None, np.float64, LABELLED & False).any()
    with pytest.raises(ValueError, match="need labels: only rows that have one count in this convention"):
        rule.row_weights(MASK, 1, np.float64)


def test_the_factor_of_a_temperature():
    assert PAPER.temperature_factor(3.0) == 9.0 and PAPER.but(temperature_squared=False).temperature_factor(3.0) == 1.0


@pytest.mark.parametrize("name, value, allowed", [
    ("rows", "some", "real, all, labelled"), ("keys", "labelled", "real, all"),
    ("divisor", "batch", "sequence, row, element, none"), ("constant", "ce", "kl, cross-entropy")])
def test_what_there_is_no_such_choice_of_is_wrong_usage(name, value, allowed):
    with pytest.raises(WrongUsage, match=f"^need {name} out of {allowed}; got '{value}'$"):
        PAPER.but(**{name: value})


def test_a_convention_cannot_be_changed_in_passing():
    with pytest.raises(dataclasses.FrozenInstanceError):
        PAPER.rows = "all"


def test_an_empty_sequence_is_named_where_the_host_can_look(strict_cupy):
    assert sequences(MASK) == 2
    with pytest.raises(ValueError, match="at least one real token in every sequence; sequence 1 of the mask has none"):
        sequences(MASK & EMPTIED)
    empty = strict_cupy.asarray(MASK & EMPTIED)
    with strict_device.no_sync():
        assert sequences(empty) == 2
