"""Soft labels of rows, and squares of logits, under every convention. Their terms: `test_soft_labels_terms.py`.

Candidates are functions of (student's logits, teacher's logits, mask, labelled).
"""

import re

import numpy as np
import pytest
from hypothesis import given, strategies as st

from gradcheck import C, UNIT, assert_close64, assert_within
from loss_checks import (POISONS, assert_same, check_complex_step, check_device, check_padding_never_matters,
                         differentiated)
from oracle import soft_labels as oracle
from oracle.torch_check import against_torch
from tinydistill.losses import soft_labels as ours
from tinydistill.losses.convention import Convention
from tinydistill.losses.soft_labels import logits_mse, soft_labels
from tinydistill_reference import soft_labels as reference

TEMPERATURE = 2.5
WITHOUT_T2 = {"temperature_squared": False}
AS_CROSS_ENTROPY = WITHOUT_T2 | {"constant": "cross-entropy"}
VARIANTS = {"paper": {}, "distilbert": {}, "textbrewer": AS_CROSS_ENTROPY, "labelled": {},
            "tinybert": AS_CROSS_ENTROPY | {"divisor": "element"}, "pkd": {"divisor": "element"},
            "torchdistill": WITHOUT_T2}
each_convention = pytest.mark.parametrize("name", ours.TOKENS)


def det(shape, a, b, c=1.0):
    """c sin(a k + b), k the row-major index."""
    return c * np.sin(a * np.arange(np.prod(shape)) + b).reshape(shape)


def example(seed=0, N=7, classes=5, scale=2.0):
    """(student, teacher, mask, labelled), with a label on some of the rows that are real."""
    rng = np.random.default_rng(seed)
    mask = np.arange(N) != 2
    return [scale * rng.standard_normal((N, classes)), scale * rng.standard_normal((N, classes)), mask,
            mask & (np.arange(N) % 3 != 1)]


def candidate(name, temperature=TEMPERATURE):
    def loss(student, teacher, mask, labelled):
        return soft_labels(student, teacher, mask, labelled=labelled, temperature=temperature,
                           convention=ours.TOKENS[name])
    return loss


def printed(name, temperature=TEMPERATURE):
    def loss(student, teacher, mask, labelled):
        rows = labelled if name == "labelled" else mask
        return reference.soft_labels(student, teacher, rows, temperature=temperature, **VARIANTS[name])
    return loss


def squares(name):
    def loss(student, teacher, mask, labelled):
        return logits_mse(student, teacher, mask, temperature=TEMPERATURE, convention=ours.LOGITS[name])
    return loss


def squares_printed(name):
    def loss(student, teacher, mask, labelled):
        return reference.logits_mse(student, teacher, mask, temperature=TEMPERATURE,
                                    divisor="row" if name == "paper" else "element")
    return loss


# ---------------------------------------------------------------- three witnesses

@each_convention
def test_value_is_the_printed_sum_and_the_gradient_its_derivative(name):
    arrays = example()
    assert_close64(candidate(name)(*arrays).array, printed(name)(*arrays))
    check_complex_step(candidate(name), printed(name), arrays, [0])


@each_convention
def test_pytorch_in_both_precisions_and_the_teacher_gets_no_gradient(name):
    def twin(*arrays):
        return oracle.TOKENS[name](*arrays, TEMPERATURE)
    against_torch(candidate(name), twin, example(1), without_gradient=[1])


@pytest.mark.parametrize("name", ours.LOGITS)
def test_squares_of_logits_by_three_witnesses(name):
    arrays, loss, printed = example(2), squares(name), squares_printed(name)
    assert_close64(loss(*arrays).array, printed(*arrays))
    check_complex_step(loss, printed, arrays, [0])
    against_torch(loss, lambda s, t, mask, _: oracle.LOGITS[name](s, t, mask, TEMPERATURE), arrays,
                  without_gradient=[1])


@each_convention
def test_a_device_computes_the_same_and_the_host_never_waits(name, strict_cupy):
    def loss(*arrays):
        return soft_labels(*arrays[:3], labelled=arrays[3], convention=ours.TOKENS[name], divisor=4)
    check_device(loss, example(3), strict_cupy)
    check_device(lambda *arrays: logits_mse(*arrays[:3], divisor=4), example(3), strict_cupy)


# ---------------------------------------------------------------- golden values

GOLDEN = [det((4, 5), 0.7, 0.3, 2), det((4, 5), 1.1, 0.9, 3), np.ones(4, bool), None]
OTHER = [det((3, 4), 0.7, 0.1, 2), det((3, 4), 1.3, 0.5, 2), np.ones(3, bool), None]
TABLE = {1.0: (1.1530317469891, 1.1530317469891, 2.02596732732463, 0.405193465464925, 0.230606349397821,
               5.86568826672198),
         2.0: (0.450097067518845, 1.80038827007538, 1.70830574556447, 0.341661149112894, 0.090019413503769,
               1.46642206668049),
         4.0: (0.138595354320158, 2.21752566912254, 1.63071380433896, 0.326142760867793, 0.0277190708640317,
               0.366605516670124)}


@pytest.mark.parametrize("temperature", TABLE)
def test_golden_values_at_three_temperatures(temperature):
    names = "torchdistill", "paper", "textbrewer", "tinybert", "pkd"
    got = [candidate(name, temperature)(*GOLDEN).item() for name in names]
    got[4] /= temperature ** 2                      # the table has it without T^2
    got.append(logits_mse(*GOLDEN[:3], temperature=temperature, convention=ours.LOGITS["textbrewer"]).item())
    np.testing.assert_allclose(got, TABLE[temperature], rtol=1e-13)


def test_more_golden_values():
    got = [candidate("paper", 10.0)(*OTHER).item(), candidate("pkd", 10.0)(*OTHER).item(),
           candidate("paper", 1.0)(*OTHER).item(), candidate("textbrewer", 1.0)(*OTHER).item()]
    np.testing.assert_allclose(got, [1.13114189624, 0.28278547406, 0.713433221961, 1.64669937053], rtol=1e-11)
    tang = [logits_mse(*OTHER[:3], convention=ours.LOGITS[name]).item() for name in ("official", "paper")]
    np.testing.assert_allclose(tang, [3.48316427238, 13.9326570895], rtol=1e-11)


# ---------------------------------------------------------------- what a divergence must do

def value(arrays, temperature=1.0):
    return candidate("paper", temperature)(*arrays).item()


def test_hot_rows_compare_centred_logits():
    student, teacher, mask, _ = example(4)
    centred = [x[mask] - x[mask].mean(axis=1, keepdims=True) for x in (student, teacher)]
    limit = ((centred[0] - centred[1]) ** 2).sum() / (2 * 5 * mask.sum())
    assert abs(value([student, teacher, mask, None], 1e4) / limit - 1) < 1e-3


def test_a_peaked_teacher_is_a_label():
    student, _, mask, _ = example(5)
    labels = np.arange(7) % 5
    teacher = 200.0 * (labels[:, None] == np.arange(5))
    log_q = student - np.log(np.exp(student).sum(axis=1, keepdims=True))
    assert_within(value([student, teacher, mask, None]), -log_q[np.arange(7), labels][mask].mean(), 1e-14)


def test_logits_and_temperature_scale_together():
    student, teacher, mask, _ = example(6)
    scaled = value([3 * student, 3 * teacher, mask, None], 6.0)
    assert_within(scaled, 9 * value([student, teacher, mask, None], 2.0), 1e-12)


def test_equal_rows_are_worth_nothing_and_others_something():
    student, teacher, mask, labelled = example(7)
    for name in ("paper", "pkd", "torchdistill"):
        result, found = differentiated(candidate(name), [teacher, teacher, mask, labelled])
        assert result == 0 and (found[0] == 0).all()
    assert value([student, teacher, mask, None]) > 0.1
    entropy = candidate("textbrewer")(teacher, teacher, mask, labelled).item()
    difference = candidate("textbrewer")(student, teacher, mask, labelled).item() - entropy
    assert_within(difference, candidate("torchdistill")(student, teacher, mask, labelled).array, 1e-13)


def test_gradients_of_a_row_sum_to_zero_and_shifts_and_permutations_change_nothing():
    student, teacher, mask, labelled = example(8)
    base = differentiated(candidate("paper"), [student, teacher, mask, labelled])
    assert np.abs(base[1][0].sum(axis=1)).max() < 1e-15 and np.abs(base[1][0]).max() > 0.01
    shifts = np.arange(7)[:, None]
    moved = differentiated(candidate("paper"), [student + 300 * shifts, teacher - 300 * shifts, mask, labelled])
    assert_same(moved, base, 1e-10)                                     # 300 * 6 / 2^53 is lost of every logit
    order, rows = [3, 0, 4, 1, 2], [6, 2, 0, 1, 5, 3, 4]
    moved = differentiated(candidate("paper"), [student[rows][:, order], teacher[rows][:, order], mask[rows], mask])
    assert_same(moved, (base[0], [base[1][0][rows][:, order], None, None, None]))


def test_sharp_logits_stay_finite_and_right():
    student, teacher, mask, labelled = example(9)
    for scale in (40.0, 60.0):
        against_torch(candidate("paper"), lambda *arrays: oracle.paper(*arrays, TEMPERATURE),
                      [scale * student, scale * teacher, mask, labelled], without_gradient=[1])


@given(st.integers(0, 2 ** 32 - 1), st.integers(1, 6), st.integers(1, 9), st.sampled_from([1e-3, 1.0, 30.0]),
       st.sampled_from([0.5, 1.0, 3.0]))
def test_any_rows_equal_the_printed_sums(seed, N, classes, scale, temperature):
    rng = np.random.default_rng(seed)
    student, teacher = scale * rng.standard_normal((2, N, classes))
    mask = (rng.random(N) < 0.7) | (np.arange(N) == 0)
    rounding = C * UNIT * (1 + np.abs([student, teacher]).max() / temperature) * temperature ** 2
    got = value([student, teacher, mask, None], temperature)
    assert_within(got, reference.soft_labels(student, teacher, mask, temperature=temperature), rounding)
    assert got >= -rounding


# ---------------------------------------------------------------- rows that do not count

@pytest.mark.parametrize("poison", POISONS.values(), ids=POISONS)
def test_rows_that_do_not_count_never_matter(poison):
    arrays = example(10)
    _, _, mask, labelled = arrays
    losses = {candidate(name): labelled if name == "labelled" else mask for name in ours.TOKENS}
    losses |= {squares(name): mask for name in ours.LOGITS}
    for loss, counted in losses.items():
        outside = ~counted
        check_padding_never_matters(loss, arrays, {0: outside, 1: outside}, poison)


def test_all_rows_and_each_sequence_by_its_own_are_conventions_too():
    student, teacher, mask, _ = example(11, N=6)
    every = soft_labels(student, teacher, mask, convention=Convention(rows="all", divisor="row")).item()
    assert_within(every, value([student, teacher, np.ones(6, bool), None]), 1e-14)
    shaped = [x.reshape(2, 3, -1) for x in (student, teacher)]
    by_sequence = soft_labels(*shaped, mask.reshape(2, 3), convention=Convention()).item()
    parts = [value([student[b], teacher[b], mask[b], None]) for b in (slice(0, 3), slice(3, 6))]
    assert_within(by_sequence, sum(parts) / 2, 1e-14)
    mean_of_all = soft_labels(*shaped, mask.reshape(2, 3), convention=ours.CONVENTIONS["pkd"]).item()
    assert_within(5 * mean_of_all, value([student, teacher, mask, None]), 1e-14)
    assert by_sequence != pytest.approx(value([student, teacher, mask, None]), rel=1e-3)


def test_without_a_label_that_counts_the_loss_and_its_gradient_are_zero():
    """A batch in which the masking hid nothing. One without any real token is an error."""
    arrays = example(12)
    arrays[3] = np.zeros(7, bool)
    result, found = differentiated(candidate("labelled"), arrays)
    assert result == 0 and (found[0] == 0).all()
    arrays[2] = np.zeros(7, bool)
    for name in ours.TOKENS:
        with pytest.raises(ValueError, match=r"need at least one real token in the mask \(7,\); it has none"):
            candidate(name)(*arrays)


@pytest.mark.parametrize("change, text", [
    ({1: np.zeros((7, 4))}, "a mask of their rows: student (7, 5), teacher (7, 4), mask (7,)"),
    ({2: np.ones(6, bool)}, "a mask of their rows: student (7, 5), teacher (7, 5), mask (6,)"),
    ({2: np.ones((7, 1), bool)}, "a mask of their rows: student (7, 5), teacher (7, 5), mask (7, 1)"),
    ({2: np.ones(7)}, "need a mask of bool, True at rows that count; got float64")])
def test_shapes_that_do_not_fit_are_an_error_that_shows_them(change, text):
    arrays = [change.get(i, x) for i, x in enumerate(example())]
    for loss in (candidate("paper"), squares("paper")):
        with pytest.raises(ValueError, match=re.escape(text)):
            loss(*arrays)


def test_without_a_temperature_nothing_is_softened():
    student, teacher, mask, _ = example()
    assert soft_labels(student, teacher, mask).item() == soft_labels(student, teacher, mask, temperature=1.0).item()
    assert logits_mse(student, teacher, mask).item() == logits_mse(student, teacher, mask, temperature=1.0).item()


def test_what_a_convention_needs_is_said():
    student, teacher, mask, _ = example()
    with pytest.raises(ValueError, match="need labels: only rows that have one count in this convention"):
        soft_labels(student, teacher, mask, convention=ours.TOKENS["labelled"])
    with pytest.raises(ValueError, match=r"need rows \(B, T\) to divide each sequence by its own; got a mask \(7,\)"):
        soft_labels(student, teacher, mask, convention=Convention())
